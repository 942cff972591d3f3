/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fake_transport.h"

#include "base/clock.h"
#include "base/error.h"
#include "wire/copy.h"
#include "wire/message.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MOST_STREAMS = 4096
};

/* Also with NDEBUG. */
#define MUST(condition)                                                           \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

struct fake_call {
    bool open;               /* not answered yet */
    struct fila_unary *item; /* this, or */
    struct fila_publish *publish;
    fila_request request;
    void *memory;
    int64_t deadline;
    fila_reply *reply;
    fila_error error;
    bool due; /* answer it in the next run */
};

struct fake_stream {
    struct fila_stream base;
    struct fake *fake;
    unsigned index;
    const struct fila_stream_events *events;
    void *user;
    char *queue;
    uint32_t granted;
    uint32_t sent; /* automatic */
    bool cancelled;
    bool over;
    bool end_due;
    fila_error end;
    char *ids[64]; /* to be delivered */
    unsigned id_count;
};

struct fake {
    struct fila_transport base;
    bool automatic;
    bool hold_cancel;
    bool shut;
    bool woken;
    fila_status refuse;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fake_call **calls;
    unsigned call_count;
    unsigned batches;
    unsigned first_open; /* calls before it are done */
    struct fake_stream *streams[MOST_STREAMS];
    unsigned stream_count;
};

static atomic_int messages;
static atomic_int transports;

int fake_messages_alive(void)
{
    return atomic_load(&messages);
}

int fake_transports_alive(void)
{
    return atomic_load(&transports);
}

static void lock(struct fake *fake)
{
    (void)pthread_mutex_lock(&fake->lock);
}

static void unlock(struct fake *fake)
{
    (void)pthread_cond_broadcast(&fake->changed);
    (void)pthread_mutex_unlock(&fake->lock);
}

static void pause_until_changed(struct fake *fake)
{
    (void)pthread_cond_wait(&fake->changed, &fake->lock);
}

/* ---- The I/O thread's side ---- */

static void pause_until(struct fake *fake, int64_t until)
{
    struct timespec at;
    if (until == FILA_NEVER) {
        pause_until_changed(fake);
        return;
    }
    int64_t left = until - fila_now();
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    left = at.tv_nsec + (left > 0 ? left : 0);
    at.tv_sec += left / FILA_S;
    at.tv_nsec = left % FILA_S;
    (void)pthread_cond_timedwait(&fake->changed, &fake->lock, &at);
}

static void release(void *owner)
{
    free(owner);
    atomic_fetch_sub(&messages, 1);
}

static fila_message *counted_message(char *id)
{
    struct fila_message_fields fields = {
        .id = fila_view_of(id), .queue = {"q", 1}, .payload = fila_view_of(id)};
    atomic_fetch_add(&messages, 1);
    fila_message *message = fila_message_make(&fields, release, id);
    MUST(message);
    return message;
}

/* Tells a call's end, without the lock. */
static void finish(struct fake *fake, struct fake_call *call)
{
    struct fila_publish *publish = call->publish;
    fila_reply *reply = call->due ? call->reply : NULL;
    unlock(fake);
    if (call->item) {
        call->item->done(call->item, reply);
    } else {
        if (reply) {
            fila_view id = reply->as.enqueue.message_id;
            MUST(id.len < sizeof publish->id);
            memcpy(publish->id, id.data, id.len);
            publish->id[id.len] = '\0';
        }
        publish->done(publish);
    }
    lock(fake);
}

/* Answers one due call; false when none is. Called with the lock, which it gives up meanwhile. */
static bool run_call(struct fake *fake)
{
    while (fake->first_open < fake->call_count && !fake->calls[fake->first_open]->open) {
        fake->first_open++;
    }
    for (unsigned i = fake->first_open; i < fake->call_count; i++) {
        struct fake_call *call = fake->calls[i];
        if (!call->open || (!call->due && !fake->shut)) {
            continue;
        }
        fila_error *error = call->item ? &call->item->error : &call->publish->error;
        call->open = false;
        if (!call->due) {
            (void)fila_fail(error, FILA_CLOSED, "the fake was shut down");
        } else if (call->error.code) {
            *error = call->error;
        }
        finish(fake, call);
        return true;
    }
    return false;
}

