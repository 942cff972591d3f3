/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A queue's streams: what they bring, how they end, and what calls say of the broker behind them.
 */
#include "base/clock.h"
#include "queue_internal.h"

#include <stdio.h>
#include <string.h>

/* What an open stream ends of the queue's troubles. */
static void note_recovery(struct fw_queue *q)
{
    if (fw_delivery_stats(q->engine).streams_up >= q->stream_count) {
        q->record.down_since = 0;
    }
    if (fw_delivery_look(q->engine).visibility_timeout >= q->config->visibility_timeout) {
        q->record.vt_short_since = 0;
    }
}

static void on_opened(void *user, int64_t now)
{
    struct fw_stream_slot *slot = user;
    struct fw_queue *q = slot->queue;
    const struct fila_transport_caps *caps = &q->turn->transport->caps;
    struct fw_pipe pipe = {
        .slots = caps->pipe_slots,
        .bytes = caps->pipe_bytes,
        .window = slot->window,
        .round_trip = now - slot->asked_at,
    };
    if (q->best_round_trip && q->best_round_trip < pipe.round_trip) {
        pipe.round_trip = q->best_round_trip;
    }
    slot->was_open = true;
    slot->news_at = now;
    slot->opens++;
    if (q->endpoints) {
        fila_endpoints_worked(q->endpoints, slot->url[0] ? slot->url : q->broker);
    }
    fw_delivery_stream_open(q->engine, fw_queue_clock(q, now), slot->index, &pipe);
    note_recovery(q);
    FW_LOG(
        FW_EVENT_STREAM_OPEN, "the stream is open", fw_str("queue", q->config->queue),
        fw_str("broker", slot->url[0] ? slot->url : q->broker), fw_int("stream", slot->index),
        fw_int("opens", slot->opens));
    q->events->stream_up(q->user, q);
    fw_queue_watch_opened(q);
    FW_CRASH(STREAM_OPENED);
}

static uint64_t lane_hash(fila_view key)
{
    uint64_t hash = UINT64_C(1469598103934665603); /* FNV-1a */
    for (size_t i = 0; i < key.len; i++) {
        hash = (hash ^ (unsigned char)key.data[i]) * UINT64_C(1099511628211);
    }
    return hash;
}

/* A message without the lane header is a lane of its own: nothing says that it belongs with others.
 */
static uint64_t lane_of(const struct fw_queue *q, const fila_message *message)
{
    fila_view key = {0};
    switch (q->config->lane) {
    case FW_LANE_FAIRNESS_KEY:
        return lane_hash(fila_message_fairness_key(message));
    case FW_LANE_HEADER:
        if (fila_message_header(message, fila_view_of(q->config->lane_header), &key)) {
            return lane_hash(key);
        }
        return lane_hash(fila_message_id(message));
    default:
        return 0;
    }
}

static void on_message(void *user, fila_message *message, const struct fila_read *read)
{
    struct fw_stream_slot *slot = user;
    struct fw_queue *q = slot->queue;
    if (q->is_drained) { /* its engine has closed the account; the lease brings it back */
        fila_message_free(message);
        return;
    }
    struct fw_item *item = fw_item_take(&q->items, q);
    if (!item) { /* nobody holds it: the broker's lease brings it back */
        FW_LOG(
            FW_EVENT_INTERNAL, "no memory for a message: left to its lease",
            fw_str("queue", q->config->queue));
        fila_message_free(message);
        return;
    }
    slot->news_at = read->read_at;
    slot->credits -= slot->credits > 0;
    q->watch.news = true;
    item->message = message;
    item->used_by = FW_ITEM_HELD;
    fw_record_read(&q->record, item, read->read_at);
    fila_view id = fila_message_id(message);
    fila_view name = fila_message_queue(message);
    struct fw_arrival arrival = {
        .user = item,
        .queue = name.data,
        .queue_len = name.len,
        .id = id.data,
        .id_len = id.len,
        .attempt_count = fila_message_attempt_count(message),
        .size = read->wire_size,
        .wire_size = read->wire_size,
        .lane = lane_of(q, message),
        .waiting_since = read->waiting_since,
        .lease_end = read->lease_end,
    };
    fw_delivery_message(q->engine, fw_queue_clock(q, read->read_at), slot->index, &arrival);
    FW_CRASH(AFTER_READ);
}

