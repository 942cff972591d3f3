/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "io.h"

#include "base/clock.h"
#include "base/error.h"
#include "crash.h"
#include "plugin/stacks.h"
#include "queue_status.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* How long the thread waits without any timer: only a bound, everything else wakes it. */
#define LONGEST_WAIT (60 * FILA_S)
/* How long a broker that failed is left alone while another one works. */
#define FIRST_REST_MS   1000
#define LONGEST_REST_MS 60000

enum mail_kind {
    MAIL_ADD,
    MAIL_DRAIN,
    MAIL_PAUSE,
    MAIL_LIMIT,
    MAIL_RECONFIGURE,
    MAIL_LOOK
};

/* A question for a snapshot. Its memory is the asker's, or the I/O thread's once it was given up.
 */
struct look {
    unsigned what;
    bool is_order; /* then `order` is to be done, and there is no snapshot */
    struct fw_order order;
    char queue[1024]; /* what order.queue points to */
    enum fw_obeyed obeyed;
    struct fw_snapshot *snapshot;
    bool answered;
    bool given_up;
};

struct mail {
    struct mail *next;
    enum mail_kind kind;
    struct fw_queue *queue;
    const struct fw_queue_config *config;
    int64_t deadline;
    uint32_t limit;
    bool on;
    struct look *look;
};

struct fw_io {
    pthread_t thread;
    const struct fw_config *config;
    const struct fw_io_events *events;
    void *user;
    fila_client_options client;
    struct fw_done_list done;
    struct fw_turn turn;
    struct fw_queue *queues;
    fila_endpoints *endpoints; /* of the config's list; which one is in use is client.url */
    struct fw_gone *gone;      /* counters of those that went */
    bool stopping;
    bool paused;    /* holds for queues added later too */
    bool fail_over; /* the broker in use has failed: see whether another is better */

    struct {
        pthread_mutex_t lock;
        struct fila_transport *transport; /* for waking; replaced on failover */
        struct mail *mail;
        struct mail **mail_end;
        uint64_t syncs_asked;
        uint64_t syncs_done;
        pthread_cond_t synced;
        pthread_cond_t looked; /* by CLOCK_MONOTONIC */
        const char *url;       /* of the broker in use; the config's, so it stays */
        bool stop;
        bool ended;
    } locked;
};

/* ---- Mailbox ---- */

static void wake(void *user)
{
    struct fw_io *io = user;
    (void)pthread_mutex_lock(&io->locked.lock);
    if (io->locked.transport) {
        fila_transport_wake(io->locked.transport);
    }
    (void)pthread_mutex_unlock(&io->locked.lock);
}

static bool deliver(struct fw_io *io, const struct mail *content)
{
    struct mail *m = malloc(sizeof *m);
    if (!m) {
        return false;
    }
    *m = *content;
    m->next = NULL;
    (void)pthread_mutex_lock(&io->locked.lock);
    *io->locked.mail_end = m;
    io->locked.mail_end = &m->next;
    if (io->locked.transport) {
        fila_transport_wake(io->locked.transport);
    }
    (void)pthread_mutex_unlock(&io->locked.lock);
    return true;
}

static void post(struct fw_io *io, const struct mail *content)
{
    if (!deliver(io, content)) { /* the supervisor's few mails are all that matters: there is
                 nothing better to do than to say so */
        fila_error error = FILA_ERROR_INIT;
        (void)fila_fail(&error, FILA_NO_MEMORY, "no memory for an order to the I/O thread");
        io->events->failed(io->user, &error);
    }
}

/* *ret_asked: the sync to confirm when the mail was obeyed, 0 = none. */
static struct mail *take_mail(struct fw_io *io, uint64_t *ret_asked, bool *ret_stop)
{
    (void)pthread_mutex_lock(&io->locked.lock);
    struct mail *list = io->locked.mail;
    *ret_asked = io->locked.syncs_asked > io->locked.syncs_done ? io->locked.syncs_asked : 0;
    *ret_stop = *ret_stop || io->locked.stop;
    io->locked.mail = NULL;
    io->locked.mail_end = &io->locked.mail;
    (void)pthread_mutex_unlock(&io->locked.lock);
    return list;
}

