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

/* Messages inside messages: the contract has two levels. */
#define MOST_LEVELS 4

struct level {
    const ProtobufCMessageDescriptor *type;
    struct pb_reader reader;
};

/* Checks the next field; one that is a message is pushed as a level of its own. */
static pb_problem check_field(struct level *levels, size_t *depth)
{
    struct level *level = &levels[*depth - 1];
    struct pb_field field = {0};
    pb_problem problem = pb_next(&level->reader, &field);
    if (problem || (field.tag & 7) != PB_BYTES) {
        return problem;
    }
    const ProtobufCFieldDescriptor *known =
        protobuf_c_message_descriptor_get_field(level->type, PB_NUMBER(field.tag));
    if (known && known->type == PROTOBUF_C_TYPE_STRING) {
        return check_text(field.bytes);
    }
    if (known && known->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (*depth == MOST_LEVELS) {
            return "messages are nested too deeply";
        }
        levels[(*depth)++] = (struct level){known->descriptor, pb_read_view(field.bytes)};
    }
    return NULL;
}

static pb_problem check(const ProtobufCMessageDescriptor *type, fila_view bytes)
{
    struct level levels[MOST_LEVELS] = {{type, pb_read_view(bytes)}};
    size_t depth = 1;
    pb_problem problem = NULL;
    while (depth && !problem) {
        if (levels[depth - 1].reader.at == levels[depth - 1].reader.end) {
            depth--;
        } else {
            problem = check_field(levels, &depth);
        }
    }
    return problem;
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
