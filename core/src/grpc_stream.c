/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "grpc_internal.h"
#include "wire/codec.h"

#include <grpc/byte_buffer.h>

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

/* The bytes that gRPC puts before each message. */
#define FRAME_HEAD 5
/* How long after an absence of this thread a receive that was posted before it may still bring
 * something old. */
#define AFTER_LAPSE (100 * FILA_MS)
/* gRPC does not tell headers from a refusal that came without any; but then the end follows at
 * once. */
#define REFUSAL_TIME (2 * FILA_MS)

static struct fg_stream *self(struct fila_stream *stream)
{
    return (struct fg_stream *)stream;
}

static struct fg_transport *transport_of(const struct fg_stream *s)
{
    return (struct fg_transport *)s->base.transport;
}

static void start(struct fg_stream *s, const grpc_op *ops, size_t count, struct fg_tag *tag)
{
    s->pending++;
    grpc_call_error e = grpc_call_start_batch(s->call, ops, count, tag, NULL);
    assert(e == GRPC_CALL_OK);
    (void)e;
}

/* ---- The end ---- */

/* Reads no more, for the reason in own_end. */
static void stop(struct fg_stream *s)
{
    s->own_end.outcome_unknown = false;
    s->stopped = true;
    s->credits = 0;
    if (!s->over) {
        (void)grpc_call_cancel(s->call, NULL);
    }
}

/* What came is bad: nothing behind it is looked at. */
static void fail(struct fg_stream *s)
{
    s->dropping = true;
    stop(s);
}

static void explain_end(struct fg_stream *s, fila_error *ret_why)
{
    struct fg_transport *t = transport_of(s);
    if (s->own_end.code != FILA_OK) {
        *ret_why = s->own_end;
    } else if (s->status != GRPC_STATUS_OK) {
        fg_explain(t, FILA_CALL_CONSUME, s->call, s->status, &s->details, ret_why);
        fg_read_leader(&s->trail, ret_why);
    }
}

static void stream_free(struct fg_stream *s)
{
    grpc_byte_buffer_destroy(s->request);
    grpc_byte_buffer_destroy(s->message);
    grpc_metadata_array_destroy(&s->head);
    grpc_metadata_array_destroy(&s->trail);
    grpc_slice_unref(s->details);
    grpc_call_unref(s->call);
    fg_channel_leave(s->channel);
    free(s);
}

/* Tells the end once gRPC holds nothing of the stream any more. */
static void leave(struct fg_stream *s)
{
    fila_error why = FILA_ERROR_INIT;
    if (--s->pending > 0) {
        return;
    }
    explain_end(s, &why);
    *s->link = s->next;
    if (s->next) {
        s->next->link = s->link;
    }
    s->events->ended(s->user, &why);
    stream_free(s);
}

/* ---- Reading ---- */

static void post_receive(struct fg_stream *s, int64_t now)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &s->message};
    s->receiving = true;
    s->posted_at = now;
    s->credits--;
    start(s, &op, 1, &s->received);
}

static void tell_opened(struct fg_stream *s)
{
    struct fg_transport *t = transport_of(s);
    s->tell_at = FILA_NEVER;
    if (!s->told_opened && !s->dropping) {
        int64_t at = s->headers_at ? s->headers_at : t->now;
        s->told_opened = true;
        s->events->opened(s->user, t->lapsed_at > s->asked_at ? s->asked_at : at);
    }
}

static void release_buffer(void *owner)
{
    grpc_byte_buffer_destroy(owner);
}

