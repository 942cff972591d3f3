/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/dump.h"

#include "base/clock.h"

static void log_held(int64_t number, const struct fw_snapshot *s, const struct fw_queue_status *q)
{
    for (uint32_t i = 0; i < q->held_count; i++) {
        const struct fw_held_status *h = &q->held_list[i];
        FW_LOG(
            FW_EVENT_DUMP, "held", fw_int("dump", number), fw_str("queue", q->queue),
            fw_str("message_id", h->id), fw_str("state", fw_held_phase_name(h->phase)),
            fw_int("tries", h->tries), fw_int("held_ms", (s->now - h->read_at) / FILA_MS),
            fw_int(
                "running_ms",
                h->phase == FW_HELD_RUNNING && h->run_at ? (s->now - h->run_at) / FILA_MS : 0),
            fw_int("lease_left_ms", (h->lease_end - s->now) / FILA_MS));
    }
    FW_LOG(
        FW_EVENT_DUMP, "queue", fw_int("dump", number), fw_str("queue", q->queue),
        fw_int("held", q->stats.held), fw_int("listed", q->held_count),
        fw_int("running", q->stats.running), fw_int("retry_waiting", q->stats.retry_waiting),
        fw_int("streams_up", q->stats.streams_up), fw_int("stuck_handlers", q->stuck));
}

void fw_status_dump(const struct fw_snapshot *snapshot, int64_t number)
{
    for (uint32_t i = 0; i < snapshot->queue_count; i++) {
        if (!snapshot->queues[i].gone) {
            log_held(number, snapshot, &snapshot->queues[i]);
        }
    }
}
