/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A consume stream. The transport's stream belongs to the I/O thread; `locked` is what it shares
 * with the others. References: the program's (until fila_consumer_free), the stream's (until its
 * end is told), and one for each op on its way to the I/O thread.
 */
#include "base/clock.h"
#include "base/error.h"
#include "client_impl.h"

#include <stdlib.h>

/* A message waiting for fila_consumer_next. */
struct queued {
    struct queued *next;
    fila_message *message;
};

enum state {
    RUNNING,
    ENDING, /* on_end is being called */
    ENDED
};

struct fila_consumer {
    fila_client *client; /* not to be touched once ENDED: the client may be gone */
    pthread_t io_thread;
    const fila_consumer_events *events; /* NULL: messages are queued */
    fila_consumer_events events_copy;
    void *user;
    struct fc_op open_op;
    struct fc_op grant_op;
    struct fc_op close_op;
    struct fila_stream *stream; /* I/O thread only; NULL before and after */
    bool closed;                /* I/O thread only: nothing is handed out any more */
    atomic_uint refs;
    atomic_uint granted; /* and not passed on to the stream yet */
    pthread_mutex_t lock;
    pthread_cond_t changed;

    struct {
        enum state state;
        bool granting;    /* grant_op is on its way */
        bool closing;     /* close_op was posted */
        uint32_t credits; /* messages that may still come, by what was granted */
        struct queued *first;
        struct queued **last;
        fila_error end;
    } locked;

    size_t queue_len;
    char queue[];
};

