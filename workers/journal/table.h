/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the journal knows: the newest entry of each message, bounded; the one that changed longest
 * ago goes first. Knows which entries differ from the file. Thread: one at a time.
 */
#ifndef FW_JOURNAL_TABLE_H
#define FW_JOURNAL_TABLE_H

#include "journal/journal.h"

struct fw_journal_table;

/* Of `limit` messages at most, whose records take `most_bytes` at most. NULL without memory. */
struct fw_journal_table *fw_journal_table_new(uint32_t limit, size_t most_bytes);
void fw_journal_table_free(struct fw_journal_table *table); /* takes NULL */
/* Copies it; one that says nothing takes the message out. False without memory: then the message
 * is as it was. */
bool fw_journal_table_put(struct fw_journal_table *table, const struct fw_journal_entry *entry);
uint32_t fw_journal_table_count(const struct fw_journal_table *table);
size_t fw_journal_table_bytes(const struct fw_journal_table *table);   /* of all as records */
size_t fw_journal_table_changed(const struct fw_journal_table *table); /* of those, as records */
/* Writes the changed ones as records to `at`, which has room for them; they count as written. */
void fw_journal_table_write_changed(struct fw_journal_table *table, uint8_t *at);
/* The same of all, oldest change first. */
void fw_journal_table_write_all(struct fw_journal_table *table, uint8_t *at);
/* All of one served queue, in one block for free(); NULL when there is none, or no memory
 * (*ret_count is 0). */
struct fw_journal_entry *fw_journal_table_copy(
    const struct fw_journal_table *table,
    fila_view served,
    size_t *ret_count);

#endif
