/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>

/* What a thread takes from the queue: one of the two, or none when the pool stops. */
struct work {
    struct fw_job *job;
    struct fw_probe *probe;
};

static bool pop(struct fw_executor *executor, struct work *ret_work)
{
    if (executor->locked.probes) {
        ret_work->probe = executor->locked.probes;
        executor->locked.probes = ret_work->probe->next;
        return true;
    }
    if (executor->locked.first) {
        ret_work->job = executor->locked.first;
        executor->locked.first = ret_work->job->next;
        return true;
    }
    return false;
}

static struct work take_work(struct fw_executor *executor)
{
    struct work work = {NULL, NULL};
    bool wake = false;

    (void)pthread_mutex_lock(&executor->locked.mutex);
    while (!executor->locked.stopping && !pop(executor, &work)) {
        executor->locked.idle++;
        (void)pthread_cond_wait(&executor->locked.work, &executor->locked.mutex);
        executor->locked.idle--;
        executor->locked.waking = false;
    }
    if ((executor->locked.first || executor->locked.probes) && executor->locked.idle &&
        !executor->locked.waking) {
        executor->locked.waking = true;
        wake = true;
    }
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    if (wake) {
        (void)pthread_cond_signal(&executor->locked.work);
    }
    return work;
}

static struct fw_run *worker_run(struct fw_worker *worker)
{
    struct fw_run *run = atomic_load_explicit(&worker->run, memory_order_relaxed);
    if (!run) {
        run = fw_run_take(&worker->executor->runs);
        atomic_store(&worker->run, run);
    }
    return run;
}

static void count_serving(struct fw_executor *executor, int by)
{
    (void)pthread_mutex_lock(&executor->locked.mutex);
    executor->locked.serving += by;
    (void)pthread_cond_broadcast(&executor->locked.changed);
    (void)pthread_mutex_unlock(&executor->locked.mutex);
}

/* Returns the one that was there. */
static struct fw_probe *set_probe(
    struct fw_worker *worker,
    struct fw_probe *probe,
    int64_t deadline)
{
    struct fw_executor *executor = worker->executor;
    (void)pthread_mutex_lock(&executor->locked.mutex);
    struct fw_probe *before = worker->locked.probe;
    worker->locked.probe = probe;
    worker->locked.probe_deadline = deadline;
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    return before;
}

static void run_job(struct fw_worker *worker, struct fw_job *job)
{
    struct fw_executor *executor = worker->executor;
    struct fw_run *run = worker_run(worker);
    int64_t deadline = job->deadline;
    int64_t now = fila_now();

    if (atomic_load(&job->cancelled)) {
        fw_job_refuse(executor->done, job, "cancelled before it was started");
        return;
    }
    if (now >= deadline || !run) {
        fw_job_refuse(executor->done, job, run ? "no thread was free in time" : "out of memory");
        return;
    }
    fw_run_start(run, job, now);
    fw_watch_run(&executor->watch, deadline);
    int verdict = executor->plugin->table.handle(
        worker->instance->self, run->delivery, &worker->instance->services);
    enum fw_run_after after = fw_run_finish(run, verdict);
    if (after == FW_RUN_KEPT || after == FW_RUN_WAS_LOST_KEPT) {
        atomic_store(&worker->run, NULL);
    }
    if (after == FW_RUN_WAS_LOST || after == FW_RUN_WAS_LOST_KEPT) {
        count_serving(executor, 1);
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
    struct fw_executor *executor = worker->executor;
    const fila_plugin *table = &executor->plugin->table;
    int64_t deadline = fila_now() + executor->probe_timeout;

    set_probe(worker, probe, deadline);
    fw_watch_run(&executor->watch, deadline);
    int answer = table->probe(worker->instance->self, &worker->instance->services);
    bool ours = set_probe(worker, NULL, FILA_NEVER) == probe; /* else the watch has taken it */
    (void)fw_probe_answer(probe, answer == 1);
    if (!ours) {
        count_serving(executor, 1);
        (void)atomic_fetch_sub(&executor->runs.lost, 1);
    }
}

static bool open_instance(struct fw_worker *worker)
{
    struct fw_executor *executor = worker->executor;
    if (worker->instance == &executor->shared && executor->shared_open) {
        return true;
    }
    fw_instance_prepare(worker->instance, executor->plugin, executor->queue);
    fw_run_services(&worker->instance->services);
    return fw_instance_open(worker->instance, &worker->error) == FILA_OK;
}

static bool worker_start(struct fw_worker *worker)
{
    struct fw_executor *executor = worker->executor;
    char name[16];
    (void)snprintf(name, sizeof name, "fw:%s", executor->queue);
    (void)pthread_setname_np(pthread_self(), name);
    bool opened = open_instance(worker);

    (void)pthread_mutex_lock(&executor->locked.mutex);
    executor->locked.starting--;
    worker->locked.state = opened ? FW_WORKER_READY : FW_WORKER_FAILED;
    executor->locked.serving += opened;
    executor->shared_open |= opened && worker->instance == &executor->shared;
    (void)pthread_cond_broadcast(&executor->locked.changed);
    (void)pthread_mutex_unlock(&executor->locked.mutex);
    return opened;
}

static void wait_for_closing(struct fw_executor *executor)
{
    (void)pthread_mutex_lock(&executor->locked.mutex);
    executor->locked.serving--;
    (void)pthread_cond_broadcast(&executor->locked.changed);
    while (!executor->locked.closing) {
        (void)pthread_cond_wait(&executor->locked.work, &executor->locked.mutex);
    }
    (void)pthread_mutex_unlock(&executor->locked.mutex);
}

void *fw_worker_main(void *arg)
{
    struct fw_worker *worker = arg;
    if (!worker_start(worker)) {
        return NULL;
    }
    for (;;) {
        struct work work = take_work(worker->executor);
        if (work.job) {
            run_job(worker, work.job);
        } else if (work.probe) {
            run_probe(worker, work.probe);
        } else {
            break;
        }
    }
    wait_for_closing(worker->executor);
    if (worker->instance == &worker->own) {
        fw_instance_close(worker->instance);
    }
    return NULL;
}
