/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "ctl/ctl.h"

#include "cli.h"
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char HELP[] =
    "usage: fila-worker ctl COMMAND [options]      orders to a running worker, through its control socket\n"
    "\n"
    "  status                what each queue is doing, and what is wrong (--json: all of it)\n"
    "  pause [QUEUE]         start nothing more of that queue, or of all; what is held goes back after half a lease\n"
    "  resume [QUEUE]        go on\n"
    "  set QUEUE [--rate R] [--concurrency N]\n"
    "                        starts a second (0 = no limit), messages at once (up to 4096; with isolation =\n"
    "                        \"process\" no more than configured); until the next reload\n"
    "  loglevel LEVEL        debug, info, warn, error, off; until the next reload\n"
    "  reload                read the config again; says whether it was taken\n"
    "  drain                 stop, as by SIGTERM\n"
    "  tap [QUEUE]           messages as they end, a sample: a line of JSON each, until Ctrl-C\n"
    "    --per-second N      at most so many (10); how many were left out is in `skipped_before`\n"
    "    --payload           with headers and payload (the first 4 KiB)\n"
    "  dump                  everything held, and what each thread does and where, into the worker's log (DUMP)\n"
    "\n"
    "  --socket PATH         the worker's socket; else it is taken from the config:\n" FW_CLI_LOAD_HELP
    "  --json                the answer as it is\n"
    "\n"
    "Exit status: 0 done; 1 the worker refused; 64 usage; 69 no worker listens; 78 config invalid.\n";

enum {
    OPT_SOCKET = 1000,
    OPT_RATE,
    OPT_CONCURRENCY,
    OPT_PER_SECOND,
    OPT_PAYLOAD,
    OPT_JSON,
    OPT_HELP
};

static const struct option OPTIONS[] = {
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"rate", required_argument, NULL, OPT_RATE},
    {"concurrency", required_argument, NULL, OPT_CONCURRENCY},
    {"per-second", required_argument, NULL, OPT_PER_SECOND},
    {"payload", no_argument, NULL, OPT_PAYLOAD},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    FW_CLI_LOAD_OPTIONS,
    {NULL, 0, NULL, 0},
};

struct ctl_verb {
    struct fw_cli_source source;
    const char *socket;
    json_t *request;
    bool json;
    const char *do_what;
};

/* ---- The request ---- */

static int put_number(struct ctl_verb *v, const char *key, const char *text)
{
    json_error_t error;
    json_t *number = json_loads(text, JSON_DECODE_ANY, &error);
    if (!json_is_number(number)) {
        json_decref(number);
        return fw_cli_usage("ctl", "\"%s\" is no number", text);
    }
    (void)json_object_set_new(v->request, key, number);
    return -1;
}

/* -1 = go on; else the exit status to end with. */
static int take_option(struct ctl_verb *v, int option, char **argv)
{
    switch (option) {
    case OPT_SOCKET:
        v->socket = optarg;
        return -1;
    case OPT_RATE:
        return put_number(v, "rate", optarg);
    case OPT_CONCURRENCY:
        return put_number(v, "concurrency", optarg);
    case OPT_PER_SECOND:
        return put_number(v, "per_second", optarg);
    case OPT_PAYLOAD:
        (void)json_object_set_new(v->request, "payload", json_true());
        return -1;
    case OPT_JSON:
        v->json = true;
        return -1;
    case OPT_HELP:
        (void)fputs(HELP, stdout);
        return fw_cli_finish("ctl", FW_EXIT_OK);
    default:
        return fw_cli_source_option(&v->source, option) ? -1
                                                        : fw_cli_bad_option("ctl", option, argv);
    }
}

static int parse(int argc, char **argv, struct ctl_verb *v)
{
    int option = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        int status = take_option(v, option, argv);
        if (status >= 0) {
            return status;
        }
    }
    if (optind >= argc) {
        return fw_cli_usage("ctl", "a command is missing");
    }
    v->do_what = argv[optind++];
    (void)json_object_set_new(v->request, "do", json_string(v->do_what));
    if (optind < argc) {
        const char *key = strcmp(v->do_what, "loglevel") == 0 ? "level" : "queue";
        json_t *value = json_string(argv[optind]);
        if (!value) {
            return fw_cli_usage("ctl", "\"%s\" is not UTF-8", argv[optind]);
        }
        (void)json_object_set_new(v->request, key, value);
        optind++;
    }
    return optind < argc ? fw_cli_usage("ctl", "unexpected argument \"%s\"", argv[optind]) : -1;
}

/* By the same rules as the worker's: a slip is told here, and costs no connection. */
static int check(const struct ctl_verb *v, char **ret_line)
{
    struct fw_ctl_request request;
    char why[256];
    char *line = json_dumps(v->request, JSON_COMPACT);
    if (!line) {
        return fw_cli_fail("ctl", FW_EXIT_INTERNAL, "no memory");
    }
    if (!fw_ctl_parse(line, strlen(line), &request, why, sizeof why)) {
        free(line);
        return fw_cli_usage("ctl", "%s", why);
    }
    *ret_line = line;
    return -1;
}

