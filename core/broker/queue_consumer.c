/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

fila_status fq_consumer_open(
    struct fq_engine *engine,
    int64_t now,
    fila_view queue_name,
    void *user,
    struct fq_consumer **ret_consumer)
{
    struct fq_consumer *consumer = calloc(1, sizeof *consumer);
    struct fq_queue *queue = consumer ? fq_queue_get(engine, queue_name) : NULL;
    if (!queue) {
        free(consumer);
        return FILA_NO_MEMORY;
    }
    consumer->engine = engine;
    consumer->queue = queue;
    consumer->user = user;
    DL_APPEND(engine->consumers, consumer);
    DL_APPEND2(queue->room, consumer, prev_room, next_room);
    queue->consumers++;
    fq_place(engine, queue);
    *ret_consumer = consumer;
    fq_turn(engine, now);
    return FILA_OK;
}

void *fq_consumer_user(const struct fq_consumer *consumer)
{
    return consumer->user;
}

fila_view fq_consumer_queue(const struct fq_consumer *consumer)
{
    return fq_queue_name(consumer->queue);
}

uint32_t fq_consumer_waiting(const struct fq_consumer *consumer)
{
    return consumer->count;
}

static struct fq_slot *slot_at(struct fq_consumer *consumer, uint32_t nth)
{
    return &consumer->slots[(consumer->first + nth) % FQ_SLOTS];
}

static void set_ready(struct fq_consumer *consumer, bool ready)
{
    struct fq_engine *engine = consumer->engine;
    if (ready == consumer->in_ready) {
        return;
    }
    if (ready) {
        DL_APPEND2(engine->ready, consumer, prev_ready, next_ready);
    } else {
        DL_DELETE2(engine->ready, consumer, prev_ready, next_ready);
    }
    consumer->in_ready = ready;
}

static void set_held(struct fq_consumer *consumer, bool held)
{
    struct fq_engine *engine = consumer->engine;
    if (held == consumer->in_held) {
        return;
    }
    if (held) {
        DL_APPEND2(engine->held, consumer, prev_held, next_held);
    } else {
        DL_DELETE2(engine->held, consumer, prev_held, next_held);
    }
    consumer->in_held = held;
}

/* Whether the first slot may be taken; not empty. */
static bool is_durable(const struct fq_consumer *consumer)
{
    return consumer->slots[consumer->first].group <= consumer->engine->durable;
}

/* Tells of what can be taken, or keeps in mind to do so. Not told, not empty. */
static void tell(struct fq_consumer *consumer)
{
    bool durable = is_durable(consumer);
    set_held(consumer, !durable);
    if (durable) {
        consumer->told = true;
        set_ready(consumer, true);
    }
}

void fq_journal_durable(struct fq_engine *engine, uint64_t number)
{
    struct fq_consumer *consumer;
    struct fq_consumer *after;
    engine->durable = number;
    DL_FOREACH_SAFE2(engine->held, consumer, after, next_held)
    {
        tell(consumer);
    }
}

struct fq_consumer *fq_next_ready(struct fq_engine *engine)
{
    struct fq_consumer *consumer = engine->ready;
    if (consumer) {
        set_ready(consumer, false);
    }
    return consumer;
}

void fq_consumer_push(struct fq_queue *queue, struct fq_message *message)
{
    struct fq_consumer *consumer = queue->room;
    *slot_at(consumer, consumer->count++) = (struct fq_slot){
        fq_message_ref(message), message->lease_end, consumer->engine->journal.number,
        message->attempt_count};
    DL_DELETE2(queue->room, consumer, prev_room, next_room);
    if (consumer->count < FQ_SLOTS) {
        DL_APPEND2(queue->room, consumer, prev_room, next_room);
    }
    if (!consumer->told && !consumer->in_held) {
        tell(consumer);
    }
}

bool fq_take(struct fq_consumer *consumer, struct fq_delivery *ret_delivery)
{
    struct fq_slot slot;
    if (consumer->count == 0 || !is_durable(consumer)) {
        consumer->told = false;
        set_ready(consumer, false);
        set_held(consumer, consumer->count > 0);
        return false;
    }
    slot = *slot_at(consumer, 0);
    if (consumer->count-- == FQ_SLOTS) {
        DL_APPEND2(consumer->queue->room, consumer, prev_room, next_room);
        fq_place(consumer->engine, consumer->queue);
    }
    consumer->first = (consumer->first + 1) % FQ_SLOTS;
    fq_message_fields(slot.message, &ret_delivery->fields);
    ret_delivery->fields.attempt_count = slot.attempt_count;
    ret_delivery->lease_end = slot.lease_end;
    ret_delivery->message = slot.message;
    return true;
}

void fq_delivery_release(struct fq_delivery *delivery)
{
    fq_message_unref(delivery->message);
    delivery->message = NULL;
}

void fq_consumer_close(struct fq_engine *engine, int64_t now, struct fq_consumer *consumer)
{
    struct fq_queue *queue = consumer->queue;
    set_ready(consumer, false);
    set_held(consumer, false);
    if (consumer->count < FQ_SLOTS) {
        DL_DELETE2(queue->room, consumer, prev_room, next_room);
    }
    DL_DELETE(engine->consumers, consumer);
    queue->consumers--;
    for (uint32_t i = 0; i < consumer->count; i++) {
        fq_message_unref(slot_at(consumer, i)->message);
    }
    free(consumer);
    fq_place(engine, queue);
    fq_queue_drop(engine, queue);
    fq_turn(engine, now);
}
