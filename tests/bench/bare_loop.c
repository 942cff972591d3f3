/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The yardstick: what gRPC C core itself costs a message. One Consume stream, every message acked
 * by a unary call, in_flight acks at once, on one thread, with the channel arguments of core/src
 * and nothing that a worker needs besides: no deadlines, no errors, no messages kept. Options and
 * output: see loop_report.h.
 */
#include "loop_report.h"
#include "wire/codec.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <stddef.h>

struct tag {
    void (*fire)(struct tag *tag, bool ok);
};

struct ack {
    struct tag done;
    struct ack *next;
    grpc_call *call;
    grpc_byte_buffer *request;
    grpc_byte_buffer *reply;
    grpc_metadata_array head;
    grpc_metadata_array trail;
    grpc_status_code status;
    grpc_slice details;
    int64_t since;
    grpc_op ops[6];
};

static struct loop loop;
static grpc_completion_queue *queue;
static grpc_channel *channel;
static void *ack_method;
static struct ack *spare;
static struct ack *reserved; /* serves the next message */
static grpc_call *stream;
static grpc_byte_buffer *message;
static struct tag received;
static unsigned pending; /* batches that are not done */
static bool stopping;

static void start(grpc_call *call, const grpc_op *ops, size_t count, struct tag *tag)
{
    pending++;
    if (grpc_call_start_batch(call, ops, count, tag, NULL) != GRPC_CALL_OK) {
        abort();
    }
}

static void read_next(void)
{
    if (reserved || !spare || stopping) {
        return;
    }
    reserved = spare;
    spare = spare->next;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &message};
    start(stream, &op, 1, &received);
}

static void on_acked(struct tag *tag, bool ok)
{
    struct ack *a = (struct ack *)tag;
    (void)ok;
    if (a->status != GRPC_STATUS_OK && !stopping) {
        (void)fprintf(stderr, "bare_loop: an ack ended with status %d\n", (int)a->status);
        _exit(1);
    }
    grpc_byte_buffer_destroy(a->request);
    grpc_byte_buffer_destroy(a->reply);
    grpc_metadata_array_destroy(&a->head);
    grpc_metadata_array_destroy(&a->trail);
    grpc_slice_unref(a->details);
    grpc_call_unref(a->call);
    a->next = spare;
    spare = a;
    if (loop_acked(&loop, a->since) && !stopping) {
        loop_print(&loop);
        stopping = true;
        (void)grpc_call_cancel(stream, NULL);
    }
    read_next();
}

static struct ack *ack_new(void)
{
    struct ack *a = calloc(1, sizeof *a);
    grpc_op *op = a->ops;
    a->done.fire = on_acked;
    op++->op = GRPC_OP_SEND_INITIAL_METADATA;
    op++->op = GRPC_OP_SEND_MESSAGE;
    op++->op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    op->op = GRPC_OP_RECV_INITIAL_METADATA;
    op++->data.recv_initial_metadata.recv_initial_metadata = &a->head;
    op->op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op->data.recv_status_on_client.trailing_metadata = &a->trail;
    op->data.recv_status_on_client.status = &a->status;
    op++->data.recv_status_on_client.status_details = &a->details;
    op->op = GRPC_OP_RECV_MESSAGE;
    op->data.recv_message.recv_message = &a->reply;
    return a;
}

