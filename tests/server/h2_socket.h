/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * HTTP/2 by hand over a plain socket, for clients that no library would be: those that do not read,
 * flood, or break off. Blocking; a failure of its own aborts.
 */
#ifndef TESTS_SERVER_H2_SOCKET_H
#define TESTS_SERVER_H2_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A TCP connection to 127.0.0.1:`port`, nothing said yet. Reads and writes give up after 10 s. */
int tcp_connect(uint16_t port);
/* The same after the HTTP/2 preface and an empty SETTINGS frame. */
int h2_connect(uint16_t port);

enum {
    H2_DATA = 0,
    H2_HEADERS = 1,
    H2_RST = 3,
    H2_SETTINGS = 4,
    H2_PING = 6,
    H2_GOAWAY = 7,
    H2_WINDOW = 8
};

/* Writes one frame; false if the connection is gone or takes no more. */
bool h2_write(int fd, int type, int flags, uint32_t stream, const void *payload, size_t len);
/* The HEADERS of a gRPC request into `out` (room for 512 bytes); returns the length. */
size_t h2_headers(const char *path, uint8_t *out);
/* A whole unary or Consume request on `stream` (odd, rising). */
bool h2_request(int fd, uint32_t stream, const char *path, const void *message, size_t len);

struct h2_frame {
    int type;
    int flags;
    uint32_t stream;
    size_t len;
    uint8_t payload[16384 + 1];
};

/* False at the end of the connection, or after 10 s without a frame. */
bool h2_read(int fd, struct h2_frame *ret_frame);

#endif
