/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

/* What is remembered belongs to an earlier life of the message: it was redriven. A lower attempt
 * count alone is no proof, it may be a stale copy out of another stream's pipe; a lease that began
 * after the higher count was read is. */
static void forget_if_redriven(struct fw_delivery *e, struct fw_id *id, const struct fw_held *h)
{
    if (h->attempt_count >= id->attempt_seen) {
        id->attempt_seen = h->attempt_count;
        id->seen_at = e->now;
    } else if (h->window.early > id->seen_at) {
        fw_ids_forget(id);
        id->attempt_seen = h->attempt_count;
        id->seen_at = e->now;
        fw_record(e, h);
    }
}

/* Rule 10. The lease may be a new one: then the held delivery has it. */
static void duplicate(struct fw_delivery *e, struct fw_held *h)
{
    struct fw_held *held = h->id->held;
    bool newer = h->attempt_count >= held->attempt_count;
    if (h->attempt_count > held->attempt_count && fw_certain(e, held)) {
        fw_lease_was_short(e, held);
    }
    if (newer) {
        held->attempt_count = h->attempt_count;
        fw_renew(e, held, h->window);
    }
    fw_finish(e, h, FW_DUPLICATE);
}

/* Term (d) of the window, and the proof that a nack under way was done (rule 10). */
static void after_nack(struct fw_id *id, struct fw_held *h)
{
    if (id->nacking != NULL && h->attempt_count > id->nacking->attempt_count) {
        id->nacking->nack_proven = true;
        id->nacked_at = id->nacking->sent_at;
        id->nacked_attempt = id->nacking->attempt_count;
    }
    if (id->nacked_at != 0 && h->attempt_count > id->nacked_attempt) {
        h->window.early = fw_max(h->window.early, id->nacked_at);
    }
}

/* A success that may be unsettled: never run again. */
static void ack_on_sight(struct fw_delivery *e, struct fw_held *h)
{
    fw_settle(e, h, FW_COMMAND_ACK, h->id->done_settled ? FW_DUPLICATE : h->id->done_as);
}

static void place(struct fw_delivery *e, struct fw_held *h)
{
    struct fw_id *id = h->id;
    if (!fw_certain(e, h) && e->config.unsure_lease == FW_UNSURE_SKIP) {
        fw_finish(e, h, FW_LEFT);
    } else if (id->doomed != FW_CAUSE_NONE && id->not_before <= e->now) {
        fw_dead_letter(e, h, id->doomed);
    } else if (id->doomed != FW_CAUSE_NONE) {
        fw_wait(e, h, id->not_before, FW_THEN_PUBLISH);
    } else if (id->not_before > e->now) {
        fw_wait(e, h, id->not_before, FW_THEN_RUN);
    } else {
        fw_make_ready(e, h);
    }
}

void fw_admit(struct fw_delivery *e, struct fw_stream *stream, const struct fw_arrival *arrival)
{
    struct fw_window window = fw_window_read(e, stream, arrival);
    if (arrival->lease_end == 0) {
        fw_pipe_check(e, stream, arrival);
    }
    struct fw_held *h = e->drained ? NULL : fw_held_new(e, arrival);
    if (h == NULL) {
        fw_refuse(e, arrival->user);
        return;
    }
    struct fw_id *id = h->id;
    h->window = window;
    e->size_seen = h->size > e->size_seen ? h->size : e->size_seen - (e->size_seen - h->size) / 16;
    after_nack(id, h);
    if (id->held != NULL) {
        duplicate(e, h);
        return;
    }
    forget_if_redriven(e, id, h);
    id->held = h;
    if (e->config.lanes && !fw_lane_assign(e, h, arrival->lane)) {
        fw_finish(e, h, FW_LEFT);
    } else if (id->done) {
        ack_on_sight(e, h);
    } else if (!fw_flush_takes(e, stream, h)) {
        fw_stale_check(e, stream, h);
        place(e, h);
    }
}