/* A message out of `buffer`, which it keeps or gives up. */
static fila_status read_message(
    grpc_byte_buffer *buffer,
    fila_message **ret_message,
    fila_error *reterr)
{
    const uint8_t *bytes = NULL;
    uint8_t *copy = NULL;
    size_t len = 0;
    fila_status status = FILA_NO_MEMORY;
    *ret_message = NULL;
    if (buffer->data.raw.compression != GRPC_COMPRESS_NONE) {
        status = fila_fail(reterr, FILA_PROTOCOL, "a compressed message, which was not asked for");
    } else if (!fg_bytes(buffer, &bytes, &len, &copy)) {
        status = fila_fail(
            reterr, FILA_NO_MEMORY, "no memory for a message of %zu bytes",
            grpc_byte_buffer_length(buffer));
    } else if (copy) {
        grpc_byte_buffer_destroy(buffer);
        buffer = NULL;
        status = fila_message_read(bytes, len, free, copy, ret_message, reterr);
    } else {
        status = fila_message_read(bytes, len, release_buffer, buffer, ret_message, reterr);
    }
    if (!*ret_message) {
        grpc_byte_buffer_destroy(buffer);
        free(copy);
    }
    return status;
}

static void deliver(struct fg_stream *s, grpc_byte_buffer *buffer, int64_t posted_at)
{
    struct fg_transport *t = transport_of(s);
    struct fila_read read = {.read_at = t->now, .waiting_since = posted_at};
    fila_message *message = NULL;
    size_t size = grpc_byte_buffer_length(buffer);
    if (size > t->receive_limit) {
        grpc_byte_buffer_destroy(buffer);
        (void)fila_fail(
            &s->own_end, FILA_TOO_LARGE, "a message of %zu bytes is over the receive limit of %u",
            size, t->receive_limit);
        fail(s);
        return;
    }
    if (read_message(buffer, &message, &s->own_end)) {
        fail(s);
        return;
    }
    if (!message) { /* an empty frame */
        s->credits++;
        return;
    }
    if (posted_at < t->lapsed_at && t->now - t->lapsed_at < AFTER_LAPSE) {
        read.waiting_since = t->now;
    }
    read.wire_size = (uint32_t)size + FRAME_HEAD;
    tell_opened(s);
    s->events->message(s->user, message, &read);
}

static void on_received(struct fg_tag *tag, bool ok)
{
    struct fg_stream *s = (struct fg_stream *)((char *)tag - offsetof(struct fg_stream, received));
    grpc_byte_buffer *buffer = s->message;
    int64_t posted_at = s->posted_at;
    (void)ok;
    s->message = NULL;
    s->receiving = false;
    if (!buffer || s->dropping) {
        grpc_byte_buffer_destroy(buffer);
        leave(s);
        return;
    }
    if (s->credits) {
        post_receive(s, transport_of(s)->now);
    }
    deliver(s, buffer, posted_at);
    if (s->credits && !s->receiving && !s->over) {
        post_receive(s, transport_of(s)->now);
    }
    leave(s);
}

/* ---- Opening ---- */

static void on_accepted(struct fg_tag *tag, bool ok)
{
    struct fg_stream *s = (struct fg_stream *)((char *)tag - offsetof(struct fg_stream, accepted));
    grpc_byte_buffer_destroy(s->request);
    s->request = NULL;
    if (ok && !s->told_opened) {
        struct fg_transport *t = transport_of(s);
        s->headers_at = t->now;
        s->tell_at = t->now + REFUSAL_TIME;
        t->next_telling = s->tell_at < t->next_telling ? s->tell_at : t->next_telling;
    }
    leave(s);
}

static void on_ended(struct fg_tag *tag, bool ok)
{
    struct fg_stream *s = (struct fg_stream *)((char *)tag - offsetof(struct fg_stream, ended));
    (void)ok;
    s->over = true;
    leave(s);
}

static void begin(struct fg_stream *s)
{
    struct fg_transport *t = transport_of(s);
    grpc_op open[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = t->key_count, .metadata = &t->key}},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = s->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &s->head},
    };
    grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    end.data.recv_status_on_client.trailing_metadata = &s->trail;
    end.data.recv_status_on_client.status = &s->status;
    end.data.recv_status_on_client.status_details = &s->details;
    start(s, open, 4, &s->accepted);
    start(s, &end, 1, &s->ended);
}

