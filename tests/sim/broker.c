/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

#define RETURNED "fila-worker: returned unstarted"

fila_view sim_queue(void)
{
    return (fila_view){"q", 1};
}

fila_view sim_dead_letters(void)
{
    return (fila_view){"q.dlq", 5};
}

uint32_t sim_message_of(fila_view payload)
{
    uint32_t index = 0;
    memcpy(&index, payload.data, sizeof(index));
    return index;
}

/* The on_failure script that config/ ships: a return is no failure. */
static enum fq_failure on_failure(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    fila_view error)
{
    struct world *w = user;
    bool returned = error.len == strlen(RETURNED) && memcmp(error.data, RETURNED, error.len) == 0;
    bool rejected = error.len == 6 && memcmp(error.data, "reject", 6) == 0;
    if (scripts == NULL || returned ||
        (!rejected && message->attempt_count < w->config.script_attempts)) {
        return FQ_FAILURE_RETRY;
    }
    uint32_t index = sim_message_of(message->payload);
    sim_trace(w, "script: dead letter", UINT32_MAX, index, message->attempt_count);
    w->figures.moved++;
    sim_gone(w, index);
    return FQ_FAILURE_DEAD_LETTER;
}

bool sim_broker_open(struct world *w)
{
    struct fq_config config = FQ_CONFIG_INIT;
    struct fq_queue_options options = {
        .visibility_timeout = w->config.broker_vt,
        .scripts = w->config.script ? w : NULL,
    };
    config.seed = w->config.seed;
    config.hooks.user = w;
    config.hooks.on_failure = on_failure;
    w->broker = fq_new(&config, w->now);
    w->tick_at = FILA_NEVER;
    return w->broker != NULL &&
           fq_create_queue(w->broker, w->now, sim_queue(), &options) == FILA_OK;
}

void sim_broker_close(struct world *w)
{
    fq_free(w->broker);
    w->broker = NULL;
}

static void tick(struct world *w, struct event *event)
{
    (void)event;
    w->tick_at = FILA_NEVER;
    if (w->broker != NULL) {
        fq_tick(w->broker, w->now);
        sim_broker_turn(w);
    }
}

/* Leases in all; looked up each 50 ms of the virtual clock, since it costs a stats call. */
static void count_leases(struct world *w)
{
    fila_reply reply;
    void *block = NULL;
    if (w->config.cost_of_lease == 0 || w->now - w->last_leases_at < 50 * FILA_MS) {
        return;
    }
    w->last_leases_at = w->now;
    if (fq_get_stats(w->broker, w->now, sim_queue(), &reply, &block) == FILA_OK) {
        w->leases = (uint32_t)reply.as.stats.in_flight;
        if (w->leases > w->figures.most_leased) {
            w->figures.most_leased = w->leases;
        }
    }
    free(block);
}

/* What was taken makes room, too: then the next idle tick has something to do. */
void sim_broker_plan(struct world *w)
{
    int64_t wake = fq_wake_at(w->broker);
    if (wake < w->tick_at) {
        w->tick_at = wake;
        sim_at(w, wake, tick, NULL, 0, 0);
    }
}

void sim_broker_turn(struct world *w)
{
    struct fq_consumer *consumer;
    count_leases(w);
    while ((consumer = fq_next_ready(w->broker)) != NULL) {
        sim_stream_fill(fq_consumer_user(consumer));
    }
    sim_broker_plan(w);
}

int64_t sim_broker_takes(struct world *w)
{
    int64_t begin = w->broker_free_at > w->now ? w->broker_free_at : w->now;
    w->broker_free_at = begin + w->config.broker_cost +
                        w->config.cost_of_lease * (int64_t)w->leases;
    return w->broker_free_at;
}
