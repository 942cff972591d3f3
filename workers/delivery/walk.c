/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/walk.h"

#include <stdlib.h>

enum {
    FIRST_CAPACITY = 256,
    LAST_CAPACITY = 1 << 18 /* 4 MiB windows full of messages of 36 bytes */
};

static struct fw_mark *mark(const struct fw_walk *walk, uint64_t index)
{
    return &walk->marks[index & (walk->capacity - 1)];
}

void fw_walk_open(struct fw_walk *walk, uint32_t slots, uint32_t bytes)
{
    walk->first = 0;
    walk->count = 0;
    walk->tail = 0;
    walk->edge = 0;
    walk->sum = 0;
    walk->recent = 0;
    walk->recent_sum = 0;
    walk->dropped_at = INT64_MIN;
    walk->slots = slots == 0 ? 1 : slots < LAST_CAPACITY / 2 ? slots : LAST_CAPACITY / 2;
    walk->bytes = bytes;
}

void fw_walk_fini(struct fw_walk *walk)
{
    free(walk->marks);
    *walk = (struct fw_walk){0};
}

bool fw_walk_next(const struct fw_walk *walk, int64_t *ret_at)
{
    if (walk->sum <= walk->bytes || walk->tail == 0 || walk->tail - 1 < walk->first) {
        return false;
    }
    *ret_at = mark(walk, walk->tail - 1)->at;
    return true;
}

uint32_t fw_walk_pipe(const struct fw_walk *walk)
{
    uint64_t messages = walk->edge - walk->tail;
    if (walk->sum <= walk->bytes && messages > 0 && walk->sum > 0) {
        messages = messages * walk->bytes / walk->sum;
    } else if (messages == 0 && walk->count > 0) {
        uint32_t size = mark(walk, walk->count - 1)->size;
        messages = walk->bytes / (size > 0 ? size : 1);
    }
    return walk->slots + (uint32_t)messages;
}

uint64_t fw_walk_since(struct fw_walk *walk, int64_t from)
{
    while (walk->recent < walk->count && mark(walk, walk->recent)->at < from) {
        walk->recent_sum -= mark(walk, walk->recent)->size;
        walk->recent++;
    }
    return walk->dropped_at >= from ? UINT64_MAX : walk->recent_sum;
}

static bool grow(struct fw_walk *walk)
{
    uint64_t capacity = walk->capacity == 0 ? FIRST_CAPACITY : walk->capacity * 2;
    if (capacity > LAST_CAPACITY) {
        return false;
    }
    struct fw_mark *marks = malloc(capacity * sizeof(*marks));
    if (marks == NULL) {
        return false;
    }
    for (uint64_t i = walk->first; i < walk->count; i++) {
        marks[i & (capacity - 1)] = *mark(walk, i);
    }
    free(walk->marks);
    walk->marks = marks;
    walk->capacity = capacity;
    return true;
}

/* Forgets the oldest mark; what the walk then cannot know it finds no more until it has passed. */
static void drop_oldest(struct fw_walk *walk)
{
    if (walk->recent == walk->first) {
        walk->dropped_at = mark(walk, walk->first)->at;
        walk->recent_sum -= mark(walk, walk->first)->size;
        walk->recent++;
    }
    if (walk->tail == walk->first && walk->tail < walk->edge) {
        walk->sum -= mark(walk, walk->tail)->size;
        walk->tail++;
    }
    walk->first++;
}

static void make_room(struct fw_walk *walk)
{
    while (walk->first + 1 < walk->tail && walk->first < walk->recent) {
        walk->first++;
    }
    if (walk->count - walk->first == walk->capacity && !grow(walk) && walk->capacity > 0) {
        drop_oldest(walk);
    }
}

/* One more message lies in the pipe's bytes. */
static void take_in(struct fw_walk *walk)
{
    if (walk->edge >= walk->first) {
        walk->sum += mark(walk, walk->edge)->size;
    } else { /* its mark was dropped, and with it all before */
        walk->sum = 0;
        walk->tail = walk->edge + 1;
    }
    walk->edge++;
}

void fw_walk_read(struct fw_walk *walk, int64_t at, uint32_t size)
{
    make_room(walk);
    if (walk->capacity == 0) {
        return;
    }
    *mark(walk, walk->count) = (struct fw_mark){.at = at, .size = size};
    walk->count++;
    walk->recent_sum += size;
    /* For the next message, `slots` of the pipe are itself and those just before it. */
    while (walk->edge + walk->slots <= walk->count) {
        take_in(walk);
    }
    while (walk->tail < walk->edge && walk->sum - mark(walk, walk->tail)->size > walk->bytes) {
        walk->sum -= mark(walk, walk->tail)->size;
        walk->tail++;
    }
}
