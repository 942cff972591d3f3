/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One run of a handler over one message: the delivery that the handler sees, its services, and who
 * may end it. A run is ended once, by one of three: the worker thread when `handle` returns,
 * whoever calls services->complete, or the watch thread at a deadline.
 *
 * Safety. The memory of runs is never given back while the executor lives, a run that was deferred
 * is used again only after 1,024 others, and each message of a run has another delivery than those
 * shortly before it: a handler that completes twice or late finds a run that is over, not freed
 * memory and not another message. `state` holds a generation and a phase; the only change made
 * without runs->mutex is the worker's RUNNING -> IDLE, so an ack costs one compare and swap.
 */
#ifndef FW_RUN_H
#define FW_RUN_H

#include "executor.h"
#include "outbox.h"
#include "plugin/instance.h"

#include <pthread.h>

enum fw_phase {
    FW_PHASE_IDLE,
    FW_PHASE_RUNNING,        /* inside `handle` */
    FW_PHASE_COMPLETED,      /* inside `handle`, and complete was called already */
    FW_PHASE_DEFERRED,       /* `handle` has returned; complete is awaited */
    FW_PHASE_LOST,           /* given up inside `handle` */
    FW_PHASE_LOST_COMPLETED, /* the same, and complete was called since */
    FW_PHASE_LOST_DEFERRED   /* given up while deferred; complete is still awaited */
};

#define FW_PHASE_BITS 3u
#define FW_PHASE_MASK UINT64_C(7)

/* Keeps a message alive that the I/O thread and lost runs share. */
struct fw_hold {
    atomic_uint refs;
    fila_message *message;
};

struct fw_runs;

/* Deliveries of a run, used in turn: a `complete` that comes after its delivery's end, up to 15
 * messages late, is seen by its address to be none of the current one's. */
#define FW_RUN_DELIVERIES 16u

struct fw_run {
    fila_delivery deliveries[FW_RUN_DELIVERIES]; /* their `host` is this run */
    const fila_delivery *delivery;               /* the current one: generation modulo 16 */
    _Atomic uint64_t state;                      /* generation << FW_PHASE_BITS | phase */
    _Atomic int64_t deadline;
    struct fw_runs *runs;
    struct fw_job *job; /* the executor's until this run ends or is given up */
    fila_message *message;
    struct fw_hold *hold; /* of a lost run */
    int64_t started;
    int64_t delay; /* retry_after, ns */
    uint32_t cause;
    int verdict; /* of an early complete */
    char *reason;
    char *complete_reason;
    struct fw_outbox outbox;
    _Atomic uint64_t cancelled; /* the generation that is cancelled */
    _Atomic uint64_t fd_armed;  /* the generation that waits on cancel_fd */
    int cancel_fd;              /* -1 until the handler asks for it */
    struct fw_run *next;        /* of `all` */
    struct fw_run *link_next;   /* of `deferred` or `spare` */
    struct fw_run *link_prev;
};

/* All runs of an executor. */
struct fw_runs {
    pthread_mutex_t mutex;
    const char *queue;
    struct fw_done_list *done;
    struct fw_run *all;
    struct fw_run *deferred;    /* doubly linked */
    struct fw_run *spare_first; /* oldest first, so that a run rests long before it is used again */
    struct fw_run *spare_last;
    uint32_t spare_count;
    uint32_t deferred_count;
    pthread_cond_t none_deferred;
    atomic_uint lost; /* lost and not let go yet */
};

/* A condition variable on the clock of fw_cond_wait_until. */
void fw_cond_init(pthread_cond_t *cond);

/* Waits until `when` (CLOCK_BOOTTIME ns; FILA_NEVER = for ever). False when that has passed. */
bool fw_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t when);

/* runs.c */
void fw_runs_init(struct fw_runs *runs, const char *queue, struct fw_done_list *done);
void fw_runs_fini(struct fw_runs *runs); /* nothing may be running, deferred or lost */

/* A run that is idle; NULL without memory. */
struct fw_run *fw_run_take(struct fw_runs *runs);
/* Under runs->mutex: gives back a run that was deferred; notes one as deferred, or not any more. */
void fw_runs_put_spare(struct fw_run *run);
void fw_runs_defer(struct fw_run *run);
void fw_runs_undefer(struct fw_run *run);

/* service.c. Adds the services that need a run to those of an instance. */
void fw_run_services(fila_services *services);

static inline struct fw_run *fw_run_of(const fila_delivery *delivery)
{
    return delivery->host;
}

static inline uint64_t fw_run_generation(const struct fw_run *run)
{
    return atomic_load_explicit(&run->state, memory_order_relaxed) >> FW_PHASE_BITS;
}

/* run.c. Worker: makes `run` the run of `job` and publishes it. `now` is when it starts. */
void fw_run_start(struct fw_run *run, struct fw_job *job, int64_t now);

/* Worker: what became of a run whose `handle` returned. */
enum fw_run_after {
    FW_RUN_OVER,         /* the job is on the done list; the run is idle */
    FW_RUN_KEPT,         /* the run is deferred, or was: the worker takes another one */
    FW_RUN_WAS_LOST,     /* it had been given up; the run is idle */
    FW_RUN_WAS_LOST_KEPT /* it had been given up, and is deferred */
};

enum fw_run_after fw_run_finish(struct fw_run *run, int verdict);

/* services->publish. */
int fw_run_publish(const fila_delivery *delivery, const fila_publication *publication);

/* services->complete. */
int fw_run_complete(const fila_delivery *delivery, int verdict, const char *reason);

/* Any thread: marks the run of that generation cancelled and makes its cancel_fd readable. */
void fw_run_cancel(struct fw_run *run, uint64_t generation);

/* Watch: gives up a run that is inside `handle` in that generation, or (the second one, with
 * runs->mutex held) is deferred. Its job goes to the done list as a timeout, and the message stays
 * alive until the handler lets go. False: it has ended meanwhile, or there was no memory. */
bool fw_run_give_up(struct fw_run *run, uint64_t generation, int64_t now);
bool fw_run_give_up_deferred(struct fw_run *run, int64_t now);

/* Ends a job whose handler was never called. */
void fw_job_refuse(struct fw_done_list *done, struct fw_job *job, const char *reason);

#endif
