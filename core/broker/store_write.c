/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "store_internal.h"

#include <stdlib.h>

bool fb_store_step(struct fb_store *store, enum fb_statement which)
{
    sqlite3_stmt *statement = store->statements[which];
    int code = sqlite3_step(statement);
    return sqlite3_reset(statement) == SQLITE_OK && code == SQLITE_DONE;
}

static void bind_number(struct fb_store *store, enum fb_statement which, int at, int64_t number)
{
    (void)sqlite3_bind_int64(store->statements[which], at, number);
}

/* A text that may be empty; what is bound must live until the step. */
static void bind_text(struct fb_store *store, enum fb_statement which, int at, fila_view text)
{
    (void)sqlite3_bind_text64(
        store->statements[which], at, text.len ? text.data : "", text.len, SQLITE_STATIC,
        SQLITE_UTF8);
}

static void bind_script(struct fb_store *store, enum fb_statement which, int at, fila_view text)
{
    if (text.len) {
        bind_text(store, which, at, text);
    } else {
        (void)sqlite3_bind_null(store->statements[which], at);
    }
}

static void bind_blob(
    struct fb_store *store,
    enum fb_statement which,
    int at,
    const void *data,
    size_t len)
{
    (void)sqlite3_bind_blob64(store->statements[which], at, len ? data : "", len, SQLITE_STATIC);
}

/* ---- Messages ---- */

/* Room for headers and throttle keys; NULL without memory. */
static uint8_t *scratch(struct fb_store *store, size_t size)
{
    if (store->scratch_size < size) {
        uint8_t *more = realloc(store->scratch, size);
        if (!more) {
            return NULL;
        }
        store->scratch = more;
        store->scratch_size = size;
    }
    return store->scratch;
}

static size_t headers_size(const struct fila_message_fields *fields)
{
    size_t size = 0;
    for (size_t i = 0; i < fields->header_count; i++) {
        const fila_view pair[2] = {fields->headers[i].key, fields->headers[i].value};
        size += fb_texts_size(pair, 2);
    }
    return size;
}

static void headers_write(const struct fila_message_fields *fields, uint8_t *to)
{
    for (size_t i = 0; i < fields->header_count; i++) {
        const fila_view pair[2] = {fields->headers[i].key, fields->headers[i].value};
        fb_texts_write(pair, 2, to);
        to += fb_texts_size(pair, 2);
    }
}

static bool bind_texts(struct fb_store *store, const struct fila_message_fields *fields)
{
    sqlite3_stmt *put = store->statements[FB_PUT];
    size_t throttles = fb_texts_size(fields->throttle_keys, fields->throttle_key_count);
    size_t headers = headers_size(fields);
    uint8_t *at = throttles + headers ? scratch(store, throttles + headers) : NULL;
    if (throttles + headers && !at) {
        return false;
    }
    (void)sqlite3_bind_null(put, 8);
    (void)sqlite3_bind_null(put, 9);
    if (throttles) {
        fb_texts_write(fields->throttle_keys, fields->throttle_key_count, at);
        bind_blob(store, FB_PUT, 8, at, throttles);
    }
    if (headers) {
        headers_write(fields, at + throttles);
        bind_blob(store, FB_PUT, 9, at + throttles, headers);
    }
    return true;
}

static bool put(struct fb_store *store, const struct fq_change *change, int64_t lease_end)
{
    struct fila_message_fields fields;
    fq_stored_fields(change->message, &fields);
    bind_number(store, FB_PUT, 1, (int64_t)change->seq);
    bind_number(store, FB_PUT, 2, (int64_t)change->queue);
    bind_blob(store, FB_PUT, 3, fq_stored_id(change->message), 16);
    bind_number(store, FB_PUT, 4, change->attempt_count);
    bind_number(store, FB_PUT, 5, lease_end);
    bind_number(store, FB_PUT, 6, fields.weight);
    if (fields.fairness_key.len == 7 && memcmp(fields.fairness_key.data, "default", 7) == 0) {
        (void)sqlite3_bind_null(store->statements[FB_PUT], 7);
    } else {
        bind_text(store, FB_PUT, 7, fields.fairness_key);
    }
    if (!bind_texts(store, &fields)) {
        return false;
    }
    bind_blob(store, FB_PUT, 10, fields.payload.data, fields.payload.len);
    return fb_store_step(store, FB_PUT);
}

static bool settle(struct fb_store *store, const struct fq_change *change)
{
    bind_number(store, FB_DROP_MESSAGE, 1, (int64_t)change->seq);
    bind_number(store, FB_DROP_STATE, 1, (int64_t)change->seq);
    return fb_store_step(store, FB_DROP_MESSAGE) &&
           (!change->was_restated || fb_store_step(store, FB_DROP_STATE));
}

