/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "fork.h"
#include "plugin/lastwords.h"
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What a thread takes from the queue: one of the two, or none when the pool stops. */
struct work {
    struct fw_job *job;
    struct fw_probe *probe;
};

static bool pop(struct fw_pool *pool, struct work *ret_work)
{
    if (pool->locked.probes) {
        ret_work->probe = pool->locked.probes;
        pool->locked.probes = ret_work->probe->next;
        return true;
    }
    if (pool->locked.first) {
        ret_work->job = pool->locked.first;
        pool->locked.first = ret_work->job->next;
        return true;
    }
    return false;
}

static struct work take_work(struct fw_pool *pool)
{
    struct work work = {NULL, NULL};
    bool wake = false;

    (void)pthread_mutex_lock(&pool->locked.mutex);
    while (!pool->locked.stopping && !pop(pool, &work)) {
        pool->locked.idle++;
        (void)pthread_cond_wait(&pool->locked.work, &pool->locked.mutex);
        pool->locked.idle--;
        pool->locked.waking = false;
    }
    if ((pool->locked.first || pool->locked.probes) && pool->locked.idle && !pool->locked.waking) {
        pool->locked.waking = true;
        wake = true;
    }
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    if (wake) {
        (void)pthread_cond_signal(&pool->locked.work);
    }
    return work;
}

static struct fw_run *worker_run(struct fw_worker *worker)
{
    struct fw_run *run = atomic_load_explicit(&worker->run, memory_order_relaxed);
    if (!run) {
        run = fw_run_take(&worker->pool->runs);
        atomic_store(&worker->run, run);
    }
    return run;
}

static void count_serving(struct fw_pool *pool, int by)
{
    (void)pthread_mutex_lock(&pool->locked.mutex);
    pool->locked.serving += by;
    (void)pthread_cond_broadcast(&pool->locked.changed);
    (void)pthread_mutex_unlock(&pool->locked.mutex);
}

/* Returns the one that was there. */
static struct fw_probe *set_probe(
    struct fw_worker *worker,
    struct fw_probe *probe,
    int64_t deadline)
{
    struct fw_pool *pool = worker->pool;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    struct fw_probe *before = worker->locked.probe;
    worker->locked.probe = probe;
    worker->locked.probe_deadline = deadline;
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    return before;
}

static const char *plugin_name(const struct fw_pool *pool)
{
    const struct fw_plugin *plugin = pool->plugin;
    return *plugin->path ? plugin->path : plugin->table.name;
}

static void run_job(struct fw_worker *worker, struct fw_job *job)
{
    struct fw_pool *pool = worker->pool;
    struct fw_run *run = worker_run(worker);
    int64_t deadline = job->deadline;
    int64_t now = fila_now();

    if (atomic_load(&job->cancelled)) {
        fw_job_refuse(pool->done, job, "cancelled before it was started");
        return;
    }
    if (now >= deadline || !run) {
        fw_job_refuse(pool->done, job, run ? "no thread was free in time" : "out of memory");
        return;
    }
    fw_run_start(run, job, now);
    fw_watch_run(&pool->watch, deadline);
    fila_view id = {run->delivery->id, run->delivery->id_len};
    const struct fw_doing doing = {"handle", plugin_name(pool), pool->queue, id, now};
    fw_last_words_doing(&doing);
    int verdict = pool->plugin->table.handle(
        worker->instance->self, run->delivery, &worker->instance->services);
    fw_last_words_doing(NULL);
    if (fw_is_fork()) {
        _exit(EXIT_SUCCESS);
    }
    enum fw_run_after after = fw_run_finish(run, verdict);
    if (after == FW_RUN_KEPT || after == FW_RUN_WAS_LOST_KEPT) {
        atomic_store(&worker->run, NULL);
    }
    if (after == FW_RUN_WAS_LOST || after == FW_RUN_WAS_LOST_KEPT) {
        count_serving(pool, 1);
    }
}

