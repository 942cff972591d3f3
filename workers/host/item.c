/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "item.h"

#include "publish.h"

#include <stdlib.h>

enum {
    CHUNK_ITEMS = 32
};

struct fw_item_chunk {
    struct fw_item_chunk *next;
    struct fw_item items[CHUNK_ITEMS];
};

static void release(struct fw_item *item)
{
    if (item->job.message) {
        fw_job_free_message(&item->job);
    } else {
        fila_message_free(item->message);
    }
    free(item->job.reason);
    free(item->copy_headers);
    fw_publish_free(item);
    item->message = NULL;
    item->job.reason = NULL;
    item->copy_headers = NULL;
}

static bool grow(struct fw_item_pool *pool)
{
    struct fw_item_chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk) {
        return false;
    }
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    for (int i = CHUNK_ITEMS - 1; i >= 0; i--) {
        chunk->items[i].next_free = pool->free;
        pool->free = &chunk->items[i];
    }
    return true;
}

struct fw_item *fw_item_take(struct fw_item_pool *pool, struct fw_queue *queue)
{
    if (!pool->free && !grow(pool)) {
        return NULL;
    }
    struct fw_item *item = pool->free;
    pool->free = item->next_free;
    item->queue = queue;
    item->job.user = item;
    item->used_by = 0;
    item->ran_ns = 0;
    item->crash_run = 0;
    item->job.attempt = 0;
    return item;
}

void fw_item_give(struct fw_item_pool *pool, struct fw_item *item)
{
    release(item);
    item->next_free = pool->free;
    pool->free = item;
}

void fw_item_pool_fini(struct fw_item_pool *pool)
{
    while (pool->chunks) {
        struct fw_item_chunk *chunk = pool->chunks;
        pool->chunks = chunk->next;
        for (int i = 0; i < CHUNK_ITEMS; i++) {
            release(&chunk->items[i]);
        }
        free(chunk);
    }
    pool->free = NULL;
}
