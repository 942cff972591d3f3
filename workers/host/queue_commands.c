/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Commands out: carries out what a queue's engine asks for.
 */
#include "base/clock.h"
#include "ctl/tap.h"
#include "deadletter.h"
#include "publish.h"
#include "queue_internal.h"
#include "trace.h"
#include "wire/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* gRPC C core without its bandwidth probe makes nothing of a window beyond this. */
#define WINDOW_THAT_HELPS 65536

/* No unary call waits longer (contract A4.7: calls to a server in SIGTERM hang). */
#define CALL_TIMEOUT (5 * FILA_S)

/* A stop waits for no call after its own deadline. */
int64_t fw_queue_call_deadline(const struct fw_queue *q, int64_t wanted)
{
    int64_t limit = q->turn->now + CALL_TIMEOUT;
    if (q->drain_deadline && q->drain_deadline < limit) {
        limit = q->drain_deadline;
    }
    return wanted && wanted < limit ? wanted : limit;
}

static void run(struct fw_queue *q, const struct fw_command *c)
{
    struct fw_item *item = c->user;
    struct fw_job *job = &item->job;
    free(job->reason);
    job->reason = NULL;
    job->next = NULL;
    job->message = item->message;
    job->deadline = c->deadline;
    job->attempt = c->attempt;
    atomic_store_explicit(&job->cancelled, false, memory_order_relaxed);
    fw_record_start(item, q->turn->now, c->lease_end);
    item->used_by |= FW_ITEM_RUNNING;
    item->crash_run = 0;
    if (q->turn->crash && q->config->isolation == FW_ISOLATION_THREADS) {
        item->crash_run = fw_crash_begin(
            q->turn->crash, fila_view_of(q->config->queue), fila_message_queue(item->message),
            fila_message_id(item->message), c->alone);
    }
    *q->runs_end = job;
    q->runs_end = &job->next;
}

static const char *nack_reason(const struct fw_item *item, enum fw_cause cause)
{
    if (cause == FW_CAUSE_NONE) {
        return "fila-worker: returned unstarted";
    }
    return item->job.reason ? item->job.reason : fw_cause_name(cause);
}

static void settle(struct fw_queue *q, const struct fw_command *c, enum fila_settle_kind kind)
{
    struct fw_item *item = c->user;
    struct fila_settle *s = &item->settle;
    /* NOLINTNEXTLINE(bugprone-branch-clone): without crash points both are nothing */
    if (kind == FILA_SETTLE_ACK) {
        FW_CRASH(BEFORE_ACK);
    } else {
        FW_CRASH(BEFORE_NACK);
    }
    s->next = NULL;
    s->kind = kind;
    s->queue = fila_message_queue(item->message);
    s->receipt = fila_message_id(item->message);
    s->reason = kind == FILA_SETTLE_ACK ? (fila_view){NULL, 0}
                                        : fila_view_of(nack_reason(item, c->cause));
    s->delay = 0;
    s->deadline = fw_queue_call_deadline(q, c->deadline);
    s->done = fw_queue_on_settled;
    s->user = item;
    item->settle_sent = q->turn->now;
    item->used_by |= FW_ITEM_SETTLING;
    q->in_transport++;
    *q->turn->settles_end = s;
    q->turn->settles_end = &s->next;
}

static void publish(struct fw_queue *q, const struct fw_command *c)
{
    struct fw_item *item = c->user;
    struct fila_publish *p = &item->publish;
    FW_CRASH(BEFORE_DEAD_LETTER);
    struct fw_dead_letter_facts facts = {c->cause, c->attempt, item->job.reason};
    size_t count = 0;
    if (fw_dead_letter_headers(item->message, &facts, &item->copy_headers, &count) != FILA_OK) {
        fw_delivery_published(q->engine, q->clock, item, FW_SETTLED_RETRY, false);
        return;
    }
    p->next = NULL;
    p->queue = fila_view_of(q->config->dead_letter_queue);
    p->headers = item->copy_headers;
    p->header_count = count;
    p->payload = fila_message_payload(item->message);
    p->deadline = fw_queue_call_deadline(q, c->deadline);
    p->done = fw_queue_on_published;
    p->user = item;
    item->publish_sent = q->turn->now;
    item->used_by |= FW_ITEM_PUBLISHING;
    q->in_transport++;
    *q->turn->publishes_end = p;
    q->turn->publishes_end = &p->next;
}

/* A leader that was named, else the broker in use. */
static void choose_broker(const struct fw_queue *q, struct fw_stream_slot *slot)
{
    uint32_t wait = 0; /* the engine paces the streams */
    const char *url = q->endpoints ? fila_endpoints_pick(q->endpoints, fila_now() / FILA_MS, &wait)
                                   : q->broker;
    bool leader = strcmp(url, q->broker) != 0;
    (void)snprintf(slot->url, sizeof slot->url, "%s", leader ? url : "");
}

