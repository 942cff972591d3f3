/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "grpc_internal.h"
#include "wire/codec.h"

#include <grpc/byte_buffer.h>
#include <grpc/support/alloc.h>

#include <stdio.h>
#include <stdlib.h>

/* What a Fila server leases ahead of a stream's reader (contract A5): two channels of 64, one
 * message in hand between them, and one being encoded. */
#define PIPE_SLOTS   (64 + 1 + 64 + 1)
#define ENCODE_BYTES (32u << 10)
#define MAX_MESSAGE  (4u << 20)

/* C core accepts windows from 5 bytes; below this nothing works as meant. */
#define LEAST_WINDOW 1024u
#define MOST_WINDOW  (1u << 30)

/* ---- Bytes ---- */

grpc_slice fg_encode(const fila_request *request, size_t size)
{
    grpc_slice body = grpc_slice_malloc(size);
    fila_request_write(request, GRPC_SLICE_START_PTR(body));
    return body;
}

bool fg_bytes(
    const grpc_byte_buffer *buffer,
    const uint8_t **ret_bytes,
    size_t *ret_len,
    uint8_t **ret_copy)
{
    const grpc_slice_buffer *in = &buffer->data.raw.slice_buffer;
    *ret_copy = NULL;
    *ret_len = in->length;
    if (in->count == 1) {
        *ret_bytes = GRPC_SLICE_START_PTR(in->slices[0]);
        return true;
    }
    uint8_t *copy = malloc(in->length ? in->length : 1);
    if (!copy) {
        return false;
    }
    uint8_t *at = copy;
    for (size_t i = 0; i < in->count; i++) {
        memcpy(at, GRPC_SLICE_START_PTR(in->slices[i]), GRPC_SLICE_LENGTH(in->slices[i]));
        at += GRPC_SLICE_LENGTH(in->slices[i]);
    }
    *ret_bytes = copy;
    *ret_copy = copy;
    return true;
}

/* ---- Opening ---- */

static bool given(const char *text)
{
    return text && text[0];
}

static bool may_be_in_header(const char *text)
{
    for (; *text; text++) {
        if (*text < 0x21 || *text > 0x7e) {
            return false;
        }
    }
    return true;
}

static fila_status check(const fila_client_options *o, fila_error *reterr)
{
    if (given(o->tls_ca) || given(o->tls_cert) || given(o->tls_key)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "TLS files are given, but the URL \"%s\" is not encrypted", o->url);
    }
    if (given(o->api_key) && !may_be_in_header(o->api_key)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "the API key holds a space, a control character or one that is not ASCII");
    }
    if (o->calls_in_flight == 0 || o->calls_in_flight > 4096) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "calls_in_flight is %u; it must be 1 to 4096",
            o->calls_in_flight);
    }
    if (o->window < LEAST_WINDOW || o->window > MOST_WINDOW) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "window is %u bytes; it must be %u to %u", o->window,
            LEAST_WINDOW, MOST_WINDOW);
    }
    if (o->receive_limit == 0) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "receive_limit is 0 bytes");
    }
    if (o->keepalive_ms && o->keepalive_timeout_ms == 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "keepalive_ms is %u, but keepalive_timeout_ms is 0",
            o->keepalive_ms);
    }
    return FILA_OK;
}

static void set_key(struct fg_transport *t, const char *api_key)
{
    char *value = NULL;
    if (!given(api_key)) {
        return;
    }
    if (asprintf(&value, "Bearer %s", api_key) < 0) {
        abort();
    }
    t->key.key = grpc_slice_from_static_string("authorization");
    t->key.value = grpc_slice_from_copied_string(value);
    t->key_count = 1;
    explicit_bzero(value, strlen(value));
    free(value);
}

static void set_caps(struct fg_transport *t, const fila_client_options *o)
{
    t->base.caps = (struct fila_transport_caps){
        .pipe_slots = PIPE_SLOTS,
        .pipe_bytes = 2 * o->window + ENCODE_BYTES,
        .settle_batch = 1,
        .in_flight = o->calls_in_flight,
        .max_message = MAX_MESSAGE,
    };
    t->receive_limit = o->receive_limit;
    t->window = o->window;
    t->keepalive_ms = o->keepalive_ms;
    t->keepalive_timeout_ms = o->keepalive_timeout_ms;
    t->reconnect_max_ms = o->reconnect_max_ms;
}

static void fg_free(struct fila_transport *transport);

static fila_status start(struct fg_transport *t, fila_error *reterr)
{
    t->flying = calloc(t->base.caps.in_flight, sizeof(struct fg_call *));
    t->queue = grpc_completion_queue_create_for_next(NULL);
    t->main = fg_channel_use(t, &t->address, t->window);
    if (!t->flying || !t->main) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a connection");
    }
    for (int call = 0; call < FILA_CALL_COUNT; call++) {
        t->methods[call] = grpc_channel_register_call(
            t->main->channel, fila_call_path((fila_call)call), t->address.authority, NULL);
    }
    t->woke.fire = fg_woke;
    t->waker = grpc_channel_create_call(
        t->main->channel, NULL, 0, t->queue, grpc_slice_from_static_string("/"), NULL,
        gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    return FILA_OK;
}

static fila_status fg_open(
    const fila_client_options *options,
    struct fila_transport **ret_transport,
    fila_error *reterr)
{
    struct fg_address address;
    fila_status status = fg_address_parse(options->url, &address, reterr);
    if (!status) {
        status = check(options, reterr);
    }
    if (status) {
        return status;
    }
    struct fg_transport *t = calloc(1, sizeof *t);
    if (!t) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a connection");
    }
    grpc_init();
    t->base.ops = &fila_grpc_transport;
    t->address = address;
    t->now = fila_now();
    t->next_deadline = FILA_NEVER;
    t->next_telling = FILA_NEVER;
    t->finished.last = &t->finished.first;
    for (int k = 0; k < FG_CLASSES; k++) {
        t->waiting[k].last = &t->waiting[k].first;
    }
    set_caps(t, options);
    set_key(t, options->api_key);
    status = start(t, reterr);
    if (status) {
        t->closing = true;
        fg_free(&t->base);
        return status;
    }
    *ret_transport = &t->base;
    return FILA_OK;
}

/* ---- The end ---- */

static void fg_shutdown(struct fila_transport *transport)
{
    struct fg_transport *t = (struct fg_transport *)transport;
    if (!t->closing) {
        t->closing = true;
        fg_streams_close(t);
        fg_calls_close(t);
    }
}

static void fg_free(struct fila_transport *transport)
{
    struct fg_transport *t = (struct fg_transport *)transport;
    fg_shutdown(transport);
    while (fg_run(transport, FILA_NEVER)) {
    }
    if (t->waker) {
        grpc_call_unref(t->waker);
    }
    fg_channel_leave(t->main);
    grpc_completion_queue_shutdown(t->queue);
    while (grpc_completion_queue_next(t->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(t->queue);
    if (t->key_count) {
        grpc_slice_unref(t->key.value);
    }
    fg_calls_free(t);
    grpc_shutdown();
    free(t);
}

const struct fila_transport_ops fila_grpc_transport = {
    .scheme = "grpc",
    .open = fg_open,
    .run = fg_run,
    .wake = fg_wake,
    .open_stream = fg_open_stream,
    .grant = fg_grant,
    .stop_stream = fg_stop_stream,
    .cancel_stream = fg_cancel_stream,
    .settle = fg_settle,
    .publish = fg_publish,
    .unary = fg_unary,
    .shutdown = fg_shutdown,
    .free = fg_free,
};
