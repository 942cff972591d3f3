/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The first process of a container (PID 1) has two duties that a worker does not: it inherits every
 * orphan and must reap it, and the kernel gives it no default action for signals. So there `run`
 * works in a child; the first process passes signals on, reaps, and ends as the child ends.
 */
#ifndef FW_HOST_INIT_H
#define FW_HOST_INIT_H

#include <stdbool.h>

/* True in the first process of a PID namespace, when all is over: *ret_status is what to exit with
 * (128 + N when the worker was ended by signal N). False where the work is to be done: any other
 * process at once, and the child of the first. When no child can be made the first process does the
 * work itself, and orphans stay zombies. Thread: main, before any other. */
bool fw_init_stood_by(int *ret_status);

#endif