static void open_stream(struct fw_queue *q, const struct fw_command *c)
{
    struct fw_stream_slot *slot = &q->streams[c->stream];
    struct fila_transport *transport = q->turn->transport;
    choose_broker(q, slot);
    struct fila_stream_params params = {
        .queue = fila_view_of(q->config->queue),
        .url = slot->url[0] ? slot->url : NULL,
        .window = c->window,
        .events = &FW_QUEUE_STREAM_EVENTS,
        .user = slot,
    };
    slot->asked_at = q->turn->now;
    slot->was_open = false;
    slot->window = c->window;
    fila_error error = FILA_ERROR_INIT;
    if (transport->ops->open_stream(transport, &params, &slot->stream, &error) != FILA_OK) {
        slot->stream = NULL;
        slot->end = error;
        fw_queue_stream_ended(q, slot, FW_STREAM_BROKEN);
    }
}

static void stop_stream(struct fw_queue *q, const struct fw_command *c)
{
    struct fila_stream *stream = q->streams[c->stream].stream;
    if (stream) {
        stream->transport->ops->stop_stream(stream);
    }
}

void fw_queue_cancel_streams(struct fw_queue *q)
{
    for (uint32_t i = 0; i < q->stream_count; i++) {
        struct fila_stream *stream = q->streams[i].stream;
        if (stream) {
            stream->transport->ops->cancel_stream(stream);
        }
    }
}

static bool in_use(const struct fw_queue *q)
{
    bool used = q->in_transport > 0;
    for (uint32_t i = 0; i < q->stream_count; i++) {
        used = used || q->streams[i].stream;
    }
    return used;
}

static void grant(struct fw_queue *q, const struct fw_command *c)
{
    struct fila_stream *stream = q->streams[c->stream].stream;
    if (stream) {
        struct fw_stream_slot *slot = &q->streams[c->stream];
        slot->news_at = slot->credits ? slot->news_at : q->turn->now;
        slot->credits += c->credits;
        stream->transport->ops->grant(stream, c->credits);
    }
}

struct finish_row {
    enum fw_event event;
    const char *text;
};

static void log_finish(struct fw_queue *q, const struct fw_item *item, const struct fw_command *c)
{
    static const struct finish_row ROWS[FW_OUTCOME_COUNT] = {
        [FW_ACKED] = {FW_EVENT_MESSAGE_DONE, "handled and acked"},
        [FW_RETRIED] = {FW_EVENT_MESSAGE_RETURNED, "given back to the broker for another try"},
        [FW_DEAD_LETTERED] = {FW_EVENT_MESSAGE_DEAD, "dead-lettered"},
        [FW_DROPPED] = {FW_EVENT_MESSAGE_DROPPED, "given up for good"},
        [FW_RETURNED] = {FW_EVENT_MESSAGE_RETURNED, "returned unstarted"},
        [FW_LEFT] = {FW_EVENT_MESSAGE_RETURNED, "left to its lease"},
        [FW_LEASE_LOST] = {FW_EVENT_LEASE_LOST, "the lease ended before the message was settled"},
        [FW_DUPLICATE] = {FW_EVENT_MESSAGE_RETURNED, "a copy of a message that is held already"},
    };
    const struct finish_row *row = &ROWS[c->outcome];
    if (fw_event_level(row->event) >= FW_LOG_WARN) {
        fw_record_failure(&q->record, row->event, item, c->cause);
    }
    if (!fw_log_enabled(fw_event_level(row->event))) {
        return;
    }
    struct fw_field fields[9] = {
        fw_str("queue", q->config->queue),
        fw_str("handler", q->config->handler_plugin),
        fw_text("message_id", fila_message_id(item->message)),
        fw_str("outcome", fw_outcome_name(c->outcome)),
    };
    size_t count = 4;
    if (item->job.attempt) {
        fields[count++] = fw_int("attempt", item->job.attempt);
        fields[count++] = fw_int("duration_ms", item->ran_ns / FILA_MS);
    }
    if (c->cause != FW_CAUSE_NONE) {
        fields[count++] = fw_str("cause", fw_cause_name(c->cause));
        fields[count++] = fw_str("error", item->job.reason ? item->job.reason : "");
    }
    fields[count++] = fw_text("trace_id", fw_trace_id(item->message));
    fw_log(row->event, fields, count, "%s", row->text);
}

/* For the journal: what is known of the message from now on. */
static void record(const struct fw_queue *q, const struct fw_command *c)
{
    const struct fw_item *item = c->user;
    struct fw_journal_entry entry = {
        .served = fila_view_of(q->config->queue),
        .queue = fila_message_queue(item->message),
        .id = fila_message_id(item->message),
        .tries = c->attempt,
        .attempt_seen = c->seen,
        .not_before = c->deadline,
        .done = (uint8_t)(c->done ? c->outcome + 1 : 0),
        .doomed = (uint8_t)c->cause,
    };
    fw_journal_put(q->turn->journal, &entry);
}