void fw_io_add(struct fw_io *io, struct fw_queue *queue)
{
    post(io, &(struct mail){.kind = MAIL_ADD, .queue = queue});
}

void fw_io_drain(struct fw_io *io, struct fw_queue *queue, int64_t deadline)
{
    post(io, &(struct mail){.kind = MAIL_DRAIN, .queue = queue, .deadline = deadline});
}

void fw_io_pause(struct fw_io *io, bool on)
{
    post(io, &(struct mail){.kind = MAIL_PAUSE, .on = on});
}

void fw_io_limit(struct fw_io *io, uint32_t max_running)
{
    post(io, &(struct mail){.kind = MAIL_LIMIT, .limit = max_running});
}

void fw_io_reconfigure(
    struct fw_io *io,
    struct fw_queue *queue,
    const struct fw_queue_config *config)
{
    post(io, &(struct mail){.kind = MAIL_RECONFIGURE, .queue = queue, .config = config});
}

void fw_io_sync(struct fw_io *io)
{
    (void)pthread_mutex_lock(&io->locked.lock);
    uint64_t mine = ++io->locked.syncs_asked;
    if (io->locked.transport) {
        fila_transport_wake(io->locked.transport);
    }
    while (io->locked.syncs_done < mine && !io->locked.ended) {
        (void)pthread_cond_wait(&io->locked.synced, &io->locked.lock);
    }
    (void)pthread_mutex_unlock(&io->locked.lock);
}

static void free_look(struct look *look)
{
    fw_snapshot_free(look->snapshot);
    free(look);
}

/* Sends it and waits. True: it was answered, and is the caller's again. Else the I/O thread frees
 * it. */
static bool ask(struct fw_io *io, struct look *look, int64_t patience)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t end = (int64_t)until.tv_sec * FILA_S + until.tv_nsec + patience;
    until = (struct timespec){.tv_sec = end / FILA_S, .tv_nsec = end % FILA_S};
    if (!deliver(io, &(struct mail){.kind = MAIL_LOOK, .look = look})) {
        free(look);
        return false;
    }
    (void)pthread_mutex_lock(&io->locked.lock);
    int error = 0;
    while (!look->answered && !io->locked.ended && error == 0) {
        error = pthread_cond_timedwait(&io->locked.looked, &io->locked.lock, &until);
    }
    bool answered = look->answered;
    look->given_up = !answered;
    (void)pthread_mutex_unlock(&io->locked.lock);
    return answered;
}

struct fw_snapshot *fw_io_look(struct fw_io *io, unsigned what, int64_t patience)
{
    struct look *look = calloc(1, sizeof *look);
    if (!look) {
        return NULL;
    }
    look->what = what;
    if (!ask(io, look, patience)) {
        return NULL;
    }
    struct fw_snapshot *snapshot = look->snapshot;
    free(look);
    return snapshot;
}

enum fw_obeyed fw_io_order(struct fw_io *io, const struct fw_order *order, int64_t patience)
{
    struct look *look = calloc(1, sizeof *look);
    if (!look) {
        return FW_NO_ANSWER;
    }
    look->is_order = true;
    look->order = *order;
    if (order->queue) {
        (void)snprintf(look->queue, sizeof look->queue, "%s", order->queue);
        look->order.queue = look->queue;
    }
    if (!ask(io, look, patience)) {
        return FW_NO_ANSWER;
    }
    enum fw_obeyed obeyed = look->obeyed;
    free(look);
    return obeyed;
}

/* ---- Mail, I/O thread ---- */

static struct fw_snapshot *describe(struct fw_io *io, unsigned what)
{
    struct fw_snapshot *snapshot = fw_queues_describe(io->queues, io->gone, what, io->turn.now);
    if (snapshot) {
        snapshot->broker = fw_snapshot_text(snapshot, fila_view_of(io->client.url), 256);
    }
    return snapshot;
}

static void pause_one(struct fw_queue *queue, bool on)
{
    fw_queue_pause(queue, on);
    FW_LOG(
        on ? FW_EVENT_QUEUE_PAUSED : FW_EVENT_QUEUE_RESUMED, on ? "paused" : "goes on",
        fw_str("queue", fw_queue_name(queue)));
}

