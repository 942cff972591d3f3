/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

enum {
    IDLE_WAKES = 100 /* timer calls at one instant: the engine runs in circles */
};

static struct sim_delivery *new_delivery(struct sim_worker *worker)
{
    struct world *w = worker->world;
    struct sim_delivery *d = w->free_deliveries;
    if (d != NULL) {
        w->free_deliveries = d->next;
    } else {
        d = malloc(sizeof(*d));
        if (d == NULL) {
            abort();
        }
    }
    memset(d, 0, sizeof(*d));
    d->worker = worker;
    d->next = worker->deliveries;
    if (d->next != NULL) {
        d->next->previous = d;
    }
    worker->deliveries = d;
    return d;
}

static void free_delivery(struct sim_delivery *d)
{
    struct sim_worker *worker = d->worker;
    if (d->previous != NULL) {
        d->previous->next = d->next;
    } else {
        worker->deliveries = d->next;
    }
    if (d->next != NULL) {
        d->next->previous = d->previous;
    }
    d->next = worker->world->free_deliveries;
    worker->world->free_deliveries = d;
}

void sim_delivery_release(struct sim_delivery *d)
{
    if (d->finished && d->run == 0 && !d->asked) {
        free_delivery(d);
    }
}

void sim_read(struct sim_stream *s, const struct sim_copy *copy, int64_t waiting_since)
{
    struct sim_worker *worker = s->worker;
    struct world *w = worker->world;
    struct sim_message *m = &w->messages[copy->message];
    struct sim_seen *seen = &worker->seen[copy->message];
    struct sim_delivery *d = new_delivery(worker);
    d->message = copy->message;
    d->attempt_count = copy->attempt_count;
    seen->lease_end = copy->lease_end > seen->lease_end ? copy->lease_end : seen->lease_end;
    seen->latest_read = w->now;
    m->attempts = copy->attempt_count > m->attempts ? copy->attempt_count : m->attempts;
    w->figures.received++;
    sim_trace(w, "read", worker->index, copy->message, copy->attempt_count);
    struct fw_arrival arrival = {
        .user = d,
        .queue = "q",
        .queue_len = SIM_QUEUE_LEN,
        .id = m->id,
        .id_len = strlen(m->id),
        .attempt_count = copy->attempt_count,
        .size = w->config.size,
        .wire_size = w->config.size,
        .lane = m->lane,
        .waiting_since = waiting_since,
    };
    fw_delivery_message(worker->engine, w->now, s->index, &arrival);
    sim_worker_take(worker);
}

static void finish(struct sim_delivery *d, const struct fw_command *command)
{
    struct world *w = d->worker->world;
    sim_trace(w, fw_outcome_name(command->outcome), d->worker->index, d->message, 0);
    if (command->outcome <= FW_DROPPED && command->outcome != FW_RETRIED) {
        d->worker->state.crashes[d->message] = 0; /* done, or dead: it crashes nobody any more */
    }
    d->finished = true;
    if (d->run != 0) {
        d->worker->given_up++;
        d->worker->alone -= d->alone;
        d->alone = false;
    }
    w->figures.outcomes[command->outcome]++;
    sim_delivery_release(d);
}

static void ended(struct world *w, struct event *event)
{
    struct sim_worker *worker = event->object;
    if (event->life != worker->life || worker->engine == NULL) {
        return;
    }
    sim_worker_end(worker);
    if (!w->over && !sim_worker_start(worker)) {
        sim_fail(w, "no memory");
    }
}

/* The process ends with its engine, and is started again. */
static void drained(struct sim_worker *worker)
{
    struct world *w = worker->world;
    sim_trace(w, "drained", worker->index, UINT32_MAX, 0);
    if (fw_delivery_stats(worker->engine).held > 0) {
        sim_fail(w, "drained, and yet something is held");
    }
    sim_at(w, w->now + sim_between(w, 0, FILA_S), ended, worker, worker->life, 0);
}

