/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A server for benchmarks of the client side: each Consume stream gets messages as fast as flow
 * control takes them, each Enqueue, Ack and Nack an answer at once. It keeps nothing, so that only
 * the client is measured.
 *
 *   stub_server ADDRESS [payload=1024] [headers=2] [queue=orders] [messages=0] [warm=0]
 *
 * ADDRESS is HOST:PORT (port 0: a free one) or unix:/PATH. Prints the port as its first line, and
 * ends when its standard input does, or by SIGTERM. With messages=N it sends so many and no more
 * (streams stay open), prints "warm" at the ack of number `warm`, and at the last one "done" and a
 * JSON object: messages after the warm-up, rate (a second), p50_us and p99_us (from the write of a
 * message to the arrival of its ack).
 */
#include "base/clock.h"
#include "wire/codec.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define UNARY_SLOTS  256
#define STREAM_SLOTS 16
#define ID_LEN       36

struct tag {
    void (*fire)(struct tag *tag, bool ok);
};

/* One call: it asks for a call, serves it, and asks for the next one. */
struct slot {
    struct tag arrived;
    struct tag closed;
    struct tag wrote;
    fila_call method;
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *request;
    grpc_byte_buffer *reply;
    int was_cancelled;
    int parties; /* batches that are not done */
    bool over;
};

static grpc_server *server;
static grpc_completion_queue *queue;
static void *methods[FILA_CALL_COUNT];
static atomic_bool stopping;

/* Every message is `head` with its id written over, then `payload`. */
static uint8_t *head;
static size_t head_len;
static size_t id_at;
static uint8_t *payload;
static size_t payload_len;
static uint8_t unary_reply[FILA_CALL_COUNT][64];
static size_t unary_reply_len[FILA_CALL_COUNT];

/* The account of a bounded run. Serving thread. */
#define RING 65536 /* more than can be under way */
static uint64_t limit;
static uint64_t warm;
static uint64_t sent;
static uint64_t acked;
static int64_t warm_at;
static int64_t sent_at[RING];
static uint32_t *latency_us;

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void report(int64_t now)
{
    size_t count = limit - warm;
    qsort(latency_us, count, sizeof *latency_us, compare);
    printf(
        "done {\"messages\":%zu,\"rate\":%.0f,\"p50_us\":%u,\"p99_us\":%u}\n", count,
        (double)count * 1e9 / (double)(now - warm_at), latency_us[count / 2],
        latency_us[count * 99 / 100]);
    fflush(stdout);
}

/* The ack of message number `id`. */
static void count_ack(uint64_t id)
{
    int64_t now = fila_now();
    if (acked >= limit) {
        return;
    }
    if (acked >= warm) {
        latency_us[acked - warm] = (uint32_t)((now - sent_at[id % RING]) / FILA_US);
    }
    if (++acked == warm) {
        warm_at = now;
        printf("warm\n");
        fflush(stdout);
    }
    if (acked == limit) {
        report(now);
    }
}

