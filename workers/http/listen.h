/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The address of the HTTP port. Thread: any.
 */
#ifndef FW_HTTP_LISTEN_H
#define FW_HTTP_LISTEN_H

#include "fila/client.h"

#include <sys/socket.h>

struct fw_listen_address {
    struct sockaddr_storage address;
    socklen_t len;
    bool loopback; /* only this machine can reach it */
};

/* "HOST:PORT", "[IPv6]:PORT", ":PORT" (every address). FILA_INVALID_ARGUMENT with what is wrong. */
FILA_NODISCARD fila_status
fw_listen_parse(const char *text, struct fw_listen_address *ret_address, fila_error *reterr);

/* A listening socket, or -1 with errno. */
int fw_listen_open(const struct fw_listen_address *address);
/* The port that a socket has. */
unsigned fw_listen_port(int fd);

#endif
