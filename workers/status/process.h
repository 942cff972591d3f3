/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The usual figures of this process, from /proc. Thread: any.
 */
#ifndef FW_STATUS_PROCESS_H
#define FW_STATUS_PROCESS_H

#include <stdint.h>

struct fw_process_figures {
    int64_t cpu_ns; /* user and system, all threads */
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint64_t threads;
    uint64_t open_fds;
    uint64_t max_fds; /* UINT64_MAX = no limit */
    double started;   /* seconds since 1970 */
};

/* What cannot be read is 0. */
void fw_process_read(struct fw_process_figures *ret_figures);

#endif
