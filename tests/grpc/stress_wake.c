/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The owner sleeps for long, and others wake it: four threads hand it an ack at a time and wait for
 * the answer, so that each wake-up that gets lost shows as an ack that takes 10 s; meanwhile a
 * stream is read, and its messages are freed by yet another thread. Also for ThreadSanitizer.
 */
#include "rig.h"
#include "stub.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define WAKERS   4
#define ROUNDS   1000
#define MESSAGES 10000
#define ID       "0192f0c1-0000-7000-8000-000000000001"

struct job {
    struct job *next;
    struct fila_settle settle;
    sem_t answered;
};

static struct fila_transport *transport;
static struct fila_stream *stream;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct job *jobs;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t kept_some = PTHREAD_COND_INITIALIZER;
static fila_message *kept[256];
static unsigned kept_count;
static bool kept_done;
static atomic_uint wakers_left = WAKERS;
static unsigned received;
static bool ended;

static void fail(const char *what)
{
    (void)fprintf(stderr, "stress_wake: %s\n", what);
    abort();
}

static void answered(struct fila_settle *item)
{
    struct job *job = item->user;
    if (item->result != FILA_SETTLE_OK) {
        fail(item->error.text);
    }
    sem_post(&job->answered);
}

static void *wake_often(void *unused)
{
    struct job job = {0};
    (void)unused;
    sem_init(&job.answered, 0, 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct timespec until;
        job.settle = (struct fila_settle){
            .kind = i % 2 ? FILA_SETTLE_ACK : FILA_SETTLE_NACK, .done = answered, .user = &job};
        job.settle.queue = fila_view_of("orders");
        job.settle.receipt = fila_view_of(ID);
        job.settle.deadline = fila_now() + 60 * FILA_S;
        pthread_mutex_lock(&lock);
        job.next = jobs;
        jobs = &job;
        pthread_mutex_unlock(&lock);
        fila_transport_wake(transport);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 5; /* the owner sleeps for 10 */
        while (sem_timedwait(&job.answered, &until)) {
            if (errno == ETIMEDOUT) {
                fail("a wake-up was lost");
            }
        }
    }
    sem_destroy(&job.answered);
    atomic_fetch_sub(&wakers_left, 1);
    fila_transport_wake(transport);
    return NULL;
}

static void *free_messages(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&kept_lock);
    while (!kept_done || kept_count) {
        while (kept_count) {
            fila_message_free(kept[--kept_count]);
        }
        if (!kept_done) {
            pthread_cond_wait(&kept_some, &kept_lock);
        }
    }
    pthread_mutex_unlock(&kept_lock);
    return NULL;
}

static void on_opened(void *user, int64_t now)
{
    (void)user;
    (void)now;
}

static void on_message(void *user, fila_message *owned, const struct fila_read *read)
{
    (void)user;
    (void)read;
    pthread_mutex_lock(&kept_lock);
    if (kept_count < sizeof kept / sizeof *kept) {
        kept[kept_count++] = owned;
        owned = NULL;
    }
    pthread_cond_signal(&kept_some);
    pthread_mutex_unlock(&kept_lock);
    fila_message_free(owned);
    if (++received < MESSAGES) {
        transport->ops->grant(stream, 1);
    }
}

static void on_ended(void *user, const fila_error *why)
{
    (void)user;
    (void)why;
    ended = true;
}

static void take_jobs(void)
{
    pthread_mutex_lock(&lock);
    struct job *job = jobs;
    jobs = NULL;
    pthread_mutex_unlock(&lock);
    for (struct job *next = NULL; job; job = next) {
        next = job->next;
        transport->ops->settle(transport, &job->settle);
    }
}

static void run_wakers(void)
{
    pthread_t wakers[WAKERS];
    atomic_store(&wakers_left, WAKERS);
    for (int i = 0; i < WAKERS; i++) {
        pthread_create(&wakers[i], NULL, wake_often, NULL);
    }
    while (atomic_load(&wakers_left)) {
        (void)fila_transport_run(transport, fila_now() + 10 * FILA_S);
        take_jobs();
    }
    for (int i = 0; i < WAKERS; i++) {
        pthread_join(wakers[i], NULL);
    }
}

int main(void)
{
    static const struct fila_stream_events events = {on_opened, on_message, on_ended};
    fila_view message = stub_message("id-1", "orders", 300, 1);
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_client_options options = rig_options(stub_port(stub));
    struct fila_stream_params params = {.queue = fila_view_of("orders"), .events = &events};
    pthread_t freer;
    stub_stream(stub, &(struct stub_stream){.messages = &message, .count = 1, .rounds = MESSAGES});
    transport = rig_open(&options);
    if (transport->ops->open_stream(transport, &params, &stream, NULL)) {
        fail("no stream");
    }
    transport->ops->grant(stream, 8);
    pthread_create(&freer, NULL, free_messages, NULL);
    run_wakers();
    transport->ops->cancel_stream(stream);
    while (!ended) {
        (void)fila_transport_run(transport, fila_now() + 10 * FILA_S);
    }
    run_wakers();
    rig_close(transport);
    pthread_mutex_lock(&kept_lock);
    kept_done = true;
    pthread_cond_signal(&kept_some);
    pthread_mutex_unlock(&kept_lock);
    pthread_join(freer, NULL);
    stub_stop(stub);
    stub_message_free(message);
    if (!received) {
        fail("nothing was read");
    }
    return 0;
}
