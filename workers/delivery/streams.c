/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_PAUSE   (200 * FILA_MS)
#define LONGEST_PAUSE (30 * FILA_S)

bool fw_streams_resize(struct fw_delivery *e, uint32_t count)
{
    if (count <= e->stream_count) {
        return true;
    }
    struct fw_stream *streams = realloc(e->streams, count * sizeof(*streams));
    if (streams == NULL) {
        return false;
    }
    memset(streams + e->stream_count, 0, (count - e->stream_count) * sizeof(*streams));
    e->streams = streams;
    e->stream_count = count;
    return true;
}

void fw_streams_fini(struct fw_delivery *e)
{
    for (uint32_t i = 0; i < e->stream_count; i++) {
        fw_walk_fini(&e->streams[i].walk);
    }
    free(e->streams);
    e->streams = NULL;
    e->stream_count = 0;
}

static uint32_t index_of(const struct fw_delivery *e, const struct fw_stream *s)
{
    return (uint32_t)(s - e->streams);
}

static void stream_notice(
    struct fw_delivery *e,
    const struct fw_stream *s,
    enum fw_notice notice,
    int64_t value)
{
    fw_emit(
        e,
        &(struct fw_command){
            .kind = FW_COMMAND_NOTICE, .notice = notice, .stream = index_of(e, s), .value = value});
}

static void ask(struct fw_delivery *e, struct fw_stream *s)
{
    s->state = FW_STREAM_OPENING;
    s->was_open = false;
    s->asked_at = e->now;
    s->opened_at = e->now;
    s->empty_at = 0;
    s->ready_since = 0;
    s->slow_since = 0;
    s->stale_since = 0;
    fw_walk_open(&s->walk, UINT32_MAX, 0); /* until the pipe is known */
    fw_emit(
        e, &(struct fw_command){
               .kind = FW_COMMAND_OPEN_STREAM, .stream = index_of(e, s), .window = s->window});
}

void fw_stream_opened(struct fw_delivery *e, struct fw_stream *s, const struct fw_pipe *pipe)
{
    if (s->state != FW_STREAM_OPENING && s->state != FW_STREAM_STOPPING) {
        return;
    }
    s->pipe = *pipe;
    fw_forget_short_lease(e);
    fw_timing_update(e);
    int64_t answers = fw_peak_get(&e->answers, e->now, e->config.visibility_timeout);
    s->opened_at = fw_max(s->asked_at, e->now - fw_max(e->slack, answers));
    s->up_at = e->now;
    s->was_open = true;
    s->flush_next = 0;
    fw_walk_open(&s->walk, pipe->slots, pipe->bytes);
    if (s->state == FW_STREAM_OPENING) {
        s->state = FW_STREAM_UP;
    }
}

/* The pause before the next try (rule 14). */
static int64_t next_pause(struct fw_delivery *e, struct fw_stream *s, enum fw_stream_end how)
{
    int64_t longest = fw_min(e->config.visibility_timeout, LONGEST_PAUSE);
    if (s->was_open && e->now - s->up_at >= e->config.visibility_timeout) {
        s->pause = 0;
        s->redirects = 0;
    }
    if (how == FW_STREAM_REDIRECTED && s->redirects++ == 0) {
        return 0;
    }
    if (how == FW_STREAM_REFUSED || how == FW_STREAM_MISSING) {
        s->pause = longest;
        return longest - fw_random_up_to(e, longest / 2);
    }
    s->pause = fw_min(s->pause == 0 ? FIRST_PAUSE : 2 * s->pause, longest);
    return fw_random_up_to(e, s->pause);
}

void fw_stream_ended(struct fw_delivery *e, struct fw_stream *s, enum fw_stream_end how)
{
    if (s->state == FW_STREAM_DOWN) {
        return;
    }
    int64_t pause = next_pause(e, s, how);
    fw_flush_end(e, s);
    e->credits -= s->credits;
    s->credits = 0;
    e->streams_at = 0;
    s->state = FW_STREAM_DOWN;
    s->ended_at = e->now;
    s->open_at = e->now + pause;
    if (fw_wants_stream(e, index_of(e, s))) {
        stream_notice(e, s, FW_NOTICE_RECONNECT, pause);
    }
}