static enum fw_obeyed order_one(struct fw_queue *queue, const struct fw_order *order)
{
    switch (order->kind) {
    case FW_ORDER_PAUSE:
    case FW_ORDER_RESUME:
        pause_one(queue, order->kind == FW_ORDER_PAUSE);
        return FW_OBEYED;
    case FW_ORDER_ADJUST:
        return fw_queue_adjust(queue, order->rate, order->concurrency) ? FW_OBEYED
                                                                       : FW_OVER_CHILDREN;
    case FW_ORDER_TAP:
        break;
    }
    return FW_OBEYED;
}

static enum fw_obeyed obey_order(struct fw_io *io, const struct fw_order *order)
{
    enum fw_obeyed obeyed = order->queue ? FW_NO_SUCH_QUEUE : FW_OBEYED;
    for (struct fw_queue *q = io->queues; q; q = *fw_queue_link(q)) {
        if (!order->queue || strcmp(order->queue, fw_queue_name(q)) == 0) {
            enum fw_obeyed one = order_one(q, order);
            obeyed = obeyed == FW_OVER_CHILDREN ? obeyed : one;
        }
    }
    if (order->kind == FW_ORDER_TAP && obeyed == FW_OBEYED) {
        io->turn.tap = order->tap;
    }
    if (!order->queue && order->kind <= FW_ORDER_RESUME) { /* queues of a later reload too */
        io->paused = order->kind == FW_ORDER_PAUSE;
    }
    return obeyed;
}

static void answer(struct fw_io *io, struct look *look)
{
    (void)pthread_mutex_lock(&io->locked.lock);
    bool wanted = !look->given_up;
    (void)pthread_mutex_unlock(&io->locked.lock);
    struct fw_snapshot *snapshot = NULL;
    if (wanted && look->is_order) {
        look->obeyed = obey_order(io, &look->order);
    } else if (wanted) {
        snapshot = describe(io, look->what);
    }
    (void)pthread_mutex_lock(&io->locked.lock);
    look->snapshot = snapshot;
    look->answered = true;
    bool given_up = look->given_up;
    (void)pthread_cond_broadcast(&io->locked.looked);
    (void)pthread_mutex_unlock(&io->locked.lock);
    if (given_up) {
        free_look(look);
    }
}

static const struct fw_queue_events QUEUE_EVENTS;

static void add(struct fw_io *io, struct fw_queue *queue)
{
    if (fw_queue_start(queue, &io->turn, &QUEUE_EVENTS, io) != FILA_OK) {
        fila_error error = FILA_ERROR_INIT;
        (void)fila_fail(
            &error, FILA_NO_MEMORY, "queue \"%s\": no memory for its engine", fw_queue_name(queue));
        io->events->failed(io->user, &error);
        io->events->drained(io->user, queue);
        return;
    }
    if (io->paused) {
        fw_queue_pause(queue, true);
    }
    *fw_queue_link(queue) = io->queues;
    io->queues = queue;
}

static void drain(struct fw_io *io, const struct mail *m)
{
    for (struct fw_queue *q = io->queues; q; q = *fw_queue_link(q)) {
        if (!m->queue || m->queue == q) {
            fw_queue_drain(q, m->deadline);
            FW_CRASH(DRAIN_BEGUN);
        }
    }
}

static void obey(struct fw_io *io, const struct mail *m)
{
    switch (m->kind) {
    case MAIL_ADD:
        add(io, m->queue);
        break;
    case MAIL_DRAIN:
        drain(io, m);
        break;
    case MAIL_PAUSE:
        (void)obey_order(io, &(struct fw_order){.kind = m->on ? FW_ORDER_PAUSE : FW_ORDER_RESUME});
        break;
    case MAIL_LIMIT:
        fw_shared_limit(io->turn.shared, m->limit);
        break;
    case MAIL_RECONFIGURE:
        fw_queue_reconfigure(m->queue, m->config);
        break;
    case MAIL_LOOK:
        answer(io, m->look);
        break;
    }
}

static void take_results(struct fw_io *io)
{
    for (struct fw_job *job = fw_done_take(&io->done); job;) {
        struct fw_job *next = job->next;
        fw_queue_done(job);
        job = next;
    }
}

