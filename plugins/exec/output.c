/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "exec.h"

#include <string.h>

void tail_add(struct tail *tail, const char *bytes, size_t len)
{
    if (len >= TAIL_SIZE) {
        memcpy(tail->bytes, bytes + len - TAIL_SIZE, TAIL_SIZE);
        tail->at = 0;
        tail->full = true;
        return;
    }
    size_t first = TAIL_SIZE - tail->at;
    first = first < len ? first : len;
    memcpy(tail->bytes + tail->at, bytes, first);
    memcpy(tail->bytes, bytes + first, len - first);
    tail->full |= tail->at + len >= TAIL_SIZE;
    tail->at = (tail->at + len) % TAIL_SIZE;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0';
}

/* A cut may have left the rest of a UTF-8 character at the start: at most three bytes. */
static size_t half_character(const char *text, size_t len)
{
    size_t at = 0;
    while (at < 3 && at < len && ((unsigned char)text[at] & 0xc0u) == 0x80u) {
        at++;
    }
    return at;
}

size_t tail_text(const struct tail *tail, char *ret_text, size_t size)
{
    char text[TAIL_SIZE];
    size_t len = tail->full ? TAIL_SIZE : tail->at;
    size_t start = tail->full ? tail->at : 0;
    memcpy(text, tail->bytes + start, len - start);
    memcpy(text + len - start, tail->bytes, start);

    size_t skip = tail->full ? half_character(text, len) : 0;
    while (len > skip && is_blank(text[len - 1])) {
        len--;
    }
    len -= skip;
    len = len < size ? len : size - 1;
    for (size_t i = 0; i < len; i++) {
        ret_text[i] = (char)(text[skip + i] ? text[skip + i] : '?');
    }
    ret_text[len] = '\0';
    return len;
}

static void put_line(struct lines *lines)
{
    lines->line[lines->len] = '\0';
    lines->len = 0;
    lines->services->log(lines->services, lines->delivery, FILA_LOG_DEBUG, lines->line);
}

static void put_byte(struct lines *lines, char byte)
{
    if (byte == '\n') {
        put_line(lines);
        return;
    }
    lines->line[lines->len++] = (char)(byte ? byte : '?');
    if (lines->len == LINE_SIZE - 1) {
        put_line(lines);
    }
}

void lines_add(struct lines *lines, const char *bytes, size_t len)
{
    size_t room = LINES_TOTAL_MAX - lines->total;
    if (!room) {
        return;
    }
    bool over = len >= room;
    len = over ? room : len;
    lines->total += len;
    for (size_t i = 0; i < len; i++) {
        put_byte(lines, bytes[i]);
    }
    if (over) {
        lines_end(lines);
        lines->services->log(
            lines->services, lines->delivery, FILA_LOG_DEBUG,
            "(the rest of its output is left out)");
    }
}

void lines_end(struct lines *lines)
{
    if (lines->len) {
        put_line(lines);
    }
}
