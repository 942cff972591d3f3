/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "executor/fake.h"
#include "executor/testlog.h"

#include <criterion/criterion.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

TestSuite(pool, .timeout = 60);

static int64_t in_ms(int64_t ms)
{
    return fila_now() + ms * FILA_MS;
}

/* Handlers that were given up and told to go on have come back. */
static void await_let_go(void)
{
    while (fw_executor_stuck(fake.executor)) {
        (void)poll(NULL, 0, 1);
    }
}

static void stop_clean(void)
{
    cr_assert(fw_executor_stop(fake.executor, in_ms(20000)));
    cr_assert_eq(fake.inits, fake.closes, "%d inits, %d closes", fake.inits, fake.closes);
}

/* ---- Verdicts ---- */

struct row {
    const char *name;
    int verdict;
    const char *reason;
    enum fw_verdict_kind kind;
    enum fw_cause cause;
    const char *kept;
    int warnings;
};

Test(pool, maps_every_verdict)
{
    static const struct row ROWS[] = {
        {"ack", FILA_ACK, NULL, FW_ACK, FW_CAUSE_NONE, NULL, 0},
        {"ack drops its reason", FILA_ACK, "fine", FW_ACK, FW_CAUSE_NONE, NULL, 0},
        {"retry", FILA_RETRY, "try later", FW_RETRY, FW_CAUSE_RETRY, "try later", 0},
        {"reject", FILA_REJECT, "never", FW_REJECT, FW_CAUSE_REJECT, "never", 0},
        {"unavailable", FILA_UNAVAILABLE, "down", FW_UNAVAILABLE, FW_CAUSE_UNAVAILABLE, "down", 0},
        {"empty reason", FILA_RETRY, "", FW_RETRY, FW_CAUSE_RETRY, NULL, 0},
        {"any bytes", FILA_RETRY, "\xc3\xa9 \xff\xe2\x82 \xe2\x82\xac \xf0\x9f", FW_RETRY,
         FW_CAUSE_RETRY, "\xc3\xa9 ?\?\? \xe2\x82\xac ?\?", 0},
        {"5", 5, "odd", FW_RETRY, FW_CAUSE_RETRY, "odd", 1},
        {"-1", -1, NULL, FW_RETRY, FW_CAUSE_RETRY, NULL, 1},
        {"int max", INT32_MAX, NULL, FW_RETRY, FW_CAUSE_RETRY, NULL, 1},
    };
    fake_start(&(struct fake_options){.concurrency = 1});
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        const struct row *row = &ROWS[i];
        struct step step = {.verdict = row->verdict, .reason = row->reason};
        int before = testlog_count(FW_EVENT_HANDLER_VERDICT);

        fake_submit(&step, in_ms(20000));
        struct fw_job *job = fake_result();
        cr_assert_eq(job, &step.job, "%s", row->name);
        cr_expect_eq(job->verdict.kind, row->kind, "%s", row->name);
        cr_expect_eq(job->verdict.cause, row->cause, "%s", row->name);
        cr_expect_eq(!job->reason, !row->kept, "%s", row->name);
        if (job->reason && row->kept) {
            cr_expect_str_eq(job->reason, row->kept, "%s", row->name);
        }
        cr_expect_eq(
            testlog_count(FW_EVENT_HANDLER_VERDICT) - before, row->warnings, "%s", row->name);
        cr_expect_gt(job->verdict.started, 0);
        cr_expect_geq(job->verdict.ended, job->verdict.started);
        cr_expect_null(job->hold);
        fake_free(job);
    }
    stop_clean();
}

static int act_causes(struct step *step, void *self, const fila_delivery *d, const fila_services *s)
{
    (void)self;
    s->cause(d, (uint32_t)step->number);
    s->retry_after(d, 1500);
    return step->verdict;
}