static void read_mail(struct fw_io *io)
{
    uint64_t asked = 0;
    struct mail *m = take_mail(io, &asked, &io->stopping);
    while (m) {
        struct mail *next = m->next;
        obey(io, m);
        free(m);
        m = next;
    }
    if (asked) {
        /* Results that came after this turn's look, but before the question: who asks may free
         * their queue as soon as it is answered. */
        take_results(io);
        (void)pthread_mutex_lock(&io->locked.lock);
        io->locked.syncs_done = asked;
        (void)pthread_cond_broadcast(&io->locked.synced);
        (void)pthread_mutex_unlock(&io->locked.lock);
    }
}

/* ---- Queue events ---- */

static void stream_up(void *user, struct fw_queue *queue)
{
    struct fw_io *io = user;
    (void)queue;
    io->fail_over = false;
    fila_endpoints_worked(io->endpoints, io->client.url);
    io->events->stream_up(io->user);
}

static void failed(struct fw_io *io)
{
    fila_endpoints_failed(io->endpoints, io->client.url, fila_now() / FILA_MS);
    io->fail_over = io->config->broker_count > 1;
}

static void stream_down(void *user, struct fw_queue *queue, const fila_error *why)
{
    struct fw_io *io = user;
    (void)queue;
    if (why->code != FILA_BROKER_UNAVAILABLE && why->code != FILA_TIMEOUT) {
        return;
    }
    for (struct fw_queue *q = io->queues; q; q = *fw_queue_link(q)) {
        if (fw_queue_stats(q).streams_up) {
            return;
        }
    }
    failed(io);
}

/* Streams are all that keeps a stopping broker up (contract A4.7), so this queue lets go of its
 * own. Another's calls may be answered all the same (by another node that leads it): it is asked at
 * once, and tells the same when it has no answer either. The last one leaves the broker for the
 * next. */
static void calls_hang(void *user, struct fw_queue *queue)
{
    struct fw_io *io = user;
    bool serves = false;
    fw_queue_cancel_streams(queue);
    for (struct fw_queue *q = io->queues; q; q = *fw_queue_link(q)) {
        if (q != queue && fw_queue_serves(q)) {
            serves = true;
            fw_queue_look(q);
        }
    }
    if (!serves) {
        failed(io);
    }
}

static void missing(void *user, struct fw_queue *queue)
{
    struct fw_io *io = user;
    io->events->missing(io->user, queue);
}

static void drained(void *user, struct fw_queue *queue)
{
    struct fw_io *io = user;
    struct fw_queue **at = &io->queues;
    while (*at != queue) {
        at = fw_queue_link(*at);
    }
    *at = *fw_queue_link(queue);
    fw_gone_add(&io->gone, queue);
    io->events->drained(io->user, queue);
    FW_CRASH(DRAINED);
}

static const struct fw_queue_events QUEUE_EVENTS = {
    stream_up, stream_down, calls_hang, missing, drained};

/* ---- The loop ---- */

static void begin_turn(struct fw_io *io)
{
    io->turn.now = fila_now();
    io->turn.settles = NULL;
    io->turn.settles_end = &io->turn.settles;
    io->turn.publishes = NULL;
    io->turn.publishes_end = &io->turn.publishes;
}

static void end_turn(struct fw_io *io)
{
    struct fila_transport *t = io->turn.transport;
    if (io->turn.journal) {
        fw_journal_commit(io->turn.journal);
    }
    if (io->turn.settles) {
        t->ops->settle(t, io->turn.settles);
        FW_CRASH(ACK_HANDED_OVER);
    }
    if (io->turn.publishes) {
        t->ops->publish(t, io->turn.publishes);
    }
}

static int64_t next_timer(const struct fw_io *io)
{
    int64_t until = io->turn.now + LONGEST_WAIT;
    for (struct fw_queue *q = io->queues; q; q = *fw_queue_link(q)) {
        int64_t at = fw_queue_wake_at(q);
        until = at < until ? at : until;
    }
    return until;
}

/* Mail is looked at under the lock in every turn, so a wake-up between there and the wait is the
 * transport's to keep. */
