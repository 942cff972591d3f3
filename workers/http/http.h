/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The HTTP port: /livez /readyz /startupz /metrics /status /version and the page for people at /.
 * Reading only.
 *
 * Properties. One thread of its own (libmicrohttpd driven by epoll): nothing here runs on the path
 * of a message. What a client can cost is bounded: connections (the oldest is closed for a new one,
 * so that a probe gets through a flood), bytes of a request, time of a connection, pages being sent
 * at once, and looks at the worker (a page is made at most ten times a second, and shared).
 *
 * Operation. A port that is in use does not stop the worker, which has messages to handle: the log
 * says HTTP-OFF, and the port is tried again every 5 s (a worker that drains may still have it).
 *
 * Safety. fw_http_start and _stop: supervisor thread. The source's functions are called on the HTTP
 * thread.
 */
#ifndef FW_HTTP_H
#define FW_HTTP_H

#include "status/snapshot.h"

struct fw_http;

struct fw_http_options {
    const char *listen; /* "HOST:PORT", "[::1]:PORT" or ":PORT"; port 0 = any free one */
    const struct fw_status_source *source; /* outlives the server */
};

/* Whether this build has it. */
bool fw_http_available(void);

/* Starts the thread. Errors: FILA_INVALID_ARGUMENT (the address cannot be understood, or is not
 * this machine's); FILA_UNSUPPORTED (built without libmicrohttpd); FILA_NO_MEMORY. A port that is
 * in use is no error. */
FILA_NODISCARD fila_status
fw_http_start(const struct fw_http_options *options, struct fw_http **ret_http, fila_error *reterr);

/* Ends the thread; waits for it. Takes NULL. */
void fw_http_stop(struct fw_http *http);

#endif