fila_status fg_open_stream(
    struct fila_transport *transport,
    const struct fila_stream_params *params,
    struct fila_stream **ret_stream,
    fila_error *reterr)
{
    struct fg_transport *t = (struct fg_transport *)transport;
    fila_request request = {.call = FILA_CALL_CONSUME};
    request.as.queue.queue = params->queue;
    size_t size = fila_request_size(&request);
    if (t->closing) {
        return fila_fail(reterr, FILA_CLOSED, "the connection is closed");
    }
    if (size > t->base.caps.max_message) {
        return fila_fail(reterr, FILA_TOO_LARGE, "a queue name of %zu bytes", params->queue.len);
    }
    struct fg_stream *s = calloc(1, sizeof *s);
    if (!s) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a stream");
    }
    struct fg_address leader;
    if (params->url && fg_address_parse(params->url, &leader, reterr)) {
        free(s);
        return FILA_INVALID_ARGUMENT;
    }
    const struct fg_address *address = params->url ? &leader : &t->address;
    s->channel = fg_channel_use(t, address, params->window ? params->window : t->window);
    if (!s->channel) {
        free(s);
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a connection");
    }
    s->base.transport = transport;
    s->accepted.fire = on_accepted;
    s->received.fire = on_received;
    s->ended.fire = on_ended;
    s->events = params->events;
    s->user = params->user;
    s->own_end = (fila_error)FILA_ERROR_INIT;
    s->asked_at = fila_now();
    s->tell_at = FILA_NEVER;
    grpc_slice body = fg_encode(&request, size);
    s->request = grpc_raw_byte_buffer_create(&body, 1);
    grpc_slice_unref(body);
    grpc_metadata_array_init(&s->head);
    grpc_metadata_array_init(&s->trail);
    grpc_slice authority = grpc_slice_from_copied_string(address->authority);
    s->call = grpc_channel_create_call(
        s->channel->channel, NULL, 0, t->queue,
        grpc_slice_from_static_string(fila_call_path(FILA_CALL_CONSUME)), &authority,
        gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_slice_unref(authority);
    s->next = t->streams;
    s->link = &t->streams;
    if (s->next) {
        s->next->link = &s->next;
    }
    t->streams = s;
    begin(s);
    *ret_stream = &s->base;
    return FILA_OK;
}

void fg_streams_tell_opened(struct fg_transport *t)
{
    if (t->now < t->next_telling) {
        return;
    }
    t->next_telling = FILA_NEVER;
    for (struct fg_stream *s = t->streams; s; s = s->next) {
        if (s->over) {
            continue;
        }
        if (s->tell_at <= t->now) {
            tell_opened(s);
        } else if (s->tell_at < t->next_telling) {
            t->next_telling = s->tell_at;
        }
    }
}

/* ---- What the owner may do ---- */

void fg_grant(struct fila_stream *stream, uint32_t credits)
{
    struct fg_stream *s = self(stream);
    if (s->stopped || s->over) {
        return;
    }
    s->credits = credits > UINT32_MAX - s->credits ? UINT32_MAX : s->credits + credits;
    if (s->credits && !s->receiving) {
        post_receive(s, fila_now());
    }
}

/* gRPC has nothing between reading on and cancelling, so what is on its way is lost to its lease;
 * only a message that was received already is still handed out. */
void fg_stop_stream(struct fila_stream *stream)
{
    struct fg_stream *s = self(stream);
    if (!s->stopped) {
        (void)fila_fail(&s->own_end, FILA_CANCELLED, "ended by this side");
        stop(s);
    }
}

void fg_cancel_stream(struct fila_stream *stream)
{
    self(stream)->dropping = true;
    fg_stop_stream(stream);
}

void fg_streams_close(struct fg_transport *transport)
{
    for (struct fg_stream *s = transport->streams; s; s = s->next) {
        s->dropping = true;
        if (!s->stopped) {
            (void)fila_fail(&s->own_end, FILA_CLOSED, "the connection was closed");
            stop(s);
        }
    }
}
