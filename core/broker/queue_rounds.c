/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

/* Deficit round robin (contract B8, G era). `round` holds the keys that have deliveries left in
 * this round, the first one being served; each serves `weight` messages a turn, then goes to the
 * end. A key that spent its deficit, a new one, and one whose front is throttled wait for the next
 * round, which begins with the next pass. */

static uint32_t effective_weight(const struct fq_key *key)
{
    return key->weight ? key->weight : 1;
}

static uint64_t key_hash(
    const struct fq_engine *engine,
    const struct fq_queue *queue,
    fila_view name)
{
    return fb_hash(engine->hash_seed, name.data, name.len) ^
           (queue->number * UINT64_C(0x9e3779b97f4a7c15));
}

static struct fq_key *key_find(
    const struct fq_engine *engine,
    const struct fq_queue *queue,
    fila_view name,
    uint64_t hash)
{
    struct fb_node *node = fb_table_find(&engine->keys, hash);
    for (; node; node = fb_table_find_next(node)) {
        struct fq_key *key = (struct fq_key *)node;
        if (key->queue == queue && fq_equal(fq_key_name(key), name)) {
            return key;
        }
    }
    return NULL;
}

struct fq_key *fq_key_get(struct fq_engine *engine, struct fq_queue *queue, fila_view name)
{
    uint64_t hash = key_hash(engine, queue, name);
    struct fq_key *key = key_find(engine, queue, name, hash);
    if (key) {
        return key;
    }
    key = malloc(sizeof *key + name.len);
    if (!key) {
        return NULL;
    }
    *key = (struct fq_key){.queue = queue, .weight = 1, .name_len = name.len};
    if (name.len) {
        memcpy(key->name, name.data, name.len);
    }
    fb_table_insert(&engine->keys, &key->by_name, hash);
    DL_APPEND(queue->waiting, key);
    queue->keys++;
    return key;
}

static void leave_round(struct fq_queue *queue, struct fq_key *key)
{
    if (key->in_round) {
        DL_DELETE(queue->round, key);
    } else {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in there */
        DL_DELETE(queue->waiting, key);
    }
}

static void wait_for_next_round(struct fq_queue *queue, struct fq_key *key)
{
    leave_round(queue, key);
    DL_APPEND(queue->waiting, key);
    key->in_round = false;
    key->turn = 0;
}

void fq_unpark(struct fq_engine *engine, struct fq_queue *queue)
{
    if (queue->place == FQ_QUEUE_PARKED) {
        queue->parked_until = INT64_MIN;
        engine->next_unpark = INT64_MIN;
    }
}

void fq_push(struct fq_engine *engine, struct fq_key *key, struct fq_message *message)
{
    struct fq_queue *queue = key->queue;
    message->queue = queue;
    message->state = FQ_PENDING;
    message->key = key;
    DL_APPEND(key->fifo, message);
    key->pending++;
    key->weight = message->weight;
    queue->pending++;
    if (key->pending == 1) {
        fq_unpark(engine, queue);
    }
}

void fq_pull(struct fq_engine *engine, struct fq_message *message)
{
    struct fq_key *key = message->key;
    struct fq_queue *queue = key->queue;
    DL_DELETE(key->fifo, message);
    message->key = NULL;
    queue->pending--;
    fq_unpark(engine, queue);
    if (--key->pending == 0) {
        leave_round(queue, key);
        queue->keys--;
        fb_table_remove(&engine->keys, &key->by_name);
        free(key);
    }
}

static void displace(struct fq_engine *engine, struct fq_queue *queue)
{
    if (queue->place == FQ_QUEUE_RUNNABLE) {
        DL_DELETE(engine->runnable, queue);
    } else if (queue->place == FQ_QUEUE_PARKED) {
        DL_DELETE(engine->parked, queue);
    }
    queue->place = FQ_QUEUE_STILL;
}

void fq_place(struct fq_engine *engine, struct fq_queue *queue)
{
    if (!queue->pending || !queue->room) {
        displace(engine, queue);
    } else if (queue->place == FQ_QUEUE_STILL) {
        DL_APPEND(engine->runnable, queue);
        queue->place = FQ_QUEUE_RUNNABLE;
    }
}

static void park(struct fq_engine *engine, struct fq_queue *queue, int64_t until)
{
    displace(engine, queue);
    DL_APPEND(engine->parked, queue);
    queue->place = FQ_QUEUE_PARKED;
    queue->parked_until = until;
    if (until < engine->next_unpark) {
        engine->next_unpark = until;
    }
}

static void start_round(const struct fq_engine *engine, struct fq_queue *queue)
{
    struct fq_key *key;
    DL_FOREACH(queue->waiting, key)
    {
        key->deficit = (int64_t)engine->config.quantum * effective_weight(key);
        key->turn = 0;
        key->in_round = true;
    }
    queue->round = queue->waiting;
    queue->waiting = NULL;
}

static void lease(struct fq_engine *engine, struct fq_message *message, int64_t now)
{
    struct fq_queue *queue = message->queue;
    struct fq_term *term = queue->term;
    message->state = FQ_LEASED;
    message->term = term;
    message->incarnation = queue->incarnation;
    message->lease_end = now + term->length;
    DL_APPEND(term->leases, message);
    queue->leased++;
    queue->in_flight++;
    if (message->lease_end < engine->next_expiry) {
        engine->next_expiry = message->lease_end;
    }
    fq_note_state(engine, message);
}

/* The first key in the round has delivered one; its message may have been its last, which freed
 * it. */
static void count_delivery(struct fq_queue *queue, struct fq_key *key)
{
    key->deficit--;
    key->turn--;
    if (key->deficit <= 0) {
        wait_for_next_round(queue, key);
    } else if (key->turn == 0 && key->next) {
        DL_DELETE(queue->round, key);
        DL_APPEND(queue->round, key);
    }
}

static void deliver_front(struct fq_engine *engine, struct fq_key *key, int64_t now)
{
    struct fq_queue *queue = key->queue;
    struct fq_message *message = key->fifo;
    if (key->turn == 0) {
        key->turn = effective_weight(key);
    }
    fq_throttle_spend(engine, message);
    if (key->pending > 1) {
        count_delivery(queue, key);
    }
    fq_pull(engine, message);
    lease(engine, message, now);
    fq_consumer_push(queue, message);
}

void fq_deliver(struct fq_engine *engine, struct fq_queue *queue, int64_t now)
{
    bool delivered = false;
    bool all_throttled = !queue->round; /* only then will the pass have looked at every key */
    int64_t until = FILA_NEVER;
    if (!queue->round) {
        start_round(engine, queue);
    }
    while (queue->round && queue->room) {
        struct fq_key *key = queue->round;
        int64_t free_at = fq_throttled_until(engine, key->fifo, now);
        if (free_at <= now) {
            deliver_front(engine, key, now);
            delivered = true;
            continue;
        }
        until = free_at < until ? free_at : until;
        wait_for_next_round(queue, key);
    }
    if (all_throttled && !delivered && queue->room && queue->pending) {
        park(engine, queue, until);
        return;
    }
    fq_place(engine, queue);
}
