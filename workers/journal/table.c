/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "journal/table.h"

#include "journal/record.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

struct row {
    UT_hash_handle hh;
    struct row *prev; /* by last change */
    struct row *next;
    struct row *prev_changed;
    struct row *next_changed;
    struct fw_journal_entry entry; /* its texts lie in `key` */
    bool changed;                  /* the file does not say so yet */
    bool written;                  /* the file says something of it */
    size_t key_len;
    char key[]; /* lengths of served and queue (2 + 2), served, queue, id */
};

struct fw_journal_table {
    struct row *rows;
    struct row *by_age;
    struct row *changed;
    char *scratch; /* a key to look for */
    size_t scratch_size;
    size_t bytes;
    size_t changed_bytes;
    uint32_t limit;
    size_t most_bytes;
    uint32_t live; /* those that say something */
};

struct fw_journal_table *fw_journal_table_new(uint32_t limit, size_t most_bytes)
{
    struct fw_journal_table *table = calloc(1, sizeof(*table));
    if (table != NULL) {
        table->limit = limit;
        table->most_bytes = most_bytes;
    }
    return table;
}

void fw_journal_table_free(struct fw_journal_table *table)
{
    struct row *row;
    struct row *next;
    if (table == NULL) {
        return;
    }
    HASH_CLEAR(hh, table->rows); /* the table; the rows are still in a list */
    DL_FOREACH_SAFE(table->by_age, row, next)
    {
        free(row);
    }
    free(table->scratch);
    free(table);
}

static bool make_key(struct fw_journal_table *table, const struct fw_journal_entry *e, size_t *len)
{
    uint16_t lengths[2] = {(uint16_t)e->served.len, (uint16_t)e->queue.len};
    *len = sizeof(lengths) + e->served.len + e->queue.len + e->id.len;
    if (*len > table->scratch_size) {
        char *scratch = realloc(table->scratch, *len + 256);
        if (scratch == NULL) {
            return false;
        }
        table->scratch = scratch;
        table->scratch_size = *len + 256;
    }
    char *at = table->scratch;
    memcpy(at, lengths, sizeof(lengths));
    at += sizeof(lengths);
    const fila_view texts[] = {e->served, e->queue, e->id};
    for (size_t i = 0; i < 3; i++) {
        if (texts[i].len > 0) {
            memcpy(at, texts[i].data, texts[i].len);
        }
        at += texts[i].len;
    }
    return true;
}

static size_t size_of(const struct row *row)
{
    return fw_record_size(&row->entry);
}

static void mark(struct fw_journal_table *table, struct row *row)
{
    if (row->changed) { /* records are written in the order of the last changes */
        DL_DELETE2(table->changed, row, prev_changed, next_changed);
    } else {
        row->changed = true;
        table->changed_bytes += size_of(row);
    }
    DL_APPEND2(table->changed, row, prev_changed, next_changed);
}

static void unmark(struct fw_journal_table *table, struct row *row)
{
    if (row->changed) {
        row->changed = false;
        DL_DELETE2(table->changed, row, prev_changed, next_changed);
        table->changed_bytes -= size_of(row);
    }
}

static void erase(struct fw_journal_table *table, struct row *row)
{
    unmark(table, row);
    if (fw_record_says(&row->entry)) {
        table->live--;
        table->bytes -= size_of(row);
    }
    DL_DELETE(table->by_age, row);
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a table with this row in it */
    HASH_DEL(table->rows, row);
    free(row);
}

static struct row *add(struct fw_journal_table *table, const struct fw_journal_entry *e, size_t len)
{
    struct row *row = calloc(1, sizeof(*row) + len);
    if (row == NULL) {
        return NULL;
    }
    memcpy(row->key, table->scratch, len);
    row->key_len = len;
    const char *texts = row->key + 2 * sizeof(uint16_t);
    row->entry.served = (fila_view){texts, e->served.len};
    row->entry.queue = (fila_view){texts + e->served.len, e->queue.len};
    row->entry.id = (fila_view){texts + e->served.len + e->queue.len, e->id.len};
    HASH_ADD_KEYPTR(hh, table->rows, row->key, row->key_len, row);
    if (row->hh.tbl == NULL) { /* the table could not grow */
        free(row);
        return NULL;
    }
    DL_APPEND(table->by_age, row);
    return row;
}

