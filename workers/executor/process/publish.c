/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/outbox.h"
#include "plugin/counters.h"
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A message and what its encoding adds. */
#define WHOLE_MAX (5u * 1024 * 1024)

void fw_publish_drop(struct fw_child *child)
{
    fw_outgoing_free(child->outbox);
    child->outbox = NULL;
    child->outbox_count = 0;
    child->outbox_bytes = 0;
    child->part.len = 0;
    child->part_total = 0;
}

bool fw_publish_take(struct fw_child *child, struct fw_outgoing **ret_list)
{
    if (child->part_total) {
        return false;
    }
    *ret_list = child->outbox;
    child->outbox = NULL;
    child->outbox_count = 0;
    child->outbox_bytes = 0;
    return true;
}

static void add_whole(struct fw_child *child)
{
    struct fw_outgoing *outgoing = NULL;
    fila_view whole = {(const char *)child->part.bytes, child->part.len};
    int result = fw_outgoing_read(whole, &outgoing);
    child->part.len = 0;
    child->part_total = 0;
    if (result != FILA_PUBLISH_TAKEN) {
        fw_life_rubbish(
            child, result == FILA_PUBLISH_NO_MEMORY ? "there is no memory for what it publishes"
                                                    : "it published what is no message");
        return;
    }
    child->outbox_count++;
    child->outbox_bytes += outgoing->bytes;
    if (child->outbox_count > FILA_PUBLISH_MESSAGES_MAX ||
        child->outbox_bytes > FILA_PUBLISH_BYTES_MAX) {
        fw_outgoing_free(outgoing);
        fw_life_rubbish(child, "it published more than a handler may");
        return;
    }
    *(child->outbox ? child->outbox_end : &child->outbox) = outgoing;
    child->outbox_end = &outgoing->next;
}

void fw_publish_part(struct fw_child *child, const struct fw_packet *packet)
{
    struct fw_process *process = child->process;
    (void)pthread_mutex_lock(&process->locked.mutex);
    bool ours = child->locked.job && packet->id == child->locked.id;
    (void)pthread_mutex_unlock(&process->locked.mutex);
    if (!ours) {
        return; /* of a run that is over */
    }
    if (packet->publish.offset == 0 && !child->part_total) {
        child->part_total = packet->publish.total;
    }
    fila_view part = packet->publish.part;
    if (packet->publish.total > WHOLE_MAX || packet->publish.total != child->part_total ||
        packet->publish.offset != child->part.len ||
        part.len > packet->publish.total - child->part.len) {
        fw_life_rubbish(child, "it published parts that do not fit");
        return;
    }
    if (!fw_buffer_add(&child->part, part)) {
        fw_life_rubbish(child, "there is no memory for what it publishes");
        return;
    }
    if (child->part.len == child->part_total) {
        add_whole(child);
    }
}

void fw_publish_count(struct fw_child *child, const struct fw_packet *packet)
{
    char name[FILA_COUNTER_NAME_MAX + 1];
    (void)snprintf(name, sizeof name, "%.*s", (int)packet->count.name.len, packet->count.name.data);
    if (!fw_counters_add(child->process->counters, name, packet->count.delta)) {
        fw_life_rubbish(child, "it counted what is no counter");
    }
}
