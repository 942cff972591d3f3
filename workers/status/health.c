/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/health.h"

#include "base/clock.h"

static const char NO_ANSWER[] = "the I/O thread does not answer\n";

bool fw_health_queue(const struct fw_queue_status *queue)
{
    for (int t = 0; t < FW_TROUBLE_COUNT && !queue->gone; t++) {
        if (queue->troubles[t].since && fw_trouble_unready((enum fw_trouble)t)) {
            return false;
        }
    }
    return true;
}

static void age(struct fw_writer *out, int64_t ns)
{
    int64_t s = ns > 0 ? ns / FILA_S : 0;
    fw_write_unsigned(out, (uint64_t)(s < 120 ? s : s < 7200 ? s / 60 : s / 3600));
    fw_write_text(out, s < 120 ? " s" : s < 7200 ? " min" : " h");
}

/* `queue "orders": breaker_open for 12 s: the database is away. Repair the dependency; ...` */
static void culprit(
    struct fw_writer *out,
    const struct fw_snapshot *snapshot,
    const struct fw_queue_status *queue,
    enum fw_trouble trouble)
{
    const struct fw_trouble_state *state = &queue->troubles[trouble];
    fw_write_text(out, "queue \"");
    fw_write_text(out, queue->queue);
    fw_write_text(out, "\": ");
    fw_write_text(out, fw_trouble_name(trouble));
    fw_write_text(out, " for ");
    age(out, snapshot->now - state->since);
    if (*state->text) {
        fw_write_text(out, ": ");
        fw_write_text(out, state->text);
    }
    fw_write_text(out, " (");
    fw_write_text(out, fw_event_id(fw_trouble_event(trouble)));
    fw_write_text(out, ": ");
    fw_write_text(out, fw_event_remedy(fw_trouble_event(trouble)));
    fw_write_text(out, ")\n");
}

bool fw_health_live(const struct fw_snapshot *snapshot, bool supervisor, struct fw_writer *out)
{
    bool live = true;
    if (!snapshot) {
        fw_write_text(out, NO_ANSWER);
        live = false;
    }
    if (!supervisor) {
        fw_write_text(out, "the supervisor thread does not answer\n");
        live = false;
    }
    for (uint32_t i = 0; snapshot && i < snapshot->queue_count; i++) {
        const struct fw_queue_status *q = &snapshot->queues[i];
        if (q->stuck > q->stuck_limit) {
            culprit(out, snapshot, q, FW_TROUBLE_STUCK);
            live = false;
        }
    }
    if (live) {
        fw_write_text(out, "ok\n");
    }
    return live;
}

bool fw_health_ready(const struct fw_snapshot *snapshot, struct fw_writer *out)
{
    bool ready = true;
    if (!snapshot) {
        fw_write_text(out, NO_ANSWER);
        return false;
    }
    if (snapshot->draining) {
        fw_write_text(out, "draining: the worker is stopping\n");
        ready = false;
    } else if (!snapshot->start_took) {
        fw_write_text(out, "starting: handlers are being loaded\n");
        ready = false;
    }
    for (uint32_t i = 0; i < snapshot->queue_count; i++) {
        const struct fw_queue_status *q = &snapshot->queues[i];
        for (int t = 0; t < FW_TROUBLE_COUNT && !q->gone && !q->stats.draining; t++) {
            if (q->troubles[t].since && fw_trouble_unready((enum fw_trouble)t)) {
                culprit(out, snapshot, q, (enum fw_trouble)t);
                ready = false;
            }
        }
    }
    if (ready) {
        fw_write_text(out, "ok\n");
    }
    return ready;
}

bool fw_health_startup(const struct fw_snapshot *snapshot, struct fw_writer *out)
{
    bool done = snapshot && snapshot->start_took;
    fw_write_text(out, done ? "ok\n" : "starting: handlers are being loaded\n");
    return done;
}
