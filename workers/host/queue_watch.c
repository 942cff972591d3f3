/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a stream does not tell: a missing queue gives an open, silent stream, also one that is
 * deleted under it (contract A2, A4), and a stream may fall silent by some fault although messages
 * wait. So the worker asks for the queue's figures when a stream opens, again until it has an
 * answer, and later whenever nothing has come for a while. Asking needs admin rights when the
 * broker checks keys; without them nothing is known, and nothing done.
 */
#include "base/clock.h"
#include "queue_internal.h"

#include <stdio.h>

#define LOOK_TIMEOUT (3 * FILA_S)
/* After a failed question: doubled each time. */
#define FIRST_PAUSE   (FILA_S / 2)
#define LONGEST_PAUSE (30 * FILA_S)
/* After which silence, and how rarely at last, a working stream's queue is looked at. */
#define FIRST_QUIET   (10 * FILA_S)
#define LONGEST_QUIET (60 * FILA_S)
/* Between the look that finds messages waiting and the one that proves that none comes. */
#define PROOF (2 * FILA_S)

static void ask(
    struct fw_queue *q,
    const fila_request *request,
    void (*done)(struct fila_unary *, const fila_reply *))
{
    struct fila_transport *transport = q->turn->transport;
    q->watch.asked = true;
    q->watch.forced = false;
    q->watch.at = FILA_NEVER;
    q->watch.asked_at = q->turn->now;
    q->in_transport++;
    q->watch.call = (struct fila_unary){
        .request = request,
        .deadline = q->turn->now + LOOK_TIMEOUT,
        .done = done,
        .user = q,
    };
    transport->ops->unary(transport, &q->watch.call);
}

static void answered(struct fw_queue *q, const fila_error *error)
{
    q->in_transport--;
    q->watch.asked = false;
    fw_queue_call_ended(q, error->code, q->watch.asked_at);
}

static void again_after(struct fw_queue *q, int64_t pause)
{
    q->watch.at = q->turn->now + pause;
}

/* Again, less and less often. */
static void again(struct fw_queue *q)
{
    int64_t pause = q->watch.pause ? 2 * q->watch.pause : FIRST_PAUSE;
    q->watch.pause = pause < LONGEST_PAUSE ? pause : LONGEST_PAUSE;
    again_after(q, q->watch.pause);
}

static void exists(struct fw_queue *q, enum fw_event event, const char *text)
{
    if (q->watch.exists != FW_EXISTS_YES && event != FW_EVENT_COUNT) {
        FW_LOG(
            event, text, fw_str("queue", q->config->queue),
            fw_int("visibility_timeout_ms", q->config->visibility_timeout / FILA_MS));
    }
    q->watch.exists = FW_EXISTS_YES;
    q->watch.pause = 0;
}

/* ---- Missing ---- */

static void on_created(struct fila_unary *unary, const fila_reply *reply)
{
    struct fw_queue *q = unary->user;
    (void)reply;
    answered(q, &unary->error);
    if (unary->error.code == FILA_OK || unary->error.code == FILA_QUEUE_EXISTS) {
        exists(
            q, FW_EVENT_QUEUE_CREATED,
            unary->error.code == FILA_OK ? "the queue did not exist and was created"
                                         : "the queue exists");
        again_after(q, FIRST_QUIET);
        return;
    }
    FW_LOG(
        FW_EVENT_QUEUE_MISSING, "the queue does not exist and could not be created",
        fw_str("queue", q->config->queue), fw_str("code", fila_status_name(unary->error.code)),
        fw_str("error", unary->error.text));
    again(q);
}

static void create(struct fw_queue *q)
{
    const struct fw_queue_config *c = q->config;
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue =
            {
                .name = fila_view_of(c->queue),
                .on_enqueue_script = fila_view_of(c->on_enqueue_script),
                .on_failure_script = fila_view_of(c->on_failure_script),
                .visibility_timeout_ms = (uint64_t)(c->visibility_timeout / FILA_MS),
            },
    };
    ask(q, &request, on_created);
}

static void missing(struct fw_queue *q)
{
    bool known = q->watch.exists == FW_EXISTS_NO;
    q->watch.exists = FW_EXISTS_NO;
    q->record.missing_since = known ? q->record.missing_since : q->turn->now;
    if (q->create || q->config->missing_queue == FW_MISSING_CREATE) {
        create(q);
        return;
    }
    if (!known) {
        FW_LOG(
            FW_EVENT_QUEUE_MISSING,
            q->config->missing_queue == FW_MISSING_FAIL
                ? "the queue does not exist (missing_queue = \"fail\")"
                : "the queue does not exist: waiting for it",
            fw_str("queue", q->config->queue), fw_str("broker", q->broker));
    }
    again(q);
    if (q->config->missing_queue == FW_MISSING_FAIL) {
        q->events->missing(q->user, q);
    }
}

