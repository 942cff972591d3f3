/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The pool under everything at once: batches, deferral completed by other threads (early, late,
 * twice, never in time), cancels, handlers that overstay and come back, probes. Every job comes
 * back once, every message is freed once. Also for ThreadSanitizer.
 */
#include "base/clock.h"
#include "executor/executor.h"
#include "executor/outbox.h"
#include "plugin/loader.h"
#include "wire/message.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    IN_FLIGHT = 64,
    COMPLETERS = 2,
    PARKED = 4096
};

struct parked {
    const fila_delivery *delivery;
    const fila_services *services;
    bool twice;
};

static struct {
    struct fw_done_list done;
    struct fw_executor *executor;
    sem_t woken;
    atomic_int messages; /* alive */
    atomic_int returned;
    atomic_int timeouts;
    atomic_int refused;
    atomic_int late_completes;
    atomic_int published;
    atomic_int wrong;

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t some;
        struct parked items[PARKED];
        size_t count;
        bool stop;
    } parked;
} test = {.parked.mutex = PTHREAD_MUTEX_INITIALIZER, .parked.some = PTHREAD_COND_INITIALIZER};

static unsigned next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void pause_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

static void park(const fila_delivery *d, const fila_services *s, bool twice)
{
    (void)pthread_mutex_lock(&test.parked.mutex);
    if (test.parked.count < PARKED) {
        test.parked.items[test.parked.count++] = (struct parked){d, s, twice};
    }
    (void)pthread_cond_signal(&test.parked.some);
    (void)pthread_mutex_unlock(&test.parked.mutex);
}

/* In each publication the first byte of its message, or LATE from those who publish when it is
 * over: that must go nowhere. */
#define LATE 0xee

static void publish(const fila_delivery *d, const fila_services *s, uint8_t byte)
{
    fila_publication p = FILA_PUBLICATION_INIT;
    p.queue = "out";
    p.queue_len = 3;
    p.payload = &byte;
    p.payload_len = 1;
    (void)s->publish(d, &p);
}

static void check_outbox(const struct fw_job *job)
{
    const char *act = fila_message_payload(job->message).data;
    for (const struct fw_outgoing *o = job->outbox; o; o = o->next) {
        bool right = job->verdict.kind == FW_ACK && o->payload.len == 1 &&
                     o->payload.data[0] == *act;
        (void)atomic_fetch_add(&test.wrong, !right);
        (void)atomic_fetch_add(&test.published, 1);
    }
}

static void complete(const struct parked *item)
{
    /* The views are alive until complete returns, even when the host has given the message up. */
    if (item->delivery->id_len != 36 || item->delivery->id[35] != '1') {
        (void)atomic_fetch_add(&test.wrong, 1);
    }
    publish(item->delivery, item->services, item->delivery->payload[0]);
    if (item->services->complete(item->delivery, FILA_ACK, NULL)) {
        (void)atomic_fetch_add(&test.late_completes, 1);
    }
    if (item->twice) {
        publish(item->delivery, item->services, LATE);
    }
    if (item->twice && !item->services->complete(item->delivery, FILA_REJECT, "twice")) {
        (void)atomic_fetch_add(&test.wrong, 1);
    }
}

static void *completer(void *arg)
{
    unsigned random = *(unsigned *)arg;
    (void)pthread_mutex_lock(&test.parked.mutex);
    for (;;) {
        while (!test.parked.count && !test.parked.stop) {
            (void)pthread_cond_wait(&test.parked.some, &test.parked.mutex);
        }
        if (!test.parked.count) {
            break;
        }
        struct parked item = test.parked.items[--test.parked.count];
        (void)pthread_mutex_unlock(&test.parked.mutex);
        if (next_random(&random) % 16 == 0) {
            pause_ms(8); /* past its deadline now and then */
        }
        complete(&item);
        (void)pthread_mutex_lock(&test.parked.mutex);
    }
    (void)pthread_mutex_unlock(&test.parked.mutex);
    return NULL;
}

/* The payload is one byte: what to do. */
static int handle(void *self, const fila_delivery *d, const fila_services *s)
{
    unsigned act = d->payload[0];
    (void)self;
    if (act < 120) {
        if (act < 60) {
            publish(d, s, d->payload[0]);
        }
        return FILA_ACK;
    }
    if (act < 140) {
        s->reason(s, d, "no");
        s->cause(d, act & 1);
        return FILA_RETRY;
    }
    if (act < 200) {
        park(d, s, act & 1);
        return FILA_DEFER;
    }
    if (act < 215) {
        return s->complete(d, FILA_ACK, "early") ? FILA_RETRY : FILA_DEFER;
    }
    if (act < 245) {
        struct pollfd fd = {.fd = s->cancel_fd(d), .events = POLLIN};
        while (!s->cancelled(d)) {
            (void)poll(&fd, 1, 2);
            fd.fd = s->cancel_fd(d);
        }
        return FILA_RETRY;
    }
    if (act < 253) {
        pause_ms(15); /* stuck, for a while */
    }
    return (int)act;
}

static int probe(void *self, const fila_services *s)
{
    (void)self;
    (void)s;
    return 1;
}

static void on_probe(void *user, bool healthy)
{
    (void)healthy;
    (void)atomic_fetch_add((atomic_int *)user, 1);
}

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&test.woken);
}

