/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "server/raw_client.h"

#include "wire/codec.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/compression.h>
#include <grpc/grpc_security.h>

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                          \
    do {                                                                     \
        if (!(what)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                         \
        }                                                                    \
    } while (0)

struct raw_client {
    grpc_channel *channel;
    grpc_completion_queue *queue;
};

struct raw_call {
    struct raw_client *client;
    grpc_call *call;
    grpc_byte_buffer *request;
    grpc_byte_buffer *message; /* read by the receive that is under way */
    bool receiving;
    bool over; /* a receive came back empty */
    grpc_metadata_array headers;
    grpc_metadata_array trailers;
    grpc_status_code code;
    grpc_slice text;
    bool headers_done;
    bool receive_done;
    bool send_done;
    bool status_done;
};

/* ---- Clients ---- */

static gpr_timespec in_ms(int ms)
{
    return ms < 0
               ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
               : gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(ms, GPR_TIMESPAN));
}

enum {
    MAX_ARGS = 8
};

struct arg {
    char key[64];
    int value;
};

/* `args` end with an empty key. */
static struct raw_client *open_with(const char *target, struct arg *args)
{
    struct raw_client *client = calloc(1, sizeof *client);
    grpc_arg list[MAX_ARGS];
    grpc_channel_args all = {0, list};
    CHECK(client);
    for (; args->key[0]; args++) {
        list[all.num_args++] = (grpc_arg){GRPC_ARG_INTEGER, args->key, {.integer = args->value}};
    }
    grpc_init();
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    client->channel = grpc_channel_create(target, plain, &all);
    grpc_channel_credentials_release(plain);
    client->queue = grpc_completion_queue_create_for_next(NULL);
    return client;
}

static struct raw_client *open_port(uint16_t port, struct arg *args)
{
    char target[32];
    (void)snprintf(target, sizeof target, "127.0.0.1:%u", port);
    return open_with(target, args);
}

