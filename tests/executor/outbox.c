/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * services->publish, from a handler to the done list.
 */
#include "executor/outbox.h"

#include "base/clock.h"
#include "executor/fake.h"
#include "wire/message.h"

#include <criterion/criterion.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(outbox, .timeout = 60);

static const size_t MIB = (size_t)1 << 20;

static fila_publication to(const char *queue, const char *payload)
{
    fila_publication p = FILA_PUBLICATION_INIT;
    p.queue = queue;
    p.queue_len = strlen(queue);
    p.payload = (const uint8_t *)payload;
    p.payload_len = strlen(payload);
    return p;
}

static int act_publish(
    struct step *step,
    void *self,
    const fila_delivery *d,
    const fila_services *s)
{
    char payload[16];
    (void)self;
    for (int64_t i = 0; i < step->number; i++) {
        (void)snprintf(payload, sizeof payload, "%d", (int)i);
        fila_publication p = to("out", payload);
        cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TAKEN);
        memset(payload, 'x', sizeof payload); /* it was copied */
    }
    return step->verdict;
}

static struct fw_job *run(struct step *step)
{
    fake_submit(step, fila_now() + 20 * FILA_S);
    struct fw_job *job = fake_result();
    cr_assert_eq(job, &step->job);
    return job;
}

static void finish(struct fw_job *job)
{
    fw_outgoing_free(job->outbox);
    fake_free(job);
}

static void stop(void)
{
    cr_assert(fw_executor_stop(fake.executor, fila_now() + 20 * FILA_S));
}

Test(outbox, comes_with_an_ack_in_order)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    struct step step = {.act = act_publish, .number = 3};
    struct fw_job *job = run(&step);
    int n = 0;
    for (const struct fw_outgoing *o = job->outbox; o; o = o->next, n++) {
        cr_expect_eq(o->payload.len, 1);
        cr_expect_eq(o->payload.data[0], '0' + n);
        cr_expect_eq(o->queue.len, 3);
        cr_expect_eq(memcmp(o->queue.data, "out", 3), 0);
    }
    cr_assert_eq(n, 3);
    finish(job);

    struct step silent = {.act = act_verdict};
    job = run(&silent);
    cr_assert_null(job->outbox, "nothing is left over for the next one");
    finish(job);
    stop();
}

Test(outbox, goes_nowhere_with_any_other_verdict)
{
    static const int VERDICTS[] = {FILA_RETRY, FILA_REJECT, FILA_UNAVAILABLE, 42};
    fake_start(&(struct fake_options){.concurrency = 1});
    for (size_t i = 0; i < sizeof VERDICTS / sizeof VERDICTS[0]; i++) {
        struct step step = {.act = act_publish, .number = 2, .verdict = VERDICTS[i]};
        struct fw_job *job = run(&step);
        cr_expect_null(job->outbox, "verdict %d", VERDICTS[i]);
        finish(job);
    }
    stop();
}

/* ---- What is refused ---- */

static int act_refused(
    struct step *step,
    void *self,
    const fila_delivery *d,
    const fila_services *s)
{
    static const char LONE[] = "\xff";
    char *big = calloc(1, 4 * MIB);
    fila_publication_header bad_key = {LONE, 1, "v", 1};
    fila_publication_header bad_value = {FILA_TEXT("k"), LONE, 1};
    fila_publication_header no_key = {"", 0, "v", 1};
    fila_publication_header no_value = {FILA_TEXT("k"), NULL, 1};
    fila_publication_header empty = {FILA_TEXT("k"), NULL, 0};
    fila_publication p = to("", "x");
    (void)step;
    (void)self;
    cr_expect_eq(s->publish(d, NULL), FILA_PUBLISH_INVALID);
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_INVALID, "no queue");
    p = to(LONE, "x");
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_INVALID, "queue is not UTF-8");
    p = to("q", "x");
    p.size--;
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_INVALID, "size");
    p = to("q", "x");
    p.payload = NULL;
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_INVALID, "a length without bytes");
    p = to("q", "x");
    p.header_count = 1;
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_INVALID, "headers NULL");
    const fila_publication_header *const wrong[] = {&bad_key, &bad_value, &no_key, &no_value};
    for (size_t i = 0; i < 4; i++) {
        p.headers = wrong[i];
        cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_INVALID, "header %zu", i);
    }
    p.headers = &empty;
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TAKEN, "an empty value is one");
    p = to("q", "");
    p.payload = (const uint8_t *)big;
    p.payload_len = 4 * MIB;
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TOO_LARGE, "4 MiB and its frame");
    p.payload_len = 4 * MIB - 32768;
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TAKEN);
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TAKEN);
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TOO_LARGE, "8 MiB in all");
    p.payload_len = 0;
    for (unsigned i = 3; i < FILA_PUBLISH_MESSAGES_MAX; i++) {
        cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TAKEN);
    }
    cr_expect_eq(s->publish(d, &p), FILA_PUBLISH_TOO_LARGE, "one message too many");
    free(big);
    return FILA_ACK;
}

Test(outbox, refuses_what_cannot_be_sent)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    struct step step = {.act = act_refused};
    struct fw_job *job = run(&step);
    unsigned n = 0;
    for (const struct fw_outgoing *o = job->outbox; o; o = o->next) {
        n++;
    }
    cr_assert_eq(n, FILA_PUBLISH_MESSAGES_MAX, "what was taken before is kept");
    finish(job);
    stop();
}

/* ---- Deferred, late, misused ---- */

static int act_defer(struct step *step, void *self, const fila_delivery *d, const fila_services *s)
{
    (void)act_block(step, self, d, s);
    return FILA_DEFER;
}

