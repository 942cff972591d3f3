/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One record of the journal: what is known of one message, with its length and a checksum before
 * it. The newest record of a message counts; one that says nothing forgets it. Thread: any.
 *
 *     length  4   of what follows the checksum
 *     crc32   4   of the same
 *     done    1   0, or 1 + the outcome that its ack makes
 *     doomed  1   0, or the cause for which it goes to the dead letters without running
 *     lengths 2 + 2 + 2   served, queue (0: the same as served), id
 *     tries   4
 *     attempt 4   the broker's count, highest seen
 *     not_before 8   CLOCK_BOOTTIME ns of the boot in the file's head, 0 = none
 *     served, queue, id
 *
 * Numbers are little-endian.
 */
#ifndef FW_JOURNAL_RECORD_H
#define FW_JOURNAL_RECORD_H

#include "journal/journal.h"

enum {
    FW_RECORD_HEAD = 8,
    FW_RECORD_FIXED = 24,
    FW_RECORD_TEXT = 3 * 65535 /* of the three texts, at most */
};

enum fw_record_found {
    FW_RECORD_GOOD,
    FW_RECORD_END, /* nothing follows */
    FW_RECORD_TORN /* cut off, or not what was written */
};

/* Bytes that it takes; 0: a text is too long to be written. */
size_t fw_record_size(const struct fw_journal_entry *entry);
/* `at` has room for fw_record_size. */
void fw_record_put(const struct fw_journal_entry *entry, uint8_t *at);
/* The texts of *ret_entry lie in `data`. */
enum fw_record_found fw_record_get(
    const uint8_t *data,
    size_t size,
    struct fw_journal_entry *ret_entry,
    size_t *ret_used);

/* Whether it says anything that is worth keeping. */
static inline bool fw_record_says(const struct fw_journal_entry *entry)
{
    return entry->tries != 0 || entry->not_before != 0 || entry->done != 0 || entry->doomed != 0;
}

#endif
