/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Publishing with a buffer. Messages go from `incoming` (where fila_producer_send puts them, until
 * there are enough or the oldest has waited long enough) to `waiting`, from there to the transport,
 * and on a failure that may pass back to its place in `waiting`, with a pause for all.
 *
 * References: the program's, the I/O thread's (until the producer has moved out of the client), and
 * one for the op on its way there.
 */
#include "base/clock.h"
#include "base/error.h"
#include "client_impl.h"

#include <stdlib.h>
#include <utlist.h>

/* One message, its bytes behind it in the same allocation. */
struct message {
    struct fila_publish item;
    struct message *prev; /* in incoming or waiting */
    struct message *next;
    struct message *all_prev; /* in all */
    struct message *all_next;
    fila_producer *producer;
    void *token;
    uint64_t number; /* in the order of sending */
    size_t bytes;
    int64_t deadline;
    uint32_t attempts;
    fila_error error; /* of the last attempt */
};

struct fila_producer {
    fila_client *client; /* not to be touched once it has ended: the client may be gone */
    pthread_t io_thread;
    fila_producer_options options;
    uint32_t max_message;
    struct fc_tenant tenant;
    struct fc_op open_op;
    struct fc_op op;
    atomic_uint refs;

    /* I/O thread only: */
    struct message *waiting;
    uint32_t in_flight;
    int64_t resume_at; /* nothing is sent before */
    fila_backoff backoff;

    pthread_mutex_t lock;
    pthread_cond_t changed;

    struct {
        bool closed; /* nothing is taken any more */
        bool ended;  /* the I/O thread has let go */
        bool posted; /* op is on its way */
        bool flush;  /* incoming is to be sent now */
        struct message *incoming;
        uint32_t incoming_count;
        int64_t incoming_since;
        struct message *all; /* not reported yet, in the order of sending */
        uint32_t count;      /* of them */
        uint64_t bytes;      /* of them */
        uint64_t next_number;
    } locked;
};

static fila_producer *of_tenant(struct fc_tenant *tenant)
{
    return (fila_producer *)(void *)((char *)tenant - offsetof(fila_producer, tenant));
}

static void unref(fila_producer *p)
{
    if (atomic_fetch_sub(&p->refs, 1) == 1) {
        (void)pthread_cond_destroy(&p->changed);
        (void)pthread_mutex_destroy(&p->lock);
        free(p); /* NOLINT(clang-analyzer-unix.Malloc): it does not follow the count */
    }
}

/* ---- On the I/O thread ---- */

static void report(struct message *m, const fila_error *error)
{
    fila_producer *p = m->producer;
    if (p->options.on_report) {
        fila_report told = {m->token, fila_view_of(error ? "" : m->item.id), m->attempts, error};
        p->options.on_report(p->options.user, &told);
    }
    (void)pthread_mutex_lock(&p->lock);
    DL_DELETE2(p->locked.all, m, all_prev, all_next);
    p->locked.count--;
    p->locked.bytes -= m->bytes;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->lock);
    free(m);
}

static bool is_closed(fila_producer *p)
{
    (void)pthread_mutex_lock(&p->lock);
    bool closed = p->locked.closed;
    (void)pthread_mutex_unlock(&p->lock);
    return closed;
}

static bool may_retry(fila_producer *p, const struct message *m, int64_t now)
{
    const fila_error *error = &m->item.error;
    return error->retryable && (!error->outcome_unknown || p->options.retry_unknown) &&
           now < m->deadline && !atomic_load(&p->client->closing) && !is_closed(p);
}

/* Back among those that wait, where it was in the order of sending. */
static void put_back(fila_producer *p, struct message *m)
{
    struct message *behind = p->waiting;
    while (behind && behind->number < m->number) {
        behind = behind->next;
    }
    DL_PREPEND_ELEM(p->waiting, behind, m);
}

static void on_published(struct fila_publish *item)
{
    struct message *m = (struct message *)item;
    fila_producer *p = m->producer;
    int64_t now = fila_now();
    p->in_flight--;
    p->tenant.wake_at = 0; /* a step once the transport has told all that it has */
    if (item->error.code == FILA_OK) {
        fila_backoff_reset(&p->backoff);
        report(m, NULL);
    } else if (may_retry(p, m, now)) {
        m->error = item->error;
        put_back(p, m);
        if (p->resume_at <= now) { /* else those that failed together would add up */
            p->resume_at = now + fila_backoff_next(&p->backoff) * FILA_MS;
        }
    } else {
        report(m, &item->error);
    }
}

