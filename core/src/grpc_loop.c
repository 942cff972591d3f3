/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "grpc_internal.h"

/* Events of one run: then it is the caller's turn. */
#define MOST_EVENTS 64
/* Away for longer than this, and what a pending receive then brings may be old. Together with
 * LONGEST_WAIT it stays within what the delivery engine allows for at the shortest visibility
 * timeout (its slack and margin: 225 ms at 1 s), and it is more than a busy machine takes a thread
 * away for. */
#define TOLERANCE (50 * FILA_MS)
/* The longest wait at once while a receive is pending: a process that was stopped or frozen for
 * longer shows by having slept too long. */
#define LONGEST_WAIT (100 * FILA_MS)

static struct fg_transport *self(struct fila_transport *transport)
{
    return (struct fg_transport *)transport;
}

static gpr_timespec deadline_in(int64_t ns)
{
    if (ns <= 0) {
        return gpr_time_0(GPR_CLOCK_MONOTONIC);
    }
    if (ns > FILA_S * 86400) {
        ns = FILA_S * 86400;
    }
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(ns, GPR_TIMESPAN));
}

static bool receive_pending(const struct fg_transport *t)
{
    for (const struct fg_stream *s = t->streams; s; s = s->next) {
        if (s->receiving) {
            return true;
        }
    }
    return false;
}

/* Takes an event if one is ready or becomes ready by `until`, and keeps watch on this thread's
 * attention; `entered` is now, or when the event before was taken. Between two looks at the sockets
 * a message may have lain in them unread, and gRPC does not tell since when; as long as looks
 * follow each other closely this does not matter. When they did not (a slow callback, a stopped
 * process, a suspended machine), that is noted in lapsed_at. */
static grpc_event look(struct fg_transport *t, int64_t entered, int64_t until)
{
    int64_t latest = until > entered ? until : entered;
    if (entered - t->now > TOLERANCE) {
        t->lapsed_at = entered;
    }
    grpc_event event = grpc_completion_queue_next(t->queue, deadline_in(latest - entered), NULL);
    t->now = fila_now();
    if (t->now - latest > TOLERANCE) {
        t->lapsed_at = t->now;
    }
    return event;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Waits for the first event of a run. */
static grpc_event wait_for(struct fg_transport *t, int64_t until, bool owed)
{
    grpc_event event = {.type = GRPC_QUEUE_TIMEOUT};
    int64_t limit = least(until, least(t->next_deadline, t->next_telling));
    atomic_store(&t->sleeping, true);
    do {
        bool stay = !owed && !atomic_load(&t->woken);
        int64_t now = fila_now();
        int64_t step = receive_pending(t) ? least(limit, now + LONGEST_WAIT) : limit;
        event = look(t, now, stay ? step : now);
    } while (event.type == GRPC_QUEUE_TIMEOUT && !owed && !atomic_load(&t->woken) &&
             t->now < limit);
    atomic_store(&t->sleeping, false);
    return event;
}

static bool is_over(const struct fg_transport *t)
{
    return t->closing && !t->streams && fg_calls_idle(t);
}

bool fg_run(struct fila_transport *transport, int64_t until)
{
    struct fg_transport *t = self(transport);
    bool owed = fg_calls_report(t) || is_over(t);
    grpc_event event = wait_for(t, until, owed);
    for (int n = 1; event.type == GRPC_OP_COMPLETE; n++) {
        struct fg_tag *tag = event.tag;
        tag->fire(tag, event.success != 0);
        if (n == MOST_EVENTS) {
            break;
        }
        event = look(t, t->now, t->now);
    }
    fg_streams_tell_opened(t);
    fg_calls_expire(t);
    (void)fg_calls_report(t);
    (void)atomic_exchange(&t->woken, false);
    return !is_over(t);
}

void fg_wake(struct fila_transport *transport)
{
    struct fg_transport *t = self(transport);
    if (atomic_exchange(&t->woken, true)) {
        return;
    }
    if (atomic_load(&t->sleeping)) {
        (void)grpc_call_start_batch(t->waker, NULL, 0, &t->woke, NULL);
    }
}

void fg_woke(struct fg_tag *tag, bool ok)
{
    (void)tag;
    (void)ok;
}