static void unref(fila_consumer *c)
{
    if (atomic_fetch_sub(&c->refs, 1) != 1) {
        return;
    }
    while (c->locked.first) {
        struct queued *head = c->locked.first;
        c->locked.first = head->next;
        fila_message_free(head->message);
        free(head);
    }
    (void)pthread_cond_destroy(&c->changed);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- On the I/O thread ---- */

static void end(fila_consumer *c, const fila_error *why)
{
    fila_error error = *why;
    c->stream = NULL;
    (void)pthread_mutex_lock(&c->lock);
    c->locked.state = ENDING;
    c->locked.end = error;
    (void)pthread_cond_broadcast(&c->changed);
    (void)pthread_mutex_unlock(&c->lock);
    if (c->events) {
        c->events->on_end(c->user, &error);
    }
    (void)pthread_mutex_lock(&c->lock);
    c->locked.state = ENDED;
    (void)pthread_cond_broadcast(&c->changed);
    (void)pthread_mutex_unlock(&c->lock);
    unref(c); /* the stream's */
}

static void on_opened(void *user, int64_t now)
{
    (void)user;
    (void)now;
}

static void put_in_queue(fila_consumer *c, fila_message *message)
{
    struct queued *entry = malloc(sizeof *entry);
    (void)pthread_mutex_lock(&c->lock);
    if (c->locked.credits) {
        c->locked.credits--;
    }
    if (entry) {
        *entry = (struct queued){NULL, message};
        *c->locked.last = entry;
        c->locked.last = &entry->next;
        (void)pthread_cond_broadcast(&c->changed);
    }
    (void)pthread_mutex_unlock(&c->lock);
    if (!entry) { /* its lease brings it back */
        fila_message_free(message);
    }
}

static void on_message(void *user, fila_message *message, const struct fila_read *read)
{
    fila_consumer *c = user;
    (void)read;
    if (c->closed) {
        fila_message_free(message);
    } else if (c->events) {
        c->events->on_message(c->user, message);
    } else {
        put_in_queue(c, message);
    }
}

static void on_ended(void *user, const fila_error *why)
{
    end(user, why);
}

static const struct fila_stream_events STREAM_EVENTS = {on_opened, on_message, on_ended};

static void pass_credits_on(fila_consumer *c)
{
    uint32_t count = atomic_exchange(&c->granted, 0);
    if (count && c->stream) {
        c->stream->transport->ops->grant(c->stream, count);
    }
}

static fila_consumer *of_op(struct fc_op *op, size_t offset)
{
    return (fila_consumer *)(void *)((char *)op - offset);
}

static void run_open(fila_client *client, struct fc_op *op, bool closed)
{
    fila_consumer *c = of_op(op, offsetof(fila_consumer, open_op));
    struct fila_stream_params params = {
        .queue = {c->queue, c->queue_len}, .events = &STREAM_EVENTS, .user = c};
    fila_error error = FILA_ERROR_INIT;
    (void)pthread_mutex_lock(&c->lock); /* until fila_consumer_open has given the consumer out */
    (void)pthread_mutex_unlock(&c->lock);
    if (closed) {
        (void)fc_fail_closed(&error);
        end(c, &error);
    } else if (client->transport->ops->open_stream(
                   client->transport, &params, &c->stream, &error)) {
        end(c, &error);
    }
    unref(c);
}

static void run_grant(fila_client *client, struct fc_op *op, bool closed)
{
    fila_consumer *c = of_op(op, offsetof(fila_consumer, grant_op));
    (void)client;
    (void)pthread_mutex_lock(&c->lock);
    c->locked.granting = false;
    (void)pthread_mutex_unlock(&c->lock);
    if (!closed) {
        pass_credits_on(c);
    }
    unref(c);
}

static void run_close(fila_client *client, struct fc_op *op, bool closed)
{
    fila_consumer *c = of_op(op, offsetof(fila_consumer, close_op));
    (void)client;
    c->closed = true;
    if (c->stream && !closed) {
        c->stream->transport->ops->cancel_stream(c->stream);
    }
    unref(c);
}

/* ---- On any thread ---- */

/* With the lock held and the state RUNNING, so that the client is still there. */
static void post(fila_consumer *c, struct fc_op *op)
{
    atomic_fetch_add(&c->refs, 1);
    if (!fc_post(c->client, op)) {
        atomic_fetch_sub(&c->refs, 1); /* the end is on its way anyhow; others remain */
    }
}

static void init_lock(fila_consumer *c)
{
    pthread_condattr_t attr;
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&c->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
}

fila_status fila_consumer_open(
    fila_client *client,
    fila_view queue,
    const fila_consumer_events *events,
    void *user,
    fila_consumer **ret_consumer,
    fila_error *reterr)
{
    fila_request request = {.call = FILA_CALL_CONSUME, .as.queue = {queue}};
    fila_status status = fc_check_request(&request, client->transport->caps.max_message, reterr);
    if (status) {
        return status;
    }
    fila_consumer *c = calloc(1, sizeof *c + queue.len);
    if (!c) {
        return fila_fail(reterr, FILA_NO_MEMORY, "a consumer");
    }
    c->client = client;
    c->io_thread = client->thread;
    if (events) {
        c->events_copy = *events;
        c->events = &c->events_copy;
    }
    c->user = user;
    c->open_op.run = run_open;
    c->grant_op.run = run_grant;
    c->close_op.run = run_close;
    c->locked.last = &c->locked.first;
    c->queue_len = queue.len;
    if (queue.len) {
        memcpy(c->queue, queue.data, queue.len);
    }
    init_lock(c);
    atomic_store(&c->refs, 3); /* the program's, the stream's, open_op's */
    (void)pthread_mutex_lock(&c->lock);
    bool posted = fc_post(client, &c->open_op);
    if (posted) {
        *ret_consumer = c;
    }
    (void)pthread_mutex_unlock(&c->lock);
    if (!posted) {
        atomic_store(&c->refs, 1);
        unref(c);
        return fc_fail_closed(reterr);
    }
    return FILA_OK;
}

/* With the lock held. */
static void grant_locked(fila_consumer *c, uint32_t count)
{
    uint32_t before = atomic_load(&c->granted);
    uint32_t after = 0;
    if (c->locked.state != RUNNING) {
        return;
    }
    do {
        after = count > UINT32_MAX - before ? UINT32_MAX : before + count;
    } while (!atomic_compare_exchange_weak(&c->granted, &before, after));
    c->locked.credits = count > UINT32_MAX - c->locked.credits ? UINT32_MAX
                                                               : c->locked.credits + count;
    if (!c->locked.granting) {
        c->locked.granting = true;
        post(c, &c->grant_op);
    }
}

void fila_consumer_grant(fila_consumer *consumer, uint32_t count)
{
    (void)pthread_mutex_lock(&consumer->lock);
    grant_locked(consumer, count);
    (void)pthread_mutex_unlock(&consumer->lock);
}

void fila_consumer_close(fila_consumer *consumer)
{
    (void)pthread_mutex_lock(&consumer->lock);
    if (consumer->locked.state == RUNNING && !consumer->locked.closing) {
        consumer->locked.closing = true;
        post(consumer, &consumer->close_op);
    }
    (void)pthread_mutex_unlock(&consumer->lock);
}

void fila_consumer_free(fila_consumer *consumer)
{
    if (!consumer) {
        return;
    }
    fila_consumer_close(consumer);
    if (!pthread_equal(consumer->io_thread, pthread_self())) {
        (void)pthread_mutex_lock(&consumer->lock);
        while (consumer->locked.state != ENDED) {
            (void)pthread_cond_wait(&consumer->changed, &consumer->lock);
        }
        (void)pthread_mutex_unlock(&consumer->lock);
    }
    unref(consumer);
}

/* ---- Reading without events ---- */

static struct timespec from_now(int timeout_ms)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + (int64_t)(timeout_ms % 1000) * FILA_MS;
    t.tv_sec += timeout_ms / 1000 + ns / FILA_S;
    t.tv_nsec = ns % FILA_S;
    return t;
}

