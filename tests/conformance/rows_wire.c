/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the transport shows: contract A1, the transport's codes of A2, metadata (A3), the Consume
 * stream (A4), sizes and names (A7).
 */
#include "conformance/conformance.h"
#include "server/h2_socket.h"
#include "wire/codec.h"

#include <fila/v1/service.pb-c.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVICE "/fila.v1.FilaService/"
#define ADMIN   "/fila.v1.FilaAdmin/"

enum {
    LIMIT = 4194304 /* bytes of a request */
};

/* ---- A2, the transport's codes ---- */

static void expect_end(struct raw_end end, int code, const char *what)
{
    char text[128];
    if (end.code != code) {
        (void)snprintf(text, sizeof text, "%s: %d", what, code);
        differs(text, "%d %s", end.code, end.text);
    }
    raw_end_free(&end);
}

static void unknown_methods(struct world *w)
{
    static const char *const paths[] = {
        SERVICE "Peek", ADMIN "Peek", "/fila.v1.NoService/Enqueue", "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
    struct raw_client *client = world_raw(w);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        expect_end(raw_unary(client, paths[i], "", 0, SOON), 12, paths[i]);
    }
    raw_close(client);
}

static void rubbish(struct world *w)
{
    static const struct {
        const char *path;
        const char *bytes;
        size_t len;
    } bodies[] = {
        {SERVICE "Enqueue", "\xff\xff\xff", 3},
        {SERVICE "Enqueue", "\x0a\x05q", 3},        /* a text that runs past the end */
        {SERVICE "Enqueue", "\x0a\x02\xff\xfe", 4}, /* not UTF-8 */
        {SERVICE "Enqueue", "\x0a\x01q\x12\x04\x0a\x02\xc3(", 9}, /* nor a header's key */
        {SERVICE "Consume", "\x0a\x02\xff\xfe", 4},
        {SERVICE "Ack", "\x08\x01", 2}, /* a number where a text should be */
        {ADMIN "CreateQueue", "\x12\x7f", 2},
        {ADMIN "Redrive", "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},
    };
    struct raw_client *client = world_raw(w);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        char what[80];
        (void)snprintf(what, sizeof what, "undecodable body %zu of %s", i, bodies[i].path);
        expect_end(
            raw_unary(client, bodies[i].path, bodies[i].bytes, bodies[i].len, SOON), 13, what);
    }
    raw_close(client);
}

static void compressed(struct world *w)
{
    static char payload[20000];
    fila_request request = {
        .call = FILA_CALL_ENQUEUE,
        .as.enqueue = {.queue = fila_view_of(w->q), .payload = {payload, sizeof payload}}};
    struct raw_client *client = raw_open_gzip(w->port);
    memset(payload, 'x', sizeof payload);
    expect_end(raw_request(client, &request), 12, "a compressed request");
    raw_close(client);
}

/* An Enqueue of exactly `size` bytes. */
static char *sized(fila_request *request, const char *queue, size_t size)
{
    *request = (fila_request){
        .call = FILA_CALL_ENQUEUE, .timeout_ms = SOON, .as.enqueue.queue = fila_view_of(queue)};
    char *payload = malloc(size);
    if (!payload) {
        abort();
    }
    memset(payload, 'p', size);
    request->as.enqueue.payload = (fila_view){payload, size};
    request->as.enqueue.payload.len -= fila_request_size(request) - size;
    return payload;
}

static void limit(struct world *w)
{
    fila_request request;
    struct raw_client *client = world_raw(w);
    create(w, NULL, 0);
    char *payload = sized(&request, w->q, LIMIT);
    expect_number("the request's size", (int64_t)fila_request_size(&request), LIMIT);
    expect_end(raw_request(client, &request), 0, "a request of 4,194,304 bytes");
    free(payload);
    payload = sized(&request, w->q, LIMIT + 1);
    expect_end(raw_request(client, &request), 11, "a request of 4,194,305 bytes");
    free(payload);
    raw_close(client);
    delete_queue(w, NULL);
}

/* ---- A3 ---- */

