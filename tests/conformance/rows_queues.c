/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Queues, dead letters and the admin calls: contract B12 to B14 and C.
 */
#include "conformance/conformance.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void expect_stats(struct world *w, const char *queue, uint64_t depth, uint64_t in_flight)
{
    fila_queue_stats now = stats(w, queue);
    expect_number("depth", (int64_t)now.depth, (int64_t)depth);
    expect_number("in_flight", (int64_t)now.in_flight, (int64_t)in_flight);
}

static void expect_enqueue(struct world *w, const char *queue, int code)
{
    fila_request request = {
        .call = FILA_CALL_ENQUEUE, .as.enqueue.queue = fila_view_of(queue ? queue : w->q)};
    expect_answer(w, &request, code, NULL);
}

/* The code of GetStats, which tells whether the queue is there. */
static void expect_queue(struct world *w, const char *queue, int code)
{
    fila_request request = {.call = FILA_CALL_GET_STATS, .as.queue.queue = fila_view_of(queue)};
    expect_answer(w, &request, code, NULL);
}

/* ---- B12: deletion ---- */

static void zombies(struct world *w)
{
    char ids[3][FILA_ID_SIZE];
    char again[FILA_ID_SIZE];
    create(w, NULL, 1000);
    fila_consumer *stream = open_stream(w, NULL);
    static const char *const payloads[] = {"acked", "nacked", "left"};
    for (int i = 0; i < 3; i++) {
        enqueue(w, NULL, payloads[i], NULL);
        expect_next(stream, payloads[i], 0, ids[i]);
    }
    delete_queue(w, NULL);
    expect_ack(w, NULL, fila_view_of(ids[0]), 0);
    expect_nack(w, NULL, fila_view_of(ids[1]), 0);
    expect_next(stream, "nacked", 1, again); /* of a queue that does not exist */
    expect_next(stream, "left", 1, again);   /* after its timeout */
    expect_enqueue(w, NULL, 5);
    create(w, NULL, 1000);
    expect_stats(w, NULL, 2, 2);
}

static void resurrection(struct world *w)
{
    create(w, NULL, 0);
    enqueue(w, NULL, "1", NULL);
    enqueue(w, NULL, "2", NULL);
    enqueue(w, NULL, "3", NULL);
    delete_queue(w, NULL);
    create(w, NULL, 0);
    expect_stats(w, NULL, 0, 0);
    process_signal(w, SIGTERM);
    expect_number("exit status", process_wait(w, SOON), 0);
    process_restart(w);
    fila_client_free(w->client);
    w->client = world_client(w, NULL, 0);
    expect_stats(w, NULL, 3, 0);
}

/* ---- B13: dead letters ---- */

static void auto_dlq(struct world *w)
{
    create(w, NULL, 0);
    expect_queue(w, named(w, ".dlq"), 0);
    expect_queue(w, named(w, ".dlq.dlq"), 5);
    delete_queue(w, NULL);
    expect_queue(w, named(w, ".dlq"), 5);
}

static void direct_dlq(struct world *w)
{
    create(w, named(w, ".dlq"), 0);
    expect_queue(w, named(w, ".dlq.dlq"), 5);
    enqueue(w, named(w, ".dlq"), "kept", NULL);
    create(w, NULL, 0);
    expect_stats(w, named(w, ".dlq"), 1, 0);
}

static void dead_letter_by_hand(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, 0);
    const char *dlq = named(w, ".dlq");
    fila_consumer *stream = open_stream(w, dlq);
    enqueue(w, dlq, "dead", id);
    fila_message *message = next(stream);
    expect_view("queue_id", fila_message_queue(message), dlq);
    expect_view("id", fila_message_id(message), id);
    expect_number("attempt_count", fila_message_attempt_count(message), 0);
    expect_view("fairness_key", fila_message_fairness_key(message), "default");
    fila_message_free(message);
    expect_ack(w, NULL, fila_view_of(id), 5); /* with the parent's name */
    expect_nack(w, dlq, fila_view_of(id), 0);
    expect_next(stream, "dead", 1, NULL);
    close_stream(w, stream);
    while (stats(w, dlq).active_consumers) {
        rest(10);
    }
    expect_nack(w, dlq, fila_view_of(id), 0);
    expect_number("redriven", (int64_t)redrive(w, dlq, 0), 1);
    expect_next(open_stream(w, NULL), "dead", 0, NULL);
}

