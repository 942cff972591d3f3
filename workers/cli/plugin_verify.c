/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "cli.h"
#include "config/units.h"
#include "connect.h"
#include "pairs.h"
#include "plugin.h"
#include "readfile.h"
#include "verify/verify.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERB        "plugin verify"
#define MESSAGE_MAX ((size_t)16 << 20)
#define TIMEOUT     (5 * FILA_S)
#define LIMIT       (10 * FILA_S)
#define REST        (3 * FILA_S) /* a message's time-out must show before the step's limit */

static const char HELP[] =
    "usage: fila-worker plugin verify NAME|FILE.so [options]\n"
    "\n"
    "Reads the file, then loads it in processes of its own and runs it: init and close again and again, messages of\n"
    "all kinds (and they are handled: give options that do no harm), short deadlines, cancellation, many threads.\n"
    "Says what a worker would not like, why it matters, and what to do.\n"
    "\n"
    "  --option K=V    an option of the handler; of a list, one string each\n"
    "  --message FILE  a payload that makes sense to the handler, besides the others\n"
    "  --timeout D     of a message (default 5s)\n"
    "  --limit D       after which a step hangs (default 10s; at least 3s over --timeout)\n"
    "  --deny-warnings exit status 66 for warnings too\n"
    "  --json          one object: path, name, version, build_id, checks, findings\n"
    "\n"
    "Exit status: 0 no error was found; 66 some were; 64 usage.\n";

enum {
    OPT_OPTION = FW_OPT_FIRST_OWN,
    OPT_MESSAGE,
    OPT_TIMEOUT,
    OPT_LIMIT,
    OPT_DENY
};

static const struct option OPTIONS[] = {
    {"option", required_argument, NULL, OPT_OPTION},
    {"message", required_argument, NULL, OPT_MESSAGE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"deny-warnings", no_argument, NULL, OPT_DENY},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    {NULL, 0, NULL, 0},
};

struct request {
    struct fw_cli_pair *pairs;
    size_t pair_count;
    const char *message;
    int64_t timeout;
    int64_t limit;
    bool deny;
    bool json;
};

/* ---- The command line ---- */

static int take_duration(const char *name, int64_t *ret_value)
{
    char why[FW_UNIT_ERROR_SIZE];
    if (!fw_parse_duration(optarg, ret_value, why)) {
        return fw_cli_usage(VERB, "%s: %s", name, why);
    }
    return *ret_value > 0 ? -1 : fw_cli_usage(VERB, "%s must be over 0", name);
}

static int take(struct request *request, int option, char **argv)
{
    switch (option) {
    case OPT_OPTION:
        if (!fw_cli_pair_split(optarg, &request->pairs[request->pair_count])) {
            return fw_cli_usage(VERB, "--option \"%s\" is not KEY=VALUE", optarg);
        }
        request->pair_count++;
        return -1;
    case OPT_MESSAGE:
        request->message = optarg;
        return -1;
    case OPT_TIMEOUT:
        return take_duration("--timeout", &request->timeout);
    case OPT_LIMIT:
        return take_duration("--limit", &request->limit);
    case OPT_DENY:
        request->deny = true;
        return -1;
    case FW_OPT_JSON:
        request->json = true;
        return -1;
    case FW_OPT_HELP:
        (void)fputs(HELP, stdout);
        return fw_cli_finish(VERB, FW_EXIT_OK);
    default:
        return fw_cli_bad_option(VERB, option, argv);
    }
}

static int parse(int argc, char **argv, struct request *request)
{
    int status = -1;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    for (int option; status < 0 && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
        status = take(request, option, argv);
    }
    if (status < 0 && argc - optind != 1) {
        status = fw_cli_usage(VERB, "it takes one file");
    }
    if (request->limit < request->timeout + REST) {
        request->limit = request->timeout + REST;
    }
    return status;
}

static bool bind(
    void *user,
    const struct fw_plugin_file *file,
    struct fw_plugin **ret_plugin,
    char ret_why[FW_VERIFY_TEXT])
{
    const struct request *request = user;
    struct fw_plugin_problems problems;
    fila_status status =
        fw_cli_pairs_bind(request->pairs, request->pair_count, file, ret_plugin, &problems);
    (void)snprintf(ret_why, FW_VERIFY_TEXT, "%s", "out of memory");
    if (problems.count) {
        (void)snprintf(
            ret_why, FW_VERIFY_TEXT, "option %s: %s", problems.items[0].key,
            problems.items[0].text);
    }
    fw_plugin_problems_free(&problems);
    return status == FILA_OK;
}

/* ---- What came of it ---- */

static const char *result_name(enum fw_verify_result result)
{
    static const char *const NAMES[] = {"skipped", "ok", "warning", "failed"};
    return NAMES[result];
}

