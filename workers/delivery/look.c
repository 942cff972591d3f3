/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/look.h"

#include "delivery/internal.h"

const char *fw_held_phase_name(enum fw_held_phase phase)
{
    static const char *const NAMES[FW_HELD_PHASE_COUNT] = {"ready",   "behind",     "waiting",
                                                           "running", "publishing", "settling"};
    return NAMES[phase];
}

struct fw_delivery_look fw_delivery_look(const struct fw_delivery *engine)
{
    const struct fw_breaker *breaker = &engine->breaker;
    struct fw_delivery_look look = {
        .visibility_timeout = engine->vt,
        .margin = engine->margin,
        .withdrawn = engine->withdrawn,
        .overleased = engine->now < engine->overleased_until,
        .unavailable_in_a_row = breaker->in_a_row,
    };
    if (breaker->open) {
        look.breaker_since = breaker->opened_at;
        look.breaker_trial_at = breaker->trial_at;
        look.breaker_trial = breaker->asked || breaker->trial != NULL || breaker->by_stream;
    }
    if (engine->paused) {
        look.paused_since = engine->paused_at;
    }
    return look;
}

static enum fw_held_phase phase_of(const struct fw_held *h)
{
    switch (h->state) {
    case FW_BEHIND:
        return FW_HELD_BEHIND;
    case FW_ASIDE:
    case FW_WAITING:
        return FW_HELD_WAITING;
    case FW_RUNNING:
        return FW_HELD_RUNNING;
    case FW_PUBLISHING:
        return FW_HELD_PUBLISHING;
    case FW_QUEUED:
    case FW_SETTLING:
    case FW_RESEND:
        return FW_HELD_SETTLING;
    case FW_NEW:
    case FW_READY:
    case FW_SUSPECT:
        break;
    }
    return FW_HELD_READY;
}

/* The table's own order is that of reading. Its first entry stands for nothing (held.c). */
uint32_t fw_delivery_held(
    const struct fw_delivery *engine,
    struct fw_held_look *ret_list,
    uint32_t limit)
{
    uint32_t count = 0;
    for (const struct fw_held *h = engine->by_user; h && count < limit; h = h->hh.next) {
        if (h->user == engine) {
            continue;
        }
        ret_list[count++] = (struct fw_held_look){
            .user = h->user,
            .phase = phase_of(h),
            .tries = h->id->tries,
            .attempt_count = h->attempt_count,
            .size = h->size,
            .read_at = h->window.late,
            .lease_end = fw_early_end(engine, h),
            .due = h->state == FW_WAITING ? h->timer.due : 0,
        };
    }
    return count;
}
