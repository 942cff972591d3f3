/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

/* Leases from before the restart have a term of their own: no queue has this length, and only here
 * are they not in the order of their ends as they come. */
#define RESTORED_TERM 0

fila_status fq_restore_queue(struct fq_engine *engine, const struct fq_stored_queue *stored)
{
    struct fq_queue *queue;
    if (stored->number >= engine->next_queue_number) {
        engine->next_queue_number = stored->number + 1;
    }
    if (!stored->exists) {
        return FILA_OK;
    }
    queue = fq_queue_get(engine, stored->name);
    if (!queue) {
        return FILA_NO_MEMORY;
    }
    queue->number = stored->number;
    if (!fq_queue_set_term(engine, queue, fq_visibility_of(&stored->options))) {
        fq_queue_drop(engine, queue);
        return FILA_NO_MEMORY;
    }
    queue->exists = true;
    queue->scripts = stored->options.scripts;
    return FILA_OK;
}

fila_status fq_restore_setting(
    struct fq_engine *engine,
    int64_t now,
    fila_view key,
    fila_view value)
{
    uint64_t number = engine->journal.number;
    fila_status status;
    engine->journal.number = 0; /* nothing that is not stored already */
    status = fq_set_config(engine, now, key, value);
    engine->journal.number = number;
    return status;
}

static struct fq_message *make(const struct fq_stored_message *stored)
{
    struct fq_enqueue in = {stored->queue, stored->headers, stored->header_count, stored->payload};
    struct fq_message *message = fq_message_new(&in);
    if (message && !fq_message_plan(message, &stored->plan)) {
        fq_message_unref(message);
        return NULL;
    }
    if (message) {
        memcpy(message->id, stored->id, sizeof message->id);
        fq_id_format(message->id, message->id_text);
        message->seq = stored->seq;
        message->attempt_count = stored->attempt_count;
        message->restated = stored->restated;
    }
    return message;
}

static bool restore_lease(
    struct fq_engine *engine,
    struct fq_queue *queue,
    struct fq_message *message,
    int64_t lease_end)
{
    struct fq_term *term = fq_term_get(engine, RESTORED_TERM);
    if (!term) {
        return false;
    }
    message->queue = queue;
    message->state = FQ_LEASED;
    message->term = term;
    message->lease_end = lease_end;
    message->incarnation = queue->exists ? queue->incarnation : queue->incarnation - 1;
    DL_APPEND(term->leases, message);
    queue->leased++;
    queue->in_flight += queue->exists;
    if (lease_end < engine->next_expiry) {
        engine->next_expiry = lease_end;
    }
    return true;
}

static bool restore_pending(
    struct fq_engine *engine,
    struct fq_queue *queue,
    struct fq_message *message,
    bool expired)
{
    struct fq_key *key = fq_key_get(engine, queue, fq_fairness_key(message));
    if (!key) {
        return false;
    }
    message->attempt_count += expired;
    fq_push(engine, key, message);
    if (expired) {
        fq_note_state(engine, message);
    }
    return true;
}

fila_status fq_restore_message(
    struct fq_engine *engine,
    int64_t now,
    const struct fq_stored_message *stored)
{
    struct fq_queue *queue = fq_queue_find(engine, stored->queue);
    struct fq_message *message;
    bool done;
    if ((!queue || !queue->exists) && stored->lease_end == 0) {
        return FILA_OK;
    }
    queue = fq_queue_get(engine, stored->queue);
    message = queue ? make(stored) : NULL;
    if (!message) {
        return FILA_NO_MEMORY; /* the engine is given up as a whole */
    }
    if (stored->lease_end > now) {
        done = restore_lease(engine, queue, message, stored->lease_end);
    } else {
        done = restore_pending(engine, queue, message, stored->lease_end != 0);
    }
    if (!done) {
        fq_message_unref(message);
        return FILA_NO_MEMORY;
    }
    fq_admit(engine, message);
    return FILA_OK;
}

static int by_end(const struct fq_message *a, const struct fq_message *b)
{
    return (a->lease_end > b->lease_end) - (a->lease_end < b->lease_end);
}

static int by_name(const struct fq_key *a, const struct fq_key *b)
{
    return fq_compare(fq_key_name(a), fq_key_name(b));
}

void fq_restore_end(struct fq_engine *engine, uint64_t next_seq)
{
    struct fq_term *term;
    struct fb_node *node = fb_table_next(&engine->queues, NULL);
    DL_FOREACH(engine->terms, term)
    {
        if (term->length == RESTORED_TERM) {
            DL_SORT(term->leases, by_end);
        }
    }
    for (; node; node = fb_table_next(&engine->queues, node)) {
        struct fq_queue *queue = (struct fq_queue *)node;
        DL_SORT(queue->waiting, by_name); /* a server finds them in this order */
    }
    engine->next_seq = next_seq;
    engine->random ^= next_seq * UINT64_C(0xd1342543de82ef95); /* no id twice with one seed */
}
