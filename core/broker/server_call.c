/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "server.h"
#include "wire/codec.h"

#include <stdlib.h>

/* Slots that wait for calls of a kind: enough that a burst on the busy methods finds one. */
static size_t wanted(unsigned kind)
{
    switch (kind) {
    case FILA_CALL_ENQUEUE:
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
        return 32;
    case FILA_CALL_CONSUME:
        return 4;
    default:
        return 1;
    }
}

static void on_arrived(void *owner, bool ok)
{
    struct server_call *call = owner;
    call->server->posted[call->kind]--;
    if (!ok || atomic_load(&call->server->stopping)) {
        grpc_byte_buffer_destroy(ok ? call->request : NULL);
        call->call = ok ? call->call : NULL;
        server_call_release(call);
        return;
    }
    server_post(call->server, call->kind);
    server_arrive(call);
}

static void on_closed(void *owner, bool ok)
{
    struct server_call *call = owner;
    (void)ok;
    grpc_byte_buffer_destroy(call->answer.body);
    if (call->refused) {
        call->server->refusals--;
    } else {
        server_peer_leave(call, call->kind == FILA_CALL_CONSUME);
    }
    server_call_release(call);
}

void server_register(struct fb_server *server)
{
    for (unsigned i = 0; i < FILA_CALL_COUNT; i++) {
        server->methods[i] = grpc_server_register_method(
            server->grpc, fila_call_path((fila_call)i), NULL,
            GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    }
}

static struct server_call *slot_new(struct fb_server *server)
{
    struct server_call *call = server->pool;
    if (call) {
        server->pool = call->next;
        server->pooled--;
    } else if ((call = malloc(sizeof *call)) == NULL) {
        return NULL;
    }
    *call = (struct server_call){
        .server = server,
        .arrived = {on_arrived, call},
        .closed = {on_closed, call},
    };
    server->slots++;
    return call;
}

static void slot_free(struct server_call *call)
{
    struct fb_server *server = call->server;
    server->slots--;
    if (server->pooled == SERVER_POOL) {
        free(call);
        return;
    }
    call->next = server->pool;
    server->pool = call;
    server->pooled++;
}

static grpc_call_error request_call(struct server_call *call)
{
    struct fb_server *server = call->server;
    if (call->kind == SERVER_UNKNOWN) {
        grpc_call_details_init(&call->details);
        return grpc_server_request_call(
            server->grpc, &call->call, &call->details, &call->metadata, server->queue,
            server->queue, &call->arrived);
    }
    return grpc_server_request_registered_call(
        server->grpc, server->methods[call->kind], &call->call, &call->deadline, &call->metadata,
        &call->request, server->queue, server->queue, &call->arrived);
}

void server_post(struct fb_server *server, unsigned kind)
{
    while (server->posted[kind] < wanted(kind) && !atomic_load(&server->draining)) {
        struct server_call *call = slot_new(server);
        if (!call) {
            return; /* a slot that is released will try again */
        }
        call->kind = kind;
        if (request_call(call) != GRPC_CALL_OK) {
            slot_free(call);
            return;
        }
        server->posted[kind]++;
    }
}

void server_call_release(struct server_call *call)
{
    struct fb_server *server = call->server;
    unsigned kind = call->kind;
    grpc_metadata_array_destroy(&call->metadata);
    if (kind == SERVER_UNKNOWN) {
        grpc_call_details_destroy(&call->details);
    }
    if (call->call) {
        grpc_call_unref(call->call);
    }
    slot_free(call);
    server_post(server, kind);
}

static grpc_byte_buffer *reply_body(const fila_reply *reply)
{
    grpc_slice slice = grpc_slice_malloc(fila_reply_size(reply));
    fila_reply_write(reply, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *body = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return body;
}

void server_answer_set(
    struct server_answer *answer,
    const fila_reply *reply,
    const fila_error *error)
{
    *answer = (struct server_answer){.text = grpc_empty_slice(), .leader = grpc_empty_slice()};
    if (error->code == FILA_OK) {
        answer->body = reply ? reply_body(reply) : NULL;
        return;
    }
    answer->code = error->wire_code >= 0 ? error->wire_code : fila_wire_code(error->code);
    answer->text = grpc_slice_from_copied_string(error->text);
    if (error->code == FILA_NOT_LEADER) {
        answer->leader = grpc_slice_from_copied_string(error->leader);
    }
}

void server_batch(
    struct server_call *call,
    const grpc_op *ops,
    size_t count,
    struct server_event *event)
{
    if (grpc_call_start_batch(call->call, ops, count, event, NULL) != GRPC_CALL_OK) {
        abort(); /* a batch that gRPC cannot take is a mistake in this program */
    }
}

void server_status_op(struct server_call *call, grpc_op *op, grpc_metadata *leader)
{
    struct server_answer *answer = &call->answer;
    *op = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    op->data.send_status_from_server.status = (grpc_status_code)answer->code;
    if (answer->code != GRPC_STATUS_OK) {
        op->data.send_status_from_server.status_details = &answer->text;
    }
    if (GRPC_SLICE_LENGTH(answer->leader)) {
        *leader = (grpc_metadata){
            .key = grpc_slice_from_static_string("x-fila-leader-addr"), .value = answer->leader};
        op->data.send_status_from_server.trailing_metadata_count = 1;
        op->data.send_status_from_server.trailing_metadata = leader;
    }
}

void server_call_answer(struct server_call *call)
{
    grpc_metadata leader;
    grpc_op ops[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &call->cancelled},
    };
    size_t count = 3;
    if (call->server->frozen && server_freeze_holds(call)) {
        return;
    }
    server_status_op(call, &ops[2], &leader);
    if (call->answer.body) {
        ops[count++] = (grpc_op){
            .op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->answer.body};
    }
    server_batch(call, ops, count, &call->closed);
    grpc_slice_unref(call->answer.text);
    grpc_slice_unref(call->answer.leader);
}
