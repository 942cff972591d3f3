/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor.h"

#include "base/clock.h"
#include "implementation.h"

fila_status fw_executor_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr)
{
    return options->process ? fw_process_start(options, ret_executor, reterr)
                            : fw_pool_start(options, ret_executor, reterr);
}

void fw_executor_submit(struct fw_executor *executor, struct fw_job *chain)
{
    executor->ops->submit(executor, chain);
}

void fw_executor_cancel(struct fw_executor *executor, struct fw_job *job)
{
    executor->ops->cancel(executor, job);
}

bool fw_executor_has_probe(const struct fw_executor *executor)
{
    return executor->ops->has_probe(executor);
}

bool fw_executor_probe(
    struct fw_executor *executor,
    void (*answer)(void *user, bool healthy),
    void *user)
{
    return executor->ops->probe(executor, answer, user);
}

void fw_executor_get_state(struct fw_executor *executor, struct fw_executor_state *ret_state)
{
    *ret_state = (struct fw_executor_state){0};
    executor->ops->state(executor, ret_state);
}

uint32_t fw_executor_stuck(struct fw_executor *executor)
{
    struct fw_executor_state state;
    fw_executor_get_state(executor, &state);
    return state.stuck;
}

const struct fw_counters *fw_executor_counters(const struct fw_executor *executor)
{
    return executor->ops->counters(executor);
}

void fw_executor_refresh(struct fw_executor *executor)
{
    executor->ops->refresh(executor);
}

bool fw_executor_grow(struct fw_executor *executor, uint32_t concurrency)
{
    return executor->ops->grow(executor, concurrency);
}

bool fw_executor_stop(struct fw_executor *executor, int64_t deadline)
{
    return executor->ops->stop(executor, deadline);
}

struct fw_job *fw_chain_prepare(struct fw_job *chain, int64_t *ret_earliest)
{
    struct fw_job *last = NULL;
    *ret_earliest = FILA_NEVER;
    for (struct fw_job *job = chain; job; job = job->next) {
        atomic_store_explicit(&job->cancelled, false, memory_order_relaxed);
        atomic_store_explicit(&job->run, NULL, memory_order_relaxed);
        job->reason = NULL;
        *ret_earliest = job->deadline < *ret_earliest ? job->deadline : *ret_earliest;
        last = job;
    }
    return last;
}