Test(pool, keeps_cause_and_delay)
{
    static const struct {
        int verdict;
        uint32_t cause;
        enum fw_cause kept;
        int64_t delay;
    } ROWS[] = {
        {FILA_RETRY, FILA_CAUSE_CRASH, FW_CAUSE_CRASH, 1500 * FILA_MS},
        {FILA_RETRY, FILA_CAUSE_TIMEOUT, FW_CAUSE_TIMEOUT, 1500 * FILA_MS},
        {FILA_RETRY, 77, FW_CAUSE_RETRY, 1500 * FILA_MS},
        {FILA_ACK, FILA_CAUSE_CRASH, FW_CAUSE_NONE, 0},
        {FILA_REJECT, FILA_CAUSE_CRASH, FW_CAUSE_REJECT, 0},
        {FILA_UNAVAILABLE, FILA_CAUSE_TIMEOUT, FW_CAUSE_UNAVAILABLE, 1500 * FILA_MS},
    };

    fake_start(&(struct fake_options){.concurrency = 1});
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct step step = {.act = act_causes, .verdict = ROWS[i].verdict, .number = ROWS[i].cause};
        fake_submit(&step, in_ms(20000));
        struct fw_job *job = fake_result();
        cr_expect_eq(job->verdict.cause, ROWS[i].kept, "row %zu", i);
        cr_expect_eq(job->verdict.delay, ROWS[i].delay, "row %zu", i);
        fake_free(job);
    }
    /* Of one message nothing is left for the next. */
    struct step plain = {.verdict = FILA_RETRY};
    fake_submit(&plain, in_ms(20000));
    struct fw_job *job = fake_result();
    cr_expect_eq(job->verdict.cause, FW_CAUSE_RETRY);
    cr_expect_eq(job->verdict.delay, 0);
    cr_expect_null(job->reason);
    fake_free(job);
    stop_clean();
}

static int act_long_reason(
    struct step *step,
    void *self,
    const fila_delivery *d,
    const fila_services *s)
{
    (void)self;
    char text[2 * FW_REASON_SIZE];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    s->reason(s, d, "first");
    s->reason(s, d, text);
    return step->verdict;
}

Test(pool, bounds_the_reason_and_keeps_the_last)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    struct step step = {.act = act_long_reason, .verdict = FILA_RETRY};
    fake_submit(&step, in_ms(20000));
    struct fw_job *job = fake_result();
    cr_assert_eq(strlen(job->reason), FW_REASON_SIZE - 1);
    cr_assert_eq(job->reason[0], 'x');
    fake_free(job);
    stop_clean();
}

static int act_look(struct step *step, void *self, const fila_delivery *d, const fila_services *s)
{
    size_t cursor = 0;
    const char *key;
    const char *value;
    size_t key_len;
    size_t value_len;
    (void)self;
    while (s->next_header(d, &cursor, &key, &key_len, &value, &value_len)) {
        step->number += key_len == 3 && !memcmp(key, "key", 3) && value_len == 5;
    }
    bool right = d->size == sizeof *d && d->attempt == 1 && d->queue_len == 6 &&
                 !memcmp(d->queue, "orders", 6) && d->id_len == 36 &&
                 d->payload_len == sizeof step && d->fairness_key_len == 4 && d->enqueued_ms > 0 &&
                 s->size == sizeof *s;
    int64_t left = s->deadline_ms(d);
    right = right && left > 5000 && left <= 20000 && !s->cancelled(d);
    return right ? FILA_ACK : FILA_RETRY;
}

Test(pool, shows_the_handler_its_message)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    struct step step = {.act = act_look};
    fake_submit(&step, in_ms(20000));
    struct fw_job *job = fake_result();
    cr_assert_eq(job->verdict.kind, FW_ACK);
    cr_assert_eq(step.number, 2);
    fake_free(job);
    stop_clean();
}

/* ---- Threads and instances ---- */

