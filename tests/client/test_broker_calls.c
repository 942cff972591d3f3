/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The client against a broker (see target.h): calls and their errors.
 */
#include "client/target.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#define V(text) ((fila_view){(text), sizeof(text) - 1})

#define NIL_ID "00000000-0000-7000-8000-000000000000"

TestSuite(broker_calls, .timeout = 60);

static struct target target;

static void setup(void)
{
    target_open(&target);
}

static void teardown(void)
{
    target_close(&target);
}

struct row {
    const char *what;
    fila_request request;
    fila_status code;
    int wire_code;
    const char *text; /* NULL: not compared */
};

static void expect_row(const struct row *row)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_status status = fila_call_wait(target.client, &row->request, &reply, &error);
    cr_expect_eq(status, row->code, "%s: %s (%s)", row->what, fila_status_name(status), error.text);
    if (row->code) {
        cr_expect_eq(error.wire_code, row->wire_code, "%s: %d", row->what, error.wire_code);
        cr_expect(!row->text || !strcmp(error.text, row->text), "%s: %s", row->what, error.text);
        cr_expect_eq(reply, NULL);
    }
    fila_reply_free(reply);
}

#define ENQUEUE(q)                            \
    {                                         \
        FILA_CALL_ENQUEUE, 0,                 \
        {                                     \
            .enqueue = { q, NULL, 0, V("p") } \
        }                                     \
    }
#define SETTLE(call, q, i)               \
    {                                    \
        FILA_CALL_##call, 0,             \
        {                                \
            .settle = { q, i, V("why") } \
        }                                \
    }
#define CREATE(q, vt)                           \
    {                                           \
        FILA_CALL_CREATE_QUEUE, 0,              \
        {                                       \
            .create_queue = { q, {0}, {0}, vt } \
        }                                       \
    }
#define QUEUE(call, q)       \
    {                        \
        FILA_CALL_##call, 0, \
        {                    \
            .queue = { q }   \
        }                    \
    }
#define CONFIG(call, k, v)     \
    {                          \
        FILA_CALL_##call, 0,   \
        {                      \
            .config = { k, v } \
        }                      \
    }
#define REDRIVE(q)              \
    {                           \
        FILA_CALL_REDRIVE, 0,   \
        {                       \
            .redrive = { q, 0 } \
        }                       \
    }

