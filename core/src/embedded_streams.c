/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "embedded_internal.h"
#include "wire/codec.h"

#include <stdlib.h>
#include <utlist.h>

/* Messages of one stream in one run; then it is the others' turn. */
#define MOST_MESSAGES 64
/* The bytes that gRPC puts before each message. */
#define FRAME_HEAD 5
/* If a message waited for us longer than this, it does not count as read when it came. */
#define TOLERANCE (10 * FILA_MS)

static struct fe_stream *self(struct fila_stream *stream)
{
    return (struct fe_stream *)stream;
}

static struct fe_transport *transport_of(const struct fe_stream *s)
{
    return (struct fe_transport *)s->base.transport;
}

static void set_busy(struct fe_stream *s)
{
    struct fe_transport *t = transport_of(s);
    if (!s->in_busy) {
        DL_APPEND2(t->busy, s, prev_busy, next_busy);
        s->in_busy = true;
    }
}

/* ---- What the broker tells ---- */

/* Under the broker's lock, on any thread. */
static void on_ready(void *user)
{
    struct fe_stream *s = user;
    struct fe_hub *hub = transport_of(s)->hub;
    (void)pthread_mutex_lock(&hub->lock);
    if (!s->flagged) {
        s->flagged = true;
        s->flagged_at = fila_now();
        s->next_ready = hub->locked.ready;
        hub->locked.ready = s;
        (void)pthread_cond_signal(&hub->news);
    }
    (void)pthread_mutex_unlock(&hub->lock);
}

void fe_streams_note(struct fe_stream *ready)
{
    while (ready) {
        struct fe_stream *s = ready;
        ready = s->next_ready;
        s->more = true;
        s->ready_at = s->flagged_at;
        set_busy(s);
    }
}

static void unflag(struct fe_hub *hub, struct fe_stream *s)
{
    struct fe_stream **link = &hub->locked.ready;
    while (*link && *link != s) {
        link = &(*link)->next_ready;
    }
    if (*link) {
        *link = s->next_ready;
    }
    s->flagged = false;
}

/* ---- The end ---- */

/* Lets go of the broker's side; `s->end` is set, and the next run tells it. */
static void detach(struct fe_stream *s)
{
    struct fe_hub *hub = transport_of(s)->hub;
    if (s->consumer) {
        fb_consumer_close(s->consumer);
        s->consumer = NULL;
        (void)pthread_mutex_lock(&hub->lock);
        unflag(hub, s);
        (void)pthread_mutex_unlock(&hub->lock);
    }
    set_busy(s);
}

static void end_now(struct fe_stream *s)
{
    struct fe_transport *t = transport_of(s);
    DL_DELETE(t->streams, s);
    if (s->in_busy) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in there */
        DL_DELETE2(t->busy, s, prev_busy, next_busy);
    }
    s->events->ended(s->user, &s->end);
    free(s);
}

/* ---- Opening ---- */

static const struct fb_consumer_events EVENTS = {on_ready};

/* A refusal is told by `ended`, as over a wire. */
static void connect(struct fe_stream *s, fila_view queue)
{
    struct fe_transport *t = transport_of(s);
    if (!fila_utf8_valid(queue.data, queue.len)) {
        (void)fila_fail_wire(
            &s->end, FILA_CALL_CONSUME, 13, fila_view_of("a text field is not UTF-8"));
        return;
    }
    if (fb_consumer_open(t->broker, queue, &EVENTS, s, &s->consumer, &s->end) != FILA_OK) {
        s->consumer = NULL;
    }
}

fila_status fe_open_stream(
    struct fila_transport *transport,
    const struct fila_stream_params *params,
    struct fila_stream **ret_stream,
    fila_error *reterr)
{
    struct fe_transport *t = (struct fe_transport *)transport;
    struct fe_stream *s;
    if (t->closing) {
        return fila_fail(reterr, FILA_CLOSED, "the connection is closed");
    }
    s = calloc(1, sizeof *s);
    if (!s) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a stream");
    }
    s->base.transport = transport;
    s->events = params->events;
    s->user = params->user;
    s->end = (fila_error)FILA_ERROR_INIT;
    DL_APPEND(t->streams, s);
    set_busy(s);
    connect(s, params->queue);
    *ret_stream = &s->base;
    return FILA_OK;
}

