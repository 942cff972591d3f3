/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "rig.h"

#include "base/clock.h"

static void fill(struct fw_snapshot *s, struct fw_queue_status *q, uint32_t number)
{
    q->queue = fw_arena_print(&s->memory, "q%u", (unsigned)number);
    q->handler = "exec";
    q->handler_name = "exec";
    q->handler_version = "1.0";
    q->handler_build_id = "abcd";
    q->concurrency = 2;
    q->streams = 1;
    q->visibility_timeout = 30 * FILA_S;
    q->look.visibility_timeout = 30 * FILA_S;
    q->stats.received = 7;
    q->stats.finished[FW_ACKED] = 7;
    q->stats.streams_up = 1;
    for (int i = 0; i < 7; i++) {
        fw_histogram_add(&q->counters.handler_duration, &FW_EDGES_RUN, (i + 1) * FILA_MS);
    }
    for (int t = 0; t < FW_TROUBLE_COUNT; t++) {
        q->troubles[t].text = "";
    }
}

struct fw_snapshot *rig_snapshot(uint32_t queues)
{
    struct fw_snapshot *s = fw_snapshot_new();
    s->queues = fw_arena_alloc(&s->memory, queues + 1, sizeof *s->queues);
    s->queue_count = queues;
    for (uint32_t i = 0; i < queues; i++) {
        fill(s, &s->queues[i], i);
    }
    s->now = 100 * FILA_S;
    s->wall_ms = INT64_C(1700000000000);
    s->started_at = 40 * FILA_S;
    s->start_took = 12 * FILA_MS;
    s->broker = "grpc://b:5555";
    s->config_file = "w.cfg";
    return s;
}