static int publish_one(const struct step *step)
{
    fila_publication p = to("out", "late");
    return step->services->publish(step->delivery, &p);
}

Test(outbox, takes_from_a_deferred_delivery_until_it_is_completed)
{
    fake_start(&(struct fake_options){.concurrency = 1});
    struct step step = {.act = act_defer};
    (void)sem_init(&step.entered, 0, 0);
    (void)sem_init(&step.go, 0, 0);
    fake_submit(&step, fila_now() + 20 * FILA_S);
    (void)sem_wait(&step.entered);
    cr_expect_eq(publish_one(&step), FILA_PUBLISH_TAKEN, "from another thread");
    (void)sem_post(&step.go);
    cr_expect_eq(publish_one(&step), FILA_PUBLISH_TAKEN);
    cr_expect_eq(step.services->complete(step.delivery, FILA_ACK, NULL), 0);
    struct fw_job *job = fake_result();
    cr_assert_not_null(job->outbox);
    cr_assert_not_null(job->outbox->next);
    cr_assert_null(job->outbox->next->next);
    cr_expect_eq(publish_one(&step), FILA_PUBLISH_OVER, "it is over");
    finish(job);
    stop();
}

Test(outbox, is_closed_once_a_delivery_is_given_up)
{
    fake_start(&(struct fake_options){.concurrency = 1, .stuck_after = FILA_MS});
    struct step step = {.act = act_block, .verdict = FILA_ACK};
    (void)sem_init(&step.entered, 0, 0);
    (void)sem_init(&step.go, 0, 0);
    fake_submit(&step, fila_now() + 50 * FILA_MS);
    (void)sem_wait(&step.entered);
    cr_expect_eq(publish_one(&step), FILA_PUBLISH_TAKEN);
    struct fw_job *job = fake_result();
    cr_expect_eq(job->verdict.cause, FW_CAUSE_TIMEOUT);
    cr_expect_null(job->outbox);
    cr_expect_eq(publish_one(&step), FILA_PUBLISH_OVER);
    (void)sem_post(&step.go);
    while (fw_executor_stuck(fake.executor)) {
        (void)poll(NULL, 0, 1);
    }
    finish(job);
    stop();
}

/* What comes after its run's end is seen by its generation, also between two looks. */
Test(outbox, throws_away_what_is_of_another_run)
{
    struct fw_outbox outbox;
    struct fw_outgoing *made[3];
    fila_publication p = to("q", "x");
    fw_outbox_init(&outbox);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(fw_outgoing_make(&p, NULL, &made[i]), FILA_PUBLISH_TAKEN);
    }
    cr_assert(fw_outbox_add(&outbox, 7, made[0]));
    cr_assert(fw_outbox_add(&outbox, 8, made[1]));
    struct fw_outgoing *list = fw_outbox_take(&outbox, 8);
    cr_assert_eq(list, made[1]);
    cr_assert_null(list->next);
    fw_outgoing_free(list);
    cr_assert_null(fw_outbox_take(&outbox, 8));
    cr_assert(fw_outbox_add(&outbox, 9, made[2]));
    fw_outbox_fini(&outbox); /* frees it */
}

/* ---- Traces ---- */

static fila_message *traced(bool state)
{
    static const fila_header HEADERS[] = {
        {{"traceparent", 11}, {"00-aa-bb-01", 11}},
        {{"kept", 4}, {"to itself", 9}},
        {{"tracestate", 10}, {"x=1", 3}},
    };
    struct fila_message_fields fields = {
        .id = fila_view_of("i"), .headers = HEADERS, .header_count = state ? 3 : 2};
    return fila_message_make(&fields, NULL, NULL);
}

static void expect_header(
    const struct fw_outgoing *o,
    size_t at,
    const char *key,
    const char *value)
{
    cr_assert_lt(at, o->header_count);
    cr_expect_eq(o->headers[at].key.len, strlen(key));
    cr_expect_eq(memcmp(o->headers[at].key.data, key, strlen(key)), 0);
    cr_expect_eq(o->headers[at].value.len, strlen(value));
    cr_expect_eq(memcmp(o->headers[at].value.data, value, strlen(value)), 0);
}

Test(outbox, continues_the_trace)
{
    struct fw_outgoing *out = NULL;
    fila_publication p = to("q", "x");
    fila_publication_header own = {FILA_TEXT("a"), FILA_TEXT("1")};
    fila_publication_header other = {FILA_TEXT("traceparent"), FILA_TEXT("00-cc-dd-01")};
    fila_message *both = traced(true);
    fila_message *parent = traced(false);
    p.headers = &own;
    p.header_count = 1;
    cr_assert_eq(fw_outgoing_make(&p, both, &out), FILA_PUBLISH_TAKEN);
    cr_expect_eq(out->header_count, 3);
    expect_header(out, 0, "a", "1");
    expect_header(out, 1, "traceparent", "00-aa-bb-01");
    expect_header(out, 2, "tracestate", "x=1");
    fw_outgoing_free(out);
    cr_assert_eq(fw_outgoing_make(&p, parent, &out), FILA_PUBLISH_TAKEN);
    cr_expect_eq(out->header_count, 2);
    fw_outgoing_free(out);
    p.headers = &other;
    cr_assert_eq(fw_outgoing_make(&p, both, &out), FILA_PUBLISH_TAKEN);
    cr_expect_eq(out->header_count, 1, "its own");
    expect_header(out, 0, "traceparent", "00-cc-dd-01");
    fw_outgoing_free(out);
    fila_message_free(both);
    fila_message_free(parent);
}
