/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_status.h"

#include "base/clock.h"
#include "plugin/counters.h"
#include "plugin/loader.h"
#include "queue_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    LEAST_HELD = 10, /* listed of each queue, however many queues there are */
    ID_SIZE = 128,
    NAME_SIZE = 256
};

static_assert((int)FW_CHILD_CAUSES == (int)FW_CHILD_END_COUNT, "one list of causes");

/* ---- Those that are gone ---- */

struct fw_gone {
    struct fw_gone *next;
    struct fw_delivery_stats stats;
    struct fw_queue_counters counters;
    char *queue;
    char *handler;
};

static struct fw_gone *gone_of(struct fw_gone **list, const struct fw_queue_config *config)
{
    for (struct fw_gone *g = *list; g; g = g->next) {
        if (strcmp(g->queue, config->queue) == 0 &&
            strcmp(g->handler, config->handler_plugin) == 0) {
            return g;
        }
    }
    struct fw_gone *g = calloc(1, sizeof *g);
    char *queue = strdup(config->queue);
    char *handler = strdup(config->handler_plugin);
    if (!g || !queue || !handler) {
        free(g);
        free(queue);
        free(handler);
        return NULL;
    }
    *g = (struct fw_gone){.next = *list, .queue = queue, .handler = handler};
    *list = g;
    return g;
}

void fw_gone_add(struct fw_gone **list, const struct fw_queue *q)
{
    struct fw_delivery_stats stats = fw_queue_stats(q);
    struct fw_gone *g = gone_of(list, q->config);
    if (!g) {
        FW_LOG(
            FW_EVENT_INTERNAL, "no memory for the counters of a queue that was removed",
            fw_str("queue", q->config->queue));
        return;
    }
    g->stats.received += stats.received;
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        g->stats.finished[i] += stats.finished[i];
    }
    for (int i = 0; i < FW_CAUSE_COUNT; i++) {
        g->stats.failures[i] += stats.failures[i];
    }
    fw_queue_counters_add(&g->counters, &q->record.counters);
}

void fw_gone_free(struct fw_gone *list)
{
    while (list) {
        struct fw_gone *next = list->next;
        free(list->queue);
        free(list->handler);
        free(list);
        list = next;
    }
}

static const char *text(struct fw_snapshot *s, const char *value, size_t limit)
{
    return fw_snapshot_text(s, fila_view_of(value), limit);
}

static void describe_gone(
    struct fw_snapshot *s,
    const struct fw_gone *g,
    struct fw_queue_status *ret)
{
    ret->gone = true;
    ret->queue = text(s, g->queue, NAME_SIZE);
    ret->handler = text(s, g->handler, NAME_SIZE);
    ret->handler_name = "";
    ret->handler_version = "";
    ret->handler_build_id = "";
    ret->stats = g->stats;
    ret->counters = g->counters;
    for (int t = 0; t < FW_TROUBLE_COUNT; t++) {
        ret->troubles[t].text = "";
    }
}

/* ---- Troubles ---- */

static void trouble(
    struct fw_queue_status *ret,
    enum fw_trouble which,
    int64_t since,
    const char *why)
{
    ret->troubles[which] = (struct fw_trouble_state){since, why};
}

static const char *end_text(struct fw_snapshot *s, const struct fw_queue *q)
{
    for (uint32_t i = 0; i < q->stream_count; i++) {
        const struct fw_stream_slot *slot = &q->streams[i];
        if (!slot->stream && slot->end.code != FILA_OK) {
            return fw_arena_print(
                &s->memory, "%s: %s", fila_status_name(slot->end.code),
                text(s, slot->end.text, FW_SNAPSHOT_TEXT));
        }
    }
    return "not open yet";
}

/* Streams that the engine has closed itself are no trouble of their own. */
static void stream_trouble(struct fw_snapshot *s, struct fw_queue *q, struct fw_queue_status *ret)
{
    bool wanted = !ret->look.withdrawn && !ret->look.breaker_since && !ret->stats.draining;
    if (ret->stats.streams_up >= q->config->streams) {
        q->record.down_since = 0;
    } else if (wanted) {
        q->record.down_since = q->record.down_since ? q->record.down_since : s->now;
        trouble(ret, FW_TROUBLE_STREAM_DOWN, q->record.down_since, end_text(s, q));
    }
}

