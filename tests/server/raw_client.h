/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A client of the gRPC server that hides nothing: it sends any bytes to any path, and hands out
 * status numbers, texts and trailing metadata as they came. For tests; a failure of its own aborts.
 *
 * Thread: a client and all its calls belong to one thread.
 */
#ifndef TESTS_SERVER_RAW_CLIENT_H
#define TESTS_SERVER_RAW_CLIENT_H

#include <fila/client.h>

#include <grpc/grpc.h>

struct raw_client;
struct raw_call;

/* How a call ended. */
struct raw_end {
    int code;
    char text[512];
    char leader[128]; /* x-fila-leader-addr */
    size_t metadata;  /* headers and trailers, those that gRPC keeps to itself apart */
    uint8_t *bytes;   /* the last message of a unary call; freed by raw_end_free */
    size_t len;
};

/* `target` as gRPC takes it. A second client has a connection of its own. */
struct raw_client *raw_open(const char *target);
struct raw_client *raw_open_port(uint16_t port);
void raw_close(struct raw_client *client);
/* Compresses everything with gzip. */
struct raw_client *raw_open_gzip(uint16_t port);

/* With the arguments of a lean client, and windows of 64 KiB that do not grow. */
struct raw_client *raw_open_lean(uint16_t port);

/* What contract A5 varies: a stream window of `window` bytes that does not grow; 0: gRPC's own.
 * Receives 4 MiB at most, as gRPC's clients do unless told. */
struct raw_client *raw_open_window(uint16_t port, int window);

/* A unary call, waited for. `timeout_ms` also goes to the server. */
struct raw_end raw_unary(
    struct raw_client *client,
    const char *path,
    const void *bytes,
    size_t len,
    int timeout_ms);
/* The same with a request of the codec. */
struct raw_end raw_request(struct raw_client *client, const fila_request *request);
void raw_end_free(struct raw_end *end);

/* A call in steps. */
struct raw_call *raw_start(
    struct raw_client *client,
    const char *path,
    const void *bytes,
    size_t len,
    int timeout_ms);
struct raw_call *raw_start_request(struct raw_client *client, const fila_request *request);
struct raw_call *raw_consume(struct raw_client *client, const char *queue);
/* Whether the response headers came in time. */
bool raw_headers(struct raw_call *call, int timeout_ms);
/* The next message of a stream; NULL when the stream is over or nothing came in time (`ret_quiet`
 * tells which; it may be NULL). */
fila_message *raw_next(struct raw_call *call, int timeout_ms, bool *ret_quiet);
/* The same as bytes, an empty frame included; the caller frees them. */
uint8_t *raw_next_bytes(struct raw_call *call, int timeout_ms, size_t *ret_len, bool *ret_quiet);
void raw_cancel(struct raw_call *call);
/* Waits for the end, reading what still comes, and frees the call. */
struct raw_end raw_finish(struct raw_call *call);

#endif
