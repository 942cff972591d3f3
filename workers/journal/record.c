/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "journal/record.h"

#include <endian.h>
#include <string.h>
#include <zlib.h>

static uint8_t *put16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static uint8_t *put64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static uint8_t *put_text(uint8_t *at, fila_view text)
{
    if (text.len > 0) {
        memcpy(at, text.data, text.len);
    }
    return at + text.len;
}

static uint16_t get16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

static uint32_t checksum(const uint8_t *data, size_t size)
{
    return (uint32_t)crc32(crc32(0, NULL, 0), data, (unsigned)size);
}

static bool same(fila_view a, fila_view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* The message's queue, as it is written. */
static fila_view written_queue(const struct fw_journal_entry *entry)
{
    return same(entry->queue, entry->served) ? (fila_view){NULL, 0} : entry->queue;
}

size_t fw_record_size(const struct fw_journal_entry *entry)
{
    if (entry->served.len > UINT16_MAX || entry->queue.len > UINT16_MAX ||
        entry->id.len > UINT16_MAX) {
        return 0;
    }
    return FW_RECORD_HEAD + FW_RECORD_FIXED + entry->served.len + written_queue(entry).len +
           entry->id.len;
}

void fw_record_put(const struct fw_journal_entry *entry, uint8_t *at)
{
    fila_view queue = written_queue(entry);
    uint8_t *body = at + FW_RECORD_HEAD;
    body[0] = entry->done;
    body[1] = entry->doomed;
    uint8_t *next = put16(body + 2, (uint16_t)entry->served.len);
    next = put16(next, (uint16_t)queue.len);
    next = put16(next, (uint16_t)entry->id.len);
    next = put32(next, entry->tries);
    next = put32(next, entry->attempt_seen);
    next = put64(next, (uint64_t)entry->not_before);
    next = put_text(next, entry->served);
    next = put_text(next, queue);
    next = put_text(next, entry->id);
    size_t length = (size_t)(next - body);
    (void)put32(at, (uint32_t)length);
    (void)put32(at + 4, checksum(body, length));
}

enum fw_record_found fw_record_get(
    const uint8_t *data,
    size_t size,
    struct fw_journal_entry *ret_entry,
    size_t *ret_used)
{
    if (size == 0) {
        return FW_RECORD_END;
    }
    if (size < FW_RECORD_HEAD + FW_RECORD_FIXED) {
        return FW_RECORD_TORN;
    }
    const uint8_t *body = data + FW_RECORD_HEAD;
    size_t length = get32(data);
    if (length < FW_RECORD_FIXED || length > FW_RECORD_FIXED + FW_RECORD_TEXT ||
        length > size - FW_RECORD_HEAD || checksum(body, length) != get32(data + 4)) {
        return FW_RECORD_TORN;
    }
    size_t served = get16(body + 2);
    size_t queue = get16(body + 4);
    size_t id = get16(body + 6);
    if (served + queue + id != length - FW_RECORD_FIXED) {
        return FW_RECORD_TORN;
    }
    const char *text = (const char *)body + FW_RECORD_FIXED;
    struct fw_journal_entry entry = {
        .served = {text, served},
        .queue = {queue > 0 ? text + served : text, queue > 0 ? queue : served},
        .id = {text + served + queue, id},
        .done = body[0],
        .doomed = body[1],
        .tries = get32(body + 8),
        .attempt_seen = get32(body + 12),
        .not_before = (int64_t)get64(body + 16),
    };
    *ret_entry = entry;
    *ret_used = FW_RECORD_HEAD + length;
    return FW_RECORD_GOOD;
}