static char *next_id(struct fake_stream *stream)
{
    if (stream->id_count) {
        char *id = stream->ids[0];
        memmove(stream->ids, stream->ids + 1, --stream->id_count * sizeof *stream->ids);
        return id;
    }
    if (stream->fake->automatic && stream->sent < stream->granted) {
        char *id = malloc(32);
        (void)snprintf(id, 32, "%u-%u", stream->index, stream->sent++);
        return id;
    }
    return NULL;
}

static bool run_stream(struct fake *fake, struct fake_stream *stream)
{
    if (stream->over) {
        return false;
    }
    char *id = stream->cancelled && !fake->hold_cancel ? NULL : next_id(stream);
    if (id) {
        struct fila_read read = {.read_at = fila_now()};
        unlock(fake);
        stream->events->message(stream->user, counted_message(id), &read);
        lock(fake);
        return true;
    }
    bool cancelled = stream->cancelled && !fake->hold_cancel;
    if (!stream->end_due && !cancelled && !fake->shut) {
        return false;
    }
    stream->over = true;
    if (!stream->end_due) {
        (void)fila_fail(&stream->end, FILA_CANCELLED, "cancelled by this side");
    }
    unlock(fake);
    stream->events->ended(stream->user, &stream->end);
    lock(fake);
    return true;
}

static bool run_some(struct fake *fake)
{
    bool any = run_call(fake);
    for (unsigned i = 0; i < fake->stream_count; i++) {
        any = run_stream(fake, fake->streams[i]) || any;
    }
    return any;
}

static bool all_over(const struct fake *fake)
{
    for (unsigned i = fake->first_open; i < fake->call_count; i++) {
        if (fake->calls[i]->open) {
            return false;
        }
    }
    for (unsigned i = 0; i < fake->stream_count; i++) {
        if (!fake->streams[i]->over) {
            return false;
        }
    }
    return true;
}

static bool fake_run(struct fila_transport *transport, int64_t until)
{
    struct fake *fake = (struct fake *)transport;
    lock(fake);
    bool any = run_some(fake);
    while (!any && !fake->woken && !fake->shut && until > fila_now()) {
        pause_until(fake, until);
        any = run_some(fake);
    }
    while (any) {
        any = run_some(fake);
    }
    fake->woken = false;
    bool more = !fake->shut || !all_over(fake);
    unlock(fake);
    return more;
}

static void fake_wake(struct fila_transport *transport)
{
    struct fake *fake = (struct fake *)transport;
    lock(fake);
    fake->woken = true;
    unlock(fake);
}

static struct fake_call *add_call(struct fake *fake)
{
    unsigned n = fake->call_count;
    if (!(n & (n - 1))) {
        fake->calls = realloc(fake->calls, (n ? 2 * (size_t)n : 1) * sizeof(struct fake_call *));
        MUST(fake->calls);
    }
    struct fake_call *call = calloc(1, sizeof *call);
    MUST(call);
    fake->calls[fake->call_count++] = call;
    return call;
}

/* Notes what was asked for. With the lock held. */
static void take(struct fake *fake, struct fake_call *call, const fila_request *request)
{
    size_t room = fila_request_copy_size(request);
    call->open = true;
    call->memory = malloc(room ? room : 1);
    fila_request_copy_into(request, call->memory, &call->request);
    if (fake->automatic) {
        fila_reply reply = {.call = call->request.call};
        if (reply.call == FILA_CALL_ENQUEUE) {
            reply.as.enqueue.message_id = call->request.as.enqueue.payload;
        }
        call->reply = fila_reply_copy(&reply);
        call->due = true;
    }
}