static void notice(struct sim_worker *worker, const struct fw_command *command)
{
    static const char *const names[FW_NOTICE_COUNT] = {
        [FW_NOTICE_OVERLEASED] = "OVERLEASED",
        [FW_NOTICE_PIPE_SLOW] = "PIPE-SLOW",
        [FW_NOTICE_VT_SHORT] = "VT-SHORT",
        [FW_NOTICE_RETRY_SPLIT] = "RETRY-SPLIT",
        [FW_NOTICE_BREAKER_OPEN] = "BREAKER-OPEN",
        [FW_NOTICE_BREAKER_CLOSED] = "BREAKER-CLOSED",
        [FW_NOTICE_DLQ_REFUSED] = "DLQ-REFUSED",
        [FW_NOTICE_DLQ_TOO_LARGE] = "DLQ-TOO-LARGE",
        [FW_NOTICE_FLUSH] = "FLUSH",
        [FW_NOTICE_RECONNECT] = "RECONNECT",
    };
    struct world *w = worker->world;
    w->figures.notices[command->notice]++;
    w->figures.notice_values[command->notice] = command->value;
    w->figures.flushes += command->notice == FW_NOTICE_FLUSH;
    sim_trace(w, names[command->notice], worker->index, UINT32_MAX, command->value);
}

static void obey(struct sim_worker *worker, const struct fw_command *command)
{
    static const char *const names[] = {
        [FW_COMMAND_RUN] = "RUN",          [FW_COMMAND_CANCEL] = "CANCEL",
        [FW_COMMAND_ACK] = "ACK",          [FW_COMMAND_NACK] = "NACK",
        [FW_COMMAND_REJECT] = "REJECT",    [FW_COMMAND_PUBLISH] = "PUBLISH",
        [FW_COMMAND_GRANT] = "GRANT",      [FW_COMMAND_OPEN_STREAM] = "OPEN",
        [FW_COMMAND_STOP_STREAM] = "STOP", [FW_COMMAND_PROBE] = "PROBE",
        [FW_COMMAND_FINISH] = "FINISH",
    };
    struct world *w = worker->world;
    struct sim_delivery *d = command->user;
    if (command->kind <= FW_COMMAND_PUBLISH) {
        sim_trace(
            w, names[command->kind], worker->index, d->message,
            (command->deadline - w->now) / FILA_MS);
    } else if (command->kind <= FW_COMMAND_PROBE) {
        sim_trace(w, names[command->kind], worker->index, UINT32_MAX, command->credits);
    }
    switch (command->kind) {
    case FW_COMMAND_RUN:
        sim_run_start(d, command);
        break;
    case FW_COMMAND_CANCEL:
        sim_run_cancel(d);
        break;
    case FW_COMMAND_ACK:
        w->figures.acks++;
        sim_call(d, command);
        break;
    case FW_COMMAND_NACK:
    case FW_COMMAND_REJECT:
        w->figures.nacks++;
        w->figures.returns += command->cause == FW_CAUSE_NONE;
        sim_call(d, command);
        break;
    case FW_COMMAND_PUBLISH:
        w->figures.publishes++;
        sim_call(d, command);
        break;
    case FW_COMMAND_GRANT:
        sim_stream_grant(&worker->streams[command->stream], command->credits);
        break;
    case FW_COMMAND_OPEN_STREAM:
        sim_stream_open(&worker->streams[command->stream], command->window);
        break;
    case FW_COMMAND_STOP_STREAM:
        sim_stream_stop(&worker->streams[command->stream]);
        break;
    case FW_COMMAND_PROBE:
        sim_probe(worker);
        break;
    case FW_COMMAND_HOLD:
        break;
    case FW_COMMAND_COMPANY:
        d->alone = false;
        worker->alone--;
        break;
    case FW_COMMAND_RECORD:
        sim_state_record(worker, command);
        break;
    case FW_COMMAND_NOTICE:
        notice(worker, command);
        break;
    case FW_COMMAND_FINISH:
        finish(d, command);
        break;
    case FW_COMMAND_DRAINED:
        drained(worker);
        break;
    }
}

static void wake(struct world *w, struct event *event);

static void plan_wake(struct sim_worker *worker)
{
    struct world *w = worker->world;
    int64_t at = fw_delivery_wake_at(worker->engine);
    if (at != FILA_NEVER && at < worker->wake_at) {
        int64_t late = w->config.late_wake > 0 ? sim_between(w, 0, w->config.late_wake) : 0;
        worker->wake_at = at;
        sim_at(w, at + late, wake, worker, worker->life, ++worker->wake_number);
    }
}

