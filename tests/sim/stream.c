/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "sim/world.h"

#include <stdlib.h>

enum {
    ENCODE_BUFFER = 32768
};

static void append(struct sim_copies *copies, struct sim_copy *copy)
{
    if (copies->first == NULL) {
        copies->last = &copies->first;
    }
    copy->next = NULL;
    *copies->last = copy;
    copies->last = &copy->next;
}

static struct sim_copy *take_first(struct sim_copies *copies)
{
    struct sim_copy *copy = copies->first;
    if (copy != NULL) {
        copies->first = copy->next;
    }
    return copy;
}

static struct sim_copy *new_copy(struct world *w)
{
    struct sim_copy *copy = w->free_copies;
    if (copy != NULL) {
        w->free_copies = copy->next;
        return copy;
    }
    copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        abort();
    }
    return copy;
}

static void drop(struct world *w, struct sim_copies *copies)
{
    struct sim_copy *copy;
    while ((copy = take_first(copies)) != NULL) {
        copy->next = w->free_copies;
        w->free_copies = copy;
    }
}

/* ---- Reading ---- */

static void window_back(struct world *w, struct event *event);

/* As long as there are credits and messages. A receive is posted while credits are left. */
static void read_all(struct sim_stream *s)
{
    struct world *w = s->worker->world;
    uint64_t generation = s->generation;
    if (s->reading) {
        return;
    }
    s->reading = true;
    while (s->generation == generation && s->credits > 0 && s->wire.first != NULL &&
           s->wire.first->arrives <= w->now && !w->failed) {
        struct sim_copy *copy = take_first(&s->wire);
        int64_t waiting_since = s->posted_at;
        s->credits--;
        s->posted_at = w->now;
        copy->next = w->free_copies;
        w->free_copies = copy;
        struct sim_copy read = *copy;
        sim_at(w, w->now + sim_delay(w), window_back, s, s->generation, w->config.size);
        sim_read(s, &read, waiting_since);
    }
    s->reading = false;
}

static void send_all(struct sim_stream *s);

static void window_back(struct world *w, struct event *event)
{
    struct sim_stream *s = event->object;
    if (event->life == s->generation && w->broker != NULL) {
        s->window_free += event->value;
        send_all(s);
        sim_stream_fill(s);
        sim_broker_plan(w);
    }
}

static void arrives(struct world *w, struct event *event)
{
    struct sim_stream *s = event->object;
    (void)w;
    if (event->life == s->generation && s->state == SIM_STREAM_UP) {
        read_all(s);
    }
}

/* Out of the broker's buffer onto the wire, as far as the flow-control window goes. A message
 * larger than what is left of it takes a round trip for each further window. */
static void send_all(struct sim_stream *s)
{
    struct world *w = s->worker->world;
    int64_t size = w->config.size;
    while (s->encoded.first != NULL && s->window_free > 0) {
        struct sim_copy *copy = take_first(&s->encoded);
        int64_t rest = size > s->window_free ? size - s->window_free : 0;
        int64_t trips = (rest + s->window - 1) / s->window;
        int64_t at = w->now + sim_delay(w) + trips * 2 * w->config.latency;
        s->window_free -= size;
        s->encoded_bytes -= w->config.size;
        s->last_arrival = at > s->last_arrival ? at : s->last_arrival;
        copy->arrives = s->last_arrival;
        append(&s->wire, copy);
        sim_at(w, copy->arrives, arrives, s, s->generation, 0);
    }
}

void sim_stream_fill(struct sim_stream *s)
{
    struct world *w = s->worker->world;
    struct fq_delivery delivery;
    while (s->consumer != NULL && s->encoded_bytes < ENCODE_BUFFER &&
           fq_take(s->consumer, &delivery)) {
        struct sim_copy *copy = new_copy(w);
        copy->message = sim_message_of(delivery.fields.payload);
        copy->attempt_count = delivery.fields.attempt_count;
        copy->lease_end = delivery.lease_end;
        fq_delivery_release(&delivery);
        append(&s->encoded, copy);
        s->encoded_bytes += w->config.size;
        send_all(s);
    }
}

void sim_stream_grant(struct sim_stream *s, uint32_t credits)
{
    if (s->credits == 0) {
        s->posted_at = s->worker->world->now;
    }
    s->credits += credits;
    sim_at(s->worker->world, s->worker->world->now, arrives, s, s->generation, 0);
}

/* ---- Opening and ending ---- */

