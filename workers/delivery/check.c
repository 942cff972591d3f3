/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

struct count {
    uint32_t held;
    uint32_t accounts[FW_ACCOUNT_COUNT];
    uint32_t ready;
    uint32_t unsure;
    uint32_t suspects;
    uint32_t waiting;
    uint32_t aside;
    uint32_t behind;
    uint32_t running;
    uint32_t settling;
    uint32_t timers;
    uint64_t bytes;
};

static bool has_timer(const struct fw_held *h)
{
    return h->state == FW_SUSPECT || h->state == FW_BEHIND || h->state == FW_ASIDE ||
           h->state == FW_WAITING || h->state == FW_RESEND;
}

static void add(struct count *count, const struct fw_held *h)
{
    count->held++;
    count->accounts[h->account]++;
    count->ready += h->state == FW_READY && !h->unsure;
    count->unsure += h->state == FW_READY && h->unsure;
    count->suspects += h->state == FW_SUSPECT;
    count->waiting += h->state == FW_WAITING;
    count->aside += h->state == FW_ASIDE;
    count->behind += h->state == FW_BEHIND;
    count->running += h->state == FW_RUNNING;
    count->settling += h->state == FW_SETTLING;
    count->timers += has_timer(h);
    count->bytes += h->bytes_held ? h->size : 0;
}

/* One delivery by itself. */
static const char *check_held(const struct fw_delivery *e, const struct fw_held *h)
{
    bool active = h->state == FW_READY || h->state == FW_SUSPECT || h->state == FW_RUNNING;
    if (h->state == FW_NEW) {
        return "a held delivery is in no state";
    }
    if (has_timer(h) != (h->timer.place != 0)) {
        return "a timer is set without need, or missing";
    }
    if (h->lane != NULL && active != (h->lane->active == h)) {
        return "a lane does not know what is ready or runs in it";
    }
    if (h->window.early > h->window.late || h->window.late > e->now) {
        return "a lease window is upside down";
    }
    if (!h->nack_sent && h->id->held != h) {
        return "an id does not know who holds it";
    }
    return NULL;
}

static const char *check_tables(const struct fw_delivery *e, const struct count *count)
{
    uint64_t finished = 0;
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        finished += e->finished[i];
    }
    if (e->received != finished + count->held) {
        return "received is not finished + held";
    }
    for (int i = FW_ACCOUNT_PREFETCH; i < FW_ACCOUNT_COUNT; i++) {
        if (e->accounts[i] != count->accounts[i]) {
            return "an account is wrong";
        }
    }
    if (count->accounts[FW_ACCOUNT_NONE] != 0) {
        return "a held delivery is in no account";
    }
    if (e->certain.count != count->ready || e->unsure.count != count->unsure) {
        return "a tree has lost or kept something";
    }
    if (e->waiting != count->waiting || e->running != count->running ||
        e->suspect_count != count->suspects || e->settling != count->settling ||
        e->aside != count->aside || e->behind != count->behind ||
        e->timers.count != count->timers) {
        return "a count is wrong";
    }
    return e->held_bytes != count->bytes ? "held bytes are wrong" : NULL;
}

static const char *check_bounds(const struct fw_delivery *e)
{
    uint32_t credits = 0;
    for (uint32_t i = 0; i < e->stream_count; i++) {
        credits += e->streams[i].credits;
    }
    if (credits != e->credits) {
        return "credits are miscounted";
    }
    if (e->settling > e->config.settle_in_flight) {
        return "more settlements under way than allowed";
    }
    return NULL;
}

const char *fw_delivery_check(const struct fw_delivery *engine)
{
    struct count count = {0};
    const struct fw_held *h;
    for (h = engine->by_user; h != NULL; h = h->hh.next) {
        if (h->user == engine) {
            continue;
        }
        add(&count, h);
        const char *wrong = check_held(engine, h);
        if (wrong != NULL) {
            return wrong;
        }
    }
    const char *wrong = check_tables(engine, &count);
    if (wrong == NULL) {
        wrong = check_bounds(engine);
    }
    if (wrong == NULL && fw_startable(engine)) {
        wrong = "work is startable and a slot is free, but nothing runs";
    }
    return wrong;
}