static void deleted_dlq(struct world *w)
{
    create(w, NULL, 0);
    const char *dlq = named(w, ".dlq");
    delete_queue(w, dlq);
    expect_enqueue(w, dlq, 5);
    create(w, dlq, 0);
    enqueue(w, dlq, "x", NULL);
    expect_number("redriven", (int64_t)redrive(w, dlq, 0), 1);
    expect_stats(w, NULL, 1, 0);
}

/* ---- B14: redrive ---- */

static void redrive_some(struct world *w)
{
    char payload[16];
    create(w, NULL, 0);
    const char *dlq = named(w, ".dlq");
    for (int i = 0; i < 5; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        enqueue(w, dlq, payload, NULL);
    }
    expect_number("redriven", (int64_t)redrive(w, dlq, 2), 2);
    expect_stats(w, dlq, 3, 0);
    expect_number("redriven", (int64_t)redrive(w, dlq, 0), 3);
    expect_number("redriven of none", (int64_t)redrive(w, dlq, 0), 0);
    fila_consumer *stream = open_stream(w, NULL);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        expect_next(stream, payload, 0, NULL);
    }
}

static void redrive_skips_leased(struct world *w)
{
    create(w, NULL, 0);
    const char *dlq = named(w, ".dlq");
    enqueue(w, dlq, "leased", NULL);
    expect_next(open_stream(w, dlq), "leased", 0, NULL);
    expect_number("redriven", (int64_t)redrive(w, dlq, 0), 0);
    expect_stats(w, dlq, 1, 1);
}

static void redrive_resets(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, 0);
    const char *dlq = named(w, ".dlq");
    enqueue(w, dlq, "x", NULL);
    fila_consumer *stream = open_stream(w, dlq);
    expect_next(stream, "x", 0, id);
    expect_nack(w, dlq, fila_view_of(id), 0);
    expect_next(stream, "x", 1, id);
    close_stream(w, stream);
    while (stats(w, dlq).active_consumers) {
        rest(10);
    }
    expect_nack(w, dlq, fila_view_of(id), 0);
    stream = open_stream(w, NULL);
    expect_number("redriven", (int64_t)redrive(w, dlq, 0), 1);
    expect_next(stream, "x", 0, id);
}

/* ---- C ---- */

static void queue_id_is_the_name(struct world *w)
{
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE, .as.create_queue.name = fila_view_of(w->q)};
    struct answer answer = ask(w, &request);
    expect_number("CreateQueue", answer.code, 0);
    expect_view("queue_id", answer.reply->as.create_queue.queue_id, w->q);
    answer_free(&answer);
}

static void expect_setting(struct world *w, const char *key, const char *value)
{
    struct answer answer =
        ask(w, &(fila_request){.call = FILA_CALL_GET_CONFIG, .as.config.key = fila_view_of(key)});
    expect_number("GetConfig", answer.code, 0);
    expect_view(key, answer.reply->as.get_config.value, value);
    answer_free(&answer);
}

static struct answer list_config(struct world *w, const char *prefix)
{
    struct answer answer = ask(
        w, &(fila_request){.call = FILA_CALL_LIST_CONFIG, .as.config.key = fila_view_of(prefix)});
    expect_number("ListConfig", answer.code, 0);
    return answer;
}

static void settings(struct world *w)
{
    set_config(w, "row.any key/\xc3\xa9", "1");
    expect_setting(w, "row.any key/\xc3\xa9", "1");
    set_config(w, "row.any key/\xc3\xa9", "2");
    expect_setting(w, "row.any key/\xc3\xa9", "2");
    set_config(w, "row.any key/\xc3\xa9", "");
    expect_setting(w, "row.any key/\xc3\xa9", "");
    struct answer answer = list_config(w, "row.any");
    expect_number("entries after the deletion", (int64_t)answer.reply->as.list_config.count, 0);
    answer_free(&answer);
}

/* The bucket of that name in the statistics, which are those of all queues. */
static fila_throttle_stats bucket(struct world *w, const char *name)
{
    struct answer answer =
        ask(w, &(fila_request){.call = FILA_CALL_GET_STATS, .as.queue.queue = fila_view_of(w->q)});
    fila_throttle_stats found = {.burst = -1};
    expect_number("GetStats", answer.code, 0);
    for (size_t i = 0; i < answer.reply->as.stats.throttle_count; i++) {
        const fila_throttle_stats *at = &answer.reply->as.stats.throttles[i];
        if (at->key.len == strlen(name) && !memcmp(at->key.data, name, at->key.len)) {
            found = *at;
        }
    }
    answer_free(&answer);
    return found;
}