static void auth_is_ignored(struct world *w)
{
    fila_client *before = w->client;
    w->client = world_client(w, "no-such-key", 0);
    create(w, NULL, 0);
    enqueue(w, NULL, "x", NULL);
    expect_next(open_stream(w, NULL), "x", 0, NULL);
    world_tidy(w);
    fila_client_free(w->client);
    w->client = before;
}

static void no_metadata(struct world *w)
{
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    struct raw_client *client = world_raw(w);
    struct raw_end end = raw_request(client, &request);
    expect_number("metadata that the server adds", (int64_t)end.metadata, 0);
    raw_end_free(&end);
    raw_close(client);
}

/* ---- A4: the stream ---- */

static void cancel(struct raw_call *call)
{
    raw_cancel(call);
    struct raw_end end = raw_finish(call);
    raw_end_free(&end);
}

static void headers_at_once(struct world *w)
{
    struct raw_client *client = world_raw(w);
    size_t len;
    bool quiet;
    create(w, NULL, 0);
    struct raw_call *call = raw_consume(client, w->q);
    if (!raw_headers(call, SOON)) {
        differs("response headers at once", "none");
    }
    if (raw_next_bytes(call, QUIET, &len, &quiet) || !quiet) {
        differs("no initial message", "a frame, or an end");
    }
    cancel(call);
    raw_close(client);
}

static void one_message_a_frame(struct world *w)
{
    struct raw_client *client = world_raw(w);
    size_t len = 0;
    bool quiet;
    create(w, NULL, 0);
    enqueue(w, NULL, "1", NULL);
    enqueue(w, NULL, "2", NULL);
    struct raw_call *call = raw_consume(client, w->q);
    for (int i = 0; i < 2; i++) {
        uint8_t *bytes = raw_next_bytes(call, SOON, &len, &quiet);
        if (!bytes) {
            differs("a message", "none");
        }
        Fila__V1__ConsumeResponse *response = fila__v1__consume_response__unpack(NULL, len, bytes);
        if (!response || !response->message || !response->message->metadata) {
            differs("a frame with a message and its metadata", "%zu other bytes", len);
        }
        const Fila__V1__Message *message = response->message;
        expect_view("fairness_key", fila_view_of(message->metadata->fairness_key), "default");
        expect_view("queue_id", fila_view_of(message->metadata->queue_id), w->q);
        expect_number("weight", message->metadata->weight, 1);
        expect_number("throttle keys", (int64_t)message->metadata->n_throttle_keys, 0);
        expect_number("payload bytes", (int64_t)message->payload.len, 1);
        expect_number("timestamps", message->timestamps != NULL, 0);
        fila__v1__consume_response__free_unpacked(response, NULL);
        free(bytes);
    }
    cancel(call);
    raw_close(client);
}

static void no_keepalive_frames(struct world *w)
{
    struct raw_client *client = world_raw(w);
    size_t len;
    bool quiet;
    create(w, NULL, 0);
    struct raw_call *call = raw_consume(client, w->q);
    if (raw_next_bytes(call, 2500, &len, &quiet) || !quiet) {
        differs("an idle stream without any frame", "a frame, or an end");
    }
    cancel(call);
    raw_close(client);
}

static void missing_queue(struct world *w)
{
    fila_consumer *stream = open_stream(w, NULL);
    expect_quiet(stream, QUIET);
    create(w, NULL, 0);
    expect_number("active_consumers of the new queue", stats(w, NULL).active_consumers, 1);
    enqueue(w, NULL, "at last", NULL);
    expect_next(stream, "at last", 0, NULL);
}

static void deleted_queue(struct world *w)
{
    create(w, NULL, 0);
    fila_consumer *stream = open_stream(w, NULL);
    enqueue(w, NULL, "before", NULL);
    expect_next(stream, "before", 0, NULL);
    delete_queue(w, NULL);
    expect_quiet(stream, QUIET);
    create(w, NULL, 0);
    enqueue(w, NULL, "after", NULL);
    expect_next(stream, "after", 0, NULL);
}