static bool restate(struct fb_store *store, const struct fq_change *change, int64_t lease_end)
{
    bind_number(store, FB_RESTATE, 1, (int64_t)change->seq);
    bind_number(store, FB_RESTATE, 2, change->attempt_count);
    bind_number(store, FB_RESTATE, 3, lease_end);
    return fb_store_step(store, FB_RESTATE);
}

static bool move(struct fb_store *store, const struct fq_change *change)
{
    bind_number(store, FB_MOVE, 1, (int64_t)change->seq);
    bind_number(store, FB_MOVE, 2, (int64_t)change->queue);
    return fb_store_step(store, FB_MOVE);
}

static bool write_message(struct fb_store *store, const struct fq_change *change, int64_t to_wall)
{
    int64_t lease_end = change->lease_end ? change->lease_end + to_wall : 0;
    if (change->settled) {
        return settle(store, change);
    }
    if (change->put) {
        return put(store, change, lease_end);
    }
    return (!change->restated || restate(store, change, lease_end)) &&
           (!change->moved || move(store, change));
}

/* ---- Queues and settings ---- */

static bool write_queue(struct fb_store *store, const struct fq_change *change)
{
    const struct fq_admin_change *admin = change->admin;
    if (change->settled) {
        bind_number(store, FB_DROP_QUEUE, 1, (int64_t)change->queue);
        return fb_store_step(store, FB_DROP_QUEUE);
    }
    bind_number(store, FB_PUT_QUEUE, 1, (int64_t)change->queue);
    bind_text(store, FB_PUT_QUEUE, 2, admin->name);
    bind_number(store, FB_PUT_QUEUE, 3, admin->visibility_timeout);
    bind_script(store, FB_PUT_QUEUE, 4, admin->on_enqueue);
    bind_script(store, FB_PUT_QUEUE, 5, admin->on_failure);
    return fb_store_step(store, FB_PUT_QUEUE);
}

static bool write_setting(struct fb_store *store, const struct fq_change *change)
{
    const struct fq_admin_change *admin = change->admin;
    enum fb_statement which = change->settled ? FB_DROP_SETTING : FB_PUT_SETTING;
    bind_text(store, which, 1, admin->name);
    if (!change->settled) {
        bind_blob(store, which, 2, admin->value.data, admin->value.len);
    }
    return fb_store_step(store, which);
}

/* ---- Groups ---- */

static bool write_change(struct fb_store *store, const struct fq_change *change, int64_t to_wall)
{
    switch (change->kind) {
    case FQ_CHANGE_MESSAGE:
        return write_message(store, change, to_wall);
    case FQ_CHANGE_QUEUE:
        return write_queue(store, change);
    case FQ_CHANGE_SETTING:
        return write_setting(store, change);
    case FQ_CHANGE_NONE:
    default:
        return true;
    }
}

static bool write_all(struct fb_store *store, const struct fq_group *group, int64_t to_wall)
{
    for (size_t i = 0; i < group->count; i++) {
        if (!write_change(store, &group->list[i], to_wall)) {
            return false;
        }
    }
    return true;
}

static void roll_back(struct fb_store *store)
{
    if (!sqlite3_get_autocommit(store->db)) {
        (void)fb_store_step(store, FB_ROLLBACK);
    }
}

static bool write_group(struct fb_store *store, const struct fq_group *group, int64_t to_wall)
{
    return fb_store_step(store, FB_BEGIN) && write_all(store, group, to_wall) &&
           fb_store_step(store, FB_COMMIT);
}

/* Once more with the reserve, if the disk is full. */
static bool write_again(struct fb_store *store, const struct fq_group *group, int64_t to_wall)
{
    if (sqlite3_errcode(store->db) != SQLITE_FULL || store->low) {
        return false;
    }
    roll_back(store);
    fb_reserve_use(store);
    return write_group(store, group, to_wall);
}

fila_status fb_store_write(
    struct fb_store *store,
    const struct fq_group *group,
    int64_t to_wall,
    fila_error *reterr)
{
    fila_status status;
    if (group->incomplete) {
        return fila_fail(reterr, FILA_NO_MEMORY, "%s: no memory to write", store->path);
    }
    status = fb_store_check_place(store, reterr);
    if (status != FILA_OK) {
        return status;
    }
    if (write_group(store, group, to_wall) || write_again(store, group, to_wall)) {
        if (store->low) { /* before anybody else takes the room for it */
            (void)fb_store_checkpoint(store);
        }
        return FILA_OK;
    }
    status = fb_store_fail(store, "write", reterr);
    roll_back(store);
    return status;
}
