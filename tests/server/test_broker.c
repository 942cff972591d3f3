/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The embedded broker as a client on the wire meets it: a message's life, the codes and texts of
 * contract A2, the answers of the admin calls, scripted faults, and the end.
 */
#include "server/raw_client.h"
#include "wire/codec.h"

#include <fila/broker.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    SOON = 10000
}; /* ms; a test that waits this long fails */

#define VIEW(text)               \
    {                            \
        (text), sizeof(text) - 1 \
    }

struct world {
    fila_broker *broker;
    struct raw_client *client;
};

static void check(struct raw_client *client, fila_request request, int code, const char *text)
{
    struct raw_end end = raw_request(client, &request);
    cr_expect(eq(int, end.code, code), "%s: %s", fila_call_name(request.call), end.text);
    if (text) {
        cr_expect(eq(str, end.text, (char *)text));
    }
    raw_end_free(&end);
}

static fila_request create_request(const char *name)
{
    return (fila_request){
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue = {.name = fila_view_of(name), .visibility_timeout_ms = 1000}};
}

static fila_request enqueue_request(const char *queue, const char *payload)
{
    static const fila_header headers[] = {{VIEW("tenant"), VIEW("caf\xc3\xa9")}};
    return (fila_request){
        .call = FILA_CALL_ENQUEUE,
        .as.enqueue = {
            .queue = fila_view_of(queue),
            .headers = headers,
            .header_count = 1,
            .payload = fila_view_of(payload)}};
}

static fila_request settle_request(fila_call call, const fila_message *message)
{
    return (fila_request){
        .call = call,
        .as.settle = {
            .queue = fila_message_queue(message), .message_id = fila_message_id(message)}};
}

/* A broker with the queue "q" and an idle timeout of 1 ms, so that leases end when they should. */
static struct world world_open(void)
{
    struct world world = {0};
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_error error;
    options.listen = "127.0.0.1:0";
    options.idle_timeout_ms = 1;
    cr_assert(eq(int, fila_broker_open(&options, &world.broker, &error), 0), "%s", error.text);
    world.client = raw_open_port(fila_broker_port(world.broker));
    check(world.client, create_request("q"), 0, "");
    return world;
}

static void world_close(struct world *world)
{
    raw_close(world->client);
    fila_broker_free(world->broker);
}

static void add_fault(struct world *world, fila_fault fault)
{
    fila_error error;
    fault.size = sizeof fault;
    fault.nth = 1;
    cr_assert(eq(int, fila_broker_add_fault(world->broker, &fault, &error), 0));
}

static struct raw_call *consume(struct world *world)
{
    struct raw_call *stream = raw_consume(world->client, "q");
    cr_assert(raw_headers(stream, SOON));
    return stream;
}

static fila_message *next(struct raw_call *stream)
{
    fila_message *message = raw_next(stream, SOON, NULL);
    cr_assert(ne(ptr, message, NULL));
    return message;
}

static void check_payload(const fila_message *message, const char *text)
{
    fila_view payload = fila_message_payload(message);
    cr_expect(eq(sz, payload.len, strlen(text)));
    cr_expect(eq(int, memcmp(payload.data, text, payload.len), 0));
}

static void check_finish(struct raw_call *call, int code, const char *text)
{
    struct raw_end end = raw_finish(call);
    cr_expect(eq(int, end.code, code), "%s", end.text);
    if (text) {
        cr_expect(eq(str, end.text, (char *)text));
    }
    raw_end_free(&end);
}

static void cancel(struct raw_call *stream)
{
    raw_cancel(stream);
    check_finish(stream, 1, NULL);
}

/* ---- A message's life ---- */

Test(server_broker, a_message_is_delivered_with_all_that_it_has_and_acked_once)
{
    struct world world = world_open();
    struct raw_call *stream = consume(&world);
    check(world.client, enqueue_request("q", "hello"), 0, "");
    fila_message *message = next(stream);
    fila_view value;
    check_payload(message, "hello");
    cr_expect(eq(sz, fila_message_id(message).len, 36));
    cr_expect(eq(u32, fila_message_attempt_count(message), 0));
    cr_expect(eq(u32, fila_message_weight(message), 1));
    cr_expect(gt(i64, fila_message_enqueued_ms(message), 0));
    cr_expect(eq(int, strncmp(fila_message_queue(message).data, "q", 1), 0));
    cr_expect(eq(int, strncmp(fila_message_fairness_key(message).data, "default", 7), 0));
    cr_assert(fila_message_header(message, fila_view_of("tenant"), &value));
    cr_expect(eq(int, strncmp(value.data, "caf\xc3\xa9", 5), 0));
    check(world.client, settle_request(FILA_CALL_ACK, message), 0, "");
    check(world.client, settle_request(FILA_CALL_ACK, message), 5, NULL);
    fila_message_free(message);
    cancel(stream);
    world_close(&world);
}

