/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum {
    CHUNK = 64
};

struct lane_chunk {
    struct fw_chunk head;
    struct fw_lane lanes[CHUNK];
};

static bool refill(struct fw_delivery *e)
{
    struct lane_chunk *chunk = malloc(sizeof(*chunk));
    if (chunk == NULL) {
        return false;
    }
    chunk->head.next = e->lane_chunks;
    e->lane_chunks = &chunk->head;
    for (int i = 0; i < CHUNK; i++) {
        chunk->lanes[i].next_free = e->free_lanes;
        e->free_lanes = &chunk->lanes[i];
    }
    return true;
}

static struct fw_lane *new_lane(struct fw_delivery *e, uint64_t key)
{
    if (e->free_lanes == NULL && !refill(e)) {
        return NULL;
    }
    struct fw_lane *lane = e->free_lanes;
    struct fw_lane *next = lane->next_free;
    memset(lane, 0, sizeof(*lane));
    lane->key = key;
    HASH_ADD(hh, e->lanes, key, sizeof(lane->key), lane);
    if (lane->hh.tbl == NULL) { /* the table could not grow */
        lane->next_free = next;
        return NULL;
    }
    e->free_lanes = next;
    return lane;
}

bool fw_lane_init(struct fw_delivery *e)
{
    struct fw_lane *lane = refill(e) ? e->free_lanes : NULL;
    if (lane == NULL) {
        return false;
    }
    e->free_lanes = lane->next_free;
    memset(lane, 0, sizeof(*lane));
    HASH_ADD(hh, e->lanes, key, 0, lane); /* never found: a table that gets empty is freed */
    return lane->hh.tbl != NULL;
}

bool fw_lane_assign(struct fw_delivery *e, struct fw_held *h, uint64_t key)
{
    struct fw_lane *lane = NULL;
    HASH_FIND(hh, e->lanes, &key, sizeof(key), lane);
    if (lane == NULL) {
        lane = new_lane(e, key);
    }
    if (lane != NULL) {
        lane->members++;
        h->lane = lane;
    }
    return lane != NULL;
}

void fw_lane_forget(struct fw_delivery *e, struct fw_held *h)
{
    struct fw_lane *lane = h->lane;
    if (lane == NULL) {
        return;
    }
    h->lane = NULL;
    if (--lane->members == 0) {
        HASH_DEL(e->lanes, lane);
        lane->next_free = e->free_lanes;
        e->free_lanes = lane;
    }
}

/* In read order; nearly always at the end. */
static void stand_behind(struct fw_lane *lane, struct fw_held *h)
{
    struct fw_held *after = lane->behind;
    if (after == NULL || after->prev->seq < h->seq) {
        DL_APPEND(lane->behind, h);
        return;
    }
    while (after->seq < h->seq) {
        after = after->next;
    }
    DL_PREPEND_ELEM(lane->behind, after, h);
}

bool fw_lane_enter(struct fw_delivery *e, struct fw_held *h)
{
    struct fw_lane *lane = h->lane;
    if (lane == NULL || lane->active == h) {
        return true;
    }
    if (lane->active == NULL) {
        lane->active = h;
        return true;
    }
    fw_move(e, h, FW_BEHIND);
    fw_account(e, h, FW_ACCOUNT_WAITING);
    e->behind++;
    stand_behind(lane, h);
    fw_heap_set(&e->timers, &h->timer, fw_last_call(e, h));
    fw_hold(e, h);
    return false;
}

void fw_lane_leave(struct fw_delivery *e, struct fw_held *h)
{
    struct fw_lane *lane = h->lane;
    if (lane == NULL || lane->active != h) {
        return;
    }
    lane->active = NULL;
    if (lane->promoting) { /* the one made ready was finished at once: the loop below goes on */
        return;
    }
    lane->promoting = true;
    while (lane->active == NULL && lane->behind != NULL) {
        lane->active = lane->behind;
        fw_make_ready(e, lane->active);
    }
    lane->promoting = false;
}

void fw_lane_fini(struct fw_delivery *e)
{
    HASH_CLEAR(hh, e->lanes);
    while (e->lane_chunks != NULL) {
        struct fw_chunk *chunk = e->lane_chunks;
        e->lane_chunks = chunk->next;
        free(chunk);
    }
    e->free_lanes = NULL;
}