/* Contract A2, row by row. */
Test(broker_calls, errors_by_call_and_code, .init = setup, .fini = teardown)
{
    static char long_key[257];
    static char long_value[1025];
    memset(long_key, 'k', sizeof long_key);
    memset(long_value, 'v', sizeof long_value);
    const fila_view key_257 = {long_key, 257};
    const fila_view value_1025 = {long_value, 1025};
    const struct row rows[] = {
        {"enqueue to nowhere", ENQUEUE(V("none")), FILA_QUEUE_NOT_FOUND, 5, "none"},
        {"enqueue to \"\"", ENQUEUE(V("")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"ack, no queue", SETTLE(ACK, V(""), V(NIL_ID)), FILA_INVALID_ARGUMENT, 3, NULL},
        {"ack, no id", SETTLE(ACK, V("q"), V("")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"ack, no uuid", SETTLE(ACK, V("q"), V("x")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"ack, no lease", SETTLE(ACK, V("q"), V(NIL_ID)), FILA_MESSAGE_NOT_FOUND, 5, NULL},
        {"nack, no queue", SETTLE(NACK, V(""), V(NIL_ID)), FILA_INVALID_ARGUMENT, 3, NULL},
        {"nack, no uuid", SETTLE(NACK, V("q"), V("x")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"nack, no lease", SETTLE(NACK, V("q"), V(NIL_ID)), FILA_MESSAGE_NOT_FOUND, 5, NULL},
        {"create \"\"", CREATE(V(""), 0), FILA_INVALID_ARGUMENT, 3, NULL},
        {"create, 999 ms", CREATE(V("fast"), 999), FILA_INVALID_ARGUMENT, 3, NULL},
        {"create", CREATE(V("q"), 1000), FILA_OK, 0, NULL},
        {"create again", CREATE(V("q"), 0), FILA_QUEUE_EXISTS, 6, "q"},
        {"create its dlq", CREATE(V("q.dlq"), 0), FILA_QUEUE_EXISTS, 6, "q.dlq"},
        {"create a lone dlq", CREATE(V("orphan.dlq"), 0), FILA_OK, 0, NULL},
        {"stats of nothing", QUEUE(GET_STATS, V("none")), FILA_QUEUE_NOT_FOUND, 5, "none"},
        {"stats of \"\"", QUEUE(GET_STATS, V("")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"redrive nothing", REDRIVE(V("none.dlq")), FILA_QUEUE_NOT_FOUND, 5, "none.dlq"},
        {"redrive \"\"", REDRIVE(V("")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"redrive no dlq", REDRIVE(V("q")), FILA_INVALID_ARGUMENT, 3, "q"},
        {"redrive an orphan", REDRIVE(V("orphan.dlq")), FILA_PARENT_NOT_FOUND, 9, "orphan"},
        {"set \"\"", CONFIG(SET_CONFIG, V(""), V("v")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"set, long key", CONFIG(SET_CONFIG, key_257, V("v")), FILA_INVALID_ARGUMENT, 3, NULL},
        {"set, long value", CONFIG(SET_CONFIG, V("k"), value_1025), FILA_INVALID_ARGUMENT, 3, NULL},
        {"set, bad throttle", CONFIG(SET_CONFIG, V("throttle.a"), V("x")), FILA_INVALID_ARGUMENT, 3,
         NULL},
        {"get \"\"", CONFIG(GET_CONFIG, V(""), {0}), FILA_INVALID_ARGUMENT, 3, NULL},
        {"get nothing", CONFIG(GET_CONFIG, V("none"), {0}), FILA_OK, 0, NULL},
        {"list, long prefix", CONFIG(LIST_CONFIG, key_257, {0}), FILA_INVALID_ARGUMENT, 3, NULL},
        {"delete", QUEUE(DELETE_QUEUE, V("q")), FILA_OK, 0, NULL},
        {"delete again", QUEUE(DELETE_QUEUE, V("q")), FILA_QUEUE_NOT_FOUND, 5, "q"},
        {"delete its dlq", QUEUE(DELETE_QUEUE, V("q.dlq")), FILA_QUEUE_NOT_FOUND, 5, "q.dlq"},
        {"delete \"\"", QUEUE(DELETE_QUEUE, V("")), FILA_INVALID_ARGUMENT, 3, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect_row(&rows[i]);
    }
}

static fila_reply *wait_for(const fila_request *request)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fila_call_wait(target.client, request, &reply, &error), FILA_OK, "%s", error.text);
    return reply;
}

static void set_config(const char *key, const char *value)
{
    fila_request request = {.call = FILA_CALL_SET_CONFIG};
    request.as.config.key = fila_view_of(key);
    request.as.config.value = fila_view_of(value);
    fila_reply_free(wait_for(&request));
}

Test(broker_calls, config, .init = setup, .fini = teardown)
{
    fila_request get = CONFIG(GET_CONFIG, V("app.b"), {0});
    fila_request list = CONFIG(LIST_CONFIG, V("app."), {0});
    set_config("app.b", "2");
    set_config("app.a", "\xc3\xa9");
    set_config("other", "x");
    set_config("app.c", "gone");
    set_config("app.c", "");
    fila_reply *reply = wait_for(&get);
    cr_expect(view_is(reply->as.get_config.value, "2"));
    fila_reply_free(reply);
    reply = wait_for(&list);
    cr_assert_eq(reply->as.list_config.count, 2);
    cr_expect_eq(reply->as.list_config.total_count, 2);
    cr_expect(view_is(reply->as.list_config.entries[0].key, "app.a"));
    cr_expect(view_is(reply->as.list_config.entries[0].value, "\xc3\xa9"));
    cr_expect(view_is(reply->as.list_config.entries[1].key, "app.b"));
    fila_reply_free(reply);
}

Test(broker_calls, queues_are_listed_and_counted, .init = setup, .fini = teardown)
{
    fila_request list = {.call = FILA_CALL_LIST_QUEUES};
    fila_request stats = QUEUE(GET_STATS, V("orders"));
    target_create(&target, "orders");
    target_create(&target, "alpha");
    target_enqueue(&target, "orders", "1");
    target_enqueue(&target, "orders", "2");
    fila_reply *reply = wait_for(&list);
    const char *names[] = {"alpha", "alpha.dlq", "orders", "orders.dlq"};
    cr_assert_eq(reply->as.list_queues.count, 4);
    for (size_t i = 0; i < 4; i++) {
        cr_expect(view_is(reply->as.list_queues.queues[i].name, names[i]), "%s", names[i]);
    }
    cr_expect_eq(reply->as.list_queues.queues[2].depth, 2);
    fila_reply_free(reply);
    reply = wait_for(&stats);
    cr_expect_eq(reply->as.stats.depth, 2);
    cr_expect_eq(reply->as.stats.in_flight, 0);
    cr_expect_eq(reply->as.stats.quantum, 1000);
    cr_assert_eq(reply->as.stats.key_count, 1);
    cr_expect(view_is(reply->as.stats.keys[0].key, "default"));
    cr_expect_eq(reply->as.stats.keys[0].pending_count, 2);
    fila_reply_free(reply);
}

Test(broker_calls, throttles_are_in_the_stats, .init = setup, .fini = teardown)
{
    fila_request stats = QUEUE(GET_STATS, V("q"));
    target_create(&target, "q");
    set_config("throttle.api", "2.5, 10");
    fila_reply *reply = wait_for(&stats);
    cr_assert_eq(reply->as.stats.throttle_count, 1);
    cr_expect(view_is(reply->as.stats.throttles[0].key, "api"));
    cr_expect_eq(reply->as.stats.throttles[0].rate_per_second, 2.5);
    cr_expect_eq(reply->as.stats.throttles[0].burst, 10.0);
    fila_reply_free(reply);
}

Test(broker_calls, redrive_moves_a_dead_letter_back, .init = setup, .fini = teardown)
{
    fila_request redrive = REDRIVE(V("q.dlq"));
    target_create(&target, "q");
    target_enqueue(&target, "q.dlq", "dead");
    fila_reply *reply = wait_for(&redrive);
    cr_expect_eq(reply->as.redrive.redriven, 1);
    fila_reply_free(reply);
    fila_consumer *consumer = target_consumer(&target, "q");
    fila_message *message = target_next(consumer);
    cr_expect(view_is(fila_message_payload(message), "dead"));
    cr_expect(view_is(fila_message_queue(message), "q"));
    target_ack(&target, message);
    fila_message_free(message);
    fila_consumer_free(consumer);
}

/* Servers of the middle time know API keys; the oldest, and the embedded broker, do not. */
Test(broker_calls, api_keys_or_unimplemented, .init = setup, .fini = teardown)
{
    fila_request list = {.call = FILA_CALL_LIST_API_KEYS};
    fila_error error = FILA_ERROR_INIT;
    fila_reply *reply = NULL;
    fila_status status = fila_call_wait(target.client, &list, &reply, &error);
    if (target.kind == TARGET_SERVER && status == FILA_OK) {
        cr_expect_eq(reply->call, FILA_CALL_LIST_API_KEYS);
    } else {
        cr_expect_eq(status, FILA_UNIMPLEMENTED);
        cr_expect_eq(error.wire_code, 12);
        cr_expect(!error.retryable);
    }
    fila_reply_free(reply);
}

/* ---- A broker that misbehaves, or is not there ---- */

static void add_fault(fila_fault fault)
{
    fila_error error = FILA_ERROR_INIT;
    fault.size = sizeof fault;
    cr_assert_eq(fila_broker_add_fault(target.broker, &fault, &error), FILA_OK, "%s", error.text);
}

static bool scripted(void)
{
    if (target.kind == TARGET_SERVER) {
        cr_skip_test("a real server takes no script");
    }
    return target.kind != TARGET_SERVER;
}

Test(broker_calls, overload_is_retryable_and_of_known_outcome, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    if (!scripted()) {
        return;
    }
    target_create(&target, "q");
    add_fault((fila_fault){
        .kind = FILA_FAULT_ERROR, .call = FILA_CALL_ENQUEUE, .nth = 1, .count = 1, .wire_code = 8});
    cr_expect_eq(
        fila_enqueue(target.client, V("q"), NULL, 0, V("p"), NULL, &error), FILA_OVERLOADED);
    cr_expect(error.retryable && !error.outcome_unknown);
    cr_expect_eq(target_stats(&target, "q").depth, 0);
    cr_expect_eq(fila_enqueue(target.client, V("q"), NULL, 0, V("p"), NULL, &error), FILA_OK);
}

Test(broker_calls, a_lost_answer_is_of_unknown_outcome, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    if (!scripted()) {
        return;
    }
    target_create(&target, "q");
    add_fault((fila_fault){
        .kind = FILA_FAULT_LOSE_REPLY,
        .call = FILA_CALL_ENQUEUE,
        .nth = 1,
        .count = 1,
        .wire_code = 14});
    cr_expect_eq(
        fila_enqueue(target.client, V("q"), NULL, 0, V("p"), NULL, &error),
        FILA_BROKER_UNAVAILABLE);
    cr_expect(error.retryable && error.outcome_unknown);
    cr_expect_eq(target_stats(&target, "q").depth, 1, "it was done");
}

Test(broker_calls, a_call_without_an_answer_times_out, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    if (!scripted()) {
        return;
    }
    cr_expect_eq(fila_call_wait(target.client, &request, NULL, &error), FILA_OK); /* connected */
    add_fault(
        (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_LIST_QUEUES, .nth = 1, .count = 1});
    request.timeout_ms = 200;
    cr_expect_eq(fila_call_wait(target.client, &request, NULL, &error), FILA_TIMEOUT);
    request.timeout_ms = 0;
    cr_expect(error.retryable && error.outcome_unknown, "%s", error.text);
    cr_expect_eq(fila_call_wait(target.client, &request, NULL, &error), FILA_OK);
}

Test(broker_calls, a_closed_broker_is_unavailable, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    if (!scripted()) {
        return;
    }
    fila_broker_close(target.broker);
    cr_expect_eq(fila_call_wait(target.client, &request, NULL, &error), FILA_BROKER_UNAVAILABLE);
    cr_expect(error.retryable);
    cr_expect(strlen(error.text) > 5, "%s", error.text);
}

Test(broker_calls, a_client_of_its_own_broker)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_request create = CREATE(V("q"), 0);
    fila_error error = FILA_ERROR_INIT;
    fila_client *client = NULL;
    fila_consumer *consumer = NULL;
    fila_message *message = NULL;
    char id[FILA_ID_SIZE];
    options.url = "embedded:";
    cr_assert_eq(fila_client_open(&options, &client, &error), FILA_OK, "%s", error.text);
    cr_expect_eq(fila_call_wait(client, &create, NULL, &error), FILA_OK);
    cr_expect_eq(fila_enqueue(client, V("q"), NULL, 0, V("hello"), id, &error), FILA_OK);
    cr_assert_eq(fila_consumer_open(client, V("q"), NULL, NULL, &consumer, &error), FILA_OK);
    cr_assert_eq(fila_consumer_next(consumer, 5000, &message, &error), FILA_OK);
    cr_expect(view_is(fila_message_id(message), id));
    fila_consumer_free(consumer);
    fila_client_free(client);
    cr_expect(view_is(fila_message_payload(message), "hello"), "it outlives the broker");
    fila_message_free(message);
}
