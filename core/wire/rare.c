/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "rare.h"

#include "base/error.h"
#include "pb.h"

/* protobuf-c's allocator: takes from the scratch, frees nothing, remembers a failure. */
struct arena {
    ProtobufCAllocator allocator;
    struct fila_scratch *scratch;
    bool failed;
};

static void *arena_alloc(void *user, size_t size)
{
    struct arena *arena = user;
    void *memory = fila_scratch_take(arena->scratch, size);
    arena->failed = arena->failed || !memory;
    return memory;
}

static void arena_free(void *user, void *memory)
{
    (void)user;
    (void)memory;
}

static pb_problem check_text(fila_view text)
{
    if (!fila_utf8_valid(text.data, text.len)) {
        return PB_BAD_TEXT;
    }
    return text.len && memchr(text.data, 0, text.len) ? "a text field has a zero byte" : NULL;
}

static pb_problem check(const ProtobufCMessageDescriptor *type, fila_view bytes)
{
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field = {0};
    while (reader.at < reader.end) {
        pb_problem problem = pb_next(&reader, &field);
        if (problem) {
            return problem;
        }
        const ProtobufCFieldDescriptor *known =
            protobuf_c_message_descriptor_get_field(type, PB_NUMBER(field.tag));
        if (known && (field.tag & 7) == PB_BYTES) {
            if (known->type == PROTOBUF_C_TYPE_STRING) {
                problem = check_text(field.bytes);
            } else if (known->type == PROTOBUF_C_TYPE_MESSAGE) {
                problem =
                    check(known->descriptor, field.bytes); /* as deep as the .proto, no more */
            }
        }
        if (problem) {
            return problem;
        }
    }
    return NULL;
}

fila_status fila_rare_read(
    const ProtobufCMessageDescriptor *type,
    fila_view bytes,
    struct fila_scratch *scratch,
    void *ret_message,
    fila_error *reterr)
{
    struct arena arena = {{arena_alloc, arena_free, NULL}, scratch, false};
    arena.allocator.allocator_data = &arena;
    pb_problem problem = check(type, bytes);
    ProtobufCMessage *message = NULL;
    if (!problem) {
        message = protobuf_c_message_unpack(
            type, &arena.allocator, bytes.len, (const uint8_t *)bytes.data);
    }
    if (arena.failed) {
        return fila_fail(reterr, FILA_NO_MEMORY, "%s of %zu bytes", type->short_name, bytes.len);
    }
    if (!message) {
        return fila_fail(
            reterr, FILA_PROTOCOL, "%s of %zu bytes: %s", type->short_name, bytes.len,
            problem ? problem : PB_BAD_TYPE);
    }
    memcpy(ret_message, &message, sizeof message);
    return FILA_OK;
}
