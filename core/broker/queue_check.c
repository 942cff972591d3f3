/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

struct counts {
    uint64_t keys;
    uint64_t pending;
    uint64_t leased;
    uint64_t consumers;
};

static const char *check_key(const struct fq_queue *queue, const struct fq_key *key, bool in_round)
{
    const struct fq_message *message;
    uint64_t pending = 0;
    DL_FOREACH(key->fifo, message)
    {
        if (message->state != FQ_PENDING || message->key != key || message->queue != queue) {
            return "a message in a FIFO is not pending there";
        }
        pending++;
    }
    if (key->queue != queue || key->in_round != in_round) {
        return "a key is in the wrong list";
    }
    if (pending == 0 || pending != key->pending) {
        return "a key's pending count is wrong, or it is empty";
    }
    return in_round && key->deficit <= 0 ? "a key in the round has spent its deficit" : NULL;
}

static const char *check_keys(
    const struct fq_queue *queue,
    const struct fq_key *keys,
    bool in_round,
    struct counts *n)
{
    const struct fq_key *key;
    const char *problem = NULL;
    DL_FOREACH(keys, key)
    {
        problem = check_key(queue, key, in_round);
        if (problem) {
            break;
        }
        n->keys++;
        n->pending += key->pending;
    }
    return problem;
}

static const char *check_room(const struct fq_queue *queue)
{
    const struct fq_consumer *consumer;
    DL_FOREACH2(queue->room, consumer, next_room)
    {
        if (consumer->count >= FQ_SLOTS || consumer->queue != queue) {
            return "a consumer without room is in the rotation";
        }
    }
    return NULL;
}

static const char *check_place(const struct fq_queue *queue)
{
    bool deliverable = queue->pending && queue->room;
    if (deliverable == (queue->place == FQ_QUEUE_STILL)) {
        return "a queue is runnable with nothing to deliver, or the reverse";
    }
    if (!queue->exists && !queue->consumers && !queue->pending && !queue->leased) {
        return "a queue is kept for nothing";
    }
    return queue->in_flight > queue->leased ? "more in flight than leased" : NULL;
}

static const char *check_queue(const struct fq_queue *queue, struct counts *sum)
{
    struct counts n = {0, 0, 0, 0};
    const char *problem = check_keys(queue, queue->round, true, &n);
    problem = problem ? problem : check_keys(queue, queue->waiting, false, &n);
    problem = problem ? problem : check_room(queue);
    problem = problem ? problem : check_place(queue);
    if (!problem && (n.keys != queue->keys || n.pending != queue->pending)) {
        problem = "a queue's counts are wrong";
    }
    sum->keys += queue->keys;
    sum->pending += queue->pending;
    sum->leased += queue->leased;
    sum->consumers += queue->consumers;
    return problem;
}

static const char *check_terms(const struct fq_engine *engine, uint64_t *ret_leased)
{
    const struct fq_term *term;
    DL_FOREACH(engine->terms, term)
    {
        const struct fq_message *message;
        int64_t last = INT64_MIN;
        DL_FOREACH(term->leases, message)
        {
            if (message->state != FQ_LEASED || message->term != term) {
                return "a message in a term is not leased there";
            }
            if (message->lease_end < last || message->lease_end < engine->next_expiry) {
                return "leases are out of order, or one ends before the next expiry";
            }
            last = message->lease_end;
            (*ret_leased)++;
        }
    }
    return NULL;
}

const char *fq_check(const struct fq_engine *engine)
{
    const struct fb_node *node = fb_table_next(&engine->queues, NULL);
    const struct fq_consumer *consumer;
    struct counts sum = {0, 0, 0, 0};
    uint64_t leased = 0;
    uint64_t consumers = 0;
    const char *problem = NULL;
    for (; node && !problem; node = fb_table_next(&engine->queues, node)) {
        problem = check_queue((const struct fq_queue *)node, &sum);
    }
    problem = problem ? problem : check_terms(engine, &leased);
    DL_FOREACH(engine->consumers, consumer)
    {
        consumers++;
    }
    if (problem) {
        return problem;
    }
    if (sum.keys != engine->keys.count || sum.consumers != consumers) {
        return "keys or consumers are not all in a queue";
    }
    if (sum.leased != leased || sum.pending + leased != engine->messages.count) {
        return "messages are not pending or leased exactly once";
    }
    return NULL;
}
