/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

/* A message larger than the flow-control window needs a round trip for each further one. */
static int64_t trips_of(const struct fw_pipe *pipe, uint32_t size)
{
    return pipe->round_trip * (1 + (pipe->window > 0 ? (int64_t)(size / pipe->window) : 0));
}

/* How long a receive must have stood waiting to prove that the pipe was empty (term (c)). */
static int64_t proof_of_empty(int64_t trips)
{
    return fw_max(20 * FILA_MS, 4 * trips);
}

/* Whether the pipe is empty but for what is on its way: a receive stood waiting for long; or, for
 * as long, receives stood ready all the time and less came than the flow-control window lets
 * through, so that the broker's side was never held up. */
static bool proves_empty(
    struct fw_delivery *e,
    struct fw_stream *stream,
    const struct fw_arrival *arrival,
    int64_t trips)
{
    int64_t proof = proof_of_empty(trips);
    if (e->now - arrival->waiting_since >= proof) {
        return true;
    }
    uint64_t came = fw_walk_since(&stream->walk, e->now - proof);
    came += came == UINT64_MAX ? 0 : arrival->wire_size;
    bool unhindered = stream->pipe.window == 0 || came <= stream->pipe.window / 2;
    return stream->ready_since != 0 && e->now - stream->ready_since >= proof && unhindered;
}

/* How far back of its read the lease of a message can lie that came into an empty pipe. */
static int64_t path_delay(struct fw_delivery *e, int64_t trips)
{
    int64_t answers = fw_max(
        fw_peak_get(&e->answers, e->now, e->config.visibility_timeout), fw_oldest_settlement(e));
    return fw_max(2 * trips, fw_max(e->slack, answers));
}

int64_t fw_oldest_unread(const struct fw_stream *stream)
{
    int64_t at;
    int64_t oldest = fw_max(stream->opened_at, stream->empty_at);
    return fw_walk_next(&stream->walk, &at) ? fw_max(oldest, at) : oldest;
}

struct fw_window fw_window_read(
    struct fw_delivery *e,
    struct fw_stream *stream,
    const struct fw_arrival *arrival)
{
    int64_t trips = trips_of(&stream->pipe, arrival->wire_size);
    if (proves_empty(e, stream, arrival, trips)) {
        stream->empty_at = fw_max(stream->empty_at, e->now - path_delay(e, trips));
    }
    struct fw_window window = {.early = fw_oldest_unread(stream), .late = e->now};
    fw_walk_read(&stream->walk, e->now, arrival->wire_size);
    if (arrival->lease_end != 0) {
        window.early = arrival->lease_end - e->vt;
        window.late = window.early;
    }
    return window;
}

void fw_renew(struct fw_delivery *e, struct fw_held *h, struct fw_window window)
{
    h->window.early = fw_max(h->window.early, window.early);
    h->window.late = window.late;
    switch (h->state) {
    case FW_READY:
    case FW_ASIDE:
        fw_make_ready(e, h);
        break;
    case FW_WAITING:
        fw_wait(e, h, h->id->not_before, h->then);
        break;
    case FW_SUSPECT:
    case FW_BEHIND:
        fw_heap_set(&e->timers, &h->timer, fw_last_call(e, h));
        break;
    default:
        break;
    }
}

static bool known(const struct fw_evidence *evidence, uint64_t id, int64_t since)
{
    return evidence->id == id && evidence->at >= since && evidence->at != 0;
}

void fw_lease_was_short(struct fw_delivery *e, const struct fw_held *h)
{
    int64_t since = e->now - 2 * e->config.visibility_timeout;
    uint64_t id = h->id->hh.hashv;
    struct fw_evidence *oldest = &e->evidence[0];
    uint32_t fresh = 0;
    int64_t longest = e->now - h->window.early;
    if (h->window.late < e->anew_at) {
        return;
    }
    for (int i = 0; i < FW_EVIDENCE; i++) {
        struct fw_evidence *evidence = &e->evidence[i];
        if (known(evidence, id, since)) {
            return;
        }
        oldest = evidence->at < oldest->at ? evidence : oldest;
    }
    *oldest = (struct fw_evidence){.id = id, .at = e->now, .observed = longest};
    for (int i = 0; i < FW_EVIDENCE; i++) {
        if (e->evidence[i].at >= since && e->evidence[i].at != 0) {
            fresh++;
            longest = fw_max(longest, e->evidence[i].observed);
        }
    }
    if (fresh == FW_EVIDENCE && longest < e->vt) {
        e->vt = fw_max(longest, e->config.visibility_timeout / 8);
        fw_timing_update(e);
        fw_notice(e, FW_NOTICE_VT_SHORT, NULL, e->vt);
    }
}

void fw_forget_short_lease(struct fw_delivery *e)
{
    e->anew_at = e->now;
    for (int i = 0; i < FW_EVIDENCE; i++) {
        e->evidence[i] = (struct fw_evidence){0};
    }
    if (e->vt != e->config.visibility_timeout) {
        e->vt = e->config.visibility_timeout;
        fw_timing_update(e);
    }
}