Test(pool, one_instance_per_thread)
{
    struct step steps[3] = {{.act = act_block}, {.act = act_block}, {.act = act_block}};
    fake_start(&(struct fake_options){.concurrency = 3});
    cr_assert_eq(fake.inits, 3);
    for (int i = 0; i < 3; i++) {
        fake_job(&steps[i], in_ms(20000));
        steps[i].job.next = i ? &steps[i - 1].job : NULL;
    }
    fw_executor_submit(fake.executor, &steps[2].job);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(sem_wait(&steps[i].entered), 0); /* one chain, one signal: all three run */
    }
    cr_assert_neq(steps[0].self, steps[1].self);
    cr_assert_neq(steps[1].self, steps[2].self);
    for (int i = 0; i < 3; i++) {
        (void)sem_post(&steps[i].go);
        fake_free(fake_result());
    }
    stop_clean();
    cr_assert_eq(fake.closes, 3);
}

Test(pool, one_instance_in_all_when_thread_safe)
{
    struct step steps[2] = {{.act = act_block}, {.act = act_block}};
    fake_start(&(struct fake_options){.concurrency = 2, .flags = FILA_PLUGIN_THREAD_SAFE});
    cr_assert_eq(fake.inits, 1);
    for (int i = 0; i < 2; i++) {
        fake_submit(&steps[i], in_ms(20000));
        cr_assert_eq(sem_wait(&steps[i].entered), 0);
    }
    cr_assert_eq(steps[0].self, steps[1].self);
    for (int i = 0; i < 2; i++) {
        (void)sem_post(&steps[i].go);
        fake_free(fake_result());
    }
    stop_clean();
    cr_assert_eq(fake.closes, 1);
}

Test(pool, init_failures_refuse_the_start)
{
    static const struct fake_options ROWS[] = {
        {.concurrency = 4, .fail_init_from = 1},
        {.concurrency = 4, .fail_init_from = 3},
        {.concurrency = 4, .fail_init_from = 1, .flags = FILA_PLUGIN_THREAD_SAFE},
    };
    for (size_t i = 0; i < 3; i++) {
        fila_error error = FILA_ERROR_INIT;
        atomic_store(&fake.inits, 0);
        atomic_store(&fake.closes, 0);
        cr_assert_eq(fake_try_start(&ROWS[i], &error), FILA_INVALID_ARGUMENT);
        cr_assert_str_eq(error.text, "handler fake: the fake has had enough");
        if (ROWS[i].fail_init_from == 1) {
            cr_assert_eq(fake.inits, 1, "it fails once, not once per thread");
        }
        cr_assert_eq(fake.closes, ROWS[i].fail_init_from - 1, "only what was opened is closed");
    }
}

static int act_signals(
    struct step *step,
    void *self,
    const fila_delivery *d,
    const fila_services *s)
{
    sigset_t blocked;
    (void)self;
    (void)d;
    (void)s;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    step->number = sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGHUP) &&
                   sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGCHLD);
    return FILA_ACK;
}

Test(pool, threads_take_no_signals)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    struct step step = {.act = act_signals};
    fake_submit(&step, in_ms(20000));
    fake_free(fake_result());
    cr_assert_eq(step.number, 1);
    stop_clean();
}

/* ---- Cancel and deadline ---- */

static int act_poll(struct step *step, void *self, const fila_delivery *d, const fila_services *s)
{
    struct pollfd fd = {.events = POLLIN};
    (void)self;
    fd.fd = s->cancel_fd(d);
    (void)sem_post(&step->entered);
    while (!s->cancelled(d)) {
        if (poll(&fd, 1, 15000) == 0) {
            return FILA_ACK; /* never told */
        }
        step->number++;
        if (!s->cancelled(d)) {
            fd.fd = s->cancel_fd(d);
        }
    }
    return FILA_RETRY;
}

Test(pool, cancel_wakes_a_polling_handler)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    for (int i = 0; i < 3; i++) {
        struct step step = {.act = act_poll};
        fake_submit(&step, in_ms(20000));
        cr_assert_eq(sem_wait(&step.entered), 0);
        fw_executor_cancel(fake.executor, &step.job);
        struct fw_job *job = fake_result();
        cr_assert_eq(job->verdict.kind, FW_RETRY);
        cr_assert_eq(job->verdict.cause, FW_CAUSE_RETRY, "it was no timeout");
        cr_assert_leq(step.number, 2);
        fake_free(job);
    }
    stop_clean();
}

