/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "codec.h"

/* Bytes of the well-formed sequence at `s` (first byte not ASCII), or 0. RFC 3629, chapter 4. */
static size_t sequence(const uint8_t *s, size_t len)
{
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    size_t size = 0;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        size = 2;
    } else if ((s[0] & 0xf0) == 0xe0) {
        size = 3;
        low = s[0] == 0xe0 ? 0xa0 : low;
        high = s[0] == 0xed ? 0x9f : high;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        size = 4;
        low = s[0] == 0xf0 ? 0x90 : low;
        high = s[0] == 0xf4 ? 0x8f : high;
    }
    if (!size || len < size || s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

static bool high_bits(const uint8_t *s)
{
    uint64_t word = 0;
    memcpy(&word, s, sizeof word);
    return (word & UINT64_C(0x8080808080808080)) != 0;
}

/* Whether `len` bytes are all ASCII: by words, the last of which overlaps the one before. */
static bool is_ascii(const uint8_t *s, size_t len)
{
    if (len >= sizeof(uint64_t)) {
        const uint8_t *last = s + len - sizeof(uint64_t);
        for (; s < last; s += sizeof(uint64_t)) {
            if (high_bits(s)) {
                return false;
            }
        }
        return !high_bits(last);
    }
    uint8_t all = 0;
    for (size_t i = 0; i < len; i++) {
        all |= s[i];
    }
    return all < 0x80;
}

bool fila_utf8_valid(const char *bytes, size_t len)
{
    const uint8_t *s = (const uint8_t *)bytes;
    if (is_ascii(s, len)) {
        return true;
    }
    while (len) {
        size_t size = *s < 0x80 ? 1 : sequence(s, len);
        if (len >= sizeof(uint64_t) && !high_bits(s)) {
            size = sizeof(uint64_t);
        }
        if (!size) {
            return false;
        }
        s += size;
        len -= size;
    }
    return true;
}
