/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

int fq_compare(fila_view a, fila_view b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* ---- Terms ---- */

struct fq_term *fq_term_get(struct fq_engine *engine, int64_t length)
{
    struct fq_term *term;
    DL_FOREACH(engine->terms, term)
    {
        if (term->length == length) {
            return term;
        }
    }
    term = calloc(1, sizeof *term);
    if (term) {
        term->length = length;
        DL_APPEND(engine->terms, term);
    }
    return term;
}

static void term_drop(struct fq_engine *engine, struct fq_term *term)
{
    if (term->queues == 0 && !term->leases && term != engine->default_term) {
        DL_DELETE(engine->terms, term);
        free(term);
    }
}

bool fq_queue_set_term(struct fq_engine *engine, struct fq_queue *queue, int64_t length)
{
    struct fq_term *term = fq_term_get(engine, length);
    struct fq_term *old = queue->term;
    if (!term) {
        return false;
    }
    term->queues++;
    queue->term = term;
    if (old) {
        old->queues--;
        term_drop(engine, old);
    }
    return true;
}

/* ---- Queues ---- */

struct fq_queue *fq_queue_find(const struct fq_engine *engine, fila_view name)
{
    struct fb_node *node =
        fb_table_find(&engine->queues, fb_hash(engine->hash_seed, name.data, name.len));
    for (; node; node = fb_table_find_next(node)) {
        struct fq_queue *queue = (struct fq_queue *)node;
        if (fq_equal(fq_queue_name(queue), name)) {
            return queue;
        }
    }
    return NULL;
}

struct fq_queue *fq_queue_get(struct fq_engine *engine, fila_view name)
{
    struct fq_queue *queue = fq_queue_find(engine, name);
    if (queue) {
        return queue;
    }
    queue = calloc(1, sizeof *queue + name.len);
    if (!queue) {
        return NULL;
    }
    queue->name_len = name.len;
    if (name.len) {
        memcpy(queue->name, name.data, name.len);
    }
    queue->number = engine->next_queue_number++;
    queue->term = engine->default_term;
    queue->term->queues++;
    fb_table_insert(
        &engine->queues, &queue->by_name, fb_hash(engine->hash_seed, name.data, name.len));
    return queue;
}

void fq_queue_drop(struct fq_engine *engine, struct fq_queue *queue)
{
    if (queue->exists || queue->consumers || queue->pending || queue->leased) {
        return;
    }
    queue->term->queues--;
    term_drop(engine, queue->term);
    fb_table_remove(&engine->queues, &queue->by_name);
    free(queue);
}

/* ---- Engine ---- */

static bool init_tables(struct fq_engine *engine)
{
    return fb_table_init(&engine->messages) && fb_table_init(&engine->queues) &&
           fb_table_init(&engine->keys) && fb_table_init(&engine->settings) &&
           fb_table_init(&engine->buckets);
}

struct fq_engine *fq_new(const struct fq_config *config, int64_t now)
{
    struct fq_engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        return NULL;
    }
    engine->config = *config;
    engine->random = config->seed;
    engine->hash_seed[0] = fq_random(&engine->random);
    engine->hash_seed[1] = fq_random(&engine->random);
    engine->idle_since = now;
    engine->next_expiry = FILA_NEVER;
    engine->next_unpark = FILA_NEVER;
    if (!init_tables(engine) ||
        !(engine->default_term = fq_term_get(engine, FQ_VISIBILITY_DEFAULT))) {
        fq_free(engine);
        return NULL;
    }
    return engine;
}

static void free_consumers(struct fq_engine *engine)
{
    struct fq_consumer *consumer;
    struct fq_consumer *after;
    DL_FOREACH_SAFE(engine->consumers, consumer, after)
    {
        for (uint32_t i = 0; i < consumer->count; i++) {
            fq_message_unref(consumer->slots[(consumer->first + i) % FQ_SLOTS].message);
        }
        free(consumer);
    }
}

static void free_messages(struct fq_engine *engine)
{
    struct fb_node *node = engine->messages.buckets ? fb_table_next(&engine->messages, NULL) : NULL;
    while (node) {
        struct fb_node *after = fb_table_next(&engine->messages, node);
        fq_message_unref((struct fq_message *)node);
        node = after;
    }
}

