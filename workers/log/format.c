/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "format.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

/* Room kept for the end of a line that was cut: the quote, `,"truncated":true}` or the like. */
#define TAIL 32

static const char *const LEVEL_NAMES[] = {"debug", "info", "warn", "error"};
static const char *const LEVEL_MARKS[] = {"DEBUG ", "INFO  ", "WARN  ", "ERROR "};
static const char *const LEVEL_COLOURS[] = {"\033[2m", "\033[32m", "\033[33m", "\033[1;31m"};

#define RESET "\033[0m"
#define DIM   "\033[2m"

struct out {
    char *buffer;
    size_t len;
    bool cut; /* something did not fit; nothing is added any more but the tail */
};

static void tail(struct out *o, const char *text)
{
    size_t len = strlen(text);
    memcpy(o->buffer + o->len, text, len);
    o->len += len;
}

static bool put_bytes(struct out *o, const char *data, size_t len)
{
    if (o->cut || o->len + len > FW_LOG_LINE_SIZE - TAIL) {
        o->cut = true;
        return false;
    }
    memcpy(o->buffer + o->len, data, len);
    o->len += len;
    return true;
}

static bool put(struct out *o, const char *text)
{
    return put_bytes(o, text, strlen(text));
}

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Length of the well-formed UTF-8 character at `s`, 0 when there is none. */
static size_t decode(const unsigned char *s, size_t len, uint32_t *ret_code)
{
    uint32_t lead = s[0];
    if (lead < 0x80) {
        *ret_code = lead;
        return 1;
    }
    if (lead >= 0xc2 && lead < 0xe0 && len >= 2 && is_continuation(s[1])) {
        *ret_code = (lead & 0x1f) << 6 | (s[1] & 0x3f);
        return 2;
    }
    if ((lead & 0xf0) == 0xe0 && len >= 3 && is_continuation(s[1]) && is_continuation(s[2])) {
        uint32_t code = (lead & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
        *ret_code = code;
        return code >= 0x800 && (code < 0xd800 || code > 0xdfff) ? 3 : 0;
    }
    if ((lead & 0xf8) == 0xf0 && len >= 4 && is_continuation(s[1]) && is_continuation(s[2]) &&
        is_continuation(s[3])) {
        uint32_t code = (lead & 0x07) << 18 | (uint32_t)(s[1] & 0x3f) << 12 |
                        (uint32_t)(s[2] & 0x3f) << 6 | (s[3] & 0x3f);
        *ret_code = code;
        return code >= 0x10000 && code <= 0x10ffff ? 4 : 0;
    }
    return 0;
}

/* Controls, line separators, and what turns the reading direction: never written as they are. */
static bool is_unsafe(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c || code == 0x200e ||
           code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

static bool put_escape(struct out *o, uint32_t code)
{
    char text[8];
    switch (code) {
    case '\n':
        return put(o, "\\n");
    case '\r':
        return put(o, "\\r");
    case '\t':
        return put(o, "\\t");
    default:
        (void)snprintf(text, sizeof text, "\\u%04" PRIx32, code & 0xffff);
        return put(o, text);
    }
}

/* Adds `value` with all that is unsafe escaped; quotes and backslashes too when it is quoted. */
static void put_safe(struct out *o, fila_view value, bool is_quoted)
{
    const unsigned char *s = (const unsigned char *)value.data;
    for (size_t i = 0; i < value.len && !o->cut;) {
        uint32_t code = 0;
        size_t len = decode(s + i, value.len - i, &code);
        if (len == 0) {
            (void)put(o, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (is_unsafe(code)) {
            (void)put_escape(o, code);
        } else if (is_quoted && (code == '"' || code == '\\')) {
            (void)put_bytes(o, code == '"' ? "\\\"" : "\\\\", 2);
        } else {
            (void)put_bytes(o, value.data + i, len);
        }
        i += len;
    }
}

static void put_time(struct out *o, int64_t wall_ms)
{
    char text[96];
    struct tm utc;
    time_t seconds = (time_t)(wall_ms / 1000);
    if (!gmtime_r(&seconds, &utc)) {
        memset(&utc, 0, sizeof utc);
    }
    (void)snprintf(
        text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900,
        utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, (int)(wall_ms % 1000));
    (void)put(o, text);
}

/* A number as both forms write it; `null` for what JSON has no number for. */
static void number_text(const struct fw_field *field, char text[32])
{
    if (field->kind == FW_FIELD_INT) {
        (void)snprintf(text, 32, "%" PRId64, field->integer);
    } else if (!isfinite(field->real)) {
        (void)snprintf(text, 32, "null");
    } else {
        (void)snprintf(text, 32, "%.6g", field->real);
        char *comma = strchr(text, ','); /* a plugin may have set a locale */
        if (comma) {
            *comma = '.';
        }
    }
}

static bool needs_quotes(fila_view value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c >= 0x7f) {
            return true;
        }
    }
    return value.len == 0;
}

static void put_text_field(struct out *o, const struct fw_field *field, bool colour)
{
    char head[96];
    bool quoted = field->kind == FW_FIELD_TEXT && needs_quotes(field->text);
    (void)snprintf(
        head, sizeof head, " %s%.60s=%s%s", colour ? DIM : "", field->name, colour ? RESET : "",
        quoted ? "\"" : "");
    if (!put(o, head)) {
        return;
    }
    if (field->kind == FW_FIELD_TEXT) {
        put_safe(o, field->text, quoted);
    } else {
        char number[32];
        number_text(field, number);
        (void)put(o, number);
    }
    if (quoted) {
        tail(o, "\"");
    }
}

static bool is_absent(const struct fw_field *field)
{
    return field->kind == FW_FIELD_TEXT && !field->text.data;
}

size_t fw_log_as_text(const struct fw_log_line *line, bool colour, char buffer[FW_LOG_LINE_SIZE])
{
    struct out o = {buffer, 0, false};
    enum fw_log_level level = fw_event_level(line->event);
    if (colour) {
        (void)put(&o, DIM);
    }
    put_time(&o, line->wall_ms);
    (void)put(&o, colour ? RESET " " : " ");
    (void)put(&o, colour ? LEVEL_COLOURS[level] : "");
    (void)put(&o, LEVEL_MARKS[level]);
    (void)put(&o, fw_event_id(line->event));
    (void)put(&o, colour ? RESET " " : " ");
    put_safe(&o, line->text, false);
    o.cut = o.cut || line->text_is_cut;
    for (size_t i = 0; i < line->field_count && !o.cut; i++) {
        if (!is_absent(&line->fields[i])) {
            put_text_field(&o, &line->fields[i], colour);
        }
    }
    tail(&o, o.cut ? " ...(cut)\n" : "\n");
    return o.len;
}

static void put_json_field(struct out *o, const struct fw_field *field)
{
    char text[128];
    if (field->kind == FW_FIELD_TEXT) {
        (void)snprintf(text, sizeof text, ",\"%.60s\":\"", field->name);
        if (put(o, text)) {
            put_safe(o, field->text, true);
            tail(o, "\"");
        }
        return;
    }
    char number[32];
    number_text(field, number);
    (void)snprintf(text, sizeof text, ",\"%.60s\":%s", field->name, number);
    (void)put(o, text);
}

size_t fw_log_as_json(const struct fw_log_line *line, char buffer[FW_LOG_LINE_SIZE])
{
    struct out o = {buffer, 0, false};
    (void)put(&o, "{\"ts\":\"");
    put_time(&o, line->wall_ms);
    (void)put(&o, "\",\"level\":\"");
    (void)put(&o, LEVEL_NAMES[fw_event_level(line->event)]);
    (void)put(&o, "\",\"event\":\"");
    (void)put(&o, fw_event_id(line->event));
    (void)put(&o, "\",\"msg\":\"");
    put_safe(&o, line->text, true);
    tail(&o, "\"");
    o.cut = o.cut || line->text_is_cut;
    for (size_t i = 0; i < line->field_count && !o.cut; i++) {
        if (!is_absent(&line->fields[i])) {
            put_json_field(&o, &line->fields[i]);
        }
    }
    tail(&o, o.cut ? ",\"truncated\":true}\n" : "}\n");
    return o.len;
}