/* ---- A4.7: SIGTERM ---- */

static struct raw_call *stream_with_lease(struct world *w, struct raw_client *client, char id[64])
{
    struct raw_call *call = raw_consume(client, w->q);
    create(w, NULL, 1000);
    enqueue(w, NULL, "held", NULL);
    fila_message *message = raw_next(call, SOON, NULL);
    if (!message) {
        differs("a message", "none");
    }
    (void)snprintf(
        id, 64, "%.*s", (int)fila_message_id(message).len, fila_message_id(message).data);
    fila_message_free(message);
    return call;
}

/* After the signal the client of the row itself has no stream, so it holds nothing up. */
static void term_keeps_streams(struct world *w)
{
    char id[64];
    struct raw_client *client = world_raw(w);
    struct raw_call *call = stream_with_lease(w, client, id);
    process_signal(w, SIGTERM);
    for (uint32_t attempt = 1; attempt <= 2; attempt++) {
        fila_message *message = raw_next(call, SOON, NULL);
        if (!message) {
            differs("the open stream keeps delivering", "nothing, or its end");
        }
        expect_number("attempt_count", fila_message_attempt_count(message), attempt);
        fila_message_free(message);
    }
    expect_number("its process runs", process_wait(w, 0), -1);
    cancel(call);
    expect_number("exit status once the stream is cancelled", process_wait(w, SOON), 0);
    raw_close(client);
}

static void term_hangs_calls(struct world *w)
{
    char id[64];
    struct raw_client *client = world_raw(w);
    struct raw_call *call = stream_with_lease(w, client, id);
    fila_request request = {
        .call = FILA_CALL_ACK,
        .timeout_ms = 1500,
        .as.settle = {.queue = fila_view_of(w->q), .message_id = fila_view_of(id)}};
    process_signal(w, SIGTERM);
    rest(500); /* the GOAWAY arrives; a call in between is answered */
    expect_end(raw_request(client, &request), 4, "an ack on the old channel, at its deadline");
    struct raw_client *second = world_raw(w);
    expect_end(raw_request(second, &request), 4, "an ack on a new channel, at its deadline");
    raw_close(second);
    expect_number("its process runs", process_wait(w, 0), -1);
    cancel(call);
    expect_number("exit status once the stream is cancelled", process_wait(w, SOON), 0);
    raw_close(client);
}

static void term_without_streams(struct world *w)
{
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    struct raw_client *client = world_raw(w);
    expect_end(raw_request(client, &request), 0, "ListQueues");
    process_signal(w, SIGTERM);
    expect_number("exit status with an idle channel", process_wait(w, SOON), 0);
    raw_close(client);
}

static void term_and_raw_tcp(struct world *w)
{
    int fd = tcp_connect(w->port);
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    struct raw_client *client = world_raw(w);
    expect_end(raw_request(client, &request), 0, "ListQueues"); /* the server has seen the other */
    process_signal(w, SIGTERM);
    expect_number("its process runs, held by a silent connection", process_wait(w, 1500), -1);
    (void)close(fd);
    expect_number("exit status once that is closed", process_wait(w, SOON), 0);
    raw_close(client);
}

/* ---- A4.8: the connection ---- */

/* What the server's first SETTINGS frame says of a parameter; `fallback`: nothing. */
static int64_t setting(struct world *w, int which, int64_t fallback)
{
    struct h2_frame frame;
    int64_t value = fallback;
    int fd = h2_connect(w->port);
    if (!h2_read(fd, &frame) || frame.type != H2_SETTINGS) {
        differs("SETTINGS first", "something else");
    }
    for (size_t i = 0; i + 6 <= frame.len; i += 6) {
        const uint8_t *p = frame.payload + i;
        if (p[0] == 0 && p[1] == which) {
            value = (int64_t)p[2] << 24 | p[3] << 16 | p[4] << 8 | p[5];
        }
    }
    (void)close(fd);
    return value;
}

static void windows(struct world *w)
{
    expect_between("a stream's receive window", setting(w, 4, 65535), 1048576, 8388608);
}

