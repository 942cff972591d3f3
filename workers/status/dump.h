/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A snapshot into the log, a line (event DUMP) for each message held and each queue: for `ctl dump`
 * and SIGUSR1, beside the threads (host/threads.h). Thread: any.
 */
#ifndef FW_STATUS_DUMP_H
#define FW_STATUS_DUMP_H

#include "status/snapshot.h"

/* `number`: of the dump, in each of its lines. */
void fw_status_dump(const struct fw_snapshot *snapshot, int64_t number);

#endif