static void print_text(const struct fw_verify_report *report)
{
    if (*report->name) {
        (void)printf("%s %s: %s\n", report->name, report->version, report->path);
    } else {
        (void)printf("%s\n", report->path);
    }
    for (int i = 0; i < FW_VERIFY_CHECK_COUNT; i++) {
        (void)printf(
            "  %-9s %-8s %s\n", fw_verify_check_name((enum fw_verify_check)i),
            result_name(report->results[i]), report->notes[i]);
    }
    for (unsigned i = 0; i < report->count; i++) {
        const struct fw_verify_item *item = &report->items[i];
        const struct fw_verify_row *row = fw_verify_row(item->finding);
        (void)printf(
            "\n%s: %s (%s): %s\n  why: %s\n  do:  %s\n", row->is_error ? "error" : "warning",
            row->id, fw_verify_check_name(item->check), item->what, row->why, row->remedy);
    }
    (void)printf(
        "%s%u error%s, %u warning%s\n", report->count ? "\n" : "", report->errors,
        report->errors == 1 ? "" : "s", report->warnings, report->warnings == 1 ? "" : "s");
}

static json_t *checks_json(const struct fw_verify_report *report)
{
    json_t *checks = json_array();
    for (int i = 0; i < FW_VERIFY_CHECK_COUNT; i++) {
        (void)json_array_append_new(
            checks, json_pack(
                        "{s:s,s:s,s:s}", "check", fw_verify_check_name((enum fw_verify_check)i),
                        "result", result_name(report->results[i]), "note", report->notes[i]));
    }
    return checks;
}

static json_t *findings_json(const struct fw_verify_report *report)
{
    json_t *findings = json_array();
    for (unsigned i = 0; i < report->count; i++) {
        const struct fw_verify_item *item = &report->items[i];
        const struct fw_verify_row *row = fw_verify_row(item->finding);
        (void)json_array_append_new(
            findings,
            json_pack(
                "{s:s,s:s,s:s,s:s,s:s,s:s}", "id", row->id, "severity",
                row->is_error ? "error" : "warning", "check", fw_verify_check_name(item->check),
                "what", item->what, "why", row->why, "remedy", row->remedy));
    }
    return findings;
}

static int print_json(const struct fw_verify_report *report)
{
    json_t *all = json_pack(
        "{s:s,s:s,s:s,s:s,s:i,s:i,s:o,s:o}", "path", report->path, "name", report->name, "version",
        report->version, "build_id", report->build_id, "errors", (int)report->errors, "warnings",
        (int)report->warnings, "checks", checks_json(report), "findings", findings_json(report));
    if (!all || json_dumpf(all, stdout, JSON_COMPACT)) {
        json_decref(all);
        return fw_cli_fail(VERB, FW_EXIT_INTERNAL, "out of memory");
    }
    (void)putchar('\n');
    json_decref(all);
    return FW_EXIT_OK;
}

static int verify(struct request *request, const char *name)
{
    size_t len = 0;
    char *payload = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (request->message && !(payload = fw_cli_read_file(request->message, MESSAGE_MAX, &len))) {
        const char *why = strerrordesc_np(errno);
        return fw_cli_fail(VERB, FW_EXIT_PLUGIN, "%s: %s", request->message, why ? why : "?");
    }
    struct fw_verify_report *report = calloc(1, sizeof *report);
    const struct fw_verify_options options = {
        .name = name,
        .bind = bind,
        .user = request,
        .message = {payload, len},
        .timeout = request->timeout,
        .limit = request->limit,
    };
    int status = FW_EXIT_INTERNAL;
    if (!report || fw_verify(&options, report, &error)) {
        (void)fw_cli_fail(VERB, status, "out of memory");
    } else {
        bool bad = report->errors || (request->deny && report->warnings);
        status = FW_EXIT_OK;
        if (request->json) {
            status = print_json(report);
        } else {
            print_text(report);
        }
        status = status ? status : bad ? FW_EXIT_PLUGIN : FW_EXIT_OK;
    }
    free(report);
    free(payload);
    return status;
}

int fw_cli_plugin_verify(int argc, char **argv)
{
    struct request request = {.timeout = TIMEOUT, .limit = LIMIT};
    request.pairs = calloc((size_t)argc + 1, sizeof *request.pairs);
    if (!request.pairs) {
        return fw_cli_fail(VERB, FW_EXIT_INTERNAL, "out of memory");
    }
    int status = parse(argc, argv, &request);
    if (status < 0) {
        status = fw_cli_finish(VERB, verify(&request, argv[optind]));
    }
    free(request.pairs);
    return status;
}
