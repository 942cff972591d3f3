/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "pb.h"

pb_problem pb_varint_slow(struct pb_reader *reader, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (reader->at == reader->end) {
            return PB_TRUNCATED;
        }
        uint8_t byte = *reader->at++;
        if (shift == 63 && byte > 1) {
            return PB_BAD_VARINT;
        }
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *ret_value = value;
            return NULL;
        }
    }
    return PB_BAD_VARINT;
}

static pb_problem pb_skip(struct pb_reader *reader, uint64_t len)
{
    if (len > (uint64_t)(reader->end - reader->at)) {
        return PB_TRUNCATED;
    }
    reader->at += len;
    return NULL;
}

pb_problem pb_next_slow(struct pb_reader *reader, struct pb_field *ret_field)
{
    uint64_t tag = 0;
    pb_problem problem = pb_varint(reader, &tag);
    if (problem) {
        return problem;
    }
    if (tag < 8 || tag > UINT32_MAX) {
        return PB_BAD_TAG;
    }
    ret_field->tag = (uint32_t)tag;
    switch (tag & 7) {
    case PB_VARINT:
        return pb_varint(reader, &ret_field->number);
    case PB_FIXED64:
        return pb_skip(reader, 8);
    case PB_FIXED32:
        return pb_skip(reader, 4);
    case PB_BYTES:
        if ((problem = pb_varint(reader, &ret_field->number))) {
            return problem;
        }
        ret_field->bytes.data = (const char *)reader->at;
        ret_field->bytes.len = (size_t)ret_field->number;
        return pb_skip(reader, ret_field->number);
    default:
        return PB_BAD_TAG;
    }
}