static void fake_unary(struct fila_transport *transport, struct fila_unary *item)
{
    struct fake *fake = (struct fake *)transport;
    lock(fake);
    struct fake_call *call = add_call(fake);
    call->item = item;
    call->deadline = item->deadline;
    take(fake, call, item->request);
    unlock(fake);
}

static void fake_publish(struct fila_transport *transport, struct fila_publish *batch)
{
    struct fake *fake = (struct fake *)transport;
    lock(fake);
    fake->batches++;
    for (struct fila_publish *item = batch; item; item = item->next) {
        fila_request request = {.call = FILA_CALL_ENQUEUE};
        struct fake_call *call = add_call(fake);
        request.as.enqueue.queue = item->queue;
        request.as.enqueue.headers = item->headers;
        request.as.enqueue.header_count = item->header_count;
        request.as.enqueue.payload = item->payload;
        call->publish = item;
        call->deadline = item->deadline;
        take(fake, call, &request);
    }
    unlock(fake);
}

static fila_status fake_open_stream(
    struct fila_transport *transport,
    const struct fila_stream_params *params,
    struct fila_stream **ret_stream,
    fila_error *reterr)
{
    struct fake *fake = (struct fake *)transport;
    lock(fake);
    fila_status refuse = fake->refuse;
    if (refuse) {
        unlock(fake);
        return fila_fail(reterr, refuse, "the fake refuses streams");
    }
    MUST(fake->stream_count < MOST_STREAMS);
    struct fake_stream *stream = calloc(1, sizeof *stream);
    stream->base.transport = transport;
    stream->fake = fake;
    stream->index = fake->stream_count;
    stream->events = params->events;
    stream->user = params->user;
    stream->queue = strndup(params->queue.data, params->queue.len);
    fake->streams[fake->stream_count++] = stream;
    unlock(fake);
    *ret_stream = &stream->base;
    return FILA_OK;
}

static void fake_grant(struct fila_stream *base, uint32_t credits)
{
    struct fake_stream *stream = (struct fake_stream *)base;
    lock(stream->fake);
    MUST(!stream->over);
    stream->granted += credits;
    unlock(stream->fake);
}

static void fake_cancel(struct fila_stream *base)
{
    struct fake_stream *stream = (struct fake_stream *)base;
    lock(stream->fake);
    MUST(!stream->over);
    stream->cancelled = true;
    unlock(stream->fake);
}

static void fake_shutdown(struct fila_transport *transport)
{
    struct fake *fake = (struct fake *)transport;
    lock(fake);
    fake->shut = true;
    unlock(fake);
}

static void fake_free(struct fila_transport *transport)
{
    struct fake *fake = (struct fake *)transport;
    for (unsigned i = 0; i < fake->call_count; i++) {
        free(fake->calls[i]->memory);
        fila_reply_free(fake->calls[i]->reply);
        free(fake->calls[i]);
    }
    free(fake->calls);
    for (unsigned i = 0; i < fake->stream_count; i++) {
        struct fake_stream *stream = fake->streams[i];
        for (unsigned k = 0; k < stream->id_count; k++) {
            free(stream->ids[k]);
        }
        free(stream->queue);
        free(stream);
    }
    (void)pthread_cond_destroy(&fake->changed);
    (void)pthread_mutex_destroy(&fake->lock);
    free(fake);
    atomic_fetch_sub(&transports, 1);
}

static const struct fila_transport_ops OPS = {
    .scheme = "fake",
    .run = fake_run,
    .wake = fake_wake,
    .open_stream = fake_open_stream,
    .grant = fake_grant,
    .stop_stream = fake_cancel,
    .cancel_stream = fake_cancel,
    .publish = fake_publish,
    .unary = fake_unary,
    .shutdown = fake_shutdown,
    .free = fake_free,
};

