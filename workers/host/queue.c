/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Events in: streams, results and settlements of one queue go into its engine. Commands out:
 * queue_commands.c.
 */
#include "queue.h"

#include "base/clock.h"
#include "plugin/loader.h"
#include "publish.h"
#include "queue_internal.h"
#include "status/build_id.h"
#include "trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* As in the config. */
#define PREFETCH_MOST 100000u

/* ---- Items ---- */

void fw_queue_release(struct fw_queue *q, struct fw_item *item, unsigned user)
{
    item->used_by &= ~user;
    if (item->used_by == 0) {
        fw_item_give(&q->items, item);
    }
}

/* ---- Results ---- */

/* Whether a try failed and more will follow: the last one is logged as the dead letter that it
 * makes. */
static bool is_failure(const struct fw_queue *q, const struct fw_job *job)
{
    const struct fw_queue_config *c = q->config;
    bool gives_up = c->dead_letter == FW_DEAD_LETTER_WORKER ||
                    c->dead_letter == FW_DEAD_LETTER_DROP;
    bool last = job->verdict.cause == FW_CAUSE_REJECT ||
                (c->retry_attempts && job->attempt >= c->retry_attempts &&
                 job->verdict.cause != FW_CAUSE_UNAVAILABLE);
    return job->verdict.kind != FW_ACK && job->verdict.cause != FW_CAUSE_NONE &&
           !(gives_up && last);
}

/* A failed try, for the log. */
static void log_failure(struct fw_queue *q, const struct fw_item *item)
{
    const struct fw_job *job = &item->job;
    bool timeout = job->verdict.cause == FW_CAUSE_TIMEOUT;
    enum fw_event event = timeout ? FW_EVENT_HANDLER_TIMEOUT : FW_EVENT_MESSAGE_FAILED;
    fw_record_failure(&q->record, event, item, job->verdict.cause);
    FW_LOG(
        event, timeout ? "the handler ran over its deadline" : "a try failed",
        fw_str("queue", q->config->queue), fw_str("handler", q->config->handler_plugin),
        fw_text("message_id", fila_message_id(item->message)), fw_int("attempt", job->attempt),
        fw_str("cause", fw_cause_name(job->verdict.cause)),
        fw_str("error", job->reason ? job->reason : ""),
        fw_int("duration_ms", (job->verdict.ended - job->verdict.started) / FILA_MS),
        fw_text("trace_id", fw_trace_id(item->message)));
}

/* Once for each spell in which nothing but failures comes. */
static void note_failing(struct fw_queue *q, const struct fw_job *job)
{
    switch (fw_record_try(&q->record, job, fw_queue_clock(q, q->turn->now))) {
    case FW_FAILING_BEGAN:
        FW_LOG(
            FW_EVENT_HANDLER_FAILING, "the last tries all failed",
            fw_str("queue", q->config->queue), fw_str("handler", q->config->handler_plugin),
            fw_int("tries", FW_FAILING_TRIES), fw_str("error", job->reason ? job->reason : ""));
        break;
    case FW_FAILING_ENDED:
        FW_LOG(
            FW_EVENT_HANDLER_WORKS, "a try succeeded again", fw_str("queue", q->config->queue),
            fw_str("handler", q->config->handler_plugin));
        break;
    case FW_FAILING_SAME:
        break;
    }
}

void fw_queue_verdict(struct fw_queue *q, struct fw_item *item)
{
    const struct fw_job *job = &item->job;
    fw_record_result(&q->record, item);
    note_failing(q, job);
    if (item->used_by & FW_ITEM_HELD) {
        if (is_failure(q, job)) {
            log_failure(q, item);
        }
        item->used_by &= ~(unsigned)FW_ITEM_RUNNING;
        fw_delivery_verdict(q->engine, fw_queue_clock(q, q->turn->now), item, &job->verdict);
    } else {
        fw_queue_release(q, item, FW_ITEM_RUNNING);
    }
}

/* Told to stop, it did: that proves nothing of what it would have done. */
static bool was_cut(const struct fw_job *job)
{
    return atomic_load_explicit(&job->cancelled, memory_order_relaxed) &&
           job->verdict.kind != FW_ACK && job->verdict.kind != FW_REJECT;
}