/* One that is done, or dead, crashes nobody any more. */
static void acquit(const struct fw_queue *q, const struct fw_command *c)
{
    const struct fw_item *item = c->user;
    if (c->outcome == FW_ACKED || c->outcome == FW_DEAD_LETTERED || c->outcome == FW_DROPPED) {
        fw_crash_acquit(
            q->turn->crash, fila_view_of(q->config->queue), fila_message_queue(item->message),
            fila_message_id(item->message));
    }
}

static void tap(const struct fw_queue *q, const struct fw_item *item, const struct fw_command *c)
{
    const struct fw_tapped tapped = {
        .queue = q->config->queue,
        .message = item->message,
        .outcome = c->outcome,
        .cause = c->cause,
        .attempt = item->job.attempt,
        .ran_ns = item->ran_ns,
        .reason = item->job.reason,
    };
    fw_tap_offer(q->turn->tap, q->turn->now, &tapped);
}

static void finish(struct fw_queue *q, const struct fw_command *c)
{
    struct fw_item *item = c->user;
    FW_CRASH(BEFORE_FINISH);
    if (q->turn->crash) {
        acquit(q, c);
    }
    log_finish(q, item, c);
    if (q->turn->tap) {
        tap(q, item, c);
    }
    fw_queue_release(q, item, FW_ITEM_HELD);
}

struct notice_row {
    enum fw_event event;
    const char *text;
    const char *unit;
    int64_t divisor;
};

static const struct notice_row NOTICES[FW_NOTICE_COUNT] = {
    [FW_NOTICE_OVERLEASED] =
        {FW_EVENT_OVERLEASED, "more is leased ahead than can be done in time",
         "visibility_timeout_ms", FILA_MS},
    [FW_NOTICE_PIPE_SLOW] =
        {FW_EVENT_PIPE_SLOW, "the window is too small for this path", "window_bytes", 1},
    [FW_NOTICE_VT_SHORT] =
        {FW_EVENT_VT_SHORT, "leases end sooner than visibility_timeout says",
         "visibility_timeout_seen_ms", FILA_MS},
    [FW_NOTICE_RETRY_SPLIT] =
        {FW_EVENT_RETRY_SPLIT, "tries and backoffs do not fit one lease", "visibility_timeout_ms",
         FILA_MS},
    [FW_NOTICE_BREAKER_OPEN] =
        {FW_EVENT_BREAKER_OPEN, "a dependency is down: paused", "trial_in_ms", FILA_MS},
    [FW_NOTICE_BREAKER_CLOSED] =
        {FW_EVENT_BREAKER_CLOSED, "the dependency is back", "open_for_ms", FILA_MS},
    [FW_NOTICE_DLQ_REFUSED] =
        {FW_EVENT_DLQ_REFUSED, "the dead-letter queue refuses messages", "value", 1},
    [FW_NOTICE_DLQ_TOO_LARGE] =
        {FW_EVENT_DLQ_TOO_LARGE, "the dead-letter copy is too large", "value", 1},
    [FW_NOTICE_FLUSH] =
        {FW_EVENT_FLUSH, "returned unstarted, to make the leases fresh", "messages", 1},
};

/* Nothing to connect to, somebody who refuses us, or just an end: what people do differs. */
static enum fw_event end_event(const struct fw_stream_slot *slot)
{
    switch (slot->end.code) {
    case FILA_BROKER_UNAVAILABLE:
    case FILA_TIMEOUT:
        return slot->was_open ? FW_EVENT_STREAM_END : FW_EVENT_BROKER_UNREACHABLE;
    case FILA_UNAUTHENTICATED:
    case FILA_DENIED:
    case FILA_UNIMPLEMENTED:
    case FILA_UNSUPPORTED:
    case FILA_PROTOCOL:
        return FW_EVENT_BROKER_REFUSES;
    default:
        return FW_EVENT_STREAM_END;
    }
}

static const char *broker_of(const struct fw_queue *q, const struct fw_stream_slot *slot)
{
    return slot->url[0] ? slot->url : q->broker;
}