static void expect_bucket(struct world *w, double rate, double burst, double tokens)
{
    fila_throttle_stats now = bucket(w, "row");
    char expected[100];
    if (now.rate_per_second != rate || now.burst != burst || now.tokens != tokens) {
        (void)snprintf(
            expected, sizeof expected, "rate %g, burst %g, tokens %g", rate, burst, tokens);
        differs(
            expected, "rate %g, burst %g, tokens %g", now.rate_per_second, now.burst, now.tokens);
    }
}

static void throttle(struct world *w)
{
    create(w, NULL, 0);
    set_config(w, "throttle.row", " 0 , 5 ");
    expect_bucket(w, 0, 5, 5); /* full at first */
    set_config(w, "throttle.row", "0,3");
    expect_bucket(w, 0, 3, 3); /* clamped */
    set_config(w, "throttle.row", "0,10");
    expect_bucket(w, 0, 10, 3); /* and preserved */
    set_config(w, "throttle.row", "");
    expect_number("a bucket after the deletion", bucket(w, "row").burst >= 0, 0);
}

/* No bucket comes of it, whatever it says. */
static void colons(struct world *w)
{
    create(w, NULL, 0);
    set_config(w, "throttle:row:rate", "many");
    expect_number("buckets of the name", bucket(w, "row:rate").burst >= 0, 0);
    set_config(w, "throttle:row:rate", "");
}

static void config_order(struct world *w)
{
    static const char *const given[] = {"list.b", "list.a",   "list.\xc3\xa9",
                                        "list.B", "list.a.b", "list"};
    static const char *const wanted[] = {"list.B", "list.a", "list.a.b", "list.b", "list.\xc3\xa9"};
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        set_config(w, given[i], "v");
    }
    struct answer answer = list_config(w, "list.");
    expect_number("entries", (int64_t)answer.reply->as.list_config.count, 5);
    expect_number("total_count", answer.reply->as.list_config.total_count, 5);
    for (size_t i = 0; i < 5; i++) {
        expect_view("the next key", answer.reply->as.list_config.entries[i].key, wanted[i]);
    }
    answer_free(&answer);
}

static _Atomic int settings_done;
static _Atomic int settings_failed;

static void on_set(void *user, const fila_reply *reply, const fila_error *error)
{
    (void)user;
    (void)reply;
    settings_failed += error != NULL;
    settings_done++;
}

static void config_most(struct world *w)
{
    enum {
        ENTRIES = 10005,
        AT_ONCE = 1000 /* a broker whose disk is slow holds so many answers, and refuses what is
                          over its bound */
    };

    char key[32];
    for (int i = 0; i < ENTRIES; i++) {
        while (i - settings_done >= AT_ONCE) {
            rest(1);
        }
        (void)snprintf(key, sizeof key, "most.%05d", i);
        fila_request request = {
            .call = FILA_CALL_SET_CONFIG,
            .timeout_ms = 4 * SOON,
            .as.config = {fila_view_of(key), VIEW("v")}};
        fila_error error;
        if (fila_call_start(w->client, &request, on_set, NULL, &error)) {
            differs("a started SetConfig", "%s", error.text);
        }
    }
    while (settings_done < ENTRIES) {
        rest(10);
    }
    expect_number("failed SetConfigs", settings_failed, 0);
    struct answer answer = list_config(w, "most.");
    expect_number("entries", (int64_t)answer.reply->as.list_config.count, 10000);
    expect_number("total_count", answer.reply->as.list_config.total_count, 10000);
    answer_free(&answer);
}

