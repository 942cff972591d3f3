/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum {
    CHUNK = 64
};

struct held_chunk {
    struct fw_chunk head;
    struct fw_held held[CHUNK];
};

static unsigned hash_of(const void *user)
{
    uint64_t x = (uint64_t)(uintptr_t)user * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned)(x >> 32);
}

static bool refill(struct fw_delivery *e)
{
    struct held_chunk *chunk = malloc(sizeof(*chunk));
    if (chunk == NULL) {
        return false;
    }
    chunk->head.next = e->held_chunks;
    e->held_chunks = &chunk->head;
    for (int i = CHUNK - 1; i >= 0; i--) {
        chunk->held[i].next = e->free_held;
        e->free_held = &chunk->held[i];
    }
    return true;
}

/* Enters a blank one by its user. */
static struct fw_held *enter(struct fw_delivery *e, void *user)
{
    if (e->free_held == NULL && !refill(e)) {
        return NULL;
    }
    struct fw_held *h = e->free_held;
    struct fw_held *next = h->next;
    memset(h, 0, sizeof(*h));
    h->user = user;
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, e->by_user, &h->user, sizeof(h->user), hash_of(user), h);
    if (h->hh.tbl == NULL) { /* the table could not grow */
        h->next = next;
        return NULL;
    }
    e->free_held = next;
    return h;
}

bool fw_held_init(struct fw_delivery *e)
{
    return enter(e, e) != NULL; /* never found: a table that gets empty is freed */
}

static uint32_t held_count(const struct fw_delivery *e)
{
    return HASH_CNT(hh, e->by_user);
}

struct fw_held *fw_held_new(struct fw_delivery *e, const struct fw_arrival *arrival)
{
    uint32_t count = held_count(e) + 1;
    assert(fw_held_of(e, arrival->user) == NULL);
    if (!fw_commands_reserve(&e->commands, count) || !fw_heap_reserve(&e->timers, count)) {
        return NULL;
    }
    struct fw_id *id = fw_ids_take(&e->ids, arrival);
    if (id == NULL) {
        return NULL;
    }
    struct fw_held *h = enter(e, arrival->user);
    if (h == NULL) {
        fw_ids_drop(&e->ids, id, e->now);
        return NULL;
    }
    h->id = id;
    h->seq = ++e->seq;
    h->node.seq = h->seq;
    h->timer.seq = h->seq;
    h->size = arrival->size;
    h->attempt_count = arrival->attempt_count;
    h->bytes_held = true;
    e->held_bytes += h->size;
    return h;
}

struct fw_held *fw_held_of(const struct fw_delivery *e, void *user)
{
    struct fw_held *h = NULL;
    HASH_FIND_BYHASHVALUE(hh, e->by_user, &user, sizeof(user), hash_of(user), h);
    return h;
}

void fw_held_fini(struct fw_delivery *e)
{
    HASH_CLEAR(hh, e->by_user);
    while (e->held_chunks != NULL) {
        struct fw_chunk *chunk = e->held_chunks;
        e->held_chunks = chunk->next;
        free(chunk);
    }
    e->free_held = NULL;
}

static void leave(struct fw_delivery *e, struct fw_held *h)
{
    switch (h->state) {
    case FW_READY:
        fw_tree_remove(h->unsure ? &e->unsure : &e->certain, &h->node);
        break;
    case FW_SUSPECT:
        DL_DELETE(e->suspects, h);
        e->suspect_count--;
        fw_heap_clear(&e->timers, &h->timer);
        break;
    case FW_BEHIND:
        DL_DELETE(h->lane->behind, h);
        e->behind--;
        fw_heap_clear(&e->timers, &h->timer);
        break;
    case FW_ASIDE:
        e->aside--;
        fw_heap_clear(&e->timers, &h->timer);
        break;
    case FW_WAITING:
        e->waiting--;
        fw_heap_clear(&e->timers, &h->timer);
        break;
    case FW_RESEND:
        fw_heap_clear(&e->timers, &h->timer);
        break;
    case FW_RUNNING:
        e->running--;
        fw_shared_ended(e, h);
        break;
    case FW_QUEUED:
        if (h->settle == FW_COMMAND_ACK) {
            DL_DELETE(e->acks, h);
        } else {
            DL_DELETE(e->nacks, h);
        }
        break;
    case FW_SETTLING:
        DL_DELETE(e->under_way, h);
        e->settling--;
        break;
    case FW_NEW:
    case FW_PUBLISHING:
        break;
    }
}

void fw_move(struct fw_delivery *e, struct fw_held *h, enum fw_state state)
{
    leave(e, h);
    h->state = state;
    if (state != FW_READY && state != FW_SUSPECT && state != FW_RUNNING) {
        fw_lane_leave(e, h);
    }
}

void fw_account(struct fw_delivery *e, struct fw_held *h, enum fw_account account)
{
    e->accounts[h->account]--;
    e->accounts[account]++;
    h->account = account;
}

void fw_free_bytes(struct fw_delivery *e, struct fw_held *h)
{
    if (h->bytes_held) {
        h->bytes_held = false;
        e->held_bytes -= h->size;
    }
}

void fw_hold(struct fw_delivery *e, struct fw_held *h)
{
    if (!h->hold_told) {
        h->hold_told = true;
        fw_emit(e, &(struct fw_command){.kind = FW_COMMAND_HOLD, .user = h->user});
    }
}

void fw_refuse(struct fw_delivery *e, void *user)
{
    fw_emit(e, &(struct fw_command){.kind = FW_COMMAND_FINISH, .user = user, .outcome = FW_LEFT});
    e->finished[FW_LEFT]++;
}

void fw_finish(struct fw_delivery *e, struct fw_held *h, enum fw_outcome outcome)
{
    struct fw_id *id = h->id;
    fw_emit(
        e, &(struct fw_command){
               .kind = FW_COMMAND_FINISH,
               .user = h->user,
               .outcome = outcome,
               .cause = h->cause,
               .attempt = id->tries});
    e->finished[outcome]++;
    fw_move(e, h, FW_NEW);
    fw_lane_forget(e, h);
    fw_account(e, h, FW_ACCOUNT_NONE);
    fw_free_bytes(e, h);
    if (id->held == h) {
        id->held = NULL;
    }
    if (id->nacking == h) {
        id->nacking = NULL;
    }
    fw_ids_drop(&e->ids, id, e->now);
    HASH_DEL(e->by_user, h);
    h->next = e->free_held;
    e->free_held = h;
}
