/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Isolation "process" from the I/O thread's side: what a handler in a child sees of a message and
 * what comes back of it, cancelling, deferring, probing, recycling, and stopping at any moment.
 *
 *     test_children PLUGIN.so
 */
#include "base/clock.h"
#include "config/config.h"
#include "executor/executor.h"
#include "executor/outbox.h"
#include "executor/process/handler.h"
#include "executor/process/process.h"
#include "log/log.h"
#include "plugin/counters.h"
#include "wire/message.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition) \
    ((condition)         \
         ? (void)0       \
         : ((void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), exit(1)))

enum {
    MANY = 200
};

static struct {
    const char *plugin;
    struct fw_executor *executor;
    struct fw_done_list done;
    sem_t woken;
    sem_t probed;
    bool healthy;
    uint64_t ends[FW_CHILD_END_COUNT];
    void (*while_sending)(void); /* called by whoever gives a message back that it cannot send */
} test;

static void wake(void *user)
{
    (void)user;
    if (test.while_sending) {
        void (*act)(void) = test.while_sending;
        test.while_sending = NULL;
        act();
    }
    (void)sem_post(&test.woken);
}

static void on_ends(void *user, const uint64_t ends[])
{
    (void)user;
    memcpy(test.ends, ends, sizeof test.ends);
}

struct setup {
    uint32_t concurrency;
    uint32_t recycle_messages;
    const char *answer; /* of the probe */
    int64_t probe_timeout;
    int64_t grace;
    int64_t first_backoff;
};

