/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "pool.h"

#include "base/clock.h"
#include "base/error.h"
#include "fork.h"
#include "log/log.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- Waiting with a deadline. Condition variables know no CLOCK_BOOTTIME: the wait is relative,
 * and after a suspend at most FW_LONGEST_WAIT late. ---- */

#define FW_LONGEST_WAIT (5 * FILA_S)
#define CLOSE_LEAST     FILA_S /* that instances have for their close */

void fw_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

bool fw_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t when)
{
    struct timespec at;
    if (when == FILA_NEVER) {
        (void)pthread_cond_wait(cond, mutex);
        return true;
    }
    int64_t left = when - fila_now();
    if (left <= 0) {
        return false;
    }
    left = left < FW_LONGEST_WAIT ? left : FW_LONGEST_WAIT;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)((at.tv_nsec + left) / FILA_S);
    at.tv_nsec = (long)((at.tv_nsec + left) % FILA_S);
    (void)pthread_cond_timedwait(cond, mutex, &at);
    return fila_now() < when;
}

/* ---- Threads ---- */

int fw_pool_thread(pthread_t *ret_thread, void *(*start)(void *), void *arg)
{
    static const int CRASHES[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    for (size_t i = 0; i < sizeof CRASHES / sizeof *CRASHES; i++) {
        (void)sigdelset(&all, CRASHES[i]); /* a handler of them says who it was */
    }
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(ret_thread, NULL, start, arg);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static enum fw_worker_state state_of_worker(struct fw_worker *worker)
{
    (void)pthread_mutex_lock(&worker->pool->locked.mutex);
    enum fw_worker_state state = worker->locked.state;
    (void)pthread_mutex_unlock(&worker->pool->locked.mutex);
    return state;
}

/* One without a thread: a new one, or one whose init failed. */
static struct fw_worker *vacant_worker(struct fw_pool *pool)
{
    for (struct fw_worker *w = atomic_load(&pool->workers); w; w = w->next) {
        enum fw_worker_state state = state_of_worker(w);
        if (state == FW_WORKER_FAILED) {
            FW_LOG(FW_EVENT_HANDLER_ERROR, w->error.text, fw_str("queue", pool->queue));
            (void)pthread_join(w->thread, NULL);
        }
        if (state == FW_WORKER_FAILED || state == FW_WORKER_ABSENT) {
            return w;
        }
    }
    struct fw_worker *worker = calloc(1, sizeof *worker);
    if (worker) {
        bool shared = pool->plugin->table.flags & FILA_PLUGIN_THREAD_SAFE;
        worker->pool = pool;
        worker->instance = shared ? &pool->shared : &worker->own;
        worker->next = atomic_load(&pool->workers);
        atomic_store(&pool->workers, worker);
    }
    return worker;
}

static void set_starting(struct fw_worker *worker, bool starting)
{
    struct fw_pool *pool = worker->pool;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    if (starting) {
        pool->locked.starting++;
        worker->locked.state = FW_WORKER_STARTING;
    } else {
        pool->locked.starting--;
        worker->locked.state = FW_WORKER_ABSENT;
    }
    (void)pthread_mutex_unlock(&pool->locked.mutex);
}

fila_status fw_pool_add_worker(struct fw_pool *pool, fila_error *reterr)
{
    struct fw_worker *worker = vacant_worker(pool);
    if (!worker) {
        return fila_fail(reterr, FILA_NO_MEMORY, "out of memory");
    }
    set_starting(worker, true);
    int error = fw_pool_thread(&worker->thread, fw_worker_main, worker);
    if (error) {
        set_starting(worker, false);
        return fila_fail(reterr, FILA_NO_MEMORY, "cannot start a thread: errno %d", error);
    }
    return FILA_OK;
}

/* Waits until `until` for the inits under way; false = some still are. */
static bool wait_for_inits(struct fw_pool *pool, int64_t until)
{
    bool in_time = true;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    while (pool->locked.starting && in_time) {
        in_time = fw_cond_wait_until(&pool->locked.changed, &pool->locked.mutex, until);
    }
    bool done = !pool->locked.starting;
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    return done;
}

static fila_status first_failure(struct fw_pool *pool, fila_error *reterr)
{
    struct fw_worker *failed = NULL;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    for (struct fw_worker *w = atomic_load(&pool->workers); w; w = w->next) {
        failed = w->locked.state == FW_WORKER_FAILED ? w : failed;
    }
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    return failed ? fila_fail(reterr, failed->error.code, "%s", failed->error.text) : FILA_OK;
}

static fila_status await_inits(
    struct fw_pool *pool,
    const struct fw_executor_options *options,
    fila_error *reterr)
{
    int64_t limit = options->start_timeout > 0 ? options->start_timeout : 60 * FILA_S;
    int64_t deadline = fila_now() + limit;
    for (;;) {
        int64_t now = fila_now();
        int64_t look = options->go_on && now + 50 * FILA_MS < deadline ? now + 50 * FILA_MS
                                                                       : deadline;
        if (wait_for_inits(pool, look)) {
            return first_failure(pool, reterr);
        }
        if (options->go_on && !options->go_on(options->user)) {
            return fila_fail(
                reterr, FILA_CANCELLED, "handler %s: stopped before its init returned",
                pool->plugin->table.name);
        }
        if (fila_now() >= deadline) {
            return fila_fail(
                reterr, FILA_TIMEOUT,
                "handler %s: its init has not returned after %" PRId64 " ms (start_timeout)",
                pool->plugin->table.name, limit / FILA_MS);
        }
    }
}

/* The first one alone, so that an init that cannot work fails once; the others at the same time. */
static fila_status start_workers(
    struct fw_pool *pool,
    const struct fw_executor_options *options,
    fila_error *reterr)
{
    fila_status status = FILA_OK;
    for (uint32_t i = 0; i < pool->concurrency && !status; i++) {
        status = fw_pool_add_worker(pool, reterr);
        if (!status && (i == 0 || i + 1 == pool->concurrency)) {
            status = await_inits(pool, options, reterr);
        }
    }
    return status;
}

/* ---- Start and stop ---- */

static struct fw_pool *pool_of(struct fw_executor *executor)
{
    return (struct fw_pool *)executor; /* its first member */
}

static void free_pool(struct fw_pool *pool)
{
    struct fw_worker *next = NULL;
    for (struct fw_worker *w = atomic_load(&pool->workers); w; w = next) {
        next = w->next;
        free(w);
    }
    fw_runs_fini(&pool->runs);
    fw_watch_fini(&pool->watch);
    (void)pthread_cond_destroy(&pool->locked.work);
    (void)pthread_cond_destroy(&pool->locked.changed);
    (void)pthread_mutex_destroy(&pool->locked.mutex);
    free(pool->queue);
    free(pool);
}

static struct fw_pool *new_pool(const struct fw_executor_options *options)
{
    struct fw_pool *pool = calloc(1, sizeof *pool);
    char *queue = strdup(options->queue ? options->queue : "");
    if (!pool || !queue) {
        free(pool);
        free(queue);
        return NULL;
    }
    pool->plugin = options->plugin;
    pool->queue = queue;
    pool->done = options->done;
    atomic_init(&pool->concurrency, options->concurrency ? options->concurrency : 1);
    pool->stuck_after = options->stuck_after > 0 ? options->stuck_after : 5 * FILA_S;
    pool->probe_timeout = options->probe_timeout > 0 ? options->probe_timeout : 30 * FILA_S;
    fw_runs_init(&pool->runs, queue, options->done);
    fw_watch_init(&pool->watch);
    (void)pthread_mutex_init(&pool->locked.mutex, NULL);
    (void)pthread_cond_init(&pool->locked.work, NULL);
    fw_cond_init(&pool->locked.changed);
    return pool;
}

/* Ends the taking of jobs; what no thread has taken goes back. */
static void close_queue(struct fw_pool *pool)
{
    (void)pthread_mutex_lock(&pool->locked.mutex);
    struct fw_job *job = pool->locked.first;
    struct fw_probe *probe = pool->locked.probes;
    pool->locked.first = NULL;
    pool->locked.probes = NULL;
    pool->locked.stopping = true;
    (void)pthread_cond_broadcast(&pool->locked.work);
    (void)pthread_mutex_unlock(&pool->locked.mutex);

    for (struct fw_job *next = NULL; job; job = next) {
        next = job->next;
        fw_job_refuse(pool->done, job, "the worker stopped before it was started");
    }
    for (struct fw_probe *next = NULL; probe; probe = next) {
        next = probe->next;
        (void)fw_probe_answer(probe, false);
    }
}

static bool await_workers(struct fw_pool *pool, int64_t deadline)
{
    bool in_time = true;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    while ((pool->locked.starting || pool->locked.serving > 0) && in_time) {
        in_time = fw_cond_wait_until(&pool->locked.changed, &pool->locked.mutex, deadline);
    }
    bool done = !pool->locked.starting && pool->locked.serving <= 0;
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    return done;
}

static bool await_deferred(struct fw_runs *runs, int64_t deadline)
{
    bool in_time = true;
    (void)pthread_mutex_lock(&runs->mutex);
    while (runs->deferred_count && in_time) {
        in_time = fw_cond_wait_until(&runs->none_deferred, &runs->mutex, deadline);
    }
    bool done = !runs->deferred_count;
    (void)pthread_mutex_unlock(&runs->mutex);
    return done;
}

/* Gives up all that runs. A thread may be between taking a job and starting it, or between the end
 * of its handler and its next look at the queue: they get a moment. */
static void abandon(struct fw_pool *pool)
{
    for (int i = 0; i < 100; i++) {
        (void)fw_watch_look(pool, true);
        if (await_workers(pool, fila_now() + FILA_MS)) {
            break;
        }
    }
    (void)fw_watch_look(pool, true);
    fw_watch_stop(pool);
}

/* On their threads, which may hang in it. */
static bool close_instances(struct fw_pool *pool, int64_t deadline)
{
    int64_t least = fila_now() + CLOSE_LEAST;
    bool in_time = true;
    deadline = deadline > least ? deadline : least;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    pool->locked.closing = true;
    (void)pthread_cond_broadcast(&pool->locked.work);
    while (pool->locked.open && in_time) {
        in_time = fw_cond_wait_until(&pool->locked.changed, &pool->locked.mutex, deadline);
    }
    bool closed = !pool->locked.open;
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    if (!closed) {
        FW_LOG(
            FW_EVENT_HANDLER_STUCK, "the handler's close does not return; its thread is abandoned",
            fw_str("queue", pool->queue), fw_str("handler", pool->plugin->table.name));
        return false;
    }
    for (struct fw_worker *w = atomic_load(&pool->workers); w; w = w->next) {
        if (w->locked.state != FW_WORKER_ABSENT) {
            (void)pthread_join(w->thread, NULL);
        }
    }
    return true;
}

static bool pool_stop(struct fw_executor *executor, int64_t deadline)
{
    struct fw_pool *pool = pool_of(executor);
    close_queue(pool);
    bool ended = await_workers(pool, deadline) && await_deferred(&pool->runs, deadline);
    if (!ended || atomic_load(&pool->runs.lost)) {
        abandon(pool);
        return false;
    }
    fw_watch_stop(pool);
    if (!close_instances(pool, deadline)) {
        return false;
    }
    free_pool(pool);
    return true;
}

/* ---- What the I/O thread calls ---- */

static void wake_one(struct fw_pool *pool, bool wake)
{
    if (wake) {
        (void)pthread_cond_signal(&pool->locked.work);
    }
}

/* Under locked.mutex: whether a signal is due. */
static bool wants_wake(struct fw_pool *pool)
{
    bool wake = pool->locked.idle && !pool->locked.waking;
    pool->locked.waking |= wake;
    return wake;
}

static void pool_submit(struct fw_executor *executor, struct fw_job *chain)
{
    struct fw_pool *pool = pool_of(executor);
    int64_t earliest;
    struct fw_job *last = fw_chain_prepare(chain, &earliest);
    if (!last) {
        return;
    }
    (void)pthread_mutex_lock(&pool->locked.mutex);
    if (pool->locked.first) {
        pool->locked.last->next = chain;
    } else {
        pool->locked.first = chain;
    }
    pool->locked.last = last;
    bool all_busy = pool->locked.idle == 0;
    bool wake = wants_wake(pool);
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    wake_one(pool, wake);
    if (all_busy) {
        fw_watch_run(&pool->watch, earliest);
    }
}

static void pool_cancel(struct fw_executor *executor, struct fw_job *job)
{
    (void)executor;
    atomic_store(&job->cancelled, true);
    struct fw_run *run = atomic_load(&job->run);
    if (run) {
        fw_run_cancel(run, job->generation);
    }
}

static bool pool_has_probe(const struct fw_executor *executor)
{
    return ((const struct fw_pool *)executor)->plugin->table.probe != NULL;
}

static bool pool_probe(
    struct fw_executor *executor,
    void (*answer)(void *user, bool healthy),
    void *user)
{
    struct fw_pool *pool = pool_of(executor);
    struct fw_probe *probe = malloc(sizeof *probe);
    if (!probe) {
        return false;
    }
    *probe = (struct fw_probe){.answer = answer, .user = user, .refs = 1};
    (void)pthread_mutex_lock(&pool->locked.mutex);
    probe->next = pool->locked.probes;
    pool->locked.probes = probe;
    bool wake = wants_wake(pool);
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    wake_one(pool, wake);
    return true;
}

static void pool_state(struct fw_executor *executor, struct fw_executor_state *ret_state)
{
    ret_state->stuck = atomic_load(&pool_of(executor)->runs.lost);
}

static const struct fw_counters *pool_counters(const struct fw_executor *executor)
{
    return ((const struct fw_pool *)executor)->plugin->counters;
}

/* Files stay loaded for the life of the process. */
static void pool_refresh(struct fw_executor *executor)
{
    (void)executor;
}

/* The watch makes them: as for threads that were lost. */
static bool pool_grow(struct fw_executor *executor, uint32_t concurrency)
{
    struct fw_pool *pool = pool_of(executor);
    if (concurrency > atomic_load(&pool->concurrency)) {
        atomic_store(&pool->concurrency, concurrency);
        fw_watch_poke(&pool->watch);
    }
    return true;
}

static const struct fw_executor_ops POOL_OPS = {
    .submit = pool_submit,
    .cancel = pool_cancel,
    .has_probe = pool_has_probe,
    .probe = pool_probe,
    .state = pool_state,
    .counters = pool_counters,
    .refresh = pool_refresh,
    .grow = pool_grow,
    .stop = pool_stop,
};

fila_status fw_pool_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr)
{
    struct fw_pool *pool = new_pool(options);
    if (!pool) {
        return fila_fail(reterr, FILA_NO_MEMORY, "out of memory");
    }
    pool->base.ops = &POOL_OPS;
    fw_fork_watch();
    fila_status status = start_workers(pool, options, reterr);
    status = status ? status : fw_watch_start(pool, reterr);
    if (status) {
        bool hangs = status == FILA_TIMEOUT || status == FILA_CANCELLED;
        (void)pool_stop(&pool->base, hangs ? 0 : FILA_NEVER);
        return status;
    }
    *ret_executor = &pool->base;
    return FILA_OK;
}
