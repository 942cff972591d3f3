/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "packet.h"

#include "config/arena.h"
#include "config/config.h"
#include "executor/outbox.h"
#include "wire/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct head {
    uint16_t version;
    uint16_t type;
    uint32_t size; /* of the packet */
    uint64_t id;
};

/* ---- Reading ---- */

struct reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static void get(struct reader *reader, void *ret, size_t size)
{
    if (reader->failed || reader->left < size) {
        reader->failed = true;
        memset(ret, 0, size);
        return;
    }
    memcpy(ret, reader->at, size);
    reader->at += size;
    reader->left -= size;
}

static uint32_t get_u32(struct reader *reader)
{
    uint32_t value;
    get(reader, &value, sizeof value);
    return value;
}

static uint64_t get_u64(struct reader *reader)
{
    uint64_t value;
    get(reader, &value, sizeof value);
    return value;
}

static int64_t get_i64(struct reader *reader)
{
    return (int64_t)get_u64(reader);
}

static bool get_bool(struct reader *reader)
{
    uint32_t value = get_u32(reader);
    reader->failed = reader->failed || value > 1;
    return value == 1;
}

static fila_view get_view(struct reader *reader)
{
    uint32_t len = get_u32(reader);
    fila_view view = {(const char *)reader->at, len};
    if (reader->failed || reader->left < len) {
        reader->failed = true;
        return (fila_view){"", 0};
    }
    reader->at += len;
    reader->left -= len;
    return view;
}

static fila_view get_rest(struct reader *reader)
{
    fila_view view = {(const char *)reader->at, reader->left};
    reader->at += reader->left;
    reader->left = 0;
    return view;
}

static void read_run(struct reader *reader, struct fw_packet *packet)
{
    packet->run.area_len = get_u32(reader);
    packet->run.attempt = get_u32(reader);
    packet->run.deadline = get_i64(reader);
    packet->run.body = get_rest(reader);
    bool both = packet->run.area_len && packet->run.body.len;
    reader->failed = reader->failed || both || packet->run.body.len > FW_PACKET_INLINE;
}

static void read_result(struct reader *reader, struct fw_packet *packet)
{
    packet->result.verdict = (int32_t)get_u32(reader);
    packet->result.cause = get_u32(reader);
    packet->result.delay = get_i64(reader);
    bool reasoned = get_bool(reader);
    packet->result.reason = get_view(reader);
    bool known = packet->result.verdict >= FW_ACK && packet->result.verdict <= FW_UNAVAILABLE &&
                 packet->result.cause < FW_CAUSE_COUNT && packet->result.delay >= 0 &&
                 packet->result.reason.len < FW_REASON_SIZE;
    reader->failed = reader->failed || !known || (!reasoned && packet->result.reason.len);
    if (!reasoned) {
        packet->result.reason = (fila_view){NULL, 0};
    }
}

static void read_crash(struct reader *reader, struct fw_packet *packet)
{
    packet->crash.number = (int32_t)get_u32(reader);
    packet->crash.code = (int32_t)get_u32(reader);
    packet->crash.address = get_u64(reader);
    packet->crash.other_thread = get_bool(reader);
    packet->crash.frame_count = get_u32(reader);
    if (packet->crash.frame_count > FW_FRAMES_MAX) {
        reader->failed = true;
        return;
    }
    for (uint32_t i = 0; i < packet->crash.frame_count; i++) {
        packet->crash.frames[i].offset = get_u64(reader);
        packet->crash.frames[i].module = get_view(reader);
    }
}

static void read_fields(struct reader *reader, struct fw_packet *packet)
{
    switch (packet->type) {
    case FW_PACKET_START:
    case FW_PACKET_RUN:
        read_run(reader, packet);
        break;
    case FW_PACKET_READY:
        packet->ready.has_probe = get_bool(reader);
        packet->ready.name = get_view(reader);
        packet->ready.version = get_view(reader);
        break;
    case FW_PACKET_FAILED:
        packet->text = get_view(reader);
        break;
    case FW_PACKET_PROBLEM:
        packet->problem.line = get_u32(reader);
        packet->problem.file = get_view(reader);
        packet->problem.key = get_view(reader);
        packet->problem.text = get_view(reader);
        break;
    case FW_PACKET_LOG:
        packet->log.event = get_u32(reader);
        packet->log.text = get_view(reader);
        break;
    case FW_PACKET_PUBLISH:
        packet->publish.total = get_u32(reader);
        packet->publish.offset = get_u32(reader);
        packet->publish.part = get_view(reader);
        reader->failed = reader->failed || !packet->publish.part.len;
        break;
    case FW_PACKET_COUNT:
        packet->count.delta = get_u64(reader);
        packet->count.name = get_view(reader);
        reader->failed = reader->failed || packet->count.name.len > FILA_COUNTER_NAME_MAX;
        break;
    case FW_PACKET_RESULT:
        read_result(reader, packet);
        break;
    case FW_PACKET_PROBED:
        packet->healthy = get_bool(reader);
        break;
    case FW_PACKET_CRASH:
        read_crash(reader, packet);
        break;
    default: /* PROBE, CLOSE: a head is all */
        break;
    }
}

