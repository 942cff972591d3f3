/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The connections of the HTTP port, oldest first, so that none can keep others out: beyond
 * FW_CLIENTS_WANTED the oldest is shut down for each new one, and none lives longer than
 * FW_CLIENT_AGE. A request is answered as soon as it is read, so a probe among ten thousand idle
 * connections gets its answer. Thread: HTTP.
 */
#ifndef FW_HTTP_CLIENTS_H
#define FW_HTTP_CLIENTS_H

#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    FW_CLIENTS_WANTED = 48,
    FW_CLIENTS_LIMIT = 64 /* libmicrohttpd accepts no more than these */
};

#define FW_CLIENT_AGE (30 * FILA_S)

struct fw_client {
    struct fw_client *prev;
    struct fw_client *next;
    int fd;
    int64_t since;
    bool ended; /* shut down by us; libmicrohttpd closes it */
};

struct fw_clients {
    struct fw_client *first;
    struct fw_client *last;
    uint32_t count; /* those that have not been ended */
};

/* NULL without memory: then it is not looked after, but for libmicrohttpd's own limits. */
struct fw_client *fw_client_add(struct fw_clients *clients, int fd, int64_t now);
void fw_client_remove(struct fw_clients *clients, struct fw_client *client);
/* Ends those that are too old; when the next one will be (FILA_NEVER = there is none). */
int64_t fw_clients_tick(struct fw_clients *clients, int64_t now);

#endif
