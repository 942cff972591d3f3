/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "store_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* A row of `queue`, in the order of the numbers. */
struct known_queue {
    uint64_t number;
    bool present;
    bool used; /* messages name it */
    size_t name_len;
    char *name;
};

struct loading {
    struct fb_store *store;
    const struct fb_store_load *what;
    fila_error *reterr;
    struct known_queue *queues;
    size_t queue_count;
    size_t queue_room;
    fila_view *texts; /* room for headers or throttle keys */
    fila_header *headers;
    size_t text_room;
    sqlite3_stmt *messages;
    sqlite3_stmt *states; /* stands on the first row that is not behind the message */
    bool more_states;
    uint64_t next_seq;
};

static fila_status damaged(struct loading *l, const char *what)
{
    return fila_fail(
        l->reterr, FILA_BROKER_UNAVAILABLE,
        "%s is damaged (%s) and was left alone. Restore a copy of it, or salvage what is left into a "
        "new file with \"sqlite3 FILE .recover\"",
        l->store->path, what);
}

static fila_status no_memory(struct loading *l)
{
    return fila_fail(l->reterr, FILA_NO_MEMORY, "%s: no memory to read it", l->store->path);
}

static fila_view column(sqlite3_stmt *row, int at)
{
    const void *bytes = sqlite3_column_blob(row, at);
    int len = sqlite3_column_bytes(row, at);
    return (fila_view){bytes, bytes && len > 0 ? (size_t)len : 0};
}

static sqlite3_stmt *query(struct loading *l, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    (void)sqlite3_prepare_v2(l->store->db, sql, -1, &statement, NULL);
    return statement;
}

/* FILA_OK at the end of the rows, else what went wrong. */
static fila_status at_end(struct loading *l, int code)
{
    return code == SQLITE_DONE ? FILA_OK : fb_store_fail(l->store, "read", l->reterr);
}

/* ---- Queues ---- */

static fila_status remember_queue(struct loading *l, sqlite3_stmt *row, bool present)
{
    fila_view name = column(row, 1);
    struct known_queue *known;
    if (l->queue_count == l->queue_room) {
        size_t room = l->queue_room ? 2 * l->queue_room : 64;
        struct known_queue *more = realloc(l->queues, room * sizeof *more);
        if (!more) {
            return no_memory(l);
        }
        l->queues = more;
        l->queue_room = room;
    }
    known = &l->queues[l->queue_count];
    known->name = malloc(name.len + 1);
    if (!known->name) {
        return no_memory(l);
    }
    if (name.len) {
        memcpy(known->name, name.data, name.len);
    }
    known->name_len = name.len;
    known->number = (uint64_t)sqlite3_column_int64(row, 0);
    known->present = present;
    known->used = false;
    l->queue_count++;
    return FILA_OK;
}

static fila_status compile(struct loading *l, struct fq_stored_queue *queue)
{
    struct fq_queue_options *options = &queue->options;
    if (!queue->exists || (!options->on_enqueue.len && !options->on_failure.len)) {
        return FILA_OK;
    }
    if (!l->what->compile) {
        return fila_fail(
            l->reterr, FILA_UNSUPPORTED,
            "%s: queue \"%.*s\" has scripts, and this build runs none: use one with Lua",
            l->store->path, (int)(queue->name.len < 100 ? queue->name.len : 100), queue->name.data);
    }
    return l->what->compile(
        l->what->user, options->on_enqueue, options->on_failure, &options->scripts, l->reterr);
}

static fila_status load_queue(struct loading *l, sqlite3_stmt *row)
{
    struct fq_stored_queue queue = {
        .number = (uint64_t)sqlite3_column_int64(row, 0),
        .name = column(row, 1),
        .exists = sqlite3_column_int(row, 2) != 0,
        .options =
            {.visibility_timeout = sqlite3_column_int64(row, 3),
             .on_enqueue = column(row, 4),
             .on_failure = column(row, 5)},
    };
    fila_status status = remember_queue(l, row, queue.exists);
    if (status == FILA_OK) {
        status = compile(l, &queue);
    }
    if (status == FILA_OK && fq_restore_queue(l->what->engine, &queue) != FILA_OK) {
        status = no_memory(l);
    }
    return status;
}

