/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "try.h"

#include "base/clock.h"
#include "cli.h"
#include "config/units.h"
#include "connect.h"
#include "executor/outbox.h"
#include "log/log.h"
#include "readfile.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char HELP[] =
    "usage: fila-worker try --handler NAME|FILE.so [options] [FILE|-]\n"
    "       fila-worker try --config FILE --queue QUEUE [options] [FILE|-]\n"
    "\n"
    "Sends one message, the content of FILE (none, or -, is standard input), through a handler, without a broker,\n"
    "and says what came of it.\n"
    "\n"
    "  --handler NAME|FILE.so  a shipped handler's name, or a file (its path has a '/')\n"
    "  --option K=V            an option of the handler; of a list, one string each: --option command=wc --option command=-c\n"
    "  --config FILE           take handler, options and timeout of --queue from a config file\n"
    "  --header K=V            a header of the message; may be repeated\n"
    "  --key KEY               its fairness key\n"
    "  --attempt N             the try that it is (default 1)\n"
    "  --queue QUEUE           the queue that it comes from (default \"try\", or the config's only one)\n"
    "  --timeout D             of the handler (default 30s, or the config's)\n"
    "  --log-level LEVEL       debug, info, warn, error (default info)\n"
    "  --gdb                   under gdb, stopped before the handler is called (`step` goes into it); FILE is needed\n"
    "  --valgrind              under valgrind; exit status 70 when it finds errors or leaks\n"
    "  --json                  {\"verdict\":...,\"cause\":...,\"reason\":...,\"duration_ms\":...,\"published\":[...]}\n"
    "\n"
    "Exit status: 0 ack, 75 retry, 65 reject, 69 unavailable; 64 usage; 66 handler refused, or FILE cannot be read; 78 config\n"
    "invalid.\n";

enum {
    OPT_HANDLER = FW_OPT_FIRST_OWN,
    OPT_OPTION,
    OPT_HEADER,
    OPT_KEY,
    OPT_ATTEMPT,
    OPT_QUEUE,
    OPT_TIMEOUT,
    OPT_LEVEL,
    OPT_GDB,
    OPT_VALGRIND
};

static const struct option OPTIONS[] = {
    {"handler", required_argument, NULL, OPT_HANDLER},
    {"option", required_argument, NULL, OPT_OPTION},
    {"config", required_argument, NULL, FW_OPT_CONFIG},
    {"header", required_argument, NULL, OPT_HEADER},
    {"key", required_argument, NULL, OPT_KEY},
    {"attempt", required_argument, NULL, OPT_ATTEMPT},
    {"queue", required_argument, NULL, OPT_QUEUE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"log-level", required_argument, NULL, OPT_LEVEL},
    {"gdb", no_argument, NULL, OPT_GDB},
    {"valgrind", no_argument, NULL, OPT_VALGRIND},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    {NULL, 0, NULL, 0},
};

#define PAYLOAD_MAX ((size_t)64 << 20)

enum {
    STATUS_RETRY = 75,
    STATUS_REJECT = 65,
    STATUS_UNAVAILABLE = 69
};

/* ---- The command line ---- */

static int take_pair(struct fw_try *request, int option, char *text)
{
    struct fw_cli_pair pair;
    const char *name = option == OPT_HEADER ? "--header" : "--option";
    if (!fw_cli_pair_split(text, &pair)) {
        return fw_cli_usage("try", "%s \"%s\" is not KEY=VALUE", name, text);
    }
    if (option == OPT_HEADER) {
        request->headers[request->header_count++] =
            (fila_header){fila_view_of(pair.key), fila_view_of(pair.value)};
    } else {
        request->options[request->option_count++] = pair;
    }
    return -1;
}

static int take_number(struct fw_try *request, int option, const char *text)
{
    char why[FW_UNIT_ERROR_SIZE];
    int64_t number = 0;
    if (option == OPT_TIMEOUT) {
        if (!fw_parse_duration(text, &request->timeout, why)) {
            return fw_cli_usage("try", "--timeout: %s", why);
        }
        return request->timeout > 0 ? -1 : fw_cli_usage("try", "--timeout must be over 0");
    }
    if (!fw_parse_integer(text, &number, why)) {
        return fw_cli_usage("try", "--attempt: %s", why);
    }
    if (number < 1 || number > UINT32_MAX) {
        return fw_cli_usage("try", "--attempt: it starts at 1");
    }
    request->attempt = (uint32_t)number;
    return -1;
}

static int take_level(struct fw_try *request, const char *text)
{
    static const char *const LEVELS[] = {"debug", "info", "warn", "error"};
    for (int i = FW_LOG_DEBUG; i <= FW_LOG_ERROR; i++) {
        if (!strcmp(text, LEVELS[i])) {
            request->log_level = (enum fw_log_level)i;
            return -1;
        }
    }
    return fw_cli_usage("try", "--log-level is none of debug, info, warn, error: \"%s\"", text);
}

