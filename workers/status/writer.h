/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A growing text, for pages that are made often: numbers are written without printf. A failed
 * allocation is remembered and ends in NULL from fw_writer_take. Not thread-safe: one owner.
 */
#ifndef FW_STATUS_WRITER_H
#define FW_STATUS_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Zero-initialize. */
struct fw_writer {
    char *data;
    size_t len;
    size_t capacity;
    bool failed;
};

/* Room for `more` bytes behind data + len; NULL without memory. */
char *fw_writer_room(struct fw_writer *writer, size_t more);

static inline void fw_write(struct fw_writer *writer, const char *data, size_t len)
{
    char *at = fw_writer_room(writer, len);
    if (at) {
        memcpy(at, data, len);
        writer->len += len;
    }
}

void fw_write_text(struct fw_writer *writer, const char *text);
void fw_write_unsigned(struct fw_writer *writer, uint64_t number);
/* Nanoseconds as seconds, exactly and without needless zeros: "0.0025", "-3". */
void fw_write_seconds(struct fw_writer *writer, int64_t ns);

/* The same to where there is room for them (numbers: FW_NUMBER_SIZE); what is behind them. */
#define FW_NUMBER_SIZE 32

static inline char *fw_put(char *at, const char *data, size_t len)
{
    memcpy(at, data, len);
    return at + len;
}

char *fw_put_unsigned(char *at, uint64_t number);
char *fw_put_seconds(char *at, int64_t ns);

/* The text, malloc'ed and zero-terminated, and its length; NULL when an allocation failed. The
 * writer is empty again. */
char *fw_writer_take(struct fw_writer *writer, size_t *ret_len);
void fw_writer_fini(struct fw_writer *writer);

#endif