Test(server_broker, a_nacked_message_comes_again)
{
    struct world world = world_open();
    struct raw_call *stream = consume(&world);
    check(world.client, enqueue_request("q", "again"), 0, "");
    for (uint32_t attempt = 0; attempt < 5; attempt++) {
        fila_message *message = next(stream);
        check_payload(message, "again");
        cr_expect(eq(u32, fila_message_attempt_count(message), attempt));
        check(world.client, settle_request(FILA_CALL_NACK, message), 0, "");
        fila_message_free(message);
    }
    cancel(stream);
    world_close(&world);
}

Test(server_broker, what_a_cancelled_stream_held_comes_back_after_its_lease)
{
    struct world world = world_open();
    struct raw_call *stream = consume(&world);
    check(world.client, enqueue_request("q", "x"), 0, "");
    fila_message_free(next(stream));
    cancel(stream);
    stream = consume(&world);
    bool quiet;
    cr_expect(eq(ptr, raw_next(stream, 300, &quiet), NULL), "its lease was taken away");
    cr_expect(quiet);
    fila_message *message = next(stream);
    cr_expect(eq(u32, fila_message_attempt_count(message), 1));
    fila_message_free(message);
    cancel(stream);
    world_close(&world);
}

Test(server_broker, a_message_of_4_mib_goes_through)
{
    struct world world = world_open();
    fila_request request = enqueue_request("q", "");
    size_t size = 4194304 - fila_request_size(&request) - 5; /* tag and length */
    char *payload = malloc(size);
    for (size_t i = 0; i < size; i++) {
        payload[i] = (char)(i * 31);
    }
    request.as.enqueue.payload = (fila_view){payload, size};
    cr_assert(eq(sz, fila_request_size(&request), 4194304));
    struct raw_call *stream = consume(&world);
    check(world.client, request, 0, "");
    fila_message *message = next(stream);
    fila_view got = fila_message_payload(message);
    cr_assert(eq(sz, got.len, size));
    cr_expect(eq(int, memcmp(got.data, payload, size), 0));
    fila_message_free(message);
    cancel(stream);
    free(payload);
    world_close(&world);
}

/* ---- Codes and texts ---- */

#define NO_LEASE_ID "01890a5d-ac96-774b-bcce-b302099a8057"

Test(server_broker, codes_and_texts_of_contract_a2)
{
    static const struct {
        fila_request request;
        int code;
        const char *text;
    } rows[] = {
        {{.call = FILA_CALL_ENQUEUE}, 3, "the queue name is empty"},
        {{.call = FILA_CALL_CONSUME}, 3, "the queue name is empty"},
        {{.call = FILA_CALL_ENQUEUE, .as.enqueue.queue = VIEW("none")}, 5, "none"},
        {{.call = FILA_CALL_ACK, .as.settle.queue = VIEW("q")}, 3, "the message id is empty"},
        {{.call = FILA_CALL_NACK, .as.settle = {VIEW("q"), VIEW("x"), VIEW("")}},
         3,
         "the message id is no UUID"},
        {{.call = FILA_CALL_ACK, .as.settle = {VIEW("q"), VIEW(NO_LEASE_ID), VIEW("")}},
         5,
         "message " NO_LEASE_ID " has no lease in queue q"},
        {{.call = FILA_CALL_CREATE_QUEUE, .as.create_queue.name = VIEW("q")}, 6, "q"},
        {{.call = FILA_CALL_DELETE_QUEUE, .as.queue.queue = VIEW("none")}, 5, "none"},
        {{.call = FILA_CALL_GET_STATS, .as.queue.queue = VIEW("none")}, 5, "none"},
        {{.call = FILA_CALL_REDRIVE, .as.redrive.dlq_queue = VIEW("q")}, 3, "q"},
        {{.call = FILA_CALL_REDRIVE, .as.redrive.dlq_queue = VIEW("none.dlq")}, 5, "none.dlq"},
        {{.call = FILA_CALL_CREATE_API_KEY, .as.create_api_key.name = VIEW("k")}, 12, NULL},
    };
    struct world world = world_open();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check(world.client, rows[i].request, rows[i].code, rows[i].text);
    }
    world_close(&world);
}