static void close_at_broker(struct world *w, struct sim_stream *s)
{
    if (s->consumer != NULL && w->broker != NULL) {
        fq_consumer_close(w->broker, w->now, s->consumer);
        s->consumer = NULL;
        sim_broker_turn(w);
    }
    s->consumer = NULL;
}

/* Nothing of this opening happens any more. */
static void end(struct world *w, struct sim_stream *s)
{
    close_at_broker(w, s);
    drop(w, &s->encoded);
    drop(w, &s->wire);
    s->encoded_bytes = 0;
    s->credits = 0;
    s->generation++;
    s->state = SIM_STREAM_DOWN;
    s->stopping = false;
}

static void tell_end(struct sim_stream *s, enum fw_stream_end how)
{
    struct sim_worker *worker = s->worker;
    sim_trace(worker->world, "stream end", worker->index, UINT32_MAX, how);
    fw_delivery_stream_end(worker->engine, worker->world->now, s->index, how);
    sim_worker_take(worker);
}

static void opened(struct world *w, struct event *event)
{
    struct sim_stream *s = event->object;
    if (event->life != s->generation) {
        return;
    }
    struct fw_pipe pipe = {
        .slots = FQ_SLOTS + 1,
        .bytes = 2 * s->window + ENCODE_BUFFER,
        .window = s->window,
        .round_trip = 2 * w->config.latency,
    };
    s->state = SIM_STREAM_UP;
    sim_trace(w, "stream open", s->worker->index, UINT32_MAX, s->window);
    w->figures.streams_opened++;
    fw_delivery_stream_open(s->worker->engine, w->now, s->index, &pipe);
    sim_worker_take(s->worker);
}

static void refused(struct world *w, struct event *event)
{
    struct sim_stream *s = event->object;
    if (event->life == s->generation) {
        end(w, s);
        tell_end(s, FW_STREAM_BROKEN);
    }
}

static void open_at_broker(struct world *w, struct event *event)
{
    struct sim_stream *s = event->object;
    if (event->life != s->generation || w->broker == NULL) {
        return;
    }
    if (w->now < w->broker_down_until) {
        sim_at(w, w->now + sim_delay(w), refused, s, s->generation, 0);
        return;
    }
    if (fq_consumer_open(w->broker, w->now, sim_queue(), s, &s->consumer) != FILA_OK) {
        sim_fail(w, "no memory");
        return;
    }
    sim_at(w, w->now + sim_delay(w), opened, s, s->generation, 0);
    s->last_arrival = w->now + sim_delay(w) + w->config.jitter;
    sim_broker_turn(w);
}

void sim_stream_open(struct sim_stream *s, uint32_t window)
{
    struct world *w = s->worker->world;
    s->window = window > 0 ? window : w->config.window;
    s->window_free = s->window;
    s->state = SIM_STREAM_OPENING;
    s->stopping = false;
    s->posted_at = w->now;
    if (sim_path_down(w)) {
        sim_at(w, w->now + 2 * sim_delay(w), refused, s, s->generation, 0);
    } else {
        sim_at(w, w->now + sim_delay(w), open_at_broker, s, s->generation, 0);
    }
}

static void stopped(struct world *w, struct event *event)
{
    struct sim_stream *s = event->object;
    if (event->life == s->generation) {
        end(w, s);
        tell_end(s, FW_STREAM_CLOSED);
    }
}

static void stop_at_broker(struct world *w, struct event *event)
{
    struct sim_stream *s = event->object;
    if (event->life == s->generation) {
        close_at_broker(w, s);
        sim_at(w, w->now + sim_delay(w), stopped, s, s->generation, 0);
    }
}

void sim_stream_stop(struct sim_stream *s)
{
    struct world *w = s->worker->world;
    s->stopping = true;
    sim_at(w, w->now + sim_delay(w), stop_at_broker, s, s->generation, 0);
}

void sim_stream_cut(struct sim_stream *s, bool told)
{
    struct world *w = s->worker->world;
    if (s->state == SIM_STREAM_DOWN) {
        return;
    }
    sim_trace(w, "stream cut", s->worker->index, UINT32_MAX, s->index);
    end(w, s);
    if (told) {
        tell_end(s, w->config.cut_closes ? FW_STREAM_CLOSED : FW_STREAM_BROKEN);
    }
}

void sim_stream_fini(struct sim_stream *s)
{
    end(s->worker->world, s);
}
