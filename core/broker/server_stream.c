/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "server.h"
#include "wire/codec.h"

#include <stdlib.h>

/* Payloads up to this size are copied behind their head: that costs less than a slice of their
 * own. */
enum {
    COPY_LIMIT = 4096
};

struct server_stream {
    struct server_call *call;
    struct fb_consumer *consumer; /* NULL once the stream is over */
    grpc_byte_buffer *sending;
    grpc_byte_buffer *held; /* taken from the broker, sent next */
    struct server_stream *next_ready;
    bool is_ready;    /* in the server's list of ready streams */
    bool more;        /* the broker has told of messages, and take has not said empty */
    bool busy;        /* an operation is on its way; `wrote` will come */
    bool ended;       /* the broker ended it: call->answer says how */
    bool finished;    /* the status is sent, or nothing can be sent any more */
    bool closed;      /* `closed` has come */
    bool has_headers; /* they are sent */
    bool freezes;     /* its connection, when `until_frozen` more messages are sent */
    uint32_t until_frozen;
    uint32_t frozen_ms;
};

/* ---- Messages ---- */

/* A delivery that a slice keeps. gRPC may let go of the slice on any thread, and hands it there
 * itself; `passed` says the same to ThreadSanitizer, which cannot see into gRPC. */
struct kept_delivery {
    struct fb_delivery delivery;
    atomic_bool passed;
};

static void release_payload(void *user)
{
    struct kept_delivery *kept = user;
    (void)atomic_load_explicit(&kept->passed, memory_order_acquire);
    fb_delivery_release(&kept->delivery);
    free(kept);
}

/* A slice over the payload itself, which keeps the delivery; an empty one without memory. */
static grpc_slice share_payload(const struct fb_delivery *delivery)
{
    struct kept_delivery *kept = malloc(sizeof *kept);

    union {
        const char *in;
        void *out;
    } bytes = {.in = delivery->fields.payload.data};

    if (!kept) {
        return grpc_empty_slice();
    }
    kept->delivery = *delivery;
    atomic_store_explicit(&kept->passed, true, memory_order_release);
    return grpc_slice_new_with_user_data(
        bytes.out, delivery->fields.payload.len, release_payload, kept);
}

/* Consumes the delivery. */
static grpc_byte_buffer *encode(struct fb_delivery *delivery)
{
    fila_view payload = delivery->fields.payload;
    size_t head = fila_delivery_head_size(&delivery->fields);
    grpc_slice part[2] = {grpc_empty_slice(), grpc_empty_slice()};
    bool share = payload.len > COPY_LIMIT;
    if (share) {
        part[1] = share_payload(delivery);
        share = GRPC_SLICE_LENGTH(part[1]) > 0;
    }
    part[0] = grpc_slice_malloc(share ? head : head + payload.len);
    fila_delivery_head_write(&delivery->fields, GRPC_SLICE_START_PTR(part[0]));
    if (!share) {
        if (payload.len) {
            memcpy(GRPC_SLICE_START_PTR(part[0]) + head, payload.data, payload.len);
        }
        fb_delivery_release(delivery);
    }
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(part, share ? 2 : 1);
    grpc_slice_unref(part[0]);
    grpc_slice_unref(part[1]);
    return message;
}

static void forget_consumer(struct server_stream *stream)
{
    if (stream->consumer) {
        fb_consumer_close(stream->consumer);
        stream->consumer = NULL;
    }
}

static grpc_byte_buffer *take(struct server_stream *stream)
{
    struct fb_delivery delivery;
    fila_error end;
    if (!stream->more || stream->ended) {
        return NULL;
    }
    switch (fb_consumer_take(stream->consumer, &delivery, &end)) {
    case FB_TAKE_MESSAGE:
        return encode(&delivery);
    case FB_TAKE_END:
        stream->ended = true;
        server_answer_set(&stream->call->answer, NULL, &end);
        forget_consumer(stream);
        return NULL;
    case FB_TAKE_EMPTY:
    default:
        stream->more = false;
        return NULL;
    }
}

/* ---- Sending ---- */

static void send_message(struct server_stream *stream, grpc_byte_buffer *message)
{
    grpc_op op = {
        .op = GRPC_OP_SEND_MESSAGE,
        .flags = stream->held ? GRPC_WRITE_BUFFER_HINT : 0,
        .data.send_message.send_message = message,
    };
    stream->sending = message;
    stream->busy = true;
    server_batch(stream->call, &op, 1, &stream->call->wrote);
}

static void send_status(struct server_stream *stream)
{
    struct server_call *call = stream->call;
    grpc_metadata leader;
    grpc_op op;
    server_status_op(call, &op, &leader);
    stream->busy = true;
    stream->finished = true;
    server_batch(call, &op, 1, &call->wrote);
}

static void send_headers(struct server_stream *stream)
{
    const grpc_op headers = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    stream->busy = true;
    stream->has_headers = true;
    server_batch(stream->call, &headers, 1, &stream->call->wrote);
}