bool fw_packet_read(
    const uint8_t *bytes,
    size_t len,
    struct fw_packet *ret_packet,
    char *ret_why,
    size_t size)
{
    struct head head = {0};
    struct reader reader = {.at = bytes, .left = len};
    get(&reader, &head, sizeof head);
    if (reader.failed) {
        (void)snprintf(ret_why, size, "a packet of %zu bytes", len);
        return false;
    }
    if (head.version != FW_PACKET_VERSION) {
        (void)snprintf(
            ret_why, size, "a packet of version %u, not %u", head.version, FW_PACKET_VERSION);
        return false;
    }
    if (head.size != len) {
        (void)snprintf(ret_why, size, "a packet of %zu bytes that says it has %u", len, head.size);
        return false;
    }
    if (head.type == 0 || head.type >= FW_PACKET_TYPE_COUNT) {
        (void)snprintf(ret_why, size, "a packet of the unknown type %u", head.type);
        return false;
    }
    *ret_packet = (struct fw_packet){.type = (enum fw_packet_type)head.type, .id = head.id};
    read_fields(&reader, ret_packet);
    if (reader.failed || reader.left) {
        (void)snprintf(
            ret_why, size, "a packet of type %u whose fields do not fit its %zu bytes", head.type,
            len);
        return false;
    }
    return true;
}

/* ---- Writing ---- */

struct writer {
    uint8_t *bytes;
    size_t len;
};

static void put(struct writer *writer, const void *data, size_t size)
{
    size_t room = FW_PACKET_SIZE - writer->len;
    size = size < room ? size : room; /* only put_view writes what is not small */
    if (size > 0 && data != NULL) {
        memcpy(writer->bytes + writer->len, data, size);
        writer->len += size;
    }
}

static void put_u32(struct writer *writer, uint32_t value)
{
    put(writer, &value, sizeof value);
}

static void put_u64(struct writer *writer, uint64_t value)
{
    put(writer, &value, sizeof value);
}

/* Leaves room for the fields after it. */
static void put_view(struct writer *writer, fila_view view)
{
    const size_t most = 16384;
    size_t len = view.len < most ? view.len : most;
    size_t room = FW_PACKET_SIZE - writer->len;
    room = room > 128 ? room - 128 : 0;
    len = len < room ? len : room;
    put_u32(writer, (uint32_t)len);
    if (len) {
        put(writer, view.data, len);
    }
}

static void write_fields(struct writer *writer, const struct fw_packet *packet)
{
    switch (packet->type) {
    case FW_PACKET_START:
    case FW_PACKET_RUN:
        put_u32(writer, packet->run.area_len);
        put_u32(writer, packet->run.attempt);
        put_u64(writer, (uint64_t)packet->run.deadline);
        break;
    case FW_PACKET_READY:
        put_u32(writer, packet->ready.has_probe);
        put_view(writer, packet->ready.name);
        put_view(writer, packet->ready.version);
        break;
    case FW_PACKET_FAILED:
        put_view(writer, packet->text);
        break;
    case FW_PACKET_PROBLEM:
        put_u32(writer, packet->problem.line);
        put_view(writer, packet->problem.file);
        put_view(writer, packet->problem.key);
        put_view(writer, packet->problem.text);
        break;
    case FW_PACKET_LOG:
        put_u32(writer, packet->log.event);
        put_view(writer, packet->log.text);
        break;
    case FW_PACKET_PUBLISH:
        put_u32(writer, packet->publish.total);
        put_u32(writer, packet->publish.offset);
        put_u32(writer, (uint32_t)packet->publish.part.len);
        put(writer, packet->publish.part.data, packet->publish.part.len);
        break;
    case FW_PACKET_COUNT:
        put_u64(writer, packet->count.delta);
        put_view(writer, packet->count.name);
        break;
    case FW_PACKET_RESULT:
        put_u32(writer, (uint32_t)packet->result.verdict);
        put_u32(writer, packet->result.cause);
        put_u64(writer, (uint64_t)packet->result.delay);
        put_u32(writer, packet->result.reason.data != NULL);
        put_view(writer, packet->result.reason);
        break;
    case FW_PACKET_PROBED:
        put_u32(writer, packet->healthy);
        break;
    case FW_PACKET_CRASH:
        put_u32(writer, (uint32_t)packet->crash.number);
        put_u32(writer, (uint32_t)packet->crash.code);
        put_u64(writer, packet->crash.address);
        put_u32(writer, packet->crash.other_thread);
        put_u32(writer, packet->crash.frame_count);
        for (uint32_t i = 0; i < packet->crash.frame_count && i < FW_FRAMES_MAX; i++) {
            fila_view module = packet->crash.frames[i].module;
            module.len = module.len < 1024 ? module.len : 1024;
            put_u64(writer, packet->crash.frames[i].offset);
            put_view(writer, module);
        }
        break;
    default:
        break;
    }
}