static void end_crash_run(struct fw_queue *q, struct fw_item *item)
{
    if (!q->turn->crash) {
        return;
    }
    if (was_cut(&item->job)) {
        fw_crash_cut(q->turn->crash, item->crash_run);
    } else {
        fw_crash_end(q->turn->crash, item->crash_run);
    }
    item->crash_run = 0;
}

void fw_queue_done(struct fw_job *job)
{
    struct fw_item *item = fw_item_of_job(job);
    struct fw_queue *q = item->queue;
    end_crash_run(q, item);
    item->ran_ns = job->verdict.ended - job->verdict.started;
    FW_CRASH(AFTER_RUN);
    if (!(item->used_by & FW_ITEM_HELD) || !fw_publish_start(q, item)) {
        fw_queue_verdict(q, item);
    }
}

void fw_queue_on_settled(struct fila_settle *settle)
{
    static const enum fw_settled RESULTS[] = {
        [FILA_SETTLE_OK] = FW_SETTLED_OK,           [FILA_SETTLE_GONE] = FW_SETTLED_GONE,
        [FILA_SETTLE_UNKNOWN] = FW_SETTLED_UNKNOWN, [FILA_SETTLE_DENIED] = FW_SETTLED_DENIED,
        [FILA_SETTLE_RETRY] = FW_SETTLED_RETRY,
    };
    struct fw_item *item = settle->user;
    struct fw_queue *q = item->queue;
    q->in_transport--;
    int64_t now = fw_queue_clock(q, fila_now());
    int64_t took = now - item->settle_sent;
    fw_queue_call_ended(
        q, settle->result == FILA_SETTLE_OK ? FILA_OK : settle->error.code, item->settle_sent);
    fw_record_settled(&q->record, settle, took);
    /* NOLINTNEXTLINE(bugprone-branch-clone): without crash points both are nothing */
    if (settle->kind == FILA_SETTLE_ACK) {
        FW_CRASH(ACK_ANSWERED);
    } else {
        FW_CRASH(NACK_ANSWERED);
    }
    if (settle->result != FILA_SETTLE_OK && settle->result != FILA_SETTLE_GONE) {
        FW_LOG(
            FW_EVENT_SETTLE_ERROR,
            settle->kind == FILA_SETTLE_ACK ? "an ack was not confirmed"
                                            : "a nack was not confirmed",
            fw_str("queue", q->config->queue),
            fw_text("message_id", fila_message_id(item->message)),
            fw_str("code", fila_status_name(settle->error.code)),
            fw_str("error", settle->error.text));
    } else if (!q->best_round_trip || took < q->best_round_trip) {
        q->best_round_trip = took;
    }
    if (item->used_by & FW_ITEM_HELD) {
        item->used_by &= ~(unsigned)FW_ITEM_SETTLING;
        fw_delivery_settled(q->engine, now, item, RESULTS[settle->result], took);
    } else {
        fw_queue_release(q, item, FW_ITEM_SETTLING);
    }
}

/* What a failed publish means for the engine: whether a copy may exist, and whether asking again
 * can help. */
static enum fw_settled publish_result(const fila_error *error)
{
    switch (error->code) {
    case FILA_OK:
        return FW_SETTLED_OK;
    case FILA_OVERLOADED:
        return FW_SETTLED_RETRY;
    case FILA_QUEUE_NOT_FOUND:
    case FILA_DENIED:
    case FILA_UNAUTHENTICATED:
    case FILA_INVALID_ARGUMENT:
    case FILA_TOO_LARGE:
    case FILA_UNIMPLEMENTED:
        return FW_SETTLED_DENIED;
    default:
        return error->outcome_unknown ? FW_SETTLED_UNKNOWN : FW_SETTLED_RETRY;
    }
}

