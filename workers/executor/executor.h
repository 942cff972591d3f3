/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Running handlers: the interface between the I/O thread (which starts jobs and takes results) and
 * whatever runs them. Two implementations: `threads` (pool.h: a pool of pthreads per queue, one
 * plugin instance per thread) and `process` (process/process.h: children of this program that load
 * the plugin; this process runs no code of it).
 *
 * Properties. Every job that was submitted comes back exactly once on the done list, with a
 * verdict, no later than `stuck_after` (process: `grace`) past its deadline, whatever its handler
 * does. Nothing is
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

struct fw_plugin;         /* plugin/loader.h */
struct fw_handler_option; /* config/config.h */
struct fw_diagnostic;
struct fw_outgoing; /* outbox.h */
struct fw_counters; /* plugin/counters.h */
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

/* Isolation "process". All of it is copied. */
struct fw_process_options {
    const char *handler; /* a shipped handler's name, or a path */
    const struct fw_handler_option *options;
    size_t option_count;
    const char *const *secret_variables; /* of the environment: the children do not get them */
    size_t secret_variable_count;
    const char *program; /* what to exec with the verb __handler; NULL = this program */
    int64_t grace; /* ns from a message's deadline to SIGKILL, with SIGTERM half way; 0 = 1 s */
    /* ns until a child that died before it had handled a message is replaced; doubles up to 30 s;
     * 0 = 0.1 s */
    int64_t first_backoff;
    uint32_t recycle_messages; /* a child is replaced after so many; 0 = never */
    uint64_t recycle_rss;      /* and when its resident memory is over so many bytes; 0 = never */
    /* One thing that is wrong with the options, as the plugin's table says; before
     * fw_executor_start fails. Called while that blocks its caller. */
    void (*problem)(void *problem_user, const struct fw_diagnostic *problem);
    void *problem_user;
    /* Five starts failed within 60 s: no more are tried, and jobs are refused from now on. Any
     * thread; once. */
    void (*stopped)(void *stopped_user);
    void *stopped_user;
    /* How many children ended how, when the last one has, on the way out of fw_executor_stop. May
     * be NULL. */
    void (*ends)(void *ends_user, const uint64_t ends[]);
    void *ends_user;
};

struct fw_executor_options {
    const char *queue;              /* for logs and thread names; copied */
    const struct fw_plugin *plugin; /* threads: loaded and with its options bound; outlives the
                                       executor */
    const struct fw_process_options *process; /* not NULL: isolation is "process" */
    uint32_t concurrency;                     /* threads, or children; at least 1 */
    struct fw_done_list *done;                /* outlives the executor */
    int64_t stuck_after;   /* ns past its deadline after which a handler is given up; 0 = 5 s */
    int64_t probe_timeout; /* ns after which a probe counts as "no"; 0 = 30 s */
    int64_t
        start_timeout; /* ns that an instance's init (in a child: and load) may take; 0 = 60 s */
    /* Called about every 50 ms by fw_executor_start while it waits for an init; false gives up. May
     * be NULL. */
    bool (*go_on)(void *user);
    void *user;
};

/* Starts the threads and makes the instances (on their own threads). Errors: FILA_INVALID_ARGUMENT
 * with the handler's own reason when its init fails; FILA_NO_MEMORY; FILA_TIMEOUT when an init has
 * not returned after start_timeout, and FILA_CANCELLED when go_on said so: then a thread is still
 * in there, and the plugin must stay for ever (a child is killed). Blocks for as long as init does,
 * within start_timeout.
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

/* Why a child ended. */
enum fw_child_end {
    FW_CHILD_END_STOP,    /* it was told to, in good order */
    FW_CHILD_END_RECYCLE, /* the same, for recycle_messages or recycle_rss */
    FW_CHILD_END_TIMEOUT, /* it was ended for a handler, probe, init or close that did not return */
    FW_CHILD_END_CRASH,   /* a signal, or an exit of its own */
    FW_CHILD_END_OOM,     /* the kernel took it: out of memory */
    FW_CHILD_END_RUBBISH, /* it broke the protocol and was ended */
    FW_CHILD_END_COUNT
};

struct fw_executor_state {
    /* Runs that were given up and have not let go yet (stuck threads, and deferred messages that
     * were never completed): the metric `stuck_handlers`. Of children always 0. */
    uint32_t stuck;
    uint32_t children_starting;
    uint32_t children_idle;
    uint32_t children_busy;
    uint32_t children_ending;
    uint64_t child_ends[FW_CHILD_END_COUNT];
    uint64_t generation;   /* of the plugin's file: 1, then one more with each replacement */
    bool stopped;          /* five starts failed: no messages are run any more */
    char reason[512];      /* why it stopped; else "" */
    char handler_name[64]; /* of children, as the plugin says; else "" */
    char handler_version[64];
    char build_id[65];
};

/* "stop", "recycle", "timeout", "crash", "oom", "rubbish"; never NULL. */
const char *fw_child_end_name(enum fw_child_end end);
/* Thread: any. */
void fw_executor_get_state(struct fw_executor *executor, struct fw_executor_state *ret_state);
/* Its `stuck`. Thread: any. */
uint32_t fw_executor_stuck(struct fw_executor *executor);
/* The counters of the handler's own (plugin/counters.h). As long as the executor. Thread: any. */
const struct fw_counters *fw_executor_counters(const struct fw_executor *executor);
/* Looks whether the plugin's file has been replaced (children: they also notice by themselves).
 * Isolation "process" then starts children with the new one, and once the first of them has loaded
 * it and made its instance, lets the others end after their message; if it cannot, all stays as it
 * was (events PLUGIN-REPLACED, PLUGIN-KEPT). Does not wait for any of that. Threads: does nothing,
 * a file is loaded once. Thread: any. */
void fw_executor_refresh(struct fw_executor *executor);
/* More threads, from now on: as many as `concurrency`, if it has fewer; they are made soon, and
 * stay. False: it has fewer and cannot have more (children: their number is that of the start). I/O
 * thread. */
bool fw_executor_grow(struct fw_executor *executor, uint32_t concurrency);
/* Takes no more jobs, puts those without a thread on the done list, waits for running handlers up
 * to `deadline` (CLOCK_BOOTTIME ns), closes the instances, frees. Does not cancel what runs: do
 * that before. False: some were still running at the deadline (or had been given up before): their
 * jobs are on the done list as timeouts, and they were abandoned with their thread; their memory is
 * leaked on purpose, since a thread is never killed. Children are killed instead: never false. The
 * done list is to be taken once more
 * afterwards in any case. */
bool fw_executor_stop(struct fw_executor *executor, int64_t deadline);

#endif
