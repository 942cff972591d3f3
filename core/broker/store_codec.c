/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "store_internal.h"

#define LENGTH_SIZE 4

size_t fb_texts_size(const fila_view *texts, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += LENGTH_SIZE + texts[i].len;
    }
    return size;
}

void fb_texts_write(const fila_view *texts, size_t count, uint8_t *to)
{
    for (size_t i = 0; i < count; i++) {
        for (int shift = 0; shift < 32; shift += 8) {
            *to++ = (uint8_t)(texts[i].len >> shift);
        }
        if (texts[i].len) {
            memcpy(to, texts[i].data, texts[i].len);
            to += texts[i].len;
        }
    }
}

/* The text at *at, which is moved behind it; false where there is none. */
static bool next_text(const uint8_t **at, const uint8_t *end, fila_view *ret_text)
{
    size_t len = 0;
    if (end - *at < LENGTH_SIZE) {
        return false;
    }
    for (int i = 0; i < LENGTH_SIZE; i++) {
        len |= (size_t)(*at)[i] << (8 * i);
    }
    *at += LENGTH_SIZE;
    if ((size_t)(end - *at) < len) {
        return false;
    }
    *ret_text = (fila_view){(const char *)*at, len};
    *at += len;
    return true;
}

bool fb_texts_read(
    const uint8_t *bytes,
    size_t len,
    fila_view *texts,
    size_t room,
    size_t *ret_count)
{
    const uint8_t *at = bytes;
    size_t count = 0;
    while (len && at < bytes + len) {
        if (count == room || !next_text(&at, bytes + len, &texts[count])) {
            return false;
        }
        count++;
    }
    *ret_count = count;
    return true;
}

size_t fb_texts_count(const uint8_t *bytes, size_t len)
{
    const uint8_t *at = bytes;
    size_t count = 0;
    fila_view text;
    while (len && at < bytes + len) {
        if (!next_text(&at, bytes + len, &text)) {
            return SIZE_MAX;
        }
        count++;
    }
    return count;
}
