/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * FILA_FAULT_HALF_OPEN: one connection of the embedded broker is dead without being closed, while
 * the others live; clients with keepalive notice, and when it comes back nothing of it is lost.
 */
#include "fila/broker.h"
#include "grpc/rig.h"
#include "server/h2_socket.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONG  30000 /* ms: longer than any test waits when all is well */
#define QUIET 400   /* in which nothing must come */

static const char ENQUEUE[] = "/fila.v1.FilaService/Enqueue";

struct world {
    fila_broker *broker;
    struct fila_transport *t; /* a connection that no fault meets */
};

static void call(struct fila_transport *t, const fila_request *request, struct ask *ask)
{
    *ask = (struct ask){.done = 0};
    ask_call(t, ask, request, LONG);
    cr_assert(rig_until(t, &ask->done, 1, LONG));
    cr_assert(eq(int, ask->unary.error.code, FILA_OK), "%s", ask->unary.error.text);
}

static struct world world_open(void)
{
    struct world world = {NULL, NULL};
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    struct ask ask;
    fila_error error;
    options.listen = "127.0.0.1:0";
    cr_assert(eq(int, fila_broker_open(&options, &world.broker, &error), FILA_OK));
    fila_client_options client = rig_options(fila_broker_port(world.broker));
    world.t = rig_open(&client);
    request.as.create_queue.name = fila_view_of("orders");
    request.as.create_queue.visibility_timeout_ms = 600000;
    call(world.t, &request, &ask);
    fila_reply_free(ask.reply);
    return world;
}

static void world_close(struct world *world)
{
    rig_close(world->t);
    fila_broker_free(world->broker);
}

static void chaos(struct world *world, const char *spec)
{
    fila_error error;
    cr_assert(
        eq(int, fila_broker_add_chaos(world->broker, spec, NULL, &error), FILA_OK), "%s",
        error.text);
}

static fila_queue_stats stats(struct world *world)
{
    fila_request request = {.call = FILA_CALL_GET_STATS};
    struct ask ask;
    request.as.queue.queue = fila_view_of("orders");
    call(world->t, &request, &ask);
    fila_queue_stats numbers = ask.reply->as.stats;
    fila_reply_free(ask.reply);
    return numbers;
}

static void publish(struct world *world, const char *payload)
{
    struct ask ask = {0};
    ask_publish(world->t, &ask, "orders", fila_view_of(payload), LONG);
    cr_assert(rig_until(world->t, &ask.done, 1, LONG));
    cr_assert(eq(int, ask.publish.error.code, FILA_OK), "%s", ask.publish.error.text);
}

/* ---- On the wire ---- */

/* A connection that is served: its first ping was answered. */
static int connect_and_ping(struct world *world)
{
    struct h2_frame frame;
    int fd = h2_connect(fila_broker_port(world->broker));
    cr_assert(h2_write(fd, H2_PING, 0, 0, "--alive-", 8));
    do {
        cr_assert(h2_read(fd, &frame));
    } while (frame.type != H2_PING || frame.flags != 1);
    return fd;
}

/* What gRPC sent of itself, at the moment of the fault, may still be on its way. */
static void expect_silence(int fd)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};
    struct h2_frame frame;
    while (poll(&in, 1, QUIET) != 0) {
        cr_assert(h2_read(fd, &frame), "it was closed");
        cr_expect(
            frame.type == H2_WINDOW || frame.type == H2_SETTINGS ||
                (frame.type == H2_PING && frame.flags == 0),
            "a frame of type %d came", frame.type);
    }
}

Test(half_open, one_connection_is_dead_and_comes_back)
{
    static const char orders[] = "\x0a\x06orders";
    struct world world = world_open();
    struct h2_frame frame;
    bool answered = false;
    bool pinged = false;
    int fd = connect_and_ping(&world);
    chaos(&world, "enqueue/orders:half-open=3s@1");
    cr_assert(h2_request(fd, 1, ENQUEUE, orders, 8));
    while (stats(&world).depth == 0) { /* it is done */
    }
    cr_assert(h2_write(fd, H2_PING, 0, 0, "anybody?", 8));
    expect_silence(fd);
    publish(&world, "on another connection");
    cr_expect(eq(u64, stats(&world).depth, 2));
    while (!answered || !pinged) {
        cr_assert(h2_read(fd, &frame), "it does not come back");
        answered |= frame.type == H2_HEADERS && frame.stream == 1;
        pinged |= frame.type == H2_PING && memcmp(frame.payload, "anybody?", 8) == 0;
    }
    (void)close(fd);
    world_close(&world);
}

/* Nor is what the kernel tells of itself: the client's end is not seen. */
Test(half_open, for_good_even_when_the_client_closes)
{
    static const char orders[] = "\x0a\x06orders";
    struct world world = world_open();
    int fd = connect_and_ping(&world);
    chaos(&world, "consume:half-open@1");
    cr_assert(h2_request(fd, 1, "/fila.v1.FilaService/Consume", orders, 8));
    while (stats(&world).active_consumers == 0) {
    }
    publish(&world, "leased, and never sent");
    expect_silence(fd);
    (void)close(fd);
    rig_for(world.t, QUIET);
    cr_expect(eq(u32, stats(&world).active_consumers, 1), "contract A6");
    cr_expect(eq(u64, stats(&world).in_flight, 1));
    world_close(&world);
}