Test(pool, the_deadline_wakes_a_polling_handler)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    struct step step = {.act = act_poll};
    fake_submit(&step, in_ms(50));
    struct fw_job *job = fake_result();
    cr_assert_eq(job->verdict.kind, FW_RETRY);
    cr_assert_eq(job->verdict.cause, FW_CAUSE_TIMEOUT);
    cr_assert_not_null(strstr(job->reason, "no verdict by its deadline of "));
    cr_assert_eq(testlog_count(FW_EVENT_HANDLER_STUCK), 0);
    fake_free(job);
    stop_clean();
}

static int act_outstay(
    struct step *step,
    void *self,
    const fila_delivery *d,
    const fila_services *s)
{
    struct pollfd none = {.fd = -1};
    (void)self;
    while (s->deadline_ms(d) >= 0) {
        (void)poll(&none, 1, 1);
    }
    return step->verdict;
}

Test(pool, verdicts_after_the_deadline)
{
    static const struct {
        int verdict;
        enum fw_verdict_kind kind;
        enum fw_cause cause;
    } ROWS[] = {
        {FILA_ACK, FW_ACK, FW_CAUSE_NONE},
        {FILA_RETRY, FW_RETRY, FW_CAUSE_TIMEOUT},
        {FILA_REJECT, FW_REJECT, FW_CAUSE_REJECT},
        {FILA_UNAVAILABLE, FW_UNAVAILABLE, FW_CAUSE_UNAVAILABLE},
        {99, FW_RETRY, FW_CAUSE_TIMEOUT},
    };

    fake_start(&(struct fake_options){.concurrency = 1});
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct step step = {.act = act_outstay, .verdict = ROWS[i].verdict};
        fake_submit(&step, in_ms(30));
        struct fw_job *job = fake_result();
        cr_expect_eq(job->verdict.kind, ROWS[i].kind, "row %zu", i);
        cr_expect_eq(job->verdict.cause, ROWS[i].cause, "row %zu", i);
        cr_expect_eq(
            testlog_count(FW_EVENT_HANDLER_TIMEOUT), 1,
            "of the success, which the host does not log");
        fake_free(job);
    }
    stop_clean();
}

Test(pool, what_never_started_is_no_try)
{
    struct step busy = {.act = act_block};
    struct step cancelled = {0};
    struct step late = {0};
    fake_start(&(struct fake_options){.concurrency = 1});
    fake_submit(&busy, in_ms(20000));
    cr_assert_eq(sem_wait(&busy.entered), 0);
    fake_submit(&cancelled, in_ms(20000));
    fw_executor_cancel(fake.executor, &cancelled.job);
    fake_submit(&late, in_ms(30));

    struct fw_job *job = fake_result(); /* although the only thread is busy */
    cr_assert_eq(job, &late.job);
    cr_assert_eq(job->verdict.kind, FW_RETRY);
    cr_assert_eq(job->verdict.cause, FW_CAUSE_NONE);
    cr_assert_eq(job->verdict.started, 0);
    cr_assert_str_eq(job->reason, "no thread was free in time");
    fake_free(job);

    (void)sem_post(&busy.go);
    fake_free(fake_result());
    job = fake_result();
    cr_assert_eq(job, &cancelled.job);
    cr_assert_eq(job->verdict.started, 0);
    cr_assert_eq(job->verdict.cause, FW_CAUSE_NONE);
    fake_free(job);
    stop_clean();
}

/* ---- Stuck ---- */

