/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "message_impl.h"
#include "pb.h"

#include <stdlib.h>

fila_message *fila_message_make(
    const struct fila_message_fields *fields,
    void (*release)(void *owner),
    void *owner)
{
    fila_message *message = malloc(sizeof *message);
    if (message) {
        *message = (fila_message){.fields = *fields, .release = release, .owner = owner};
    }
    return message;
}

void fila_message_free(fila_message *message)
{
    if (message) {
        if (message->release) {
            message->release(message->owner);
        }
        free(message);
    }
}

fila_view fila_message_id(const fila_message *message)
{
    return message->fields.id;
}

fila_view fila_message_queue(const fila_message *message)
{
    return message->fields.queue;
}

fila_view fila_message_payload(const fila_message *message)
{
    return message->fields.payload;
}

fila_view fila_message_fairness_key(const fila_message *message)
{
    return message->fields.fairness_key;
}

uint32_t fila_message_attempt_count(const fila_message *message)
{
    return message->fields.attempt_count;
}

uint32_t fila_message_weight(const fila_message *message)
{
    return message->fields.weight;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int64_t fila_message_enqueued_ms(const fila_message *message)
{
    fila_view id = message->fields.id;
    int64_t ms = 0;
    if (id.len != 36 || id.data[14] != '7') {
        return 0;
    }
    for (size_t i = 0; i < id.len; i++) {
        int digit = hex_digit(id.data[i]);
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? id.data[i] != '-' : digit < 0) {
            return 0;
        }
        if (i < 13 && !dash) {
            ms = ms << 4 | digit;
        }
    }
    return ms;
}

/* The next field with that tag, from *cursor on. The bytes were checked when the message was read.
 */
static bool walk_on(fila_view bytes, uint32_t tag, size_t *cursor, struct pb_field *ret_field)
{
    if (*cursor >= bytes.len) {
        return false;
    }
    struct pb_reader reader = pb_read(bytes.data + *cursor, bytes.len - *cursor);
    while (reader.at < reader.end && !pb_next(&reader, ret_field)) {
        if (ret_field->tag == tag) {
            *cursor = (size_t)((const char *)reader.at - bytes.data);
            return true;
        }
    }
    *cursor = bytes.len;
    return false;
}

bool fila_message_next_header(const fila_message *message, size_t *cursor, fila_header *ret_header)
{
    struct pb_field field = {0};
    if (message->walk_headers.data) {
        return walk_on(message->walk_headers, PB_TAG(2, PB_BYTES), cursor, &field) &&
               !pb_header(field.bytes, ret_header);
    }
    if (*cursor >= message->fields.header_count) {
        return false;
    }
    *ret_header = message->fields.headers[(*cursor)++];
    return true;
}

bool fila_message_next_throttle_key(const fila_message *message, size_t *cursor, fila_view *ret_key)
{
    struct pb_field field = {0};
    if (message->walk_throttles.data) {
        if (!walk_on(message->walk_throttles, PB_TAG(3, PB_BYTES), cursor, &field)) {
            return false;
        }
        *ret_key = field.bytes;
        return true;
    }
    if (*cursor >= message->fields.throttle_key_count) {
        return false;
    }
    *ret_key = message->fields.throttle_keys[(*cursor)++];
    return true;
}

bool fila_message_header(const fila_message *message, fila_view key, fila_view *ret_value)
{
    fila_header header;
    bool found = false;
    for (size_t cursor = 0; fila_message_next_header(message, &cursor, &header);) {
        if (header.key.len == key.len &&
            (!key.len || !memcmp(header.key.data, key.data, key.len))) {
            *ret_value = header.value;
            found = true;
        }
    }
    return found;
}