static void notice(struct fw_queue *q, const struct fw_command *c)
{
    fw_record_notice(&q->record, c, q->clock);
    if (c->notice == FW_NOTICE_RECONNECT) {
        const fila_error *end = &q->streams[c->stream].end;
        FW_LOG(
            end_event(&q->streams[c->stream]),
            end->code == FILA_OK ? "the broker ended the stream in good order" : "the stream ended",
            fw_str("queue", q->config->queue),
            fw_str("broker", broker_of(q, &q->streams[c->stream])), fw_int("stream", c->stream),
            fw_str("code", fila_status_name(end->code)), fw_str("error", end->text),
            fw_int("retry_in_ms", c->value / FILA_MS));
        return;
    }
    const struct notice_row *row = &NOTICES[c->notice];
    const char *text = row->text;
    if (c->notice == FW_NOTICE_PIPE_SLOW && c->value > WINDOW_THAT_HELPS) {
        text =
            "the window is too small for this path, and a larger one hardly helps: raise `streams`";
    }
    struct fw_item *item = c->user;
    fila_view none = {NULL, 0};
    FW_LOG(
        row->event, text, fw_str("queue", q->config->queue),
        fw_str("handler", q->config->handler_plugin),
        fw_text("message_id", item ? fila_message_id(item->message) : none),
        fw_int(row->unit, c->value / row->divisor));
}

static void on_probed(void *user, bool healthy)
{
    struct fw_queue *q = user;
    atomic_store(&q->probe_answer, healthy ? FW_PROBE_HEALTHY : FW_PROBE_SICK);
    q->done->wake(q->done->user);
}

static void submit(struct fw_queue *q)
{
    if (q->runs) {
        FW_CRASH(BEFORE_RUN);
        fw_executor_submit(q->executor, q->runs);
        q->runs = NULL;
        FW_CRASH(RUN_HANDED_OVER);
    }
    q->runs_end = &q->runs;
}

/* A handler that was given up may still read it. */
static void hold(const struct fw_command *c)
{
    struct fw_item *item = c->user;
    if (!item->job.hold) {
        (void)fila_message_detach(item->message);
    }
}

static void carry_out(struct fw_queue *q, const struct fw_command *c)
{
    switch (c->kind) {
    case FW_COMMAND_RUN:
        run(q, c);
        break;
    case FW_COMMAND_CANCEL:
        submit(q); /* it may be among them, and a submission forgets an earlier cancel */
        q->cut_off = q->cut_off || q->drain_deadline != 0;
        if (!fw_publish_cancel(q, c->user)) {
            fw_executor_cancel(q->executor, &((struct fw_item *)c->user)->job);
        }
        break;
    case FW_COMMAND_ACK:
        settle(q, c, FILA_SETTLE_ACK);
        break;
    case FW_COMMAND_NACK:
        settle(q, c, FILA_SETTLE_NACK);
        break;
    case FW_COMMAND_REJECT:
        settle(q, c, FILA_SETTLE_REJECT);
        break;
    case FW_COMMAND_PUBLISH:
        publish(q, c);
        break;
    case FW_COMMAND_GRANT:
        grant(q, c);
        break;
    case FW_COMMAND_OPEN_STREAM:
        open_stream(q, c);
        break;
    case FW_COMMAND_STOP_STREAM:
        stop_stream(q, c);
        break;
    case FW_COMMAND_PROBE:
        if (!fw_executor_probe(q->executor, on_probed, q)) {
            fw_delivery_probed(q->engine, q->clock, false);
        }
        break;
    case FW_COMMAND_HOLD:
        hold(c);
        break;
    case FW_COMMAND_COMPANY:
        if (q->turn->crash) {
            fw_crash_company(q->turn->crash, ((struct fw_item *)c->user)->crash_run);
        }
        break;
    case FW_COMMAND_RECORD:
        record(q, c);
        break;
    case FW_COMMAND_NOTICE:
        notice(q, c);
        break;
    case FW_COMMAND_FINISH:
        finish(q, c);
        break;
    case FW_COMMAND_DRAINED:
        q->is_drained = true;
        /* The engine waits for no stream after the drain's deadline; the transport still has our
         * slots. */
        fw_queue_cancel_streams(q);
        break;
    }
}

void fw_queue_pump(struct fw_queue *q)
{
    struct fw_command command;
    q->runs_end = &q->runs;
    int64_t now = fw_queue_clock(q, q->turn->now);
    enum fw_probe_answer answer = atomic_exchange(&q->probe_answer, FW_PROBE_NONE);
    if (answer != FW_PROBE_NONE) {
        fw_delivery_probed(q->engine, now, answer == FW_PROBE_HEALTHY);
    }
    if (atomic_load_explicit(&q->executor_stopped, memory_order_relaxed) && !q->stands_still) {
        q->stands_still = true; /* nothing can run: nothing is to be taken */
        fw_delivery_pause(q->engine, now);
    }
    fw_publish_pump(q, now);
    if (now >= fw_delivery_wake_at(q->engine)) {
        fw_delivery_timer(q->engine, now);
    }
    while (fw_delivery_next(q->engine, &command)) {
        carry_out(q, &command);
    }
    submit(q);
    fw_queue_watch_due(q);
    if (q->is_drained && !in_use(q)) {
        q->cut_off = q->cut_off || now >= q->drain_deadline;
        q->events->drained(q->user, q);
    }
}