static fila_status end_of_stream(const fila_consumer *c, fila_error *reterr)
{
    fila_status code = c->locked.end.code;
    if (code == FILA_OK) {
        code = fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "the broker ended the stream in good order: open another");
        if (reterr) {
            reterr->outcome_unknown = false;
        }
    } else if (reterr) {
        *reterr = c->locked.end;
    }
    return code;
}

/* With the lock held: waits until a message is queued, the stream is over, or the time has come. */
static void await(fila_consumer *c, int timeout_ms)
{
    struct timespec until = from_now(timeout_ms < 0 ? 0 : timeout_ms);
    int waited = 0;
    if (!c->locked.first && !c->locked.credits) {
        grant_locked(c, 1);
    }
    while (!c->locked.first && c->locked.state == RUNNING && !waited) {
        if (timeout_ms < 0) {
            (void)pthread_cond_wait(&c->changed, &c->lock);
        } else {
            waited = pthread_cond_timedwait(&c->changed, &c->lock, &until);
        }
    }
}

fila_status fila_consumer_next(
    fila_consumer *consumer,
    int timeout_ms,
    fila_message **ret_message,
    fila_error *reterr)
{
    fila_status status = FILA_OK;
    if (consumer->events || pthread_equal(consumer->io_thread, pthread_self())) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            consumer->events ? "this consumer has events" : "waiting in a callback");
    }
    (void)pthread_mutex_lock(&consumer->lock);
    await(consumer, timeout_ms);
    struct queued *head = consumer->locked.first;
    if (head) {
        consumer->locked.first = head->next;
        if (!head->next) {
            consumer->locked.last = &consumer->locked.first;
        }
        *ret_message = head->message;
    } else if (consumer->locked.state != RUNNING) {
        status = end_of_stream(consumer, reterr);
    } else {
        status = fila_fail(reterr, FILA_TIMEOUT, "no message within %d ms", timeout_ms);
        if (reterr) {
            reterr->outcome_unknown = false;
        }
    }
    (void)pthread_mutex_unlock(&consumer->lock);
    free(head);
    return status;
}
