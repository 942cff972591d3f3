/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "check.h"

#include "cli.h"
#include "config/cgroup.h"
#include "config/units.h"
#include "load.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/resource.h>

static const char HELP[] =
    "usage: fila-worker check [--config FILE] [--offline] [--deny-warnings] [--json]\n"
    "                         [--handler-time TIME] [--grace TIME]\n"
    "\n"
    "Says what is wrong with a config file, with the place and what to write instead; loads the handlers and checks their\n"
    "options; does the sums (drain, descriptors, memory; with --handler-time also leases); and, unless --offline, asks the\n"
    "broker (for 3 s) whether it answers and has the queues.\n"
    "\n" FW_CLI_LOAD_HELP "  --offline          do not talk to the broker\n"
    "  --handler-time TIME  what a handler takes for a message (\"200ms\"): whether leases last for a long queue\n"
    "  --grace TIME       what the platform gives a stop before it kills (Kubernetes: \"30s\")\n"
    "  --deny-warnings    a warning is an error\n"
    "  --json             for programs, on standard output\n"
    "\n"
    "Exit status, as of run: 0 fine; 78 the config cannot be used (or has warnings, with --deny-warnings); 66 nothing is\n"
    "wrong but a handler that is missing or refused; 64 usage.\n";

enum {
    OPT_OFFLINE = 1000,
    OPT_DENY,
    OPT_JSON,
    OPT_HANDLER_TIME,
    OPT_GRACE,
    OPT_HELP
};

