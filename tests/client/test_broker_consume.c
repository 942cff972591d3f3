/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The client against a broker (see target.h): messages on their way.
 */
#include "base/clock.h"
#include "client/seen.h"
#include "client/target.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#define V(text) ((fila_view){(text), sizeof(text) - 1})

TestSuite(broker_consume, .timeout = 60);

static struct target target;

static void setup(void)
{
    target_open(&target);
    target_create(&target, "q");
}

static void teardown(void)
{
    target_close(&target);
}

Test(broker_consume, a_message_as_it_was_enqueued, .init = setup, .fini = teardown)
{
    static const fila_header headers[] = {{V("trace"), V("00-ab")}, {V("h\xc3\xa9"), V("")}};
    char id[FILA_ID_SIZE];
    fila_error error = FILA_ERROR_INIT;
    fila_view value;
    int64_t before = fila_wall_ms();
    fila_consumer *consumer = target_consumer(&target, "q");
    cr_assert_eq(
        fila_enqueue(target.client, V("q"), headers, 2, V("a\0b\xff"), id, &error), FILA_OK, "%s",
        error.text);
    fila_message *message = target_next(consumer);
    cr_expect(view_is(fila_message_id(message), id));
    cr_expect(view_is(fila_message_queue(message), "q"));
    cr_expect(view_is(fila_message_fairness_key(message), "default"));
    cr_expect_eq(fila_message_weight(message), 1);
    cr_expect_eq(fila_message_attempt_count(message), 0);
    cr_expect_eq(fila_message_payload(message).len, 4);
    cr_expect(!memcmp(fila_message_payload(message).data, "a\0b\xff", 4));
    cr_expect(fila_message_header(message, V("trace"), &value) && view_is(value, "00-ab"));
    cr_expect(fila_message_header(message, V("h\xc3\xa9"), &value) && view_is(value, ""));
    int64_t enqueued = fila_message_enqueued_ms(message);
    cr_expect(enqueued >= before - 1 && enqueued <= fila_wall_ms() + 1);
    target_ack(&target, message);
    cr_expect_eq(
        fila_ack(target.client, V("q"), fila_message_id(message), &error), FILA_MESSAGE_NOT_FOUND);
    cr_expect(!error.retryable);
    fila_message_free(message);
    fila_consumer_free(consumer);
    cr_expect_eq(target_stats(&target, "q").depth, 0);
}

Test(broker_consume, a_nack_brings_it_back_at_once, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *consumer = target_consumer(&target, "q");
    target_enqueue(&target, "q", "p");
    for (uint32_t attempt = 0; attempt < 3; attempt++) {
        fila_message *message = target_next(consumer);
        cr_expect_eq(fila_message_attempt_count(message), attempt);
        cr_expect_eq(
            fila_nack(target.client, V("q"), fila_message_id(message), V("not now"), &error),
            FILA_OK);
        fila_message_free(message);
    }
    fila_message *message = target_next(consumer);
    target_ack(&target, message);
    fila_message_free(message);
    fila_consumer_free(consumer);
}

Test(broker_consume, a_missing_queue_is_silent_until_it_is_there, .init = setup, .fini = teardown)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *consumer = target_consumer(&target, "later");
    cr_expect_eq(fila_consumer_next(consumer, 100, &message, &error), FILA_TIMEOUT);
    target_create(&target, "later");
    target_enqueue(&target, "later", "p");
    message = target_next(consumer);
    cr_expect(view_is(fila_message_queue(message), "later"));
    fila_message_free(message);
    fila_consumer_free(consumer);
}

Test(broker_consume, an_empty_queue_name_ends_the_stream, .init = setup, .fini = teardown)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *consumer = target_consumer(&target, "");
    cr_expect_eq(fila_consumer_next(consumer, 5000, &message, &error), FILA_INVALID_ARGUMENT);
    cr_expect_eq(error.wire_code, 3);
    fila_consumer_free(consumer);
}