static fila_status load_queues(struct loading *l)
{
    sqlite3_stmt *rows = query(
        l, "SELECT number,name,present,visibility_ns,on_enqueue,on_failure FROM queue "
           "ORDER BY number");
    fila_status status = FILA_OK;
    int code = SQLITE_ERROR;
    while (rows && status == FILA_OK && (code = sqlite3_step(rows)) == SQLITE_ROW) {
        status = load_queue(l, rows);
    }
    status = status == FILA_OK ? at_end(l, code) : status;
    (void)sqlite3_finalize(rows);
    return status;
}

static struct known_queue *find_queue(struct loading *l, uint64_t number)
{
    size_t from = 0;
    size_t to = l->queue_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (l->queues[middle].number < number) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from < l->queue_count && l->queues[from].number == number ? &l->queues[from] : NULL;
}

/* Forgets deleted queues that nothing names any more. Whether it works is no matter. */
static void prune_queues(struct loading *l)
{
    for (size_t i = 0; i < l->queue_count; i++) {
        if (!l->queues[i].present && !l->queues[i].used) {
            (void)sqlite3_bind_int64(
                l->store->statements[FB_PRUNE_QUEUE], 1, (int64_t)l->queues[i].number);
            (void)fb_store_step(l->store, FB_PRUNE_QUEUE);
        }
    }
}

/* ---- Settings ---- */

static fila_status load_settings(struct loading *l)
{
    sqlite3_stmt *rows = query(l, "SELECT key,value FROM setting WHERE key<>''");
    fila_status status = FILA_OK;
    int code = SQLITE_ERROR;
    while (rows && status == FILA_OK && (code = sqlite3_step(rows)) == SQLITE_ROW) {
        switch (
            fq_restore_setting(l->what->engine, l->what->now, column(rows, 0), column(rows, 1))) {
        case FILA_OK:
            break;
        case FILA_NO_MEMORY:
            status = no_memory(l);
            break;
        default:
            status = damaged(l, "a setting is no valid one");
            break;
        }
    }
    status = status == FILA_OK ? at_end(l, code) : status;
    (void)sqlite3_finalize(rows);
    return status;
}

/* ---- Messages ---- */

static bool make_room(struct loading *l, size_t texts)
{
    fila_view *more;
    fila_header *headers;
    if (texts <= l->text_room) {
        return true;
    }
    more = realloc(l->texts, texts * sizeof *more);
    l->texts = more ? more : l->texts;
    headers = realloc(l->headers, texts * sizeof *headers);
    l->headers = headers ? headers : l->headers;
    if (!more || !headers) {
        return false;
    }
    l->text_room = texts;
    return true;
}

/* Headers lie in l->headers, throttle keys in the end of l->texts. */
static fila_status read_texts(
    struct loading *l,
    fila_view throttles,
    fila_view headers,
    struct fq_stored_message *message)
{
    const uint8_t *throttle_bytes = (const uint8_t *)throttles.data;
    const uint8_t *header_bytes = (const uint8_t *)headers.data;
    size_t throttle_count = fb_texts_count(throttle_bytes, throttles.len);
    size_t header_texts = fb_texts_count(header_bytes, headers.len);
    if (throttle_count == SIZE_MAX || header_texts == SIZE_MAX || header_texts % 2) {
        return damaged(l, "a message's headers cannot be read");
    }
    if (throttle_count + header_texts == 0) {
        return FILA_OK;
    }
    if (!make_room(l, throttle_count + header_texts)) {
        return no_memory(l);
    }
    (void)fb_texts_read(header_bytes, headers.len, l->texts, header_texts, &header_texts);
    for (size_t i = 0; i < header_texts / 2; i++) {
        l->headers[i] = (fila_header){l->texts[2 * i], l->texts[2 * i + 1]};
    }
    (void)fb_texts_read(
        throttle_bytes, throttles.len, l->texts + header_texts, throttle_count, &throttle_count);
    message->headers = l->headers;
    message->header_count = header_texts / 2;
    message->plan.throttle_keys = l->texts + header_texts;
    message->plan.throttle_key_count = throttle_count;
    return FILA_OK;
}

