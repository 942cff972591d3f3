/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/writer.h"

#include <stdlib.h>

char *fw_writer_room(struct fw_writer *writer, size_t more)
{
    if (writer->failed) {
        return NULL;
    }
    if (writer->capacity - writer->len < more) {
        size_t capacity = writer->capacity ? writer->capacity : 4096;
        while (capacity - writer->len < more) {
            capacity *= 2;
        }
        char *data = realloc(writer->data, capacity);
        if (!data) {
            writer->failed = true;
            return NULL;
        }
        writer->data = data;
        writer->capacity = capacity;
    }
    return writer->data + writer->len;
}

void fw_write_text(struct fw_writer *writer, const char *text)
{
    fw_write(writer, text, strlen(text));
}

static const char PAIRS[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

char *fw_put_unsigned(char *at, uint64_t number)
{
    char digits[20];
    size_t i = sizeof digits;
    if (number < 10) {
        *at = (char)('0' + number);
        return at + 1;
    }
    for (; number >= 100; number /= 100) {
        i -= 2;
        memcpy(digits + i, PAIRS + 2 * (number % 100), 2);
    }
    if (number >= 10) {
        i -= 2;
        memcpy(digits + i, PAIRS + 2 * number, 2);
    } else {
        digits[--i] = (char)('0' + number);
    }
    return fw_put(at, digits + i, sizeof digits - i);
}

char *fw_put_seconds(char *at, int64_t ns)
{
    uint64_t size = ns < 0 ? UINT64_C(0) - (uint64_t)ns : (uint64_t)ns;
    uint64_t part = size % 1000000000;
    if (ns < 0) {
        *at++ = '-';
    }
    at = fw_put_unsigned(at, size / 1000000000);
    if (part) {
        char digits[10] = ".000000000";
        size_t len = 1;
        for (size_t i = 9; i > 0; i--, part /= 10) {
            digits[i] = (char)('0' + part % 10);
            len = len == 1 && digits[i] != '0' ? i + 1 : len;
        }
        at = fw_put(at, digits, len);
    }
    return at;
}

void fw_write_unsigned(struct fw_writer *writer, uint64_t number)
{
    char *at = fw_writer_room(writer, FW_NUMBER_SIZE);
    if (at) {
        writer->len += (size_t)(fw_put_unsigned(at, number) - at);
    }
}

void fw_write_seconds(struct fw_writer *writer, int64_t ns)
{
    char *at = fw_writer_room(writer, FW_NUMBER_SIZE);
    if (at) {
        writer->len += (size_t)(fw_put_seconds(at, ns) - at);
    }
}

char *fw_writer_take(struct fw_writer *writer, size_t *ret_len)
{
    char *data = NULL;
    fw_write(writer, "", 1);
    if (!writer->failed) {
        data = writer->data;
        *ret_len = writer->len - 1;
        writer->data = NULL;
    }
    fw_writer_fini(writer);
    return data;
}

void fw_writer_fini(struct fw_writer *writer)
{
    free(writer->data);
    *writer = (struct fw_writer){0};
}