size_t fw_packet_write(const struct fw_packet *packet, uint8_t ret_bytes[FW_PACKET_SIZE])
{
    struct writer writer = {.bytes = ret_bytes, .len = sizeof(struct head)};
    write_fields(&writer, packet);
    bool bodied = packet->type == FW_PACKET_START || packet->type == FW_PACKET_RUN;
    struct head head = {
        .version = FW_PACKET_VERSION,
        .type = (uint16_t)packet->type,
        .size = (uint32_t)(writer.len + (bodied ? packet->run.body.len : 0)),
        .id = packet->id,
    };
    memcpy(ret_bytes, &head, sizeof head);
    return writer.len;
}

/* ---- Bodies ---- */

void fw_buffer_fini(struct fw_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct fw_buffer){0};
}

static void add(struct fw_buffer *buffer, const void *data, size_t len)
{
    if (buffer->capacity - buffer->len < len) {
        size_t wanted = 2 * buffer->capacity > buffer->len + len ? 2 * buffer->capacity
                                                                 : buffer->len + len + 512;
        uint8_t *bytes = realloc(buffer->bytes, wanted);
        if (!bytes) {
            buffer->failed = true;
            return;
        }
        buffer->bytes = bytes;
        buffer->capacity = wanted;
    }
    if (len) {
        memcpy(buffer->bytes + buffer->len, data, len);
        buffer->len += len;
    }
}

static void add_u32(struct fw_buffer *buffer, size_t value)
{
    uint32_t small = (uint32_t)value;
    buffer->failed = buffer->failed || value > UINT32_MAX;
    add(buffer, &small, sizeof small);
}

static void add_u64(struct fw_buffer *buffer, uint64_t value)
{
    add(buffer, &value, sizeof value);
}

static void add_view(struct fw_buffer *buffer, fila_view view)
{
    add_u32(buffer, view.len);
    add(buffer, view.data, view.len);
}

bool fw_buffer_add(struct fw_buffer *buffer, fila_view bytes)
{
    add(buffer, bytes.data, bytes.len);
    return !buffer->failed;
}

void fw_message_write(struct fw_buffer *buffer, const fila_message *message)
{
    fila_header header;
    uint32_t count = 0;
    add_view(buffer, fila_message_queue(message));
    add_view(buffer, fila_message_id(message));
    add_view(buffer, fila_message_fairness_key(message));
    size_t count_at = buffer->len;
    add_u32(buffer, 0);
    for (size_t cursor = 0; fila_message_next_header(message, &cursor, &header); count++) {
        add_view(buffer, header.key);
        add_view(buffer, header.value);
    }
    if (!buffer->failed) {
        memcpy(buffer->bytes + count_at, &count, sizeof count);
    }
}

fila_message *fw_message_read(fila_view body, struct fw_header_list *headers)
{
    struct reader reader = {.at = (const uint8_t *)body.data, .left = body.len};
    struct fila_message_fields fields = {0};
    fields.queue = get_view(&reader);
    fields.id = get_view(&reader);
    fields.fairness_key = get_view(&reader);
    uint32_t count = get_u32(&reader);
    if (reader.failed || count > reader.left / 8) { /* each has two lengths at least */
        return NULL;
    }
    if (count > headers->capacity) {
        fila_header *items = realloc(headers->items, count * sizeof *items);
        if (!items) {
            return NULL;
        }
        headers->items = items;
        headers->capacity = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        headers->items[i].key = get_view(&reader);
        headers->items[i].value = get_view(&reader);
    }
    fields.headers = headers->items;
    fields.header_count = count;
    fields.payload = get_rest(&reader);
    return reader.failed ? NULL : fila_message_make(&fields, NULL, NULL);
}