static void free_nodes(struct fb_table *table)
{
    struct fb_node *node = table->buckets ? fb_table_next(table, NULL) : NULL;
    while (node) {
        struct fb_node *after = fb_table_next(table, node);
        free(node);
        node = after;
    }
}

static void release_scripts(struct fq_engine *engine)
{
    struct fb_node *node = engine->queues.buckets ? fb_table_next(&engine->queues, NULL) : NULL;
    for (; node; node = fb_table_next(&engine->queues, node)) {
        struct fq_queue *queue = (struct fq_queue *)node;
        if (queue->scripts && engine->config.hooks.release) {
            engine->config.hooks.release(engine->config.hooks.user, queue->scripts);
        }
    }
}

void fq_free(struct fq_engine *engine)
{
    struct fq_term *term;
    struct fq_term *after;
    if (!engine) {
        return;
    }
    free_consumers(engine);
    free_messages(engine);
    release_scripts(engine);
    free_nodes(&engine->keys);
    free_nodes(&engine->queues);
    free_nodes(&engine->settings);
    free_nodes(&engine->buckets);
    fb_table_fini(&engine->messages);
    fb_table_fini(&engine->queues);
    fb_table_fini(&engine->keys);
    fb_table_fini(&engine->settings);
    fb_table_fini(&engine->buckets);
    fq_group_free(&engine->journal);
    DL_FOREACH_SAFE(engine->terms, term, after)
    {
        free(term);
    }
    free(engine);
}

/* ---- Turns and ticks ---- */

static void unpark(struct fq_engine *engine, int64_t now)
{
    struct fq_queue *queue;
    struct fq_queue *after;
    if (now < engine->next_unpark) {
        return;
    }
    engine->next_unpark = FILA_NEVER;
    DL_FOREACH_SAFE(engine->parked, queue, after)
    {
        if (queue->parked_until <= now) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in there */
            DL_DELETE(engine->parked, queue);
            DL_APPEND(engine->runnable, queue);
            queue->place = FQ_QUEUE_RUNNABLE;
        } else if (queue->parked_until < engine->next_unpark) {
            engine->next_unpark = queue->parked_until;
        }
    }
}

void fq_turn(struct fq_engine *engine, int64_t now)
{
    struct fq_queue *queue;
    struct fq_queue *after;
    engine->idle_since = now;
    unpark(engine, now);
    DL_FOREACH_SAFE(engine->runnable, queue, after)
    {
        fq_deliver(engine, queue, now);
    }
}

static void unlease(struct fq_message *message)
{
    struct fq_queue *queue = message->queue;
    DL_DELETE(message->term->leases, message);
    message->term = NULL;
    queue->leased--;
    if (message->incarnation == queue->incarnation) {
        queue->in_flight--;
    }
}

/* False without memory: the lease stays, and the next tick tries again. */
static bool take_back(struct fq_engine *engine, struct fq_message *message)
{
    struct fq_key *key = fq_key_get(engine, message->queue, fq_fairness_key(message));
    if (!key) {
        return false;
    }
    unlease(message);
    message->attempt_count++;
    fq_push(engine, key, message);
    fq_note_state(engine, message);
    fq_place(engine, message->queue);
    return true;
}

static void expire(struct fq_engine *engine, int64_t now)
{
    struct fq_term *term;
    struct fq_term *after;
    if (now < engine->next_expiry) {
        return;
    }
    engine->next_expiry = FILA_NEVER;
    DL_FOREACH_SAFE(engine->terms, term, after)
    {
        while (term->leases && term->leases->lease_end <= now) {
            if (!take_back(engine, term->leases)) {
                break;
            }
        }
        if (term->leases && term->leases->lease_end < engine->next_expiry) {
            engine->next_expiry = term->leases->lease_end;
        }
        term_drop(engine, term);
    }
}

/* The first tick at or after `at`. */
static int64_t tick_at(const struct fq_engine *engine, int64_t at)
{
    int64_t step = engine->config.idle_timeout;
    int64_t first = engine->idle_since + step;
    if (at <= first) {
        return first;
    }
    if (at >= FILA_NEVER - step) {
        return FILA_NEVER;
    }
    return first + (at - first + step - 1) / step * step;
}