static void header_list(struct world *w)
{
    expect_number("header list size", setting(w, 6, -1), 16384);
}

static void frame_size(struct world *w)
{
    expect_number("max frame size", setting(w, 5, 16384), 16384);
}

static void concurrent_streams(struct world *w)
{
    expect_number("concurrent streams: unlimited", setting(w, 3, -1), -1);
}

static void pings(struct world *w)
{
    struct h2_frame frame;
    int fd = h2_connect(w->port);
    int answered = 0;
    for (int i = 0; i < 500; i++) {
        if (!h2_write(fd, H2_PING, 0, 0, "12345678", 8)) {
            differs("500 pings are taken", "%d", i);
        }
    }
    while (answered < 500 && h2_read(fd, &frame)) {
        if (frame.type == H2_GOAWAY) {
            differs("no GOAWAY", "one after %d answers", answered);
        }
        answered += frame.type == H2_PING && frame.flags == 1;
    }
    expect_number("pings answered", answered, 500);
    (void)close(fd);
}

static void many_streams(struct world *w)
{
    enum {
        MANY = 1000
    };

    struct raw_call *calls[MANY];
    struct raw_client *client = world_raw(w);
    create(w, NULL, 0);
    for (int i = 0; i < MANY; i++) {
        calls[i] = raw_consume(client, w->q);
    }
    for (int i = 0; i < MANY; i++) {
        if (!raw_headers(calls[i], SOON)) {
            differs("1,000 streams on one connection", "number %d has no headers", i);
        }
    }
    expect_number("active_consumers", stats(w, NULL).active_consumers, MANY);
    for (int i = 0; i < MANY; i++) {
        cancel(calls[i]);
    }
    raw_close(client);
}

/* ---- A4.9 ---- */

static void kill_and_restart(struct world *w)
{
    char id[64];
    struct raw_client *client = world_raw(w);
    fila_consumer *stream = open_stream(w, NULL);
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    create(w, NULL, 30000);
    enqueue(w, NULL, "held", NULL);
    expect_next(stream, "held", 0, id);
    process_signal(w, SIGKILL);
    (void)process_wait(w, SOON);
    fila_status status = fila_consumer_next(stream, SOON, &message, &error);
    expect_number("the stream's end", status ? error.wire_code : 0, 14);
    process_restart(w);
    fila_request request = {
        .call = FILA_CALL_ACK,
        .timeout_ms = 2000,
        .as.settle = {.queue = fila_view_of(w->q), .message_id = fila_view_of(id)}};
    struct answer answer = {.code = 14};
    for (int i = 0; i < 40 && answer.code != 0 && answer.code != 5; i++) {
        answer_free(&answer);
        answer = ask(w, &request);
        rest(100); /* between the channel's attempts to connect */
    }
    if (answer.code) {
        differs("an ack of a lease from before: 0", "%d %s", answer.code, answer.text);
    }
    answer_free(&answer);
    raw_close(client);
}

/* ---- A7 ---- */

/* A response is 56 bytes larger than its request of 4 MiB where the queue's name has one letter. */
static void response_size(struct world *w)
{
    size_t len = 0;
    bool quiet;
    fila_request request;
    struct raw_client *client = world_raw(w);
    char *payload = sized(&request, "z", LIMIT);
    create(w, "z", 0);
    expect_end(raw_request(client, &request), 0, "Enqueue");
    free(payload);
    struct raw_call *call = raw_consume(client, "z");
    uint8_t *bytes = raw_next_bytes(call, SOON, &len, &quiet);
    expect_number("bytes of the response beyond the request's", (int64_t)len - LIMIT, 56);
    free(bytes);
    cancel(call);
    raw_close(client);
    delete_queue(w, "z");
}