void fw_stream_stop(struct fw_delivery *e, struct fw_stream *s)
{
    if (s->state == FW_STREAM_OPENING || s->state == FW_STREAM_UP) {
        s->state = FW_STREAM_STOPPING;
        fw_flush_end(e, s);
        fw_emit(e, &(struct fw_command){.kind = FW_COMMAND_STOP_STREAM, .stream = index_of(e, s)});
    }
}

void fw_stream_used(struct fw_delivery *e, struct fw_stream *s)
{
    if (s->credits > 0) {
        s->credits--;
        e->credits--;
        s->unready_at = e->now;
    }
}

static int64_t streams_wake(const struct fw_delivery *e)
{
    int64_t wake = FILA_NEVER;
    for (uint32_t i = 0; i < e->stream_count; i++) {
        if (e->streams[i].state == FW_STREAM_DOWN && fw_wants_stream(e, i)) {
            wake = fw_min(wake, e->streams[i].open_at);
        }
    }
    return wake;
}

void fw_streams_step(struct fw_delivery *e)
{
    if (e->now < e->streams_at) {
        return;
    }
    for (uint32_t i = 0; i < e->stream_count; i++) {
        struct fw_stream *s = &e->streams[i];
        if (!fw_wants_stream(e, i)) {
            fw_stream_stop(e, s);
        } else if (s->state == FW_STREAM_DOWN && e->now >= s->open_at) {
            ask(e, s);
        }
    }
    e->streams_at = streams_wake(e);
}

int64_t fw_streams_wake(const struct fw_delivery *e)
{
    return e->streams_at;
}

bool fw_streams_down(const struct fw_delivery *e, int64_t *ret_since)
{
    int64_t since = 0;
    for (uint32_t i = 0; i < e->stream_count; i++) {
        if (e->streams[i].state != FW_STREAM_DOWN) {
            return false;
        }
        since = fw_max(since, e->streams[i].ended_at);
    }
    *ret_since = since;
    return true;
}

/* A good part of what the path can carry came through: a window each round trip, or two. */
static bool window_is_full(const struct fw_stream *s, int64_t length)
{
    int64_t trips = length / (s->pipe.round_trip > 0 ? s->pipe.round_trip : 1);
    return s->slow_bytes >= (uint64_t)s->pipe.window / 4 * (uint64_t)trips;
}

/* Messages are read as they come, and yet they are old: they take too long through the window. */
void fw_pipe_check(struct fw_delivery *e, struct fw_stream *s, const struct fw_arrival *arrival)
{
    if (e->now - fw_oldest_unread(s) <= e->vt / 4) {
        s->slow_since = 0;
        return;
    }
    if (s->slow_since == 0) {
        s->slow_since = e->now;
        s->slow_waited = 0;
        s->slow_bytes = 0;
        return;
    }
    s->slow_waited += e->now - fw_max(arrival->waiting_since, s->slow_since);
    s->slow_bytes += arrival->wire_size;
    int64_t length = e->now - s->slow_since;
    if (s->state != FW_STREAM_UP || length < e->vt / 4 || s->slow_waited < length / 2 ||
        s->pipe.window == 0 || s->pipe.window >= FW_WINDOW_MAX || !window_is_full(s, length)) {
        return;
    }
    uint32_t doubled = s->pipe.window > FW_WINDOW_MAX / 2 ? FW_WINDOW_MAX : s->pipe.window * 2;
    s->window = doubled;
    stream_notice(e, s, FW_NOTICE_PIPE_SLOW, doubled);
    fw_stream_stop(e, s);
}

/* Nothing is done with it: rule 2 leaves it to its lease, since it may not run, or not be
 * published; or rule 7 does with `expire`, since it is too old to start. */