static void missing_trouble(
    const struct fw_snapshot *s,
    const struct fw_queue *q,
    struct fw_queue_status *ret)
{
    int64_t since = q->record.missing_since;
    if (q->watch.exists == FW_EXISTS_NO && !ret->stats.draining) {
        trouble(
            ret, FW_TROUBLE_QUEUE_MISSING, since ? since : s->now, "the broker has no such queue");
    }
}

static void lease_troubles(struct fw_snapshot *s, struct fw_queue *q, struct fw_queue_status *ret)
{
    struct fw_record *r = &q->record;
    if (ret->look.visibility_timeout < q->config->visibility_timeout) {
        trouble(
            ret, FW_TROUBLE_VT_SHORT, r->vt_short_since ? r->vt_short_since : s->now,
            fw_arena_print(
                &s->memory,
                "configured %" PRId64 " ms, leases were seen to end after %" PRId64 " ms",
                q->config->visibility_timeout / FILA_MS, ret->look.visibility_timeout / FILA_MS));
    } else {
        r->vt_short_since = 0;
    }
    if (ret->look.overleased) {
        trouble(
            ret, FW_TROUBLE_OVERLEASED, r->overleased_since ? r->overleased_since : s->now,
            fw_arena_print(
                &s->memory, "a visibility timeout of %" PRId64 " ms would end it",
                r->overleased_vt / FILA_MS));
    }
}

/* Over when one is confirmed, or when none was refused for as long as it takes to try again. */
static void dlq_trouble(struct fw_snapshot *s, struct fw_queue *q, struct fw_queue_status *ret)
{
    struct fw_record *r = &q->record;
    if (r->dlq_since &&
        s->now - r->dlq_last > 2 * (q->config->retry_max + q->config->visibility_timeout)) {
        r->dlq_since = 0;
    }
    if (r->dlq_since) {
        trouble(
            ret, FW_TROUBLE_DLQ_REFUSED, r->dlq_since,
            fw_arena_print(
                &s->memory, "%s: %s", text(s, q->config->dead_letter_queue, NAME_SIZE),
                text(s, r->dlq_text, FW_SNAPSHOT_TEXT)));
    }
}

/* Over with a success, or when none has failed for as long as it takes to try again. */
static void failing_trouble(struct fw_snapshot *s, struct fw_queue *q, struct fw_queue_status *ret)
{
    struct fw_record *r = &q->record;
    if (s->now - r->failing_last > 2 * (q->config->retry_max + q->config->visibility_timeout)) {
        r->failed_in_row = 0;
    }
    if (r->failed_in_row >= FW_FAILING_TRIES) {
        trouble(
            ret, FW_TROUBLE_FAILING, r->failing_since,
            fw_arena_print(
                &s->memory, "the last %" PRIu32 " tries failed: %s", r->failed_in_row,
                text(s, r->failing, FW_SNAPSHOT_TEXT)));
    }
}

static void troubles(struct fw_snapshot *s, struct fw_queue *q, struct fw_queue_status *ret)
{
    struct fw_record *r = &q->record;
    for (int t = 0; t < FW_TROUBLE_COUNT; t++) {
        ret->troubles[t].text = "";
    }
    stream_trouble(s, q, ret);
    missing_trouble(s, q, ret);
    lease_troubles(s, q, ret);
    dlq_trouble(s, q, ret);
    failing_trouble(s, q, ret);
    if (ret->look.breaker_since) {
        trouble(
            ret, FW_TROUBLE_BREAKER_OPEN, ret->look.breaker_since,
            text(s, r->unavailable, FW_SNAPSHOT_TEXT));
    }
    r->stuck_since = !ret->stuck ? 0 : r->stuck_since ? r->stuck_since : s->now;
    if (ret->stuck) {
        trouble(
            ret, FW_TROUBLE_STUCK, r->stuck_since,
            fw_arena_print(
                &s->memory, "%" PRIu32 " did not return; stuck_limit is %" PRIu32, ret->stuck,
                ret->stuck_limit));
    }
    r->given_up_since = !ret->given_up ? 0 : r->given_up_since ? r->given_up_since : s->now;
    if (ret->given_up) {
        trouble(ret, FW_TROUBLE_GIVEN_UP, r->given_up_since, ret->given_up);
    } else if (ret->look.paused_since) {
        trouble(ret, FW_TROUBLE_PAUSED, ret->look.paused_since, "by an operator");
    }
}

/* ---- Lists ---- */

