/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <utlist.h>

static void enqueue(struct fw_delivery *e, struct fw_held *h)
{
    if (h->settle == FW_COMMAND_ACK) {
        DL_APPEND(e->acks, h);
    } else {
        DL_APPEND(e->nacks, h);
    }
}

void fw_settle(
    struct fw_delivery *e,
    struct fw_held *h,
    enum fw_command_kind kind,
    enum fw_outcome outcome)
{
    fw_move(e, h, FW_QUEUED);
    fw_account(e, h, FW_ACCOUNT_SETTLING);
    h->settle = kind;
    h->outcome = outcome;
    h->sends = 0;
    enqueue(e, h);
}

void fw_settle_again(struct fw_delivery *e, struct fw_held *h)
{
    fw_move(e, h, FW_QUEUED);
    enqueue(e, h);
}

/* From here on the message may be anyone's. */
static void let_go(struct fw_delivery *e, struct fw_held *h)
{
    h->id->held = NULL; /* it was h: what is read of a held id is finished at once */
    h->id->nacking = h;
    h->nack_sent = true;
    fw_free_bytes(e, h);
}

/* It was refused: it is ours still. */
static void hold_again(struct fw_delivery *e, struct fw_held *h)
{
    h->id->nacking = NULL;
    h->id->held = h;
    h->nack_sent = false;
    h->bytes_held = true;
    e->held_bytes += h->size;
}

static void send(struct fw_delivery *e, struct fw_held *h)
{
    int64_t deadline = fw_call_deadline(e);
    fw_move(e, h, FW_SETTLING);
    DL_APPEND(e->under_way, h);
    e->settling++;
    h->sends++;
    h->sent_at = e->now;
    if (h->settle != FW_COMMAND_ACK) {
        deadline = fw_early_end(e, h);
        let_go(e, h);
    }
    fw_emit(
        e, &(struct fw_command){
               .kind = h->settle,
               .user = h->user,
               .deadline = deadline,
               .cause = h->cause,
               .attempt = h->id->tries});
}

/* Before its earliest end, and while no other nack of ours can still reach the id: one whose answer
 * never came may end a later lease than its own, and a nack for a copy of that lease the next, and
 * so on. */
static bool may_nack(const struct fw_delivery *e, const struct fw_held *h)
{
    const struct fw_id *id = h->id;
    return fw_certain(e, h) && e->now >= id->nack_unsure && id->nacking == NULL;
}

void fw_settle_send(struct fw_delivery *e)
{
    while (e->settling < e->config.settle_in_flight) {
        struct fw_held *h = e->acks != NULL ? e->acks : e->nacks;
        if (h == NULL) {
            return;
        }
        if (h->settle != FW_COMMAND_ACK && !may_nack(e, h)) {
            fw_lose(e, h);
        } else {
            send(e, h);
        }
    }
}

static int64_t pause_before_resend(struct fw_delivery *e, const struct fw_held *h)
{
    int64_t pause = 50 * FILA_MS << (h->sends < 6 ? h->sends - 1 : 5);
    pause = fw_min(pause, fw_min(FILA_S, e->vt / 8));
    return pause - fw_random_up_to(e, pause / 2);
}

/* Asks again if the answer could still come before `until`. */
static bool resend(struct fw_delivery *e, struct fw_held *h, int64_t until)
{
    int64_t due = e->now + pause_before_resend(e, h);
    if (due >= until) {
        return false;
    }
    fw_move(e, h, FW_RESEND);
    fw_heap_set(&e->timers, &h->timer, due);
    return true;
}

/* The message's work is done, whatever became of the ack: it must not be done again. */
static void remember(struct fw_held *h, bool settled)
{
    struct fw_id *id = h->id;
    id->done_as = h->outcome;
    id->done_settled = settled;
    id->done = true;
}

/* Whether a copy of it may still come although the ack was done: leased again while ours had run
 * out, or after a nack of unknown outcome, or read late from another stream's pipe. */
static bool copy_may_come(const struct fw_delivery *e, const struct fw_held *h)
{
    return !fw_certain(e, h) || h->window.early < h->id->nack_unsure || h->id->nacking != NULL ||
           (e->stream_count > 1 && h->attempt_count > 0);
}

static void ack_gone(struct fw_delivery *e, struct fw_held *h, bool on_sight)
{
    bool certain = fw_certain(e, h);
    if (h->unknown && certain) {
        fw_finish(e, h, h->outcome); /* nobody else can have ended the lease: it was our ack */
        return;
    }
    if (h->sends == 1 && certain && !on_sight) {
        fw_lease_was_short(e, h);
    }
    fw_finish(e, h, h->outcome == FW_DUPLICATE ? FW_DUPLICATE : FW_LEASE_LOST);
}

static void ack_answered(struct fw_delivery *e, struct fw_held *h, enum fw_settled result)
{
    bool on_sight = h->id->done && h->sends == 1;
    if (result == FW_SETTLED_OK && !copy_may_come(e, h)) {
        fw_ids_forget(h->id);
        fw_record(e, h);
        fw_finish(e, h, h->outcome);
        return;
    }
    remember(h, result == FW_SETTLED_OK);
    h->unknown = h->unknown || result == FW_SETTLED_UNKNOWN;
    switch (result) {
    case FW_SETTLED_OK:
        fw_finish(e, h, h->outcome);
        break;
    case FW_SETTLED_GONE:
        ack_gone(e, h, on_sight);
        break;
    case FW_SETTLED_UNKNOWN:
    case FW_SETTLED_RETRY:
        if (!resend(e, h, fw_late_end(e, h))) {
            fw_finish(e, h, FW_LEASE_LOST);
        }
        break;
    case FW_SETTLED_DENIED:
        fw_finish(e, h, FW_LEASE_LOST);
        break;
    }
}

static void nack_answered(struct fw_delivery *e, struct fw_held *h, enum fw_settled result)
{
    if (result == FW_SETTLED_UNKNOWN) { /* a command once queued in the broker is done, some day */
        h->id->nack_unsure = e->now + 2 * e->config.visibility_timeout;
    }
    if (h->nack_proven) {
        result = FW_SETTLED_OK;
    }
    switch (result) {
    case FW_SETTLED_OK:
        h->id->nacked_at = h->sent_at;
        h->id->nacked_attempt = h->attempt_count;
        fw_finish(e, h, h->outcome);
        break;
    case FW_SETTLED_GONE:
        if (h->sends == 1 && fw_certain(e, h)) {
            fw_lease_was_short(e, h);
        }
        fw_finish(e, h, FW_LEASE_LOST);
        break;
    case FW_SETTLED_RETRY:
        if (h->id->held != NULL) { /* a copy of it was read meanwhile, and holds it */
            fw_lose(e, h);
            break;
        }
        hold_again(e, h);
        if (!resend(e, h, fw_early_end(e, h) - e->margin)) {
            fw_lose(e, h);
        }
        break;
    case FW_SETTLED_UNKNOWN:
    case FW_SETTLED_DENIED:
        fw_lose(e, h);
        break;
    }
}

void fw_settled(struct fw_delivery *e, struct fw_held *h, enum fw_settled result)
{
    if (h->settle == FW_COMMAND_ACK) {
        ack_answered(e, h, result);
    } else {
        nack_answered(e, h, result);
    }
}

int64_t fw_oldest_settlement(const struct fw_delivery *e)
{
    return e->under_way == NULL ? 0 : e->now - e->under_way->sent_at;
}
