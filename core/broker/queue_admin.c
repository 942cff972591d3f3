/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

/* ---- Create and delete ---- */

fila_view fq_dlq_name(fila_view parent, char **ret_text)
{
    *ret_text = malloc(parent.len + FQ_DLQ_SUFFIX_LEN);
    if (!*ret_text) {
        return fq_view(NULL, 0);
    }
    if (parent.len) {
        memcpy(*ret_text, parent.data, parent.len);
    }
    memcpy(*ret_text + parent.len, FQ_DLQ_SUFFIX, FQ_DLQ_SUFFIX_LEN);
    return fq_view(*ret_text, parent.len + FQ_DLQ_SUFFIX_LEN);
}

/* The queue of that name with its term set; on failure nothing is left behind. */
static struct fq_queue *prepare(struct fq_engine *engine, fila_view name, int64_t visibility)
{
    struct fq_queue *queue = fq_queue_get(engine, name);
    if (queue && !queue->exists && !fq_queue_set_term(engine, queue, visibility)) {
        fq_queue_drop(engine, queue);
        return NULL;
    }
    return queue;
}

int64_t fq_visibility_of(const struct fq_queue_options *options)
{
    int64_t wanted = options ? options->visibility_timeout : 0;
    if (wanted <= 0) {
        return FQ_VISIBILITY_DEFAULT;
    }
    return wanted < INT64_MAX / 2 ? wanted : INT64_MAX / 2;
}

static fila_status create(
    struct fq_engine *engine,
    fila_view name,
    const struct fq_queue_options *options)
{
    char *text = NULL;
    struct fq_queue *dlq = NULL;
    struct fq_queue *queue = prepare(engine, name, fq_visibility_of(options));
    fila_status status = FILA_NO_MEMORY;
    if (!queue) {
        return FILA_NO_MEMORY;
    }
    if (!fq_is_dlq(name)) {
        fila_view companion = fq_dlq_name(name, &text);
        dlq = text ? prepare(engine, companion, FQ_VISIBILITY_DEFAULT) : NULL;
        if (!dlq) {
            goto cleanup;
        }
        if (!dlq->exists) {
            dlq->exists = true;
            fq_note_queue(engine, dlq, NULL);
        }
    }
    queue->exists = true;
    queue->scripts = options ? options->scripts : NULL;
    fq_note_queue(engine, queue, options);
    status = FILA_OK;
cleanup:
    fq_queue_drop(engine, queue);
    free(text);
    return status;
}

bool fq_exists(const struct fq_engine *engine, fila_view name)
{
    const struct fq_queue *queue = fq_queue_find(engine, name);
    return queue && queue->exists;
}

fila_status fq_create_queue(
    struct fq_engine *engine,
    int64_t now,
    fila_view name,
    const struct fq_queue_options *options)
{
    fila_status status = fq_exists(engine, name) ? FILA_QUEUE_EXISTS
                                                 : create(engine, name, options);
    fq_turn(engine, now);
    return status;
}

static void forget_pending(struct fq_engine *engine, struct fq_queue *queue)
{
    while (queue->round || queue->waiting) {
        struct fq_message *message = (queue->round ? queue->round : queue->waiting)->fifo;
        fq_pull(engine, message);
        fq_forget(engine, message);
    }
}

static void delete_one(struct fq_engine *engine, struct fq_queue *queue)
{
    const struct fq_hooks *hooks = &engine->config.hooks;
    forget_pending(engine, queue);
    if (queue->scripts && hooks->release) {
        hooks->release(hooks->user, queue->scripts);
    }
    queue->scripts = NULL;
    queue->exists = false;
    queue->incarnation++;
    queue->in_flight = 0;
    /* Without memory for a new term the old visibility timeout stays: it cannot fail, since the
     * default term always exists. */
    (void)fq_queue_set_term(engine, queue, FQ_VISIBILITY_DEFAULT);
    fq_note_queue(engine, queue, NULL);
    fq_place(engine, queue);
    fq_queue_drop(engine, queue);
}

fila_status fq_delete_queue(struct fq_engine *engine, int64_t now, fila_view name)
{
    struct fq_queue *queue = fq_queue_find(engine, name);
    fila_status status = FILA_QUEUE_NOT_FOUND;
    char *text = NULL;
    if (queue && queue->exists) {
        fila_view companion = fq_dlq_name(name, &text);
        struct fq_queue *dlq = text ? fq_queue_find(engine, companion) : NULL;
        status = text ? FILA_OK : FILA_NO_MEMORY;
        if (status == FILA_OK) {
            if (dlq && dlq->exists && !fq_is_dlq(name)) {
                delete_one(engine, dlq);
            }
            delete_one(engine, queue);
        }
        free(text);
    }
    fq_turn(engine, now);
    return status;
}