static enum fw_stream_end end_kind(const fila_error *why)
{
    switch (why->code) {
    case FILA_OK:
    case FILA_CANCELLED:
    case FILA_CLOSED:
        return FW_STREAM_CLOSED;
    case FILA_NOT_LEADER:
        return FW_STREAM_REDIRECTED;
    case FILA_QUEUE_NOT_FOUND:
        return FW_STREAM_MISSING;
    case FILA_INVALID_ARGUMENT:
    case FILA_UNAUTHENTICATED:
    case FILA_DENIED:
    case FILA_UNIMPLEMENTED:
    case FILA_UNSUPPORTED:
    case FILA_PROTOCOL:
        return FW_STREAM_REFUSED;
    default:
        return FW_STREAM_BROKEN;
    }
}

/* The leader's address is followed a few times in a row, then it is a failure like others. */
static enum fw_stream_end follow(struct fw_queue *q, const struct fw_stream_slot *slot)
{
    const char *from = slot->url[0] ? slot->url : q->broker;
    enum fw_stream_end how = end_kind(&slot->end);
    if (!q->endpoints || how == FW_STREAM_CLOSED) {
        return how;
    }
    if (how == FW_STREAM_REDIRECTED && slot->end.leader[0] &&
        fila_endpoints_redirect(q->endpoints, from, slot->end.leader)) {
        return FW_STREAM_REDIRECTED;
    }
    fila_endpoints_failed(q->endpoints, from, fila_now() / FILA_MS);
    return how == FW_STREAM_REDIRECTED ? FW_STREAM_BROKEN : how;
}

static void on_ended(void *user, const fila_error *why)
{
    struct fw_stream_slot *slot = user;
    struct fw_queue *q = slot->queue;
    slot->stream = NULL;
    slot->credits = 0;
    slot->end = *why;
    q->watch.exists = FW_EXISTS_UNKNOWN; /* the next stream may lead to another broker */
    fw_queue_stream_ended(q, slot, follow(q, slot));
}

void fw_queue_stream_ended(struct fw_queue *q, struct fw_stream_slot *slot, enum fw_stream_end how)
{
    fw_delivery_stream_end(q->engine, fw_queue_clock(q, fila_now()), slot->index, how);
    if (how != FW_STREAM_CLOSED && !slot->url[0]) {
        q->events->stream_down(q->user, q, &slot->end);
    }
}

/* No answer to anything sent for this long: the broker is on its way out, or stopped. */
#define HANGING (2 * FILA_S)
/* The same when there is no connection for calls, although that of the stream still lives. */
#define UNCONNECTED (5 * FILA_S)
/* Calls that hang together count once. */
#define HANG_PACE (5 * FILA_S)

static void calls_hang(struct fw_queue *q, int64_t now)
{
    if (q->hung_at && now - q->hung_at < HANG_PACE) {
        return;
    }
    q->hung_at = now;
    FW_LOG(
        FW_EVENT_BROKER_HANGS, "calls are not answered although streams are open",
        fw_str("broker", q->broker), fw_str("queue", q->config->queue));
    q->events->calls_hang(q->user, q);
}

/* A call was not answered in time. Where leases are short, so are the calls: several in a row count
 * as one. */
static void note_silence(struct fw_queue *q, int64_t sent_at, int64_t now, int64_t limit)
{
    int64_t answered = q->turn->answered_at;
    if (answered >= sent_at) {
        return;
    }
    if (answered >= q->silent_since || sent_at < q->silent_since) {
        q->silent_since = sent_at;
    }
    if (now - q->silent_since >= limit) {
        calls_hang(q, now);
    }
}

void fw_queue_call_ended(struct fw_queue *q, fila_status code, int64_t sent_at)
{
    int64_t now = fila_now();
    switch (code) {
    case FILA_TIMEOUT:
        note_silence(q, sent_at, now, HANGING);
        break;
    case FILA_BROKER_UNAVAILABLE:
        if (fw_delivery_stats(q->engine).streams_up > 0) {
            note_silence(q, sent_at, now, UNCONNECTED);
        }
        break;
    case FILA_CANCELLED:
    case FILA_CLOSED:
    case FILA_NO_MEMORY:
        break;
    default:
        q->turn->answered_at = now;
        break;
    }
}

bool fw_queue_serves(const struct fw_queue *q)
{
    return fw_delivery_stats(q->engine).streams_up > 0 &&
           !(q->hung_at && q->turn->answered_at < q->hung_at);
}

const struct fila_stream_events FW_QUEUE_STREAM_EVENTS = {on_opened, on_message, on_ended};
