/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A progress line on standard error for long work, on a terminal only; redrawn at most ten times a
 * second. Thread: one at a time.
 */
#ifndef FW_CLI_PROGRESS_H
#define FW_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct fw_progress {
    const char *what; /* "enqueued" */
    uint64_t total;   /* 0 = not known */
    uint64_t done;
    int64_t started;
    int64_t drawn;
    bool on;
};

void fw_progress_start(struct fw_progress *progress, const char *what, uint64_t total);
void fw_progress_set(struct fw_progress *progress, uint64_t done);
void fw_progress_end(struct fw_progress *progress); /* takes the line away */

#endif
