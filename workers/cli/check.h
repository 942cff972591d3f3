/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `check`: what is said about one config beyond what loading it says. Each part adds to a list of
 * findings; check.c prints them all. Thread: main.
 */
#ifndef FW_CLI_CHECK_H
#define FW_CLI_CHECK_H

#include "config/arena.h"
#include "config/config.h"

struct fw_findings {
    struct fw_arena arena;
    struct fw_diagnostic *items;
    size_t count;
    size_t errors;
    const char *broker_state; /* for the last line: "the broker answers", ... */
};

/* Without memory the finding is lost, and arena.failed says so. `file` and `key` are copied. */
FILA_PRINTF(6, 7)
void fw_findings_add(
    struct fw_findings *findings,
    bool is_error,
    const char *file,
    unsigned line,
    const char *key,
    const char *format,
    ...);

/* check_handler.c: loads each queue's handler and checks its options. */
void fw_check_handlers(struct fw_findings *findings, const struct fw_config *config);

/* check_broker.c: whether this build can talk to the brokers at all; when `ask`, also whether they
 * answer (within 3 s in all) and have the queues. */
void fw_check_brokers(struct fw_findings *findings, const struct fw_config *config, bool ask);

/* What the sums of check_sums.c are done with. */
struct fw_surroundings {
    int64_t handler_time; /* ns of a run; 0 = not told */
    int64_t grace;        /* ns between a platform's SIGTERM and its SIGKILL; 0 = not told */
    uint64_t descriptors; /* this process's limit */
    uint64_t memory;      /* bytes that it may use */
};

/* check_sums.c: leases, drain, descriptors, memory. */
void fw_check_sums(
    struct fw_findings *findings,
    const struct fw_config *config,
    const struct fw_surroundings *around);

#endif
