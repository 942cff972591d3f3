/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The three health questions, answered from a snapshot. Pure. Thread: any.
 *
 *   startup  has it loaded its handlers and asked for its streams once?
 *   live     would a restart help? Both loops answer, and no queue has more stuck handlers than
 *            its stuck_limit.
 *   ready    does it do what it is configured to do? Not starting, not draining, and no queue has
 *            a trouble that fw_trouble_unready names.
 *
 * The body says which, in text for people: "ok", or a line for each culprit.
 */
#ifndef FW_STATUS_HEALTH_H
#define FW_STATUS_HEALTH_H

#include "status/snapshot.h"
#include "status/writer.h"

/* True = 200. `snapshot` NULL: the I/O thread did not answer. */
bool fw_health_live(const struct fw_snapshot *snapshot, bool supervisor, struct fw_writer *out);
bool fw_health_ready(const struct fw_snapshot *snapshot, struct fw_writer *out);
bool fw_health_startup(const struct fw_snapshot *snapshot, struct fw_writer *out);

/* Whether the queue is ready, as /readyz counts it. */
bool fw_health_queue(const struct fw_queue_status *queue);

#endif
