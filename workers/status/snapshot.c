/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/snapshot.h"

#include <stdlib.h>

struct trouble_row {
    const char *name;
    enum fw_event event;
    bool unready;
};

static const struct trouble_row TROUBLES[FW_TROUBLE_COUNT] = {
    [FW_TROUBLE_STREAM_DOWN] = {"stream_down", FW_EVENT_STREAM_END, true},
    [FW_TROUBLE_QUEUE_MISSING] = {"queue_missing", FW_EVENT_QUEUE_MISSING, true},
    [FW_TROUBLE_BREAKER_OPEN] = {"breaker_open", FW_EVENT_BREAKER_OPEN, true},
    [FW_TROUBLE_VT_SHORT] = {"visibility_timeout_short", FW_EVENT_VT_SHORT, true},
    [FW_TROUBLE_DLQ_REFUSED] = {"dead_letter_refused", FW_EVENT_DLQ_REFUSED, true},
    [FW_TROUBLE_STUCK] = {"handler_stuck", FW_EVENT_HANDLER_STUCK, false},
    [FW_TROUBLE_GIVEN_UP] = {"handler_given_up", FW_EVENT_CHILDREN_GIVEN_UP, true},
    [FW_TROUBLE_PAUSED] = {"paused", FW_EVENT_QUEUE_PAUSED, true},
    [FW_TROUBLE_FAILING] = {"handler_failing", FW_EVENT_HANDLER_FAILING, false},
    [FW_TROUBLE_OVERLEASED] = {"overleased", FW_EVENT_OVERLEASED, false},
};

const char *fw_trouble_name(enum fw_trouble trouble)
{
    return TROUBLES[trouble].name;
}

enum fw_event fw_trouble_event(enum fw_trouble trouble)
{
    return TROUBLES[trouble].event;
}

bool fw_trouble_unready(enum fw_trouble trouble)
{
    return TROUBLES[trouble].unready;
}

struct fw_snapshot *fw_snapshot_new(void)
{
    return calloc(1, sizeof(struct fw_snapshot));
}

void fw_snapshot_free(struct fw_snapshot *snapshot)
{
    if (snapshot) {
        fw_arena_free(&snapshot->memory);
        free(snapshot);
    }
}

static void add_stats(struct fw_delivery_stats *sum, const struct fw_delivery_stats *part)
{
    sum->received += part->received;
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        sum->finished[i] += part->finished[i];
    }
    for (int i = 0; i < FW_CAUSE_COUNT; i++) {
        sum->failures[i] += part->failures[i];
    }
    sum->held += part->held;
    sum->held_bytes += part->held_bytes;
    sum->running += part->running;
    sum->prefetched += part->prefetched;
    sum->ready += part->ready;
    sum->retry_waiting += part->retry_waiting;
    sum->settling += part->settling;
    sum->streams_up += part->streams_up;
}

/* The first one that is served says what the sum is called. */
static void merge(struct fw_queue_status *sum, const struct fw_queue_status *part)
{
    struct fw_queue_status first = *sum;
    if (sum->gone) {
        *sum = *part;
        part = &first;
    }
    add_stats(&sum->stats, &part->stats);
    fw_queue_counters_add(&sum->counters, &part->counters);
    sum->concurrency += part->concurrency;
    sum->streams += part->streams;
    sum->stuck += part->stuck;
    for (int t = 0; t < FW_TROUBLE_COUNT; t++) {
        if (part->troubles[t].since) {
            sum->troubles[t] = part->troubles[t];
        }
    }
}

/* Of queue and handler: most that differ are told apart by it. */
static uint64_t hash_of(const struct fw_queue_status *q)
{
    uint64_t hash = UINT64_C(1469598103934665603);
    for (const char *p = q->queue; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
    }
    for (const char *p = q->handler; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
    }
    return hash;
}

/* One of the list, or `count`. */
static uint32_t find(
    const struct fw_queue_status *const *list,
    const uint64_t *hashes,
    uint32_t count,
    const struct fw_queue_status *like)
{
    uint32_t i = 0;
    while (i < count && !(hashes[i] == hashes[count] && strcmp(list[i]->queue, like->queue) == 0 &&
                          strcmp(list[i]->handler, like->handler) == 0)) {
        i++;
    }
    return i;
}

const struct fw_queue_status **fw_snapshot_merged(
    const struct fw_snapshot *snapshot,
    struct fw_arena *memory,
    uint32_t *ret_count)
{
    uint32_t all = snapshot->queue_count;
    const struct fw_queue_status **list = fw_arena_alloc(memory, all + 1, sizeof(*list));
    uint64_t *hashes = fw_arena_alloc(memory, all + 1, sizeof *hashes);
    uint32_t count = 0;
    for (uint32_t i = 0; list && hashes && i < all; i++) {
        const struct fw_queue_status *q = &snapshot->queues[i];
        hashes[count] = hash_of(q);
        uint32_t same = find(list, hashes, count, q);
        if (same == count) {
            list[count++] = q;
            continue;
        }
        struct fw_queue_status *sum = fw_arena_alloc(memory, 1, sizeof *sum);
        if (sum) {
            *sum = *list[same];
            merge(sum, q);
            list[same] = sum;
        }
    }
    *ret_count = count;
    return list;
}

/* Bytes of the well-formed UTF-8 character that starts there, 0 = none does. */
static size_t character(const unsigned char *p, size_t left)
{
    static const unsigned SMALLEST[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    if (len == 0 || len > left || p[0] > 0xf4) {
        return 0;
    }
    unsigned code = len == 1 ? p[0] : p[0] & (0x7fU >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (p[i] & 0x3fU);
    }
    if (len > 1 && (code < SMALLEST[len] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)) {
        return 0;
    }
    /* Controls, and what turns the reading direction, become marks too. */
    bool shown = code >= 0x20 && !(code >= 0x7f && code < 0xa0) &&
                 !(code >= 0x202a && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069);
    return shown ? len : 0;
}

/* Bytes from the start that any text may have as they are. */
static size_t plain(const unsigned char *p, size_t len)
{
    size_t i = 0;
    while (i < len && p[i] >= 0x20 && p[i] < 0x7f) {
        i++;
    }
    return i;
}

const char *fw_snapshot_text(struct fw_snapshot *snapshot, fila_view text, size_t limit)
{
    const unsigned char *p = (const unsigned char *)text.data;
    if (text.len <= limit && plain(p, text.len) == text.len) {
        return fw_arena_copy(&snapshot->memory, text.data, text.len);
    }
    char *copy = fw_arena_alloc(&snapshot->memory, 1, (text.len < limit ? text.len : limit) + 1);
    size_t len = 0;
    if (!copy) {
        return "";
    }
    for (size_t i = 0; i < text.len;) {
        size_t n = character(p + i, text.len - i);
        if (len + (n ? n : 1) > limit) {
            break;
        }
        if (n) {
            memcpy(copy + len, p + i, n);
        } else {
            copy[len] = p[i] == '\n' || p[i] == '\t' ? ' ' : '?';
        }
        len += n ? n : 1;
        i += n ? n : 1;
    }
    return copy;
}
