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
 * What needs the I/O thread's time again and again is a tenant: it says when it next wants a step.
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

/* Linked by fc_move_in. All on the I/O thread, with no lock held. */
struct fc_tenant {
    struct fc_tenant *prev;
    struct fc_tenant *next;
    int64_t wake_at; /* when `step` is to be called; FILA_NEVER = not */
    void (*step)(struct fc_tenant *tenant, int64_t now);
    /* The client is at its end: nothing is in flight any more, and the transport must not be
     * touched. Not for those who have moved out. */
    void (*end)(struct fc_tenant *tenant);
};

struct fila_client {
    struct fila_transport *transport;
    struct fila_broker *own_broker; /* of `embedded:` without a broker given; else NULL */
    uint32_t call_timeout_ms;
    pthread_t thread;
    _Atomic(struct fc_op *) inbox;
    atomic_bool sleeping; /* the I/O thread waits, or is about to */
    atomic_bool closing;
    struct fc_tenant *tenants; /* I/O thread only */
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

/* On the I/O thread. */
void fc_move_in(fila_client *client, struct fc_tenant *tenant);
void fc_move_out(fila_client *client, struct fc_tenant *tenant);

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
