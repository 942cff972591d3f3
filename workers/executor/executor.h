/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Running handlers: the interface between the I/O thread (which starts jobs and takes results) and
 * whatever runs them. Implementations: `threads` (pool.c: a pool of pthreads per queue, one plugin
 * instance per thread); later `process`.
 *
 * Properties. Every job that was submitted comes back exactly once on the done list, with a
 * verdict. Nothing is done per message across threads: submissions go over in batches under one
 * lock with one signal, results come back on a lock-free list, and the I/O thread is woken only
 * when it sleeps (grpc-limits chapter 11).
 *
 * Operation. I/O thread: fw_executor_submit(chain) -> worker: handle -> fw_done_push -> I/O thread:
 * fw_done_take.
 *
 * Safety. A job belongs to the I/O thread until submitted and again once taken from the done list;
 * in between to the executor, except `cancelled`, which the I/O thread may set at any time.
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

/* One run of one message. */
struct fw_job {
    struct fw_job *next;   /* chains submissions and results */
    fila_message *message; /* owned by the I/O thread's delivery; read-only here */
    int64_t deadline;      /* CLOCK_BOOTTIME ns */
    uint32_t attempt;      /* tries including this one */
    atomic_bool cancelled;
    struct fw_verdict verdict; /* filled by the executor */
    char *reason; /* why the handler failed: malloc'ed by the executor, the I/O thread frees it;
                     NULL = nothing said */
    void *user;
};

/* Where results go. One per I/O thread; any number of pools push to it. */
struct fw_done_list {
    _Atomic(struct fw_job *) head;
    atomic_bool sleeping; /* the I/O thread is about to block, or blocked */
    void (*wake)(void *user);
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
    const char *queue;              /* for logs and thread names */
    const struct fw_plugin *plugin; /* loaded and with its options bound; outlives the executor */
    uint32_t concurrency;
    struct fw_done_list *done;
};

/* Starts the threads and makes the instances (on their own threads). Errors: FILA_INVALID_ARGUMENT
 * with the handler's own reason when its init fails; FILA_NO_MEMORY. May block for as long as init
 * does. */
FILA_NODISCARD fila_status fw_executor_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr);
/* I/O thread; a chain of jobs by `next`. Never blocks for long. */
void fw_executor_submit(struct fw_executor *executor, struct fw_job *chain);
/* I/O thread: sets job->cancelled and tells whoever runs it. */
void fw_executor_cancel(struct fw_executor *executor, struct fw_job *job);
/* Whether the handler has a probe slot; and to ask it, on a worker thread: `answer` is called
 * there. */
bool fw_executor_has_probe(const struct fw_executor *executor);
void fw_executor_probe(
    struct fw_executor *executor,
    void (*answer)(void *user, bool healthy),
    void *user);
/* Waits for running handlers up to `deadline`, closes the instances, frees. False: some were still
 * stuck at the deadline and were abandoned with their thread (their memory is leaked on purpose: a
 * thread is never killed). */
bool fw_executor_stop(struct fw_executor *executor, int64_t deadline);

#endif
