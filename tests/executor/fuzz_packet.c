/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Whatever bytes a child sends: its packets, a published message, and (of the worker, for the
 * child) a start and a message. What is read must be inside the input; and what was read, written
 * again and read again is the same.
 */
#include "config/arena.h"
#include "executor/outbox.h"
#include "executor/process/packet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(const uint8_t *data, size_t size, fila_view view)
{
    if (view.len && view.data &&
        ((const uint8_t *)view.data < data ||
         (const uint8_t *)view.data + view.len > data + size)) {
        abort();
    }
}

static void check_views(const uint8_t *data, size_t size, const struct fw_packet *packet)
{
    switch (packet->type) {
    case FW_PACKET_RUN:
    case FW_PACKET_START:
        inside(data, size, packet->run.body);
        break;
    case FW_PACKET_READY:
        inside(data, size, packet->ready.name);
        inside(data, size, packet->ready.version);
        break;
    case FW_PACKET_PROBLEM:
        inside(data, size, packet->problem.file);
        inside(data, size, packet->problem.key);
        inside(data, size, packet->problem.text);
        break;
    case FW_PACKET_PUBLISH:
        inside(data, size, packet->publish.part);
        break;
    case FW_PACKET_RESULT:
        inside(data, size, packet->result.reason);
        if (packet->result.verdict < FW_ACK || packet->result.verdict > FW_UNAVAILABLE) {
            abort();
        }
        break;
    case FW_PACKET_CRASH:
        for (uint32_t i = 0; i < packet->crash.frame_count; i++) {
            inside(data, size, packet->crash.frames[i].module);
        }
        break;
    default:
        break;
    }
}

/* A packet that was accepted is written as it was; parts over the writer's limits aside. */
static void write_again(const uint8_t *data, size_t size, const struct fw_packet *packet)
{
    static uint8_t bytes[FW_PACKET_SIZE];
    bool bodied = packet->type == FW_PACKET_RUN || packet->type == FW_PACKET_START;
    if (size > 1024 ||
        (packet->type == FW_PACKET_PUBLISH && packet->publish.part.len > FW_PUBLISH_PART)) {
        return;
    }
    size_t len = fw_packet_write(packet, bytes);
    size_t body = bodied ? packet->run.body.len : 0;
    if (len + body != size || memcmp(bytes, data, len) != 0) {
        abort();
    }
}

static void read_packet(const uint8_t *data, size_t size)
{
    struct fw_packet packet;
    char why[128] = "";
    if (fw_packet_read(data, size, &packet, why, sizeof why)) {
        check_views(data, size, &packet);
        write_again(data, size, &packet);
    } else if (!*why) {
        abort();
    }
}

static void read_bodies(const uint8_t *data, size_t size)
{
    fila_view body = {(const char *)data, size};
    struct fw_header_list headers = {0};
    struct fw_arena arena = {0};
    struct fw_start start;
    struct fw_outgoing *outgoing = NULL;
    fila_message *message = fw_message_read(body, &headers);
    if (message) {
        struct fw_buffer buffer = {0};
        fila_view payload = fila_message_payload(message);
        fw_message_write(&buffer, message);
        if (buffer.len + payload.len != size || memcmp(buffer.bytes, data, buffer.len) != 0) {
            abort();
        }
        fw_buffer_fini(&buffer);
    }
    fila_message_free(message);
    free(headers.items);
    if (fw_outgoing_read(body, &outgoing) == FILA_PUBLISH_TAKEN) {
        fw_outgoing_free(outgoing);
    }
    (void)fw_start_read(body, &arena, &start);
    fw_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (data[0] == 'b') { /* a body */
        read_bodies(data + 1, size - 1);
    } else {
        read_packet(data, size);
    }
    return 0;
}