/* ---- Redrive ---- */

static int by_storage_order(const void *left, const void *right)
{
    const struct fq_message *a = *(struct fq_message *const *)left;
    const struct fq_message *b = *(struct fq_message *const *)right;
    int order = fq_compare(fq_fairness_key(a), fq_fairness_key(b));
    return order ? order : (a->seq > b->seq) - (a->seq < b->seq);
}

static size_t collect(struct fq_message **at, size_t count, const struct fq_key *keys)
{
    const struct fq_key *key;
    struct fq_message *message;
    DL_FOREACH(keys, key)
    {
        DL_FOREACH(key->fifo, message)
        {
            at[count++] = message;
        }
    }
    return count;
}

/* False without memory. */
static bool move_to_parent(
    struct fq_engine *engine,
    struct fq_message *message,
    struct fq_queue *parent)
{
    struct fq_message *moved = fq_message_moved(message, fq_queue_name(parent));
    struct fq_key *key = moved ? fq_key_get(engine, parent, fq_fairness_key(moved)) : NULL;
    if (!key) {
        fq_message_unref(moved);
        return false;
    }
    fq_pull(engine, message);
    fq_forget(engine, message);
    moved->attempt_count = 0;
    fq_admit(engine, moved);
    fq_push(engine, key, moved);
    fq_note_move(engine, moved);
    return true;
}

static fila_status redrive(
    struct fq_engine *engine,
    struct fq_queue *dlq,
    struct fq_queue *parent,
    uint64_t count,
    uint64_t *ret_redriven)
{
    size_t pending = dlq->pending;
    size_t moved = 0;
    struct fq_message **list = malloc((pending + 1) * sizeof *list);
    if (!list) {
        return FILA_NO_MEMORY;
    }
    pending = collect(list, 0, dlq->round);
    pending = collect(list, pending, dlq->waiting);
    qsort(list, pending, sizeof(struct fq_message *), by_storage_order);
    if (count == 0 || count > pending) {
        count = pending;
    }
    while (moved < count && move_to_parent(engine, list[moved], parent)) {
        moved++;
    }
    free(list);
    fq_place(engine, dlq);
    fq_place(engine, parent);
    *ret_redriven = moved;
    return moved == 0 && count > 0 ? FILA_NO_MEMORY : FILA_OK;
}

fila_status fq_redrive(
    struct fq_engine *engine,
    int64_t now,
    fila_view dlq_name_given,
    uint64_t count,
    uint64_t *ret_redriven)
{
    struct fq_queue *dlq = fq_queue_find(engine, dlq_name_given);
    struct fq_queue *parent = NULL;
    fila_status status;
    if (fq_is_dlq(dlq_name_given)) {
        fila_view name = fq_view(dlq_name_given.data, dlq_name_given.len - FQ_DLQ_SUFFIX_LEN);
        parent = fq_queue_find(engine, name);
    }
    if (!dlq || !dlq->exists) {
        status = FILA_QUEUE_NOT_FOUND;
    } else if (!fq_is_dlq(dlq_name_given)) {
        status = FILA_INVALID_ARGUMENT;
    } else if (!parent || !parent->exists) {
        status = FILA_PARENT_NOT_FOUND;
    } else {
        status = redrive(engine, dlq, parent, count, ret_redriven);
    }
    fq_turn(engine, now);
    return status;
}

/* ---- Statistics ---- */

static int by_key(const void *left, const void *right)
{
    return fq_compare(((const fila_key_stats *)left)->key, ((const fila_key_stats *)right)->key);
}

static int by_throttle(const void *left, const void *right)
{
    return fq_compare(
        ((const fila_throttle_stats *)left)->key, ((const fila_throttle_stats *)right)->key);
}

static int by_queue(const void *left, const void *right)
{
    return fq_compare(
        ((const fila_queue_info *)left)->name, ((const fila_queue_info *)right)->name);
}

static fila_view copy_text(char **at, const char *data, size_t len)
{
    fila_view copy = {*at, len};
    memcpy(*at, data, len);
    *at += len;
    return copy;
}

static size_t key_text(const struct fq_key *keys)
{
    const struct fq_key *key;
    size_t bytes = 0;
    DL_FOREACH(keys, key)
    {
        bytes += key->name_len;
    }
    return bytes;
}

static fila_key_stats *fill_keys(fila_key_stats *row, const struct fq_key *keys, char **at)
{
    const struct fq_key *key;
    DL_FOREACH(keys, key)
    {
        *row++ = (fila_key_stats){
            .key = copy_text(at, key->name, key->name_len),
            .pending_count = key->pending,
            .current_deficit = key->deficit,
            .weight = key->weight,
        };
    }
    return row;
}

