/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila_producer over a transport that does only what it is told.
 */
#include "base/clock.h"
#include "client/fake_transport.h"
#include "src/client_impl.h"

#include <criterion/criterion.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define V(text) ((fila_view){(text), sizeof(text) - 1})

TestSuite(producer, .timeout = 20);

enum {
    MOST = 2048
};

/* What was reported, in its order. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned count;
    void *tokens[MOST];
    char ids[MOST][FILA_ID_SIZE];
    uint32_t attempts[MOST];
    fila_error errors[MOST];
} told = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct fake *fake;
static fila_client *client;
static fila_producer *producer;
static fila_producer_options options;

static void on_report(void *user, const fila_report *report)
{
    cr_assert_eq(user, &told);
    (void)pthread_mutex_lock(&told.lock);
    unsigned n = told.count;
    cr_assert(n < MOST);
    told.tokens[n] = report->token;
    memcpy(told.ids[n], report->id.data, report->id.len);
    told.attempts[n] = report->attempts;
    told.errors[n] = report->error ? *report->error : (fila_error)FILA_ERROR_INIT;
    told.count++;
    (void)pthread_cond_broadcast(&told.changed);
    (void)pthread_mutex_unlock(&told.lock);
}

static void wait_reports(unsigned count)
{
    (void)pthread_mutex_lock(&told.lock);
    while (told.count < count) {
        (void)pthread_cond_wait(&told.changed, &told.lock);
    }
    (void)pthread_mutex_unlock(&told.lock);
}

static void setup_with(bool automatic)
{
    fila_client_options client_options = FILA_CLIENT_OPTIONS_INIT;
    fake = fake_new(automatic);
    cr_assert_eq(fc_open_over(fake_transport(fake), &client_options, &client, NULL), FILA_OK);
    options = (fila_producer_options)FILA_PRODUCER_OPTIONS_INIT;
    options.on_report = on_report;
    options.user = &told;
    options.flush_ms = 0;
    options.retry_first_ms = 1;
    options.retry_max_ms = 2;
}

static void setup(void)
{
    setup_with(false);
}

static void setup_automatic(void)
{
    setup_with(true);
}

static void teardown(void)
{
    fila_client_free(client); /* first: what the fake never answers ends with it */
    fila_producer_free(producer);
    cr_expect_eq(fake_transports_alive(), 0);
}

static void open_producer(void)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(
        fila_producer_open(client, &options, &producer, &error), FILA_OK, "%s", error.text);
}

static fila_status try_send(const char *payload, void *token, fila_error *reterr)
{
    return fila_producer_send(producer, V("q"), NULL, 0, fila_view_of(payload), token, reterr);
}

static void send(const char *payload)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(try_send(payload, NULL, &error), FILA_OK, "%s", error.text);
}

static void answer(unsigned nth, const char *id)
{
    fila_reply reply = {.call = FILA_CALL_ENQUEUE};
    reply.as.enqueue.message_id = fila_view_of(id);
    fake_answer(fake, nth, &reply);
}

static bool is(fila_view view, const char *text)
{
    return view.len == strlen(text) && !memcmp(view.data, text, view.len);
}

Test(producer, each_message_is_reported_once, .init = setup_automatic, .fini = teardown)
{
    char payload[16];
    unsigned seen[1000] = {0};
    options.buffer_messages = 1000;
    open_producer();
    for (uintptr_t i = 0; i < 1000; i++) {
        (void)snprintf(payload, sizeof payload, "%u", (unsigned)i);
        fila_status status = try_send(payload, (void *)i, NULL); /* NOLINT: a token */
        cr_assert_eq(status, FILA_OK);
    }
    cr_assert_eq(fila_producer_flush(producer, -1, NULL), FILA_OK);
    cr_assert_eq(told.count, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        uintptr_t token = (uintptr_t)told.tokens[i];
        (void)snprintf(payload, sizeof payload, "%u", (unsigned)token);
        cr_expect_eq(told.errors[i].code, FILA_OK);
        cr_expect_str_eq(told.ids[i], payload);
        cr_expect_eq(told.attempts[i], 1);
        seen[token]++;
    }
    for (unsigned i = 0; i < 1000; i++) {
        cr_expect_eq(seen[i], 1, "%u", i);
    }
}

