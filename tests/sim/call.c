/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

static fila_view view_of(const char *text)
{
    return (fila_view){text, strlen(text)};
}

static void drop(struct sim_call *call)
{
    if (--call->references == 0) {
        free(call);
    }
}

static bool alive(const struct sim_call *call)
{
    return call->worker->engine != NULL && call->worker->life == call->life;
}

/* The worker gets its answer, once. */
static void answer(struct world *w, struct sim_call *call, enum fw_settled result)
{
    struct sim_worker *worker = call->worker;
    struct sim_delivery *d = call->delivery;
    if (call->answered || !alive(call)) {
        return;
    }
    call->answered = true;
    d->asked = false;
    bool nack = call->kind == FW_COMMAND_NACK || call->kind == FW_COMMAND_REJECT;
    d->nack_unknown = d->nack_unknown || (nack && result != FW_SETTLED_RETRY);
    sim_trace(w, "answer", worker->index, call->message, result);
    if (call->kind == FW_COMMAND_PUBLISH) {
        if (result == FW_SETTLED_UNKNOWN) {
            w->messages[call->message].unknown_publishes++;
        }
        worker->seen[call->message].published |= result == FW_SETTLED_OK;
        fw_delivery_published(worker->engine, w->now, d, result, false);
    } else {
        worker->under_way--;
        w->figures.acked_gone += call->kind == FW_COMMAND_ACK && result == FW_SETTLED_GONE;
        fw_delivery_settled(worker->engine, w->now, d, result, w->now - call->sent);
    }
    sim_delivery_release(d);
    sim_worker_take(worker);
}

static void answered(struct world *w, struct event *event)
{
    struct sim_call *call = event->object;
    answer(w, call, (enum fw_settled)event->value);
    drop(call);
}

static enum fw_settled do_ack(struct world *w, struct sim_call *call)
{
    struct sim_message *m = &w->messages[call->message];
    fila_status status = fq_ack(w->broker, w->now, sim_queue(), view_of(m->id));
    if (status != FILA_OK) {
        return FW_SETTLED_GONE;
    }
    if (!m->succeeded && m->copies == 0 && !m->dropped) {
        sim_fail(w, "#%u is lost: acked, and nobody had done it", call->message);
    }
    sim_gone(w, call->message);
    return FW_SETTLED_OK;
}

static enum fw_settled do_nack(struct world *w, struct sim_call *call)
{
    struct sim_message *m = &w->messages[call->message];
    struct fq_found found;
    fila_view reason = view_of(
        call->cause == FW_CAUSE_NONE      ? "fila-worker: returned unstarted"
        : call->kind == FW_COMMAND_REJECT ? "reject"
                                          : "failed");
    if (fq_find(w->broker, view_of(m->id), &found) == FQ_LEASED &&
        found.lease_end != call->lease_end) {
        sim_trace(w, "stray nack", call->worker->index, call->message, 0);
        w->figures.stray_nacks++;
        m->strays |= m->stray_process != 0 && m->stray_process != call->process;
        m->stray_process = call->process;
    }
    fila_status status = fq_nack(w->broker, w->now, sim_queue(), view_of(m->id), reason);
    w->figures.nacks_done += status == FILA_OK;
    return status == FILA_OK ? FW_SETTLED_OK : FW_SETTLED_GONE;
}

static enum fw_settled do_publish(struct world *w, struct sim_call *call)
{
    struct sim_message *m = &w->messages[call->message];
    struct fq_enqueue in = {
        .queue = sim_dead_letters(),
        .payload = {(const char *)&call->message, sizeof(call->message)},
    };
    if (sim_within(w, w->config.publish_denied)) {
        return FW_SETTLED_DENIED;
    }
    if (fq_enqueue(w->broker, w->now, w->now / FILA_MS, &in, NULL) != FILA_OK) {
        return FW_SETTLED_RETRY;
    }
    m->copies++;
    w->figures.copies++;
    return FW_SETTLED_OK;
}

static enum fw_settled execute(struct world *w, struct sim_call *call)
{
    sim_trace(w, "executed", call->worker->index, call->message, call->kind);
    switch (call->kind) {
    case FW_COMMAND_ACK:
        return do_ack(w, call);
    case FW_COMMAND_PUBLISH:
        return do_publish(w, call);
    default:
        return do_nack(w, call);
    }
}

static int64_t slowness(struct world *w)
{
    return sim_faults(w) && sim_happens(w, w->config.slow) ? sim_between(w, 0, w->config.slow_for)
                                                           : 0;
}

static void done(struct world *w, struct event *event)
{
    struct sim_call *call = event->object;
    enum fw_settled result = execute(w, call);
    sim_broker_turn(w);
    int64_t at = w->now + sim_delay(w) + slowness(w);
    if (call->lose_answer || sim_path_down(w)) {
        drop(call);
    } else {
        sim_at(w, at, answered, call, 0, result);
    }
}

static void at_broker(struct world *w, struct event *event)
{
    struct sim_call *call = event->object;
    if (w->now < w->broker_down_until) {
        drop(call);
        return;
    }
    sim_at(w, sim_broker_takes(w), done, call, 0, 0);
}

void sim_call_forget(const struct event *event)
{
    if (event->fire == at_broker || event->fire == done || event->fire == answered) {
        drop(event->object);
    }
}

static bool publish_lost(struct world *w, const struct sim_call *call)
{
    return call->kind == FW_COMMAND_PUBLISH && sim_happens(w, w->config.publish_unknown);
}

void sim_call(struct sim_delivery *d, const struct fw_command *command)
{
    struct sim_worker *worker = d->worker;
    struct world *w = worker->world;
    struct sim_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        abort();
    }
    *call = (struct sim_call){
        .worker = worker,
        .delivery = d,
        .life = worker->life,
        .process = worker->process,
        .kind = command->kind,
        .cause = command->cause,
        .message = d->message,
        .lease_end = worker->seen[d->message].lease_end,
        .sent = w->now,
        .deadline = command->deadline,
        .references = 2,
    };
    d->asked = true;
    worker->under_way += command->kind != FW_COMMAND_PUBLISH;
    bool faults = sim_faults(w);
    call->lose_answer = faults && (sim_happens(w, w->config.lose_answer) || publish_lost(w, call));
    sim_at(w, call->deadline, answered, call, 0, FW_SETTLED_UNKNOWN);
    if (sim_within(w, w->config.calls_denied)) {
        sim_at(w, w->now + 2 * sim_delay(w), answered, call, 0, FW_SETTLED_DENIED);
    } else if (sim_within(w, w->config.calls_down)) {
        drop(call);
    } else if ((faults && sim_happens(w, w->config.lose_request)) || sim_path_down(w)) {
        drop(call);
    } else if (faults && sim_happens(w, w->config.refuse)) {
        sim_at(w, w->now + 2 * sim_delay(w), answered, call, 0, FW_SETTLED_RETRY);
    } else {
        sim_at(w, w->now + sim_delay(w) + slowness(w), at_broker, call, 0, 0);
    }
}