void server_stream_run(struct server_stream *stream)
{
    if (stream->busy || stream->finished ||
        (stream->call->server->frozen && server_freeze_holds(stream->call))) {
        return;
    }
    if (!stream->has_headers) {
        send_headers(stream);
        return;
    }
    grpc_byte_buffer *message = stream->held ? stream->held : take(stream);
    stream->held = NULL;
    if (message) {
        bool last = stream->freezes && stream->until_frozen == 1;
        stream->held = last ? NULL : take(stream);
        send_message(stream, message);
    } else if (stream->ended) {
        send_status(stream);
    }
}

/* ---- The end ---- */

static void free_if_over(struct server_stream *stream)
{
    struct server_call *call = stream->call;
    if (!stream->closed || stream->busy || stream->is_ready || call->is_held ||
        server_inbox_holds(call)) {
        return;
    }
    if (stream->ended) {
        grpc_slice_unref(call->answer.text);
        grpc_slice_unref(call->answer.leader);
    }
    server_peer_leave(call, true);
    free(stream);
    server_call_release(call);
}

/* A message was sent, perhaps the last one before its connection freezes. */
static void count_sent(struct server_stream *stream)
{
    if (stream->freezes && --stream->until_frozen == 0) {
        stream->freezes = false;
        server_freeze(stream->call, stream->frozen_ms);
    }
}

static void on_wrote(void *owner, bool ok)
{
    struct server_call *call = owner;
    struct server_stream *stream = call->stream;
    if (stream->sending && ok) {
        count_sent(stream);
    }
    grpc_byte_buffer_destroy(stream->sending);
    stream->sending = NULL;
    stream->busy = false;
    stream->finished |= !ok;
    server_stream_run(stream);
    free_if_over(stream);
}

static void on_closed(void *owner, bool ok)
{
    struct server_call *call = owner;
    struct server_stream *stream = call->stream;
    (void)ok;
    stream->closed = true;
    stream->finished = true;
    forget_consumer(stream);
    grpc_byte_buffer_destroy(stream->held);
    stream->held = NULL;
    free_if_over(stream);
}

void server_stream_thaw(struct server_stream *stream)
{
    server_stream_run(stream);
    free_if_over(stream);
}

/* ---- Waking ---- */

void server_stream_wake(struct server_stream *stream)
{
    struct fb_server *server = stream->call->server;
    stream->more = true;
    if (stream->is_ready) {
        return;
    }
    stream->is_ready = true;
    stream->next_ready = NULL;
    *server->last_ready = stream;
    server->last_ready = &stream->next_ready;
}

void server_run_ready(struct fb_server *server)
{
    struct server_stream *stream;
    while ((stream = server->first_ready)) {
        server->first_ready = stream->next_ready;
        if (!server->first_ready) {
            server->last_ready = &server->first_ready;
        }
        stream->is_ready = false;
        server_stream_run(stream);
        free_if_over(stream);
    }
}

static void on_ready(void *user)
{
    struct server_stream *stream = user;
    if (server_is_self(stream->call->server)) {
        server_stream_wake(stream);
    } else {
        server_inbox_put(stream->call);
    }
}

/* ---- The start ---- */

static struct server_stream *stream_new(
    struct server_call *call,
    const fila_request *request,
    fila_error *reterr)
{
    static const struct fb_consumer_events events = {on_ready};
    fila_broker *broker = call->server->broker;
    struct server_stream *stream = calloc(1, sizeof *stream);
    struct fb_half_open how;
    if (!stream) {
        (void)fila_fail(reterr, FILA_NO_MEMORY, "no memory for a stream");
        return NULL;
    }
    stream->call = call;
    if (fb_meets_half_open(broker, request, &how)) {
        stream->freezes = how.after_messages > 0;
        stream->until_frozen = how.after_messages;
        stream->frozen_ms = how.ms;
        if (!stream->freezes) {
            server_freeze(call, how.ms);
        }
    }
    call->stream = stream; /* `ready` may come before the open returns */
    if (fb_consumer_open(
            broker, request->as.queue.queue, &events, stream, &stream->consumer, reterr)) {
        call->stream = NULL;
        free(stream);
        return NULL;
    }
    return stream;
}

void server_stream_open(struct server_call *call, const fila_request *request)
{
    fila_error error;
    struct server_stream *stream = stream_new(call, request, &error);
    if (!stream) {
        server_answer_set(&call->answer, NULL, &error);
        server_call_answer(call);
        return;
    }
    call->closed = (struct server_event){on_closed, call};
    call->wrote = (struct server_event){on_wrote, call};
    grpc_op close = {
        .op = GRPC_OP_RECV_CLOSE_ON_SERVER,
        .data.recv_close_on_server.cancelled = &call->cancelled,
    };
    server_batch(call, &close, 1, &call->closed);
    server_stream_run(stream);
}