Test(broker_consume, dead_letters_carry_the_queue_to_ack_with, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *consumer = target_consumer(&target, "q.dlq");
    target_enqueue(&target, "q.dlq", "dead");
    fila_message *message = target_next(consumer);
    cr_expect(view_is(fila_message_queue(message), "q.dlq"));
    cr_expect_eq(
        fila_ack(target.client, V("q"), fila_message_id(message), &error), FILA_MESSAGE_NOT_FOUND);
    target_ack(&target, message);
    fila_message_free(message);
    fila_consumer_free(consumer);
}

Test(broker_consume, odd_payloads, .init = setup, .fini = teardown)
{
    enum {
        LARGEST = (4u << 20) - 3 - 5
    }; /* EnqueueRequest of 4 MiB to queue "q" */

    const size_t sizes[] = {0, 1, 16384, 1u << 20, LARGEST};
    char *bytes = malloc(LARGEST);
    fila_consumer *consumer = target_consumer(&target, "q");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        fila_error error = FILA_ERROR_INIT;
        fila_view payload = {bytes, sizes[i]};
        memset(bytes, (int)(i + 200), sizes[i]);
        cr_assert_eq(
            fila_enqueue(target.client, V("q"), NULL, 0, payload, NULL, &error), FILA_OK,
            "%zu bytes: %s", sizes[i], error.text);
        fila_message *message = target_next(consumer);
        cr_assert_eq(fila_message_payload(message).len, sizes[i]);
        cr_expect(!sizes[i] || !memcmp(fila_message_payload(message).data, bytes, sizes[i]));
        target_ack(&target, message);
        fila_message_free(message);
    }
    fila_consumer_free(consumer);
    free(bytes);
}

Test(broker_consume, ten_thousand_headers, .init = setup, .fini = teardown)
{
    enum {
        COUNT = 10000
    };

    static fila_header headers[COUNT];
    static char keys[COUNT][8];
    fila_error error = FILA_ERROR_INIT;
    fila_header header;
    size_t count = 0;
    fila_view value;
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "k%d", i);
        headers[i] = (fila_header){fila_view_of(keys[i]), fila_view_of(keys[i] + 1)};
    }
    fila_consumer *consumer = target_consumer(&target, "q");
    cr_assert_eq(
        fila_enqueue(target.client, V("q"), headers, COUNT, V(""), NULL, &error), FILA_OK, "%s",
        error.text);
    fila_message *message = target_next(consumer);
    for (size_t cursor = 0; fila_message_next_header(message, &cursor, &header);) {
        count++;
    }
    cr_expect_eq(count, COUNT);
    cr_expect(fila_message_header(message, V("k9999"), &value) && view_is(value, "9999"));
    fila_message_free(message);
    fila_consumer_free(consumer);
}

Test(broker_consume, messages_outlive_consumer_and_client, .init = setup, .fini = teardown)
{
    fila_client *other = target_client(&target);
    fila_consumer *consumer = NULL;
    target_enqueue(&target, "q", "still here");
    cr_assert_eq(fila_consumer_open(other, V("q"), NULL, NULL, &consumer, NULL), FILA_OK);
    fila_message *message = target_next(consumer);
    fila_client_free(other);
    fila_consumer_free(consumer);
    cr_expect(view_is(fila_message_payload(message), "still here"));
    target_ack(&target, message); /* acks do not depend on the stream's connection */
    fila_message_free(message);
}

/* ---- Many at once ---- */

struct flow {
    struct seen acks;
    unsigned received;
    fila_consumer *consumer;
};

static void ack_and_grant(void *user, fila_message *message)
{
    struct flow *flow = user;
    fila_request ack = {.call = FILA_CALL_ACK};
    ack.as.settle.queue = fila_message_queue(message);
    ack.as.settle.message_id = fila_message_id(message);
    flow->received++;
    cr_assert_eq(fila_call_start(target.client, &ack, seen_reply, &flow->acks, NULL), FILA_OK);
    fila_message_free(message);
    fila_consumer_grant(flow->consumer, 1);
}

static void on_end(void *user, const fila_error *why)
{
    (void)user;
    (void)why;
}