/* ---- The answer ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_queue(const json_t *queue)
{
    const json_t *count = json_object_get(queue, "count");
    const json_t *trouble = NULL;
    size_t i = 0;
    if (strcmp(text_of(queue, "state"), "gone") == 0) {
        return;
    }
    (void)printf(
        "%-24s %-24s %4" PRId64 "/%-4" PRId64 " %8" PRId64 " %8" PRId64 " %10" PRId64 " %8" PRId64
        "\n",
        text_of(queue, "queue"), text_of(queue, "state"), (int64_t)number_of(count, "running"),
        (int64_t)number_of(queue, "concurrency"), (int64_t)number_of(count, "held"),
        (int64_t)number_of(count, "retry_waiting"),
        (int64_t)number_of(json_object_get(count, "finished"), "acked"),
        (int64_t)number_of(json_object_get(count, "finished"), "dead_lettered"));
    json_array_foreach(json_object_get(queue, "troubles"), i, trouble)
    {
        (void)printf(
            "    %s for %" PRId64 " s: %s\n    %s: %s\n", text_of(trouble, "trouble"),
            (int64_t)number_of(trouble, "for_ms") / 1000, text_of(trouble, "text"),
            text_of(trouble, "event"), text_of(trouble, "remedy"));
    }
}

static void print_status(const json_t *status)
{
    const json_t *worker = json_object_get(status, "worker");
    const json_t *queue = NULL;
    size_t i = 0;
    (void)printf(
        "%s, version %s, pid %" PRId64 ", up %" PRId64 " s, broker %s, config %s (%s)\n\n",
        json_is_true(json_object_get(worker, "draining")) ? "draining"
        : json_is_true(json_object_get(status, "ready"))  ? "ready"
                                                          : "NOT READY",
        text_of(worker, "version"), (int64_t)number_of(worker, "pid"),
        (int64_t)number_of(worker, "up_ms") / 1000, text_of(worker, "broker"),
        text_of(worker, "config_file"), text_of(worker, "config_hash"));
    (void)printf(
        "%-24s %-24s %9s %8s %8s %10s %8s\n", "QUEUE", "STATE", "RUNNING", "HELD", "WAITING",
        "DONE", "DEAD");
    json_array_foreach(json_object_get(status, "queues"), i, queue)
    {
        print_queue(queue);
    }
}

/* -1 = more lines may come (a tap). */
static int answered(const struct ctl_verb *v, const char *line)
{
    json_error_t error;
    json_t *answer = json_loads(line, 0, &error);
    int status = FW_EXIT_OK;
    if (!answer || !json_object_get(answer, "ok")) {
        status = fw_cli_fail("ctl", FW_EXIT_INTERNAL, "an answer that cannot be understood");
    } else if (!json_is_true(json_object_get(answer, "ok"))) {
        status = fw_cli_fail("ctl", FW_EXIT_FAILED, "%s", text_of(answer, "error"));
    } else if (strcmp(v->do_what, "tap") == 0) {
        status = -1;
    } else if (v->json) {
        (void)fputs(line, stdout);
    } else if (json_object_get(answer, "status")) {
        print_status(json_object_get(answer, "status"));
    }
    json_decref(answer);
    return status;
}

static int talk(const struct ctl_verb *v, const char *path, const char *request)
{
    fila_error error = FILA_ERROR_INIT;
    int fd = fw_ctl_connect(path, &error);
    if (fd < 0) {
        return fw_cli_fail("ctl", FW_EXIT_UNREACHABLE, "%s", error.text);
    }
    FILE *in = fdopen(fd, "r");
    char *line = NULL;
    size_t size = 0;
    int status = FW_EXIT_UNREACHABLE;
    (void)signal(SIGPIPE, SIG_IGN); /* who is refused unheard is told why all the same */
    (void)dprintf(fd, "%s\n", request);
    if (!in || getline(&line, &size, in) <= 0) {
        status = fw_cli_fail("ctl", status, "the worker ended the connection");
    } else {
        status = answered(v, line);
    }
    while (status < 0) {
        if (getline(&line, &size, in) <= 0 || fputs(line, stdout) < 0 || fflush(stdout)) {
            status = FW_EXIT_OK; /* the worker has ended, or nobody reads */
        }
    }
    free(line);
    if (in) {
        (void)fclose(in);
    } else {
        (void)close(fd);
    }
    return fw_cli_finish("ctl", status);
}

/* -1 = `ret_path` is set. */
static int find_socket(const struct ctl_verb *v, char ret_path[FW_CTL_PATH_SIZE])
{
    struct fw_config *config = NULL;
    struct fw_diagnostics diagnostics = {0};
    if (v->socket) {
        int n = snprintf(ret_path, FW_CTL_PATH_SIZE, "%s", v->socket);
        return n > 0 && n < FW_CTL_PATH_SIZE ? -1 : fw_cli_usage("ctl", "no path of a socket");
    }
    bool loaded = fw_cli_source_load(&v->source, &config, &diagnostics);
    for (size_t i = 0; i < diagnostics.count && !loaded; i++) {
        fw_diagnostic_print(stderr, &diagnostics.items[i]);
    }
    fw_diagnostics_free(&diagnostics);
    if (!loaded) {
        return FW_EXIT_CONFIG;
    }
    bool fits = fw_ctl_path(config, ret_path);
    fw_config_free(config);
    if (!fits || !ret_path[0]) {
        return fw_cli_fail(
            "ctl", FW_EXIT_UNREACHABLE,
            "this config has no control socket: set ctl.socket, state_dir or $XDG_RUNTIME_DIR, or give --socket PATH");
    }
    return -1;
}

int fw_cli_ctl(int argc, char **argv)
{
    struct ctl_verb v = {.request = json_object()};
    char path[FW_CTL_PATH_SIZE];
    char *line = NULL;
    if (!v.request || !fw_cli_source_init(&v.source, argc)) {
        json_decref(v.request);
        return fw_cli_fail("ctl", FW_EXIT_INTERNAL, "no memory");
    }
    int status = parse(argc, argv, &v);
    status = status < 0 ? check(&v, &line) : status;
    status = status < 0 ? find_socket(&v, path) : status;
    status = status < 0 ? talk(&v, path, line) : status;
    free(line);
    fw_cli_source_fini(&v.source);
    json_decref(v.request);
    return status;
}
