/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Inside of the `threads` executor: what pool.c (queue and threads), worker.c (what a thread does)
 * and watch.c (deadlines) share.
 *
 * Locks: pool.mutex and runs.mutex and watch.mutex are never held together.
 */
#ifndef FW_POOL_H
#define FW_POOL_H

#include "implementation.h"
#include "run.h"

struct fw_probe {
    struct fw_probe *next;
    void (*answer)(void *user, bool healthy);
    void *user;
    atomic_bool answered;
    atomic_uint refs; /* the thread's, and the watch's once that has given it up */
};

enum fw_worker_state {
    FW_WORKER_ABSENT, /* no thread */
    FW_WORKER_STARTING,
    FW_WORKER_READY,
    FW_WORKER_FAILED /* its init failed; the thread ends */
};

struct fw_worker {
    struct fw_pool *pool;
    struct fw_worker *next;
    pthread_t thread;
    struct fw_instance own;       /* without FILA_PLUGIN_THREAD_SAFE */
    struct fw_instance *instance; /* own or shared */
    _Atomic(struct fw_run *) run;
    fila_error error; /* FAILED: why */

    struct { /* under pool->locked.mutex */
        enum fw_worker_state state;
        struct fw_probe *probe; /* being asked; NULL = none, or given up */
        int64_t probe_deadline;
    } locked;
};

struct fw_watch {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t poked;
    _Atomic int64_t until; /* when it looks next; a run with an earlier deadline pokes it */
    bool started;
    bool poke; /* under mutex */
    bool stop; /* under mutex */
};

struct fw_pool {
    struct fw_executor base;
    const struct fw_plugin *plugin;
    char *queue;
    struct fw_done_list *done;
    _Atomic uint32_t concurrency; /* only grows */
    int64_t stuck_after;
    int64_t probe_timeout;
    struct fw_instance shared; /* of a thread-safe plugin: opened by the first worker */
    bool shared_open;          /* written before the second worker is made */
    struct fw_runs runs;
    struct fw_watch watch;
    _Atomic(struct fw_worker *) workers; /* newest first; only grows */

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t work;    /* for workers */
        pthread_cond_t changed; /* for start and stop: a worker changed its state */
        struct fw_job *first;
        struct fw_job *last;
        struct fw_probe *probes;
        uint32_t starting; /* threads in their init */
        uint32_t idle;     /* waiting for work */
        int32_t serving;   /* ready threads, less those whose handler was given up; a thread that
                              comes back before it is counted as lost makes it one too high for a
                              moment */
        uint32_t users;    /* threads that may still use their instance */
        uint32_t open;     /* threads whose instance is not closed yet */
        bool waking;       /* one was signalled and has not woken yet */
        bool stopping;     /* take no more jobs */
        bool closing;      /* no `complete` can come any more: close the instance and end */
    } locked;
};

/* pool.c. Adds a thread; FILA_NO_MEMORY. Its init runs on the thread itself. Called by the thread
 * that starts the executor, then by the watch thread alone. */
FILA_NODISCARD fila_status fw_pool_add_worker(struct fw_pool *pool, fila_error *reterr);

/* pool.c. pthread_create with all signals blocked in the new thread, but those of a crash; an
 * errno. */
int fw_pool_thread(pthread_t *ret_thread, void *(*start)(void *), void *arg);

/* worker.c */
void *fw_worker_main(void *arg);
/* Answers, unless that is done, and lets go of one reference. */
bool fw_probe_answer(struct fw_probe *probe, bool healthy);

/* watch.c. Start and stop of the thread (stop of one that was never started does nothing); and, at
 * the start of a run: see that it is watched. */
void fw_watch_init(struct fw_watch *watch);
void fw_watch_fini(struct fw_watch *watch);
FILA_NODISCARD fila_status fw_watch_start(struct fw_pool *pool, fila_error *reterr);
void fw_watch_stop(struct fw_pool *pool);
void fw_watch_poke(struct fw_watch *watch);

static inline void fw_watch_run(struct fw_watch *watch, int64_t deadline)
{
    if (deadline < atomic_load(&watch->until)) {
        fw_watch_poke(watch);
    }
}

/* Marks what is past its deadline cancelled, gives up what is past its time, refuses queued jobs
 * that no thread came to take, and replaces lost threads. Returns the earliest time at which there
 * is something to do again. `at_once`: gives up everything. */
int64_t fw_watch_look(struct fw_pool *pool, bool at_once);

#endif
