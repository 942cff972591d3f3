/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "sim/world.h"

enum {
    STOP_MS = 2,       /* how long a handler takes to stop when told */
    OVERTAKEN_BY = 256 /* messages: more than slots, prefetch and the pipe's slots can do */
};

static int64_t duration(struct world *w, const struct sim_worker *worker)
{
    if (worker->stuck) {
        return 1000000 * FILA_S;
    }
    if (sim_happens(w, w->config.long_run)) {
        return w->config.long_for;
    }
    return sim_between(w, w->config.run_min, w->config.run_max);
}

/* What the handler says of its own. */
static struct fw_verdict judge(struct world *w, const struct sim_delivery *d)
{
    const struct sim_message *m = &w->messages[d->message];
    struct fw_verdict verdict = {.kind = FW_ACK};
    if (sim_within(w, w->config.dependency_down)) {
        verdict.kind = FW_UNAVAILABLE;
    } else if (m->rejects) {
        verdict.kind = FW_REJECT;
    } else if (sim_happens(w, w->config.crash)) {
        verdict.kind = FW_RETRY;
        verdict.cause = FW_CAUSE_CRASH;
    } else if (m->poison || sim_happens(w, w->config.fail)) {
        verdict.kind = FW_RETRY;
        verdict.delay =
            sim_happens(w, w->config.retry_after) ? sim_between(w, 1, 2 * w->config.broker_vt) : 0;
    }
    return verdict;
}

static void run_over(struct sim_delivery *d, const struct fw_verdict *verdict)
{
    struct world *w = d->worker->world;
    sim_state_ran(d, verdict);
    d->worker->alone -= d->alone;
    d->alone = false;
    struct sim_message *m = &w->messages[d->message];
    d->run = 0;
    d->worker->running--;
    d->worker->given_up -= d->finished;
    d->worker->lane_running[m->lane]--;
    d->worker->seen[d->message].running = false;
    m->running--;
    w->slots_used += w->now - d->started;
    w->last_run_end = w->now;
}

static void run_ends(struct world *w, struct event *event)
{
    struct sim_delivery *d = event->object;
    struct sim_worker *worker = d->worker;
    if (event->life != worker->life || d->run != (uint64_t)event->value) {
        return;
    }
    struct fw_verdict verdict;
    if (w->now >= d->natural_end) {
        verdict = judge(w, d);
    } else {
        verdict = (struct fw_verdict){.kind = FW_RETRY, .cause = FW_CAUSE_TIMEOUT};
    }
    verdict.started = d->started;
    verdict.ended = w->now;
    run_over(d, &verdict);
    if (d->finished) { /* a drain did not wait for it */
        sim_delivery_release(d);
        return;
    }
    sim_trace(w, "verdict", worker->index, d->message, verdict.kind);
    sim_check_verdict(d, &verdict);
    fw_delivery_verdict(worker->engine, w->now, d, &verdict);
    sim_worker_take(worker);
}

/* The message takes its process along. */
static void dies(struct world *w, struct event *event)
{
    struct sim_delivery *d = event->object;
    struct sim_worker *worker = d->worker;
    if (event->life != worker->life || d->run != (uint64_t)event->value || w->over) {
        return;
    }
    w->messages[d->message].killed++;
    w->figures.process_kills++;
    sim_trace(w, "crash", worker->index, d->message, d->alone);
    sim_worker_kill(worker);
    sim_at(w, w->now + sim_between(w, 0, FILA_S), sim_restart, worker, 0, 0);
}

void sim_run_start(struct sim_delivery *d, const struct fw_command *command)
{
    struct sim_worker *worker = d->worker;
    struct world *w = worker->world;
    struct sim_message *m = &w->messages[d->message];
    bool down = sim_within(w, w->config.dependency_down);
    d->run = ++w->figures.runs;
    d->cancelled = false;
    d->started = w->now;
    d->deadline = command->deadline;
    d->natural_end = w->now + (down ? 2 * FILA_MS : duration(w, worker));
    d->ignores_stop = sim_happens(w, w->config.ignores_stop);
    d->suspect = command->alone;
    d->alone = command->alone;
    worker->alone += d->alone;
    if (m->first_start == 0) {
        m->first_start = w->now;
        w->figures.overtaken += d->message + OVERTAKEN_BY < w->newest_started;
        w->newest_started = d->message > w->newest_started ? d->message : w->newest_started;
    }
    m->runs++;
    m->running++;
    worker->running++;
    worker->lane_running[m->lane]++;
    worker->seen[d->message].running = true;
    if (m->running > w->figures.most_concurrent) {
        w->figures.most_concurrent = m->running;
    }
    w->figures.runs_after_success += m->succeeded;
    int64_t end = d->natural_end;
    if (end > d->deadline && !d->ignores_stop) {
        end = d->deadline + STOP_MS * FILA_MS;
    }
    sim_at(w, end, run_ends, d, worker->life, (int64_t)d->run);
    if (m->kills) {
        int64_t last = end < d->deadline ? end : d->deadline;
        sim_at(w, sim_between(w, w->now, last - 1), dies, d, worker->life, (int64_t)d->run);
    }
}

void sim_run_cancel(struct sim_delivery *d)
{
    struct world *w = d->worker->world;
    d->cancelled = true;
    if (!d->ignores_stop) {
        sim_at(w, w->now + STOP_MS * FILA_MS, run_ends, d, d->worker->life, (int64_t)d->run);
    }
}

static void probed(struct world *w, struct event *event)
{
    struct sim_worker *worker = event->object;
    if (event->life == worker->life) {
        bool healthy = !sim_within(w, w->config.dependency_down);
        sim_trace(w, "probed", worker->index, UINT32_MAX, healthy);
        fw_delivery_probed(worker->engine, w->now, healthy);
        sim_worker_take(worker);
    }
}

void sim_probe(struct sim_worker *worker)
{
    sim_at(worker->world, worker->world->now + FILA_MS, probed, worker, worker->life, 0);
}