static void poison(struct world *w)
{
    fila_request request;
    bool quiet;
    struct raw_client *client = world_raw(w);
    struct raw_client *small = raw_open_window(w->port, 0); /* with gRPC's limit of 4 MiB */
    create(w, NULL, 0);
    char *payload = sized(&request, w->q, LIMIT);
    expect_end(raw_request(client, &request), 0, "a request of 4,194,304 bytes");
    free(payload);
    struct raw_call *call = raw_consume(small, w->q);
    if (raw_next(call, SOON, &quiet) || quiet) {
        differs("the end of the stream", "a message, or nothing");
    }
    expect_end(raw_finish(call), 8, "the stream's end at a client with a limit of 4 MiB");
    expect_number("left leased", (int64_t)stats(w, NULL).in_flight, 1);
    raw_close(small);
    raw_close(client);
    delete_queue(w, NULL);
}

static void odd_names(struct world *w)
{
    static char thousand[1001];
    const char *names[] = {thousand, "caf\xc3\xa9/\xf0\x9f\x90\x98", "a/b\nc", " "};
    memset(thousand, 'n', 1000);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        create(w, names[i], 0);
        enqueue(w, names[i], "x", NULL);
        fila_consumer *stream = open_stream(w, names[i]);
        fila_message *message = next(stream);
        expect_view("queue_id", fila_message_queue(message), names[i]);
        expect_ack(w, names[i], fila_message_id(message), 0);
        fila_message_free(message);
        close_stream(w, stream);
    }
}

static void empty_payload(struct world *w)
{
    create(w, NULL, 0);
    enqueue(w, NULL, "", NULL);
    expect_next(open_stream(w, NULL), "", 0, NULL);
}

static void header_map(struct world *w)
{
    static const fila_header headers[] = {
        {VIEW("a"), VIEW("1")},
        {VIEW("b"), VIEW("2")},
        {VIEW("a"), VIEW("3")},
        {VIEW(""), VIEW("")},
        {VIEW("a"), VIEW("4")}};
    fila_error error = FILA_ERROR_INIT;
    size_t cursor = 0;
    int count = 0;
    fila_header header;
    fila_view value = VIEW("");
    create(w, NULL, 0);
    if (fila_enqueue(w->client, fila_view_of(w->q), headers, 5, fila_view_of("x"), NULL, &error)) {
        differs("Enqueue: 0", "%s", error.text);
    }
    fila_message *message = next(open_stream(w, NULL));
    while (fila_message_next_header(message, &cursor, &header)) {
        count++;
    }
    expect_number("headers", count, 3);
    (void)fila_message_header(message, fila_view_of("a"), &value);
    expect_view("of equal keys the last", value, "4");
    fila_message_free(message);
}

/* A server is not asked: its first Enqueue would stop it. */
static void long_name(struct world *w)
{
    size_t len = 65536;
    char *name = malloc(len);
    if (!name) {
        abort();
    }
    memset(name, 'l', len);
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE, .as.create_queue.name = {name, len}};
    struct raw_client *client = world_raw(w);
    expect_end(raw_request(client, &request), 0, "CreateQueue of a name of 65,536 bytes");
    raw_close(client);
    free(name);
}

#define UNSEEN(ID, WHY)         \
    {                           \
        .id = ID, .unseen = WHY \
    }

