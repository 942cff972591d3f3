/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

uint64_t fq_random(uint64_t *state)
{
    uint64_t word = (*state += UINT64_C(0x9e3779b97f4a7c15));
    word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
    return word ^ (word >> 31);
}

void fq_id_make(uint64_t *random, int64_t wall_ms, uint8_t ret_id[16])
{
    uint64_t ms = wall_ms > 0 ? (uint64_t)wall_ms : 0;
    uint64_t middle = fq_random(random);
    uint64_t low = fq_random(random);
    for (int i = 0; i < 6; i++) {
        ret_id[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    ret_id[6] = (uint8_t)(0x70 | (middle & 0x0f));
    ret_id[7] = (uint8_t)(middle >> 8);
    memcpy(ret_id + 8, &low, sizeof low);
    ret_id[8] = (uint8_t)(0x80 | (ret_id[8] & 0x3f));
}

static bool dash_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void fq_id_format(const uint8_t id[16], char ret_text[FQ_ID_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *at = ret_text;
    for (int i = 0; i < 16; i++) {
        if (dash_before(i)) {
            *at++ = '-';
        }
        *at++ = digits[id[i] >> 4];
        *at++ = digits[id[i] & 15];
    }
    *at = '\0';
}

/* The value of a hexadecimal digit and 1; 0 for all other characters. A table, because branches on
 * random digits are mispredicted every other time. */
static const uint8_t DIGIT[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

static bool parse_bytes(const char *text, bool dashes, uint8_t ret_id[16])
{
    const uint8_t *at = (const uint8_t *)text;
    uint8_t id[16];
    for (int i = 0; i < 16; i++) {
        unsigned high;
        unsigned low;
        if (dashes && dash_before(i) && *at++ != '-') {
            return false;
        }
        high = DIGIT[at[0]];
        low = DIGIT[at[1]];
        if (!high || !low) {
            return false;
        }
        id[i] = (uint8_t)((high - 1) << 4 | (low - 1));
        at += 2;
    }
    memcpy(ret_id, id, sizeof id);
    return true;
}

bool fq_id_parse(fila_view text, uint8_t ret_id[16])
{
    switch (text.len) {
    case 32:
        return parse_bytes(text.data, false, ret_id);
    case 36:
        return parse_bytes(text.data, true, ret_id);
    case 38:
        return text.data[0] == '{' && text.data[37] == '}' &&
               parse_bytes(text.data + 1, true, ret_id);
    case 45:
        return memcmp(text.data, "urn:uuid:", 9) == 0 && parse_bytes(text.data + 9, true, ret_id);
    default:
        return false;
    }
}