Test(pool, a_stuck_handler_loses_its_message_not_its_queue)
{
    struct step stuck = {.act = act_block};
    struct step next = {0};
    fake_start(&(struct fake_options){.concurrency = 1, .stuck_after = 30 * FILA_MS});
    fake_submit(&stuck, in_ms(30));
    cr_assert_eq(sem_wait(&stuck.entered), 0);

    struct fw_job *job = fake_result();
    cr_assert_eq(job, &stuck.job);
    cr_assert_eq(job->verdict.kind, FW_RETRY);
    cr_assert_eq(job->verdict.cause, FW_CAUSE_TIMEOUT);
    cr_assert_eq(testlog_count(FW_EVENT_HANDLER_STUCK), 1);
    cr_assert_eq(fw_executor_stuck(fake.executor), 1);
    fake_free(job); /* the handler still reads the message: ASan sees it if that is freed */

    fake_submit(&next, in_ms(20000));
    job = fake_result(); /* by the thread that took its place */
    cr_assert_eq(job, &next.job);
    cr_assert_eq(fake.inits, 2);
    fake_free(job);

    cr_assert_eq(stuck.delivery->id_len, 36);
    cr_assert_eq(stuck.delivery->id[35], '1');
    cr_assert(stuck.services->cancelled(stuck.delivery));
    cr_assert_eq(stuck.services->complete(stuck.delivery, FILA_ACK, NULL), -1);
    (void)sem_post(&stuck.go);
    await_let_go();
    stop_clean();
}

Test(pool, stop_does_not_wait_for_ever)
{
    static struct step stuck = {.act = act_block}; /* its thread outlives this function */
    struct step queued = {0};
    fake_start(&(struct fake_options){.concurrency = 1});
    fake_submit(&stuck, in_ms(20000));
    cr_assert_eq(sem_wait(&stuck.entered), 0);
    fake_submit(&queued, in_ms(20000));

    int64_t before = fila_now();
    cr_assert_not(fw_executor_stop(fake.executor, in_ms(60)));
    cr_assert_lt(fila_now() - before, 5 * FILA_S);
    struct fw_job *job = fake_result();
    cr_assert_eq(job, &queued.job);
    cr_assert_eq(job->verdict.started, 0);
    cr_assert_str_eq(job->reason, "the worker stopped before it was started");
    fake_free(job);
    job = fake_result();
    cr_assert_eq(job, &stuck.job);
    cr_assert_eq(job->verdict.cause, FW_CAUSE_TIMEOUT);
    fake_free(job);
    (void)sem_post(&stuck.go);
}

Test(pool, stop_waits_for_what_runs)
{
    struct step slow = {.act = act_outstay, .verdict = FILA_ACK};
    fake_start(&(struct fake_options){.concurrency = 2});
    fake_submit(&slow, in_ms(40));
    while (!atomic_load(&slow.job.run)) {
    }
    stop_clean();
    struct fw_job *job = fake_result();
    cr_assert_eq(job->verdict.kind, FW_ACK);
    fake_free(job);
}

/* ---- Deferred ---- */

static int act_defer(struct step *step, void *self, const fila_delivery *d, const fila_services *s)
{
    step->delivery = d;
    step->services = s;
    step->self = self;
    (void)sem_post(&step->entered);
    return FILA_DEFER;
}

Test(pool, deferred_is_completed_once)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    for (int i = 0; i < 3; i++) {
        struct step step = {.act = act_defer};
        struct step other = {0};
        fake_submit(&step, in_ms(20000));
        cr_assert_eq(sem_wait(&step.entered), 0);
        fake_submit(&other, in_ms(20000)); /* its thread is free meanwhile */
        cr_assert_eq(fake_result(), &other.job);
        fake_free(&other.job);

        cr_assert_eq(step.delivery->id_len, 36);
        cr_assert_eq(step.services->complete(step.delivery, FILA_RETRY, "later"), 0);
        struct fw_job *job = fake_result();
        cr_assert_eq(job, &step.job);
        cr_assert_eq(job->verdict.kind, FW_RETRY);
        cr_assert_eq(job->verdict.cause, FW_CAUSE_RETRY);
        cr_assert_str_eq(job->reason, "later");
        fake_free(job);
        cr_assert_eq(step.services->complete(step.delivery, FILA_ACK, NULL), -1, "twice");
    }
    stop_clean();
}

static int act_complete_inside(
    struct step *step,
    void *self,
    const fila_delivery *d,
    const fila_services *s)
{
    (void)self;
    step->number = s->complete(d, FILA_REJECT, "inside");
    step->number = step->number * 100 + s->complete(d, FILA_ACK, "again");
    return step->verdict;
}