void fw_queue_on_published(struct fila_publish *publish)
{
    struct fw_item *item = publish->user;
    struct fw_queue *q = item->queue;
    q->in_transport--;
    fw_queue_call_ended(q, publish->error.code, item->publish_sent);
    fw_record_published(&q->record, &publish->error, fw_queue_clock(q, fila_now()));
    FW_CRASH(DEAD_LETTER_ANSWERED);
    if (publish->error.code != FILA_OK) {
        FW_LOG(
            FW_EVENT_SETTLE_ERROR, "a dead-letter copy was not confirmed",
            fw_str("queue", q->config->queue),
            fw_str("dead_letter_queue", q->config->dead_letter_queue),
            fw_text("message_id", fila_message_id(item->message)),
            fw_str("code", fila_status_name(publish->error.code)),
            fw_str("error", publish->error.text));
    }
    free(item->copy_headers);
    item->copy_headers = NULL;
    if (item->used_by & FW_ITEM_HELD) {
        item->used_by &= ~(unsigned)FW_ITEM_PUBLISHING;
        fw_delivery_published(
            q->engine, fw_queue_clock(q, fila_now()), item, publish_result(&publish->error),
            publish->error.code == FILA_TOO_LARGE);
    } else {
        fw_queue_release(q, item, FW_ITEM_PUBLISHING);
    }
}

/* ---- Life ---- */

/* Without memory no leader is followed. */
static void make_endpoints(struct fw_queue *q)
{
    q->endpoints = NULL;
    if (fila_endpoints_new(&q->broker, 1, 1000, 60000, 0, &q->endpoints, NULL) != FILA_OK) {
        q->endpoints = NULL;
    }
}

/* From a message's deadline to the end of its child. A run's deadline is at least the engine's
 * margin before the lease may end (fw_margin_for): half of the least of it is for ending the child,
 * the rest for the nack. */
static int64_t grace_of(const struct fw_queue_config *config)
{
    int64_t vt = config->visibility_timeout;
    int64_t tenth = vt / 10 < FILA_S ? vt / 10 : FILA_S;
    int64_t margin = tenth > vt / 20 ? tenth : vt / 20;
    return margin / 2 < 5 * FILA_S ? margin / 2 : 5 * FILA_S;
}

/* On a thread of the executor's. */
static void on_executor_stopped(void *user)
{
    struct fw_queue *q = user;
    atomic_store(&q->executor_stopped, true);
    q->done->wake(q->done->user);
}

static fila_status start_executor(
    struct fw_queue *q,
    const struct fw_queue_options *options,
    fila_error *reterr)
{
    const struct fw_queue_config *config = options->config;
    const struct fw_process_options process = {
        .handler = config->handler_plugin,
        .options = config->handler_options,
        .option_count = config->handler_option_count,
        .secret_variables = options->secret_variables,
        .secret_variable_count = options->secret_variable_count,
        .grace = grace_of(config),
        .recycle_messages = config->recycle_messages,
        .recycle_rss = config->recycle_rss,
        .problem = options->problem,
        .problem_user = options->problem_user,
        .stopped = on_executor_stopped,
        .stopped_user = q,
    };
    const struct fw_executor_options executor = {
        .queue = config->queue,
        .plugin = options->plugin,
        .process = config->isolation == FW_ISOLATION_PROCESS ? &process : NULL,
        .concurrency = config->concurrency,
        .done = options->done,
        .start_timeout = config->start_timeout,
        .go_on = options->go_on,
        .user = options->user,
    };
    return fw_executor_start(&executor, &q->executor, reterr);
}

