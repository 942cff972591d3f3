/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Snapshots made by hand.
 */
#ifndef TESTS_STATUS_RIG_H
#define TESTS_STATUS_RIG_H

#include "status/snapshot.h"

/* With so many queues "q0", "q1", ... of handler "exec", each with a good stream and 7 messages
 * done. */
struct fw_snapshot *rig_snapshot(uint32_t queues);

#endif
