/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "config/units.h"
#include "connect.h"
#include "readfile.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char HELP[] =
    "usage: fila-worker queue ls | create NAME | delete NAME | stats NAME   [options]\n"
    "\n"
    "  ls                        queues with their depth (waiting + in flight), in flight, consumers\n"
    "  create NAME               also makes NAME.dlq\n"
    "    --visibility-timeout D  how long a lease lasts, e.g. 5min (default 30s, at least 1s, fixed for the queue's life)\n"
    "    --on-enqueue FILE       Lua script of the queue\n"
    "    --on-failure FILE       Lua script of the queue\n"
    "  delete NAME               also deletes NAME.dlq\n"
    "  stats NAME                what the broker counts\n"
    "  --json                    for programs\n" FW_CLI_TARGET_HELP;

enum {
    OPT_VT = FW_OPT_FIRST_OWN,
    OPT_ON_ENQUEUE,
    OPT_ON_FAILURE
};

static const struct option OPTIONS[] = {
    {"visibility-timeout", required_argument, NULL, OPT_VT},
    {"on-enqueue", required_argument, NULL, OPT_ON_ENQUEUE},
    {"on-failure", required_argument, NULL, OPT_ON_FAILURE},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    FW_CLI_TARGET_OPTIONS,
    {NULL, 0, NULL, 0},
};

struct queue_verb {
    struct fw_cli_target target;
    fila_client *client;
    const char *name;
    bool json;
    uint64_t visibility_timeout_ms;
    const char *on_enqueue;
    const char *on_failure;
};

static int call(const struct queue_verb *v, const fila_request *request, fila_reply **ret_reply)
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

static void print_json(json_t *value)
{
    if (value) {
        (void)json_dumpf(value, stdout, JSON_COMPACT);
        (void)putchar('\n');
    }
    json_decref(value);
}

static json_t *text(fila_view v)
{
    json_t *value = json_stringn(v.data ? v.data : "", v.len);
    return value ? value : json_string("(not UTF-8)");
}

static int ls(struct queue_verb *v)
{
    fila_reply *reply = NULL;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    int status = call(v, &request, &reply);
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
                "{s:o,s:I,s:I,s:I}", "queue", text(q->name), "depth", (json_int_t)q->depth,
                "in_flight", (json_int_t)q->in_flight, "consumers",
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
    print_json(list);
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
        status = call(v, &request, NULL);
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
    int status = call(v, &request, NULL);
    if (status == 0) {
        (void)(v->json ? printf("{\"deleted\":true}\n") : printf("deleted\n"));
    }
    return status;
}

static void stats_json(const fila_queue_stats *s)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < s->key_count; i++) {
        const fila_key_stats *k = &s->keys[i];
        json_t *row = json_pack(
            "{s:o,s:I,s:I,s:I}", "key", text(k->key), "pending", (json_int_t)k->pending_count,
            "deficit", (json_int_t)k->current_deficit, "weight", (json_int_t)k->weight);
        (void)json_array_append_new(keys, row);
    }
    print_json(json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:o}", "depth", (json_int_t)s->depth, "in_flight",
        (json_int_t)s->in_flight, "consumers", (json_int_t)s->active_consumers, "fairness_keys",
        (json_int_t)s->active_fairness_keys, "quantum", (json_int_t)s->quantum, "keys", keys));
}

static int stats(struct queue_verb *v)
{
    fila_reply *reply = NULL;
    fila_request request = {
        .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(v->name)}};
    int status = call(v, &request, &reply);
    if (status) {
        return status;
    }
    const fila_queue_stats *s = &reply->as.stats;
    if (v->json) {
        stats_json(s);
    } else {
        (void)printf("depth          %" PRIu64 " (waiting + in flight)\n", s->depth);
        (void)printf("in flight      %" PRIu64 "\n", s->in_flight);
        (void)printf("consumers      %u\n", s->active_consumers);
        (void)printf("fairness keys  %" PRIu64 "\n", s->active_fairness_keys);
        for (size_t i = 0; i < s->key_count; i++) {
            (void)printf("  ");
            fw_cli_print_text(stdout, s->keys[i].key);
            (void)printf(
                ": %" PRIu64 " waiting, weight %u\n", s->keys[i].pending_count, s->keys[i].weight);
        }
    }
    fila_reply_free(reply);
    return 0;
}

struct sub_verb {
    const char *name;
    int (*run)(struct queue_verb *v);
    bool wants_name;
};

static const struct sub_verb VERBS[] = {
    {"ls", ls, false},
    {"create", create, true},
    {"delete", delete, true},
    {"stats", stats, true},
};

static int take_duration(const char *value, uint64_t *ret_ms)
{
    int64_t ns = 0;
    char why[FW_UNIT_ERROR_SIZE];
    if (!fw_parse_duration(value, &ns, why)) {
        return fw_cli_usage("queue", "--visibility-timeout \"%s\": %s", value, why);
    }
    *ret_ms = (uint64_t)ns / 1000000u;
    return -1;
}

static int parse(int argc, char **argv, struct queue_verb *v)
{
    int option = 0;
    int status = -1;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while (status < 0 && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (fw_cli_target_option(&v->target, option)) {
            continue;
        }
        switch (option) {
        case OPT_VT:
            status = take_duration(optarg, &v->visibility_timeout_ms);
            break;
        case OPT_ON_ENQUEUE:
            v->on_enqueue = optarg;
            break;
        case OPT_ON_FAILURE:
            v->on_failure = optarg;
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
    struct queue_verb v = {0};
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
        return fw_cli_usage("queue", "\"%s\" is none of: ls, create, delete, stats", name);
    }
    if (argc - optind != (verb->wants_name ? 2 : 1)) {
        return fw_cli_usage(
            "queue", "%s takes %s", name,
            verb->wants_name ? "the name of one queue" : "no arguments");
    }
    v.name = verb->wants_name ? argv[optind + 1] : NULL;
    status = fw_cli_connect("queue", &v.target, &v.client);
    if (status == 0) {
        status = verb->run(&v);
        fila_client_free(v.client);
    }
    return fw_cli_finish("queue", status);
}
