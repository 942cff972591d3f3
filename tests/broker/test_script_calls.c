/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Queue scripts through the service: created with a queue, run by enqueues and nacks, gone with it.
 */
#include "service_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>

static fila_status create(
    fila_broker *broker,
    const char *queue,
    const char *on_enqueue,
    const char *on_failure,
    uint64_t visibility_timeout_ms,
    fila_error *ret_error)
{
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    request.as.create_queue.name = fila_view_of(queue);
    request.as.create_queue.on_enqueue_script = fila_view_of(on_enqueue);
    request.as.create_queue.on_failure_script = fila_view_of(on_failure);
    request.as.create_queue.visibility_timeout_ms = visibility_timeout_ms;
    return ask_call(broker, &request, ret_error);
}

static void set_config(fila_broker *broker, const char *key, const char *value)
{
    fila_request request = {.call = FILA_CALL_SET_CONFIG};
    fila_error error;
    request.as.config.key = fila_view_of(key);
    request.as.config.value = fila_view_of(value);
    cr_assert(eq(int, ask_call(broker, &request, &error), FILA_OK), "%s", error.text);
}

static void put(fila_broker *broker, const char *queue, const char *tenant)
{
    fila_header header = {{"tenant", 6}, fila_view_of(tenant)};
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    fila_error error;
    request.as.enqueue.queue = fila_view_of(queue);
    request.as.enqueue.headers = &header;
    request.as.enqueue.header_count = 1;
    cr_assert(eq(int, ask_call(broker, &request, &error), FILA_OK), "%s", error.text);
}

/* The next message: "queue key weight attempt first-throttle-key", and its id; "" without one. */
static const char *take(struct reader *reader, char id[FILA_ID_SIZE])
{
    static char text[256];
    struct fb_delivery delivery;
    fila_error end;
    text[0] = '\0';
    if (fb_consumer_take(reader->consumer, &delivery, &end) == FB_TAKE_MESSAGE) {
        const struct fila_message_fields *f = &delivery.fields;
        fila_view throttle = f->throttle_key_count ? f->throttle_keys[0] : fila_view_of("-");
        (void)snprintf(
            text, sizeof text, "%.*s %.*s %u %u %.*s", (int)f->queue.len, f->queue.data,
            (int)f->fairness_key.len, f->fairness_key.data, f->weight, f->attempt_count,
            (int)throttle.len, throttle.data);
        (void)snprintf(id, FILA_ID_SIZE, "%.*s", (int)f->id.len, f->id.data);
        fb_delivery_release(&delivery);
    }
    return text;
}

static fila_status nack(fila_broker *broker, const char *queue, const char *id, const char *reason)
{
    fila_request request = {.call = FILA_CALL_NACK};
    fila_error error;
    request.as.settle.queue = fila_view_of(queue);
    request.as.settle.message_id = fila_view_of(id);
    request.as.settle.error = fila_view_of(reason);
    return ask_call(broker, &request, &error);
}

#define EXPECT_TAKE(reader, id, text) \
    cr_expect(eq(str, (char *)(uintptr_t)take(reader, id), (char *)(uintptr_t)(text)))

static const char KEYED[] = "function on_enqueue(msg) return { fairness_key = msg.headers.tenant, "
                            "weight = fila.get('weight:' .. msg.headers.tenant), throttle_keys = { "
                            "'t:' .. msg.headers.tenant } } end";
static const char THIRD[] =
    "function on_failure(msg) return { action = msg.attempts >= 3 and 'dlq' or 'retry' } end";

Test(script_calls, B8_on_enqueue_decides_what_is_delivered)
{
    fila_broker *broker = broker_open(100, 100);
    struct reader *reader = reader_open(broker, "q");
    char id[FILA_ID_SIZE];
    fila_error error;
    cr_assert(eq(int, create(broker, "q", KEYED, NULL, 0, &error), FILA_OK), "%s", error.text);
    put(broker, "q", "acme");
    EXPECT_TAKE(reader, id, "q acme 1 0 t:acme");
    set_config(broker, "weight:acme", "5");
    put(broker, "q", "acme");
    EXPECT_TAKE(reader, id, "q acme 5 0 t:acme");
    set_config(broker, "weight:acme", "");
    put(broker, "q", "acme");
    EXPECT_TAKE(reader, id, "q acme 1 0 t:acme");
    reader_close(reader);
    fila_broker_free(broker);
}