Test(pool, complete_before_handle_returns)
{
    static const struct {
        int returned;
        int warnings;
    } ROWS[] = {{FILA_DEFER, 0}, {FILA_ACK, 1}};

    fake_start(&(struct fake_options){.concurrency = 1});
    for (size_t i = 0; i < 2; i++) {
        struct step step = {.act = act_complete_inside, .verdict = ROWS[i].returned};
        int before = testlog_count(FW_EVENT_HANDLER_VERDICT);
        fake_submit(&step, in_ms(20000));
        struct fw_job *job = fake_result();
        cr_expect_eq(step.number, -1, "taken, and the second one not");
        cr_expect_eq(job->verdict.kind, FW_REJECT);
        cr_expect_str_eq(job->reason, "inside");
        cr_expect_eq(testlog_count(FW_EVENT_HANDLER_VERDICT) - before, ROWS[i].warnings);
        fake_free(job);
    }
    stop_clean();
}

Test(pool, complete_of_what_was_not_deferred)
{
    struct step step = {.act = act_block};
    fake_start(&(struct fake_options){.concurrency = 1});
    fake_submit(&step, in_ms(20000));
    cr_assert_eq(sem_wait(&step.entered), 0);
    (void)sem_post(&step.go);
    fake_free(fake_result());
    cr_assert_eq(step.services->complete(step.delivery, FILA_ACK, NULL), -1);
    stop_clean();
}

Test(pool, complete_too_late_does_not_hit_the_next_message)
{
    struct step first = {.act = act_block};
    fake_start(&(struct fake_options){.concurrency = 1});
    fake_submit(&first, in_ms(20000));
    (void)sem_post(&first.go);
    fake_free(fake_result());
    for (int i = 0; i < 15; i++) {
        struct step step = {.act = act_block, .verdict = FILA_REJECT};
        fake_submit(&step, in_ms(20000));
        cr_assert_eq(sem_wait(&step.entered), 0);
        cr_assert_eq(first.services->complete(first.delivery, FILA_ACK, NULL), -1, "%d", i);
        (void)sem_post(&step.go);
        struct fw_job *job = fake_result();
        cr_assert_eq(job->verdict.kind, FW_REJECT, "%d", i);
        fake_free(job);
    }
    stop_clean();
}

Test(pool, complete_with_rubbish_is_a_retry)
{
    static const int ROWS[] = {FILA_DEFER, 7, -3};
    fake_start(&(struct fake_options){.concurrency = 1});
    for (size_t i = 0; i < 3; i++) {
        struct step step = {.act = act_defer};
        fake_submit(&step, in_ms(20000));
        cr_assert_eq(sem_wait(&step.entered), 0);
        while (step.services->complete(step.delivery, ROWS[i], NULL)) {
        }
        struct fw_job *job = fake_result();
        cr_expect_eq(job->verdict.kind, FW_RETRY);
        cr_expect_eq(testlog_count(FW_EVENT_HANDLER_VERDICT), (int)i + 1);
        fake_free(job);
    }
    stop_clean();
}

Test(pool, deferred_and_never_completed_is_a_timeout)
{
    struct step step = {.act = act_defer};
    struct step next = {0};
    fake_start(&(struct fake_options){.concurrency = 1});
    fake_submit(&step, in_ms(60));
    cr_assert_eq(sem_wait(&step.entered), 0);
    struct fw_job *job = fake_result();
    cr_assert_eq(job, &step.job);
    cr_assert_eq(job->verdict.kind, FW_RETRY);
    cr_assert_eq(job->verdict.cause, FW_CAUSE_TIMEOUT);
    cr_assert_eq(fw_executor_stuck(fake.executor), 1);
    fake_free(job);

    cr_assert_eq(step.delivery->id[0], '0'); /* still readable */
    cr_assert_eq(step.services->complete(step.delivery, FILA_ACK, "late"), -1);
    cr_assert_eq(fw_executor_stuck(fake.executor), 0);
    cr_assert_eq(step.services->complete(step.delivery, FILA_ACK, "later still"), -1);
    fake_submit(&next, in_ms(20000));
    job = fake_result();
    cr_assert_eq(job->verdict.kind, FW_ACK);
    fake_free(job);
    stop_clean();
}