static const struct option OPTIONS[] = {
    FW_CLI_LOAD_OPTIONS,
    {"offline", no_argument, NULL, OPT_OFFLINE},
    {"deny-warnings", no_argument, NULL, OPT_DENY},
    {"json", no_argument, NULL, OPT_JSON},
    {"handler-time", required_argument, NULL, OPT_HANDLER_TIME},
    {"grace", required_argument, NULL, OPT_GRACE},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

struct check {
    struct fw_cli_source source;
    struct fw_surroundings around;
    bool offline;
    bool deny_warnings;
    bool json;
    size_t errors;
    size_t handler_errors; /* of them */
    size_t warnings;
    size_t queues;
};

void fw_findings_add(
    struct fw_findings *findings,
    bool is_error,
    const char *file,
    unsigned line,
    const char *key,
    const char *format,
    ...)
{
    va_list args;
    va_start(args, format);
    const char *text = fw_arena_vprint(&findings->arena, format, args);
    va_end(args);
    struct fw_diagnostic *items =
        fw_arena_grow(&findings->arena, findings->items, findings->count, sizeof *items);
    if (!items) {
        return;
    }
    findings->items = items;
    findings->errors += is_error;
    items[findings->count++] = (struct fw_diagnostic){
        .is_error = is_error,
        .file = fw_arena_copy(&findings->arena, file, strlen(file)),
        .line = line,
        .key = fw_arena_copy(&findings->arena, key, strlen(key)),
        .text = text,
        .source = ""};
}

static int take_time(const char *option, int64_t *ret)
{
    char error[FW_UNIT_ERROR_SIZE];
    if (!fw_parse_duration(optarg, ret, error)) {
        return fw_cli_usage("check", "%s: %s", option, error);
    }
    return *ret > 0 ? -1 : fw_cli_usage("check", "%s must be more than nothing", option);
}

/* -1 = go on; else the exit status to end with. */
static int parse(int argc, char **argv, struct check *check)
{
    int option = 0;
    int status = -1;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while (status < 0 && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (fw_cli_source_option(&check->source, option)) {
            continue;
        }
        switch (option) {
        case OPT_OFFLINE:
            check->offline = true;
            break;
        case OPT_DENY:
            check->deny_warnings = true;
            break;
        case OPT_JSON:
            check->json = true;
            break;
        case OPT_HANDLER_TIME:
            status = take_time("--handler-time", &check->around.handler_time);
            break;
        case OPT_GRACE:
            status = take_time("--grace", &check->around.grace);
            break;
        case OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("check", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("check", option, argv);
        }
    }
    if (status < 0 && optind < argc) {
        status = fw_cli_usage(
            "check", "unexpected argument \"%s\" (a config file is given with --config)",
            argv[optind]);
    }
    return status;
}

static void look_around(struct fw_surroundings *around)
{
    struct rlimit files;
    around->memory = fw_memory_granted("");
    around->descriptors = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : UINT64_MAX;
}

static json_t *text_or_null(const char *text)
{
    json_t *json = *text ? json_string(text) : json_null();
    return json ? json : json_string("(not UTF-8)");
}

static void list(struct check *check, json_t *all, const struct fw_diagnostic *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct fw_diagnostic *d = &items[i];
        check->warnings += !d->is_error;
        if (!all) {
            fw_diagnostic_print(stderr, d);
            continue;
        }
        json_t *row = json_pack(
            "{s:s, s:o, s:i, s:i, s:o, s:o}", "severity", d->is_error ? "error" : "warning", "file",
            text_or_null(d->file), "line", (int)d->line, "column", (int)d->column, "key",
            text_or_null(d->key), "text", text_or_null(d->text));
        (void)json_array_append_new(all, row);
    }
}

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static void print_json(const struct check *check, json_t *all, bool fine, const char *broker)
{
    json_t *result = json_pack(
        "{s:b, s:I, s:I, s:I, s:s?, s:o}", "ok", fine, "errors", (json_int_t)check->errors,
        "warnings", (json_int_t)check->warnings, "queues", (json_int_t)check->queues, "broker",
        broker, "diagnostics", all);
    (void)json_dumpf(result, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(result);
}

static void print_end(const struct check *check, bool fine, const char *broker)
{
    if (!fine) {
        (void)fprintf(
            stderr, "%zu error%s, %zu warning%s\n", check->errors, plural(check->errors),
            check->warnings, plural(check->warnings));
        return;
    }
    (void)printf("config is fine: %zu queue%s, %s", check->queues, plural(check->queues), broker);
    if (check->warnings > 0) {
        (void)printf(", %zu warning%s", check->warnings, plural(check->warnings));
    }
    (void)putchar('\n');
}

/* The same as `run` would end with. */
static int status_of(const struct check *check, bool fine)
{
    bool only_handlers = check->errors > 0 && check->errors == check->handler_errors;
    return fine ? FW_EXIT_OK : only_handlers ? FW_EXIT_PLUGIN : FW_EXIT_CONFIG;
}

static int run(struct check *check)
{
    struct fw_config *config = NULL;
    struct fw_diagnostics diagnostics;
    struct fw_findings findings = {.count = 0};
    json_t *all = check->json ? json_array() : NULL;
    if (fw_cli_source_load(&check->source, &config, &diagnostics)) {
        check->queues = config->queue_count;
        fw_check_handlers(&findings, config);
        check->handler_errors = findings.errors;
        look_around(&check->around);
        fw_check_sums(&findings, config, &check->around);
        fw_check_brokers(&findings, config, !check->offline);
    }
    check->errors = diagnostics.errors + findings.errors;
    check->warnings = diagnostics.left_out;
    list(check, all, diagnostics.items, diagnostics.count);
    list(check, all, findings.items, findings.count);
    bool fine = check->errors == 0 && !(check->deny_warnings && check->warnings > 0);
    if (all) {
        print_json(check, all, fine, findings.broker_state);
    } else {
        print_end(check, fine, findings.broker_state);
    }
    int status = findings.arena.failed ? fw_cli_fail("check", FW_EXIT_INTERNAL, "out of memory")
                                       : fw_cli_finish("check", status_of(check, fine));
    fw_arena_free(&findings.arena);
    fw_diagnostics_free(&diagnostics);
    fw_config_free(config);
    return status;
}

int fw_cli_check(int argc, char **argv)
{
    struct check check = {.errors = 0};
    if (!fw_cli_source_init(&check.source, argc)) {
        return fw_cli_fail("check", FW_EXIT_INTERNAL, "out of memory");
    }
    int status = parse(argc, argv, &check);
    if (status < 0) {
        status = run(&check);
    }
    fw_cli_source_fini(&check.source);
    return status;
}