static bool is_left(const struct fw_delivery *e, const struct fw_held *h)
{
    bool doomed = h->id->doomed != FW_CAUSE_NONE;
    if (fw_certain(e, h)) {
        return e->config.surplus == FW_SURPLUS_EXPIRE && !doomed && !fw_fits(e, h);
    }
    return e->config.unsure_lease == FW_UNSURE_SKIP || doomed;
}

/* Messages that are left come back when their leases end, and so on round and round. Too many for
 * the pipe ever to prove empty (c), too few to fill it well within a VT (b), they would stay as
 * uncertain, or as old, for ever: of all terms only (a), a new stream, ends that. Its pace is rule
 * 14's, since it comes after a VT at the earliest; and its cost, a pipe leased away, is small, for
 * nothing was done with what came through the old one. */
void fw_stale_check(struct fw_delivery *e, struct fw_stream *s, const struct fw_held *h)
{
    if (!is_left(e, h)) {
        s->stale_since = fw_certain(e, h) && fw_fits(e, h) ? 0 : s->stale_since;
    } else if (s->stale_since == 0) {
        s->stale_since = e->now;
    } else if (e->now - s->stale_since >= e->config.visibility_timeout) {
        fw_stream_stop(e, s);
    }
}

static uint32_t left_of(uint32_t limit, uint32_t used)
{
    return used < limit ? limit - used : 0;
}

static uint32_t lower(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* As many of `room` messages as the bytes have room for, going by the sizes of late; at least one
 * while there is any. */
static uint32_t fit_bytes(const struct fw_delivery *e, uint32_t room)
{
    uint64_t limit = e->config.prefetch_bytes;
    uint64_t size = e->size_seen > 0 ? e->size_seen : 1;
    if (e->held_bytes + (e->credits + (uint64_t)room) * size <= limit) {
        return room;
    }
    if (e->held_bytes >= limit) {
        return 0;
    }
    uint64_t messages = (limit - e->held_bytes) / size;
    return lower(room, left_of(messages > 1 ? (uint32_t)messages : 1, e->credits));
}

uint32_t fw_room(const struct fw_delivery *e)
{
    if (e->pressure || e->paused) {
        return 0;
    }
    uint32_t room = left_of(e->config.prefetch, e->accounts[FW_ACCOUNT_PREFETCH] + e->credits);
    if (room == 0) {
        return 0;
    }
    room = lower(room, left_of(FW_WAITING_LIMIT, e->accounts[FW_ACCOUNT_WAITING] + e->credits));
    room = lower(
        room, left_of(e->config.settle_in_flight, e->accounts[FW_ACCOUNT_SETTLING] + e->credits));
    return room == 0 ? 0 : fit_bytes(e, room);
}

void fw_stream_grant(struct fw_delivery *e, struct fw_stream *s, uint32_t credits)
{
    if (s->credits == 0 && (s->ready_since == 0 || s->unready_at != e->now)) {
        s->ready_since = e->now;
    }
    s->credits += credits;
    e->credits += credits;
    fw_emit(
        e, &(struct fw_command){
               .kind = FW_COMMAND_GRANT, .stream = index_of(e, s), .credits = credits});
}

/* Each stream has its share of prefetch, whether the others are open or not: credits cannot be
 * taken back from one that is idle. It is topped up when a quarter is used. */
void fw_grant(struct fw_delivery *e, uint32_t room)
{
    uint32_t share = e->share;
    for (uint32_t n = 0; n < e->stream_count && room > 0; n++) {
        e->next_stream = e->next_stream + 1 < e->stream_count ? e->next_stream + 1 : 0;
        struct fw_stream *s = &e->streams[e->next_stream];
        if (s->state != FW_STREAM_UP || s->credits >= share) {
            continue;
        }
        uint32_t credits = lower(room, share - s->credits);
        if (s->credits == 0 || credits >= (share + 3) / 4) {
            fw_stream_grant(e, s, credits);
            room -= credits;
        }
    }
}
