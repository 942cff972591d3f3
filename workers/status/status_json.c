/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/status_json.h"

#include "base/clock.h"
#include "log/log.h"
#include "status/health.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

/* A failed allocation anywhere leaves a NULL behind that json_object_set_new refuses: noted. */
struct page {
    const struct fw_snapshot *snapshot;
    bool failed;
};

static void put(struct page *page, json_t *object, const char *key, json_t *value)
{
    page->failed = json_object_set_new_nocheck(object, key, value) != 0 || page->failed;
}

static void put_text(struct page *page, json_t *object, const char *key, const char *text)
{
    put(page, object, key, json_string(text));
}

static void put_number(struct page *page, json_t *object, const char *key, uint64_t number)
{
    put(page, object, key, json_integer((json_int_t)number));
}

static void put_ms(struct page *page, json_t *object, const char *key, int64_t ns)
{
    put(page, object, key, json_integer((json_int_t)(ns / FILA_MS)));
}

static void put_bool(struct page *page, json_t *object, const char *key, bool value)
{
    put(page, object, key, json_boolean(value));
}

static void put_instant(struct page *page, json_t *object, const char *key, int64_t wall_ms)
{
    char text[40];
    struct tm tm;
    time_t seconds = (time_t)(wall_ms / 1000);
    (void)gmtime_r(&seconds, &tm);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(text + len, sizeof text - len, ".%03dZ", (int)(wall_ms % 1000));
    put_text(page, object, key, text);
}

static void append(struct page *page, json_t *array, json_t *value)
{
    page->failed = json_array_append_new(array, value) != 0 || page->failed;
}

static json_t *troubles(struct page *page, const struct fw_queue_status *q)
{
    json_t *array = json_array();
    for (int i = 0; i < FW_TROUBLE_COUNT; i++) {
        const struct fw_trouble_state *state = &q->troubles[i];
        if (!state->since) {
            continue;
        }
        enum fw_trouble trouble = (enum fw_trouble)i;
        json_t *one = json_object();
        put_text(page, one, "trouble", fw_trouble_name(trouble));
        put_ms(page, one, "for_ms", page->snapshot->now - state->since);
        put_text(page, one, "text", state->text);
        put_text(page, one, "event", fw_event_id(fw_trouble_event(trouble)));
        put_text(page, one, "remedy", fw_event_remedy(fw_trouble_event(trouble)));
        put_bool(page, one, "unready", fw_trouble_unready(trouble));
        append(page, array, one);
    }
    return array;
}

static json_t *streams(struct page *page, const struct fw_queue_status *q)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < q->streams && q->stream_list; i++) {
        const struct fw_stream_status *s = &q->stream_list[i];
        json_t *one = json_object();
        put_bool(page, one, "up", s->up);
        put_number(page, one, "opens", s->opens);
        put_text(page, one, "last_end", s->code);
        put_text(page, one, "error", s->error);
        append(page, array, one);
    }
    return array;
}

static json_t *breaker(struct page *page, const struct fw_queue_status *q)
{
    const struct fw_snapshot *s = page->snapshot;
    json_t *one = json_object();
    put_text(
        page, one, "state",
        !q->look.breaker_since   ? "closed"
        : !q->look.breaker_trial ? "open"
                                 : "trial");
    if (q->look.breaker_since) {
        int64_t left = q->look.breaker_trial_at - s->now;
        put_ms(page, one, "for_ms", s->now - q->look.breaker_since);
        put_ms(page, one, "trial_in_ms", left > 0 ? left : 0);
        put_text(page, one, "why", q->troubles[FW_TROUBLE_BREAKER_OPEN].text);
    }
    put_number(page, one, "unavailable_in_a_row", q->look.unavailable_in_a_row);
    return one;
}

static json_t *held_one(struct page *page, const struct fw_held_status *h)
{
    const struct fw_snapshot *s = page->snapshot;
    json_t *one = json_object();
    put_text(page, one, "id", h->id);
    put_text(page, one, "state", fw_held_phase_name(h->phase));
    put_number(page, one, "tries", h->tries);
    put_number(page, one, "deliveries", h->attempt_count);
    put_number(page, one, "bytes", h->size);
    put_ms(page, one, "held_ms", s->now - h->read_at);
    put_ms(page, one, "lease_left_ms", h->lease_end - s->now);
    if (h->enqueued_ms) {
        put(page, one, "age_ms", json_integer((json_int_t)(s->wall_ms - h->enqueued_ms)));
    }
    if (h->phase == FW_HELD_RUNNING && h->run_at) {
        put_ms(page, one, "running_ms", s->now - h->run_at);
    }
    if (h->due) {
        put_ms(page, one, "due_in_ms", h->due > s->now ? h->due - s->now : 0);
    }
    return one;
}

static json_t *held(struct page *page, const struct fw_queue_status *q)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < q->held_count; i++) {
        append(page, array, held_one(page, &q->held_list[i]));
    }
    return array;
}

static json_t *recent(struct page *page, const struct fw_queue_status *q)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < q->recent_count; i++) {
        const struct fw_recent_status *r = &q->recent_list[i];
        json_t *one = json_object();
        put_instant(page, one, "at", r->wall_ms);
        put(page, one, "ago_ms", json_integer((json_int_t)(page->snapshot->wall_ms - r->wall_ms)));
        put_text(page, one, "event", fw_event_id(r->event));
        put_text(page, one, "id", r->id);
        put_number(page, one, "attempt", r->attempt);
        put_text(page, one, "cause", r->cause);
        put_text(page, one, "error", r->text);
        append(page, array, one);
    }
    return array;
}

