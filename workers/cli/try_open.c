/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The handler of `try`: named on the command line, or as a config has it; loaded here, or to be
 * loaded by a child.
 */
#include "base/clock.h"
#include "cli.h"
#include "try.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* ---- What is wrong with its options ---- */

/* `user` is the handler's `told`. */
static void tell_problem(void *user, const struct fw_diagnostic *problem)
{
    *(bool *)user = true;
    if (*problem->file) {
        fw_diagnostic_print(stderr, problem);
    } else {
        (void)fw_cli_fail("try", 0, "option %s: %s", problem->key, problem->text);
    }
}

/* The exit status: 0, `refused`, or FW_EXIT_INTERNAL; what is wrong has been told. */
static int tell_problems(fila_status status, struct fw_plugin_problems *problems, int refused)
{
    bool told;
    for (size_t i = 0; i < problems->count; i++) {
        tell_problem(&told, &problems->items[i]);
    }
    fw_plugin_problems_free(problems);
    if (status == FILA_NO_MEMORY) {
        return fw_cli_fail("try", FW_EXIT_INTERNAL, "out of memory");
    }
    return status ? refused : FW_EXIT_OK;
}

/* ---- Isolation "process" ---- */

/* The child loads it: here its file is only looked at. */
static int open_in_child(
    struct fw_try_handler *handler,
    const char *name,
    const struct fw_handler_option *options,
    size_t option_count)
{
    char path[PATH_MAX];
    fila_error error = FILA_ERROR_INIT;
    if (fw_plugin_inspect(name, path, &error)) {
        return fw_cli_fail("try", FW_EXIT_PLUGIN, "%s", error.text);
    }
    handler->in_child = true;
    handler->process.handler = name;
    handler->process.options = options;
    handler->process.option_count = option_count;
    handler->process.problem = tell_problem;
    handler->process.problem_user = &handler->told;
    if (handler->config) {
        handler->process.secret_variables = handler->config->secret_variables;
        handler->process.secret_variable_count = handler->config->secret_variable_count;
    }
    return FW_EXIT_OK;
}

/* ---- Named ---- */

static int open_named(const struct fw_try *request, struct fw_try_handler *handler)
{
    struct fw_plugin_file *file = NULL;
    struct fw_plugin_problems problems = {0};
    fila_error error = FILA_ERROR_INIT;
    handler->refused = FW_EXIT_USAGE;
    if (request->isolation == FW_ISOLATION_PROCESS) {
        if (!fw_cli_pairs_group(request->options, request->option_count, NULL, &handler->options)) {
            return fw_cli_fail("try", FW_EXIT_INTERNAL, "out of memory");
        }
        return open_in_child(
            handler, request->handler, handler->options.items, handler->options.count);
    }
    if (fw_plugin_open(request->handler, &file, &error)) {
        return fw_cli_fail("try", FW_EXIT_PLUGIN, "%s", error.text);
    }
    fila_status status = fw_cli_pairs_bind(
        request->options, request->option_count, file, &handler->plugin, &problems);
    fw_plugin_close(file);
    return tell_problems(status, &problems, handler->refused);
}

/* ---- As a config has it ---- */

static const struct fw_queue_config *find_queue(const struct fw_config *config, const char *queue)
{
    for (size_t i = 0; queue && i < config->queue_count; i++) {
        if (!strcmp(config->queues[i].queue, queue)) {
            return &config->queues[i];
        }
    }
    return !queue && config->queue_count == 1 ? &config->queues[0] : NULL;
}

static void take_settings(struct fw_try *request, const struct fw_queue_config *queue)
{
    int64_t timeout = queue->timeout ? queue->timeout : queue->visibility_timeout / 2;
    request->queue = queue->queue;
    request->timeout = request->timeout ? request->timeout : timeout;
    if (!request->isolation_given && !request->debugger) {
        request->isolation = queue->isolation;
    }
}

static int open_queue(struct fw_try *request, struct fw_try_handler *handler)
{
    struct fw_plugin_file *file = NULL;
    fila_error error = FILA_ERROR_INIT;
    const struct fw_config *config = handler->config;
    const struct fw_queue_config *queue = find_queue(config, request->queue);
    if (!queue) {
        return fw_cli_usage(
            "try",
            request->queue ? "%s has no queue \"%s\""
                           : "%s has several queues: which one? (--queue)",
            request->config, request->queue);
    }
    if (request->option_count) {
        return fw_cli_usage("try", "--option goes with --handler; the config has its own");
    }
    take_settings(request, queue);
    handler->refused = FW_EXIT_CONFIG;
    if (request->isolation == FW_ISOLATION_PROCESS) {
        return open_in_child(
            handler, queue->handler_plugin, queue->handler_options, queue->handler_option_count);
    }
    if (fw_plugin_open(queue->handler_plugin, &file, &error)) {
        return fw_cli_fail("try", FW_EXIT_PLUGIN, "%s", error.text);
    }
    struct fw_plugin_binding binding = {
        .options = queue->handler_options,
        .option_count = queue->handler_option_count,
        .secret_variables = config->secret_variables,
        .secret_variable_count = config->secret_variable_count,
    };
    struct fw_plugin_problems problems = {0};
    fila_status status = fw_plugin_bind(file, &binding, &handler->plugin, &problems);
    fw_plugin_close(file);
    return tell_problems(status, &problems, handler->refused);
}

static int open_configured(struct fw_try *request, struct fw_try_handler *handler)
{
    struct fw_diagnostics diagnostics = {0};
    struct fw_config_overrides overrides = {0};
    bool loaded = fw_config_load(request->config, &overrides, &handler->config, &diagnostics);
    for (size_t i = 0; i < diagnostics.count; i++) {
        fw_diagnostic_print(stderr, &diagnostics.items[i]);
    }
    fw_diagnostics_free(&diagnostics);
    return loaded ? open_queue(request, handler) : FW_EXIT_CONFIG;
}

int fw_try_open(struct fw_try *request, struct fw_try_handler *ret_handler)
{
    int status = request->handler ? open_named(request, ret_handler)
                                  : open_configured(request, ret_handler);
    request->queue = request->queue ? request->queue : "try";
    request->timeout = request->timeout ? request->timeout : 30 * FILA_S;
    return status;
}

void fw_try_close(struct fw_try_handler *handler)
{
    fw_plugin_free(handler->plugin);
    fw_config_free(handler->config);
    fw_cli_options_free(&handler->options);
}
