/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "deadletter.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Together with their names, all added headers stay under 1 KiB (delivery-engine.md rule 11). */
enum {
    ADDED = 7,
    REASON_MAX = 400,
    REASON_HEAD = 100,
    NAME_MAX_BYTES = 128,
    TEXT_ROOM = 64
};

bool fw_dead_letter_header(fila_view key)
{
    const size_t len = sizeof FW_DEAD_LETTER_PREFIX - 1;
    return key.len >= len && memcmp(key.data, FW_DEAD_LETTER_PREFIX, len) == 0;
}

/* Cuts at a character's boundary, so that the header stays valid UTF-8. */
static fila_view cut(fila_view text, size_t max)
{
    if (text.len > max) {
        text.len = max;
        while (text.len && ((unsigned char)text.data[text.len] & 0xC0u) == 0x80u) {
            text.len--;
        }
    }
    return text;
}

/* A long reason keeps its beginning (what failed) and its end (the last lines of a command's
 * standard error). */
static fila_view shorten(fila_view reason, char out[REASON_MAX])
{
    static const char GAP[] = " [...] ";
    const size_t gap = sizeof GAP - 1;
    if (reason.len <= REASON_MAX) {
        if (reason.len) {
            memcpy(out, reason.data, reason.len);
        }
        return (fila_view){out, reason.len};
    }
    fila_view head = cut(reason, REASON_HEAD);
    size_t tail = REASON_MAX - head.len - gap;
    const char *from = reason.data + reason.len - tail;
    while (tail && ((unsigned char)*from & 0xC0u) == 0x80u) {
        from++;
        tail--;
    }
    memcpy(out, head.data, head.len);
    memcpy(out + head.len, GAP, gap);
    memcpy(out + head.len + gap, from, tail);
    return (fila_view){out, head.len + gap + tail};
}

static size_t count_kept(const fila_message *message)
{
    size_t cursor = 0;
    size_t count = 0;
    for (fila_header h; fila_message_next_header(message, &cursor, &h);) {
        count += !fw_dead_letter_header(h.key);
    }
    return count;
}

static void format_time(char out[TEXT_ROOM])
{
    int64_t ms = fila_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char head[TEXT_ROOM / 2];
    (void)gmtime_r(&seconds, &tm);
    (void)strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out, TEXT_ROOM, "%s.%03dZ", head, (int)(ms % 1000));
}

static fila_header header(const char *name, fila_view value)
{
    fila_header h = {fila_view_of(name), value};
    return h;
}

fila_status fw_dead_letter_headers(
    const fila_message *message,
    const struct fw_dead_letter_facts *facts,
    fila_header **ret_headers,
    size_t *ret_count)
{
    size_t kept = count_kept(message);
    fila_header *headers =
        malloc((kept + ADDED) * sizeof *headers + (size_t)2 * TEXT_ROOM + REASON_MAX);
    if (!headers) {
        return FILA_NO_MEMORY;
    }
    char *attempts = (char *)(headers + kept + ADDED);
    char *time = attempts + TEXT_ROOM;
    char *reason = time + TEXT_ROOM;
    size_t n = 0;
    size_t cursor = 0;
    for (fila_header h; n < kept && fila_message_next_header(message, &cursor, &h);) {
        if (!fw_dead_letter_header(h.key)) {
            headers[n++] = h;
        }
    }
    fila_view why = shorten(fila_view_of(facts->reason ? facts->reason : ""), reason);
    (void)snprintf(attempts, TEXT_ROOM, "%u", facts->attempts);
    format_time(time);
    headers[n++] = header(FW_DEAD_LETTER_PREFIX "reason", why);
    headers[n++] = header(FW_DEAD_LETTER_PREFIX "cause", fila_view_of(fw_cause_name(facts->cause)));
    headers[n++] = header(FW_DEAD_LETTER_PREFIX "attempts", fila_view_of(attempts));
    headers[n++] =
        header(FW_DEAD_LETTER_PREFIX "queue", cut(fila_message_queue(message), NAME_MAX_BYTES));
    headers[n++] = header(FW_DEAD_LETTER_PREFIX "message-id", fila_message_id(message));
    headers[n++] = header(FW_DEAD_LETTER_PREFIX "time", fila_view_of(time));
    fila_view key = cut(fila_message_fairness_key(message), NAME_MAX_BYTES);
    headers[n++] = header(FW_DEAD_LETTER_PREFIX "fairness-key", key);
    *ret_headers = headers;
    *ret_count = n;
    return FILA_OK;
}