/* -1 = go on; else the exit status to end with. */
static int take(struct fw_try *request, int option, char **argv)
{
    switch (option) {
    case OPT_HANDLER:
        request->handler = optarg;
        return -1;
    case OPT_OPTION:
    case OPT_HEADER:
        return take_pair(request, option, optarg);
    case FW_OPT_CONFIG:
        request->config = optarg;
        return -1;
    case OPT_KEY:
        request->key = optarg;
        return -1;
    case OPT_QUEUE:
        request->queue = optarg;
        return -1;
    case OPT_ATTEMPT:
    case OPT_TIMEOUT:
        return take_number(request, option, optarg);
    case OPT_LEVEL:
        return take_level(request, optarg);
    case OPT_GDB:
    case OPT_VALGRIND:
        request->debugger = option == OPT_GDB ? FW_TRY_GDB : FW_TRY_VALGRIND;
        return -1;
    case FW_OPT_JSON:
        request->json = true;
        return -1;
    case FW_OPT_HELP:
        (void)fputs(HELP, stdout);
        return fw_cli_finish("try", FW_EXIT_OK);
    default:
        return fw_cli_bad_option("try", option, argv);
    }
}

static int parse(int argc, char **argv, struct fw_try *request)
{
    int status = -1;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    for (int option; status < 0 && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
        status = take(request, option, argv);
    }
    if (status >= 0) {
        return status;
    }
    if (argc - optind > 1) {
        return fw_cli_usage("try", "one message at a time: \"%s\" is too much", argv[optind + 1]);
    }
    if (!request->handler == !request->config) {
        return fw_cli_usage("try", "either --handler or --config with --queue, and not both");
    }
    request->file = optind < argc ? argv[optind] : "-";
    return -1;
}

/* ---- The handler ---- */

/* The exit status: 0, `refused`, or FW_EXIT_INTERNAL; what is wrong has been told. */
static int tell_problems(fila_status status, struct fw_plugin_problems *problems, int refused)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct fw_diagnostic *problem = &problems->items[i];
        if (*problem->file) {
            fw_diagnostic_print(stderr, problem);
        } else {
            (void)fw_cli_fail("try", 0, "option %s: %s", problem->key, problem->text);
        }
    }
    fw_plugin_problems_free(problems);
    if (status == FILA_NO_MEMORY) {
        return fw_cli_fail("try", FW_EXIT_INTERNAL, "out of memory");
    }
    return status ? refused : FW_EXIT_OK;
}

static int open_named(const struct fw_try *request, struct fw_plugin **ret_plugin)
{
    struct fw_plugin_file *file = NULL;
    struct fw_plugin_problems problems = {0};
    fila_error error = FILA_ERROR_INIT;
    if (fw_plugin_open(request->handler, &file, &error)) {
        return fw_cli_fail("try", FW_EXIT_PLUGIN, "%s", error.text);
    }
    fila_status status =
        fw_cli_pairs_bind(request->options, request->option_count, file, ret_plugin, &problems);
    fw_plugin_close(file);
    return tell_problems(status, &problems, FW_EXIT_USAGE);
}

static const struct fw_queue_config *find_queue(const struct fw_config *config, const char *queue)
{
    for (size_t i = 0; queue && i < config->queue_count; i++) {
        if (!strcmp(config->queues[i].queue, queue)) {
            return &config->queues[i];
        }
    }
    return !queue && config->queue_count == 1 ? &config->queues[0] : NULL;
}

static int open_queue(
    struct fw_try *request,
    const struct fw_config *config,
    struct fw_plugin **ret_plugin)
{
    struct fw_plugin_file *file = NULL;
    fila_error error = FILA_ERROR_INIT;
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
    if (fw_plugin_open(queue->handler_plugin, &file, &error)) {
        return fw_cli_fail("try", FW_EXIT_PLUGIN, "%s", error.text);
    }
    request->queue = queue->queue;
    int64_t timeout = queue->timeout ? queue->timeout : queue->visibility_timeout / 2;
    request->timeout = request->timeout ? request->timeout : timeout;
    struct fw_plugin_binding binding = {
        .options = queue->handler_options,
        .option_count = queue->handler_option_count,
        .secret_variables = config->secret_variables,
        .secret_variable_count = config->secret_variable_count,
    };
    struct fw_plugin_problems problems = {0};
    fila_status status = fw_plugin_bind(file, &binding, ret_plugin, &problems);
    fw_plugin_close(file);
    return tell_problems(status, &problems, FW_EXIT_CONFIG);
}

static int open_configured(
    struct fw_try *request,
    struct fw_config **ret_config,
    struct fw_plugin **ret_plugin)
{
    struct fw_diagnostics diagnostics = {0};
    struct fw_config_overrides overrides = {0};
    bool loaded = fw_config_load(request->config, &overrides, ret_config, &diagnostics);
    for (size_t i = 0; i < diagnostics.count; i++) {
        fw_diagnostic_print(stderr, &diagnostics.items[i]);
    }
    fw_diagnostics_free(&diagnostics);
    return loaded ? open_queue(request, *ret_config, ret_plugin) : FW_EXIT_CONFIG;
}