static void depth_counts_both(struct world *w)
{
    create(w, NULL, 0);
    for (int i = 0; i < 5; i++) {
        enqueue(w, NULL, "x", NULL);
    }
    struct answer answer =
        ask(w, &(fila_request){.call = FILA_CALL_GET_STATS, .as.queue.queue = fila_view_of(w->q)});
    const fila_queue_stats *now = &answer.reply->as.stats;
    expect_number("depth", (int64_t)now->depth, 5);
    expect_number("in_flight", (int64_t)now->in_flight, 0);
    expect_number("active_fairness_keys", (int64_t)now->active_fairness_keys, 1);
    expect_number("per-key entries", (int64_t)now->key_count, 1);
    expect_view("the key", now->keys[0].key, "default");
    expect_number("pending_count", (int64_t)now->keys[0].pending_count, 5);
    expect_number("weight", now->keys[0].weight, 1);
    expect_number("quantum", now->quantum, 7);
    expect_number("leader_node_id", (int64_t)now->leader_node_id, 0);
    expect_number("replication_count", now->replication_count, 0);
    answer_free(&answer);
    fila_consumer *stream = open_stream(w, NULL);
    for (int i = 0; i < 5; i++) {
        fila_message_free(next(stream));
    }
    expect_stats(w, NULL, 5, 5);
    expect_number("active_consumers", stats(w, NULL).active_consumers, 1);
    expect_number("active_fairness_keys", (int64_t)stats(w, NULL).active_fairness_keys, 0);
}

static void queues_in_byte_order(struct world *w)
{
    static const char *const wanted[] = {"B",     "B.dlq",    "a",           "a.dlq",
                                         "b.dlq", "\xc3\xa9", "\xc3\xa9.dlq"};
    create(w, "a", 0);
    create(w, "\xc3\xa9", 0);
    create(w, "B", 0);
    create(w, "b.dlq", 0);
    enqueue(w, "a", "x", NULL);
    struct answer answer = ask(w, &(fila_request){.call = FILA_CALL_LIST_QUEUES});
    expect_number("ListQueues", answer.code, 0);
    expect_number("queues", (int64_t)answer.reply->as.list_queues.count, 7);
    for (size_t i = 0; i < 7; i++) {
        expect_view("the next queue", answer.reply->as.list_queues.queues[i].name, wanted[i]);
    }
    expect_number("depth of a", (int64_t)answer.reply->as.list_queues.queues[2].depth, 1);
    expect_number("cluster_node_count", answer.reply->as.list_queues.cluster_node_count, 0);
    answer_free(&answer);
}

#define UNSEEN(ID, WHY)         \
    {                           \
        .id = ID, .unseen = WHY \
    }

static const struct row ROWS[] = {
    {.id = "B12.zombies",
     .what = "leases of a deleted queue live on, and are delivered again",
     .run = zombies,
     .flags = ROW_OWN},
    {.id = "B12.restart",
     .what = "what was deleted with its queue is back after re-create and restart",
     .run = resurrection,
     .flags = ROW_PROCESS | ROW_DATA},
    {.id = "B13.auto", .what = "a queue comes and goes with its DLQ", .run = auto_dlq},
    {.id = "B13.direct", .what = "a DLQ made directly is plain, and is kept", .run = direct_dlq},
    {.id = "B13.by-hand",
     .what = "a worker may publish to a DLQ; it settles with the DLQ's name",
     .run = dead_letter_by_hand},
    {.id = "B13.deleted", .what = "without its DLQ 5; a new one works again", .run = deleted_dlq},
    {.id = "B14.count", .what = "up to the count, in order", .run = redrive_some},
    {.id = "B14.leased", .what = "skips what is leased", .run = redrive_skips_leased},
    {.id = "B14.reset", .what = "resets attempts, delivers at once", .run = redrive_resets},
    {.id = "C.create.id", .what = "queue_id is the name", .run = queue_id_is_the_name},
    {.id = "C.create.dlq", .see = "A2.CreateQueue.auto-dlq"},
    {.id = "C.config.settings", .what = "any key; an empty value deletes", .run = settings},
    {.id = "C.config.throttle",
     .what = "applied at once; tokens preserved and clamped",
     .run = throttle},
    {.id = "C.config.colon", .what = "throttle:api:rate is a key as any", .run = colons},
    {.id = "C.list.order", .what = "byte order, by prefix", .run = config_order},
    {.id = "C.list.most", .what = "at most 10,000 entries", .run = config_most, .flags = ROW_OWN},
    UNSEEN("C.list.keys", "API keys among the settings: with API keys"),
    {.id = "C.stats.queue",
     .what = "depth is pending + in flight; keys; quantum",
     .run = depth_counts_both,
     .wishes = {.quantum = 7}},
    {.id = "C.stats.list",
     .what = "queues in byte order, DLQs included",
     .run = queues_in_byte_order,
     .flags = ROW_OWN},
    UNSEEN("C.cluster", "a single node"),
};

const struct rows ROWS_QUEUES = {ROWS, sizeof ROWS / sizeof ROWS[0]};