/* One engine's event may make others due. */
static void plan_wakes(struct sim_worker *worker)
{
    struct world *w = worker->world;
    if (w->shared == NULL) {
        if (worker->engine != NULL) {
            plan_wake(worker);
        }
        return;
    }
    for (uint32_t i = 0; i < w->config.workers; i++) {
        if (w->workers[i].engine != NULL) {
            plan_wake(&w->workers[i]);
        }
    }
}

static void wake(struct world *w, struct event *event)
{
    struct sim_worker *worker = event->object;
    if (event->life != worker->life || worker->engine == NULL ||
        event->value != worker->wake_number) { /* a sooner one was planned since */
        return;
    }
    worker->wake_at = FILA_NEVER;
    if (fw_delivery_wake_at(worker->engine) > w->now) {
        plan_wake(worker);
        return;
    }
    worker->wakes_here = worker->woken_at == w->now ? worker->wakes_here + 1 : 0;
    worker->woken_at = w->now;
    if (worker->wakes_here > IDLE_WAKES) {
        sim_fail(w, "w%u: the engine asks to be woken again and again", worker->index);
        return;
    }
    fw_delivery_timer(worker->engine, w->now);
    sim_worker_take(worker);
}

void sim_worker_take(struct sim_worker *worker)
{
    struct fw_command command;
    while (worker->engine != NULL && fw_delivery_next(worker->engine, &command)) {
        sim_check_command(worker, &command);
        if (worker->world->failed) {
            return;
        }
        obey(worker, &command);
    }
    sim_check_worker(worker);
    plan_wakes(worker);
}

struct fw_delivery_config sim_worker_config(const struct world *w, uint32_t index)
{
    struct fw_delivery_config config = w->config.engine;
    config.seed = w->config.seed * 31 + index;
    config.journal = w->config.state;
    config.shared = w->shared;
    return config;
}

bool sim_worker_start(struct sim_worker *worker)
{
    struct world *w = worker->world;
    worker->config = sim_worker_config(w, worker->index);
    worker->life++;
    worker->process = ++w->processes;
    worker->draining = false;
    worker->paused = false;
    worker->pressed = false;
    worker->flushed = false;
    worker->most_prefetch = 0;
    worker->under_way = 0;
    worker->wake_at = FILA_NEVER;
    for (uint32_t i = 0; i < SIM_STREAMS_MAX; i++) {
        worker->streams[i].worker = worker;
        worker->streams[i].index = i;
    }
    memset(worker->seen, 0, w->config.messages * sizeof(*worker->seen));
    sim_trace(w, "start", worker->index, UINT32_MAX, 0);
    worker->engine = fw_delivery_new(&worker->config, w->now);
    if (worker->engine == NULL) {
        return false;
    }
    if (w->config.state) {
        sim_state_restore(worker);
    }
    sim_worker_take(worker);
    return true;
}

static void end(struct sim_worker *worker, bool killed)
{
    struct world *w = worker->world;
    sim_trace(w, "gone", worker->index, UINT32_MAX, 0);
    sim_state_keep(worker, killed);
    for (uint32_t i = 0; i < SIM_STREAMS_MAX; i++) {
        sim_stream_fini(&worker->streams[i]);
    }
    while (worker->deliveries != NULL) {
        struct sim_delivery *d = worker->deliveries;
        if (d->run != 0) {
            w->messages[d->message].running--;
            worker->lane_running[w->messages[d->message].lane]--;
            worker->running--;
        }
        free_delivery(d);
    }
    fw_delivery_free(worker->engine);
    worker->engine = NULL;
    worker->alone = 0;
    worker->given_up = 0;
    worker->life++;
    plan_wakes(worker);
}

void sim_worker_kill(struct sim_worker *worker)
{
    end(worker, true);
}

void sim_worker_end(struct sim_worker *worker)
{
    end(worker, false);
}

void sim_worker_drain(struct sim_worker *worker, int64_t time)
{
    struct world *w = worker->world;
    sim_trace(w, "drain", worker->index, UINT32_MAX, time);
    if (!worker->draining || w->now + time < worker->drain_deadline) {
        worker->drain_deadline = w->now + time;
    }
    worker->draining = true;
    fw_delivery_drain(worker->engine, w->now, w->now + time);
    sim_worker_take(worker);
}