static void streams(struct fw_snapshot *s, const struct fw_queue *q, struct fw_queue_status *ret)
{
    ret->stream_list = fw_arena_alloc(&s->memory, q->stream_count, sizeof *ret->stream_list);
    for (uint32_t i = 0; ret->stream_list && i < q->stream_count; i++) {
        const struct fw_stream_slot *slot = &q->streams[i];
        struct fw_stream_status *one = &ret->stream_list[i];
        bool ended = slot->end.code != FILA_OK || slot->end.text[0];
        one->up = slot->stream && slot->was_open;
        one->opens = slot->opens;
        one->code = ended ? fila_status_name(slot->end.code) : "";
        one->error = ended ? text(s, slot->end.text, FW_SNAPSHOT_TEXT) : "";
    }
}

static void held(
    struct fw_snapshot *s,
    const struct fw_queue *q,
    struct fw_queue_status *ret,
    uint32_t limit)
{
    uint32_t wanted = ret->stats.held < limit ? ret->stats.held : limit;
    struct fw_held_look *found = fw_arena_alloc(&s->memory, wanted + 1, sizeof *found);
    ret->held_list = fw_arena_alloc(&s->memory, wanted + 1, sizeof *ret->held_list);
    if (!found || !ret->held_list) {
        return;
    }
    ret->held_count = fw_delivery_held(q->engine, found, wanted);
    for (uint32_t i = 0; i < ret->held_count; i++) {
        const struct fw_item *item = found[i].user;
        fila_view id = fila_message_id(item->message);
        ret->held_list[i] = (struct fw_held_status){
            .id = fw_snapshot_text(s, id, ID_SIZE),
            .phase = found[i].phase,
            .tries = found[i].tries,
            .attempt_count = found[i].attempt_count,
            .size = found[i].size,
            .read_at = found[i].read_at,
            .run_at = item->run_at,
            .lease_end = found[i].lease_end,
            .due = found[i].due,
            .enqueued_ms = fw_id_time_ms(id),
        };
    }
}

static void recent(struct fw_snapshot *s, const struct fw_queue *q, struct fw_queue_status *ret)
{
    const struct fw_record *r = &q->record;
    ret->recent_list = fw_arena_alloc(&s->memory, r->recent_count + 1, sizeof *ret->recent_list);
    ret->recent_count = ret->recent_list ? r->recent_count : 0;
    for (uint32_t i = 0; i < ret->recent_count; i++) {
        const struct fw_recent *one = &r->recent[(r->recent_next + FW_RECENT - 1 - i) % FW_RECENT];
        ret->recent_list[i] = (struct fw_recent_status){
            .event = one->event,
            .wall_ms = one->wall_ms,
            .id = fw_snapshot_text(s, (fila_view){one->id, one->id_len}, ID_SIZE),
            .attempt = one->attempt,
            .cause = fw_cause_name(one->cause),
            .text = fw_snapshot_text(s, (fila_view){one->text, one->text_len}, FW_SNAPSHOT_TEXT),
        };
    }
}

/* ---- A queue ---- */

static void describe_plugin(
    struct fw_snapshot *s,
    const struct fw_queue *q,
    struct fw_queue_status *ret)
{
    if (!q->plugin) {
        return; /* describe_children */
    }
    const fila_plugin *table = &q->plugin->table;
    ret->handler_name = text(s, table->name ? table->name : "", NAME_SIZE);
    ret->handler_version = text(s, table->version ? table->version : "", NAME_SIZE);
    ret->handler_build_id = text(s, q->build_id, sizeof q->build_id);
}

static void describe_children(
    struct fw_snapshot *s,
    struct fw_queue *q,
    struct fw_queue_status *ret)
{
    struct fw_executor_state state;
    fw_executor_get_state(q->executor, &state);
    ret->stuck = state.stuck;
    ret->has_children = q->config->isolation == FW_ISOLATION_PROCESS;
    if (!ret->has_children) {
        return;
    }
    ret->handler_name = text(s, state.handler_name, NAME_SIZE);
    ret->handler_version = text(s, state.handler_version, NAME_SIZE);
    ret->handler_build_id = text(s, state.build_id, NAME_SIZE);
    ret->children[0] = (struct fw_handler_counter){"starting", state.children_starting};
    ret->children[1] = (struct fw_handler_counter){"idle", state.children_idle};
    ret->children[2] = (struct fw_handler_counter){"busy", state.children_busy};
    ret->children[3] = (struct fw_handler_counter){"ending", state.children_ending};
    for (int i = 0; i < FW_CHILD_END_COUNT; i++) {
        ret->child_exits[i].name = fw_child_end_name((enum fw_child_end)i);
        ret->child_exits[i].value = state.child_ends[i];
    }
    ret->given_up = state.stopped ? text(s, state.reason, FW_SNAPSHOT_TEXT) : NULL;
}

