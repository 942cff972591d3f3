/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum {
    CHUNK = 64
};

struct id_chunk {
    struct fw_chunk head;
    struct fw_id ids[CHUNK];
};

static const uint32_t limits[FW_MEMORY_COUNT] = {
    [FW_MEMORY_LIGHT] = FW_LIGHT_LIMIT,
    [FW_MEMORY_KEPT] = FW_KEPT_LIMIT,
};

static unsigned hash_of(uint64_t seed, const char *key, size_t len)
{
    uint64_t hash = seed ^ len;
    for (; len >= 8; key += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, key, 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    uint64_t rest = 0;
    memcpy(&rest, key, len);
    hash = (hash ^ rest) * UINT64_C(0xbf58476d1ce4e5b9);
    return (unsigned)(hash ^ (hash >> 32));
}

/* The key of an arrival, in the scratch buffer; 0 without memory. */
static size_t make_key(struct fw_ids *ids, const struct fw_arrival *arrival)
{
    uint32_t queue_len = (uint32_t)arrival->queue_len;
    size_t len = sizeof(queue_len) + arrival->queue_len + arrival->id_len;
    if (len > ids->scratch_size) {
        char *scratch = realloc(ids->scratch, len + 256);
        if (scratch == NULL) {
            return 0;
        }
        ids->scratch = scratch;
        ids->scratch_size = len + 256;
    }
    char *at = ids->scratch;
    memcpy(at, &queue_len, sizeof(queue_len));
    at += sizeof(queue_len);
    if (arrival->queue_len > 0) {
        memcpy(at, arrival->queue, arrival->queue_len);
    }
    if (arrival->id_len > 0) {
        memcpy(at + arrival->queue_len, arrival->id, arrival->id_len);
    }
    return len;
}

static bool refill(struct fw_ids *ids)
{
    struct id_chunk *chunk = malloc(sizeof(*chunk));
    if (chunk == NULL) {
        return false;
    }
    chunk->head.next = ids->chunks;
    ids->chunks = &chunk->head;
    for (int i = CHUNK - 1; i >= 0; i--) {
        chunk->ids[i].key = NULL;
        chunk->ids[i].next = ids->free;
        ids->free = &chunk->ids[i];
    }
    return true;
}

static void release(struct fw_ids *ids, struct fw_id *id)
{
    if (id->key != id->room) {
        free(id->key);
    }
    id->key = NULL;
    id->next = ids->free;
    ids->free = id;
}

static struct fw_id *new_id(struct fw_ids *ids, size_t key_len, unsigned hash)
{
    if (ids->free == NULL && !refill(ids)) {
        return NULL;
    }
    struct fw_id *id = ids->free;
    char *key = key_len <= sizeof(id->room) ? id->room : malloc(key_len);
    if (key == NULL) {
        return NULL;
    }
    ids->free = id->next;
    memset(id, 0, offsetof(struct fw_id, room));
    id->key = key;
    id->key_len = (uint32_t)key_len;
    if (key_len > 0) {
        memcpy(key, ids->scratch, key_len);
    }
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, ids->table, id->key, id->key_len, hash, id);
    if (id->hh.tbl == NULL) { /* the table could not grow */
        release(ids, id);
        return NULL;
    }
    return id;
}

static void unlist(struct fw_ids *ids, struct fw_id *id)
{
    if (id->memory != FW_MEMORY_NONE) {
        DL_DELETE(ids->lists[id->memory], id);
        ids->counts[id->memory]--;
        id->memory = FW_MEMORY_NONE;
    }
}

bool fw_ids_init(struct fw_ids *ids, uint64_t seed)
{
    ids->seed = seed;
    return new_id(ids, 0, 0) != NULL; /* never found: a table that gets empty is freed */
}

struct fw_id *fw_ids_take(struct fw_ids *ids, const struct fw_arrival *arrival)
{
    struct fw_id *id = NULL;
    size_t len = make_key(ids, arrival);
    if (len == 0) {
        return NULL;
    }
    unsigned hash = hash_of(ids->seed, ids->scratch, len);
    HASH_FIND_BYHASHVALUE(hh, ids->table, ids->scratch, len, hash, id);
    if (id == NULL) {
        id = new_id(ids, len, hash);
    } else {
        unlist(ids, id);
    }
    if (id != NULL) {
        id->references++;
    }
    return id;
}

/* What is doomed was tried. */
static enum fw_memory worth(const struct fw_id *id, int64_t now)
{
    if (id->tries > 0 || id->done || id->suspect || id->not_before > now) {
        return FW_MEMORY_KEPT;
    }
    return id->nacked_at != 0 || id->flush != 0 || id->nack_unsure != 0 ? FW_MEMORY_LIGHT
                                                                        : FW_MEMORY_NONE;
}

static void erase(struct fw_ids *ids, struct fw_id *id)
{
    unlist(ids, id);
    HASH_DEL(ids->table, id);
    release(ids, id);
}

void fw_ids_drop(struct fw_ids *ids, struct fw_id *id, int64_t now)
{
    if (--id->references > 0) {
        return;
    }
    id->memory = worth(id, now);
    if (id->memory == FW_MEMORY_NONE) {
        erase(ids, id);
        return;
    }
    DL_APPEND(ids->lists[id->memory], id);
    if (++ids->counts[id->memory] > limits[id->memory]) {
        erase(ids, ids->lists[id->memory]);
    }
}

void fw_ids_forget(struct fw_id *id)
{
    id->tries = 0;
    id->not_before = 0;
    id->nacked_at = 0;
    id->flush = 0;
    id->doomed = FW_CAUSE_NONE;
    id->suspect = false;
    id->done = false;
    id->done_settled = false;
}

void fw_ids_fini(struct fw_ids *ids)
{
    struct fw_id *id;
    struct fw_id *next;
    HASH_ITER(hh, ids->table, id, next)
    {
        HASH_DEL(ids->table, id);
        release(ids, id);
    }
    while (ids->chunks != NULL) {
        struct fw_chunk *chunk = ids->chunks;
        ids->chunks = chunk->next;
        free(chunk);
    }
    free(ids->scratch);
    *ids = (struct fw_ids){0};
}