fila_status fw_queue_new(
    const struct fw_queue_options *options,
    struct fw_queue **ret_queue,
    fila_error *reterr)
{
    const struct fw_queue_config *config = options->config;
    struct fw_queue *q = calloc(1, sizeof *q);
    struct fw_stream_slot *slots = calloc(config->streams, sizeof *slots);
    if (!q || !slots) {
        free(q);
        free(slots);
        return fila_fail(reterr, FILA_NO_MEMORY, "queue \"%s\": no memory", config->queue);
    }
    q->config = config;
    q->broker = options->broker;
    q->create = options->create;
    q->plugin = options->plugin;
    q->rate = -1;
    if (options->plugin) {
        void *code = NULL;
        memcpy(
            &code, &options->plugin->table.handle, sizeof code); /* POSIX: a function's address */
        fw_build_id(code, q->build_id, sizeof q->build_id);
    }
    q->done = options->done;
    q->streams = slots;
    q->stream_count = config->streams;
    for (uint32_t i = 0; i < config->streams; i++) {
        slots[i].queue = q;
        slots[i].index = i;
    }
    make_endpoints(q);
    fila_status status = start_executor(q, options, reterr);
    if (status != FILA_OK) {
        fila_endpoints_free(q->endpoints);
        free(slots);
        free(q);
        return status;
    }
    if (options->journal) {
        q->restored =
            fw_journal_load(options->journal, fila_view_of(config->queue), &q->restored_count);
    }
    *ret_queue = q;
    return FILA_OK;
}

bool fw_queue_stop(struct fw_queue *q, int64_t deadline)
{
    bool stopped = fw_executor_stop(q->executor, deadline);
    q->executor = NULL;
    return stopped;
}

void fw_queue_free(struct fw_queue *q)
{
    if (!q) {
        return;
    }
    fw_delivery_free(q->engine);
    fw_item_pool_fini(&q->items);
    fila_endpoints_free(q->endpoints);
    fw_record_fini(&q->record);
    free(q->restored);
    free(q->streams);
    free(q);
}

static struct fw_delivery_config engine_config(
    const struct fw_queue *q,
    const struct fw_queue_config *settings)
{
    struct fw_delivery_config config = fw_config_delivery(settings);
    config.has_probe = fw_executor_has_probe(q->executor);
    config.journal = q->turn->journal != NULL;
    config.shared = q->turn->shared;
    return config;
}

/* What the journal knows of this queue's messages. */
static void restore(struct fw_queue *q)
{
    for (size_t i = 0; i < q->restored_count; i++) {
        const struct fw_journal_entry *entry = &q->restored[i];
        struct fw_restored restored = {
            .queue = entry->queue.data,
            .queue_len = entry->queue.len,
            .id = entry->id.data,
            .id_len = entry->id.len,
            .tries = entry->tries,
            .seen = entry->attempt_seen,
            .not_before = entry->not_before,
            .doomed = entry->doomed < FW_CAUSE_COUNT ? (enum fw_cause)entry->doomed : FW_CAUSE_NONE,
            .done = entry->done > 0,
            .done_as = entry->done > 0 && entry->done <= FW_OUTCOME_COUNT
                           ? (enum fw_outcome)(entry->done - 1)
                           : FW_ACKED,
        };
        fw_delivery_restore(q->engine, q->clock, &restored);
    }
    free(q->restored);
    q->restored = NULL;
    q->restored_count = 0;
}

static bool same_text(fila_view text, const char *other)
{
    return text.len == strlen(other) && memcmp(text.data, other, text.len) == 0;
}

/* What may have crashed the last process. */
static void restore_suspects(struct fw_queue *q)
{
    struct fw_crash_suspect suspect;
    uint32_t at = 0;
    while (q->turn->crash && fw_crash_next(q->turn->crash, &at, &suspect)) {
        if (!same_text(suspect.served, q->config->queue)) {
            continue;
        }
        struct fw_restored message = {
            .queue = suspect.queue.data,
            .queue_len = suspect.queue.len,
            .id = suspect.id.data,
            .id_len = suspect.id.len,
        };
        fw_delivery_suspect(q->engine, q->clock, &message, suspect.crashes);
        FW_LOG(
            FW_EVENT_CRASH_SUSPECT,
            suspect.crashes < FW_CRASHES_ENOUGH
                ? "a message that ran when the last process ended: it runs alone"
                : "a message that crashed the process twice: dead-lettered without running",
            fw_str("queue", q->config->queue), fw_text("message_id", suspect.id),
            fw_int("crashes", suspect.crashes));
    }
}

