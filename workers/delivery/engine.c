/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <stdlib.h>

/* Of prefetch, for each stream. */
static uint32_t share_of(const struct fw_delivery_config *config)
{
    return config->prefetch > config->streams ? config->prefetch / config->streams : 1;
}

struct fw_delivery *fw_delivery_new(const struct fw_delivery_config *config, int64_t now)
{
    struct fw_delivery *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return NULL;
    }
    e->config = fw_config_fill(config);
    e->now = now;
    e->vt = e->config.visibility_timeout;
    e->need_limit = FILA_NEVER;
    e->random = config->seed;
    e->shared = config->shared != NULL ? config->shared : &e->own_shared;
    if (!fw_ids_init(&e->ids, config->seed) || !fw_held_init(e) || !fw_lane_init(e) ||
        !fw_commands_reserve(&e->commands, 1) || !fw_streams_resize(e, e->config.streams)) {
        fw_delivery_free(e);
        return NULL;
    }
    e->share = share_of(&e->config);
    fw_timing_update(e);
    if (config->timeout > 0) { /* else the handler's own times tell, once known */
        fw_check_split(e);
    }
    fw_streams_step(e);
    return e;
}

void fw_delivery_free(struct fw_delivery *engine)
{
    if (engine == NULL) {
        return;
    }
    fw_shared_leave(engine);
    fw_streams_fini(engine);
    fw_lane_fini(engine);
    fw_held_fini(engine);
    fw_ids_fini(&engine->ids);
    fw_heap_fini(&engine->timers);
    fw_commands_fini(&engine->commands);
    free(engine);
}

/* Time never goes back, whatever the owner says. */
static void begin(struct fw_delivery *e, int64_t now)
{
    e->now = fw_max(e->now, now);
}

static void timers_due(struct fw_delivery *e)
{
    struct fw_timer *timer;
    while ((timer = fw_heap_first(&e->timers)) != NULL && timer->due <= e->now) {
        struct fw_held *h = FW_OWNER(timer, struct fw_held, timer);
        switch (h->state) {
        case FW_SUSPECT:
        case FW_BEHIND:
        case FW_ASIDE:
            fw_time_over(e, h);
            break;
        case FW_RESEND:
            fw_settle_again(e, h);
            break;
        default:
            fw_wait_over(e, h);
            break;
        }
    }
}

/* Does all that has become due. */
static void step(struct fw_delivery *e)
{
    timers_due(e);
    if (e->certain.count + e->unsure.count > 0) {
        fw_return_overdue(e);
    }
    fw_breaker_step(e);
    if (e->withdrawn || e->draining) {
        fw_drain_step(e);
    }
    fw_streams_step(e);
    if (e->suspects != NULL || e->shared->alone == e) {
        fw_suspects_step(e);
    }
    if (e->certain.count + e->unsure.count > 0 || e->blocked) {
        fw_start(e);
    }
    if (e->acks != NULL || e->nacks != NULL) {
        fw_settle_send(e);
    }
    uint32_t room = fw_room(e);
    if (room == 0 || e->flushing > 0) {
        fw_flush_step(e);
        room = fw_room(e); /* a flush reads on credits of its own */
    }
    if (room > 0) {
        fw_grant(e, room);
    }
}

static struct fw_stream *stream_of(const struct fw_delivery *e, uint32_t stream)
{
    return stream < e->stream_count ? &e->streams[stream] : NULL;
}

void fw_delivery_stream_open(
    struct fw_delivery *engine,
    int64_t now,
    uint32_t stream,
    const struct fw_pipe *pipe)
{
    begin(engine, now);
    struct fw_stream *s = stream_of(engine, stream);
    if (s != NULL) {
        fw_stream_opened(engine, s, pipe);
    }
    step(engine);
}

void fw_delivery_stream_end(
    struct fw_delivery *engine,
    int64_t now,
    uint32_t stream,
    enum fw_stream_end how)
{
    begin(engine, now);
    struct fw_stream *s = stream_of(engine, stream);
    if (s != NULL) {
        fw_stream_ended(engine, s, how);
    }
    step(engine);
}

void fw_delivery_message(
    struct fw_delivery *engine,
    int64_t now,
    uint32_t stream,
    const struct fw_arrival *arrival)
{
    begin(engine, now);
    engine->received++;
    struct fw_stream *s = stream_of(engine, stream);
    if (s == NULL) {
        fw_refuse(engine, arrival->user);
    } else {
        fw_stream_used(engine, s);
        fw_admit(engine, s, arrival);
    }
    step(engine);
}

void fw_delivery_verdict(
    struct fw_delivery *engine,
    int64_t now,
    void *user,
    const struct fw_verdict *verdict)
{
    begin(engine, now);
    struct fw_held *h = fw_held_of(engine, user);
    if (h != NULL && h->state == FW_RUNNING) {
        fw_verdict(engine, h, verdict);
    }
    step(engine);
}