Test(pool, a_completed_message_does_not_wait_for_a_stuck_handle)
{
    struct step step = {.act = act_block, .verdict = FILA_DEFER};
    fake_start(&(struct fake_options){.concurrency = 1, .stuck_after = 30 * FILA_MS});
    fake_submit(&step, in_ms(30));
    cr_assert_eq(sem_wait(&step.entered), 0);
    cr_assert_eq(step.services->complete(step.delivery, FILA_ACK, NULL), 0);
    struct fw_job *job = fake_result();
    cr_assert_eq(job->verdict.kind, FW_ACK, "what it was completed with counts");
    cr_assert_eq(testlog_count(FW_EVENT_HANDLER_STUCK), 1);
    fake_free(job);
    (void)sem_post(&step.go);
    await_let_go();
    stop_clean();
}

Test(pool, stop_waits_for_the_deferred)
{
    struct step step = {.act = act_defer};
    fake_start(&(struct fake_options){.concurrency = 1});
    fake_submit(&step, in_ms(200)); /* completed by nobody but the watch */
    cr_assert_eq(sem_wait(&step.entered), 0);
    cr_assert_not(fw_executor_stop(fake.executor, in_ms(20000)), "it has not let go");
    struct fw_job *job = fake_result();
    cr_assert_eq(job->verdict.cause, FW_CAUSE_TIMEOUT);
    fake_free(job);
}

/* ---- Probe ---- */

static sem_t probed;
static atomic_int answers[2];

static void on_answer(void *user, bool healthy)
{
    (void)user;
    (void)atomic_fetch_add(&answers[healthy], 1);
    (void)sem_post(&probed);
}

Test(pool, probes_on_a_thread)
{
    (void)sem_init(&probed, 0, 0);
    fake_start(&(struct fake_options){.concurrency = 1});
    cr_assert_not(fw_executor_has_probe(fake.executor));
    stop_clean();

    fake_start(&(struct fake_options){.concurrency = 1, .probe = true});
    cr_assert(fw_executor_has_probe(fake.executor));
    cr_assert(fw_executor_probe(fake.executor, on_answer, NULL));
    cr_assert_eq(sem_wait(&probed), 0);
    cr_assert_eq(answers[1], 1);

    static struct step busy = {.act = act_block}; /* its thread outlives this function */
    fake_submit(&busy, in_ms(100));
    cr_assert_eq(sem_wait(&busy.entered), 0);
    cr_assert(fw_executor_probe(fake.executor, on_answer, NULL));
    cr_assert_not(fw_executor_stop(fake.executor, in_ms(30)));
    cr_assert_eq(answers[0], 1, "the one that could not be asked is answered no");
    fake_free(fake_result());
    (void)sem_post(&busy.go);
}

Test(pool, a_probe_that_hangs_is_a_no_and_costs_no_thread)
{
    (void)sem_init(&probed, 0, 0);
    fake_start(
        &(struct fake_options){.concurrency = 1, .probe = true, .probe_timeout = 30 * FILA_MS});
    fake_probe_gate(false);
    cr_assert(fw_executor_probe(fake.executor, on_answer, NULL));
    cr_assert_eq(sem_wait(&probed), 0);
    cr_assert_eq(answers[0], 1);
    cr_assert_eq(fw_executor_stuck(fake.executor), 1);
    cr_assert_eq(testlog_count(FW_EVENT_HANDLER_STUCK), 1);

    struct step next = {0};
    fake_submit(&next, in_ms(20000));
    cr_assert_eq(fake_result(), &next.job, "by the thread that took its place");
    fake_free(&next.job);
    fake_probe_gate(true);
    await_let_go();
    cr_assert_eq(answers[1], 0, "answered once");
    stop_clean();
}