static size_t throttle_text(const struct fq_engine *engine)
{
    const struct fb_node *node = fb_table_next(&engine->buckets, NULL);
    size_t bytes = 0;
    for (; node; node = fb_table_next(&engine->buckets, node)) {
        bytes += ((const struct fq_bucket *)node)->name_len;
    }
    return bytes;
}

static void fill_throttles(
    struct fq_engine *engine,
    int64_t now,
    fila_throttle_stats *row,
    char **at)
{
    struct fb_node *node = fb_table_next(&engine->buckets, NULL);
    for (; node; node = fb_table_next(&engine->buckets, node)) {
        struct fq_bucket *bucket = (struct fq_bucket *)node;
        fq_bucket_fill(bucket, now);
        *row++ = (fila_throttle_stats){
            .key = copy_text(at, bucket->name, bucket->name_len),
            .tokens = bucket->tokens,
            .rate_per_second = bucket->rate,
            .burst = bucket->burst,
        };
    }
}

static fila_status fill_stats(
    struct fq_engine *engine,
    int64_t now,
    const struct fq_queue *queue,
    fila_queue_stats *ret_stats,
    void **ret_block)
{
    size_t key_bytes = queue->keys * sizeof(fila_key_stats);
    size_t throttles = engine->buckets.count;
    size_t throttle_bytes = throttles * sizeof(fila_throttle_stats);
    char *block = malloc(
        key_bytes + throttle_bytes + key_text(queue->round) + key_text(queue->waiting) +
        throttle_text(engine) + 1);
    fila_key_stats *keys = (fila_key_stats *)(void *)block;
    fila_throttle_stats *buckets;
    char *at;
    if (!block) {
        return FILA_NO_MEMORY;
    }
    buckets = (fila_throttle_stats *)(void *)(block + key_bytes);
    at = block + key_bytes + throttle_bytes;
    (void)fill_keys(fill_keys(keys, queue->round, &at), queue->waiting, &at);
    fill_throttles(engine, now, buckets, &at);
    qsort(keys, queue->keys, sizeof *keys, by_key);
    qsort(buckets, throttles, sizeof *buckets, by_throttle);
    *ret_stats = (fila_queue_stats){
        .depth = queue->pending + queue->in_flight,
        .in_flight = queue->in_flight,
        .active_fairness_keys = queue->keys,
        .active_consumers = queue->consumers,
        .quantum = engine->config.quantum,
        .keys = keys,
        .key_count = queue->keys,
        .throttles = buckets,
        .throttle_count = throttles,
    };
    *ret_block = block;
    return FILA_OK;
}

fila_status fq_get_stats(
    struct fq_engine *engine,
    int64_t now,
    fila_view name,
    fila_reply *ret_reply,
    void **ret_block)
{
    const struct fq_queue *queue = fq_queue_find(engine, name);
    fila_status status = FILA_QUEUE_NOT_FOUND;
    if (queue && queue->exists) {
        status = fill_stats(engine, now, queue, &ret_reply->as.stats, ret_block);
    }
    fq_turn(engine, now);
    return status;
}

static fila_status list_queues(
    const struct fq_engine *engine,
    fila_reply *ret_reply,
    void **ret_block)
{
    struct fb_node *node;
    size_t count = 0;
    size_t text = 0;
    fila_queue_info *rows;
    char *at;
    for (node = fb_table_next(&engine->queues, NULL); node;
         node = fb_table_next(&engine->queues, node)) {
        const struct fq_queue *queue = (const struct fq_queue *)node;
        count += queue->exists;
        text += queue->exists ? queue->name_len : 0;
    }
    rows = malloc(count * sizeof *rows + text + 1);
    if (!rows) {
        return FILA_NO_MEMORY;
    }
    at = (char *)&rows[count];
    count = 0;
    for (node = fb_table_next(&engine->queues, NULL); node;
         node = fb_table_next(&engine->queues, node)) {
        const struct fq_queue *queue = (const struct fq_queue *)node;
        if (queue->exists) {
            rows[count++] = (fila_queue_info){
                .name = copy_text(&at, queue->name, queue->name_len),
                .depth = queue->pending + queue->in_flight,
                .in_flight = queue->in_flight,
                .active_consumers = queue->consumers,
            };
        }
    }
    qsort(rows, count, sizeof *rows, by_queue);
    ret_reply->as.list_queues.queues = rows;
    ret_reply->as.list_queues.count = count;
    ret_reply->as.list_queues.cluster_node_count = 0;
    *ret_block = rows;
    return FILA_OK;
}

fila_status fq_list_queues(
    struct fq_engine *engine,
    int64_t now,
    fila_reply *ret_reply,
    void **ret_block)
{
    fila_status status = list_queues(engine, ret_reply, ret_block);
    fq_turn(engine, now);
    return status;
}
