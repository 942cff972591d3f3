/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "dlq.h"
#include "host/deadletter.h"
#include "wire/codec.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *json_view(fila_view v)
{
    json_t *value = json_stringn(v.data ? v.data : "", v.len);
    return value ? value : json_null();
}

static json_t *hex(fila_view bytes)
{
    static const char DIGITS[] = "0123456789abcdef";
    char *text = malloc(2 * bytes.len + 1);
    json_t *value = NULL;
    for (size_t i = 0; text && i < bytes.len; i++) {
        text[2 * i] = DIGITS[((unsigned char)bytes.data[i]) >> 4];
        text[2 * i + 1] = DIGITS[bytes.data[i] & 15];
    }
    value = text ? json_stringn(text, 2 * bytes.len) : NULL;
    free(text);
    return value;
}

static bool set_header(json_t *object, fila_header h, size_t skip)
{
    size_t len = h.key.len - skip;
    char *key = malloc(len + 1);
    if (key == NULL) {
        return false;
    }
    memcpy(key, h.key.data + skip, len);
    key[len] = '\0';
    bool fine = json_object_set_new(object, key, json_view(h.value)) == 0;
    free(key);
    return fine;
}

/* At most `max` bytes; a text ends with a whole character. */
static size_t cut(fila_view p, uint64_t max, bool text)
{
    size_t shown = p.len < max ? p.len : (size_t)max;
    while (text && shown && shown < p.len && ((unsigned char)p.data[shown] & 0xC0u) == 0x80u) {
        shown--;
    }
    return shown;
}

static bool set_headers(json_t *line, const fila_message *m, bool apart)
{
    size_t cursor = 0;
    bool fine = true;
    json_t *headers = json_object();
    json_t *why = apart ? json_object() : NULL;
    for (fila_header h; fine && fila_message_next_header(m, &cursor, &h);) {
        bool ours = apart && fw_dead_letter_header(h.key);
        fine = set_header(ours ? why : headers, h, ours ? sizeof FW_DEAD_LETTER_PREFIX - 1 : 0);
    }
    if (apart && json_object_set_new(line, "dead_letter", why) != 0) {
        fine = false;
    }
    return json_object_set_new(line, "headers", headers) == 0 && fine;
}

bool fw_dlq_print_json(FILE *out, const fila_message *message, uint64_t max, bool apart)
{
    fila_view payload = fila_message_payload(message);
    bool text = fila_utf8_valid(payload.data, payload.len);
    fila_view shown = {payload.data, cut(payload, max, text)};
    json_t *line = json_pack(
        "{s:o,s:o,s:I,s:o}", "id", json_view(fila_message_id(message)), "queue",
        json_view(fila_message_queue(message)), "attempt_count",
        (json_int_t)fila_message_attempt_count(message), "fairness_key",
        json_view(fila_message_fairness_key(message)));
    bool fine =
        line != NULL && set_headers(line, message, apart) &&
        json_object_set_new(line, "payload_bytes", json_integer((json_int_t)payload.len)) == 0 &&
        json_object_set_new(
            line, text ? "payload" : "payload_hex", text ? json_view(shown) : hex(shown)) == 0 &&
        json_dumpf(line, out, JSON_COMPACT) == 0 && putc('\n', out) != EOF;
    json_decref(line);
    return fine;
}

/* ---- Reading ---- */

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *read_hex(struct fw_dlq_line *line, const json_t *value)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    if (text == NULL || len % 2 != 0) {
        return "payload_hex is no string of pairs of digits";
    }
    line->bytes = malloc(len / 2 + 1);
    for (size_t i = 0; line->bytes != NULL && i < len; i += 2) {
        int high = digit(text[i]);
        int low = digit(text[i + 1]);
        if (high < 0 || low < 0) {
            return "payload_hex has something else than hexadecimal digits";
        }
        line->bytes[i / 2] = (char)(high * 16 + low);
    }
    line->payload = (fila_view){line->bytes, len / 2};
    return line->bytes != NULL ? NULL : "no memory";
}

static const char *read_payload(struct fw_dlq_line *line)
{
    const json_t *text = json_object_get(line->json, "payload");
    const json_t *bytes = json_object_get(line->json, "payload_hex");
    const json_t *size = json_object_get(line->json, "payload_bytes");
    const char *wrong = NULL;
    if ((text == NULL) == (bytes == NULL)) {
        return "it must have either payload or payload_hex";
    }
    if (bytes != NULL) {
        wrong = read_hex(line, bytes);
    } else if (!json_is_string(text)) {
        wrong = "payload is no string";
    } else {
        line->payload = (fila_view){json_string_value(text), json_string_length(text)};
    }
    if (wrong == NULL && size != NULL &&
        json_integer_value(size) != (json_int_t)line->payload.len) {
        wrong =
            "payload_bytes is not the payload's length: it was cut (by `dlq show`? use `dlq export`)";
    }
    return wrong;
}

static const char *read_headers(struct fw_dlq_line *line)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_t *headers = json_object_get(line->json, "headers");
    if (headers == NULL) {
        return NULL;
    }
    if (!json_is_object(headers)) {
        return "headers is no object";
    }
    line->headers = calloc(json_object_size(headers) + 1, sizeof *line->headers);
    if (line->headers == NULL) {
        return "no memory";
    }
    json_object_foreach(headers, key, value)
    {
        if (!json_is_string(value)) {
            return "a header's value is no string";
        }
        line->headers[line->header_count++] =
            (fila_header){fila_view_of(key), {json_string_value(value), json_string_length(value)}};
    }
    return NULL;
}

bool fw_dlq_read_json(
    const char *text,
    size_t len,
    struct fw_dlq_line *ret_line,
    char *ret_why,
    size_t size)
{
    json_error_t error;
    *ret_line = (struct fw_dlq_line){0};
    ret_line->json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (ret_line->json == NULL) {
        (void)snprintf(ret_why, size, "no JSON: %s (column %d)", error.text, error.column);
        return false;
    }
    const char *wrong = json_is_object(ret_line->json) ? read_payload(ret_line) : "it is no object";
    if (wrong == NULL) {
        wrong = read_headers(ret_line);
    }
    if (wrong != NULL) {
        (void)snprintf(ret_why, size, "%s", wrong);
        fw_dlq_line_free(ret_line);
    }
    return wrong == NULL;
}

void fw_dlq_line_free(struct fw_dlq_line *line)
{
    json_decref(line->json);
    free(line->headers);
    free(line->bytes);
    *line = (struct fw_dlq_line){0};
}