/* The number at the end of a message id; an AckRequest ends with the id. */
static uint64_t number_of(const grpc_byte_buffer *request)
{
    const grpc_slice_buffer *in = &request->data.raw.slice_buffer;
    const grpc_slice *last = &in->slices[in->count - 1];
    uint64_t number = 0;
    for (size_t i = GRPC_SLICE_LENGTH(*last) - 12; i < GRPC_SLICE_LENGTH(*last); i++) {
        unsigned digit = GRPC_SLICE_START_PTR(*last)[i];
        number = number << 4 | (digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    return number;
}

static void make_message(size_t size, size_t headers, const char *queue_name)
{
    static const char id[ID_LEN + 1] = "00000000-0000-7000-8000-000000000000";
    fila_header *list = calloc(headers + 1, sizeof *list);
    for (size_t i = 0; i < headers; i++) {
        list[i].key = fila_view_of("x-tenant-name");
        list[i].value = fila_view_of("a-value-of-twenty-ch");
    }
    struct fila_message_fields fields = {
        .id = fila_view_of(id),
        .queue = fila_view_of(queue_name),
        .fairness_key = fila_view_of("tenant-42"),
        .payload = {NULL, size},
        .weight = 1,
        .headers = list,
        .header_count = headers,
    };
    head_len = fila_delivery_head_size(&fields);
    head = malloc(head_len);
    fila_delivery_head_write(&fields, head);
    id_at = (size_t)((uint8_t *)memmem(head, head_len, id, ID_LEN) - head);
    payload_len = size;
    payload = malloc(size + 1);
    memset(payload, 'p', size);
    free(list);
}

static void make_replies(void)
{
    static const fila_call unary[] = {
        FILA_CALL_ENQUEUE, FILA_CALL_ACK, FILA_CALL_NACK, FILA_CALL_GET_STATS};
    for (size_t i = 0; i < sizeof unary / sizeof *unary; i++) {
        fila_reply reply = {.call = unary[i]};
        if (unary[i] == FILA_CALL_ENQUEUE) {
            reply.as.enqueue.message_id = fila_view_of("00000000-0000-7000-8000-000000000000");
        }
        unary_reply_len[unary[i]] = fila_reply_size(&reply);
        fila_reply_write(&reply, unary_reply[unary[i]]);
    }
}

static grpc_byte_buffer *next_message(void)
{
    uint64_t id = ++sent;
    sent_at[id % RING] = limit ? fila_now() : 0;
    grpc_slice parts[2] = {
        grpc_slice_malloc(head_len), grpc_slice_from_static_buffer(payload, payload_len)};
    uint8_t *bytes = GRPC_SLICE_START_PTR(parts[0]);
    memcpy(bytes, head, head_len);
    for (uint8_t *digit = bytes + id_at + ID_LEN - 1; id; id >>= 4) {
        *digit-- = (uint8_t) "0123456789abcdef"[id & 15];
    }
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(parts, payload_len ? 2 : 1);
    grpc_slice_unref(parts[0]);
    return buffer;
}

static void start(struct slot *s, const grpc_op *ops, size_t count, struct tag *tag)
{
    s->parties++;
    if (grpc_call_start_batch(s->call, ops, count, tag, NULL) != GRPC_CALL_OK) {
        abort();
    }
}

static void request_next(struct slot *s)
{
    grpc_metadata_array_init(&s->metadata);
    if (atomic_load(&stopping) ||
        grpc_server_request_registered_call(
            server, methods[s->method], &s->call, &s->deadline, &s->metadata, &s->request, queue,
            queue, &s->arrived) != GRPC_CALL_OK) {
        free(s);
    }
}

static void leave(struct slot *s)
{
    if (--s->parties == 0) {
        grpc_call_unref(s->call);
        request_next(s);
    }
}

static void on_answered(struct tag *tag, bool ok)
{
    struct slot *s = (struct slot *)((char *)tag - offsetof(struct slot, closed));
    (void)ok;
    grpc_byte_buffer_destroy(s->reply);
    leave(s);
}

static void answer(struct slot *s)
{
    grpc_slice body =
        grpc_slice_from_static_buffer(unary_reply[s->method], unary_reply_len[s->method]);
    s->reply = grpc_raw_byte_buffer_create(&body, 1);
    grpc_op ops[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = s->reply},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &s->was_cancelled},
    };
    s->closed.fire = on_answered;
    start(s, ops, 4, &s->closed);
}

static void on_wrote(struct tag *tag, bool ok)
{
    struct slot *s = (struct slot *)((char *)tag - offsetof(struct slot, wrote));
    grpc_byte_buffer_destroy(s->reply);
    s->reply = NULL;
    if (ok && !s->over && (!limit || sent < limit)) {
        s->reply = next_message();
        grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .flags = GRPC_WRITE_BUFFER_HINT};
        op.data.send_message.send_message = s->reply;
        start(s, &op, 1, &s->wrote);
    }
    leave(s);
}

static void on_stream_closed(struct tag *tag, bool ok)
{
    struct slot *s = (struct slot *)((char *)tag - offsetof(struct slot, closed));
    (void)ok;
    s->over = true;
    leave(s);
}

static void begin_stream(struct slot *s)
{
    grpc_op closed = {
        .op = GRPC_OP_RECV_CLOSE_ON_SERVER,
        .data.recv_close_on_server.cancelled = &s->was_cancelled};
    grpc_op headers = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    s->closed.fire = on_stream_closed;
    s->reply = NULL;
    s->over = false;
    start(s, &closed, 1, &s->closed);
    start(s, &headers, 1, &s->wrote);
}

static void on_arrived(struct tag *tag, bool ok)
{
    struct slot *s = (struct slot *)tag;
    grpc_metadata_array_destroy(&s->metadata);
    if (!ok) {
        free(s);
        return;
    }
    if (s->method == FILA_CALL_ACK && limit) {
        count_ack(number_of(s->request));
    }
    grpc_byte_buffer_destroy(s->request);
    if (s->method == FILA_CALL_CONSUME) {
        begin_stream(s);
    } else {
        answer(s);
    }
}