static void wait_and_read(struct fw_io *io)
{
    int64_t until = next_timer(io);
    bool may_block = fw_done_sleep_begin(&io->done);
    (void)fila_transport_run(io->turn.transport, may_block ? until : 0);
    fw_done_sleep_end(&io->done);
}

/* The same text where it lives as long as the config. */
static const char *of_config(const struct fw_io *io, const char *url)
{
    for (size_t i = 0; i < io->config->broker_count; i++) {
        if (strcmp(io->config->brokers[i], url) == 0) {
            return io->config->brokers[i];
        }
    }
    return io->client.url;
}

static void end_transport(struct fw_io *io)
{
    struct fila_transport *t = io->turn.transport;
    t->ops->shutdown(t);
    while (fila_transport_run(t, fila_now() + FILA_S)) {
    }
    (void)pthread_mutex_lock(&io->locked.lock);
    io->locked.transport = NULL;
    (void)pthread_mutex_unlock(&io->locked.lock);
    t->ops->free(t);
    io->turn.transport = NULL;
}

/* The transport of another URL, or NULL: none but the one in use may be tried now. A URL that
 * cannot be opened at all (a scheme that this build does not have) is passed over. */
static struct fila_transport *open_better(struct fw_io *io)
{
    const char *const before = io->client.url;
    for (size_t i = 0; i < io->config->broker_count; i++) {
        uint32_t wait = 0;
        fila_error error = FILA_ERROR_INIT;
        struct fila_transport *t = NULL;
        const char *url =
            of_config(io, fila_endpoints_pick(io->endpoints, fila_now() / FILA_MS, &wait));
        if (wait || strcmp(url, before) == 0) {
            return NULL;
        }
        io->client.url = url;
        if (fila_transport_open(&io->client, &t, &error) == FILA_OK) {
            return t;
        }
        fila_endpoints_failed(io->endpoints, url, fila_now() / FILA_MS);
        io->client.url = before;
        FW_LOG(
            FW_EVENT_BROKER_REFUSES, "this broker's URL cannot be used: passed over",
            fw_str("broker", url), fw_str("error", error.text));
    }
    return NULL;
}

static void next_broker(struct fw_io *io)
{
    struct fila_transport *t = open_better(io);
    if (!t) {
        io->fail_over = false;
        return;
    }
    end_transport(io);
    io->fail_over = false; /* after the old streams' ends */
    FW_LOG(
        FW_EVENT_BROKER_CHANGED, "another broker is used from here on",
        fw_str("broker", io->client.url));
    (void)pthread_mutex_lock(&io->locked.lock);
    io->locked.transport = t;
    io->locked.url = io->client.url;
    io->turn.transport = t;
    fila_transport_wake(t); /* for what was posted while there was none to wake */
    (void)pthread_mutex_unlock(&io->locked.lock);
    for (struct fw_queue *q = io->queues; q; q = *fw_queue_link(q)) {
        fw_queue_moved(q, io->client.url);
    }
}

static void turn(struct fw_io *io)
{
    wait_and_read(io);
    begin_turn(io);
    take_results(io);
    read_mail(io);
    for (struct fw_queue *q = io->queues; q;) {
        struct fw_queue *next = *fw_queue_link(q); /* the pump may be the queue's last */
        fw_queue_pump(q);
        q = next;
    }
    end_turn(io);
}

static void *io_main(void *arg)
{
    struct fw_io *io = arg;
    fw_stacks_enter();
    while (!io->stopping) {
        turn(io);
        if (io->fail_over) {
            next_broker(io);
        }
    }
    end_transport(io);
    take_results(io);
    (void)pthread_mutex_lock(&io->locked.lock);
    io->locked.ended = true;
    (void)pthread_cond_broadcast(&io->locked.synced);
    (void)pthread_cond_broadcast(&io->locked.looked);
    (void)pthread_mutex_unlock(&io->locked.lock);
    fw_stacks_leave();
    return NULL;
}

/* ---- Life ---- */