static void set(struct fw_journal_table *table, struct row *row, const struct fw_journal_entry *e)
{
    bool said = fw_record_says(&row->entry);
    bool says = fw_record_says(e);
    row->entry.tries = e->tries;
    row->entry.attempt_seen = e->attempt_seen;
    row->entry.not_before = e->not_before;
    row->entry.done = e->done;
    row->entry.doomed = e->doomed;
    if (says && !said) {
        table->live++;
        table->bytes += size_of(row);
    } else if (said && !says) {
        table->live--;
        table->bytes -= size_of(row);
    }
}

bool fw_journal_table_put(struct fw_journal_table *table, const struct fw_journal_entry *entry)
{
    size_t len;
    struct row *row = NULL;
    if (fw_record_size(entry) == 0 || !make_key(table, entry, &len)) {
        return false;
    }
    HASH_FIND(hh, table->rows, table->scratch, len, row);
    if (row == NULL) {
        if (!fw_record_says(entry)) {
            return true;
        }
        row = add(table, entry, len);
        if (row == NULL) {
            return false;
        }
    }
    set(table, row, entry);
    if (!fw_record_says(entry) && !row->written) { /* the file never heard of it */
        erase(table, row);
        return true;
    }
    mark(table, row);
    DL_DELETE(table->by_age, row);
    DL_APPEND(table->by_age, row);
    while (table->live > table->limit || table->bytes > table->most_bytes) {
        struct row *oldest = table->by_age;
        while (!fw_record_says(&oldest->entry)) {
            oldest = oldest->next;
        }
        erase(table, oldest);
    }
    return true;
}

uint32_t fw_journal_table_count(const struct fw_journal_table *table)
{
    return table->live;
}

size_t fw_journal_table_bytes(const struct fw_journal_table *table)
{
    return table->bytes;
}

size_t fw_journal_table_changed(const struct fw_journal_table *table)
{
    return table->changed_bytes;
}

/* It is in the file now; one that says nothing has done its work with that. */
static void wrote(struct fw_journal_table *table, struct row *row)
{
    unmark(table, row);
    row->written = true;
    if (!fw_record_says(&row->entry)) {
        erase(table, row);
    }
}

void fw_journal_table_write_changed(struct fw_journal_table *table, uint8_t *at)
{
    while (table->changed != NULL) {
        struct row *row = table->changed;
        fw_record_put(&row->entry, at);
        at += size_of(row);
        wrote(table, row);
    }
}

void fw_journal_table_write_all(struct fw_journal_table *table, uint8_t *at)
{
    struct row *row;
    struct row *next;
    DL_FOREACH_SAFE(table->by_age, row, next)
    {
        if (fw_record_says(&row->entry)) {
            fw_record_put(&row->entry, at);
            at += size_of(row);
        }
        wrote(table, row);
    }
}

static bool serves(const struct row *row, fila_view served)
{
    return row->entry.served.len == served.len && fw_record_says(&row->entry) &&
           (served.len == 0 || memcmp(row->entry.served.data, served.data, served.len) == 0);
}

static fila_view move_text(char **at, fila_view text)
{
    char *here = *at;
    if (text.len > 0) {
        memcpy(here, text.data, text.len);
    }
    *at += text.len;
    return (fila_view){here, text.len};
}

struct fw_journal_entry *fw_journal_table_copy(
    const struct fw_journal_table *table,
    fila_view served,
    size_t *ret_count)
{
    const struct row *row;
    size_t count = 0;
    size_t text = 0;
    *ret_count = 0;
    DL_FOREACH(table->by_age, row)
    {
        if (serves(row, served)) {
            count++;
            text += row->key_len;
        }
    }
    struct fw_journal_entry *entries = count > 0 ? malloc(count * sizeof(*entries) + text) : NULL;
    if (entries == NULL) {
        return NULL;
    }
    char *at = (char *)(entries + count);
    struct fw_journal_entry *next = entries;
    DL_FOREACH(table->by_age, row)
    {
        if (serves(row, served)) {
            *next = row->entry;
            next->served = move_text(&at, row->entry.served);
            next->queue = move_text(&at, row->entry.queue);
            next->id = move_text(&at, row->entry.id);
            next++;
        }
    }
    *ret_count = count;
    return entries;
}
