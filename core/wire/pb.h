/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Protobuf's wire format by hand: one field at a time out of untrusted bytes, and a writer that
 * also counts. Private to core/wire. Thread: any. No allocation.
 */
#ifndef FILA_WIRE_PB_H
#define FILA_WIRE_PB_H

#include "codec.h"

enum pb_type {
    PB_VARINT = 0,
    PB_FIXED64 = 1,
    PB_BYTES = 2,
    PB_FIXED32 = 5
};

/* A field's number and wire type in one, as on the wire. */
#define PB_TAG(number, type) ((uint32_t)(number) << 3 | (uint32_t)(type))
#define PB_NUMBER(tag)       ((tag) >> 3)

/* What can be wrong with input; text for fila_error, NULL = nothing. */
typedef const char *pb_problem;

#define PB_TRUNCATED  "a field runs past the end"
#define PB_BAD_VARINT "a number has more than 64 bits"
#define PB_BAD_TAG    "a field has an impossible number or type"
#define PB_BAD_TYPE   "a field has the wrong type"
#define PB_BAD_TEXT   "a text field is not UTF-8"

/* Bytes not yet read. */
struct pb_reader {
    const uint8_t *at;
    const uint8_t *end;
};

struct pb_field {
    uint32_t tag;
    uint64_t number; /* VARINT: the value */
    fila_view bytes; /* BYTES: the content */
};

static inline struct pb_reader pb_read(const void *bytes, size_t len)
{
    const uint8_t *at = (const uint8_t *)bytes;
    struct pb_reader reader = {at, len ? at + len : at};
    return reader;
}

static inline struct pb_reader pb_read_view(fila_view view)
{
    return pb_read(view.data, view.len);
}

/* A varint of more than one byte, or none. */
pb_problem pb_varint_slow(struct pb_reader *reader, uint64_t *ret_value);

static inline pb_problem pb_varint(struct pb_reader *reader, uint64_t *ret_value)
{
    if (reader->at < reader->end && *reader->at < 128) {
        *ret_value = *reader->at++;
        return NULL;
    }
    return pb_varint_slow(reader, ret_value);
}

/* pb_next for all but short text and bytes. */
pb_problem pb_next_slow(struct pb_reader *reader, struct pb_field *ret_field);

/* The next field. Call while reader->at < reader->end. Groups, which no proto3 peer writes, are
 * refused. */
static inline pb_problem pb_next(struct pb_reader *reader, struct pb_field *ret_field)
{
    const uint8_t *at = reader->at;
    if (reader->end - at >= 2 && (at[0] & 0x87) == PB_BYTES && at[0] >= 8 && at[1] < 128 &&
        at[1] <= reader->end - at - 2) {
        ret_field->tag = at[0];
        ret_field->bytes.data = (const char *)at + 2;
        ret_field->bytes.len = at[1];
        reader->at = at + 2 + at[1];
        return NULL;
    }
    return pb_next_slow(reader, ret_field);
}

/* The field as text. */
static inline pb_problem pb_text(const struct pb_field *field, fila_view *ret_text)
{
    *ret_text = field->bytes;
    return fila_utf8_valid(field->bytes.data, field->bytes.len) ? NULL : PB_BAD_TEXT;
}

/* For a field that the message does not have, or has with another type: an unknown number is
 * skipped. `known` is the highest number that the message has, all below being taken. */
static inline pb_problem pb_other(const struct pb_field *field, uint32_t known)
{
    return PB_NUMBER(field->tag) > known ? NULL : PB_BAD_TYPE;
}

/* One entry of a map<string, string>. */
static inline pb_problem pb_header(fila_view entry, fila_header *ret_header)
{
    static const fila_header NONE;
    struct pb_reader reader = pb_read_view(entry);
    struct pb_field field = {0};
    *ret_header = NONE;
    while (reader.at < reader.end) {
        pb_problem problem = pb_next(&reader, &field);
        if (problem) {
            return problem;
        }
        switch (field.tag) {
        case PB_TAG(1, PB_BYTES):
            problem = pb_text(&field, &ret_header->key);
            break;
        case PB_TAG(2, PB_BYTES):
            problem = pb_text(&field, &ret_header->value);
            break;
        default:
            problem = pb_other(&field, 2);
        }
        if (problem) {
            return problem;
        }
    }
    return NULL;
}

/* ---- Writing: with `out` NULL only `len` moves. Fields at their default are left out. ---- */

struct pb_writer {
    uint8_t *out;
    size_t len;
};

static inline size_t pb_varint_size(uint64_t value)
{
    return 1 + (size_t)(63 - __builtin_clzll(value | 1)) / 7;
}

static inline void pb_put_varint(struct pb_writer *w, uint64_t value)
{
    if (!w->out) {
        w->len += pb_varint_size(value);
        return;
    }
    while (value >= 128) {
        w->out[w->len++] = (uint8_t)(value | 128);
        value >>= 7;
    }
    w->out[w->len++] = (uint8_t)value;
}

static inline void pb_put_bytes(struct pb_writer *w, const void *bytes, size_t len)
{
    if (w->out && len) {
        memcpy(w->out + w->len, bytes, len);
    }
    w->len += len;
}

/* Tag and length of a field whose content follows. */
static inline void pb_put_head(struct pb_writer *w, uint32_t number, size_t len)
{
    pb_put_varint(w, PB_TAG(number, PB_BYTES));
    pb_put_varint(w, len);
}

/* An element of a repeated field, or a submessage: written also when empty. */
static inline void pb_put_element(struct pb_writer *w, uint32_t number, fila_view content)
{
    pb_put_head(w, number, content.len);
    pb_put_bytes(w, content.data, content.len);
}

static inline void pb_put_view(struct pb_writer *w, uint32_t number, fila_view view)
{
    if (view.len) {
        pb_put_element(w, number, view);
    }
}

static inline void pb_put_number(struct pb_writer *w, uint32_t number, uint64_t value)
{
    if (value) {
        pb_put_varint(w, PB_TAG(number, PB_VARINT));
        pb_put_varint(w, value);
    }
}

static inline void pb_put_double(struct pb_writer *w, uint32_t number, double value)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    if (bits) {
        uint8_t bytes[8];
        for (unsigned i = 0; i < 8; i++) {
            bytes[i] = (uint8_t)(bits >> (8 * i));
        }
        pb_put_varint(w, PB_TAG(number, PB_FIXED64));
        pb_put_bytes(w, bytes, sizeof bytes);
    }
}

static inline size_t pb_view_size(fila_view view)
{
    return view.len ? 1 + pb_varint_size(view.len) + view.len : 0;
}

static inline void pb_put_header(struct pb_writer *w, uint32_t number, const fila_header *header)
{
    pb_put_head(w, number, pb_view_size(header->key) + pb_view_size(header->value));
    pb_put_view(w, 1, header->key);
    pb_put_view(w, 2, header->value);
}

#endif