fila_status fw_queue_start(
    struct fw_queue *q,
    struct fw_turn *turn,
    const struct fw_queue_events *events,
    void *user)
{
    q->turn = turn;
    struct fw_delivery_config config = engine_config(q, q->config);
    q->events = events;
    q->user = user;
    q->clock = turn->now;
    q->engine = fw_delivery_new(&config, turn->now);
    if (!q->engine) {
        return FILA_NO_MEMORY;
    }
    restore(q);
    restore_suspects(q);
    q->watch.at = turn->now;
    return FILA_OK;
}

void fw_queue_drain(struct fw_queue *q, int64_t deadline)
{
    if (!q->drain_deadline) {
        struct fw_delivery_stats stats = fw_delivery_stats(q->engine);
        q->lost_before_drain = stats.finished[FW_LEFT] + stats.finished[FW_LEASE_LOST];
    }
    q->drain_deadline = deadline;
    fw_delivery_drain(q->engine, fw_queue_clock(q, q->turn->now), deadline);
}

void fw_queue_moved(struct fw_queue *q, const char *broker)
{
    q->broker = broker;
    fila_endpoints_free(q->endpoints);
    make_endpoints(q);
}

void fw_queue_pause(struct fw_queue *q, bool on)
{
    if (on) {
        fw_delivery_pause(q->engine, fw_queue_clock(q, q->turn->now));
    } else if (!q->stands_still) {
        fw_delivery_resume(q->engine, fw_queue_clock(q, q->turn->now));
    }
}

bool fw_queue_adjust(struct fw_queue *q, double rate, uint32_t concurrency)
{
    struct fw_delivery_config engine = engine_config(q, q->config);
    if (concurrency && !fw_executor_grow(q->executor, concurrency)) {
        return false;
    }
    q->rate = rate < 0 ? q->rate : rate;
    q->concurrency = concurrency ? concurrency : q->concurrency;
    engine.rate = q->rate < 0 ? engine.rate : q->rate;
    if (q->concurrency) {
        uint64_t prefetch = (uint64_t)engine.prefetch * q->concurrency / engine.concurrency;
        prefetch = prefetch < PREFETCH_MOST ? prefetch : PREFETCH_MOST;
        engine.prefetch = prefetch > engine.prefetch ? (uint32_t)prefetch : engine.prefetch;
        engine.concurrency = q->concurrency;
    }
    fw_delivery_reconfigure(q->engine, fw_queue_clock(q, q->turn->now), &engine);
    return true;
}

void fw_queue_reconfigure(struct fw_queue *q, const struct fw_queue_config *config)
{
    struct fw_delivery_config engine = engine_config(q, config);
    q->rate = -1;
    q->concurrency = 0;
    q->config = config;
    fw_delivery_reconfigure(q->engine, fw_queue_clock(q, q->turn->now), &engine);
}

/* ---- Facts ---- */

void fw_queue_executor_state(struct fw_queue *q, struct fw_executor_state *ret_state)
{
    fw_executor_get_state(q->executor, ret_state);
}

void fw_queue_refresh(struct fw_queue *q)
{
    fw_executor_refresh(q->executor);
}

const char *fw_queue_name(const struct fw_queue *q)
{
    return q->config->queue;
}

const struct fw_queue_config *fw_queue_settings(const struct fw_queue *q)
{
    return q->config;
}

struct fw_delivery_stats fw_queue_stats(const struct fw_queue *q)
{
    if (!q->engine) { /* never started */
        return (struct fw_delivery_stats){0};
    }
    return fw_delivery_stats(q->engine);
}

bool fw_queue_cut_off(const struct fw_queue *q)
{
    return q->cut_off;
}

uint64_t fw_queue_not_returned(const struct fw_queue *q)
{
    struct fw_delivery_stats stats = fw_queue_stats(q);
    return stats.finished[FW_LEFT] + stats.finished[FW_LEASE_LOST] - q->lost_before_drain;
}

struct fw_queue **fw_queue_link(struct fw_queue *q)
{
    return &q->next;
}

int64_t fw_queue_wake_at(const struct fw_queue *q)
{
    int64_t publish = fw_publish_wake_at(q);
    int64_t engine = fw_delivery_wake_at(q->engine);
    int64_t first = publish < engine ? publish : engine;
    return first < q->watch.at ? first : q->watch.at;
}
