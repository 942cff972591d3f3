/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

#define FEW_HEADERS 32

static char *put(char *at, fila_view in, fila_view *ret_copy)
{
    if (in.len) {
        memcpy(at, in.data, in.len);
    }
    *ret_copy = fq_view(at, in.len);
    return at + in.len;
}

/* ---- Headers are a map: of equal keys the last one stays ---- */

static int by_key_then_place(const void *left, const void *right)
{
    const fila_header *const *a = left;
    const fila_header *const *b = right;
    int order = fq_compare((*a)->key, (*b)->key);
    return order ? order : (*a > *b) - (*a < *b);
}

static bool repeated_later(const fila_header *headers, size_t count, size_t at)
{
    for (size_t i = at + 1; i < count; i++) {
        if (fq_equal(headers[i].key, headers[at].key)) {
            return true;
        }
    }
    return false;
}

/* Clears keep[i] where a later header has the same key. */
static bool mark_repeated(const fila_header *headers, size_t count, bool *keep)
{
    const fila_header **sorted = malloc(count * sizeof *sorted);
    if (!sorted) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &headers[i];
    }
    qsort(sorted, count, sizeof *sorted, by_key_then_place);
    for (size_t i = 0; i + 1 < count; i++) {
        if (fq_equal(sorted[i]->key, sorted[i + 1]->key)) {
            keep[sorted[i] - headers] = false;
        }
    }
    free(sorted);
    return true;
}

/* An array of `count` flags, true for each header that stays; in `few` if that is enough. NULL
 * without memory. */
static bool *mark_headers(const fila_header *headers, size_t count, bool few[FEW_HEADERS])
{
    bool *keep = few;
    if (count <= FEW_HEADERS) {
        for (size_t i = 0; i < count; i++) {
            keep[i] = !repeated_later(headers, count, i);
        }
        return keep;
    }
    keep = malloc(count);
    if (!keep) {
        return NULL;
    }
    memset(keep, true, count);
    if (!mark_repeated(headers, count, keep)) {
        free(keep);
        return NULL;
    }
    return keep;
}

/* ---- Messages ---- */

static struct fq_message *new_marked(const struct fq_enqueue *in, const bool *keep)
{
    size_t count = 0;
    size_t bytes = in->queue.len + in->payload.len;
    struct fq_message *message;
    char *at;
    for (size_t i = 0; i < in->header_count; i++) {
        if (keep[i]) {
            count++;
            bytes += in->headers[i].key.len + in->headers[i].value.len;
        }
    }
    message = malloc(sizeof *message + count * sizeof(fila_header) + bytes);
    if (!message) {
        return NULL;
    }
    memset(message, 0, sizeof *message);
    atomic_init(&message->refs, 1);
    message->weight = 1;
    at = (char *)&message->headers[count];
    for (size_t i = 0; i < in->header_count; i++) {
        if (keep[i]) {
            fila_header *copy = &message->headers[message->header_count++];
            at = put(at, in->headers[i].key, &copy->key);
            at = put(at, in->headers[i].value, &copy->value);
        }
    }
    at = put(at, in->queue, &message->queue_name);
    (void)put(at, in->payload, &message->payload);
    return message;
}

struct fq_message *fq_message_new(const struct fq_enqueue *in)
{
    bool few[FEW_HEADERS];
    bool *keep = mark_headers(in->headers, in->header_count, few);
    struct fq_message *message = keep ? new_marked(in, keep) : NULL;
    if (keep != few) {
        free(keep);
    }
    return message;
}

void fq_message_unref(struct fq_message *message)
{
    if (message && atomic_fetch_sub_explicit(&message->refs, 1, memory_order_acq_rel) == 1) {
        free(message->extra);
        free(message);
    }
}

void fq_message_fields(const struct fq_message *message, struct fila_message_fields *ret_fields)
{
    const struct fq_extra *extra = message->extra;
    *ret_fields = (struct fila_message_fields){
        .id = fq_view(message->id_text, FQ_ID_SIZE - 1),
        .queue = message->queue_name,
        .fairness_key = fq_fairness_key(message),
        .payload = message->payload,
        .weight = message->weight,
        .attempt_count = message->attempt_count,
        .throttle_keys = extra ? extra->throttle_keys : NULL,
        .throttle_key_count = extra ? extra->throttle_key_count : 0,
        .headers = message->headers,
        .header_count = message->header_count,
    };
}

static struct fq_extra *extra_new(fila_view key, const fila_view *throttles, size_t count)
{
    size_t bytes = key.len;
    struct fq_extra *extra;
    char *at;
    for (size_t i = 0; i < count; i++) {
        bytes += throttles[i].len;
    }
    extra = malloc(sizeof *extra + count * sizeof(fila_view) + bytes);
    if (!extra) {
        return NULL;
    }
    extra->throttle_key_count = count;
    at = put((char *)&extra->throttle_keys[count], key, &extra->fairness_key);
    for (size_t i = 0; i < count; i++) {
        at = put(at, throttles[i], &extra->throttle_keys[i]);
    }
    return extra;
}

bool fq_message_plan(struct fq_message *message, const struct fq_plan *plan)
{
    message->weight = plan->weight;
    if (plan->throttle_key_count == 0 && fq_equal(plan->fairness_key, fq_fairness_key(message))) {
        return true;
    }
    free(message->extra);
    message->extra = extra_new(plan->fairness_key, plan->throttle_keys, plan->throttle_key_count);
    return message->extra != NULL;
}

struct fq_message *fq_message_moved(const struct fq_message *message, fila_view queue_name)
{
    struct fq_enqueue in = {queue_name, message->headers, message->header_count, message->payload};
    struct fq_message *moved = fq_message_new(&in);
    const struct fq_extra *extra = message->extra;
    if (!moved) {
        return NULL;
    }
    memcpy(moved->id, message->id, sizeof moved->id);
    memcpy(moved->id_text, message->id_text, sizeof moved->id_text);
    moved->seq = message->seq;
    moved->attempt_count = message->attempt_count;
    moved->group = message->group;
    moved->change = message->change;
    moved->restated = message->restated;
    moved->weight = message->weight;
    if (extra) {
        moved->extra =
            extra_new(extra->fairness_key, extra->throttle_keys, extra->throttle_key_count);
        if (!moved->extra) {
            fq_message_unref(moved);
            return NULL;
        }
    }
    return moved;
}