/* ---- The result ---- */

static const char *verdict_name(enum fw_verdict_kind kind)
{
    static const char *const NAMES[] = {"ack", "retry", "reject", "unavailable"};
    return NAMES[kind];
}

static int exit_status(enum fw_verdict_kind kind)
{
    static const int STATUSES[] = {FW_EXIT_OK, STATUS_RETRY, STATUS_REJECT, STATUS_UNAVAILABLE};
    return STATUSES[kind];
}

static json_t *outbox_json(const struct fw_outgoing *outbox)
{
    json_t *all = json_array();
    for (const struct fw_outgoing *o = outbox; o; o = o->next) {
        json_t *headers = json_object();
        for (size_t i = 0; i < o->header_count; i++) {
            const fila_header *h = &o->headers[i];
            (void)json_object_setn_new(
                headers, h->key.data, h->key.len, json_stringn(h->value.data, h->value.len));
        }
        (void)json_array_append_new(
            all, json_pack(
                     "{s:s%,s:o,s:I}", "queue", o->queue.data, o->queue.len, "headers", headers,
                     "payload_bytes", (json_int_t)o->payload.len));
    }
    return all;
}

static void print_outbox(const struct fw_outgoing *outbox)
{
    for (const struct fw_outgoing *o = outbox; o; o = o->next) {
        (void)printf(
            "publishes to %.*s: payload of %zu bytes, %zu headers\n", (int)o->queue.len,
            o->queue.data, o->payload.len, o->header_count);
    }
}

static void print_result(const struct fw_try *request, const struct fw_try_result *result)
{
    double ms = (double)(result->verdict.ended - result->verdict.started) / (double)FILA_MS;
    const char *verdict = verdict_name(result->verdict.kind);
    const char *cause = fw_cause_name(result->verdict.cause);
    if (request->json) {
        json_t *all = json_pack(
            "{s:s,s:s?,s:s?,s:f,s:o}", "verdict", verdict, "cause",
            result->verdict.cause ? cause : NULL, "reason", result->reason, "duration_ms", ms,
            "published", outbox_json(result->outbox));
        (void)json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        (void)putchar('\n');
        json_decref(all);
        return;
    }
    bool told = result->verdict.cause && strcmp(cause, verdict) != 0;
    (void)printf(
        "%s%s%s%s in %.1f ms%s%s\n", verdict, told ? " (" : "", told ? cause : "", told ? ")" : "",
        ms, result->reason ? ": " : "", result->reason ? result->reason : "");
    if (result->verdict.delay) {
        (void)printf(
            "asks for a retry after %lld ms\n", (long long)(result->verdict.delay / FILA_MS));
    }
    print_outbox(result->outbox);
}

static int run(struct fw_try *request, const struct fw_plugin *plugin)
{
    struct fw_try_result result = {0};
    size_t len = 0;
    const char *path = strcmp(request->file, "-") != 0 ? request->file : "/dev/stdin";
    char *payload = fw_cli_read_file(path, PAYLOAD_MAX, &len);
    if (!payload) {
        const char *why = strerrordesc_np(errno);
        return fw_cli_fail("try", FW_EXIT_PLUGIN, "%s: %s", request->file, why ? why : "?");
    }
    request->queue = request->queue ? request->queue : "try";
    request->timeout = request->timeout ? request->timeout : 30 * FILA_S;
    int status = fw_try_run(request, plugin, (fila_view){payload, len}, &result);
    if (status == FW_EXIT_OK) {
        print_result(request, &result);
        status = exit_status(result.verdict.kind);
        free(result.reason);
        fw_outgoing_free(result.outbox);
    }
    free(payload);
    return status;
}

int fw_cli_try(int argc, char **argv)
{
    struct fw_try request = {.attempt = 1, .key = "", .file = "-", .log_level = FW_LOG_INFO};
    struct fw_config *config = NULL;
    struct fw_plugin *plugin = NULL;
    int status = FW_EXIT_INTERNAL;
    request.options = calloc((size_t)argc + 1, sizeof *request.options);
    request.headers = calloc((size_t)argc + 1, sizeof *request.headers);
    if (!request.options || !request.headers) {
        (void)fw_cli_fail("try", FW_EXIT_INTERNAL, "out of memory");
        goto cleanup;
    }
    char **words = fw_try_copy_words(argc, argv); /* parsing cuts some in two */
    status = words ? parse(argc, argv, &request) : FW_EXIT_INTERNAL;
    if (status < 0 && request.debugger) {
        status = fw_try_debug(&request, argc, words);
    }
    fw_try_free_words(words);
    if (status >= 0) {
        goto cleanup;
    }
    fw_log_init(request.log_level, FW_LOG_TEXT);
    status = request.handler ? open_named(&request, &plugin)
                             : open_configured(&request, &config, &plugin);
    if (status == FW_EXIT_OK) {
        status = fw_cli_finish("try", run(&request, plugin));
    }
cleanup:
    fw_plugin_free(plugin);
    fw_config_free(config);
    free(request.options);
    free(request.headers);
    return status;
}
