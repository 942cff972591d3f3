/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "embedded_internal.h"

#include <stdlib.h>

/* What the broker leases ahead of a stream's reader, and the largest request that it accepts
 * (contract A5, A7). */
#define PIPE_SLOTS  (64 + 1 + 64 + 1)
#define MAX_MESSAGE (4u << 20)

static struct fe_transport *self(struct fila_transport *transport)
{
    return (struct fe_transport *)transport;
}

/* ---- The hub ---- */

static struct fe_hub *hub_new(void)
{
    pthread_condattr_t monotonic;
    struct fe_hub *hub = calloc(1, sizeof *hub);
    if (!hub || pthread_condattr_init(&monotonic) != 0) {
        free(hub);
        return NULL;
    }
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&hub->news, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&hub->lock, NULL);
    atomic_init(&hub->refs, 1);
    return hub;
}

void fe_hub_unref(struct fe_hub *hub)
{
    if (atomic_fetch_sub(&hub->refs, 1) == 1) {
        (void)pthread_cond_destroy(&hub->news);
        (void)pthread_mutex_destroy(&hub->lock);
        free(hub);
    }
}

/* ---- Open ---- */

static fila_status fe_open(
    const fila_client_options *options,
    struct fila_transport **ret_transport,
    fila_error *reterr)
{
    struct fe_transport *t;
    if (!options->broker) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "the URL \"%s\" needs a broker of this program in options.broker", options->url);
    }
    t = calloc(1, sizeof *t);
    if (!t) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a connection");
    }
    t->hub = hub_new();
    if (!t->hub) {
        free(t);
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a connection");
    }
    t->base.ops = &fila_embedded_transport;
    t->base.caps = (struct fila_transport_caps){
        .pipe_slots = PIPE_SLOTS,
        .settle_batch = 1,
        .in_flight = options->calls_in_flight,
        .max_message = MAX_MESSAGE,
    };
    t->broker = options->broker;
    t->now = fila_now();
    t->next_deadline = FILA_NEVER;
    *ret_transport = &t->base;
    return FILA_OK;
}

/* ---- Running ---- */

static bool is_over(const struct fe_transport *t)
{
    return t->closing && !t->streams && !t->outstanding && fe_calls_quiet(t);
}

/* Whether run has something to do without waiting. */
static bool has_work(const struct fe_transport *t)
{
    return t->busy || !fe_calls_quiet(t) || is_over(t);
}

static bool has_news(const struct fe_hub *hub)
{
    return hub->locked.woken || hub->locked.answered || hub->locked.ready;
}

/* Waits for news until `until`; the hub's lock is held. */
static void wait_for_news(struct fe_hub *hub, int64_t until)
{
    while (!has_news(hub)) {
        struct timespec at;
        int64_t left = until - fila_now();
        if (left <= 0) {
            return;
        }
        if (until == FILA_NEVER) {
            (void)pthread_cond_wait(&hub->news, &hub->lock);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &at);
        left = left < 1000 * FILA_S ? left : 1000 * FILA_S;
        at.tv_sec += (time_t)((at.tv_nsec + left) / FILA_S);
        at.tv_nsec = (at.tv_nsec + left) % FILA_S;
        (void)pthread_cond_timedwait(&hub->news, &hub->lock, &at);
    }
}

/* Takes what the broker's threads left, in the order in which they did. Unlocks the hub. */
static void take_news(struct fe_transport *t)
{
    struct fe_op *answered = NULL;
    struct fe_stream *ready = NULL;
    struct fe_hub *hub = t->hub;
    while (hub->locked.answered) {
        struct fe_op *op = hub->locked.answered;
        hub->locked.answered = op->next_answered;
        op->next_answered = answered;
        answered = op;
    }
    while (hub->locked.ready) {
        struct fe_stream *s = hub->locked.ready;
        hub->locked.ready = s->next_ready;
        s->next_ready = ready;
        s->flagged = false;
        ready = s;
    }
    hub->locked.woken = false;
    fe_streams_note(ready);
    (void)pthread_mutex_unlock(&hub->lock);
    fe_calls_reap(t, answered);
}

static bool fe_run(struct fila_transport *transport, int64_t until)
{
    struct fe_transport *t = self(transport);
    (void)pthread_mutex_lock(&t->hub->lock);
    if (!has_work(t)) {
        wait_for_news(t->hub, until < t->next_deadline ? until : t->next_deadline);
    }
    take_news(t);
    t->now = fila_now();
    fe_calls_expire(t);
    fe_calls_report(t);
    fe_streams_pump(t);
    return !is_over(t);
}

static void fe_wake(struct fila_transport *transport)
{
    struct fe_hub *hub = self(transport)->hub;
    (void)pthread_mutex_lock(&hub->lock);
    hub->locked.woken = true;
    (void)pthread_cond_signal(&hub->news);
    (void)pthread_mutex_unlock(&hub->lock);
}

/* ---- The end ---- */

static void fe_shutdown(struct fila_transport *transport)
{
    struct fe_transport *t = self(transport);
    if (!t->closing) {
        t->closing = true;
        fe_streams_close(t);
        fe_calls_close(t);
    }
}

static void fe_free(struct fila_transport *transport)
{
    struct fe_transport *t = self(transport);
    struct fe_hub *hub = t->hub;
    fe_shutdown(transport);
    while (fe_run(transport, FILA_NEVER)) {
    }
    (void)pthread_mutex_lock(&hub->lock);
    hub->locked.dead = true;
    take_news(t);
    free(t);
    fe_hub_unref(hub);
}

const struct fila_transport_ops fila_embedded_transport = {
    .scheme = "embedded",
    .open = fe_open,
    .run = fe_run,
    .wake = fe_wake,
    .open_stream = fe_open_stream,
    .grant = fe_grant,
    .stop_stream = fe_stop_stream,
    .cancel_stream = fe_stop_stream,
    .settle = fe_settle,
    .publish = fe_publish,
    .unary = fe_unary,
    .shutdown = fe_shutdown,
    .free = fe_free,
};