struct raw_client *raw_open(const char *target)
{
    struct arg args[MAX_ARGS] = {
        {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
        {GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, 16 << 20},
        {GRPC_ARG_ENABLE_RETRIES, 0},
    };
    return open_with(target, args);
}

struct raw_client *raw_open_port(uint16_t port)
{
    char target[32];
    (void)snprintf(target, sizeof target, "127.0.0.1:%u", port);
    return raw_open(target);
}

struct raw_client *raw_open_gzip(uint16_t port)
{
    struct arg args[MAX_ARGS] = {
        {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
        {GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM, GRPC_COMPRESS_GZIP},
    };
    return open_port(port, args);
}

struct raw_client *raw_open_lean(uint16_t port)
{
    struct arg args[MAX_ARGS] = {
        {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
        {GRPC_ARG_MINIMAL_STACK, 1},
        {GRPC_ARG_ENABLE_RETRIES, 0},
        {GRPC_ARG_ENABLE_CHANNELZ, 0},
        {GRPC_ARG_HTTP2_BDP_PROBE, 0},
        {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65535},
    };
    return open_port(port, args);
}

struct raw_client *raw_open_window(uint16_t port, int window)
{
    struct arg args[MAX_ARGS] = {
        {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
        {GRPC_ARG_HTTP2_BDP_PROBE, 0},
        {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, window},
    };
    if (!window) {
        args[1].key[0] = '\0';
    }
    return open_port(port, args);
}

void raw_close(struct raw_client *client)
{
    grpc_completion_queue_shutdown(client->queue);
    CHECK(grpc_completion_queue_next(client->queue, in_ms(-1), NULL).type == GRPC_QUEUE_SHUTDOWN);
    grpc_completion_queue_destroy(client->queue);
    grpc_channel_destroy(client->channel);
    grpc_shutdown();
    free(client);
}

/* ---- Calls ---- */

/* Handles events until *done; a tag is the flag to set. */
static bool wait_for(struct raw_call *call, const bool *done, int timeout_ms)
{
    gpr_timespec until = in_ms(timeout_ms);
    while (!*done) {
        grpc_event event = grpc_completion_queue_next(call->client->queue, until, NULL);
        CHECK(event.type != GRPC_QUEUE_SHUTDOWN);
        if (event.type == GRPC_QUEUE_TIMEOUT) {
            return false;
        }
        *(bool *)event.tag = true;
    }
    return true;
}

static void batch(struct raw_call *call, const grpc_op *ops, size_t count, bool *done)
{
    *done = false;
    CHECK(grpc_call_start_batch(call->call, ops, count, done, NULL) == GRPC_CALL_OK);
}

static void receive(struct raw_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->message};
    call->receiving = true;
    batch(call, &op, 1, &call->receive_done);
}

struct raw_call *raw_start(
    struct raw_client *client,
    const char *path,
    const void *bytes,
    size_t len,
    int timeout_ms)
{
    struct raw_call *call = calloc(1, sizeof *call);
    CHECK(call);
    grpc_slice body = grpc_slice_from_copied_buffer(bytes, len);
    grpc_slice method = grpc_slice_from_copied_string(path);
    call->client = client;
    call->call = grpc_channel_create_call(
        client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->queue, method, NULL,
        in_ms(timeout_ms), NULL);
    call->request = grpc_raw_byte_buffer_create(&body, 1);
    grpc_slice_unref(body);
    grpc_slice_unref(method);
    grpc_op send[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
    };
    grpc_op headers = {
        .op = GRPC_OP_RECV_INITIAL_METADATA,
        .data.recv_initial_metadata.recv_initial_metadata = &call->headers};
    grpc_op status = {
        .op = GRPC_OP_RECV_STATUS_ON_CLIENT,
        .data.recv_status_on_client = {
            .trailing_metadata = &call->trailers,
            .status = &call->code,
            .status_details = &call->text}};
    batch(call, send, 3, &call->send_done);
    batch(call, &headers, 1, &call->headers_done);
    batch(call, &status, 1, &call->status_done);
    receive(call);
    return call;
}

struct raw_call *raw_start_request(struct raw_client *client, const fila_request *request)
{
    size_t len = fila_request_size(request);
    uint8_t *bytes = malloc(len + 1);
    CHECK(bytes);
    fila_request_write(request, bytes);
    struct raw_call *call = raw_start(
        client, fila_call_path(request->call), bytes, len,
        request->timeout_ms ? (int)request->timeout_ms : 60000);
    free(bytes);
    return call;
}

struct raw_call *raw_consume(struct raw_client *client, const char *queue)
{
    fila_request request = {
        .call = FILA_CALL_CONSUME, .timeout_ms = 60000, .as.queue.queue = fila_view_of(queue)};
    return raw_start_request(client, &request);
}

bool raw_headers(struct raw_call *call, int timeout_ms)
{
    return wait_for(call, &call->headers_done, timeout_ms);
}

void raw_cancel(struct raw_call *call)
{
    CHECK(grpc_call_cancel(call->call, NULL) == GRPC_CALL_OK);
}

/* ---- Messages ---- */

static void free_bytes(void *owner)
{
    free(owner);
}

/* The bytes of a message in one piece; frees the buffer. */
static uint8_t *flatten(grpc_byte_buffer *buffer, size_t *ret_len)
{
    grpc_byte_buffer_reader reader;
    CHECK(grpc_byte_buffer_reader_init(&reader, buffer));
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    uint8_t *bytes = malloc(GRPC_SLICE_LENGTH(all) + 1);
    CHECK(bytes);
    *ret_len = GRPC_SLICE_LENGTH(all);
    memcpy(bytes, GRPC_SLICE_START_PTR(all), *ret_len);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(buffer);
    return bytes;
}

/* Waits for the receive under way; NULL as raw_next says. */
static uint8_t *next_bytes(struct raw_call *call, int timeout_ms, size_t *ret_len, bool *ret_quiet)
{
    *ret_quiet = false;
    if (call->over) {
        return NULL;
    }
    if (!call->receiving) {
        receive(call);
    }
    if (!wait_for(call, &call->receive_done, timeout_ms)) {
        *ret_quiet = true;
        return NULL;
    }
    call->receiving = false;
    call->over = !call->message;
    return call->over ? NULL : flatten(call->message, ret_len);
}

uint8_t *raw_next_bytes(struct raw_call *call, int timeout_ms, size_t *ret_len, bool *ret_quiet)
{
    return next_bytes(call, timeout_ms, ret_len, ret_quiet);
}

fila_message *raw_next(struct raw_call *call, int timeout_ms, bool *ret_quiet)
{
    bool quiet;
    size_t len = 0;
    fila_message *message = NULL;
    fila_error error;
    uint8_t *bytes = next_bytes(call, timeout_ms, &len, &quiet);
    if (ret_quiet) {
        *ret_quiet = quiet;
    }
    if (!bytes) {
        return NULL;
    }
    CHECK(fila_message_read(bytes, len, free_bytes, bytes, &message, &error) == FILA_OK);
    CHECK(message); /* a Fila server sends no empty frames */
    return message;
}

/* ---- The end ---- */

static void copy_text(char *to, size_t size, grpc_slice from)
{
    size_t len = GRPC_SLICE_LENGTH(from) < size - 1 ? GRPC_SLICE_LENGTH(from) : size - 1;
    memcpy(to, GRPC_SLICE_START_PTR(from), len);
    to[len] = '\0';
}

static void copy_status(struct raw_call *call, struct raw_end *end)
{
    end->code = (int)call->code;
    copy_text(end->text, sizeof end->text, call->text);
    end->metadata = call->headers.count + call->trailers.count;
    for (size_t i = 0; i < call->trailers.count; i++) {
        if (grpc_slice_str_cmp(call->trailers.metadata[i].key, "x-fila-leader-addr") == 0) {
            copy_text(end->leader, sizeof end->leader, call->trailers.metadata[i].value);
        }
    }
}

struct raw_end raw_finish(struct raw_call *call)
{
    struct raw_end end = {0};
    bool quiet;
    size_t len;
    for (uint8_t *bytes; (bytes = next_bytes(call, -1, &len, &quiet));) {
        free(end.bytes);
        end.bytes = bytes;
        end.len = len;
    }
    (void)raw_headers(call, -1);
    CHECK(wait_for(call, &call->status_done, -1));
    CHECK(wait_for(call, &call->send_done, -1));
    copy_status(call, &end);
    grpc_byte_buffer_destroy(call->request);
    grpc_metadata_array_destroy(&call->headers);
    grpc_metadata_array_destroy(&call->trailers);
    grpc_slice_unref(call->text);
    grpc_call_unref(call->call);
    free(call);
    return end;
}

void raw_end_free(struct raw_end *end)
{
    free(end->bytes);
    end->bytes = NULL;
}

struct raw_end raw_unary(
    struct raw_client *client,
    const char *path,
    const void *bytes,
    size_t len,
    int timeout_ms)
{
    return raw_finish(raw_start(client, path, bytes, len, timeout_ms));
}

struct raw_end raw_request(struct raw_client *client, const fila_request *request)
{
    return raw_finish(raw_start_request(client, request));
}
