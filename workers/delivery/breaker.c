/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

bool fw_may_start(const struct fw_delivery *e)
{
    const struct fw_breaker *breaker = &e->breaker;
    if (e->paused || e->draining) {
        return false;
    }
    if (!breaker->open) {
        return true;
    }
    return !e->config.has_probe && breaker->trial == NULL && e->now >= breaker->trial_at;
}

bool fw_wants_stream(const struct fw_delivery *e, uint32_t i)
{
    uint32_t count = e->breaker.open && e->breaker.by_stream ? 1 : e->config.streams;
    return !e->draining && !e->withdrawn && i < count;
}

static void open_breaker(struct fw_delivery *e)
{
    struct fw_breaker *breaker = &e->breaker;
    breaker->open = true;
    breaker->by_stream = false;
    breaker->opened_at = e->now;
    breaker->pause = e->config.breaker_probe;
    breaker->trial_at = e->now + breaker->pause;
    fw_notice(e, FW_NOTICE_BREAKER_OPEN, NULL, breaker->pause);
}

static void close_breaker(struct fw_delivery *e)
{
    struct fw_breaker *breaker = &e->breaker;
    fw_notice(e, FW_NOTICE_BREAKER_CLOSED, NULL, e->now - breaker->opened_at);
    *breaker = (struct fw_breaker){0};
    e->streams_at = 0;
    if (!e->paused) {
        e->withdrawn = false;
    }
}

static void trial_failed(struct fw_delivery *e)
{
    struct fw_breaker *breaker = &e->breaker;
    breaker->pause = fw_min(2 * breaker->pause, e->config.breaker_max);
    breaker->trial_at = e->now + breaker->pause;
    breaker->trial = NULL;
    if (breaker->by_stream) {
        breaker->by_stream = false;
        e->streams_at = 0;
        fw_withdraw(e);
    }
}

void fw_breaker_verdict(
    struct fw_delivery *e,
    const struct fw_held *h,
    const struct fw_verdict *verdict)
{
    struct fw_breaker *breaker = &e->breaker;
    bool trial = breaker->open && breaker->trial == h;
    if (trial) {
        if (verdict->kind == FW_UNAVAILABLE || verdict->cause == FW_CAUSE_TIMEOUT) {
            trial_failed(e);
        } else {
            close_breaker(e);
        }
        return;
    }
    if (verdict->kind != FW_UNAVAILABLE) {
        breaker->in_a_row = 0;
    } else if (++breaker->in_a_row >= e->config.breaker_failures && !breaker->open) {
        open_breaker(e);
    }
}

void fw_breaker_probed(struct fw_delivery *e, bool healthy)
{
    struct fw_breaker *breaker = &e->breaker;
    if (!breaker->open || !breaker->asked) {
        return;
    }
    breaker->asked = false;
    if (healthy) {
        close_breaker(e);
    } else {
        trial_failed(e);
    }
}

/* Nothing to try it on: a stream brings the trial message, but not too soon, since it leases a
 * pipe. */
static int64_t stream_trial_at(const struct fw_delivery *e)
{
    return fw_max(e->breaker.trial_at, e->withdrawn_at + e->vt / 2);
}

static bool idle(const struct fw_delivery *e)
{
    return !e->withdrawn && !e->draining && !(e->breaker.open && e->breaker.by_stream);
}

/* Since when nothing starts any more; FILA_NEVER while things do, or are withdrawn already. */
static int64_t still_since(const struct fw_delivery *e)
{
    if (!idle(e)) {
        return FILA_NEVER;
    }
    int64_t since = e->breaker.open ? e->breaker.opened_at : FILA_NEVER;
    return e->paused ? fw_min(since, e->paused_at) : since;
}

void fw_breaker_step(struct fw_delivery *e)
{
    struct fw_breaker *breaker = &e->breaker;
    if (!breaker->open && !e->paused) {
        return;
    }
    int64_t since = still_since(e);
    int64_t down;
    if (since != FILA_NEVER && e->now >= since + e->vt / 2) {
        fw_withdraw(e);
    }
    if (!breaker->open || e->draining || e->paused || e->now < breaker->trial_at) {
        return;
    }
    if (e->config.has_probe) {
        if (!breaker->asked) {
            breaker->asked = true;
            fw_emit(e, &(struct fw_command){.kind = FW_COMMAND_PROBE});
        }
    } else if (e->withdrawn && e->now >= stream_trial_at(e) && fw_streams_down(e, &down)) {
        e->withdrawn = false;
        e->streams_at = 0;
        breaker->by_stream = true;
    }
}

int64_t fw_breaker_wake(const struct fw_delivery *e)
{
    const struct fw_breaker *breaker = &e->breaker;
    int64_t since = still_since(e);
    int64_t wake = since == FILA_NEVER ? FILA_NEVER : since + e->vt / 2;
    if (!breaker->open || e->draining || e->paused) {
        return wake;
    }
    if (e->config.has_probe) {
        return breaker->asked ? wake : fw_min(wake, breaker->trial_at);
    }
    int64_t at = e->withdrawn ? stream_trial_at(e) : breaker->trial_at;
    return at > e->now ? fw_min(wake, at) : wake;
}