int64_t fq_wake_at(const struct fq_engine *engine)
{
    int64_t at = engine->next_expiry < engine->next_unpark || !engine->parked ? engine->next_expiry
                                                                              : engine->next_unpark;
    if (engine->runnable) {
        return engine->idle_since + engine->config.idle_timeout;
    }
    return at == FILA_NEVER ? FILA_NEVER : tick_at(engine, at);
}

void fq_tick(struct fq_engine *engine, int64_t now)
{
    int64_t since = now - (now - engine->idle_since) % engine->config.idle_timeout;
    if (now < fq_wake_at(engine)) {
        return;
    }
    expire(engine, now);
    fq_turn(engine, now);
    engine->idle_since = since;
}

/* ---- Commands on messages ---- */

void fq_admit(struct fq_engine *engine, struct fq_message *message)
{
    fb_table_insert(&engine->messages, &message->by_id, fq_id_hash(message->id));
}

void fq_forget(struct fq_engine *engine, struct fq_message *message)
{
    fb_table_remove(&engine->messages, &message->by_id);
    message->state = FQ_GONE;
    message->queue = NULL;
    fq_message_unref(message);
}

static struct fq_message *message_find(const struct fq_engine *engine, const uint8_t id[16])
{
    struct fb_node *node = fb_table_find(&engine->messages, fq_id_hash(id));
    for (; node; node = fb_table_find_next(node)) {
        struct fq_message *message = (struct fq_message *)node;
        if (memcmp(message->id, id, sizeof message->id) == 0) {
            return message;
        }
    }
    return NULL;
}

/* Asks on_enqueue; false without memory. */
static bool plan(struct fq_engine *engine, struct fq_queue *queue, struct fq_message *message)
{
    const struct fq_hooks *hooks = &engine->config.hooks;
    struct fq_plan plan = {fq_fairness_key(message), 1, NULL, 0};
    struct fila_message_fields fields;
    if (!hooks->on_enqueue) {
        return true;
    }
    fq_message_fields(message, &fields);
    hooks->on_enqueue(hooks->user, queue->scripts, &fields, &plan);
    return fq_message_plan(message, &plan);
}

fila_status fq_enqueue_made(
    struct fq_engine *engine,
    int64_t now,
    int64_t wall_ms,
    struct fq_message *message,
    char ret_id[FQ_ID_SIZE])
{
    struct fq_queue *queue = fq_queue_find(engine, message->queue_name);
    struct fq_key *key = NULL;
    if (!queue || !queue->exists) {
        fq_turn(engine, now);
        return FILA_QUEUE_NOT_FOUND;
    }
    fq_id_make(&engine->random, wall_ms, message->id);
    fq_id_format(message->id, message->id_text);
    if (plan(engine, queue, message)) {
        key = fq_key_get(engine, queue, fq_fairness_key(message));
    }
    if (!key) {
        fq_turn(engine, now);
        return FILA_NO_MEMORY;
    }
    message->seq = engine->next_seq++;
    fq_admit(engine, message);
    fq_push(engine, key, message);
    fq_note_put(engine, message);
    if (ret_id) {
        fq_id_format(message->id, ret_id);
    }
    fq_place(engine, queue);
    fq_turn(engine, now);
    return FILA_OK;
}

fila_status fq_enqueue(
    struct fq_engine *engine,
    int64_t now,
    int64_t wall_ms,
    const struct fq_enqueue *in,
    char ret_id[FQ_ID_SIZE])
{
    struct fq_message *message = fq_message_new(in);
    fila_status status;
    if (!message) {
        return FILA_NO_MEMORY;
    }
    status = fq_enqueue_made(engine, now, wall_ms, message, ret_id);
    if (status != FILA_OK) {
        fq_message_unref(message);
    }
    return status;
}

