/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The I/O thread of a broker: it owns the transport (all streams, all settlements, all timers) and
 * the queues' engines.
 *
 * Properties. No lock on the message path. What other threads want goes through a mailbox;
 * handlers' results come back on the lock-free done list. The thread is woken only when it sleeps.
 *
 * Operation. One turn: wait in the transport until the next timer at the latest; take the results;
 * read the mailbox; let every queue carry out its engine's commands; hand the collected settlements
 * and publishes to the transport. With several broker URLs: when every stream is down for want of a
 * connection, the next URL is tried.
 *
 * Safety. fw_io_* below: supervisor thread. The callbacks of fw_io_events run on the I/O thread and
 * must only note and wake.
 */
#ifndef FW_HOST_IO_H
#define FW_HOST_IO_H

#include "config/config.h"
#include "queue.h"
#include "state.h"
#include "status/snapshot.h"

struct fw_io;

struct fw_io_events {
    void (*stream_up)(void *user);                       /* some queue has a working stream */
    void (*missing)(void *user, struct fw_queue *queue); /* missing_queue = "fail" */
    void (*drained)(void *user, struct fw_queue *queue); /* the I/O thread has let go of it */
    void (*failed)(void *user, const fila_error *why);   /* the thread cannot go on */
};

struct fw_io_options {
    const struct fw_config *config; /* brokers, key, TLS: read at start only */
    struct fila_broker *broker;     /* for embedded: URLs */
    uint32_t window;                /* flow-control bytes of a stream */
    const struct fw_state *state;   /* outlives it; NULL: none */
    const struct fw_io_events *events;
    void *user;
};

/* Opens the transport and starts the thread. Errors: as fila_transport_open; FILA_NO_MEMORY. */
FILA_NODISCARD fila_status
fw_io_start(const struct fw_io_options *options, struct fw_io **ret_io, fila_error *reterr);

/* Where the executors of this I/O thread's queues put their results. */
struct fw_done_list *fw_io_done_list(struct fw_io *io);
/* The URL in use, for the log. Any thread; lives as long as the first config. */
const char *fw_io_url(struct fw_io *io);

/* Each goes through the mailbox and takes effect soon. The queue is the I/O thread's until
 * `drained`. */
void fw_io_add(struct fw_io *io, struct fw_queue *queue);
void fw_io_drain(struct fw_io *io, struct fw_queue *queue, int64_t deadline); /* queue NULL: all */
void fw_io_pause(struct fw_io *io, bool on);
void fw_io_reconfigure(
    struct fw_io *io,
    struct fw_queue *queue,
    const struct fw_queue_config *config);

/* A new bound on what runs over all queues; 0 = none. */
void fw_io_limit(struct fw_io *io, uint32_t max_running);
/* For the queues that it is to get; NULL without a state_dir. */
struct fw_journal *fw_io_journal(struct fw_io *io);

/* Waits until everything asked for above has been taken up (not until it is done). */
void fw_io_sync(struct fw_io *io);

/* A snapshot with the queues' part filled (`what`: FW_SNAPSHOT_*), taken by the I/O thread between
 * two events; NULL when it has not answered within `patience` ns, has ended, or has no memory.
 * Thread: any, while the I/O thread is not being stopped. */
struct fw_snapshot *fw_io_look(struct fw_io *io, unsigned what, int64_t patience);

/* An order of an operator's to a queue, or to all of them. */
enum fw_order_kind {
    FW_ORDER_PAUSE,
    FW_ORDER_RESUME,
    FW_ORDER_ADJUST,
    FW_ORDER_TAP
};

struct fw_order {
    enum fw_order_kind kind;
    const char *queue;    /* NULL = all */
    double rate;          /* ADJUST: as fw_queue_adjust */
    uint32_t concurrency; /* ADJUST */
    struct fw_tap *tap;   /* TAP; NULL = off */
};

enum fw_obeyed {
    FW_OBEYED,
    FW_NO_SUCH_QUEUE,
    FW_OVER_CHILDREN, /* more than there are children to run them */
    FW_NO_ANSWER      /* within `patience`: it may still be done later */
};

/* Has it done by the I/O thread, and waits for that. Thread: as fw_io_look. */
enum fw_obeyed fw_io_order(struct fw_io *io, const struct fw_order *order, int64_t patience);

/* Ends the thread; every queue must have drained. Calls still in flight end as cancelled. Frees.
 * Takes NULL. */
void fw_io_stop(struct fw_io *io);

#endif
