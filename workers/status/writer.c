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

void fw_write_unsigned(struct fw_writer *writer, uint64_t number)
{
    char digits[20];
    size_t i = sizeof digits;
    do {
        digits[--i] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    fw_write(writer, digits + i, sizeof digits - i);
}

void fw_write_seconds(struct fw_writer *writer, int64_t ns)
{
    uint64_t size = ns < 0 ? UINT64_C(0) - (uint64_t)ns : (uint64_t)ns;
    uint64_t part = size % 1000000000;
    if (ns < 0) {
        fw_write(writer, "-", 1);
    }
    fw_write_unsigned(writer, size / 1000000000);
    if (part) {
        char digits[10] = ".000000000";
        size_t len = 1;
        for (size_t i = 9; i > 0; i--, part /= 10) {
            digits[i] = (char)('0' + part % 10);
            len = len == 1 && digits[i] != '0' ? i + 1 : len;
        }
        fw_write(writer, digits, len);
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
