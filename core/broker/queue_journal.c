/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

#define FIRST_ROOM 256
#define KEPT_ROOM  16384 /* of a group; what a big one took is given back */

void fq_journal_start(struct fq_engine *engine)
{
    engine->journal.number = 1;
}

uint64_t fq_journal_open(const struct fq_engine *engine)
{
    return engine->journal.number;
}

bool fq_journal_dirty(const struct fq_engine *engine)
{
    return engine->journal.count > 0 || engine->journal.incomplete;
}

/* ---- Groups ---- */

void fq_group_clear(struct fq_group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        fq_message_unref(group->list[i].message);
        free(group->list[i].admin);
    }
    group->count = 0;
    group->incomplete = false;
    if (group->room > KEPT_ROOM) {
        free(group->list);
        group->list = NULL;
        group->room = 0;
    }
}

void fq_group_free(struct fq_group *group)
{
    fq_group_clear(group);
    free(group->list);
    group->list = NULL;
    group->room = 0;
}

bool fq_journal_take(struct fq_engine *engine, struct fq_group *group)
{
    struct fq_group empty;
    fq_group_clear(group);
    if (!fq_journal_dirty(engine)) {
        return false;
    }
    empty = *group;
    *group = engine->journal;
    engine->journal = empty;
    engine->journal.number = group->number + 1;
    return true;
}

/* Room for one more change, zeroed; NULL without memory, which spoils the group. */
static struct fq_change *append(struct fq_engine *engine)
{
    struct fq_group *open = &engine->journal;
    if (open->count == open->room) {
        size_t room = open->room ? 2 * open->room : FIRST_ROOM;
        struct fq_change *list = realloc(open->list, room * sizeof *list);
        if (!list) {
            open->incomplete = true;
            return NULL;
        }
        open->list = list;
        open->room = room;
    }
    memset(&open->list[open->count], 0, sizeof *open->list);
    return &open->list[open->count++];
}

/* ---- Messages ---- */

/* The message's change in the open group. */
static struct fq_change *change_of(struct fq_engine *engine, struct fq_message *message)
{
    struct fq_group *open = &engine->journal;
    struct fq_change *change;
    if (message->group == open->number) {
        return &open->list[message->change];
    }
    change = append(engine);
    if (change) {
        change->kind = FQ_CHANGE_MESSAGE;
        change->seq = message->seq;
        change->was_restated = message->restated;
        message->group = open->number;
        message->change = open->count - 1;
    }
    return change;
}

static void fill(struct fq_change *change, const struct fq_message *message)
{
    change->queue = message->queue->number;
    change->attempt_count = message->attempt_count;
    change->lease_end = message->state == FQ_LEASED ? message->lease_end : 0;
}

void fq_journal_put(struct fq_engine *engine, struct fq_message *message)
{
    struct fq_change *change = change_of(engine, message);
    if (change) {
        change->put = true;
        change->message = fq_message_ref(message);
        fill(change, message);
    }
}

void fq_journal_state(struct fq_engine *engine, struct fq_message *message)
{
    struct fq_change *change = change_of(engine, message);
    if (change) {
        fill(change, message);
        change->restated = !change->put;
        message->restated = message->restated || !change->put;
    }
}

void fq_journal_move(struct fq_engine *engine, struct fq_message *message)
{
    struct fq_change *change;
    fq_journal_state(engine, message);
    change = change_of(engine, message);
    if (change) {
        change->moved = !change->put;
    }
}

void fq_journal_settled(struct fq_engine *engine, struct fq_message *message)
{
    struct fq_change *change = change_of(engine, message);
    if (!change) {
        return;
    }
    change->was_restated = message->restated;
    change->restated = false;
    change->moved = false;
    if (change->put) {
        fq_message_unref(change->message);
        change->message = NULL;
        change->put = false;
        change->kind = FQ_CHANGE_NONE;
        return;
    }
    change->settled = true;
}

/* Reads nothing that changes: the engine goes on meanwhile. */
void fq_stored_fields(const struct fq_message *message, struct fila_message_fields *ret_fields)
{
    const struct fq_extra *extra = message->extra;
    *ret_fields = (struct fila_message_fields){
        .fairness_key = fq_fairness_key(message),
        .payload = message->payload,
        .weight = message->weight,
        .throttle_keys = extra ? extra->throttle_keys : NULL,
        .throttle_key_count = extra ? extra->throttle_key_count : 0,
        .headers = message->headers,
        .header_count = message->header_count,
    };
}

const uint8_t *fq_stored_id(const struct fq_message *message)
{
    return message->id;
}

/* ---- Queues and settings ---- */

static fila_view copy(char **at, fila_view text)
{
    fila_view made = {*at, text.len};
    if (text.len) {
        memcpy(*at, text.data, text.len);
    }
    *at += text.len;
    return made;
}

static struct fq_change *note_admin(
    struct fq_engine *engine,
    enum fq_change_kind kind,
    const struct fq_admin_change *what)
{
    size_t bytes = what->name.len + what->value.len + what->on_enqueue.len + what->on_failure.len;
    struct fq_admin_change *admin = malloc(sizeof *admin + bytes);
    struct fq_change *change = admin ? append(engine) : NULL;
    char *at;
    if (!change) {
        free(admin);
        engine->journal.incomplete = true;
        return NULL;
    }
    at = (char *)(admin + 1);
    admin->visibility_timeout = what->visibility_timeout;
    admin->name = copy(&at, what->name);
    admin->value = copy(&at, what->value);
    admin->on_enqueue = copy(&at, what->on_enqueue);
    admin->on_failure = copy(&at, what->on_failure);
    change->kind = kind;
    change->admin = admin;
    return change;
}

void fq_journal_queue(
    struct fq_engine *engine,
    const struct fq_queue *queue,
    const struct fq_queue_options *options)
{
    struct fq_admin_change what = {
        .name = fq_queue_name(queue), .visibility_timeout = queue->term->length};
    struct fq_change *change;
    if (options && queue->exists) {
        what.on_enqueue = options->on_enqueue;
        what.on_failure = options->on_failure;
    }
    change = note_admin(engine, FQ_CHANGE_QUEUE, &what);
    if (change) {
        change->queue = queue->number;
        change->settled = !queue->exists;
    }
}

void fq_journal_setting(struct fq_engine *engine, fila_view key, fila_view value)
{
    struct fq_admin_change what = {.name = key, .value = value};
    struct fq_change *change = note_admin(engine, FQ_CHANGE_SETTING, &what);
    if (change) {
        change->settled = value.len == 0;
    }
}
