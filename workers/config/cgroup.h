/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What this process may use, as its control groups (v1 and v2) and all above them say. `root` is
 * put before /proc and /sys ("" but in tests). Thread: any.
 */
#ifndef FW_CONFIG_CGROUP_H
#define FW_CONFIG_CGROUP_H

#include <stdint.h>

/* CPUs: the least of the affinity mask and the quotas, rounded up; at least 1. */
uint32_t fw_cpus_granted(const char *root);

/* Bytes of memory: the least of the limits and what the machine has. */
uint64_t fw_memory_granted(const char *root);

/* How many processes of this process's group the kernel has killed for lack of memory, whichever
 * limit was met; -1 = not known. */
int64_t fw_oom_kills(const char *root);

#endif
