/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A handler may fork, to exec something; but the copy of this process that comes back from it must
 * not go on as if it were the worker: it would settle messages a second time.
 */
#ifndef FW_FORK_H
#define FW_FORK_H

#include <stdbool.h>

/* Before the first handler runs; as often as one likes. Thread: any. */
void fw_fork_watch(void);
/* Whether this process is a copy, made by fork since. Thread: any. */
bool fw_is_fork(void);

#endif
