/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

enum {
    BATCH = 8 /* credits at a time: what is read past the flush's end exceeds the bound */
};

/* What a message of this stream has left when the flush that is due for it begins. */
static int64_t flush_due(const struct fw_delivery *e, const struct fw_stream *s)
{
    int64_t due = fw_oldest_unread(s) + e->vt - e->need - e->margin - e->slack;
    return fw_max(due, s->flush_next);
}

/* Reading stands still because the bounds are reached (there is no room), and for no other reason.
 */
static bool stands_still(const struct fw_delivery *e, const struct fw_stream *s)
{
    return s->state == FW_STREAM_UP && s->credits == 0 && !e->pressure && !e->paused;
}

static void begin(struct fw_delivery *e, struct fw_stream *s)
{
    s->flushing = true;
    e->flushing++;
    s->flush_began = e->now;
    s->flush_left = fw_walk_pipe(&s->walk);
    s->flush_returned = 0;
    s->flush_number = ++e->flushes;
    s->flush_left--;
    fw_stream_grant(e, s, 1); /* the pipe may be empty: one credit finds out */
}

/* How long a message kept the slots of late, going by what came through them while the oldest one
 * lay unread: retries, lanes, a bound over all queues and slow handlers are all in it. */
static int64_t pace(const struct fw_delivery *e, const struct fw_stream *s)
{
    int64_t since = fw_oldest_unread(s);
    const struct fw_pace *from = NULL;
    for (int i = 0; i < FW_PACES; i++) {
        const struct fw_pace *p = &e->paces[i];
        if (p->at != 0 && p->at < e->now && p->at <= since && (from == NULL || p->at > from->at)) {
            from = p;
        }
    }
    if (from == NULL) {
        return 0;
    }
    uint64_t through = e->through - from->through;
    return (e->now - from->at) / (through > 0 ? (int64_t)through : 1);
}

/* What all streams lease ahead. */
static int64_t pipes(const struct fw_delivery *e)
{
    int64_t messages = 0;
    for (uint32_t i = 0; i < e->stream_count; i++) {
        if (e->streams[i].state == FW_STREAM_UP) {
            messages += fw_walk_pipe(&e->streams[i].walk);
        }
    }
    return messages;
}

/* The visibility timeout within which all that is leased ahead could be worked off; more than the
 * one in force, which has proved too short. */
static int64_t enough(const struct fw_delivery *e, const struct fw_stream *s)
{
    int64_t each = e->mean_run > 0 ? e->mean_run : e->need;
    each /= e->config.concurrency;
    if (e->config.rate > 0) {
        each = fw_max(each, fw_rate_interval(e));
    }
    each = fw_max(each, pace(e, s));
    int64_t leased = pipes(e) + e->config.prefetch + e->behind + e->aside;
    int64_t work = fw_times(fw_times(leased, each) / 10, 11) + e->need; /* they vary by some 10 % */
    int64_t vt = fw_max(work, e->vt + e->vt / 4);
    while (vt - fw_margin_for(vt, 0) - fw_slack_for(vt, 0) < work) {
        vt += fw_max(work / 64, FILA_MS);
    }
    return vt;
}

void fw_flush_end(struct fw_delivery *e, struct fw_stream *s)
{
    if (!s->flushing) {
        return;
    }
    s->flushing = false;
    e->flushing--;
    s->flush_left = 0;
    s->flush_next = e->now + e->vt / 4;
    if (s->flush_returned == 0) {
        return;
    }
    fw_notice(e, FW_NOTICE_FLUSH, NULL, s->flush_returned);
    if (e->now >= e->overleased_until) {
        fw_notice(e, FW_NOTICE_OVERLEASED, NULL, enough(e, s));
    }
    e->overleased_until = e->now + 2 * e->vt;
}

/* Leased since the flush began, or with most of its time left. */
static bool fresh(const struct fw_delivery *e, const struct fw_stream *s, const struct fw_held *h)
{
    int64_t usable = e->vt - e->need - e->margin;
    int64_t left = fw_early_end(e, h) - e->margin - e->need - e->now;
    return h->window.early >= s->flush_began || left >= usable / 4 * 3;
}

/* It starts at once: nothing else that could waits for the free slot. */
static bool runs_now(const struct fw_delivery *e, const struct fw_held *h)
{
    return fw_slot_free(e) && fw_fits(e, h) && (h->lane == NULL || h->lane->active == NULL);
}

bool fw_flush_takes(struct fw_delivery *e, struct fw_stream *s, struct fw_held *h)
{
    if (!s->flushing) {
        return false;
    }
    if (h->id->flush == s->flush_number || fresh(e, s, h)) {
        fw_flush_end(e, s);
        return false;
    }
    if (!fw_certain(e, h) || runs_now(e, h)) {
        return false;
    }
    h->id->flush = s->flush_number;
    s->flush_returned++;
    fw_give_back(e, h);
    return true;
}

/* More is read while there is some left to read, and the nacks keep pace. */
static void go_on(struct fw_delivery *e, struct fw_stream *s)
{
    if (s->credits > 0) {
        return;
    }
    if (s->flush_left == 0) {
        fw_flush_end(e, s);
        return;
    }
    if (e->accounts[FW_ACCOUNT_SETTLING] < e->config.settle_in_flight) {
        uint32_t credits = s->flush_left < BATCH ? s->flush_left : BATCH;
        s->flush_left -= credits;
        fw_stream_grant(e, s, credits);
    }
}

void fw_flush_step(struct fw_delivery *e)
{
    for (uint32_t i = 0; i < e->stream_count; i++) {
        struct fw_stream *s = &e->streams[i];
        if (s->flushing) {
            go_on(e, s);
        } else if (stands_still(e, s) && e->now >= flush_due(e, s)) {
            begin(e, s);
        }
    }
}

int64_t fw_flush_wake(const struct fw_delivery *e)
{
    int64_t wake = FILA_NEVER;
    if (fw_room(e) > 0) {
        return wake;
    }
    for (uint32_t i = 0; i < e->stream_count; i++) {
        const struct fw_stream *s = &e->streams[i];
        if (!s->flushing && stands_still(e, s)) {
            wake = fw_min(wake, flush_due(e, s));
        }
    }
    return wake;
}