Test(half_open, many_calls_wait_and_all_are_answered)
{
    enum {
        CALLS = 200
    };

    static const char orders[] = "\x0a\x06orders";
    struct world world = world_open();
    struct h2_frame frame;
    unsigned answered = 0;
    int fd = connect_and_ping(&world);
    chaos(&world, "enqueue:half-open=300ms@1");
    for (uint32_t i = 0; i < CALLS; i++) {
        cr_assert(h2_request(fd, 2 * i + 1, ENQUEUE, orders, 8));
    }
    while (answered < CALLS) { /* HEADERS twice: the status ends it */
        cr_assert(h2_read(fd, &frame));
        answered += frame.type == H2_HEADERS && (frame.flags & 1);
    }
    cr_expect(eq(u64, stats(&world).depth, CALLS));
    (void)close(fd);
    world_close(&world);
}

Test(half_open, a_unix_socket_is_silent_too)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    char url[128];
    char address[96];
    fila_broker *broker;
    struct ask ask = {0};
    fila_error error;
    (void)snprintf(address, sizeof address, "unix:/tmp/half-open-%d.sock", (int)getpid());
    (void)snprintf(url, sizeof url, "grpc://%s", address);
    options.listen = address;
    options.chaos = "any:half-open=300ms@1";
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK), "%s", error.text);
    fila_client_options client = rig_options(1);
    client.url = url;
    struct fila_transport *t = rig_open(&client);
    int64_t began = fila_now();
    ask_call(t, &ask, &request, LONG);
    cr_assert(rig_until(t, &ask.done, 1, LONG));
    cr_expect(eq(int, ask.unary.error.code, FILA_OK), "%s", ask.unary.error.text);
    cr_expect(ge(i64, fila_now() - began, 300 * FILA_MS));
    fila_reply_free(ask.reply);
    rig_close(t);
    fila_broker_free(broker);
}

/* ---- What a client makes of it ---- */

static fila_client_options impatient(struct world *world)
{
    fila_client_options options = rig_options(fila_broker_port(world->broker));
    options.keepalive_ms = 500;
    options.keepalive_timeout_ms = 3000;
    return options;
}

Test(half_open, keepalive_notices_and_a_new_connection_works)
{
    struct world world = world_open();
    fila_client_options options = impatient(&world);
    struct fila_transport *t = rig_open(&options);
    struct fila_transport *patient;
    struct watch *dead = calloc(1, sizeof *dead);
    struct watch *next = calloc(1, sizeof *next);
    struct ask ask = {0};
    chaos(&world, "consume/orders:half-open,after=3@1");
    for (int i = 0; i < 8; i++) {
        publish(&world, "m");
    }
    watch_open(t, dead, 100);
    cr_assert(rig_until(t, &dead->messages, 3, LONG));
    ask_settle(t, &ask, FILA_SETTLE_ACK, "not-answered", 100);
    cr_assert(rig_until(t, &dead->ended, 1, LONG));
    cr_expect(eq(uint, dead->messages, 3), "none after the third");
    cr_expect(eq(int, dead->why.code, FILA_BROKER_UNAVAILABLE));
    cr_expect(/* gRPC's own clock, or the kernel's that gRPC sets to the same time */
              strstr(dead->why.text, "broke: keepalive watchdog timeout") ||
                  strstr(dead->why.text, "broke: recvmsg:Connection timed out"),
              "%s", dead->why.text);
    cr_expect(eq(u32, stats(&world).active_consumers, 1), "the broker has not noticed");
    options = rig_options(fila_broker_port(world.broker));
    patient = rig_open(&options);
    watch_open(patient, next, 100);
    cr_assert(rig_until(patient, &next->opened, 1, LONG));
    for (int i = 0; i < 2; i++) { /* in turns: one of two goes to the dead one */
        publish(&world, "m");
    }
    cr_assert(rig_until(patient, &next->messages, 1, LONG));
    cr_expect(eq(uint, next->ended, 0));
    rig_close(patient);
    rig_close(t);
    watch_free(dead);
    watch_free(next);
    world_close(&world);
}

/* What was sent, and what was not yet, comes when the connection does: in order, once. */
Test(half_open, a_stream_goes_on_where_it_was)
{
    struct world world = world_open();
    fila_client_options options = rig_options(fila_broker_port(world.broker));
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    char text[16];
    chaos(&world, "consume/orders:half-open=3s,after=2");
    watch_open(t, w, 100);
    cr_assert(rig_until(t, &w->opened, 1, LONG));
    for (int i = 0; i < 20; i++) {
        (void)snprintf(text, sizeof text, "m%d", i);
        publish(&world, text);
    }
    cr_assert(rig_until(t, &w->messages, 2, LONG));
    cr_expect(not(rig_until(t, &w->messages, 3, QUIET)));
    cr_assert(rig_until(t, &w->messages, 20, LONG));
    for (int i = 0; i < 20; i++) {
        fila_view payload = fila_message_payload(w->kept[i]);
        (void)snprintf(text, sizeof text, "m%d", i);
        cr_expect(
            payload.len == strlen(text) && memcmp(payload.data, text, payload.len) == 0,
            "%.*s at %d", (int)payload.len, payload.data, i);
    }
    rig_close(t);
    watch_free(w);
    world_close(&world);
}

Test(half_open, in_process_there_is_no_connection_to_lose)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_client_options client = FILA_CLIENT_OPTIONS_INIT;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    struct fila_transport *t = NULL;
    struct ask ask;
    fila_broker *broker;
    fila_error error;
    options.chaos = "any:half-open";
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK));
    client.url = "embedded:";
    client.broker = broker;
    cr_assert(eq(int, fila_embedded_transport.open(&client, &t, &error), FILA_OK));
    call(t, &request, &ask);
    fila_reply_free(ask.reply);
    rig_close(t);
    fila_broker_free(broker);
}