/* Takes what was sent, when it is time. Returns when it will be. */
static int64_t take_incoming(fila_producer *p, int64_t now)
{
    int64_t due = FILA_NEVER;
    (void)pthread_mutex_lock(&p->lock);
    if (p->locked.incoming) {
        due = p->locked.incoming_since + p->options.flush_ms * FILA_MS;
        if (p->locked.flush || p->locked.incoming_count >= p->options.flush_count || due <= now) {
            DL_CONCAT(p->waiting, p->locked.incoming);
            p->locked.incoming = NULL;
            p->locked.incoming_count = 0;
            due = FILA_NEVER;
        }
    }
    p->locked.flush = p->locked.flush && p->locked.incoming;
    (void)pthread_mutex_unlock(&p->lock);
    return due;
}

/* The timeout of a message that was tried says how. */
static void expire(fila_producer *p, int64_t now)
{
    while (p->waiting && p->waiting->deadline <= now) {
        struct message *m = p->waiting;
        fila_error error = FILA_ERROR_INIT;
        DL_DELETE(p->waiting, m);
        (void)fila_fail(
            &error, FILA_TIMEOUT, "not taken within %u ms, %u attempts%s%s", p->options.timeout_ms,
            m->attempts, m->attempts ? ", the last: " : "", m->attempts ? m->error.text : "");
        error.outcome_unknown = m->attempts && m->error.outcome_unknown;
        report(m, &error);
    }
}

static struct message *next_to_send(fila_producer *p, int64_t now)
{
    struct message *m = p->waiting;
    if (!m || p->in_flight >= p->options.in_flight) {
        return NULL;
    }
    int64_t attempt = now + p->client->call_timeout_ms * FILA_MS;
    DL_DELETE(p->waiting, m);
    m->item.error = (fila_error)FILA_ERROR_INIT;
    m->item.deadline = attempt < m->deadline ? attempt : m->deadline;
    m->attempts++;
    p->in_flight++;
    return m;
}

static void send_waiting(fila_producer *p, int64_t now)
{
    struct fila_publish *first = NULL;
    struct fila_publish **last = &first;
    for (struct message *m = next_to_send(p, now); m; m = next_to_send(p, now)) {
        m->item.next = NULL;
        *last = &m->item;
        last = &m->item.next;
    }
    if (first) {
        p->client->transport->ops->publish(p->client->transport, first);
    }
}

static void report_unsent(fila_producer *p, fila_status code, const char *text)
{
    (void)pthread_mutex_lock(&p->lock);
    DL_CONCAT(p->waiting, p->locked.incoming);
    p->locked.incoming = NULL;
    p->locked.incoming_count = 0;
    (void)pthread_mutex_unlock(&p->lock);
    while (p->waiting) {
        struct message *m = p->waiting;
        fila_error error = FILA_ERROR_INIT;
        DL_DELETE(p->waiting, m);
        (void)fila_fail(&error, code, "%s", text);
        error.outcome_unknown = m->attempts && m->error.outcome_unknown;
        report(m, &error);
    }
}

/* The I/O thread lets go; it has moved out before. */
static void let_go(fila_producer *p)
{
    (void)pthread_mutex_lock(&p->lock);
    p->locked.closed = true;
    p->locked.ended = true;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->lock);
    unref(p);
}

static void step(struct fc_tenant *tenant, int64_t now)
{
    fila_producer *p = of_tenant(tenant);
    if (atomic_load(&p->client->closing)) {
        return; /* `end` comes */
    }
    if (is_closed(p)) {
        report_unsent(p, FILA_CANCELLED, "the producer was closed before this was taken");
        if (!p->in_flight) {
            fc_move_out(p->client, tenant);
            let_go(p);
        }
        return;
    }
    int64_t wake_at = take_incoming(p, now);
    expire(p, now);
    if (p->resume_at <= now) {
        send_waiting(p, now);
    } else if (p->waiting && p->resume_at < wake_at) {
        wake_at = p->resume_at;
    }
    if (p->waiting && p->waiting->deadline < wake_at) {
        wake_at = p->waiting->deadline;
    }
    tenant->wake_at = wake_at < tenant->wake_at ? wake_at : tenant->wake_at;
}

static void end(struct fc_tenant *tenant)
{
    fila_producer *p = of_tenant(tenant);
    (void)pthread_mutex_lock(&p->lock);
    p->locked.closed = true; /* nothing comes in behind what is reported now */
    (void)pthread_mutex_unlock(&p->lock);
    report_unsent(p, FILA_CLOSED, "the client was closed before this was taken");
    let_go(p);
}

