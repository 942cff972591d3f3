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

/* ---- Copying it out of what it was received in ---- */

enum {
    DETACH_MOST = 32768 /* bytes: half of the largest read buffer of gRPC C core */
};

/* The bytes between the first and the last that any view shows. */
struct extent {
    const char *from;
    const char *to;
};

static void cover(struct extent *extent, fila_view view)
{
    const char *to = view.data + view.len;
    extent->from = !extent->from || view.data < extent->from ? view.data : extent->from;
    extent->to = !extent->to || to > extent->to ? to : extent->to;
}

/* Without a copy, covers what it shows; else turns it to the same in the copy. */
static void visit(fila_view *view, struct extent *extent, char *copy)
{
    if (!view->data) {
        return;
    }
    if (copy) {
        view->data = copy + (view->data - extent->from);
    } else {
        cover(extent, *view);
    }
}

/* The arrays of a message that came in pieces are its own, and lie behind it. */
static void visit_arrays(fila_message *message, struct extent *extent, char *copy)
{
    fila_header *headers = (fila_header *)(message + 1);
    fila_view *throttles = (fila_view *)(headers + message->fields.header_count);
    for (size_t i = 0; i < message->fields.header_count; i++) {
        visit(&headers[i].key, extent, copy);
        visit(&headers[i].value, extent, copy);
    }
    for (size_t i = 0; i < message->fields.throttle_key_count; i++) {
        visit(&throttles[i], extent, copy);
    }
}

static void visit_all(fila_message *message, struct extent *extent, char *copy)
{
    visit(&message->fields.id, extent, copy);
    visit(&message->fields.queue, extent, copy);
    visit(&message->fields.fairness_key, extent, copy);
    visit(&message->fields.payload, extent, copy);
    visit(&message->walk_headers, extent, copy);
    visit(&message->walk_throttles, extent, copy);
    if (message->fields.headers) {
        visit_arrays(message, extent, copy);
    }
}

bool fila_message_detach(fila_message *message)
{
    struct extent extent = {NULL, NULL};
    if (!message->pins) {
        return false;
    }
    visit_all(message, &extent, NULL);
    size_t size = (size_t)(extent.to - extent.from);
    char *copy = size <= DETACH_MOST ? malloc(size ? size : 1) : NULL;
    if (!copy) {
        return false;
    }
    if (size) {
        memcpy(copy, extent.from, size);
    }
    visit_all(message, &extent, copy);
    message->release(message->owner);
    message->release = free;
    message->owner = copy;
    message->pins = false;
    return true;
}

/* ---- What it says ---- */

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

/* One more than the value of a hexadecimal digit; 0 = none. */
static const uint8_t DIGITS[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

/* Appends `count` digits to *value; *bad is negative once one of them was none. */
static inline void add_digits(const char *at, size_t count, int64_t *value, int *bad)
{
    for (size_t i = 0; i < count; i++) {
        int digit = DIGITS[(unsigned char)at[i]] - 1;
        *bad |= digit;
        *value = (int64_t)((uint64_t)*value << 4) | (digit & 0xf);
    }
}

/* On the path of every message: no branches but at the end. */
int64_t fila_message_enqueued_ms(const fila_message *message)
{
    const char *id = message->fields.id.data;
    int64_t ms = 0;
    int64_t rest = 0;
    int bad = 0;
    if (message->fields.id.len != 36 || id[14] != '7') {
        return 0;
    }
    add_digits(id, 8, &ms, &bad);
    add_digits(id + 9, 4, &ms, &bad);
    add_digits(id + 14, 4, &rest, &bad);
    add_digits(id + 19, 4, &rest, &bad);
    add_digits(id + 24, 12, &rest, &bad);
    bool dashes = id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-';
    return dashes && bad >= 0 ? ms : 0;
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
