/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Copies what a queue is like into a snapshot. Thread: I/O.
 */
#ifndef FW_HOST_QUEUE_STATUS_H
#define FW_HOST_QUEUE_STATUS_H

#include "queue.h"
#include "status/snapshot.h"

/* The counters of queues that are gone, by queue and handler. I/O thread. */
struct fw_gone;

/* Keeps the counters of a queue that goes; without memory they are lost, which is logged. */
void fw_gone_add(struct fw_gone **list, const struct fw_queue *queue);
void fw_gone_free(struct fw_gone *list);

/* A snapshot of the queues of `list` and of those that are gone, with the I/O thread's part filled;
 * NULL without memory. `what`: FW_SNAPSHOT_*. */
struct fw_snapshot *fw_queues_describe(
    struct fw_queue *list,
    const struct fw_gone *gone,
    unsigned what,
    int64_t now);

#endif