static void message_gone(void *owner)
{
    free(owner);
    (void)atomic_fetch_sub(&test.messages, 1);
}

static fila_message *new_message(unsigned char act)
{
    char *body = malloc(1);
    if (!body) {
        abort();
    }
    *body = (char)(act == LATE ? 0 : act);
    struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("orders"),
        .payload = {body, 1},
    };
    fila_message *message = fila_message_make(&fields, message_gone, body);
    if (!message) {
        abort();
    }
    (void)atomic_fetch_add(&test.messages, 1);
    return message;
}

static struct fw_job *new_job(unsigned *random)
{
    struct fw_job *job = calloc(1, sizeof *job);
    if (!job) {
        abort();
    }
    job->message = new_message((unsigned char)next_random(random));
    job->deadline = fila_now() + (int64_t)(2 + next_random(random) % 6) * FILA_MS;
    job->attempt = 1;
    job->verdict.kind = (enum fw_verdict_kind) - 1;
    return job;
}

static void end_job(struct fw_job *job)
{
    if ((int)job->verdict.kind < FW_ACK || job->verdict.kind > FW_UNAVAILABLE) {
        (void)atomic_fetch_add(&test.wrong, 1);
    }
    (void)atomic_fetch_add(&test.timeouts, job->verdict.cause == FW_CAUSE_TIMEOUT);
    (void)atomic_fetch_add(&test.refused, job->verdict.started == 0);
    (void)atomic_fetch_add(&test.returned, 1);
    check_outbox(job);
    fw_outgoing_free(job->outbox);
    fw_job_free_message(job);
    free(job->reason);
    free(job);
}

static int collect(bool block)
{
    int count = 0;
    struct fw_job *job = fw_done_take(&test.done);
    if (!job && block && fw_done_sleep_begin(&test.done)) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 20;
        if (sem_timedwait(&test.woken, &until)) {
            (void)fprintf(stderr, "no result for 20 s\n");
            exit(1);
        }
        fw_done_sleep_end(&test.done);
    }
    for (struct fw_job *next = NULL; job; job = next) {
        next = job->next;
        end_job(job);
        count++;
    }
    return count;
}

static struct fw_job *submit_batch(unsigned *random, int count)
{
    struct fw_job *chain = NULL;
    for (int i = 0; i < count; i++) {
        struct fw_job *job = new_job(random);
        job->next = chain;
        chain = job;
    }
    fw_executor_submit(test.executor, chain);
    return chain;
}

static void run(int total, atomic_int *probes)
{
    unsigned random = 7;
    int submitted = 0;
    int held = 0;
    while (submitted < total || held) {
        int batch = IN_FLIGHT - held;
        batch = batch < total - submitted ? batch : total - submitted;
        if (batch > 0) {
            struct fw_job *one = submit_batch(&random, batch);
            if (next_random(&random) % 4 == 0) {
                fw_executor_cancel(test.executor, one); /* ours until it was taken from `done` */
            }
            if (next_random(&random) % 64 == 0) {
                (void)fw_executor_probe(test.executor, on_probe, probes);
            }
            submitted += batch;
            held += batch;
        }
        held -= collect(true);
    }
}

/* ThreadSanitizer and the last handlers that overstay: a run is over when nothing is lost. */
static void await_let_go(void)
{
    for (int i = 0; i < 1000 && fw_executor_stuck(test.executor); i++) {
        pause_ms(10);
    }
}

int main(int argc, char **argv)
{
    int total = argc > 1 ? atoi(argv[1]) : 20000; // NOLINT(cert-err34-c)
    struct fw_plugin plugin = {
        .table = {FILA_PLUGIN_HEAD, .name = "stress", .handle = handle, .probe = probe},
        .path = "",
    };
    atomic_int probes = 0;
    pthread_t threads[COMPLETERS];
    unsigned seeds[COMPLETERS];
    fila_error error = FILA_ERROR_INIT;

    fw_log_init(FW_LOG_OFF, FW_LOG_TEXT);
    (void)sem_init(&test.woken, 0, 0);
    test.done.wake = wake;
    struct fw_executor_options options = {
        .queue = "orders",
        .plugin = &plugin,
        .concurrency = 4,
        .done = &test.done,
        .stuck_after = 2 * FILA_MS,
    };
    if (fw_executor_start(&options, &test.executor, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (unsigned i = 0; i < COMPLETERS; i++) {
        seeds[i] = i;
        (void)pthread_create(&threads[i], NULL, completer, &seeds[i]);
    }
    run(total, &probes);
    (void)pthread_mutex_lock(&test.parked.mutex);
    test.parked.stop = true;
    (void)pthread_cond_broadcast(&test.parked.some);
    (void)pthread_mutex_unlock(&test.parked.mutex);
    for (int i = 0; i < COMPLETERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    await_let_go();
    bool stopped = fw_executor_stop(test.executor, fila_now() + 20 * FILA_S);
    (void)collect(false);
    (void)printf(
        "%d jobs: %d timeouts, %d never started, %d late completes, %d probes, %d messages left, "
        "%d published, %d wrong, stop %d\n",
        test.returned, test.timeouts, test.refused, test.late_completes, probes, test.messages,
        test.published, test.wrong, stopped);
    return !(
        test.returned == total && !test.messages && !test.wrong && stopped && test.timeouts &&
        test.late_completes && test.published);
}