struct fake *fake_new(bool automatic)
{
    struct fake *fake = calloc(1, sizeof *fake);
    fake->base.ops = &OPS;
    fake->base.caps.max_message = 4u << 20;
    fake->automatic = automatic;
    (void)pthread_mutex_init(&fake->lock, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&fake->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    atomic_fetch_add(&transports, 1);
    return fake;
}

struct fila_transport *fake_transport(struct fake *fake)
{
    return &fake->base;
}

/* ---- The test's side ---- */

const fila_request *fake_wait_call(struct fake *fake, unsigned nth)
{
    lock(fake);
    while (fake->call_count <= nth) {
        pause_until_changed(fake);
    }
    const fila_request *request = &fake->calls[nth]->request;
    unlock(fake);
    return request;
}

int64_t fake_call_deadline(struct fake *fake, unsigned nth)
{
    (void)fake_wait_call(fake, nth);
    lock(fake);
    int64_t deadline = fake->calls[nth]->deadline;
    unlock(fake);
    return deadline;
}

unsigned fake_calls(struct fake *fake)
{
    lock(fake);
    unsigned count = fake->call_count;
    unlock(fake);
    return count;
}

unsigned fake_batches(struct fake *fake)
{
    lock(fake);
    unsigned count = fake->batches;
    unlock(fake);
    return count;
}

void fake_answer(struct fake *fake, unsigned nth, const fila_reply *reply)
{
    (void)fake_wait_call(fake, nth);
    lock(fake);
    fake->calls[nth]->reply = fila_reply_copy(reply);
    fake->calls[nth]->due = true;
    unlock(fake);
}

void fake_fail(struct fake *fake, unsigned nth, fila_status code, const char *text)
{
    (void)fake_wait_call(fake, nth);
    lock(fake);
    (void)fila_fail(&fake->calls[nth]->error, code, "%s", text);
    fake->calls[nth]->due = true;
    unlock(fake);
}

void fake_fail_unsent(struct fake *fake, unsigned nth, fila_status code, const char *text)
{
    (void)fake_wait_call(fake, nth);
    lock(fake);
    (void)fila_fail(&fake->calls[nth]->error, code, "%s", text);
    fake->calls[nth]->error.outcome_unknown = false;
    fake->calls[nth]->due = true;
    unlock(fake);
}

const char *fake_wait_stream(struct fake *fake, unsigned nth)
{
    lock(fake);
    while (fake->stream_count <= nth) {
        pause_until_changed(fake);
    }
    const char *queue = fake->streams[nth]->queue;
    unlock(fake);
    return queue;
}

void fake_refuse_streams(struct fake *fake, fila_status code)
{
    lock(fake);
    fake->refuse = code;
    unlock(fake);
}

void fake_wait_credits(struct fake *fake, unsigned stream, uint32_t credits)
{
    (void)fake_wait_stream(fake, stream);
    lock(fake);
    while (fake->streams[stream]->granted < credits) {
        pause_until_changed(fake);
    }
    unlock(fake);
}

uint32_t fake_credits(struct fake *fake, unsigned stream)
{
    (void)fake_wait_stream(fake, stream);
    lock(fake);
    uint32_t granted = fake->streams[stream]->granted;
    unlock(fake);
    return granted;
}

void fake_deliver(struct fake *fake, unsigned stream, const char *id)
{
    (void)fake_wait_stream(fake, stream);
    lock(fake);
    struct fake_stream *s = fake->streams[stream];
    MUST(s->id_count < sizeof s->ids / sizeof *s->ids);
    s->ids[s->id_count++] = strdup(id);
    unlock(fake);
}

void fake_end(struct fake *fake, unsigned stream, fila_status code, const char *text)
{
    (void)fake_wait_stream(fake, stream);
    lock(fake);
    struct fake_stream *s = fake->streams[stream];
    if (code) {
        (void)fila_fail(&s->end, code, "%s", text);
    }
    s->end_due = true;
    unlock(fake);
}

void fake_wait_cancel(struct fake *fake, unsigned stream)
{
    (void)fake_wait_stream(fake, stream);
    lock(fake);
    while (!fake->streams[stream]->cancelled) {
        pause_until_changed(fake);
    }
    unlock(fake);
}

void fake_hold_cancel(struct fake *fake)
{
    lock(fake);
    fake->hold_cancel = true;
    unlock(fake);
}