/* ---- Reading ---- */

static void release(void *owner)
{
    struct fb_delivery *kept = owner;
    fb_delivery_release(kept);
    free(kept);
}

static fila_message *make_message(struct fb_delivery *delivery)
{
    struct fb_delivery *kept = malloc(sizeof *kept);
    fila_message *message = NULL;
    if (kept) {
        *kept = *delivery;
        message = fila_message_make(&kept->fields, release, kept);
    }
    if (!message) {
        fb_delivery_release(delivery);
        free(kept);
    }
    return message;
}

/* Hands out one message. Its stream may have been stopped by then, never freed. */
static void deliver(struct fe_stream *s, struct fb_delivery *delivery)
{
    int64_t now = fila_now();
    int64_t waiting_since = now - s->ready_at > TOLERANCE ? now : s->posted_at;
    struct fila_read read = {
        .read_at = now,
        .waiting_since = waiting_since < now ? waiting_since : now,
        .wire_size =
            (uint32_t)(fila_delivery_head_size(&delivery->fields) + delivery->fields.payload.len) +
            FRAME_HEAD,
        .lease_end = delivery->lease_end,
    };
    fila_message *message = make_message(delivery);
    s->posted_at = now;
    s->credits--;
    if (message) {
        s->events->message(s->user, message, &read);
        return;
    }
    (void)fila_fail(&s->end, FILA_NO_MEMORY, "no memory for a message");
    detach(s);
}

/* Reads what the credits allow. The stream may be over afterwards: it then has no consumer. */
static void read_some(struct fe_stream *s)
{
    for (int n = 0; n < MOST_MESSAGES && s->consumer && s->more && s->credits; n++) {
        struct fb_delivery delivery;
        switch (fb_consumer_take(s->consumer, &delivery, &s->end)) {
        case FB_TAKE_MESSAGE:
            deliver(s, &delivery);
            break;
        case FB_TAKE_END:
            detach(s);
            break;
        case FB_TAKE_EMPTY:
        default:
            s->more = false;
            break;
        }
    }
    if (s->consumer && s->more && !s->credits && fb_consumer_ended(s->consumer, &s->end)) {
        detach(s);
    }
}

static void pump(struct fe_stream *s)
{
    struct fe_transport *t = transport_of(s);
    s->in_busy = false;
    if (s->consumer && !s->told_opened) {
        s->told_opened = true;
        s->events->opened(s->user, t->now);
    }
    read_some(s);
    if (!s->consumer) {
        end_now(s);
    } else if (s->more && s->credits) {
        set_busy(s);
    }
}

void fe_streams_pump(struct fe_transport *t)
{
    struct fe_stream *last = t->busy ? t->busy->prev_busy : NULL;
    while (last) {
        struct fe_stream *s = t->busy;
        bool was_last = s == last;
        DL_DELETE2(t->busy, s, prev_busy, next_busy);
        pump(s);
        if (was_last) {
            return;
        }
    }
}

/* ---- What the owner may do ---- */

void fe_grant(struct fila_stream *stream, uint32_t credits)
{
    struct fe_stream *s = self(stream);
    if (!s->consumer || !credits) {
        return;
    }
    if (!s->credits) {
        s->posted_at = fila_now();
    }
    s->credits = credits > UINT32_MAX - s->credits ? UINT32_MAX : s->credits + credits;
    if (s->more) {
        set_busy(s);
    }
}

/* The slots are forgotten at once, as a server does when a stream is cancelled (contract A6). */
void fe_stop_stream(struct fila_stream *stream)
{
    struct fe_stream *s = self(stream);
    if (s->consumer) {
        (void)fila_fail(&s->end, FILA_CANCELLED, "ended by this side");
        detach(s);
    }
}

void fe_streams_close(struct fe_transport *t)
{
    struct fe_stream *s;
    DL_FOREACH(t->streams, s)
    {
        if (s->consumer) {
            (void)fila_fail(&s->end, FILA_CLOSED, "the connection was closed");
            detach(s);
        }
    }
}