static json_t *histogram(
    struct page *page,
    const struct fw_histogram *h,
    const struct fw_histogram_edges *edges)
{
    json_t *one = json_object();
    json_t *counts = json_array();
    json_t *upto = json_array();
    for (uint32_t i = 0; i <= edges->count; i++) {
        append(page, counts, json_integer((json_int_t)h->counts[i]));
        if (i < edges->count) {
            append(page, upto, json_real((double)edges->ns[i] / FILA_MS));
        }
    }
    put(page, one, "upto_ms", upto);
    put(page, one, "counts", counts);
    put(page, one, "sum_ms", json_real((double)h->sum / FILA_MS));
    return one;
}

static json_t *counts(struct page *page, const struct fw_delivery_stats *stats)
{
    json_t *one = json_object();
    json_t *finished = json_object();
    json_t *failures = json_object();
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        put_number(page, finished, fw_outcome_name((enum fw_outcome)i), stats->finished[i]);
    }
    for (int i = FW_CAUSE_NONE + 1; i < FW_CAUSE_COUNT; i++) {
        put_number(page, failures, fw_cause_name((enum fw_cause)i), stats->failures[i]);
    }
    put_number(page, one, "received", stats->received);
    put(page, one, "finished", finished);
    put(page, one, "failures", failures);
    put_number(page, one, "held", stats->held);
    put_number(page, one, "held_bytes", stats->held_bytes);
    put_number(page, one, "running", stats->running);
    put_number(page, one, "ready", stats->ready);
    put_number(page, one, "retry_waiting", stats->retry_waiting);
    put_number(page, one, "settling", stats->settling);
    return one;
}

/* One word for a glance: the worst that is so. */
static const char *state_of(const struct fw_queue_status *q)
{
    if (q->gone) {
        return "gone";
    }
    if (q->stats.draining) {
        return "draining";
    }
    for (int t = 0; t < FW_TROUBLE_COUNT; t++) {
        if (q->troubles[t].since) {
            return fw_trouble_name((enum fw_trouble)t);
        }
    }
    if (q->stats.running) {
        return "running";
    }
    return q->stats.retry_waiting ? "waiting_for_retry" : "idle";
}

static json_t *handler_counters(struct page *page, const struct fw_queue_status *q)
{
    json_t *one = json_object();
    for (uint32_t i = 0; i < q->handler_counter_count; i++) {
        put_number(page, one, q->handler_counters[i].name, q->handler_counters[i].value);
    }
    return one;
}

static json_t *queue(struct page *page, const struct fw_queue_status *q)
{
    json_t *one = json_object();
    put_text(page, one, "queue", q->queue);
    put_text(page, one, "handler", q->handler);
    put_text(page, one, "state", state_of(q));
    put(page, one, "count", counts(page, &q->stats));
    put(page, one, "handler_duration",
        histogram(page, &q->counters.handler_duration, &FW_EDGES_RUN));
    if (q->gone) {
        return one;
    }
    put_text(page, one, "handler_name", q->handler_name);
    put_text(page, one, "handler_version", q->handler_version);
    put_text(page, one, "handler_build_id", q->handler_build_id);
    put(page, one, "handler_counters", handler_counters(page, q));
    put_bool(page, one, "ready", fw_health_queue(q));
    put_number(page, one, "concurrency", q->concurrency);
    put(page, one, "rate", json_real(q->rate));
    put_number(page, one, "prefetch", q->prefetch);
    put_number(page, one, "stuck_handlers", q->stuck);
    put_ms(page, one, "visibility_timeout_ms", q->visibility_timeout);
    put_ms(page, one, "visibility_timeout_seen_ms", q->look.visibility_timeout);
    put_ms(page, one, "timeout_ms", q->timeout);
    put(page, one, "troubles", troubles(page, q));
    put(page, one, "streams", streams(page, q));
    put(page, one, "breaker", breaker(page, q));
    put_bool(page, one, "held_cut", q->held_count < q->stats.held);
    put(page, one, "held", held(page, q));
    put(page, one, "recent", recent(page, q));
    return one;
}

static json_t *worker(struct page *page)
{
    const struct fw_snapshot *s = page->snapshot;
    char host[256] = "";
    json_t *one = json_object();
    if (gethostname(host, sizeof host - 1) != 0) {
        host[0] = '\0';
    }
    put_text(page, one, "version", FILA_WORKER_VERSION);
    put(page, one, "host", json_stringn(host, strlen(host)));
    put_number(page, one, "pid", (uint64_t)getpid());
    put_instant(page, one, "started", s->wall_ms - (s->now - s->started_at) / FILA_MS);
    put_ms(page, one, "up_ms", s->now - s->started_at);
    put_ms(page, one, "start_ms", s->start_took);
    put_bool(page, one, "draining", s->draining);
    if (s->draining) {
        put_ms(page, one, "drain_left_ms", s->drain_deadline - s->now);
    }
    put_number(page, one, "reloads", s->reloads_done);
    put_number(page, one, "reloads_refused", s->reloads_refused);
    put_text(page, one, "config_file", s->config_file);
    put_text(page, one, "config_hash", s->config_hash);
    put_text(page, one, "broker", s->broker);
    return one;
}

char *fw_status_page(const struct fw_snapshot *snapshot, size_t *ret_len)
{
    struct page page = {.snapshot = snapshot};
    struct fw_writer why = {0};
    json_t *root = json_object();
    json_t *queues = json_array();
    put_instant(&page, root, "now", snapshot->wall_ms);
    put_bool(&page, root, "ready", fw_health_ready(snapshot, &why));
    fw_writer_fini(&why);
    put(&page, root, "worker", worker(&page));
    for (uint32_t i = 0; i < snapshot->queue_count; i++) {
        append(&page, queues, queue(&page, &snapshot->queues[i]));
    }
    put(&page, root, "queues", queues);
    char *text = page.failed ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (text) {
        *ret_len = strlen(text);
    }
    return text;
}
