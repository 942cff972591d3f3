/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "server.h"
#include "wire/codec.h"

#include <stdlib.h>

static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct server_call *call = user;
    server_answer_set(&call->answer, reply, error);
    if (server_is_self(call->server)) {
        server_call_answer(call);
    } else {
        server_inbox_put(call);
    }
}

static void fail(struct server_call *call, const fila_error *error)
{
    server_answer_set(&call->answer, NULL, error);
    server_call_answer(call);
}

/* Room for `size` bytes until the next request, or NULL. What one big request took is given back at
 * the next. */
static uint8_t *join_room(struct fb_server *server, size_t size)
{
    const size_t keep = 65536;
    if (server->joined_size < size || (server->joined_size > keep && size <= keep)) {
        size_t room = size < keep ? keep : size;
        free(server->joined);
        server->joined = malloc(room);
        server->joined_size = server->joined ? room : 0;
    }
    return server->joined;
}

/* The request's bytes in one piece: where they lie if they came so, else copied together. */
static fila_status request_bytes(
    struct server_call *call,
    const uint8_t **ret_bytes,
    size_t *ret_len,
    fila_error *reterr)
{
    if (!call->request) {
        return fila_fail(reterr, FILA_INTERNAL, "the call has no request message");
    }
    if (call->request->data.raw.compression != GRPC_COMPRESS_NONE) {
        return fila_fail(reterr, FILA_UNIMPLEMENTED, "compressed requests are not supported");
    }
    const grpc_slice_buffer *in = &call->request->data.raw.slice_buffer;
    if (in->length > SERVER_REQUEST_LIMIT) {
        return fila_fail(
            reterr, FILA_TOO_LARGE, "request of %zu bytes, the limit is %d", in->length,
            SERVER_REQUEST_LIMIT);
    }
    *ret_len = in->length;
    if (in->count <= 1) {
        *ret_bytes = in->count ? GRPC_SLICE_START_PTR(in->slices[0]) : (const uint8_t *)"";
        return FILA_OK;
    }
    uint8_t *at = join_room(call->server, in->length);
    if (!at) {
        return fila_fail(
            reterr, FILA_NO_MEMORY, "no memory for a request of %zu bytes", in->length);
    }
    *ret_bytes = at;
    for (size_t i = 0; i < in->count; i++) {
        memcpy(at, GRPC_SLICE_START_PTR(in->slices[i]), GRPC_SLICE_LENGTH(in->slices[i]));
        at += GRPC_SLICE_LENGTH(in->slices[i]);
    }
    return FILA_OK;
}

/* Bounds what clients pile up. True if the call may go on. */
static bool admit(struct server_call *call, fila_error *reterr)
{
    bool stream = call->kind == FILA_CALL_CONSUME;
    if (server_peer_enter(call, stream)) {
        return true;
    }
    call->refused = true;
    (void)fila_fail(
        reterr, FILA_OVERLOADED, "this connection has its share of the %s that can be open",
        stream ? "streams" : "calls");
    return false;
}

static void serve_unary(struct server_call *call, const fila_request *request)
{
    struct fb_half_open how;
    if (fb_meets_half_open(call->server->broker, request, &how)) {
        server_freeze(call, how.ms);
    }
    fb_call(call->server->broker, request, on_reply, call);
}

static void dispatch(struct server_call *call)
{
    struct fila_scratch scratch = {0};
    fila_request request;
    fila_error error;
    const uint8_t *bytes = NULL;
    size_t len = 0;
    if (call->kind == SERVER_UNKNOWN) {
        (void)fila_fail(&error, FILA_UNIMPLEMENTED, "no such method");
        fail(call, &error);
    } else if (
        request_bytes(call, &bytes, &len, &error) ||
        fila_request_read((fila_call)call->kind, bytes, len, &scratch, &request, &error)) {
        fail(call, &error);
    } else if (call->kind == FILA_CALL_CONSUME) {
        server_stream_open(call, &request);
    } else {
        serve_unary(call, &request);
    }
    fila_scratch_free(&scratch);
}

void server_serve(struct server_call *call)
{
    grpc_byte_buffer *request = call->request;
    dispatch(call);
    grpc_byte_buffer_destroy(request);
}

static void refuse(struct server_call *call, const fila_error *error)
{
    grpc_byte_buffer_destroy(call->request);
    if (call->server->refusals == SERVER_MAX_REFUSALS) {
        (void)grpc_call_cancel_with_status(
            call->call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many calls", NULL);
        server_call_release(call);
    } else {
        call->server->refusals++;
        fail(call, error);
    }
}

void server_arrive(struct server_call *call)
{
    fila_error error;
    if (!admit(call, &error)) {
        refuse(call, &error);
        return;
    }
    if (call->server->frozen) {
        server_freeze_check(call);
    }
    if (server_peer_is_greedy(call)) {
        server_peer_wait(call);
    } else {
        server_serve(call);
    }
}