static void on_down(struct tag *tag, bool ok)
{
    (void)tag;
    (void)ok;
    grpc_completion_queue_shutdown(queue);
}

static void *serve(void *unused)
{
    (void)unused;
    for (;;) {
        grpc_event e = grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        struct tag *tag = e.tag;
        tag->fire(tag, e.success != 0);
    }
}

/* gRPC takes what it only reads as char *. */
static char *plain(const char *text)
{
    union {
        const char *in;
        char *out;
    } both = {text};

    return both.out;
}

static int listen_on(const char *address)
{
    static const struct {
        const char *key;
        int value;
    } wanted[] = {
        {GRPC_ARG_ALLOW_REUSEPORT, 0},        {GRPC_ARG_MINIMAL_STACK, 1},
        {GRPC_ARG_ENABLE_CHANNELZ, 0},        {GRPC_ARG_HTTP2_BDP_PROBE, 0},
        {GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0},
    };

    enum {
        COUNT = sizeof wanted / sizeof *wanted
    };

    grpc_arg list[COUNT] = {{0}};
    grpc_channel_args args = {COUNT, list};
    for (size_t i = 0; i < COUNT; i++) {
        list[i].type = GRPC_ARG_INTEGER;
        list[i].key = plain(wanted[i].key);
        list[i].value.integer = wanted[i].value;
    }
    server = grpc_server_create(&args, NULL);
    queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server, queue, NULL);
    for (int m = 0; m < FILA_CALL_COUNT; m++) {
        methods[m] = grpc_server_register_method(
            server, fila_call_path((fila_call)m), NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER,
            0);
    }
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server, address, credentials);
    grpc_server_credentials_release(credentials);
    grpc_server_start(server);
    return port;
}

static void add_slots(fila_call method, int count)
{
    for (; count > 0; count--) {
        struct slot *s = calloc(1, sizeof *s);
        s->method = method;
        s->arrived.fire = on_arrived;
        s->wrote.fire = on_wrote;
        request_next(s);
    }
}

static const char *option(int argc, char **argv, const char *name, const char *fallback)
{
    size_t len = strlen(name);
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') {
            return argv[i] + len + 1;
        }
    }
    return fallback;
}

static void stop_reading(int signal_number)
{
    (void)signal_number;
    close(STDIN_FILENO);
    _exit(0);
}

int main(int argc, char **argv)
{
    char byte = 0;
    pthread_t thread;
    struct tag down = {on_down};
    if (argc < 2) {
        fprintf(
            stderr, "usage: stub_server ADDRESS [payload=1024] [headers=2] [queue=orders] "
                    "[messages=0] [warm=0]\n");
        return 64;
    }
    signal(SIGTERM, stop_reading);
    make_message(
        strtoul(option(argc, argv, "payload", "1024"), NULL, 10),
        strtoul(option(argc, argv, "headers", "2"), NULL, 10),
        option(argc, argv, "queue", "orders"));
    make_replies();
    limit = strtoull(option(argc, argv, "messages", "0"), NULL, 10);
    warm = strtoull(option(argc, argv, "warm", "0"), NULL, 10);
    if (limit && (!warm || warm >= limit)) {
        fprintf(stderr, "stub_server: messages=%" PRIu64 " needs warm= from 1 to less\n", limit);
        return 64;
    }
    latency_us = calloc(limit - warm + 1, sizeof *latency_us);
    grpc_init();
    int port = listen_on(argv[1]);
    if (!port) {
        fprintf(stderr, "stub_server: cannot listen on %s\n", argv[1]);
        return 1;
    }
    add_slots(FILA_CALL_CONSUME, STREAM_SLOTS);
    add_slots(FILA_CALL_ENQUEUE, UNARY_SLOTS);
    add_slots(FILA_CALL_ACK, UNARY_SLOTS);
    add_slots(FILA_CALL_NACK, UNARY_SLOTS);
    add_slots(FILA_CALL_GET_STATS, STREAM_SLOTS);
    pthread_create(&thread, NULL, serve, NULL);
    printf("%d\n", port);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    atomic_store(&stopping, true);
    grpc_server_shutdown_and_notify(server, queue, &down);
    grpc_server_cancel_all_calls(server);
    pthread_join(thread, NULL);
    grpc_server_destroy(server);
    grpc_completion_queue_destroy(queue);
    grpc_shutdown();
    free(head);
    free(payload);
    free(latency_us);
    return 0;
}