Test(producer, a_message_is_copied_whole, .init = setup, .fini = teardown)
{
    char queue[] = "orders";
    char key[] = "k";
    char value[] = "v";
    char payload[] = "pay";
    fila_header header = {{key, 1}, {value, 1}};
    open_producer();
    cr_assert_eq(
        fila_producer_send(
            producer, fila_view_of(queue), &header, 1, fila_view_of(payload), NULL, NULL),
        FILA_OK);
    memset(queue, 'x', 6);
    memset(payload, 'x', 3);
    key[0] = value[0] = 'x';
    const fila_request *got = fake_wait_call(fake, 0);
    cr_expect(is(got->as.enqueue.queue, "orders"));
    cr_expect(is(got->as.enqueue.payload, "pay"));
    cr_assert_eq(got->as.enqueue.header_count, 1);
    cr_expect(is(got->as.enqueue.headers[0].key, "k"));
    cr_expect(is(got->as.enqueue.headers[0].value, "v"));
}

/* ---- When it goes out ---- */

Test(producer, few_wait_for_company_until_there_are_enough, .init = setup, .fini = teardown)
{
    options.flush_ms = 3600 * 1000;
    options.flush_count = 3;
    open_producer();
    send("1");
    send("2");
    cr_expect_eq(fake_calls(fake), 0);
    send("3");
    (void)fake_wait_call(fake, 2);
    cr_expect_eq(fake_batches(fake), 1, "one batch");
    send("4");
    cr_expect_eq(fake_calls(fake), 3);
}

Test(producer, few_wait_for_company_until_the_time_has_come, .init = setup, .fini = teardown)
{
    options.flush_ms = 30;
    open_producer();
    int64_t before = fila_now();
    send("1");
    (void)fake_wait_call(fake, 0);
    cr_expect(fila_now() - before >= 30 * FILA_MS);
}

Test(producer, flush_sends_at_once_and_waits, .init = setup_automatic, .fini = teardown)
{
    options.flush_ms = 3600 * 1000;
    open_producer();
    cr_expect_eq(fila_producer_flush(producer, -1, NULL), FILA_OK, "nothing to do");
    send("1");
    send("2");
    cr_expect_eq(fila_producer_flush(producer, -1, NULL), FILA_OK);
    cr_expect_eq(told.count, 2);
}

Test(producer, flush_waits_for_what_was_before_it_alone, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    open_producer();
    send("1");
    send("2");
    cr_expect_eq(fila_producer_flush(producer, 0, &error), FILA_TIMEOUT);
    cr_expect_str_eq(error.text, "2 messages not reported within 0 ms");
    answer(1, "second");
    wait_reports(1);
    cr_expect_eq(fila_producer_flush(producer, 0, &error), FILA_TIMEOUT, "the first is missing");
    answer(0, "first");
    cr_expect_eq(fila_producer_flush(producer, -1, &error), FILA_OK);
    send("3");
    send("4");
    answer(2, "third");
    wait_reports(3);
    cr_expect_eq(fila_producer_flush(producer, 0, &error), FILA_TIMEOUT, "the last is missing");
    answer(3, "fourth");
    cr_expect_eq(fila_producer_flush(producer, -1, &error), FILA_OK);
}

Test(producer, in_flight_is_bounded, .init = setup, .fini = teardown)
{
    options.in_flight = 2;
    open_producer();
    for (int i = 0; i < 5; i++) {
        send("x");
    }
    (void)fake_wait_call(fake, 1);
    cr_expect_eq(fake_calls(fake), 2);
    answer(0, "a");
    (void)fake_wait_call(fake, 2);
    cr_expect_eq(fake_calls(fake), 3);
}

Test(producer, the_order_of_sending_is_kept, .init = setup, .fini = teardown)
{
    char payload[8];
    open_producer();
    for (unsigned i = 0; i < 64; i++) {
        (void)snprintf(payload, sizeof payload, "%u", i);
        send(payload);
    }
    for (unsigned i = 0; i < 64; i++) {
        (void)snprintf(payload, sizeof payload, "%u", i);
        cr_expect(is(fake_wait_call(fake, i)->as.enqueue.payload, payload));
    }
}

/* ---- Failures ---- */