static void run_open(fila_client *client, struct fc_op *op, bool closed)
{
    fila_producer *p = (fila_producer *)(void *)((char *)op - offsetof(fila_producer, open_op));
    if (closed) {
        end(&p->tenant);
    } else {
        fc_move_in(client, &p->tenant);
    }
    unref(p);
}

static void run_op(fila_client *client, struct fc_op *op, bool closed)
{
    fila_producer *p = (fila_producer *)(void *)((char *)op - offsetof(fila_producer, op));
    (void)client;
    (void)pthread_mutex_lock(&p->lock);
    p->locked.posted = false;
    bool ended = p->locked.ended;
    (void)pthread_mutex_unlock(&p->lock);
    if (!closed && !ended) {
        step(&p->tenant, fila_now());
    }
    unref(p);
}

/* ---- On any thread ---- */

static fila_status check_options(const fila_producer_options *o, fila_error *reterr)
{
    if (!o || o->size != sizeof *o) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "options of size %zu, this library knows %zu: use FILA_PRODUCER_OPTIONS_INIT",
            o ? o->size : 0, sizeof *o);
    }
    if (!o->buffer_messages || !o->buffer_bytes || !o->flush_count || !o->in_flight ||
        !o->timeout_ms) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "buffer_messages %u, buffer_bytes %llu, flush_count %u, in_flight %u, timeout_ms %u: "
            "none may be 0",
            o->buffer_messages, (unsigned long long)o->buffer_bytes, o->flush_count, o->in_flight,
            o->timeout_ms);
    }
    return FILA_OK;
}

static void init_lock(fila_producer *p)
{
    pthread_condattr_t attr;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
}

fila_status fila_producer_open(
    fila_client *client,
    const fila_producer_options *options,
    fila_producer **ret_producer,
    fila_error *reterr)
{
    fila_status status = check_options(options, reterr);
    if (status) {
        return status;
    }
    fila_producer *p = calloc(1, sizeof *p);
    if (!p) {
        return fila_fail(reterr, FILA_NO_MEMORY, "a producer");
    }
    p->client = client;
    p->io_thread = client->thread;
    p->options = *options;
    p->max_message = client->transport->caps.max_message;
    p->tenant = (struct fc_tenant){.wake_at = FILA_NEVER, .step = step, .end = end};
    p->open_op.run = run_open;
    p->op.run = run_op;
    fila_backoff_init(&p->backoff, options->retry_first_ms, options->retry_max_ms, 50, 0);
    init_lock(p);
    atomic_store(&p->refs, 3);
    if (!fc_post(client, &p->open_op)) {
        atomic_store(&p->refs, 1);
        unref(p);
        return fc_fail_closed(reterr);
    }
    *ret_producer = p;
    return FILA_OK;
}

/* With the lock held, and not ended, so that the client is still there. */
static void post(fila_producer *p)
{
    if (p->locked.posted || p->locked.ended) {
        return;
    }
    p->locked.posted = true;
    atomic_fetch_add(&p->refs, 1);
    if (!fc_post(p->client, &p->op)) {
        atomic_fetch_sub(&p->refs, 1); /* the end is on its way anyhow; others remain */
    }
}

static fila_view put(char **at, fila_view view)
{
    fila_view copy = {*at, view.len};
    if (view.len) {
        memcpy(*at, view.data, view.len);
        *at += view.len;
    }
    return copy;
}

/* A copy of the message; NULL without memory. */
static struct message *message_of(const fila_request *request, size_t *ret_bytes)
{
    size_t count = request->as.enqueue.header_count;
    const fila_header *headers = request->as.enqueue.headers;
    size_t text = request->as.enqueue.queue.len + request->as.enqueue.payload.len;
    for (size_t i = 0; i < count; i++) {
        text += headers[i].key.len + headers[i].value.len;
    }
    *ret_bytes = sizeof(struct message) + count * sizeof *headers + text;
    struct message *m = malloc(*ret_bytes);
    if (m) {
        fila_header *copies = (fila_header *)(m + 1);
        char *at = (char *)(copies + count);
        *m = (struct message){.bytes = *ret_bytes};
        for (size_t i = 0; i < count; i++) {
            copies[i].key = put(&at, headers[i].key);
            copies[i].value = put(&at, headers[i].value);
        }
        m->item.queue = put(&at, request->as.enqueue.queue);
        m->item.payload = put(&at, request->as.enqueue.payload);
        m->item.headers = copies;
        m->item.header_count = count;
        m->item.done = on_published;
    }
    return m;
}