void fw_outgoing_write(struct fw_buffer *buffer, const struct fw_outgoing *outgoing)
{
    add_view(buffer, outgoing->queue);
    add_u32(buffer, outgoing->header_count);
    for (size_t i = 0; i < outgoing->header_count; i++) {
        add_view(buffer, outgoing->headers[i].key);
        add_view(buffer, outgoing->headers[i].value);
    }
    add(buffer, outgoing->payload.data, outgoing->payload.len);
}

int fw_outgoing_read(fila_view whole, struct fw_outgoing **ret_outgoing)
{
    struct reader reader = {.at = (const uint8_t *)whole.data, .left = whole.len};
    fila_publication publication = FILA_PUBLICATION_INIT;
    fila_view queue = get_view(&reader);
    uint32_t count = get_u32(&reader);
    if (reader.failed || count > reader.left / 8) {
        return FILA_PUBLISH_INVALID;
    }
    fila_publication_header *headers = calloc(count + 1, sizeof *headers);
    if (!headers) {
        return FILA_PUBLISH_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        fila_view key = get_view(&reader);
        fila_view value = get_view(&reader);
        headers[i] = (fila_publication_header){key.data, key.len, value.data, value.len};
    }
    fila_view payload = get_rest(&reader);
    publication.queue = queue.data;
    publication.queue_len = queue.len;
    publication.headers = headers;
    publication.header_count = count;
    publication.payload = (const uint8_t *)payload.data;
    publication.payload_len = payload.len;
    int result = reader.failed ? FILA_PUBLISH_INVALID
                               : fw_outgoing_make(&publication, NULL, ret_outgoing);
    free(headers);
    return result;
}

void fw_start_write(struct fw_buffer *buffer, const struct fw_start *start)
{
    add_view(buffer, fila_view_of(start->path));
    add_view(buffer, fila_view_of(start->queue));
    add_u64(buffer, (uint64_t)start->size);
    add_u64(buffer, (uint64_t)start->mtime_ns);
    add_u64(buffer, start->inode);
    add_u32(buffer, start->log_level);
    add_u32(buffer, start->load_descriptor);
    add_u32(buffer, start->option_count);
    for (size_t i = 0; i < start->option_count; i++) {
        const struct fw_handler_option *option = &start->options[i];
        add_view(buffer, fila_view_of(option->name));
        add_view(buffer, fila_view_of(option->file));
        add_u32(buffer, option->line);
        add_u32(buffer, option->is_list);
        add_u32(buffer, option->is_string);
        add_u32(buffer, option->is_secret);
        add_u32(buffer, option->count);
        for (size_t j = 0; j < option->count; j++) {
            add_view(buffer, fila_view_of(option->values[j]));
        }
    }
}

static const char *get_text(struct reader *reader, struct fw_arena *arena)
{
    fila_view view = get_view(reader);
    const char *text = fw_arena_copy(arena, view.data, view.len);
    reader->failed = reader->failed || !text;
    return text;
}

static void read_option(
    struct reader *reader,
    struct fw_arena *arena,
    struct fw_handler_option *option)
{
    option->name = get_text(reader, arena);
    option->file = get_text(reader, arena);
    option->line = get_u32(reader);
    option->is_list = get_bool(reader);
    option->is_string = get_bool(reader);
    option->is_secret = get_bool(reader);
    option->count = get_u32(reader);
    if (reader->failed || option->count > reader->left / 4) {
        reader->failed = true;
        return;
    }
    const char **values = fw_arena_alloc(arena, option->count + 1, sizeof *values);
    for (size_t i = 0; values && i < option->count; i++) {
        values[i] = get_text(reader, arena);
    }
    option->values = values;
    reader->failed = reader->failed || !values;
}

bool fw_start_read(fila_view body, struct fw_arena *arena, struct fw_start *ret_start)
{
    struct reader reader = {.at = (const uint8_t *)body.data, .left = body.len};
    struct fw_start start = {0};
    start.path = get_text(&reader, arena);
    start.queue = get_text(&reader, arena);
    start.size = get_i64(&reader);
    start.mtime_ns = get_i64(&reader);
    start.inode = get_u64(&reader);
    start.log_level = get_u32(&reader);
    start.load_descriptor = get_bool(&reader);
    start.option_count = get_u32(&reader);
    if (reader.failed || start.option_count > reader.left / 28) {
        return false;
    }
    struct fw_handler_option *options =
        fw_arena_alloc(arena, start.option_count + 1, sizeof *options);
    for (size_t i = 0; options && i < start.option_count && !reader.failed; i++) {
        read_option(&reader, arena, &options[i]);
    }
    start.options = options;
    if (reader.failed || reader.left || !options) {
        return false;
    }
    *ret_start = start;
    return true;
}
