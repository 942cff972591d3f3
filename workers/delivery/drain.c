/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#define LATE_ARRIVALS (100 * FILA_MS) /* after a stream's end, before its messages go back */
#define LAST_CALL     (2 * FILA_S)    /* of a drain: what still runs is told to stop */

void fw_withdraw(struct fw_delivery *e)
{
    e->withdrawn = true;
    e->streams_at = 0;
    e->withdrawn_at = e->now;
}

static int64_t cancel_at(const struct fw_delivery *e)
{
    return e->drain_deadline - LAST_CALL;
}

/* When what was not started goes back; FILA_NEVER while a stream is still open. */
static int64_t give_back_at(const struct fw_delivery *e)
{
    int64_t since;
    int64_t at = fw_streams_down(e, &since) ? since + LATE_ARRIVALS : FILA_NEVER;
    return e->draining ? fw_min(at, cancel_at(e)) : at;
}

static void give_back(struct fw_delivery *e, enum fw_state state)
{
    struct fw_held *h;
    struct fw_held *next;
    HASH_ITER(hh, e->by_user, h, next)
    {
        if (h->user != e && h->state == state) {
            fw_give_back(e, h);
        }
    }
}

/* Gives back what was not started, and, if told so, what waits for time. Those behind in a lane
 * first: then none is promoted meanwhile. */
static void give_back_all(struct fw_delivery *e, bool waiting)
{
    give_back(e, FW_BEHIND);
    give_back(e, FW_ASIDE);
    give_back(e, FW_SUSPECT);
    give_back(e, FW_READY);
    if (waiting) {
        give_back(e, FW_WAITING);
    }
}

/* Anything that give_back_all would find. */
static bool any_to_give_back(const struct fw_delivery *e, bool waiting)
{
    uint32_t unstarted = e->certain.count + e->unsure.count + e->suspect_count + e->behind +
                         e->aside;
    return unstarted > 0 || (waiting && e->waiting > 0);
}

static void cancel_runs(struct fw_delivery *e)
{
    struct fw_held *h;
    struct fw_held *next;
    e->drain_cancelled = true;
    HASH_ITER(hh, e->by_user, h, next)
    {
        if (h->user != e && h->state == FW_RUNNING) {
            h->cancelled = true;
            fw_emit(e, &(struct fw_command){.kind = FW_COMMAND_CANCEL, .user = h->user});
        }
    }
}

static bool awaits_ack(const struct fw_held *h)
{
    bool settling = h->state == FW_SETTLING || h->state == FW_QUEUED || h->state == FW_RESEND;
    return settling && h->settle == FW_COMMAND_ACK;
}

/* Those behind in a lane, or all. */
static void leave(struct fw_delivery *e, bool behind_only)
{
    struct fw_held *h;
    struct fw_held *next;
    HASH_ITER(hh, e->by_user, h, next)
    {
        if (h->user != e && (h->state == FW_BEHIND || !behind_only)) {
            fw_finish(e, h, awaits_ack(h) ? FW_LEASE_LOST : FW_LEFT);
        }
    }
}

static bool held_any(const struct fw_delivery *e)
{
    return HASH_CNT(hh, e->by_user) > 1;
}

static void drained(struct fw_delivery *e)
{
    e->drained = true;
    fw_shared_leave(e); /* its owner may free it on another thread */
    fw_emit(e, &(struct fw_command){.kind = FW_COMMAND_DRAINED});
}

void fw_drain_step(struct fw_delivery *e)
{
    int64_t since;
    if (e->draining && !e->drained && e->now >= cancel_at(e) && !e->drain_cancelled) {
        cancel_runs(e);
    }
    bool waiting = !e->draining || e->drain_cancelled;
    if (any_to_give_back(e, waiting) && e->now >= give_back_at(e)) {
        give_back_all(e, waiting);
    }
    if (!e->draining || e->drained) {
        return;
    }
    if (e->now >= e->drain_deadline) {
        leave(e, true); /* nothing is waited for any more */
        leave(e, false);
        drained(e);
    } else if (!held_any(e) && fw_streams_down(e, &since)) {
        drained(e);
    }
}

int64_t fw_drain_wake(const struct fw_delivery *e)
{
    if (!e->withdrawn && !e->draining) {
        return FILA_NEVER;
    }
    bool waiting = !e->draining || e->drain_cancelled;
    int64_t wake = any_to_give_back(e, waiting) ? give_back_at(e) : FILA_NEVER;
    if (e->draining && !e->drained) {
        wake = fw_min(wake, e->drain_cancelled ? e->drain_deadline : cancel_at(e));
    }
    return wake;
}