static const struct row ROWS[] = {
    {.id = "A1", .see = "A4.2"},
    {.id = "A2.transport.limit", .see = "A7.limit"},
    {.id = "A2.transport.unknown", .what = "12", .run = unknown_methods, .flags = ROW_WIRE},
    {.id = "A2.transport.undecodable", .what = "13", .run = rubbish, .flags = ROW_WIRE},
    {.id = "A2.transport.compressed", .what = "12", .run = compressed, .flags = ROW_WIRE},
    UNSEEN(
        "A2.transport.deadline",
        "a 1 for the client's own deadline was seen once: the client's timer wins"),
    UNSEEN("A3.auth.on", "API keys: an issue of their own"),
    {.id = "A3.auth.off",
     .what = "authorization is ignored where auth is off",
     .run = auth_is_ignored},
    UNSEEN("A3.leader", "a single node names no leader"),
    {.id = "A3.trace",
     .what = "the server adds no metadata",
     .run = no_metadata,
     .flags = ROW_WIRE},
    {.id = "A4.1",
     .what = "headers at once, no initial message",
     .run = headers_at_once,
     .flags = ROW_WIRE},
    {.id = "A4.2",
     .what = "one message a frame, all metadata, no timestamps",
     .run = one_message_a_frame,
     .flags = ROW_WIRE},
    {.id = "A4.3",
     .what = "no keepalive frames",
     .run = no_keepalive_frames,
     .flags = ROW_WIRE | ROW_OWN},
    {.id = "A4.4.deleted-queue",
     .what = "its stream stays, and serves the next of that name",
     .run = deleted_queue},
    {.id = "A4.4.missing-queue",
     .what = "an open, silent, counted stream; it serves once the queue is there",
     .run = missing_queue},
    UNSEEN("A4.5", "leadership is lost in a cluster only"),
    UNSEEN("A4.6", "the scheduler's death: the embedded broker has none apart from its process"),
    {.id = "A4.7.stream",
     .what = "SIGTERM leaves the stream, which keeps delivering",
     .run = term_keeps_streams,
     .flags = ROW_PROCESS},
    {.id = "A4.7.calls",
     .what = "and calls, old channel or new, hang to their deadline",
     .run = term_hangs_calls,
     .flags = ROW_PROCESS},
    {.id = "A4.7.idle",
     .what = "an idle channel does not hold it",
     .run = term_without_streams,
     .flags = ROW_PROCESS},
    {.id = "A4.7.raw-tcp",
     .what = "a connection that never spoke HTTP/2 does",
     .run = term_and_raw_tcp,
     .flags = ROW_PROCESS},
    {.id = "A4.8.window", .what = "1 MiB at least", .run = windows, .flags = ROW_WIRE},
    {.id = "A4.8.header-list", .what = "16 KiB", .run = header_list, .flags = ROW_WIRE},
    {.id = "A4.8.frame-size",
     .what = "16 KiB",
     .run = frame_size,
     .flags = ROW_WIRE,
     .deviates =
         "gRPC's core takes larger frames where it expects them; no client has to send any"},
    {.id = "A4.8.concurrent",
     .what = "no limit is told",
     .run = concurrent_streams,
     .flags = ROW_WIRE,
     .deviates = "11,000 are told, more than are served at once (server.h, Bounds)"},
    UNSEEN(
        "A4.8.nodelay",
        "shows in times alone: without it an answer may wait for the client's kernel"),
    {.id = "A4.8.pings", .what = "pings at any rate are answered", .run = pings, .flags = ROW_WIRE},
    {.id = "A4.8.streams",
     .what = "1,000 streams on one connection",
     .run = many_streams,
     .flags = ROW_WIRE | ROW_OWN},
    {.id = "A4.9",
     .what = "kill -9: 14 at once; after a restart old leases can be acked",
     .run = kill_and_restart,
     .flags = ROW_PROCESS | ROW_DATA},
    {.id = "A7.limit",
     .what = "4,194,304 bytes are taken, one more is 11",
     .run = limit,
     .flags = ROW_WIRE},
    {.id = "A7.poison.size",
     .what = "a response is 56 bytes larger than its request",
     .run = response_size,
     .flags = ROW_WIRE},
    {.id = "A7.poison.client",
     .what = "a full-size message is 8 at a default client, and stays leased",
     .run = poison,
     .flags = ROW_WIRE},
    {.id = "A7.names.odd", .what = "1,000 bytes, Unicode, slash, newline", .run = odd_names},
    {.id = "A7.names.long",
     .what = "65,536 bytes",
     .run = long_name,
     .flags = ROW_WIRE | ROW_OWN,
     .deviates = "a name over 65,535 bytes is refused (3): it would stop a server (fila/broker.h)"},
    {.id = "A7.names.headers",
     .what = "headers are a map: of equal keys the last stays",
     .run = header_map},
    {.id = "A7.names.empty-payload", .what = "an empty payload", .run = empty_payload},
};

const struct rows ROWS_WIRE = {ROWS, sizeof ROWS / sizeof ROWS[0]};