Test(broker_consume, two_thousand_pipelined, .init = setup, .fini = teardown)
{
    static const fila_consumer_events events = {ack_and_grant, on_end};

    enum {
        COUNT = 2000
    };
    static struct flow flow;
    struct seen enqueues;
    fila_error error = FILA_ERROR_INIT;
    char payload[16];
    seen_init(&enqueues);
    seen_init(&flow.acks);
    cr_assert_eq(
        fila_consumer_open(target.client, V("q"), &events, &flow, &flow.consumer, &error), FILA_OK);
    fila_consumer_grant(flow.consumer, 64);
    for (int i = 0; i < COUNT; i++) {
        fila_request request = {.call = FILA_CALL_ENQUEUE, .timeout_ms = 30000};
        (void)snprintf(payload, sizeof payload, "%d", i);
        request.as.enqueue.queue = V("q");
        request.as.enqueue.payload = fila_view_of(payload);
        cr_assert_eq(
            fila_call_start(target.client, &request, seen_reply, &enqueues, &error), FILA_OK, "%s",
            error.text);
    }
    seen_wait_calls(&enqueues, COUNT);
    cr_expect_eq(enqueues.replies, COUNT, "%s", enqueues.error.text);
    seen_wait_calls(&flow.acks, COUNT);
    cr_expect_eq(flow.acks.replies, COUNT, "%s", flow.acks.error.text);
    cr_expect_eq(flow.received, COUNT);
    cr_expect_eq(target_stats(&target, "q").depth, 0);
    fila_consumer_free(flow.consumer);
    seen_clear(&flow.acks);
    seen_clear(&enqueues);
}

static void count_report(void *user, const fila_report *report)
{
    seen_reply(user, NULL, report->error);
    if (!report->error) {
        cr_assert_eq(report->id.len, 36);
        seen_reply(user, &(fila_reply){.call = FILA_CALL_ACK}, NULL);
    }
}

Test(broker_consume, a_producer_puts_each_message_in_once, .init = setup, .fini = teardown)
{
    enum {
        COUNT = 3000
    };

    fila_producer_options options = FILA_PRODUCER_OPTIONS_INIT;
    fila_producer *producer = NULL;
    fila_error error = FILA_ERROR_INIT;
    struct seen reports;
    char payload[16];
    seen_init(&reports);
    options.on_report = count_report;
    options.user = &reports;
    cr_assert_eq(fila_producer_open(target.client, &options, &producer, &error), FILA_OK);
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        cr_assert_eq(
            fila_producer_send(producer, V("q"), NULL, 0, fila_view_of(payload), NULL, &error),
            FILA_OK, "%s", error.text);
    }
    cr_assert_eq(fila_producer_send(producer, V("none"), NULL, 0, V(""), NULL, &error), FILA_OK);
    cr_assert_eq(fila_producer_flush(producer, 30000, &error), FILA_OK, "%s", error.text);
    cr_expect_eq(reports.replies, COUNT);
    cr_expect_eq(reports.errors, 1);
    cr_expect_eq(reports.error.code, FILA_QUEUE_NOT_FOUND);
    cr_expect_eq(target_stats(&target, "q").depth, COUNT);
    fila_producer_free(producer);
    seen_clear(&reports);
}

Test(broker_consume, close_ends_the_stream_and_the_broker_sees_it, .init = setup, .fini = teardown)
{
    struct seen seen;
    fila_consumer *consumer = NULL;
    seen_init(&seen);
    cr_assert_eq(
        fila_consumer_open(target.client, V("q"), &SEEN_EVENTS, &seen, &consumer, NULL), FILA_OK);
    fila_consumer_grant(consumer, 1);
    target_enqueue(&target, "q", "p");
    seen_wait_messages(&seen, 1);
    cr_expect_eq(target_stats(&target, "q").active_consumers, 1);
    fila_consumer_close(consumer);
    seen_wait_end(&seen);
    cr_expect_eq(seen.end.code, FILA_CANCELLED);
    for (int i = 0; i < 500 && target_stats(&target, "q").active_consumers; i++) {
        const struct timespec pause = {0, 10 * 1000 * 1000};
        (void)nanosleep(&pause, NULL); /* nothing tells when the broker has noticed */
    }
    cr_expect_eq(target_stats(&target, "q").active_consumers, 0);
    cr_expect_eq(target_stats(&target, "q").in_flight, 1, "its lease stays");
    fila_consumer_free(consumer);
}

