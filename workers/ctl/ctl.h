/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The control socket: what changes something in a running worker goes through it (the HTTP port
 * only reads). A unix socket of mode 0600; the peer's user must be ours or root. One request a
 * connection (request.h), answered by one line of JSON, {"ok":true,...} or
 * {"ok":false,"error":...}; a tap answers with a line for each message until the client goes.
 *
 * Properties. A thread for each connection, at most FW_CTL_CLIENTS: a client that is slow holds up
 * itself. What it asks of the worker's threads is asked by message; none of them waits for it.
 *
 * Safety. fw_ctl_start and _stop: supervisor thread. The commands are called on the connections'
 * threads, several at once.
 */
#ifndef FW_CTL_H
#define FW_CTL_H

#include "ctl/path.h"
#include "ctl/request.h"
#include "ctl/tap.h"
#include "status/snapshot.h"

enum {
    FW_CTL_CLIENTS = 8
};

struct fw_ctl;

struct fw_ctl_commands {
    const struct fw_status_source *source;
    /* PAUSE, RESUME, SET: does it. False: `ret_why` says why not (one line). */
    bool (*order)(void *user, const struct fw_ctl_request *request, char *ret_why, size_t size);
    /* The worker stops. */
    void (*drain)(void *user);
    /* Waits until the reload is over. False: it was refused, or did not end in time. */
    bool (*reload)(void *user, char *ret_why, size_t size);
    /* All that is held and every thread into the log. False: the I/O thread does not answer, so
     * only the threads are there. */
    bool (*dump)(void *user);
    /* From here on that tap is offered messages; NULL: none is, and the I/O thread has let go of
     * it. False: it does not answer, and may still use the last one. */
    bool (*tap)(void *user, struct fw_tap *tap);
    void *user;
};

/* Errors: FILA_INVALID_ARGUMENT (no such folder, no rights, another worker has the socket);
 * FILA_NO_MEMORY. `commands` outlives it. */
FILA_NODISCARD fila_status fw_ctl_start(
    const char *path,
    const struct fw_ctl_commands *commands,
    struct fw_ctl **ret_ctl,
    fila_error *reterr);

/* Ends all connections and the threads, and removes the socket. Takes NULL. */
void fw_ctl_stop(struct fw_ctl *ctl);

/* A stream socket that is connected to `path`; -1: `reterr` says why. For the client. */
int fw_ctl_connect(const char *path, fila_error *reterr);

#endif