Test(producer, what_may_pass_is_sent_again, .init = setup, .fini = teardown)
{
    open_producer();
    send("p");
    fake_fail(fake, 0, FILA_OVERLOADED, "full");
    fake_fail_unsent(fake, 1, FILA_BROKER_UNAVAILABLE, "no connection");
    answer(2, "at last");
    wait_reports(1);
    cr_expect_eq(told.errors[0].code, FILA_OK);
    cr_expect_str_eq(told.ids[0], "at last");
    cr_expect_eq(told.attempts[0], 3);
}

Test(producer, what_is_sent_again_goes_before_the_others, .init = setup, .fini = teardown)
{
    options.in_flight = 2;
    options.flush_ms = 3600 * 1000;
    options.flush_count = 3;
    options.retry_first_ms = options.retry_max_ms = 50;
    open_producer();
    send("1");
    send("2");
    send("3");
    (void)fake_wait_call(fake, 1);
    fake_fail(fake, 0, FILA_OVERLOADED, "full");
    fake_fail(fake, 1, FILA_OVERLOADED, "full");
    cr_expect(is(fake_wait_call(fake, 2)->as.enqueue.payload, "1"));
    cr_expect(is(fake_wait_call(fake, 3)->as.enqueue.payload, "2"));
    cr_expect_eq(fake_calls(fake), 4);
}

Test(producer, an_unknown_outcome_is_reported, .init = setup, .fini = teardown)
{
    open_producer();
    send("p");
    fake_fail(fake, 0, FILA_TIMEOUT, "no answer");
    wait_reports(1);
    cr_expect_eq(told.errors[0].code, FILA_TIMEOUT);
    cr_expect(told.errors[0].outcome_unknown);
    cr_expect_str_eq(told.errors[0].text, "no answer");
    cr_expect_eq(fake_calls(fake), 1);
}

Test(producer, an_unknown_outcome_is_tried_again_where_wanted, .init = setup, .fini = teardown)
{
    options.retry_unknown = true;
    open_producer();
    send("p");
    fake_fail(fake, 0, FILA_TIMEOUT, "no answer");
    answer(1, "id");
    wait_reports(1);
    cr_expect_eq(told.errors[0].code, FILA_OK);
}

Test(producer, what_will_not_pass_is_reported_at_once, .init = setup, .fini = teardown)
{
    open_producer();
    send("p");
    fake_fail(fake, 0, FILA_QUEUE_NOT_FOUND, "q");
    wait_reports(1);
    cr_expect_eq(told.errors[0].code, FILA_QUEUE_NOT_FOUND);
    cr_expect_eq(told.attempts[0], 1);
}

Test(producer, time_is_up_and_the_last_failure_is_told, .init = setup, .fini = teardown)
{
    options.timeout_ms = 1500;
    options.retry_first_ms = 60000;
    options.retry_max_ms = 60000;
    open_producer();
    send("p");
    fake_fail(fake, 0, FILA_OVERLOADED, "full");
    wait_reports(1);
    cr_expect_eq(told.errors[0].code, FILA_TIMEOUT);
    cr_expect_str_eq(told.errors[0].text, "not taken within 1500 ms, 1 attempts, the last: full");
    cr_expect(!told.errors[0].outcome_unknown, "it was refused");
}

Test(producer, time_is_up_before_it_was_ever_sent, .init = setup, .fini = teardown)
{
    options.timeout_ms = 1500;
    options.in_flight = 1;
    open_producer();
    send("first");
    (void)fake_wait_call(fake, 0);
    send("second");
    wait_reports(1);
    cr_expect_eq(told.errors[0].code, FILA_TIMEOUT);
    cr_expect_str_eq(told.errors[0].text, "not taken within 1500 ms, 0 attempts");
    cr_expect_eq(fake_calls(fake), 1);
    answer(0, "id");
    wait_reports(2);
}

/* ---- Bounds and bad input ---- */

Test(producer, a_full_buffer_refuses, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    options.buffer_messages = 2;
    open_producer();
    send("1");
    send("2");
    cr_expect_eq(try_send("3", NULL, &error), FILA_OVERLOADED);
    cr_expect(error.retryable && !error.outcome_unknown);
    cr_expect(
        !strncmp(error.text, "the producer's buffer is full: 2 messages, ", 43), "%s", error.text);
    answer(0, "id");
    answer(1, "id");
    cr_expect_eq(fila_producer_flush(producer, -1, NULL), FILA_OK);
    send("3");
}