/* Steps to the state of message `seq`, if there is one. */
static fila_status read_state(struct loading *l, struct fq_stored_message *message)
{
    while (l->more_states && (uint64_t)sqlite3_column_int64(l->states, 0) < message->seq) {
        int code = sqlite3_step(l->states);
        l->more_states = code == SQLITE_ROW;
        if (!l->more_states && code != SQLITE_DONE) {
            return at_end(l, code);
        }
    }
    if (l->more_states && (uint64_t)sqlite3_column_int64(l->states, 0) == message->seq) {
        message->attempt_count = (uint32_t)sqlite3_column_int64(l->states, 1);
        message->lease_end = sqlite3_column_int64(l->states, 2);
        message->restated = true;
    }
    return FILA_OK;
}

/* To this boot's clock; what ended before it did so a moment after its start. */
static int64_t from_wall(const struct loading *l, int64_t wall)
{
    int64_t end = wall - l->what->to_wall;
    return end > 1 ? end : 1;
}

static fila_status load_message(struct loading *l, sqlite3_stmt *row)
{
    struct known_queue *queue = find_queue(l, (uint64_t)sqlite3_column_int64(row, 1));
    fila_view id = column(row, 2);
    struct fq_stored_message message = {
        .seq = (uint64_t)sqlite3_column_int64(row, 0),
        .attempt_count = (uint32_t)sqlite3_column_int64(row, 3),
        .lease_end = sqlite3_column_int64(row, 4),
        .plan =
            {.fairness_key = fila_view_of("default"),
             .weight = (uint32_t)sqlite3_column_int64(row, 5)},
    };
    fila_status status;
    if (!queue || id.len != sizeof message.id) {
        return damaged(l, queue ? "a message has no id" : "a message has no queue");
    }
    queue->used = true;
    memcpy(message.id, id.data, sizeof message.id);
    message.queue = (fila_view){queue->name, queue->name_len};
    if (sqlite3_column_type(row, 6) != SQLITE_NULL) {
        message.plan.fairness_key = column(row, 6);
    }
    message.payload = column(row, 9);
    l->next_seq = message.seq + 1;
    status = read_texts(l, column(row, 7), column(row, 8), &message);
    if (status == FILA_OK) {
        status = read_state(l, &message);
    }
    if (status == FILA_OK) {
        message.lease_end = message.lease_end ? from_wall(l, message.lease_end) : 0;
        status = fq_restore_message(l->what->engine, l->what->now, &message);
        status = status == FILA_OK ? FILA_OK : no_memory(l);
    }
    return status;
}

static fila_status load_messages(struct loading *l)
{
    fila_status status = FILA_OK;
    int code;
    l->messages = query(
        l,
        "SELECT seq,queue,id,attempts,lease_end,weight,fairness_key,throttle_keys,headers,payload "
        "FROM message ORDER BY seq");
    l->states = query(l, "SELECT seq,attempts,lease_end FROM state ORDER BY seq");
    if (!l->messages || !l->states) {
        return at_end(l, SQLITE_ERROR);
    }
    code = sqlite3_step(l->states);
    l->more_states = code == SQLITE_ROW;
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return at_end(l, code);
    }
    while (status == FILA_OK && (code = sqlite3_step(l->messages)) == SQLITE_ROW) {
        status = load_message(l, l->messages);
    }
    return status == FILA_OK ? at_end(l, code) : status;
}

static void free_loading(struct loading *l)
{
    for (size_t i = 0; i < l->queue_count; i++) {
        free(l->queues[i].name);
    }
    free(l->queues);
    free(l->texts);
    free(l->headers);
}

fila_status fb_store_load(
    struct fb_store *store,
    const struct fb_store_load *load,
    fila_error *reterr)
{
    struct loading l = {.store = store, .what = load, .reterr = reterr};
    fila_status status = load_queues(&l);
    if (status == FILA_OK) {
        status = load_settings(&l);
    }
    if (status == FILA_OK) {
        status = load_messages(&l);
    }
    (void)sqlite3_finalize(l.messages);
    (void)sqlite3_finalize(l.states);
    if (status == FILA_OK) {
        fq_restore_end(load->engine, l.next_seq);
        fb_store_trust(store);
        prune_queues(&l);
    }
    free_loading(&l);
    return status;
}