/* The leased message of that id in that queue. */
static fila_status find_leased(
    struct fq_engine *engine,
    fila_view queue,
    fila_view id_text,
    struct fq_message **ret_message)
{
    uint8_t id[16];
    struct fq_message *message;
    if (!fq_id_parse(id_text, id)) {
        return FILA_INVALID_ARGUMENT;
    }
    message = message_find(engine, id);
    if (!message || message->state != FQ_LEASED || !fq_equal(message->queue_name, queue)) {
        return FILA_MESSAGE_NOT_FOUND;
    }
    *ret_message = message;
    return FILA_OK;
}

fila_status fq_ack(struct fq_engine *engine, int64_t now, fila_view queue_name, fila_view id)
{
    struct fq_message *message;
    fila_status status = find_leased(engine, queue_name, id, &message);
    if (status == FILA_OK) {
        struct fq_queue *queue = message->queue;
        struct fq_term *term = message->term;
        unlease(message);
        term_drop(engine, term);
        fq_note_settled(engine, message);
        fq_forget(engine, message);
        fq_queue_drop(engine, queue);
    }
    fq_turn(engine, now);
    return status;
}

static enum fq_failure ask_on_failure(
    struct fq_engine *engine,
    const struct fq_message *message,
    fila_view error)
{
    const struct fq_hooks *hooks = &engine->config.hooks;
    struct fila_message_fields fields;
    if (!hooks->on_failure || !message->queue->exists) {
        return FQ_FAILURE_RETRY;
    }
    fq_message_fields(message, &fields);
    fields.attempt_count++;
    return hooks->on_failure(hooks->user, message->queue->scripts, &fields, error);
}

/* NULL where there is none, or no memory to look. */
static struct fq_queue *dlq_of(const struct fq_engine *engine, const struct fq_queue *queue)
{
    char *text = NULL;
    fila_view name = fq_dlq_name(fq_queue_name(queue), &text);
    struct fq_queue *dlq = text ? fq_queue_find(engine, name) : NULL;
    free(text);
    return dlq && dlq->exists && !fq_is_dlq(fq_queue_name(queue)) ? dlq : NULL;
}

/* Ends the lease by putting `message` (or its copy in `target`) at the tail there. */
static fila_status requeue(
    struct fq_engine *engine,
    struct fq_message *message,
    struct fq_queue *target)
{
    struct fq_queue *source = message->queue;
    struct fq_message *moved = message;
    struct fq_term *term = message->term;
    struct fq_key *key;
    if (target != source && !(moved = fq_message_moved(message, fq_queue_name(target)))) {
        return FILA_NO_MEMORY;
    }
    key = fq_key_get(engine, target, fq_fairness_key(message));
    if (!key) {
        if (moved != message) {
            fq_message_unref(moved);
        }
        return FILA_NO_MEMORY;
    }
    unlease(message);
    term_drop(engine, term);
    if (moved != message) {
        fq_forget(engine, message);
        fq_admit(engine, moved);
    }
    moved->attempt_count++;
    fq_push(engine, key, moved);
    if (moved != message) {
        fq_note_move(engine, moved);
    } else {
        fq_note_state(engine, moved);
    }
    fq_place(engine, target);
    return FILA_OK;
}

fila_status fq_nack(
    struct fq_engine *engine,
    int64_t now,
    fila_view queue_name,
    fila_view id,
    fila_view error)
{
    struct fq_message *message;
    fila_status status = find_leased(engine, queue_name, id, &message);
    if (status == FILA_OK) {
        struct fq_queue *queue = message->queue;
        struct fq_queue *target = queue;
        if (ask_on_failure(engine, message, error) == FQ_FAILURE_DEAD_LETTER) {
            struct fq_queue *dlq = dlq_of(engine, queue);
            target = dlq ? dlq : queue;
        }
        status = requeue(engine, message, target);
    }
    fq_turn(engine, now);
    return status;
}

enum fq_state fq_find(const struct fq_engine *engine, fila_view id_text, struct fq_found *ret_found)
{
    uint8_t id[16];
    const struct fq_message *message = fq_id_parse(id_text, id) ? message_find(engine, id) : NULL;
    if (!message) {
        return FQ_GONE;
    }
    if (ret_found) {
        *ret_found = (struct fq_found){
            message->queue_name, message->attempt_count,
            message->state == FQ_LEASED ? message->lease_end : 0};
    }
    return message->state;
}
