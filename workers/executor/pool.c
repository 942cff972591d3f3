/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "pool.h"

#include "base/clock.h"
#include "base/error.h"
#include "log/log.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- Waiting with a deadline. Condition variables know no CLOCK_BOOTTIME: the wait is relative,
 * and after a suspend at most FW_LONGEST_WAIT late. ---- */

#define FW_LONGEST_WAIT (5 * FILA_S)

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
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(ret_thread, NULL, start, arg);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static enum fw_worker_state state_of_worker(struct fw_worker *worker)
{
    (void)pthread_mutex_lock(&worker->executor->locked.mutex);
    enum fw_worker_state state = worker->locked.state;
    (void)pthread_mutex_unlock(&worker->executor->locked.mutex);
    return state;
}

/* One without a thread: a new one, or one whose init failed. */
static struct fw_worker *vacant_worker(struct fw_executor *executor)
{
    for (struct fw_worker *w = atomic_load(&executor->workers); w; w = w->next) {
        enum fw_worker_state state = state_of_worker(w);
        if (state == FW_WORKER_FAILED) {
            FW_LOG(FW_EVENT_HANDLER_ERROR, w->error.text, fw_str("queue", executor->queue));
            (void)pthread_join(w->thread, NULL);
        }
        if (state == FW_WORKER_FAILED || state == FW_WORKER_ABSENT) {
            return w;
        }
    }
    struct fw_worker *worker = calloc(1, sizeof *worker);
    if (worker) {
        bool shared = executor->plugin->table.flags & FILA_PLUGIN_THREAD_SAFE;
        worker->executor = executor;
        worker->instance = shared ? &executor->shared : &worker->own;
        worker->next = atomic_load(&executor->workers);
        atomic_store(&executor->workers, worker);
    }
    return worker;
}

static void set_starting(struct fw_worker *worker, bool starting)
{
    struct fw_executor *executor = worker->executor;
    (void)pthread_mutex_lock(&executor->locked.mutex);
    if (starting) {
        executor->locked.starting++;
        worker->locked.state = FW_WORKER_STARTING;
    } else {
        executor->locked.starting--;
        worker->locked.state = FW_WORKER_ABSENT;
    }
    (void)pthread_mutex_unlock(&executor->locked.mutex);
}