static void start(const struct setup *setup)
{
    const struct fw_handler_option answer = {
        .name = "answer", .values = &setup->answer, .count = 1, .file = ""};
    const struct fw_process_options process = {
        .handler = test.plugin,
        .options = &answer,
        .option_count = setup->answer ? 1 : 0,
        .recycle_messages = setup->recycle_messages,
        .grace = setup->grace ? setup->grace : 60 * FILA_S,
        .first_backoff = setup->first_backoff,
        .ends = on_ends,
    };
    const struct fw_executor_options options = {
        .queue = "orders",
        .process = &process,
        .concurrency = setup->concurrency,
        .done = &test.done,
        .probe_timeout = setup->probe_timeout,
    };
    fila_error error = FILA_ERROR_INIT;
    if (fw_executor_start(&options, &test.executor, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

static void stop(void)
{
    CHECK(fw_executor_stop(test.executor, fila_now() + 30 * FILA_S));
    CHECK(test.ends[FW_CHILD_END_CRASH] == 0 && test.ends[FW_CHILD_END_RUBBISH] == 0);
}

static struct fw_job *submit_view(fila_view payload, char *owned, int64_t timeout_ms)
{
    static const fila_header HEADERS[] = {{{"kind", 4}, {"test", 4}}, {{"empty", 5}, {"", 0}}};
    struct fw_job *job = calloc(1, sizeof *job);
    CHECK(job);
    const struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("orders"),
        .fairness_key = fila_view_of("fair"),
        .payload = payload,
        .headers = HEADERS,
        .header_count = 2,
    };
    job->message = fila_message_make(&fields, owned ? free : NULL, owned);
    job->attempt = 3;
    job->deadline = fila_now() + timeout_ms * FILA_MS;
    CHECK(job->message);
    fw_executor_submit(test.executor, job);
    return job;
}

static struct fw_job *submit(const char *payload, size_t len, int64_t timeout_ms)
{
    char *copy = calloc(1, len);
    CHECK(copy);
    memcpy(copy, payload, strlen(payload));
    return submit_view((fila_view){copy, len}, copy, timeout_ms);
}

static struct fw_job *await(void)
{
    static struct fw_job *taken;
    while (!taken && !(taken = fw_done_take(&test.done))) {
        if (fw_done_sleep_begin(&test.done)) {
            while (sem_wait(&test.woken) && errno == EINTR) {
            }
        }
        fw_done_sleep_end(&test.done);
    }
    struct fw_job *job = taken;
    taken = job->next;
    return job;
}

static void forget(struct fw_job *job)
{
    fw_job_free_message(job);
    fw_outgoing_free(job->outbox);
    free(job->reason);
    free(job);
}

static struct fw_job *run(const char *payload)
{
    struct fw_job *job = submit(payload, strlen(payload), 60000);
    CHECK(await() == job);
    return job;
}

static bool reason_is(const struct fw_job *job, const char *text)
{
    if (job->reason && !strcmp(job->reason, text)) {
        return true;
    }
    (void)fprintf(stderr, "the reason is \"%s\"\n", job->reason ? job->reason : "");
    return false;
}

/* ---- What goes there and back ---- */

static void test_messages(void)
{
    static const size_t SIZES[] = {4, 1000, 65000, 65536, 65537, 300000, 4000000};
    start(&(struct setup){.concurrency = 1});
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        char text[256];
        struct fw_job *job = submit("tell", SIZES[i], 60000);
        CHECK(await() == job);
        (void)snprintf(
            text, sizeof text,
            "orders 019a0000-0000-7000-8000-000000000001 fair attempt 3 of %zu bytes, in time "
            "kind=test empty=",
            SIZES[i]);
        CHECK(reason_is(job, text));
        CHECK(job->verdict.kind == FW_REJECT && job->verdict.cause == FW_CAUSE_REJECT);
        CHECK(job->verdict.started > 0 && job->verdict.ended >= job->verdict.started);
        forget(job);
    }
    struct fw_job *job = run("later");
    CHECK(job->verdict.kind == FW_RETRY && job->verdict.cause == FW_CAUSE_TIMEOUT);
    CHECK(job->verdict.delay == 1500 * FILA_MS);
    forget(job);
    job = run("early");
    CHECK(job->verdict.kind == FW_REJECT && reason_is(job, "early"));
    forget(job);
    stop();
    CHECK(test.ends[FW_CHILD_END_STOP] == 1);
}

static void test_many(void)
{
    int acks = 0;
    start(&(struct setup){.concurrency = 3});
    for (int i = 0; i < MANY; i++) {
        (void)submit("defer", 5, 60000);
    }
    for (int i = 0; i < MANY; i++) {
        struct fw_job *job = await();
        acks += job->verdict.kind == FW_ACK;
        forget(job);
    }
    CHECK(acks == MANY);
    stop();
    CHECK(test.ends[FW_CHILD_END_STOP] == 3);
}

static void on_probe(void *user, bool healthy)
{
    (void)user;
    test.healthy = healthy;
    (void)sem_post(&test.probed);
}

/* What no child can take goes back, whichever thread was to send it; its child stays, for others.
 */
static void test_too_large(void)
{
    static char large[FW_AREA_ROOM + 1];
    int acks = 0;
    int returned = 0;
    start(&(struct setup){.concurrency = 2});
    for (int i = 0; i < MANY; i++) {
        (void)submit_view((fila_view){large, sizeof large}, NULL, 60000);
        (void)submit("defer", 5, 60000);
    }
    for (int i = 0; i < 2 * MANY; i++) {
        struct fw_job *job = await();
        acks += job->verdict.kind == FW_ACK;
        if (job->verdict.kind != FW_ACK) {
            CHECK(job->verdict.kind == FW_RETRY && job->verdict.cause == FW_CAUSE_RETRY);
            CHECK(reason_is(
                job,
                "the message is too large to be handed to a child, or there was no memory for it"));
            returned++;
        }
        forget(job);
    }
    CHECK(acks == MANY && returned == MANY);
    (void)submit_view((fila_view){large, sizeof large}, NULL, 60000);
    int64_t began = fila_now(); /* nothing runs: nothing is to be waited for */
    stop();
    CHECK(fila_now() - began < 20 * FILA_S);
    CHECK(test.ends[FW_CHILD_END_STOP] == 2);
    forget(await());
}

/* The manager looks for an idle child; the one that is being sent to must not be it. */
static void ask_for_a_child(void)
{
    struct timespec until;
    CHECK(fw_executor_probe(test.executor, on_probe, NULL));
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    CHECK(sem_timedwait(&test.probed, &until) != 0);
}

/* A child is no one else's before its sender is done with it. */
static void test_given_away_late(void)
{
    static char large[FW_AREA_ROOM + 1];
    start(&(struct setup){.concurrency = 1, .answer = "1"});
    CHECK(fw_done_sleep_begin(&test.done)); /* so that a result calls `wake` */
    test.while_sending = ask_for_a_child;
    (void)submit_view((fila_view){large, sizeof large}, NULL, 60000);
    CHECK(!test.while_sending);
    fw_done_sleep_end(&test.done);
    while (sem_wait(&test.probed) && errno == EINTR) {
    }
    CHECK(test.healthy);
    forget(await());
    stop();
}

/* ---- Counting and publishing ---- */

static void add_steps(void *user, const char *name, uint64_t value)
{
    *(uint64_t *)user += strcmp(name, "steps") ? 0 : value;
}

static uint64_t steps(void)
{
    uint64_t sum = 0;
    fw_counters_each(fw_executor_counters(test.executor), add_steps, &sum);
    return sum;
}

/* What a message counts arrives with its verdict, in whole; of one that crashes, nothing. */
static void test_counters(void)
{
    int finished = 0;
    start(&(struct setup){.concurrency = 2});
    for (int i = 0; i < MANY / 2; i++) {
        (void)submit(
            i % 10 == 3   ? "count 100 crash"
            : i % 10 == 5 ? "count 100 reject"
                          : "count 100 ack",
            17, 60000);
    }
    for (int i = 0; i < MANY / 2; i++) {
        struct fw_job *job = await();
        CHECK(job->verdict.cause != FW_CAUSE_TIMEOUT);
        finished += job->verdict.cause != FW_CAUSE_CRASH;
        forget(job);
    }
    CHECK(finished == MANY / 2 * 9 / 10);
    CHECK(steps() == (uint64_t)finished * 100);
    CHECK(fw_executor_stop(test.executor, fila_now() + 30 * FILA_S));
    CHECK(test.ends[FW_CHILD_END_CRASH] == MANY / 2 / 10);
}

static void check_copies(const struct fw_job *job, const size_t *sizes, size_t count)
{
    size_t at = 0;
    for (const struct fw_outgoing *o = job->outbox; o; o = o->next, at++) {
        CHECK(at < count && o->payload.len == sizes[at]);
        CHECK(o->queue.len == 6 && !memcmp(o->queue.data, "copies", 6));
        for (size_t i = 0; i < o->payload.len; i++) {
            CHECK((uint8_t)o->payload.data[i] == (uint8_t)(at + i));
        }
    }
    CHECK(at == count);
}

/* All that was published, in order and whole, or nothing. */
static void test_publishing(void)
{
    static const size_t SIZES[] = {0, 5, 32768, 65000, 200000, 4000000, 1};
    start(&(struct setup){.concurrency = 1});
    for (int i = 0; i < 3; i++) {
        struct fw_job *job = run("publish ack 0 5 32768 65000 200000 4000000 1");
        CHECK(job->verdict.kind == FW_ACK);
        check_copies(job, SIZES, sizeof SIZES / sizeof *SIZES);
        forget(job);
        job = run("publish reject 5 200000");
        CHECK(job->verdict.kind == FW_REJECT && !job->outbox);
        forget(job);
        job = run("publish crash 5 200000");
        CHECK(job->verdict.cause == FW_CAUSE_CRASH && !job->outbox);
        forget(job);
    }
    CHECK(fw_executor_stop(test.executor, fila_now() + 30 * FILA_S));
    CHECK(test.ends[FW_CHILD_END_CRASH] == 3 && test.ends[FW_CHILD_END_RUBBISH] == 0);
}

/* ---- Cancelling ---- */

static void test_cancel(void)
{
    start(&(struct setup){.concurrency = 1});
    struct fw_job *running = submit("cancel", 6, 60000);
    struct fw_job *waiting = submit("tell", 4, 60000);
    fw_executor_cancel(test.executor, waiting);
    CHECK(await() == waiting);
    CHECK(waiting->verdict.started == 0 && reason_is(waiting, "cancelled before it was started"));
    fw_executor_cancel(test.executor, running);
    CHECK(await() == running);
    CHECK(running->verdict.kind == FW_RETRY && reason_is(running, "cancelled in time"));
    forget(running);
    forget(waiting);
    struct fw_job *late = submit("cancel", 6, 50); /* its deadline is a cancel, too */
    CHECK(await() == late);
    CHECK(late->verdict.cause == FW_CAUSE_TIMEOUT && reason_is(late, "cancelled late"));
    forget(late);
    struct fw_job *next = run("early"); /* which is none of its successor's business */
    CHECK(reason_is(next, "early"));
    forget(next);
    stop();
    CHECK(test.ends[FW_CHILD_END_STOP] == 1);
}

static void test_no_child_in_time(void)
{
    start(&(struct setup){.concurrency = 1});
    struct fw_job *running = submit("cancel", 6, 60000);
    struct fw_job *late = submit("tell", 4, 50);
    CHECK(await() == late);
    CHECK(late->verdict.started == 0 && reason_is(late, "no child was free in time"));
    fw_executor_cancel(test.executor, running);
    CHECK(await() == running);
    forget(running);
    forget(late);
    stop();
}

/* ---- Probing ---- */

static bool probe(void)
{
    CHECK(fw_executor_has_probe(test.executor));
    CHECK(fw_executor_probe(test.executor, on_probe, NULL));
    while (sem_wait(&test.probed) && errno == EINTR) {
    }
    return test.healthy;
}

static void test_probe(void)
{
    start(&(struct setup){.concurrency = 1, .answer = "1"});
    CHECK(probe());
    forget(run("early"));
    stop();
    start(&(struct setup){.concurrency = 1, .answer = "0"});
    CHECK(!probe());
    stop();
    CHECK(test.ends[FW_CHILD_END_STOP] == 1);
}

/* ---- Recycling, stopping ---- */

static void test_recycle(void)
{
    char pids[4][32];
    start(&(struct setup){.concurrency = 1, .recycle_messages = 2});
    for (int i = 0; i < 4; i++) {
        struct fw_job *job = run("pid");
        (void)snprintf(pids[i], sizeof pids[i], "%s", job->reason);
        forget(job);
    }
    CHECK(!strcmp(pids[0], pids[1]) && !strcmp(pids[2], pids[3]) && strcmp(pids[0], pids[2]) != 0);
    stop();
    CHECK(test.ends[FW_CHILD_END_RECYCLE] == 2);
}

static void test_stop(void)
{
    start(&(struct setup){.concurrency = 2});
    struct fw_job *hangs = submit("cancel", 6, 60000);
    struct fw_job *hangs_too = submit("cancel", 6, 60000);
    struct fw_job *waits = submit("tell", 4, 60000);
    CHECK(fw_executor_stop(test.executor, fila_now() + 300 * FILA_MS));
    for (int i = 0; i < 3; i++) {
        struct fw_job *job = await();
        CHECK(job == hangs || job == hangs_too || job == waits);
        CHECK(job == waits ? job->verdict.started == 0 : job->verdict.cause == FW_CAUSE_TIMEOUT);
        forget(job);
    }
    CHECK(test.ends[FW_CHILD_END_TIMEOUT] == 2);
}

/* ---- Replacing ---- */

static void crash(void)
{
    struct fw_job *job = run("crash");
    CHECK(job->verdict.kind == FW_RETRY && job->verdict.cause == FW_CAUSE_CRASH);
    forget(job);
}

static void test_backoff(void)
{
    static const int64_t MS[] = {100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000};
    for (uint32_t i = 0; i < sizeof MS / sizeof *MS; i++) {
        CHECK(fw_life_backoff(100 * FILA_MS, i) == MS[i] * FILA_MS);
    }
    CHECK(fw_life_backoff(100 * FILA_MS, UINT32_MAX) == 30 * FILA_S);
}

/* Waiting is for those that have done nothing: a backoff that nothing here would outwait. */
static void test_replaced_at_once(void)
{
    start(&(struct setup){.concurrency = 1, .first_backoff = 30 * FILA_S});
    for (int i = 0; i < 3; i++) {
        forget(run("pid"));
        crash();
        struct fw_job *next = submit("pid", 3, 20000);
        CHECK(await() == next && next->verdict.kind == FW_REJECT);
        forget(next);
    }
    crash(); /* the last had handled one */
    crash();
    struct fw_job *late = submit("pid", 3, 300);
    CHECK(await() == late && reason_is(late, "no child was free in time"));
    forget(late);
    CHECK(fw_executor_stop(test.executor, fila_now() + 30 * FILA_S));
    CHECK(test.ends[FW_CHILD_END_CRASH] == 5);
}

/* One that is late has a successor before it has ended; if it does return, it goes. */
static void test_replaced_while_late(void)
{
    char payload[64] = "wait /tmp/fila-children-XXXXXX";
    int file = mkstemp(payload + 5);
    CHECK(file >= 0);
    (void)close(file);
    start(&(struct setup){.concurrency = 1, .grace = 10 * FILA_S}); /* SIGTERM after 5 s */
    forget(run("pid"));
    struct fw_job *hangs = submit(payload, strlen(payload), 50);
    struct fw_job *next = submit("pid", 3, 60000);
    CHECK(await() == next && next->verdict.kind == FW_REJECT);
    CHECK(!unlink(payload + 5));
    CHECK(await() == hangs && hangs->reason && strcmp(hangs->reason, next->reason) != 0);
    forget(hangs);
    struct fw_job *after = run("pid");
    CHECK(reason_is(after, next->reason));
    forget(after);
    forget(next);
    stop();
    CHECK(test.ends[FW_CHILD_END_STOP] == 2 && test.ends[FW_CHILD_END_TIMEOUT] == 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "__handler")) {
        return fw_handler_main(argc - 1, argv + 1);
    }
    CHECK(argc == 2);
    test.plugin = argv[1];
    test.done.wake = wake;
    (void)sem_init(&test.woken, 0, 0);
    (void)sem_init(&test.probed, 0, 0);
    fw_log_init(FW_LOG_OFF, FW_LOG_TEXT);
    test_messages();
    test_many();
    test_too_large();
    test_given_away_late();
    test_counters();
    test_publishing();
    test_cancel();
    test_no_child_in_time();
    test_probe();
    test_recycle();
    test_stop();
    test_backoff();
    test_replaced_at_once();
    test_replaced_while_late();
    (void)printf("all is well\n");
    return 0;
}
