/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Every thread of this process into the log, a line (event DUMP) each: its name, what it does for a
 * plugin and since when, and its stack, innermost first. Those that libraries have started are not
 * asked for their stack. It waits for none longer than a moment: also when the worker hangs.
 *
 * Thread: any.
 */
#ifndef FW_HOST_THREADS_H
#define FW_HOST_THREADS_H

#include <stdint.h>

/* `number`: of the dump, in each of its lines. */
void fw_threads_dump(int64_t number);

#endif
