/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Folding of repeated log lines: the first is written at once, those that say the same within the
 * next second are counted, and the count is written when the second is over.
 *
 * Properties. Two lines say the same when event, text and fields are equal, apart from reals and
 * fields named `..._ms`. So messages of different ids are never folded. Every line is either
 * written or counted in exactly one summary. Operation. log.c asks fw_fold_admit for each line, and
 * fw_fold_take for summaries that are due. Safety. Not thread-safe (log.c holds its lock); fixed
 * memory: when two lines want the same slot, the older is summed up early.
 */
#ifndef FW_LOG_FOLD_H
#define FW_LOG_FOLD_H

#include "format.h"

#define FW_FOLD_SLOTS      64
#define FW_FOLD_TEXT_SIZE  256
#define FW_FOLD_QUEUE_SIZE 128

struct fw_fold_entry {
    uint64_t key;
    int64_t since;    /* CLOCK_BOOTTIME ns; 0 = free */
    uint32_t repeats; /* beyond the line that was written */
    enum fw_event event;
    size_t text_len;
    size_t queue_len; /* 0 = the line had no queue */
    char text[FW_FOLD_TEXT_SIZE];
    char queue[FW_FOLD_QUEUE_SIZE];
};

struct fw_fold {
    int64_t due; /* no summary is due before; 0 = none waits */
    struct fw_fold_entry entries[FW_FOLD_SLOTS];
};

/* True: write the line. When *ret_summary gets `repeats` above 0, write that summary first. */
bool fw_fold_admit(
    struct fw_fold *fold,
    int64_t now,
    const struct fw_log_line *line,
    struct fw_fold_entry *ret_summary);

/* Takes one summary that is due by `now` (INT64_MAX: every one that waits); false = no more. */
bool fw_fold_take(struct fw_fold *fold, int64_t now, struct fw_fold_entry *ret_summary);

#endif