static void client_options(struct fw_io *io, const struct fw_io_options *options)
{
    fila_client_options init = FILA_CLIENT_OPTIONS_INIT;
    const struct fw_config *c = options->config;
    io->client = init;
    io->client.url = c->brokers[0];
    io->client.api_key = c->api_key[0] ? c->api_key : NULL;
    io->client.tls_ca = c->tls_ca[0] ? c->tls_ca : NULL;
    io->client.tls_cert = c->tls_cert[0] ? c->tls_cert : NULL;
    io->client.tls_key = c->tls_key[0] ? c->tls_key : NULL;
    io->client.broker = options->broker;
    if (options->window) {
        io->client.window = options->window;
    }
}

static void init_looked(struct fw_io *io)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&io->locked.looked, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

fila_status fw_io_start(
    const struct fw_io_options *options,
    struct fw_io **ret_io,
    fila_error *reterr)
{
    struct fw_io *io = calloc(1, sizeof *io);
    if (!io) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for the I/O thread");
    }
    io->config = options->config;
    io->events = options->events;
    io->user = options->user;
    io->done.wake = wake;
    io->done.user = io;
    io->locked.mail_end = &io->locked.mail;
    (void)pthread_mutex_init(&io->locked.lock, NULL);
    (void)pthread_cond_init(&io->locked.synced, NULL);
    init_looked(io);
    client_options(io, options);
    if (options->state) {
        io->turn.journal = options->state->journal;
        io->turn.crash = options->state->crash;
    }
    io->turn.shared = fw_shared_new(options->config->max_running);
    fila_status status = FILA_OK;
    if (!io->turn.shared) {
        status = fila_fail(reterr, FILA_NO_MEMORY, "no memory for the I/O thread");
        goto failed;
    }
    status = fila_endpoints_new(
        io->config->brokers, io->config->broker_count, FIRST_REST_MS, LONGEST_REST_MS, 0,
        &io->endpoints, reterr);
    status = status ? status : fila_transport_open(&io->client, &io->turn.transport, reterr);
    if (status != FILA_OK) {
        goto failed;
    }
    io->locked.transport = io->turn.transport;
    io->locked.url = io->client.url;
    begin_turn(io);
    if (pthread_create(&io->thread, NULL, io_main, io)) {
        status = fila_fail(reterr, FILA_NO_MEMORY, "cannot start the I/O thread");
        goto failed;
    }
    (void)pthread_setname_np(io->thread, "fila-io");
    *ret_io = io;
    return FILA_OK;
failed:
    if (io->turn.transport) {
        io->turn.transport->ops->free(io->turn.transport);
    }
    fila_endpoints_free(io->endpoints);
    (void)pthread_cond_destroy(&io->locked.looked);
    (void)pthread_cond_destroy(&io->locked.synced);
    (void)pthread_mutex_destroy(&io->locked.lock);
    fw_shared_free(io->turn.shared);
    free(io);
    return status;
}

void fw_io_stop(struct fw_io *io)
{
    if (!io) {
        return;
    }
    (void)pthread_mutex_lock(&io->locked.lock);
    io->locked.stop = true;
    if (io->locked.transport) {
        fila_transport_wake(io->locked.transport);
    }
    (void)pthread_mutex_unlock(&io->locked.lock);
    (void)pthread_join(io->thread, NULL);
    for (struct mail *m = io->locked.mail; m;) {
        struct mail *next = m->next;
        if (m->kind == MAIL_LOOK) { /* nobody asks any more */
            free_look(m->look);
        }
        free(m);
        m = next;
    }
    fila_endpoints_free(io->endpoints);
    fw_gone_free(io->gone);
    (void)pthread_cond_destroy(&io->locked.looked);
    (void)pthread_cond_destroy(&io->locked.synced);
    (void)pthread_mutex_destroy(&io->locked.lock);
    fw_shared_free(io->turn.shared);
    free(io);
}

struct fw_journal *fw_io_journal(struct fw_io *io)
{
    return io->turn.journal;
}

struct fw_done_list *fw_io_done_list(struct fw_io *io)
{
    return &io->done;
}

const char *fw_io_url(struct fw_io *io)
{
    (void)pthread_mutex_lock(&io->locked.lock);
    const char *url = io->locked.url;
    (void)pthread_mutex_unlock(&io->locked.lock);
    return url;
}
