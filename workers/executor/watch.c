/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The watch thread. It costs a running message one comparison: `until` is the time of its next
 * look, and only a run that must be seen earlier pokes it. While it looks, `until` is FILA_NEVER,
 * so that whatever starts meanwhile, and may have been missed, pokes.
 */
#include "base/clock.h"
#include "base/error.h"
#include "log/log.h"
#include "plugin/stacks.h"
#include "pool.h"

#define RETRY_INIT (5 * FILA_S)

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A thread was lost to its handler, or more are wanted (fw_executor_grow): made when too few serve.
 */
static int64_t replace_lost(struct fw_pool *pool, int64_t now)
{
    fila_error error = FILA_ERROR_INIT;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    int64_t serving = (int64_t)pool->locked.serving + pool->locked.starting;
    int64_t concurrency = atomic_load(&pool->concurrency);
    bool wanted = serving < concurrency && !pool->locked.stopping;
    (void)pthread_mutex_unlock(&pool->locked.mutex);

    for (; wanted && serving < concurrency; serving++) {
        if (fw_pool_add_worker(pool, &error)) {
            FW_LOG(FW_EVENT_HANDLER_ERROR, error.text, fw_str("queue", pool->queue));
            return now + RETRY_INIT;
        }
    }
    /* A new one whose init fails is noticed at a later look. */
    return wanted ? now + RETRY_INIT : FILA_NEVER;
}

static int64_t look_at_run(struct fw_pool *pool, struct fw_run *run, int64_t now, bool all)
{
    uint64_t state = atomic_load(&run->state);
    int64_t deadline = atomic_load_explicit(&run->deadline, memory_order_relaxed);
    uint64_t phase = state & FW_PHASE_MASK;

    if (phase != FW_PHASE_RUNNING && phase != FW_PHASE_COMPLETED) {
        return FILA_NEVER;
    }
    if (now < deadline && !all) {
        return deadline;
    }
    fw_run_cancel(run, state >> FW_PHASE_BITS);
    if (!all && now - deadline < pool->stuck_after) {
        return deadline + pool->stuck_after;
    }
    if (!fw_run_give_up(run, state >> FW_PHASE_BITS, now)) {
        return now + FILA_S;
    }
    (void)pthread_mutex_lock(&pool->locked.mutex);
    pool->locked.serving--;
    (void)pthread_cond_broadcast(&pool->locked.changed);
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    return FILA_NEVER;
}

/* A thread that is asked whether its dependency is back, and does not answer. */
static int64_t look_at_probe(struct fw_worker *worker, int64_t now, bool all)
{
    struct fw_pool *pool = worker->pool;
    struct fw_probe *late = NULL;
    int64_t next = FILA_NEVER;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    if (worker->locked.probe && (all || now >= worker->locked.probe_deadline)) {
        late = worker->locked.probe;
        worker->locked.probe = NULL;
        (void)atomic_fetch_add(&late->refs, 1);
        (void)atomic_fetch_add(&pool->runs.lost, 1);
        pool->locked.serving--;
        (void)pthread_cond_broadcast(&pool->locked.changed);
    } else if (worker->locked.probe) {
        next = worker->locked.probe_deadline;
    }
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    if (late) {
        FW_LOG(
            FW_EVENT_HANDLER_STUCK,
            "the handler's probe does not return; a new thread takes its place",
            fw_str("queue", pool->queue));
        (void)fw_probe_answer(late, false);
    }
    return next;
}

static int64_t look_at_runs(struct fw_pool *pool, int64_t now, bool all)
{
    int64_t next = FILA_NEVER;
    for (struct fw_worker *w = atomic_load(&pool->workers); w; w = w->next) {
        struct fw_run *run = atomic_load(&w->run);
        if (run) {
            next = earlier(next, look_at_run(pool, run, now, all));
        }
        next = earlier(next, look_at_probe(w, now, all));
    }
    return next;
}