/* With the lock held. */
static fila_status check_room(const fila_producer *p, size_t bytes, fila_error *reterr)
{
    if (p->locked.closed) {
        return fc_fail_closed(reterr);
    }
    if (p->locked.count >= p->options.buffer_messages ||
        p->locked.bytes + bytes > p->options.buffer_bytes) {
        return fila_fail(
            reterr, FILA_OVERLOADED, "the producer's buffer is full: %u messages, %llu bytes",
            p->locked.count, (unsigned long long)p->locked.bytes);
    }
    return FILA_OK;
}

/* With the lock held. */
static void add(fila_producer *p, struct message *m)
{
    int64_t now = fila_now();
    m->producer = p;
    m->number = p->locked.next_number++;
    m->deadline = now + p->options.timeout_ms * FILA_MS;
    DL_APPEND(p->locked.incoming, m);
    DL_APPEND2(p->locked.all, m, all_prev, all_next);
    p->locked.count++;
    p->locked.bytes += m->bytes;
    p->locked.incoming_count++;
    if (p->locked.incoming_count == 1) {
        p->locked.incoming_since = now;
        post(p); /* for the time to be set */
    } else if (p->locked.incoming_count == p->options.flush_count) {
        post(p);
    }
}

/* NOLINTNEXTLINE(readability-function-size): what makes up a message */
fila_status fila_producer_send(
    fila_producer *producer,
    fila_view queue,
    const fila_header *headers,
    size_t header_count,
    fila_view payload,
    void *token,
    fila_error *reterr)
{
    fila_request request = {
        .call = FILA_CALL_ENQUEUE, .as.enqueue = {queue, headers, header_count, payload}};
    fila_status status = fc_check_request(&request, producer->max_message, reterr);
    size_t bytes = 0;
    if (status) {
        return status;
    }
    struct message *m = message_of(&request, &bytes);
    if (!m) {
        return fila_fail(reterr, FILA_NO_MEMORY, "a message of %zu bytes", bytes);
    }
    m->token = token;
    (void)pthread_mutex_lock(&producer->lock);
    status = check_room(producer, bytes, reterr);
    if (!status) {
        add(producer, m);
    }
    (void)pthread_mutex_unlock(&producer->lock);
    if (status) {
        free(m);
    }
    return status;
}

static struct timespec from_now(int timeout_ms)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + (int64_t)(timeout_ms % 1000) * FILA_MS;
    t.tv_sec += timeout_ms / 1000 + ns / FILA_S;
    t.tv_nsec = ns % FILA_S;
    return t;
}

/* With the lock held: whether all up to `number` are reported. */
static bool reported(const fila_producer *p, uint64_t number)
{
    return !p->locked.all || p->locked.all->number >= number;
}

fila_status fila_producer_flush(fila_producer *producer, int timeout_ms, fila_error *reterr)
{
    struct timespec until = from_now(timeout_ms < 0 ? 0 : timeout_ms);
    fila_status status = FILA_OK;
    int waited = 0;
    if (pthread_equal(producer->io_thread, pthread_self())) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "waiting in a callback");
    }
    (void)pthread_mutex_lock(&producer->lock);
    uint64_t number = producer->locked.next_number;
    if (producer->locked.incoming) {
        producer->locked.flush = true;
        post(producer);
    }
    while (!reported(producer, number) && !waited) {
        if (timeout_ms < 0) {
            (void)pthread_cond_wait(&producer->changed, &producer->lock);
        } else {
            waited = pthread_cond_timedwait(&producer->changed, &producer->lock, &until);
        }
    }
    if (!reported(producer, number)) {
        status = fila_fail(
            reterr, FILA_TIMEOUT, "%u messages not reported within %d ms", producer->locked.count,
            timeout_ms);
    }
    (void)pthread_mutex_unlock(&producer->lock);
    return status;
}

void fila_producer_close(fila_producer *producer)
{
    (void)pthread_mutex_lock(&producer->lock);
    producer->locked.closed = true;
    post(producer);
    (void)pthread_mutex_unlock(&producer->lock);
}

void fila_producer_free(fila_producer *producer)
{
    if (!producer) {
        return;
    }
    fila_producer_close(producer);
    if (!pthread_equal(producer->io_thread, pthread_self())) {
        (void)pthread_mutex_lock(&producer->lock);
        while (!producer->locked.ended) {
            (void)pthread_cond_wait(&producer->changed, &producer->lock);
        }
        (void)pthread_mutex_unlock(&producer->lock);
    }
    unref(producer);
}
