/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One configured queue at work: a delivery engine, its streams, its executor, and the items that
 * are on their way. It translates: transport events and verdicts go into the engine as events, the
 * engine's commands go out as runs, acks, nacks and publishes.
 *
 * Properties. Everything that a delivery needs (job, settlement, dead-letter copy) is one fw_item
 * from a pool: nothing is allocated per message in steady state. An item goes back to the pool when
 * the engine has finished it and nobody else (executor, transport) still uses it.
 *
 * Operation. The I/O thread calls the fw_queue_* event functions, then fw_queue_pump, once per turn
 * of its loop. Settlements and publishes of a turn are collected in a fw_turn and go to the
 * transport as one batch.
 *
 * Safety. All functions: I/O thread, except fw_queue_new, _stop and _free (supervisor, before and
 * after the I/O thread has it).
 */
#ifndef FW_HOST_QUEUE_H
#define FW_HOST_QUEUE_H

#include "config/config.h"
#include "delivery/delivery.h"
#include "executor/executor.h"
#include "journal/crash.h"
#include "journal/journal.h"
#include "src/transport.h"

/* What one turn of the I/O loop collects for the transport. */
struct fw_turn {
    struct fila_transport *transport;
    struct fw_shared *shared;   /* of all engines */
    struct fw_journal *journal; /* or NULL */
    struct fw_crash *crash;     /* or NULL */
    int64_t now;
    int64_t answered_at; /* when the broker last answered a call, in whatever way */
    struct fila_settle *settles;
    struct fila_settle **settles_end;
    struct fila_publish *publishes;
    struct fila_publish **publishes_end;
    struct fw_tap *tap; /* of somebody who watches; NULL = nobody does */
};

struct fw_queue;
struct fw_plugin;
struct fw_tap; /* ctl/tap.h */

struct fw_queue_events {
    /* The queue has a stream that works (first time or again). I/O thread. */
    void (*stream_up)(void *user, struct fw_queue *queue);
    /* A stream ended with what looks like a dead connection. I/O thread. */
    void (*stream_down)(void *user, struct fw_queue *queue, const fila_error *why);
    /* Calls of this queue had no answer in time, and none that was sent since had one. I/O thread.
     */
    void (*calls_hang)(void *user, struct fw_queue *queue);
    /* missing_queue = "fail", and it is missing. I/O thread. */
    void (*missing)(void *user, struct fw_queue *queue);
    /* The drain is over: nothing is held any more; the last call for this queue. I/O thread. */
    void (*drained)(void *user, struct fw_queue *queue);
};

struct fw_queue_options {
    const struct fw_queue_config *config; /* outlives the queue: see fw_queue_reconfigure */
    const char *broker;                   /* URL; outlives the queue */
    const struct fw_plugin *plugin; /* loaded and bound; outlives the queue; NULL with `isolation`
                                       process */
    /* With isolation process. */
    const char *const *secret_variables;
    size_t secret_variable_count;
    void (*problem)(
        void *problem_user,
        const struct fw_diagnostic *problem); /* with a handler's option */
    void *problem_user;
    struct fw_done_list *done;
    struct fw_journal *journal; /* what it knows of the queue is taken up; or NULL */
    bool create; /* the broker is our own: make the queue if it is missing, whatever missing_queue
                    says */
    bool (*go_on)(void *user); /* see fw_executor_options */
    void *user;
};

/* Starts the executor, so it may block as long as the handler's init does, within start_timeout.
 * Errors: as fw_executor_start; with FILA_TIMEOUT and FILA_CANCELLED the plugin and the config must
 * stay. */
FILA_NODISCARD fila_status fw_queue_new(
    const struct fw_queue_options *options,
    struct fw_queue **ret_queue,
    fila_error *reterr);

/* Stops the executor, waiting until `deadline`; supervisor, after `drained` or before the I/O
 * thread ever had it. False: a handler is stuck; its thread is abandoned, and its plugin must
 * stay. */
FILA_NODISCARD bool fw_queue_stop(struct fw_queue *queue, int64_t deadline);
/* After fw_queue_stop and a fw_io_sync (results may still have been on the done list). Takes NULL.
 */
void fw_queue_free(struct fw_queue *queue);

/* The executor's, after fw_queue_new and before fw_queue_stop; supervisor, or any thread that holds
 * that off. */
void fw_queue_executor_state(struct fw_queue *queue, struct fw_executor_state *ret_state);
/* Looks whether the handler's file is a new one: fw_executor_refresh. Supervisor. */
void fw_queue_refresh(struct fw_queue *queue);

const char *fw_queue_name(const struct fw_queue *queue);
const struct fw_queue_config *fw_queue_settings(const struct fw_queue *queue);
struct fw_delivery_stats fw_queue_stats(const struct fw_queue *queue);
/* Whether the drain had to cut something off, and how many of its messages were not returned to the
 * broker. */
bool fw_queue_cut_off(const struct fw_queue *queue);
uint64_t fw_queue_not_returned(const struct fw_queue *queue);

/* The next in a list of its owner's. */
struct fw_queue **fw_queue_link(struct fw_queue *queue);

/* Makes the engine; its first commands open the streams. FILA_NO_MEMORY. `turn` stays the same for
 * the queue's life. */
FILA_NODISCARD fila_status fw_queue_start(
    struct fw_queue *queue,
    struct fw_turn *turn,
    const struct fw_queue_events *events,
    void *user);
void fw_queue_done(struct fw_job *job); /* a result from the done list */
void fw_queue_drain(struct fw_queue *queue, int64_t deadline);
/* Ends its streams; they open again in time. */
void fw_queue_cancel_streams(struct fw_queue *queue);
/* Asks the broker for the queue at once: whether it answers at all shows in `calls_hang`. */
void fw_queue_look(struct fw_queue *queue);
/* Whether it has a stream, and its calls are answered as far as anybody knows. */
bool fw_queue_serves(const struct fw_queue *queue);
/* From here on its broker is this one; `broker` outlives the queue. */
void fw_queue_moved(struct fw_queue *queue, const char *broker);
void fw_queue_pause(struct fw_queue *queue, bool on);
/* Other limits until the next reload: `rate` in starts a second (negative: as it was),
 * `concurrency` messages at once (0: as it was); over the configured one, what is read ahead grows
 * with it. False: more than it has children. */
bool fw_queue_adjust(struct fw_queue *queue, double rate, uint32_t concurrency);
/* New settings of the same handler and concurrency. `config` outlives the queue. */
void fw_queue_reconfigure(struct fw_queue *queue, const struct fw_queue_config *config);
/* Fires the engine's timer if due and carries out its commands. */
void fw_queue_pump(struct fw_queue *queue);
int64_t fw_queue_wake_at(const struct fw_queue *queue);

#endif