void fw_delivery_settled(
    struct fw_delivery *engine,
    int64_t now,
    void *user,
    enum fw_settled result,
    int64_t took)
{
    begin(engine, now);
    fw_settle_took(engine, took);
    struct fw_held *h = fw_held_of(engine, user);
    if (h != NULL && h->state == FW_SETTLING) {
        fw_settled(engine, h, result);
    }
    step(engine);
}

void fw_delivery_published(
    struct fw_delivery *engine,
    int64_t now,
    void *user,
    enum fw_settled result,
    bool too_large)
{
    begin(engine, now);
    struct fw_held *h = fw_held_of(engine, user);
    if (h != NULL && h->state == FW_PUBLISHING) {
        fw_published(engine, h, result, too_large);
    }
    step(engine);
}

void fw_delivery_probed(struct fw_delivery *engine, int64_t now, bool healthy)
{
    begin(engine, now);
    fw_breaker_probed(engine, healthy);
    step(engine);
}

void fw_delivery_timer(struct fw_delivery *engine, int64_t now)
{
    begin(engine, now);
    step(engine);
}

void fw_delivery_pause(struct fw_delivery *engine, int64_t now)
{
    begin(engine, now);
    if (!engine->paused) {
        engine->paused = true;
        engine->paused_at = engine->now;
    }
    step(engine);
}

void fw_delivery_resume(struct fw_delivery *engine, int64_t now)
{
    begin(engine, now);
    if (engine->paused) {
        engine->paused = false;
        engine->withdrawn = false;
        engine->streams_at = 0;
    }
    step(engine);
}

void fw_delivery_drain(struct fw_delivery *engine, int64_t now, int64_t deadline)
{
    begin(engine, now);
    if (!engine->draining || deadline < engine->drain_deadline) {
        engine->drain_deadline = deadline;
    }
    engine->draining = true;
    engine->streams_at = 0;
    step(engine);
}

void fw_delivery_reconfigure(
    struct fw_delivery *engine,
    int64_t now,
    const struct fw_delivery_config *config)
{
    begin(engine, now);
    struct fw_delivery_config full = fw_config_fill(config);
    if (!fw_streams_resize(engine, full.streams)) {
        full.streams = engine->stream_count;
    }
    engine->streams_at = 0;
    bool other_vt = full.visibility_timeout != engine->config.visibility_timeout;
    engine->config = full;
    engine->share = share_of(&full);
    if (other_vt) {
        engine->vt = full.visibility_timeout;
        fw_forget_short_lease(engine);
    }
    fw_timing_update(engine);
    step(engine);
}

void fw_delivery_pressure(struct fw_delivery *engine, int64_t now, bool on)
{
    begin(engine, now);
    engine->pressure = on;
    step(engine);
}

bool fw_delivery_next(struct fw_delivery *engine, struct fw_command *ret_command)
{
    return fw_commands_take(&engine->commands, ret_command);
}

int64_t fw_delivery_wake_at(const struct fw_delivery *engine)
{
    const struct fw_timer *timer = fw_heap_first(&engine->timers);
    int64_t wake = timer != NULL ? timer->due : FILA_NEVER;
    wake = fw_min(wake, fw_start_wake(engine));
    wake = fw_min(wake, fw_suspects_wake(engine));
    wake = fw_min(wake, fw_breaker_wake(engine));
    wake = fw_min(wake, fw_drain_wake(engine));
    wake = fw_min(wake, fw_streams_wake(engine));
    return fw_min(wake, fw_flush_wake(engine));
}

struct fw_delivery_stats fw_delivery_stats(const struct fw_delivery *engine)
{
    struct fw_delivery_stats stats = {
        .received = engine->received,
        .held = HASH_CNT(hh, engine->by_user) - 1,
        .held_bytes = engine->held_bytes,
        .running = engine->running,
        .prefetched = engine->accounts[FW_ACCOUNT_PREFETCH],
        .ready = engine->certain.count + engine->unsure.count + engine->suspect_count,
        .retry_waiting = engine->waiting,
        .settling = engine->accounts[FW_ACCOUNT_SETTLING],
        .breaker_open = engine->breaker.open,
        .draining = engine->draining,
        .paused = engine->paused,
    };
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        stats.finished[i] = engine->finished[i];
    }
    for (int i = 0; i < FW_CAUSE_COUNT; i++) {
        stats.failures[i] = engine->failures[i];
    }
    for (uint32_t i = 0; i < engine->stream_count; i++) {
        stats.streams_up += engine->streams[i].state == FW_STREAM_UP;
        stats.flushing = stats.flushing || engine->streams[i].flushing;
    }
    return stats;
}