Test(script_calls, B9_throttle_keys_throttle)
{
    fila_broker *broker = broker_open(20, 100);
    struct reader *reader;
    char id[FILA_ID_SIZE];
    fila_error error;
    cr_assert(eq(int, create(broker, "q", KEYED, NULL, 0, &error), FILA_OK), "%s", error.text);
    set_config(broker, "throttle.t:acme", "0,1");
    put(broker, "q", "acme");
    put(broker, "q", "acme");
    put(broker, "q", "other");
    reader = reader_open(broker, "q");
    EXPECT_TAKE(reader, id, "q acme 1 0 t:acme");
    EXPECT_TAKE(reader, id, "q other 1 0 t:other");
    EXPECT_TAKE(reader, id, "");
    reader_close(reader);
    fila_broker_free(broker);
}

Test(script_calls, B7_on_failure_moves_to_the_dlq)
{
    fila_broker *broker = broker_open(100, 100);
    struct reader *reader = reader_open(broker, "q");
    struct reader *dlq = reader_open(broker, "q.dlq");
    char id[FILA_ID_SIZE];
    char moved[FILA_ID_SIZE];
    fila_error error;
    cr_assert(eq(int, create(broker, "q", KEYED, THIRD, 0, &error), FILA_OK), "%s", error.text);
    put(broker, "q", "acme");
    EXPECT_TAKE(reader, id, "q acme 1 0 t:acme");
    cr_expect(eq(int, nack(broker, "q", id, "no"), FILA_OK));
    EXPECT_TAKE(reader, id, "q acme 1 1 t:acme");
    cr_expect(eq(int, nack(broker, "q", id, "no"), FILA_OK));
    EXPECT_TAKE(reader, id, "q acme 1 2 t:acme");
    cr_expect(eq(int, nack(broker, "q", id, "no"), FILA_OK));
    EXPECT_TAKE(reader, id, "");
    EXPECT_TAKE(dlq, moved, "q.dlq acme 1 3 t:acme");
    cr_expect(eq(str, moved, id));
    reader_close(dlq);
    reader_close(reader);
    fila_broker_free(broker);
}

Test(script_calls, B13_without_a_dlq_it_is_a_retry)
{
    fila_broker *broker = broker_open(100, 100);
    struct reader *reader = reader_open(broker, "q");
    fila_request gone = {.call = FILA_CALL_DELETE_QUEUE, .as.queue = {.queue = VIEW("q.dlq")}};
    char id[FILA_ID_SIZE];
    fila_error error;
    cr_assert(eq(
        int,
        create(broker, "q", NULL, "function on_failure() return { action = 'dlq' } end", 0, &error),
        FILA_OK));
    cr_assert(eq(int, ask_call(broker, &gone, &error), FILA_OK));
    put(broker, "q", "acme");
    EXPECT_TAKE(reader, id, "q default 1 0 -");
    cr_expect(eq(int, nack(broker, "q", id, "no"), FILA_OK));
    EXPECT_TAKE(reader, id, "q default 1 1 -");
    reader_close(reader);
    fila_broker_free(broker);
}

Test(script_calls, B12_a_deleted_queue_has_no_scripts)
{
    fila_broker *broker = broker_open(100, 100);
    struct reader *reader = reader_open(broker, "q");
    fila_request gone = {.call = FILA_CALL_DELETE_QUEUE, .as.queue = {.queue = VIEW("q")}};
    char id[FILA_ID_SIZE];
    fila_error error;
    cr_assert(eq(int, create(broker, "q", KEYED, THIRD, 0, &error), FILA_OK));
    put(broker, "q", "acme");
    EXPECT_TAKE(reader, id, "q acme 1 0 t:acme");
    cr_assert(eq(int, ask_call(broker, &gone, &error), FILA_OK));
    for (int i = 1; i < 6; i++) { /* beyond the third */
        cr_expect(eq(int, nack(broker, "q", id, "no"), FILA_OK));
        cr_expect(ne(int, *take(reader, id), '\0'), "%d", i);
    }
    cr_assert(eq(int, create(broker, "q", NULL, NULL, 0, &error), FILA_OK));
    put(broker, "q", "acme");
    EXPECT_TAKE(reader, id, "q default 1 0 -");
    reader_close(reader);
    fila_broker_free(broker);
}

