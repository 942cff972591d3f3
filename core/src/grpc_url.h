/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The `grpc://` URLs that users write, and the targets that gRPC wants for them. Thread: any.
 */
#ifndef FILA_CORE_GRPC_URL_H
#define FILA_CORE_GRPC_URL_H

#include "fila/client.h"

#define FG_DEFAULT_PORT 5555

struct fg_address {
    /* For gRPC: "dns:///HOST:PORT", "ipv4:///A.B.C.D:PORT", "ipv6:///[A]:PORT" or "unix:///PATH".
     * Always with three slashes, so that it differs from the peer name that gRPC gives a call that
     * was answered: see fg_explain. */
    char target[512];
    char name[300];      /* for people: "HOST:PORT", "[A]:PORT" or "unix:/PATH" */
    char authority[300]; /* for HTTP/2: the name, or "localhost" for a socket's path */
};

/* Takes grpc://HOST[:PORT], grpc://A.B.C.D[:PORT], grpc://[IPV6][:PORT] (each also with a slash at
 * the end) and grpc://unix:/PATH. Without a port it is 5555. Errors: FILA_INVALID_ARGUMENT with
 * what is wrong; user information is refused without being repeated, since it may be a secret. */
FILA_NODISCARD fila_status
fg_address_parse(const char *url, struct fg_address *ret_address, fila_error *reterr);

/* Whether `text` is HOST:PORT with a host that can be connected to (no wildcard): what a broker may
 * name as the leader. */
bool fg_is_host_port(fila_view text);

#endif