static void ack_start(struct ack *a, grpc_slice body)
{
    a->call = grpc_channel_create_registered_call(
        channel, NULL, 0, queue, ack_method, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    a->request = grpc_raw_byte_buffer_create(&body, 1);
    a->reply = NULL;
    grpc_slice_unref(body);
    grpc_metadata_array_init(&a->head);
    grpc_metadata_array_init(&a->trail);
    a->ops[1].data.send_message.send_message = a->request;
    start(a->call, a->ops, 6, &a->done);
}

/* ---- The two protobuf messages, by hand and unchecked ---- */

static const uint8_t *varint(const uint8_t *at, uint64_t *ret_value)
{
    uint64_t value = 0;
    int shift = 0;
    do {
        value |= (uint64_t)(*at & 127) << shift;
        shift += 7;
    } while (*at++ & 128);
    *ret_value = value;
    return at;
}

/* The bytes of field `number` in `in`; empty when it is not there. */
static fila_view field(fila_view in, unsigned number)
{
    const uint8_t *at = (const uint8_t *)in.data;
    const uint8_t *end = at + in.len;
    while (at < end) {
        uint64_t tag = 0, value = 0;
        at = varint(varint(at, &tag), &value);
        if ((tag & 7) == 2) {
            if (tag >> 3 == number) {
                return (fila_view){(const char *)at, value};
            }
            at += value;
        }
    }
    return (fila_view){0};
}

static grpc_slice ack_request(fila_view bytes)
{
    fila_view body = field(bytes, 1);
    fila_view id = field(body, 1);
    fila_view name = field(field(body, 4), 5);
    if (!id.data || !name.data) {
        abort();
    }
    grpc_slice out = grpc_slice_malloc(name.len + id.len + 4);
    uint8_t *at = GRPC_SLICE_START_PTR(out);
    *at++ = 1 << 3 | 2;
    *at++ = (uint8_t)name.len;
    at = (uint8_t *)memcpy(at, name.data, name.len) + name.len;
    *at++ = 2 << 3 | 2;
    *at++ = (uint8_t)id.len;
    memcpy(at, id.data, id.len);
    return out;
}

static fila_view view_of(const grpc_slice *slice)
{
    return (fila_view){(const char *)GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
}

/* ---- The stream ---- */

static void on_received(struct tag *tag, bool ok)
{
    struct ack *a = reserved;
    grpc_byte_buffer *buffer = message;
    (void)tag;
    (void)ok;
    if (!buffer || stopping) {
        grpc_byte_buffer_destroy(buffer);
        return;
    }
    message = NULL;
    reserved = NULL;
    a->since = fila_now();
    read_next();
    const grpc_slice_buffer *in = &buffer->data.raw.slice_buffer;
    grpc_byte_buffer_reader reader;
    grpc_slice body;
    if (in->count == 1) {
        body = ack_request(view_of(&in->slices[0]));
    } else {
        grpc_byte_buffer_reader_init(&reader, buffer);
        grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
        body = ack_request(view_of(&all));
        grpc_slice_unref(all);
    }
    grpc_byte_buffer_destroy(buffer);
    ack_start(a, body);
}

static void on_nothing(struct tag *tag, bool ok)
{
    (void)tag;
    (void)ok;
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

static void open_channel(void)
{
    const struct {
        const char *key;
        int value;
    } wanted[] = {
        {GRPC_ARG_ENABLE_RETRIES, 0},
        {GRPC_ARG_MINIMAL_STACK, 1},
        {GRPC_ARG_ENABLE_CHANNELZ, 0},
        {GRPC_ARG_DISABLE_CLIENT_AUTHORITY_FILTER, 1},
        {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
        {GRPC_ARG_HTTP2_BDP_PROBE, 0},
        {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, (int)loop.window},
        {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
        {GRPC_ARG_KEEPALIVE_TIME_MS, 10000},
        {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000},
        {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
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
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    channel = grpc_channel_create(loop.address, credentials, &args);
    grpc_channel_credentials_release(credentials);
    ack_method =
        grpc_channel_register_call(channel, fila_call_path(FILA_CALL_ACK), loop.address, NULL);
}

static void run(void)
{
    static grpc_metadata_array head, trail;
    static struct tag opened = {on_nothing}, ended = {on_nothing};
    static grpc_status_code status;
    static grpc_slice details;
    fila_request request = {.call = FILA_CALL_CONSUME};
    request.as.queue.queue = fila_view_of(loop.queue);
    grpc_slice body = grpc_slice_malloc(fila_request_size(&request));
    fila_request_write(&request, GRPC_SLICE_START_PTR(body));
    grpc_byte_buffer *wanted = grpc_raw_byte_buffer_create(&body, 1);
    grpc_slice_unref(body);
    grpc_slice authority = grpc_slice_from_static_string(loop.address);
    stream = grpc_channel_create_call(
        channel, NULL, 0, queue, grpc_slice_from_static_string(fila_call_path(FILA_CALL_CONSUME)),
        &authority, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_op open[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA, .flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = wanted},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &head},
    };
    grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    end.data.recv_status_on_client.trailing_metadata = &trail;
    end.data.recv_status_on_client.status = &status;
    end.data.recv_status_on_client.status_details = &details;
    received.fire = on_received;
    start(stream, open, 4, &opened);
    start(stream, &end, 1, &ended);
    read_next();
    while (pending) {
        grpc_event e = grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        struct tag *tag = e.tag;
        pending--;
        tag->fire(tag, e.success != 0);
    }
    grpc_byte_buffer_destroy(wanted);
    grpc_metadata_array_destroy(&head);
    grpc_metadata_array_destroy(&trail);
    grpc_slice_unref(details);
    grpc_call_unref(stream);
}

int main(int argc, char **argv)
{
    loop = loop_init(argc, argv);
    grpc_init();
    queue = grpc_completion_queue_create_for_next(NULL);
    open_channel();
    struct ack **all = calloc(loop.in_flight, sizeof(struct ack *));
    for (unsigned i = 0; i < loop.in_flight; i++) {
        all[i] = ack_new();
        all[i]->next = spare;
        spare = all[i];
    }
    run();
    for (unsigned i = 0; i < loop.in_flight; i++) {
        free(all[i]);
    }
    free(all);
    grpc_channel_destroy(channel);
    grpc_completion_queue_shutdown(queue);
    while (grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(queue);
    grpc_shutdown();
    return 0;
}