Test(script_calls, A2_the_order_of_a_create_s_checks)
{
    fila_broker *broker = broker_open(100, 100);
    fila_error error;
    cr_expect(eq(int, create(broker, "q", "(", NULL, 999, &error), FILA_INVALID_ARGUMENT));
    cr_expect(eq(str, error.text, "visibility_timeout_ms must be 0 or at least 1000"));
    cr_expect(eq(int, create(broker, "q", "(", NULL, 0, &error), FILA_INVALID_ARGUMENT));
    cr_expect(eq(int, error.wire_code, 3));
    cr_expect(eq(str, error.text, "[string \"on_enqueue\"]:1: unexpected symbol near <eof>"));
    cr_expect(eq(int, create(broker, "q", KEYED, ")", 0, &error), FILA_INVALID_ARGUMENT));
    cr_expect(eq(str, error.text, "[string \"on_failure\"]:1: unexpected symbol near ')'"));
    cr_expect(eq(int, create(broker, "q", NULL, NULL, 0, &error), FILA_OK), "nothing was left");
    cr_expect(eq(int, create(broker, "q", "(", NULL, 0, &error), FILA_QUEUE_EXISTS));
    cr_expect(eq(str, error.text, "q"));
    cr_expect(eq(int, create(broker, "q", KEYED, NULL, 0, &error), FILA_QUEUE_EXISTS));
    fila_broker_free(broker);
}

struct told {
    uint32_t count;
    bool bypassed;
    char text[256];
};

static void on_script_failure(void *user, const fila_script_failure *failure)
{
    struct told *told = user;
    told->count++;
    told->bypassed = failure->bypassed;
    (void)snprintf(
        told->text, sizeof told->text, "%.*s %s %s", (int)failure->queue.len, failure->queue.data,
        failure->hook, failure->text);
}

Test(script_calls, failures_are_told)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    struct told told = {0};
    fila_broker *broker = NULL;
    struct reader *reader;
    char id[FILA_ID_SIZE];
    fila_error error;
    options.on_script_failure = on_script_failure;
    options.user = &told;
    options.script_failures = 2;
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK));
    cr_assert(eq(int, create(broker, "q", "function on_enqueue() end", NULL, 0, &error), FILA_OK));
    put(broker, "q", "acme");
    cr_expect(eq(int, told.count, 1));
    cr_expect(eq(str, told.text, "q on_enqueue on_enqueue returned a nil value, not a table"));
    cr_expect(not(told.bypassed));
    put(broker, "q", "acme");
    cr_expect(told.bypassed);
    put(broker, "q", "acme");
    cr_expect(eq(int, told.count, 2));
    reader = reader_open(broker, "q");
    for (int i = 0; i < 3; i++) {
        EXPECT_TAKE(reader, id, "q default 1 0 -");
    }
    reader_close(reader);
    fila_broker_free(broker);
}

Test(script_calls, limits_of_nothing_are_refused)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    fila_error error;
    options.script_timeout_ms = 0;
    cr_expect(eq(int, fila_broker_open(&options, &broker, &error), FILA_INVALID_ARGUMENT));
    cr_expect(eq(str, error.text, "script_timeout_ms is 0: must be at least 1"));
    options.script_timeout_ms = 1;
    options.script_failures = 0;
    cr_expect(eq(int, fila_broker_open(&options, &broker, &error), FILA_INVALID_ARGUMENT));
    cr_expect(eq(str, error.text, "script_failures is 0: must be at least 1"));
}