bool fw_probe_answer(struct fw_probe *probe, bool healthy)
{
    bool first = !atomic_exchange(&probe->answered, true);
    if (first) {
        probe->answer(probe->user, healthy);
    }
    if (atomic_fetch_sub(&probe->refs, 1) == 1) {
        free(probe);
    }
    return first;
}

static void run_probe(struct fw_worker *worker, struct fw_probe *probe)
{
    struct fw_pool *pool = worker->pool;
    const fila_plugin *table = &pool->plugin->table;
    int64_t deadline = fila_now() + pool->probe_timeout;

    set_probe(worker, probe, deadline);
    fw_watch_run(&pool->watch, deadline);
    const struct fw_doing doing = {
        "probe", plugin_name(pool), pool->queue, {NULL, 0}, deadline - pool->probe_timeout};
    fw_last_words_doing(&doing);
    int answer = table->probe(worker->instance->self, &worker->instance->services);
    fw_last_words_doing(NULL);
    bool ours = set_probe(worker, NULL, FILA_NEVER) == probe; /* else the watch has taken it */
    (void)fw_probe_answer(probe, answer == 1);
    if (!ours) {
        count_serving(pool, 1);
        (void)atomic_fetch_sub(&pool->runs.lost, 1);
    }
}

static bool open_instance(struct fw_worker *worker)
{
    struct fw_pool *pool = worker->pool;
    if (worker->instance == &pool->shared && pool->shared_open) {
        return true;
    }
    fw_instance_prepare(worker->instance, pool->plugin, pool->queue);
    fw_run_services(&worker->instance->services);
    return fw_instance_open(worker->instance, &worker->error) == FILA_OK;
}

static bool worker_start(struct fw_worker *worker)
{
    struct fw_pool *pool = worker->pool;
    char name[16];
    (void)snprintf(name, sizeof name, "fw:%s", pool->queue);
    (void)pthread_setname_np(pthread_self(), name);
    fw_last_words_thread();
    bool opened = open_instance(worker);

    (void)pthread_mutex_lock(&pool->locked.mutex);
    pool->locked.starting--;
    worker->locked.state = opened ? FW_WORKER_READY : FW_WORKER_FAILED;
    pool->locked.serving += opened;
    pool->locked.open += opened;
    pool->locked.users += opened;
    pool->shared_open |= opened && worker->instance == &pool->shared;
    (void)pthread_cond_broadcast(&pool->locked.changed);
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    return opened;
}

static void wait_for_closing(struct fw_pool *pool)
{
    (void)pthread_mutex_lock(&pool->locked.mutex);
    pool->locked.serving--;
    (void)pthread_cond_broadcast(&pool->locked.changed);
    while (!pool->locked.closing) {
        (void)pthread_cond_wait(&pool->locked.work, &pool->locked.mutex);
    }
    (void)pthread_mutex_unlock(&pool->locked.mutex);
}

/* That of a thread-safe plugin is closed by the last. */
static void close_instance(struct fw_worker *worker)
{
    struct fw_pool *pool = worker->pool;
    (void)pthread_mutex_lock(&pool->locked.mutex);
    bool last = --pool->locked.users == 0;
    (void)pthread_mutex_unlock(&pool->locked.mutex);
    if (worker->instance == &worker->own || last) {
        fw_instance_close(worker->instance);
    }
    (void)pthread_mutex_lock(&pool->locked.mutex);
    pool->locked.open--;
    (void)pthread_cond_broadcast(&pool->locked.changed);
    (void)pthread_mutex_unlock(&pool->locked.mutex);
}

void *fw_worker_main(void *arg)
{
    struct fw_worker *worker = arg;
    if (!worker_start(worker)) {
        fw_last_words_thread_end();
        return NULL;
    }
    for (;;) {
        struct work work = take_work(worker->pool);
        if (work.job) {
            run_job(worker, work.job);
        } else if (work.probe) {
            run_probe(worker, work.probe);
        } else {
            break;
        }
    }
    wait_for_closing(worker->pool);
    close_instance(worker);
    fw_last_words_thread_end();
    return NULL;
}
