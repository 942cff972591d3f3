/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The journal's file: read at the opening, appended to, replaced as a whole. A head (magic, boot,
 * wall clock's offset, checksum), then records. Thread: one at a time.
 */
#ifndef FW_JOURNAL_FILE_H
#define FW_JOURNAL_FILE_H

#include "journal/boot.h"
#include "journal/table.h"

#include <limits.h>

struct fw_journal_file {
    int fd;        /* -1 = none, or it cannot be written any more */
    uint64_t size; /* up to here it is good */
    struct fw_boot boot;
    char path[PATH_MAX];
    char new_path[PATH_MAX];
    char dir[PATH_MAX];
};

enum {
    FW_JOURNAL_HEAD = 36
};

/* False: the path is too long. */
bool fw_journal_file_init(struct fw_journal_file *file, const char *dir);
void fw_journal_file_fini(struct fw_journal_file *file);

/* Reads the bytes of a file into the table, up to the first that are no record. `now` is
 * CLOCK_BOOTTIME. For the opening, and for tests. */
void fw_journal_file_parse(
    const uint8_t *data,
    size_t size,
    const struct fw_boot *boot,
    int64_t now,
    struct fw_journal_table *table,
    struct fw_journal_report *ret_report);
/* The same of the file at `path`; a missing one is empty. 0, or an errno. */
int fw_journal_file_read(
    struct fw_journal_file *file,
    int64_t now,
    struct fw_journal_table *table,
    struct fw_journal_report *ret_report);
/* A new file of all that the table knows takes the place of the old one. 0, or an errno; then the
 * old one is as it was. */
int fw_journal_file_rewrite(struct fw_journal_file *file, struct fw_journal_table *table);
/* Appends the table's changes and syncs. 0, or an errno: then nothing more may be appended, only
 * a rewrite helps. */
int fw_journal_file_append(
    struct fw_journal_file *file,
    struct fw_journal_table *table,
    uint64_t *ret_bytes);

#endif
