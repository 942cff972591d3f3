/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

bool fw_cli_pair_split(char *text, struct fw_cli_pair *ret_pair)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        return false;
    }
    *equals = '\0';
    *ret_pair = (struct fw_cli_pair){text, equals + 1};
    return true;
}

static size_t count_of(const struct fw_cli_pair *pairs, size_t pair_count, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < pair_count; i++) {
        count += !strcmp(pairs[i].key, name);
    }
    return count;
}

static bool is_list(const fila_plugin *table, const char *name)
{
    for (uint32_t i = 0; i < table->option_count; i++) {
        if (!strcmp(table->options[i].name, name)) {
            return table->options[i].type == FILA_OPTION_STRINGS;
        }
    }
    return false;
}

static bool is_grouped(const struct fw_cli_options *options, const char *name)
{
    for (size_t i = 0; i < options->count; i++) {
        if (options->items[i].is_list && !strcmp(options->items[i].name, name)) {
            return true;
        }
    }
    return false;
}

bool fw_cli_pairs_group(
    const struct fw_cli_pair *pairs,
    size_t pair_count,
    const fila_plugin *table,
    struct fw_cli_options *ret_options)
{
    size_t n = pair_count + 1;
    size_t used = 0;
    struct fw_cli_options *options = ret_options;
    *options =
        (struct fw_cli_options){calloc(n, sizeof *options->items), calloc(n, sizeof(char *)), 0};
    if (!options->items || !options->values) {
        return false;
    }
    for (size_t i = 0; i < pair_count; i++) {
        const char *key = pairs[i].key;
        bool list = table ? is_list(table, key) : count_of(pairs, pair_count, key) > 1;
        if (is_grouped(options, key)) {
            continue;
        }
        struct fw_handler_option *item = &options->items[options->count++];
        *item = (struct fw_handler_option){
            .name = key,
            .values = options->values + used,
            .is_list = list,
            .is_string = true,
            .file = "",
        };
        for (size_t j = i; j < (list ? pair_count : i + 1); j++) {
            if (!strcmp(pairs[j].key, key)) {
                options->values[used++] = pairs[j].value;
                item->count++;
            }
        }
    }
    return true;
}

void fw_cli_options_free(struct fw_cli_options *options)
{
    free(options->items);
    free(options->values);
}

fila_status fw_cli_pairs_bind(
    const struct fw_cli_pair *pairs,
    size_t pair_count,
    const struct fw_plugin_file *file,
    struct fw_plugin **ret_plugin,
    struct fw_plugin_problems *ret_problems)
{
    struct fw_cli_options options;
    fila_status status = FILA_NO_MEMORY;
    *ret_problems = (struct fw_plugin_problems){0};
    if (fw_cli_pairs_group(pairs, pair_count, fw_plugin_table(file), &options)) {
        const struct fw_plugin_binding binding = {
            .options = options.items, .option_count = options.count};
        status = fw_plugin_bind(file, &binding, ret_plugin, ret_problems);
    }
    fw_cli_options_free(&options);
    return status;
}