/* ---- A broker that misbehaves ---- */

static bool add_fault(fila_fault fault)
{
    fila_error error = FILA_ERROR_INIT;
    if (target.kind == TARGET_SERVER) {
        cr_skip_test("a real server takes no script");
        return false;
    }
    fault.size = sizeof fault;
    fault.call = FILA_CALL_CONSUME;
    fault.nth = 1;
    fault.count = 1;
    cr_assert_eq(fila_broker_add_fault(target.broker, &fault, &error), FILA_OK, "%s", error.text);
    return true;
}

Test(broker_consume, a_stream_cut_in_good_order, .init = setup, .fini = teardown)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (!add_fault((fila_fault){.kind = FILA_FAULT_CUT, .wire_code = 0, .after_messages = 1})) {
        return;
    }
    fila_consumer *consumer = target_consumer(&target, "q");
    target_enqueue(&target, "q", "1");
    target_enqueue(&target, "q", "2");
    fila_message_free(target_next(consumer));
    cr_expect_eq(fila_consumer_next(consumer, 5000, &message, &error), FILA_BROKER_UNAVAILABLE);
    cr_expect_str_eq(error.text, "the broker ended the stream in good order: open another");
    cr_expect(error.retryable);
    fila_consumer_free(consumer);
}

Test(broker_consume, a_stream_cut_with_an_error, .init = setup, .fini = teardown)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (!add_fault((fila_fault){.kind = FILA_FAULT_CUT, .wire_code = 14, .after_messages = 1})) {
        return;
    }
    fila_consumer *consumer = target_consumer(&target, "q");
    target_enqueue(&target, "q", "1");
    fila_message_free(target_next(consumer));
    cr_expect_eq(fila_consumer_next(consumer, 5000, &message, &error), FILA_BROKER_UNAVAILABLE);
    cr_expect_eq(error.wire_code, 14);
    fila_consumer_free(consumer);
}

Test(broker_consume, a_closed_broker_ends_the_stream, .init = setup, .fini = teardown)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (target.kind == TARGET_SERVER) {
        cr_skip_test("a real server is not closed from here");
        return;
    }
    fila_consumer *consumer = target_consumer(&target, "q");
    target_enqueue(&target, "q", "1");
    fila_message_free(target_next(consumer));
    fila_broker_close(target.broker);
    cr_expect_eq(fila_consumer_next(consumer, 5000, &message, &error), FILA_BROKER_UNAVAILABLE);
    cr_expect(error.retryable);
    fila_consumer_free(consumer);
}

Test(
    broker_consume,
    a_message_over_the_receive_limit_ends_the_stream,
    .init = setup,
    .fini = teardown)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    char *bytes = calloc(1, 100000);
    fila_view payload = {bytes, 100000};
    if (target.kind == TARGET_EMBEDDED) {
        cr_skip_test("nothing is received in process");
        return;
    }
    target.options.receive_limit = 65536;
    fila_client *small = target_client(&target);
    fila_consumer *consumer = NULL;
    cr_assert_eq(fila_enqueue(small, V("q"), NULL, 0, payload, NULL, &error), FILA_OK);
    cr_assert_eq(fila_consumer_open(small, V("q"), NULL, NULL, &consumer, NULL), FILA_OK);
    cr_expect_eq(fila_consumer_next(consumer, 5000, &message, &error), FILA_TOO_LARGE);
    cr_expect(strstr(error.text, "over the receive limit of 65536") != NULL, "%s", error.text);
    fila_consumer_free(consumer);
    fila_client_free(small);
    free(bytes);
}
