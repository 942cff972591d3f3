/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "config/table.h"
#include "plugin/counters.h"
#include "plugin/environment.h"
#include "plugin/loader.h"
#include "plugin/options.h"

#include <stdlib.h>
#include <string.h>

struct binder {
    const fila_plugin *table;
    const struct fw_plugin_binding *binding;
    struct fw_arena *arena;
    fila_option_value *values;
    struct fw_plugin_problems *problems;
};

static void report(
    struct binder *binder,
    const struct fw_handler_option *given,
    const char *key,
    const char *text)
{
    struct fw_plugin_problems *problems = binder->problems;
    struct fw_diagnostic *items =
        fw_arena_grow(&problems->arena, problems->items, problems->count, sizeof *items);
    if (items) {
        problems->items = items;
        const char *file = given && given->file ? given->file : "";
        items[problems->count++] = (struct fw_diagnostic){
            .is_error = true,
            .file = fw_arena_copy(&problems->arena, file, strlen(file)),
            .line = given ? given->line : 0,
            .key = fw_arena_copy(&problems->arena, key, strlen(key)),
            .text = fw_arena_copy(&problems->arena, text, strlen(text)),
            .source = "",
        };
    }
}

static const char *nearest(const fila_plugin *table, const char *name)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX;
    for (uint32_t i = 0; i < table->option_count; i++) {
        const char *known = table->options[i].name;
        unsigned distance = fw_distance(name, known);
        if (fw_is_near(name, known) && distance < least) {
            least = distance;
            best = known;
        }
    }
    return best;
}

static void report_unknown(struct binder *binder, const struct fw_handler_option *given)
{
    const fila_plugin *table = binder->table;
    const char *near = nearest(table, given->name);
    const char *text =
        near ? fw_arena_print(
                   binder->arena, "the handler %s has no such option; did you mean %s?",
                   table->name, near)
             : fw_arena_print(
                   binder->arena,
                   "the handler %s has no such option; `fila-worker handlers %s` lists them",
                   table->name, table->name);
    report(binder, given, given->name, text);
}

static int32_t find(const fila_plugin *table, const char *name)
{
    for (uint32_t i = 0; i < table->option_count; i++) {
        if (!strcmp(table->options[i].name, name)) {
            return (int32_t)i;
        }
    }
    return -1;
}

static void bind_given(struct binder *binder)
{
    for (size_t i = 0; i < binder->binding->option_count; i++) {
        const struct fw_handler_option *given = &binder->binding->options[i];
        int32_t at = find(binder->table, given->name);
        const char *why = "";
        if (at < 0) {
            report_unknown(binder, given);
        } else if (binder->values[at].type) {
            report(binder, given, given->name, "it is given twice");
        } else if (!fw_option_parse(
                       &binder->table->options[at], given, binder->arena, &binder->values[at],
                       &why)) {
            report(binder, given, given->name, why);
            binder->values[at].type = UINT32_MAX; /* given, if wrongly: not missing too */
        }
    }
}

static void bind_rest(struct binder *binder)
{
    for (uint32_t i = 0; i < binder->table->option_count; i++) {
        const fila_option *option = &binder->table->options[i];
        if (binder->values[i].type) {
            continue;
        }
        binder->values[i] = fw_option_default(option, binder->arena);
        if (!binder->values[i].type && (option->flags & FILA_OPTION_REQUIRED)) {
            report(
                binder, NULL, option->name,
                fw_arena_print(
                    binder->arena, "it is missing; the handler %s needs it (%s: %s)",
                    binder->table->name, fw_option_type_name(option->type),
                    option->help ? option->help : ""));
        }
    }
}

/* The bound plugin outlives its file object. */
static bool copy_table(struct fw_plugin *plugin, const struct fw_plugin_file *file)
{
    const fila_plugin *table = fw_plugin_table(file);
    fila_option *options = fw_arena_alloc(plugin->memory, table->option_count + 1, sizeof *options);
    if (!options) {
        return false;
    }
    memcpy(options, table->options, table->option_count * sizeof *options);
    plugin->table = *table;
    plugin->table.options = options;
    plugin->path =
        fw_arena_copy(plugin->memory, fw_plugin_path(file), strlen(fw_plugin_path(file)));
    return true;
}

fila_status fw_plugin_bind(
    const struct fw_plugin_file *file,
    const struct fw_plugin_binding *binding,
    struct fw_plugin **ret_plugin,
    struct fw_plugin_problems *ret_problems)
{
    fila_status status = FILA_NO_MEMORY;
    struct fw_plugin *plugin = calloc(1, sizeof *plugin);
    *ret_problems = (struct fw_plugin_problems){0};
    if (!plugin || !(plugin->memory = calloc(1, sizeof *plugin->memory)) ||
        !(plugin->counters = fw_counters_new())) {
        goto cleanup;
    }
    struct binder binder = {
        .table = fw_plugin_table(file),
        .binding = binding,
        .arena = plugin->memory,
        .problems = ret_problems,
    };
    binder.values =
        fw_arena_alloc(plugin->memory, binder.table->option_count + 1, sizeof *binder.values);
    if (!binder.values || !copy_table(plugin, file)) {
        goto cleanup;
    }
    bind_given(&binder);
    bind_rest(&binder);
    plugin->values = binder.values;
    plugin->environment = fw_child_environment(
        plugin->memory, binding->secret_variables, binding->secret_variable_count);
    if (ret_problems->count) {
        status = FILA_INVALID_ARGUMENT;
    } else if (!plugin->memory->failed && !ret_problems->arena.failed) {
        status = FILA_OK;
        *ret_plugin = plugin;
        plugin = NULL;
    }
cleanup:
    fw_plugin_free(plugin);
    return status;
}

void fw_plugin_free(struct fw_plugin *plugin)
{
    if (plugin) {
        if (plugin->memory) {
            fw_arena_free(plugin->memory);
        }
        fw_counters_free(plugin->counters);
        free(plugin->memory);
        free(plugin);
    }
}

void fw_plugin_problems_free(struct fw_plugin_problems *problems)
{
    fw_arena_free(&problems->arena);
    *problems = (struct fw_plugin_problems){0};
}