fila_status fw_pool_add_worker(struct fw_executor *executor, fila_error *reterr)
{
    struct fw_worker *worker = vacant_worker(executor);
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
static bool wait_for_inits(struct fw_executor *executor, int64_t until)
{
    bool in_time = true;
    (void)pthread_mutex_lock(&executor->locked.mutex);
    while (executor->locked.starting && in_time) {
        in_time = fw_cond_wait_until(&executor->locked.changed, &executor->locked.mutex, until);
    }
    bool done = !executor->locked.starting;
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    return done;
}

static fila_status first_failure(struct fw_executor *executor, fila_error *reterr)
{
    struct fw_worker *failed = NULL;
    (void)pthread_mutex_lock(&executor->locked.mutex);
    for (struct fw_worker *w = atomic_load(&executor->workers); w; w = w->next) {
        failed = w->locked.state == FW_WORKER_FAILED ? w : failed;
    }
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    return failed ? fila_fail(reterr, failed->error.code, "%s", failed->error.text) : FILA_OK;
}

static fila_status await_inits(
    struct fw_executor *executor,
    const struct fw_executor_options *options,
    fila_error *reterr)
{
    int64_t limit = options->start_timeout > 0 ? options->start_timeout : 60 * FILA_S;
    int64_t deadline = fila_now() + limit;
    for (;;) {
        int64_t now = fila_now();
        int64_t look = options->go_on && now + 50 * FILA_MS < deadline ? now + 50 * FILA_MS
                                                                       : deadline;
        if (wait_for_inits(executor, look)) {
            return first_failure(executor, reterr);
        }
        if (options->go_on && !options->go_on(options->user)) {
            return fila_fail(
                reterr, FILA_CANCELLED, "handler %s: stopped before its init returned",
                executor->plugin->table.name);
        }
        if (fila_now() >= deadline) {
            return fila_fail(
                reterr, FILA_TIMEOUT,
                "handler %s: its init has not returned after %" PRId64 " ms (start_timeout)",
                executor->plugin->table.name, limit / FILA_MS);
        }
    }
}

/* The first one alone, so that an init that cannot work fails once; the others at the same time. */
static fila_status start_workers(
    struct fw_executor *executor,
    const struct fw_executor_options *options,
    fila_error *reterr)
{
    fila_status status = FILA_OK;
    for (uint32_t i = 0; i < executor->concurrency && !status; i++) {
        status = fw_pool_add_worker(executor, reterr);
        if (!status && (i == 0 || i + 1 == executor->concurrency)) {
            status = await_inits(executor, options, reterr);
        }
    }
    return status;
}

/* ---- Start and stop ---- */

static void free_executor(struct fw_executor *executor)
{
    struct fw_worker *next = NULL;
    for (struct fw_worker *w = atomic_load(&executor->workers); w; w = next) {
        next = w->next;
        free(w);
    }
    fw_runs_fini(&executor->runs);
    fw_watch_fini(&executor->watch);
    (void)pthread_cond_destroy(&executor->locked.work);
    (void)pthread_cond_destroy(&executor->locked.changed);
    (void)pthread_mutex_destroy(&executor->locked.mutex);
    free(executor->queue);
    free(executor);
}

static struct fw_executor *new_executor(const struct fw_executor_options *options)
{
    struct fw_executor *executor = calloc(1, sizeof *executor);
    char *queue = strdup(options->queue ? options->queue : "");
    if (!executor || !queue) {
        free(executor);
        free(queue);
        return NULL;
    }
    executor->plugin = options->plugin;
    executor->queue = queue;
    executor->done = options->done;
    executor->concurrency = options->concurrency ? options->concurrency : 1;
    executor->stuck_after = options->stuck_after > 0 ? options->stuck_after : 5 * FILA_S;
    executor->probe_timeout = options->probe_timeout > 0 ? options->probe_timeout : 30 * FILA_S;
    fw_runs_init(&executor->runs, queue, options->done);
    fw_watch_init(&executor->watch);
    (void)pthread_mutex_init(&executor->locked.mutex, NULL);
    (void)pthread_cond_init(&executor->locked.work, NULL);
    fw_cond_init(&executor->locked.changed);
    return executor;
}

fila_status fw_executor_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr)
{
    struct fw_executor *executor = new_executor(options);
    if (!executor) {
        return fila_fail(reterr, FILA_NO_MEMORY, "out of memory");
    }
    fila_status status = start_workers(executor, options, reterr);
    status = status ? status : fw_watch_start(executor, reterr);
    if (status) {
        bool hangs = status == FILA_TIMEOUT || status == FILA_CANCELLED;
        (void)fw_executor_stop(executor, hangs ? 0 : FILA_NEVER);
        return status;
    }
    *ret_executor = executor;
    return FILA_OK;
}

/* Ends the taking of jobs; what no thread has taken goes back. */
static void close_queue(struct fw_executor *executor)
{
    (void)pthread_mutex_lock(&executor->locked.mutex);
    struct fw_job *job = executor->locked.first;
    struct fw_probe *probe = executor->locked.probes;
    executor->locked.first = NULL;
    executor->locked.probes = NULL;
    executor->locked.stopping = true;
    (void)pthread_cond_broadcast(&executor->locked.work);
    (void)pthread_mutex_unlock(&executor->locked.mutex);

    for (struct fw_job *next = NULL; job; job = next) {
        next = job->next;
        fw_job_refuse(executor->done, job, "the worker stopped before it was started");
    }
    for (struct fw_probe *next = NULL; probe; probe = next) {
        next = probe->next;
        (void)fw_probe_answer(probe, false);
    }
}

