/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "check.h"
#include "plugin/loader.h"

static void check_options(
    struct fw_findings *findings,
    const struct fw_config *config,
    const struct fw_queue_config *queue,
    const char *key,
    const struct fw_plugin_file *file)
{
    const struct fw_plugin_binding binding = {
        .options = queue->handler_options,
        .option_count = queue->handler_option_count,
        .secret_variables = config->secret_variables,
        .secret_variable_count = config->secret_variable_count};
    struct fw_plugin_problems problems = {.count = 0};
    struct fw_plugin *plugin = NULL;
    if (fw_plugin_bind(file, &binding, &plugin, &problems) == FILA_NO_MEMORY) {
        findings->arena.failed = true;
    }
    for (size_t i = 0; i < problems.count; i++) {
        const struct fw_diagnostic *p = &problems.items[i];
        const char *option = *p->key ? fw_arena_print(&findings->arena, "%s: %s", key, p->key)
                                     : key;
        fw_findings_add(
            findings, p->is_error, *p->file ? p->file : queue->file,
            *p->file ? p->line : queue->line, option, "%s", p->text);
    }
    fw_plugin_free(plugin);
    fw_plugin_problems_free(&problems);
}

void fw_check_handlers(struct fw_findings *findings, const struct fw_config *config)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        const struct fw_queue_config *queue = &config->queues[i];
        const char *key = fw_arena_print(
            &findings->arena, "queue \"%s\": handler \"%s\"", queue->queue, queue->handler_plugin);
        struct fw_plugin_file *file = NULL;
        fila_error error = FILA_ERROR_INIT;
        if (fw_plugin_open(queue->handler_plugin, &file, &error) == FILA_OK) {
            check_options(findings, config, queue, key, file);
        } else {
            fw_findings_add(findings, true, queue->file, queue->line, key, "%s", error.text);
        }
        fw_plugin_close(file);
    }
}