Test(producer, a_buffer_full_of_bytes_refuses, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    char *large = calloc(1, 100001);
    options.buffer_bytes = 150000;
    open_producer();
    memset(large, 'x', 100000);
    send(large);
    cr_expect_eq(try_send(large, NULL, &error), FILA_OVERLOADED);
    send("small");
    free(large);
}

Test(producer, what_cannot_be_sent_is_refused_at_once, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    char *large = calloc(1, (4u << 20) + 1);
    fila_view payload = {large, 4u << 20};
    open_producer();
    cr_expect_eq(
        fila_producer_send(producer, V("\xff"), NULL, 0, V(""), NULL, &error),
        FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(error.text, "a queue name of 1 bytes is not UTF-8");
    cr_expect_eq(
        fila_producer_send(producer, V("q"), NULL, 0, payload, NULL, &error), FILA_TOO_LARGE);
    cr_expect_eq(fila_producer_flush(producer, -1, &error), FILA_OK);
    cr_expect_eq(told.count, 0);
    free(large);
}

Test(producer, bad_options, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    options.in_flight = 0;
    cr_expect_eq(fila_producer_open(client, &options, &producer, &error), FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(
        error.text,
        "buffer_messages 10000, buffer_bytes 67108864, flush_count 64, in_flight 0, timeout_ms "
        "30000: none may be 0");
    options.size = 1;
    cr_expect_eq(fila_producer_open(client, &options, &producer, &error), FILA_INVALID_ARGUMENT);
    cr_expect_eq(producer, NULL);
}

/* ---- The end ---- */

Test(producer, close_reports_what_is_not_on_its_way, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    options.in_flight = 1;
    open_producer();
    send("on its way");
    (void)fake_wait_call(fake, 0);
    send("waiting");
    fila_producer_close(producer);
    fila_producer_close(producer);
    wait_reports(1);
    cr_expect_eq(told.errors[0].code, FILA_CANCELLED);
    cr_expect(!told.errors[0].outcome_unknown);
    cr_expect_eq(try_send("late", NULL, &error), FILA_CLOSED);
    answer(0, "id");
    wait_reports(2);
    cr_expect_eq(told.errors[1].code, FILA_OK);
    cr_expect_eq(fila_producer_flush(producer, -1, NULL), FILA_OK);
}

Test(producer, the_clients_end_reports_all)
{
    setup();
    options.in_flight = 1;
    open_producer();
    send("on its way");
    (void)fake_wait_call(fake, 0);
    send("waiting");
    fila_client_free(client);
    cr_assert_eq(told.count, 2);
    cr_expect_eq(told.errors[0].code, FILA_CLOSED);
    cr_expect_str_eq(told.errors[0].text, "the fake was shut down");
    cr_expect_eq(told.errors[1].code, FILA_CLOSED);
    cr_expect_str_eq(told.errors[1].text, "the client was closed before this was taken");
    cr_expect(!told.errors[1].outcome_unknown);
    fila_error error = FILA_ERROR_INIT;
    cr_expect_eq(try_send("late", NULL, &error), FILA_CLOSED);
    cr_expect_eq(fila_producer_flush(producer, -1, NULL), FILA_OK);
    fila_producer_close(producer);
    fila_producer_free(producer);
    fila_producer_free(NULL);
    cr_expect_eq(fake_transports_alive(), 0);
}

static sem_t freed;

static void free_in_report(void *user, const fila_report *report)
{
    (void)user;
    (void)report;
    fila_producer_free(producer);
    producer = NULL;
    (void)sem_post(&freed);
}

Test(producer, may_be_freed_in_a_report, .init = setup_automatic, .fini = teardown)
{
    (void)sem_init(&freed, 0, 0);
    options.on_report = free_in_report;
    options.user = NULL;
    open_producer();
    send("p");
    while (sem_wait(&freed)) {
    }
}

Test(producer, opening_on_a_closed_client, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    fila_client_close(client);
    cr_expect_eq(fila_producer_open(client, &options, &producer, &error), FILA_CLOSED);
    cr_expect_eq(producer, NULL);
}
