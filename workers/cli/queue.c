/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue.h"

#include "base/clock.h"
#include "cli.h"
#include "config/units.h"
#include "readfile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char HELP[] =
    "usage: fila-worker queue ls | create NAME | delete NAME | stats NAME | config ls|get|set ...   [options]\n"
    "\n"
    "  ls                        queues with their depth (waiting + in flight), in flight, consumers\n"
    "  create NAME               also makes NAME.dlq\n"
    "    --visibility-timeout D  how long a lease lasts, e.g. 5min (default 30s, at least 1s, fixed for the queue's life)\n"
    "    --on-enqueue FILE       Lua script of the queue\n"
    "    --on-failure FILE       Lua script of the queue\n"
    "  delete NAME               also deletes NAME.dlq\n"
    "  stats NAME                what the broker counts\n"
    "    --watch                 again and again: redrawn on a terminal, a line each otherwise\n"
    "    --interval D            how often (default 1s)   --count N   so often, then it ends\n"
    "  config ls [PREFIX]        the broker's settings, which queue scripts read with fila.get\n"
    "  config get KEY            exit status 1 when it is not set\n"
    "  config set KEY VALUE      an empty value removes it; throttle.NAME takes \"RATE,BURST\" a second\n"
    "  --json                    for programs\n" FW_CLI_TARGET_HELP;

enum {
    OPT_VT = FW_OPT_FIRST_OWN,
    OPT_ON_ENQUEUE,
    OPT_ON_FAILURE,
    OPT_WATCH,
    OPT_INTERVAL,
    OPT_COUNT
};

static const struct option OPTIONS[] = {
    {"visibility-timeout", required_argument, NULL, OPT_VT},
    {"on-enqueue", required_argument, NULL, OPT_ON_ENQUEUE},
    {"on-failure", required_argument, NULL, OPT_ON_FAILURE},
    {"watch", no_argument, NULL, OPT_WATCH},
    {"interval", required_argument, NULL, OPT_INTERVAL},
    {"count", required_argument, NULL, OPT_COUNT},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    FW_CLI_TARGET_OPTIONS,
    {NULL, 0, NULL, 0},
};

int fw_cli_queue_call(
    const struct queue_verb *v,
    const fila_request *request,
    fila_reply **ret_reply)
{
    char what[256];
    fila_error error = FILA_ERROR_INIT;
    if (fila_call_wait(v->client, request, ret_reply, &error) == FILA_OK) {
        return 0;
    }
    (void)snprintf(
        what, sizeof what, v->name ? "queue \"%s\"" : "%s", v->name ? v->name : "broker");
    return fw_cli_call_failed("queue", what, &error);
}

void fw_cli_queue_json(json_t *value)
{
    if (value) {
        (void)json_dumpf(value, stdout, JSON_COMPACT);
        (void)putchar('\n');
    }
    json_decref(value);
}

json_t *fw_cli_queue_text(fila_view v)
{
    json_t *value = json_stringn(v.data ? v.data : "", v.len);
    return value ? value : json_string("(not UTF-8)");
}

static int ls(struct queue_verb *v)
{
    fila_reply *reply = NULL;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    int status = fw_cli_queue_call(v, &request, &reply);
    if (status) {
        return status;
    }
    json_t *list = v->json ? json_array() : NULL;
    if (!v->json) {
        (void)printf("%-32s %10s %10s %10s\n", "QUEUE", "DEPTH", "IN FLIGHT", "CONSUMERS");
    }
    for (size_t i = 0; i < reply->as.list_queues.count; i++) {
        const fila_queue_info *q = &reply->as.list_queues.queues[i];
        if (v->json) {
            json_t *row = json_pack(
                "{s:o,s:I,s:I,s:I}", "queue", fw_cli_queue_text(q->name), "depth",
                (json_int_t)q->depth, "in_flight", (json_int_t)q->in_flight, "consumers",
                (json_int_t)q->active_consumers);
            (void)json_array_append_new(list, row);
            continue;
        }
        fw_cli_print_text(stdout, q->name);
        (void)printf(
            "%*s %10" PRIu64 " %10" PRIu64 " %10u\n",
            q->name.len < 32 ? (int)(32 - q->name.len) : 0, "", q->depth, q->in_flight,
            q->active_consumers);
    }
    fw_cli_queue_json(list);
    fila_reply_free(reply);
    return 0;
}

static int script(const char *path, char **ret_text)
{
    size_t len = 0;
    *ret_text = path ? fw_cli_read_file(path, 65536, &len) : NULL;
    if (path && !*ret_text) {
        return fw_cli_fail("queue", FW_EXIT_PLUGIN, "%s: %s", path, strerrordesc_np(errno));
    }
    return 0;
}

