/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#define LONGEST_DELAY (INT64_C(365) * 24 * 3600 * FILA_S)

void fw_wait(struct fw_delivery *e, struct fw_held *h, int64_t not_before, enum fw_then then)
{
    int64_t due = fw_min(not_before, fw_last_call(e, h));
    fw_move(e, h, FW_WAITING);
    fw_account(e, h, FW_ACCOUNT_WAITING);
    e->waiting++;
    h->waited = true;
    h->then = then;
    fw_heap_set(&e->timers, &h->timer, due);
    fw_hold(e, h);
}

void fw_wait_over(struct fw_delivery *e, struct fw_held *h)
{
    bool due = e->now >= h->id->not_before;
    if (h->then == FW_THEN_RUN && due && !e->draining && fw_fits(e, h)) {
        fw_make_ready(e, h);
    } else if (h->then == FW_THEN_PUBLISH && due) {
        fw_dead_letter(e, h, h->id->doomed);
    } else {
        fw_give_back(e, h);
    }
}

/* A run that was stopped by us or by the end of its lease is no try. */
static bool was_cut(const struct fw_held *h, const struct fw_verdict *verdict)
{
    return h->cancelled || (h->lease_bound && verdict->cause == FW_CAUSE_TIMEOUT);
}

static enum fw_cause cause_of(const struct fw_verdict *verdict)
{
    if (verdict->cause != FW_CAUSE_NONE) {
        return verdict->cause;
    }
    switch (verdict->kind) {
    case FW_REJECT:
        return FW_CAUSE_REJECT;
    case FW_UNAVAILABLE:
        return FW_CAUSE_UNAVAILABLE;
    default:
        return FW_CAUSE_RETRY;
    }
}

/* Dead letter by the broker's script alone, and never: then tries have no bound here. */
static bool exhausted(const struct fw_delivery *e, const struct fw_held *h)
{
    const struct fw_delivery_config *config = &e->config;
    uint32_t tries = h->id->tries;
    if (config->dead_letter == FW_DEAD_LETTER_BROKER ||
        config->dead_letter == FW_DEAD_LETTER_NONE) {
        return false;
    }
    bool net = config->max_deliveries > 0 && tries >= 2 &&
               h->attempt_count >= config->max_deliveries - 1;
    return net || (config->retry_attempts > 0 && tries >= config->retry_attempts);
}

static void fail(struct fw_delivery *e, struct fw_held *h, const struct fw_verdict *verdict)
{
    struct fw_id *id = h->id;
    id->tries++;
    h->failed = true;
    int64_t wait = verdict->delay > 0 ? fw_min(verdict->delay, LONGEST_DELAY)
                                      : fw_backoff(e, id->tries);
    id->not_before = e->now + wait;
    fw_record(e, h);
    if (verdict->kind == FW_REJECT || exhausted(e, h)) {
        fw_came_through(e);
        fw_dead_letter(e, h, h->cause);
    } else if (!fw_certain(e, h)) {
        fw_lose(e, h);
    } else if (e->config.dead_letter == FW_DEAD_LETTER_BROKER) {
        fw_wait(e, h, id->not_before, FW_THEN_NACK); /* its script decides */
    } else {
        fw_wait(e, h, id->not_before, FW_THEN_RUN);
    }
}

static void unavailable(struct fw_delivery *e, struct fw_held *h)
{
    h->id->not_before = e->now + fw_backoff(e, 1);
    fw_record(e, h);
    fw_wait(e, h, h->id->not_before, FW_THEN_RUN);
}

/* How long handlers take: not what a missing dependency, a crash or a cut says. */
static bool tells_duration(const struct fw_held *h, const struct fw_verdict *verdict)
{
    return verdict->kind == FW_ACK ||
           (verdict->kind != FW_UNAVAILABLE && verdict->cause != FW_CAUSE_CRASH &&
            verdict->cause != FW_CAUSE_POISON && !was_cut(h, verdict));
}

void fw_verdict(struct fw_delivery *e, struct fw_held *h, const struct fw_verdict *verdict)
{
    if (tells_duration(h, verdict)) {
        fw_run_took(e, fw_max(verdict->ended - verdict->started, 0));
    }
    fw_breaker_verdict(e, h, verdict);
    h->id->suspect = false; /* it came to an end, and we are still here; a drained engine, whose
                               cuts prove nothing, starts it no more */
    if (verdict->kind == FW_ACK) {
        fw_came_through(e);
        fw_record_done(e, h, FW_ACKED);
        fw_settle(e, h, FW_COMMAND_ACK, FW_ACKED);
        return;
    }
    h->cause = cause_of(verdict);
    e->failures[h->cause]++;
    if (verdict->kind != FW_REJECT && was_cut(h, verdict)) {
        fw_needs_more(e);
        fw_give_back(e, h);
    } else if (verdict->kind == FW_UNAVAILABLE) {
        unavailable(e, h);
    } else {
        fail(e, h, verdict);
    }
}
