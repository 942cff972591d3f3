/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The inside of a fila_client, shared by client*.c and consumer.c.
 *
 * Properties. One I/O thread owns the transport. What other threads want of it travels as an fc_op
 * on a lock-free list; the thread is woken only when it sleeps, or is about to.
 *
 * Operation. fc_post pushes; the I/O thread takes the whole list before each run of the transport.
 * At the end of its life the thread replaces the list by a mark, so that an op either is run or is
 * refused, never forgotten.
 *
 * Safety. An op is run exactly once if fc_post took it, on the I/O thread, with no lock held. With
 * `closed` set the transport must not be touched any more.
 */
#ifndef FILA_CORE_CLIENT_IMPL_H
#define FILA_CORE_CLIENT_IMPL_H

#include "transport.h"

#include <pthread.h>
#include <stdatomic.h>

struct fc_op {
    struct fc_op *next;
    void (*run)(fila_client *client, struct fc_op *op, bool closed);
};

struct fila_client {
    struct fila_transport *transport;
    struct fila_broker *own_broker; /* of `embedded:` without a broker given; else NULL */
    uint32_t call_timeout_ms;
    pthread_t thread;
    _Atomic(struct fc_op *) inbox;
    atomic_bool sleeping; /* the I/O thread waits, or is about to */
    atomic_bool closing;
};

/* Opens a client over `transport`, which it owns from then on (not on failure). `options` gives the
 * call timeout only. For tests, too. */
FILA_NODISCARD fila_status fc_open_over(
    struct fila_transport *transport,
    const fila_client_options *options,
    fila_client **ret_client,
    fila_error *reterr);

/* Hands `op` to the I/O thread; false when the client is closed, and the op stays the caller's. */
bool fc_post(fila_client *client, struct fc_op *op);

bool fc_on_own_thread(const fila_client *client);

/* An error that is told for what the client's end kept from being sent. */
fila_status fc_fail_closed(fila_error *reterr);

/* ---- request_check.c ---- */

/* Whether a Fila broker can take the request at all: names, keys and ids are UTF-8 of at most
 * 65,535 bytes (longer ones stop a whole broker: contract I25), and the encoded request has at most
 * `max_message` bytes (0 = no limit). Errors: FILA_INVALID_ARGUMENT, FILA_TOO_LARGE. */
FILA_NODISCARD fila_status
fc_check_request(const fila_request *request, uint32_t max_message, fila_error *reterr);

#endif
