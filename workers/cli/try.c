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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "usage: fila-worker try --handler NAME|FILE.so [options] [FILE|-]\n"
    "       fila-worker try --config FILE --queue QUEUE [options] [FILE|-]\n"
    "\n"
    "Sends one message, the content of FILE (none, or -, is standard input), through a handler, without a broker,\n"
    "and says what came of it: verdict, time, reason, what would be published, and what was counted. Nothing is sent.\n"
    "\n"
    "  --payload TEXT          the message's payload, in place of FILE\n"
    "  --handler NAME|FILE.so  a shipped handler's name, or a file (its path has a '/')\n"
    "  --option K=V            an option of the handler; of a list, one string each: --option command=wc --option command=-c\n"
    "  --config FILE           take handler, options, timeout and isolation of --queue from a config file\n"
    "  --isolation I           threads, or process: in a child, where a crash is a retry (default threads, or the config's)\n"
    "  --header K=V            a header of the message; may be repeated\n"
    "  --key KEY               its fairness key\n"
    "  --attempt N             the try that it is (default 1)\n"
    "  --queue QUEUE           the queue that it comes from (default \"try\", or the config's only one)\n"
    "  --timeout D             of the handler (default 30s, or the config's)\n"
    "  --log-level LEVEL       debug, info, warn, error (default info)\n"
    "  --gdb                   under gdb, stopped before the handler is called (`step` goes into it); FILE is needed\n"
    "  --valgrind              under valgrind; exit status 70 when it finds errors or leaks\n"
    "  --json                  an object: verdict, cause, reason, retry_after_ms, duration_ms, published, counters\n"
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
    OPT_PAYLOAD,
    OPT_ISOLATION,
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
    {"payload", required_argument, NULL, OPT_PAYLOAD},
    {"isolation", required_argument, NULL, OPT_ISOLATION},
    {"gdb", no_argument, NULL, OPT_GDB},
    {"valgrind", no_argument, NULL, OPT_VALGRIND},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    {NULL, 0, NULL, 0},
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

static int take_isolation(struct fw_try *request, const char *text)
{
    bool process = !strcmp(text, "process");
    if (!process && strcmp(text, "threads") != 0) {
        return fw_cli_usage("try", "--isolation is neither threads nor process: \"%s\"", text);
    }
    request->isolation = process ? FW_ISOLATION_PROCESS : FW_ISOLATION_THREADS;
    request->isolation_given = true;
    return -1;
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
    case OPT_PAYLOAD:
        request->literal = optarg;
        return -1;
    case OPT_ISOLATION:
        return take_isolation(request, optarg);
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
    const char *last = optind < argc ? strrchr(argv[optind], '.') : NULL;
    if (!request->handler && !request->config && last && !strcmp(last, ".so")) {
        return fw_cli_usage("try", "a handler is named by --handler %s", argv[optind]);
    }
    if (!request->handler == !request->config) {
        return fw_cli_usage("try", "either --handler or --config with --queue, and not both");
    }
    if (request->literal && optind < argc) {
        return fw_cli_usage("try", "either --payload or a FILE, and not both");
    }
    if (request->debugger && request->isolation == FW_ISOLATION_PROCESS) {
        return fw_cli_usage("try", "--gdb and --valgrind look into this process, not into a child");
    }
    request->file = optind < argc ? argv[optind] : "-";
    return -1;
}

/* ---- Running ---- */

static char *read_payload(const struct fw_try *request, size_t *ret_len)
{
    if (request->literal) {
        *ret_len = strlen(request->literal);
        return strdup(request->literal);
    }
    const char *path = strcmp(request->file, "-") != 0 ? request->file : "/dev/stdin";
    return fw_cli_read_file(path, FW_TRY_PAYLOAD_MAX, ret_len);
}

static int run(const struct fw_try *request, const struct fw_try_handler *handler)
{
    struct fw_try_result result = {0};
    size_t len = 0;
    char *payload = read_payload(request, &len);
    if (!payload) {
        const char *why = strerrordesc_np(errno);
        return fw_cli_fail("try", FW_EXIT_PLUGIN, "%s: %s", request->file, why ? why : "?");
    }
    int status = fw_try_run(request, handler, (fila_view){payload, len}, &result);
    if (status == FW_EXIT_OK) {
        status = fw_try_tell(request, &result);
        free(result.reason);
        fw_outgoing_free(result.outbox);
    }
    free(payload);
    return status;
}

int fw_cli_try(int argc, char **argv)
{
    struct fw_try request = {.attempt = 1, .key = "", .file = "-", .log_level = FW_LOG_INFO};
    struct fw_try_handler handler = {0};
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
    status = fw_try_open(&request, &handler);
    if (status == FW_EXIT_OK) {
        status = fw_cli_finish("try", run(&request, &handler));
    }
cleanup:
    fw_try_close(&handler);
    free(request.options);
    free(request.headers);
    return status;
}