static int create(struct queue_verb *v)
{
    char *on_enqueue = NULL;
    char *on_failure = NULL;
    int status = script(v->on_enqueue, &on_enqueue);
    if (status == 0) {
        status = script(v->on_failure, &on_failure);
    }
    if (status == 0) {
        fila_request request = {
            .call = FILA_CALL_CREATE_QUEUE,
            .as.create_queue =
                {.name = fila_view_of(v->name),
                 .on_enqueue_script = fila_view_of(on_enqueue),
                 .on_failure_script = fila_view_of(on_failure),
                 .visibility_timeout_ms = v->visibility_timeout_ms},
        };
        status = fw_cli_queue_call(v, &request, NULL);
    }
    if (status == 0) {
        (void)(v->json ? printf("{\"created\":true}\n") : printf("created\n"));
    }
    free(on_enqueue);
    free(on_failure);
    return status;
}

static int delete (struct queue_verb *v)
{
    fila_request request = {
        .call = FILA_CALL_DELETE_QUEUE, .as.queue = {.queue = fila_view_of(v->name)}};
    int status = fw_cli_queue_call(v, &request, NULL);
    if (status == 0) {
        (void)(v->json ? printf("{\"deleted\":true}\n") : printf("deleted\n"));
    }
    return status;
}

struct sub_verb {
    const char *name;
    int (*run)(struct queue_verb *v);
    int least; /* words behind it */
    int most;
    const char *wants;
};

static const struct sub_verb VERBS[] = {
    {"ls", ls, 0, 0, "no arguments"},
    {"create", create, 1, 1, "the name of one queue"},
    {"delete", delete, 1, 1, "the name of one queue"},
    {"stats", fw_cli_queue_stats, 1, 1, "the name of one queue"},
    {"config", fw_cli_queue_config, 1, 3, "ls [PREFIX], get KEY or set KEY VALUE"},
};

static int take_duration(const char *option, const char *value, int64_t *ret_ns)
{
    char why[FW_UNIT_ERROR_SIZE];
    if (!fw_parse_duration(value, ret_ns, why)) {
        return fw_cli_usage("queue", "%s \"%s\": %s", option, value, why);
    }
    return -1;
}

static int take_interval(const char *value, int64_t *ret_ns)
{
    int status = take_duration("--interval", value, ret_ns);
    if (status < 0 && *ret_ns < 10 * FILA_MS) {
        return fw_cli_usage("queue", "--interval \"%s\": at least 10ms", value);
    }
    return status;
}

static int take_count(const char *value, uint64_t *ret_count)
{
    int64_t n = 0;
    char why[FW_UNIT_ERROR_SIZE];
    if (!fw_parse_integer(value, &n, why) || n < 1) {
        return fw_cli_usage("queue", "--count \"%s\" is no number from 1", value);
    }
    *ret_count = (uint64_t)n;
    return -1;
}

static int parse(int argc, char **argv, struct queue_verb *v)
{
    int option = 0;
    int status = -1;
    int64_t visibility = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while (status < 0 && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (fw_cli_target_option(&v->target, option)) {
            continue;
        }
        switch (option) {
        case OPT_VT:
            status = take_duration("--visibility-timeout", optarg, &visibility);
            v->visibility_timeout_ms = (uint64_t)(visibility / FILA_MS);
            break;
        case OPT_ON_ENQUEUE:
            v->on_enqueue = optarg;
            break;
        case OPT_ON_FAILURE:
            v->on_failure = optarg;
            break;
        case OPT_WATCH:
            v->watch = true;
            break;
        case OPT_INTERVAL:
            status = take_interval(optarg, &v->interval);
            break;
        case OPT_COUNT:
            status = take_count(optarg, &v->count);
            break;
        case FW_OPT_JSON:
            v->json = true;
            break;
        case FW_OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("queue", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("queue", option, argv);
        }
    }
    return status;
}

int fw_cli_queue(int argc, char **argv)
{
    struct queue_verb v = {.interval = FILA_S};
    int status = parse(argc, argv, &v);
    if (status >= 0) {
        return status;
    }
    const char *name = optind < argc ? argv[optind] : "";
    const struct sub_verb *verb = NULL;
    for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++) {
        verb = strcmp(VERBS[i].name, name) == 0 ? &VERBS[i] : verb;
    }
    if (!verb) {
        return fw_cli_usage("queue", "\"%s\" is none of: ls, create, delete, stats, config", name);
    }
    v.words = argv + optind + 1;
    v.word_count = argc - optind - 1;
    if (v.word_count < verb->least || v.word_count > verb->most) {
        return fw_cli_usage("queue", "%s takes %s", name, verb->wants);
    }
    v.name = verb->most == 1 ? v.words[0] : NULL;
    status = fw_cli_connect("queue", &v.target, &v.client);
    if (status == 0) {
        status = verb->run(&v);
        fila_client_free(v.client);
    }
    return fw_cli_finish("queue", status);
}
