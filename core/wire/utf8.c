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

bool fila_utf8_valid(const char *bytes, size_t len)
{
    const uint8_t *s = (const uint8_t *)bytes;
    while (len) {
        uint64_t word = 0;
        if (len >= sizeof word) {
            memcpy(&word, s, sizeof word);
            if (!(word & UINT64_C(0x8080808080808080))) {
                s += sizeof word;
                len -= sizeof word;
                continue;
            }
        }
        size_t size = *s < 0x80 ? 1 : sequence(s, len);
        if (!size) {
            return false;
        }
        s += size;
        len -= size;
    }
    return true;
}