static bool await_workers(struct fw_executor *executor, int64_t deadline)
{
    bool in_time = true;
    (void)pthread_mutex_lock(&executor->locked.mutex);
    while ((executor->locked.starting || executor->locked.serving > 0) && in_time) {
        in_time = fw_cond_wait_until(&executor->locked.changed, &executor->locked.mutex, deadline);
    }
    bool done = !executor->locked.starting && executor->locked.serving <= 0;
    (void)pthread_mutex_unlock(&executor->locked.mutex);
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
static void abandon(struct fw_executor *executor)
{
    for (int i = 0; i < 100; i++) {
        (void)fw_watch_look(executor, true);
        if (await_workers(executor, fila_now() + FILA_MS)) {
            break;
        }
    }
    (void)fw_watch_look(executor, true);
    fw_watch_stop(executor);
}

static void close_instances(struct fw_executor *executor)
{
    (void)pthread_mutex_lock(&executor->locked.mutex);
    executor->locked.closing = true;
    (void)pthread_cond_broadcast(&executor->locked.work);
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    for (struct fw_worker *w = atomic_load(&executor->workers); w; w = w->next) {
        if (w->locked.state != FW_WORKER_ABSENT) {
            (void)pthread_join(w->thread, NULL);
        }
    }
    if (executor->shared_open) {
        fw_instance_close(&executor->shared);
    }
}

bool fw_executor_stop(struct fw_executor *executor, int64_t deadline)
{
    close_queue(executor);
    bool ended = await_workers(executor, deadline) && await_deferred(&executor->runs, deadline);
    if (!ended || atomic_load(&executor->runs.lost)) {
        abandon(executor);
        return false;
    }
    fw_watch_stop(executor);
    close_instances(executor);
    free_executor(executor);
    return true;
}

/* ---- What the I/O thread calls ---- */

static void wake_one(struct fw_executor *executor, bool wake)
{
    if (wake) {
        (void)pthread_cond_signal(&executor->locked.work);
    }
}

/* Under locked.mutex: whether a signal is due. */
static bool wants_wake(struct fw_executor *executor)
{
    bool wake = executor->locked.idle && !executor->locked.waking;
    executor->locked.waking |= wake;
    return wake;
}

void fw_executor_submit(struct fw_executor *executor, struct fw_job *chain)
{
    struct fw_job *last = NULL;
    int64_t earliest = FILA_NEVER;

    for (struct fw_job *job = chain; job; job = job->next) {
        atomic_store_explicit(&job->cancelled, false, memory_order_relaxed);
        atomic_store_explicit(&job->run, NULL, memory_order_relaxed);
        job->reason = NULL;
        earliest = job->deadline < earliest ? job->deadline : earliest;
        last = job;
    }
    if (!last) {
        return;
    }
    (void)pthread_mutex_lock(&executor->locked.mutex);
    if (executor->locked.first) {
        executor->locked.last->next = chain;
    } else {
        executor->locked.first = chain;
    }
    executor->locked.last = last;
    bool all_busy = executor->locked.idle == 0;
    bool wake = wants_wake(executor);
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    wake_one(executor, wake);
    if (all_busy) {
        fw_watch_run(&executor->watch, earliest);
    }
}

void fw_executor_cancel(struct fw_executor *executor, struct fw_job *job)
{
    (void)executor;
    atomic_store(&job->cancelled, true);
    struct fw_run *run = atomic_load(&job->run);
    if (run) {
        fw_run_cancel(run, job->generation);
    }
}

bool fw_executor_has_probe(const struct fw_executor *executor)
{
    return executor->plugin->table.probe != NULL;
}

bool fw_executor_probe(
    struct fw_executor *executor,
    void (*answer)(void *user, bool healthy),
    void *user)
{
    struct fw_probe *probe = malloc(sizeof *probe);
    if (!probe) {
        return false;
    }
    *probe = (struct fw_probe){.answer = answer, .user = user, .refs = 1};
    (void)pthread_mutex_lock(&executor->locked.mutex);
    probe->next = executor->locked.probes;
    executor->locked.probes = probe;
    bool wake = wants_wake(executor);
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    wake_one(executor, wake);
    return true;
}

uint32_t fw_executor_stuck(const struct fw_executor *executor)
{
    return atomic_load(&executor->runs.lost);
}