/* ---- Silent ---- */

/* A throttle without tokens may be why messages wait (contract B9). */
static bool throttled(const fila_queue_stats *stats)
{
    for (size_t i = 0; i < stats->throttle_count; i++) {
        if (stats->throttles[i].tokens < 1.0) {
            return true;
        }
    }
    return false;
}

/* Since when no open stream has brought anything although it might; FILA_NEVER = it may not. */
static int64_t silent_since(const struct fw_queue *q)
{
    int64_t since = 0;
    bool ready = false;
    for (uint32_t i = 0; i < q->stream_count; i++) {
        const struct fw_stream_slot *slot = &q->streams[i];
        if (slot->stream && slot->was_open && slot->credits) {
            ready = true;
            since = slot->news_at > since ? slot->news_at : since;
        }
    }
    return ready ? since : FILA_NEVER;
}

static void reopen(struct fw_queue *q, uint64_t waiting)
{
    FW_LOG(
        FW_EVENT_STREAM_SILENT, "messages wait, but the stream brings none: it is opened anew",
        fw_str("queue", q->config->queue), fw_str("broker", q->broker),
        fw_int("waiting", (int64_t)waiting),
        fw_int("silent_ms", (q->turn->now - silent_since(q)) / FILA_MS));
    fw_queue_cancel_streams(q);
}

/* Two looks in a row with messages waiting and none read in between. */
static void judge_silence(struct fw_queue *q, const fila_queue_stats *stats)
{
    uint64_t waiting = stats->depth > stats->in_flight ? stats->depth - stats->in_flight : 0;
    int64_t since = silent_since(q);
    bool silent = waiting && since < q->watch.asked_at && !throttled(stats);
    if (silent && !q->watch.suspect) {
        q->watch.suspect = true;
        again_after(q, PROOF);
        return;
    }
    if (silent && since + PROOF <= q->turn->now) {
        reopen(q, waiting);
    }
    q->watch.suspect = false;
    q->watch.quiet = 2 * q->watch.quiet < LONGEST_QUIET ? 2 * q->watch.quiet : LONGEST_QUIET;
    again_after(q, q->watch.quiet);
}

static void on_looked(struct fila_unary *unary, const fila_reply *reply)
{
    struct fw_queue *q = unary->user;
    answered(q, &unary->error);
    if (q->drain_deadline) {
        return;
    }
    switch (unary->error.code) {
    case FILA_OK:
        exists(
            q, q->watch.exists == FW_EXISTS_NO ? FW_EVENT_QUEUE_FOUND : FW_EVENT_COUNT,
            "the queue is there");
        judge_silence(q, &reply->as.stats);
        break;
    case FILA_QUEUE_NOT_FOUND:
        missing(q);
        break;
    case FILA_DENIED:
    case FILA_UNAUTHENTICATED:
    case FILA_UNIMPLEMENTED:
    case FILA_INVALID_ARGUMENT:
        break; /* no answer is to be had; the next stream asks again */
    default:
        again(q);
        break;
    }
}

/* ---- When to look ---- */

void fw_queue_watch_opened(struct fw_queue *q)
{
    q->watch.quiet = q->watch.quiet ? q->watch.quiet : FIRST_QUIET;
    if (!q->watch.asked) {
        q->watch.at = q->turn->now;
        q->watch.pause = 0;
    }
}

void fw_queue_look(struct fw_queue *q)
{
    if (!q->watch.asked) {
        q->watch.forced = true;
        q->watch.at = q->turn->now;
    }
}

void fw_queue_watch_due(struct fw_queue *q)
{
    int64_t now = q->turn->now;
    if (now < q->watch.at || q->watch.asked) {
        return;
    }
    q->watch.at = FILA_NEVER;
    if (q->drain_deadline) {
        return;
    }
    int64_t since = silent_since(q);
    if (q->watch.exists == FW_EXISTS_YES && !q->watch.suspect && !q->watch.forced &&
        since != FILA_NEVER && now - since < q->watch.quiet) {
        q->watch.quiet = q->watch.news ? FIRST_QUIET : q->watch.quiet;
        q->watch.news = false;
        q->watch.at = since + q->watch.quiet > now ? since + q->watch.quiet : now + FILA_S;
        return;
    }
    fila_request request = {
        .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(q->config->queue)}};
    ask(q, &request, on_looked);
}