/* ---- Admin ---- */

/* The decoded answer; its bytes stay in *ret_end. */
static fila_reply ask(
    struct world *world,
    fila_request request,
    struct raw_end *ret_end,
    struct fila_scratch *scratch)
{
    fila_reply reply;
    fila_error error;
    *ret_end = raw_request(world->client, &request);
    cr_assert(eq(int, ret_end->code, 0), "%s", ret_end->text);
    cr_assert(eq(
        int, fila_reply_read(request.call, ret_end->bytes, ret_end->len, scratch, &reply, &error),
        0));
    return reply;
}

static bool is(fila_view view, const char *text)
{
    return view.len == strlen(text) && memcmp(view.data, text, view.len) == 0;
}

Test(server_broker, stats_and_lists)
{
    struct world world = world_open();
    struct fila_scratch scratch = {0};
    struct raw_end end;
    check(world.client, enqueue_request("q", "1"), 0, "");
    check(world.client, enqueue_request("q", "2"), 0, "");
    struct raw_call *stream = consume(&world);
    fila_message_free(next(stream));
    fila_message_free(next(stream));
    check(world.client, enqueue_request("q", "3"), 0, "");
    fila_message_free(next(stream));
    fila_reply reply =
        ask(&world, (fila_request){.call = FILA_CALL_GET_STATS, .as.queue.queue = VIEW("q")}, &end,
            &scratch);
    cr_expect(eq(u64, reply.as.stats.depth, 3));
    cr_expect(eq(u64, reply.as.stats.in_flight, 3));
    cr_expect(eq(u32, reply.as.stats.active_consumers, 1));
    cr_expect(eq(u32, reply.as.stats.quantum, 1000));
    raw_end_free(&end);
    reply = ask(&world, (fila_request){.call = FILA_CALL_LIST_QUEUES}, &end, &scratch);
    bool found = false;
    for (size_t i = 0; i < reply.as.list_queues.count; i++) {
        found |= is(reply.as.list_queues.queues[i].name, "q") &&
                 reply.as.list_queues.queues[i].in_flight == 3;
    }
    cr_expect(found);
    raw_end_free(&end);
    cancel(stream);
    fila_scratch_free(&scratch);
    world_close(&world);
}

Test(server_broker, config_is_kept)
{
    struct world world = world_open();
    struct fila_scratch scratch = {0};
    struct raw_end end;
    check(
        world.client,
        (fila_request){.call = FILA_CALL_SET_CONFIG, .as.config = {VIEW("a.b"), VIEW("value")}}, 0,
        "");
    fila_reply reply =
        ask(&world, (fila_request){.call = FILA_CALL_GET_CONFIG, .as.config.key = VIEW("a.b")},
            &end, &scratch);
    cr_expect(is(reply.as.get_config.value, "value"));
    raw_end_free(&end);
    reply =
        ask(&world, (fila_request){.call = FILA_CALL_GET_CONFIG, .as.config.key = VIEW("none")},
            &end, &scratch);
    cr_expect(is(reply.as.get_config.value, ""));
    raw_end_free(&end);
    reply =
        ask(&world, (fila_request){.call = FILA_CALL_LIST_CONFIG, .as.config.key = VIEW("a.")},
            &end, &scratch);
    cr_assert(eq(sz, reply.as.list_config.count, 1));
    cr_expect(is(reply.as.list_config.entries[0].key, "a.b"));
    raw_end_free(&end);
    fila_scratch_free(&scratch);
    world_close(&world);
}

Test(server_broker, a_deleted_queue_leaves_its_streams_open)
{
    struct world world = world_open();
    struct raw_call *stream = consume(&world);
    bool quiet;
    check(
        world.client, (fila_request){.call = FILA_CALL_DELETE_QUEUE, .as.queue.queue = VIEW("q")},
        0, "");
    cr_expect(eq(ptr, raw_next(stream, 100, &quiet), NULL));
    cr_expect(quiet);
    check(world.client, create_request("q"), 0, "");
    check(world.client, enqueue_request("q", "back"), 0, "");
    fila_message *message = next(stream);
    check_payload(message, "back");
    fila_message_free(message);
    cancel(stream);
    world_close(&world);
}

/* ---- Faults ---- */

