/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What an implementation of executor.h is: a struct that begins with a struct fw_executor, and this
 * table. Each slot is the function of the same name in executor.h, which says what it does and who
 * calls it. Internal to workers/executor.
 */
#ifndef FW_EXECUTOR_IMPLEMENTATION_H
#define FW_EXECUTOR_IMPLEMENTATION_H

#include "executor.h"

struct fw_executor_ops {
    void (*submit)(struct fw_executor *executor, struct fw_job *chain);
    void (*cancel)(struct fw_executor *executor, struct fw_job *job);
    bool (*has_probe)(const struct fw_executor *executor);
    bool (
        *probe)(struct fw_executor *executor, void (*answer)(void *user, bool healthy), void *user);
    void (*state)(struct fw_executor *executor, struct fw_executor_state *ret_state);
    const struct fw_counters *(*counters)(const struct fw_executor *executor);
    void (*refresh)(struct fw_executor *executor);
    bool (*grow)(struct fw_executor *executor, uint32_t concurrency);
    bool (*stop)(struct fw_executor *executor, int64_t deadline);
};

struct fw_executor {
    const struct fw_executor_ops *ops;
};

/* pool.c: handlers on threads of this process. */
FILA_NODISCARD fila_status fw_pool_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr);

/* process.c: handlers in children. */
FILA_NODISCARD fila_status fw_process_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr);

/* Chains what is to be run: clears what an earlier run left in each job. Returns the last one, NULL
 * of an empty chain, and the earliest deadline. */
struct fw_job *fw_chain_prepare(struct fw_job *chain, int64_t *ret_earliest);

#endif