static int64_t look_at_deferred(struct fw_runs *runs, int64_t now, bool all)
{
    int64_t next = FILA_NEVER;
    struct fw_run *following = NULL;
    (void)pthread_mutex_lock(&runs->mutex);
    for (struct fw_run *run = runs->deferred; run; run = following) {
        int64_t deadline = atomic_load_explicit(&run->deadline, memory_order_relaxed);
        following = run->link_next;
        if (now < deadline && !all) {
            next = earlier(next, deadline);
        } else if (!fw_run_give_up_deferred(run, now)) {
            next = earlier(next, now + FILA_S);
        }
    }
    (void)pthread_mutex_unlock(&runs->mutex);
    return next;
}

/* Jobs that no thread came to take by their deadline. */
static int64_t look_at_queue(struct fw_pool *pool, int64_t now)
{
    int64_t next = FILA_NEVER;
    struct fw_job *late = NULL;
    struct fw_job *last = NULL;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    for (struct fw_job **at = &pool->locked.first; *at;) {
        struct fw_job *job = *at;
        if (now < job->deadline) {
            next = earlier(next, job->deadline);
            last = job;
            at = &job->next;
        } else {
            *at = job->next;
            job->next = late;
            late = job;
        }
    }
    pool->locked.last = last;
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    while (late) {
        struct fw_job *job = late;
        late = job->next;
        fw_job_refuse(pool->done, job, "no thread was free in time");
    }
    return next;
}

int64_t fw_watch_look(struct fw_pool *pool, bool at_once)
{
    int64_t now = fila_now();
    int64_t next = look_at_runs(pool, now, at_once);
    next = earlier(next, look_at_deferred(&pool->runs, now, at_once));
    next = earlier(next, look_at_queue(pool, now));
    return earlier(next, replace_lost(pool, now));
}

static void *watch_main(void *arg)
{
    struct fw_pool *pool = arg;
    struct fw_watch *watch = &pool->watch;

    fw_stacks_enter();
    (void)pthread_mutex_lock(&watch->mutex);
    while (!watch->stop) {
        atomic_store(&watch->until, FILA_NEVER);
        watch->poke = false;
        (void)pthread_mutex_unlock(&watch->mutex);
        int64_t next = fw_watch_look(pool, false);
        (void)pthread_mutex_lock(&watch->mutex);
        if (!watch->poke) {
            atomic_store(&watch->until, next);
            while (!watch->poke && !watch->stop &&
                   fw_cond_wait_until(&watch->poked, &watch->mutex, next)) {
            }
        }
    }
    (void)pthread_mutex_unlock(&watch->mutex);
    fw_stacks_leave();
    return NULL;
}

void fw_watch_poke(struct fw_watch *watch)
{
    (void)pthread_mutex_lock(&watch->mutex);
    watch->poke = true;
    (void)pthread_cond_signal(&watch->poked);
    (void)pthread_mutex_unlock(&watch->mutex);
}

void fw_watch_init(struct fw_watch *watch)
{
    (void)pthread_mutex_init(&watch->mutex, NULL);
    fw_cond_init(&watch->poked);
    atomic_init(&watch->until, FILA_NEVER);
}

void fw_watch_fini(struct fw_watch *watch)
{
    (void)pthread_cond_destroy(&watch->poked);
    (void)pthread_mutex_destroy(&watch->mutex);
}

fila_status fw_watch_start(struct fw_pool *pool, fila_error *reterr)
{
    struct fw_watch *watch = &pool->watch;
    int error = fw_pool_thread(&watch->thread, watch_main, pool);
    if (error) {
        return fila_fail(reterr, FILA_NO_MEMORY, "cannot start a thread: errno %d", error);
    }
    watch->started = true;
    (void)pthread_setname_np(watch->thread, "fw-watch");
    return FILA_OK;
}

void fw_watch_stop(struct fw_pool *pool)
{
    struct fw_watch *watch = &pool->watch;
    if (!watch->started) {
        return;
    }
    (void)pthread_mutex_lock(&watch->mutex);
    watch->stop = true;
    (void)pthread_cond_signal(&watch->poked);
    (void)pthread_mutex_unlock(&watch->mutex);
    (void)pthread_join(watch->thread, NULL);
}