Test(server_broker, a_scripted_error_is_answered)
{
    struct world world = world_open();
    add_fault(
        &world,
        (fila_fault){
            .kind = FILA_FAULT_ERROR, .call = FILA_CALL_ENQUEUE, .count = 1, .wire_code = 14});
    check(world.client, enqueue_request("q", "x"), 14, "scripted fault");
    check(world.client, enqueue_request("q", "x"), 0, "");
    world_close(&world);
}

Test(server_broker, a_delayed_answer_comes_late_and_holds_nobody_up)
{
    struct world world = world_open();
    fila_request slow = enqueue_request("q", "slow");
    add_fault(
        &world,
        (fila_fault){
            .kind = FILA_FAULT_DELAY, .call = FILA_CALL_ENQUEUE, .count = 1, .delay_ms = 300});
    struct raw_call *call = raw_start_request(world.client, &slow);
    struct raw_call *stream = consume(&world);
    fila_message_free(next(stream)); /* done already */
    cr_expect(not(raw_headers(call, 50)), "answered too early");
    check(world.client, enqueue_request("q", "quick"), 0, "");
    check_finish(call, 0, "");
    cancel(stream);
    world_close(&world);
}

Test(server_broker, a_hanging_call_ends_with_the_broker)
{
    struct world world = world_open();
    fila_request request = enqueue_request("q", "x");
    add_fault(&world, (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_ENQUEUE, .count = 2});
    request.timeout_ms = 200;
    check(world.client, request, 4, NULL);
    request.timeout_ms = 20000;
    struct raw_call *call = raw_start_request(world.client, &request);
    cr_expect(not(raw_headers(call, 100)));
    fila_broker_close(world.broker);
    check_finish(call, 14, NULL);
    world_close(&world);
}

Test(server_broker, a_stream_is_cut_after_its_messages)
{
    static const int codes[] = {0, 14, 13};
    struct world world = world_open();
    for (int i = 0; i < 10; i++) {
        check(world.client, enqueue_request("q", "x"), 0, "");
    }
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        add_fault(
            &world, (fila_fault){
                        .kind = FILA_FAULT_CUT,
                        .call = FILA_CALL_CONSUME,
                        .count = 1,
                        .wire_code = codes[i],
                        .after_messages = 3});
        struct raw_call *stream = consume(&world);
        for (int j = 0; j < 3; j++) {
            fila_message_free(next(stream));
        }
        bool quiet;
        cr_expect(eq(ptr, raw_next(stream, SOON, &quiet), NULL));
        cr_expect(not(quiet));
        check_finish(stream, codes[i], codes[i] ? "scripted fault" : "");
    }
    world_close(&world);
}

Test(server_broker, a_frozen_stream_stays_open_and_silent)
{
    struct world world = world_open();
    add_fault(
        &world,
        (fila_fault){
            .kind = FILA_FAULT_FREEZE, .call = FILA_CALL_CONSUME, .count = 1, .after_messages = 2});
    struct raw_call *stream = consume(&world);
    bool quiet;
    for (int i = 0; i < 5; i++) {
        check(world.client, enqueue_request("q", "x"), 0, "");
    }
    fila_message_free(next(stream));
    fila_message_free(next(stream));
    cr_expect(eq(ptr, raw_next(stream, 200, &quiet), NULL));
    cr_expect(quiet);
    cancel(stream);
    world_close(&world);
}

/* ---- The end ---- */

Test(server_broker, a_closed_broker_ends_streams_with_14)
{
    struct world world = world_open();
    struct raw_call *stream = consume(&world);
    for (int i = 0; i < 10; i++) {
        check(world.client, enqueue_request("q", "x"), 0, "");
    }
    fila_message_free(next(stream));
    fila_broker_close(world.broker);
    fila_broker_close(world.broker);
    check_finish(stream, 14, NULL);
    check(world.client, enqueue_request("q", "x"), 14, NULL);
    world_close(&world);
}

Test(server_broker, two_brokers_cannot_share_a_port)
{
    struct world world = world_open();
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *second;
    fila_error error;
    char address[32];
    char text[128];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", fila_broker_port(world.broker));
    (void)snprintf(text, sizeof text, "cannot listen on %s: Address already in use", address);
    options.listen = address;
    cr_expect(eq(int, fila_broker_open(&options, &second, &error), FILA_BROKER_UNAVAILABLE));
    cr_expect(eq(str, error.text, text));
    world_close(&world);
}