/* Where the plugin's counters go: room for all that it may have. */
struct counter_list {
    struct fw_snapshot *snapshot;
    struct fw_queue_status *queue;
};

static void add_counter(void *user, const char *name, uint64_t value)
{
    struct counter_list *list = user;
    struct fw_queue_status *q = list->queue;
    if (!q->handler_counters) { /* most handlers have none */
        q->handler_counters =
            fw_arena_alloc(&list->snapshot->memory, FILA_COUNTERS_MAX, sizeof *q->handler_counters);
    }
    if (q->handler_counters && q->handler_counter_count < FILA_COUNTERS_MAX) {
        q->handler_counters[q->handler_counter_count++] =
            (struct fw_handler_counter){text(list->snapshot, name, NAME_SIZE), value};
    }
}

static void describe_counters(
    struct fw_snapshot *s,
    const struct fw_queue *q,
    struct fw_queue_status *ret)
{
    struct counter_list list = {s, ret};
    const struct fw_counters *counters = fw_executor_counters(q->executor);
    if (counters) {
        fw_counters_each(counters, add_counter, &list);
    }
}

static void describe(
    struct fw_snapshot *s,
    struct fw_queue *q,
    struct fw_queue_status *ret,
    unsigned what,
    uint32_t held_limit)
{
    const struct fw_queue_config *config = q->config;
    ret->queue = text(s, config->queue, NAME_SIZE);
    ret->handler = text(s, config->handler_plugin, NAME_SIZE);
    ret->stats = fw_queue_stats(q);
    ret->look = fw_delivery_look(q->engine);
    ret->counters = q->record.counters;
    ret->concurrency = q->concurrency ? q->concurrency : config->concurrency;
    ret->rate = q->rate < 0 ? config->rate : q->rate;
    ret->streams = q->stream_count;
    ret->prefetch = config->prefetch;
    ret->stuck_limit = config->stuck_limit;
    ret->visibility_timeout = config->visibility_timeout;
    ret->timeout = config->timeout;
    describe_plugin(s, q, ret);
    describe_children(s, q, ret);
    describe_counters(s, q, ret);
    troubles(s, q, ret);
    if (what & FW_SNAPSHOT_LISTS) {
        streams(s, q, ret);
        held(s, q, ret, held_limit);
        recent(s, q, ret);
    }
}

/* All of them if they fit, else the same share for each queue. */
static uint32_t held_limit(struct fw_queue *list, uint32_t queues)
{
    uint64_t all = 0;
    for (struct fw_queue *q = list; q; q = q->next) {
        all += fw_queue_stats(q).held;
    }
    uint32_t share = queues ? FW_SNAPSHOT_HELD / queues : FW_SNAPSHOT_HELD;
    return all <= FW_SNAPSHOT_HELD ? FW_SNAPSHOT_HELD : share > LEAST_HELD ? share : LEAST_HELD;
}

struct fw_snapshot *fw_queues_describe(
    struct fw_queue *list,
    const struct fw_gone *gone,
    unsigned what,
    int64_t now)
{
    struct fw_snapshot *s = fw_snapshot_new();
    uint32_t queues = 0;
    uint32_t all = 0;
    for (struct fw_queue *q = list; q; q = q->next) {
        queues++;
    }
    all = queues;
    for (const struct fw_gone *g = gone; g; g = g->next) {
        all++;
    }
    if (!s) {
        return NULL;
    }
    s->now = now;
    s->wall_ms = fila_wall_ms();
    s->queues = fw_arena_alloc(&s->memory, all + 1, sizeof *s->queues);
    uint32_t limit = held_limit(list, queues);
    uint32_t i = queues;
    for (struct fw_queue *q = list; q && s->queues; q = q->next) {
        describe(s, q, &s->queues[--i], what, limit); /* the newest is first in the list */
    }
    i = queues;
    for (const struct fw_gone *g = gone; g && s->queues; g = g->next) {
        describe_gone(s, g, &s->queues[i++]);
    }
    s->queue_count = s->queues ? i : 0;
    if (s->memory.failed) {
        fw_snapshot_free(s);
        return NULL;
    }
    return s;
}
