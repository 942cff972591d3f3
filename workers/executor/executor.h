/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Running handlers: the interface between the I/O thread (which starts jobs and takes results) and
 * whatever runs them. Implementations: `threads` (pool.c: a pool of pthreads per queue, one plugin
 * instance per thread); later `process`.
 *
 * Properties. Every job that was submitted comes back exactly once on the done list, with a
 * verdict, no later than `stuck_after` past its deadline, whatever its handler does. Nothing is
 * done per message across threads: submissions go over in batches under one lock with one signal,
 * results come back on a lock-free list, and the I/O thread is woken only when it sleeps
 * (grpc-limits chapter 11).
 *
 * Operation. I/O thread: fw_executor_submit(chain) -> worker: handle -> fw_done_push -> I/O thread:
 * fw_done_take. A watch thread (watch.c) sleeps until the earliest deadline of what runs: it marks
 * runs cancelled, ends deferred ones, and gives up those that do not return.
 *
 * Safety. A job belongs to the I/O thread until submitted and again once taken from the done list;
 * in between to the executor. A message outlives its job when a handler keeps it beyond the job's
 * end (stuck, or deferred and never completed): that is why it is freed with fw_job_free_message.
 */
#ifndef FW_EXECUTOR_H
#define FW_EXECUTOR_H

#include "delivery/delivery.h"
#include "fila/client.h"

#include <stdatomic.h>

/* Bytes of the longest reason, its zero included: exec passes on the last 4 KiB of its standard
 * error. */
#define FW_REASON_SIZE 4352

struct fw_plugin; /* plugin/loader.h */
struct fw_outgoing; /* outbox.h */
struct fw_run;
struct fw_hold;

/* One run of one message. Zero-initialize, then set message, deadline, attempt, user. */
struct fw_job {
    struct fw_job *next;   /* chains submissions and results */
    fila_message *message; /* owned by the I/O thread's delivery; read-only here */
    int64_t deadline;      /* CLOCK_BOOTTIME ns */
    uint32_t attempt;      /* tries including this one */
    atomic_bool cancelled;
    /* Filled by the executor. `started` is 0 when the handler was never called (cancelled, late, or
     * stopped before its turn): then it is FW_RETRY with FW_CAUSE_NONE, and no try. */
    struct fw_verdict verdict;
    char *reason; /* why the handler failed, in UTF-8: malloc'ed by the executor, the I/O thread
                     frees it; NULL = nothing said */
    struct fw_outgoing *outbox; /* of an ack: what the handler published; the I/O thread frees it
                                   (fw_outgoing_free); NULL = nothing */
    void *user;

    /* The executor's own. */
    _Atomic(struct fw_run *) run;
    uint64_t generation;
    struct fw_hold *hold;
};

/* Frees job->message, now or once a handler that still has it lets it go, and sets it to NULL. I/O
 * thread, when it is done with the message; in place of fila_message_free for any message that was
 * ever submitted. A job may be submitted again (a retry under the same lease) as it is. */
void fw_job_free_message(struct fw_job *job);

/* A malloc'ed reason: `text` in UTF-8, cut to FW_REASON_SIZE - 1 bytes; NULL of nothing, or without
 * memory. Any thread. */
char *fw_reason_copy(const char *text);

/* Where results go. One per I/O thread; any number of pools push to it. Zero-initialize and set
 * wake and user. */
struct fw_done_list {
    _Atomic(struct fw_job *) head;
    atomic_bool sleeping;     /* the I/O thread is about to block, or blocked */
    void (*wake)(void *user); /* called on the pushing thread, at most once per sleep */
    void *user;
};

void fw_done_push(struct fw_done_list *list, struct fw_job *job); /* any thread */
struct fw_job *fw_done_take(
    struct fw_done_list *list); /* I/O thread: all of them, oldest first; NULL = none */
/* I/O thread, around its blocking wait: `begin` returns false when results are there already (do
 * not block). */
bool fw_done_sleep_begin(struct fw_done_list *list);
void fw_done_sleep_end(struct fw_done_list *list);

struct fw_executor;

struct fw_executor_options {
    const char *queue;              /* for logs and thread names; copied */
    const struct fw_plugin *plugin; /* loaded and with its options bound; outlives the executor */
    uint32_t concurrency;           /* threads; at least 1 */
    struct fw_done_list *done;      /* outlives the executor */
    int64_t stuck_after;   /* ns past its deadline after which a handler is given up; 0 = 5 s */
    int64_t probe_timeout; /* ns after which a probe counts as "no"; 0 = 30 s */
    int64_t start_timeout; /* ns that an instance's init may take; 0 = 60 s */
    /* Called about every 50 ms by fw_executor_start while it waits for an init; false gives up. May
     * be NULL. */
    bool (*go_on)(void *user);
    void *user;
};

/* Starts the threads and makes the instances (on their own threads). Errors: FILA_INVALID_ARGUMENT
 * with the handler's own reason when its init fails; FILA_NO_MEMORY; FILA_TIMEOUT when an init has
 * not returned after start_timeout, and FILA_CANCELLED when go_on said so: then a thread is still
 * in there, and the plugin must stay for ever. Blocks for as long as init does, within
 * start_timeout.
 */
FILA_NODISCARD fila_status fw_executor_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr);
/* I/O thread; a chain of jobs by `next`. Never blocks for long. */
void fw_executor_submit(struct fw_executor *executor, struct fw_job *chain);
/* I/O thread: sets job->cancelled and tells whoever runs it. Of a job that has not been taken from
 * the done list yet. */
void fw_executor_cancel(struct fw_executor *executor, struct fw_job *job);
/* Whether the handler has a probe slot; and to ask it, on a worker thread: `answer` is called
 * there, exactly once (false when the executor stops before that; on another thread when the probe
 * does not return in time). False = out of memory, no answer. */
bool fw_executor_has_probe(const struct fw_executor *executor);
bool fw_executor_probe(
    struct fw_executor *executor,
    void (*answer)(void *user, bool healthy),
    void *user);
/* How many runs were given up and have not let go yet (stuck threads, and deferred messages that
 * were never completed): the metric `stuck_handlers`. Thread: any. */
uint32_t fw_executor_stuck(const struct fw_executor *executor);
/* Takes no more jobs, puts those without a thread on the done list, waits for running handlers up
 * to `deadline` (CLOCK_BOOTTIME ns), closes the instances, frees. Does not cancel what runs: do
 * that before. False: some were still running at the deadline (or had been given up before): their
 * jobs are on the done list as timeouts, and they were abandoned with their thread; their memory is
 * leaked on purpose, since a thread is never killed. The done list is to be taken once more
 * afterwards in any case. */
bool fw_executor_stop(struct fw_executor *executor, int64_t deadline);

#endif
