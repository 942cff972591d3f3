/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/heap.h"

#include <assert.h>
#include <stdlib.h>

static bool before(const struct fw_timer *a, const struct fw_timer *b)
{
    return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static void put(struct fw_heap *heap, uint32_t index, struct fw_timer *timer)
{
    heap->timers[index] = timer;
    timer->place = index + 1;
}

static void rise(struct fw_heap *heap, uint32_t index, struct fw_timer *timer)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!before(timer, heap->timers[parent])) {
            break;
        }
        put(heap, index, heap->timers[parent]);
        index = parent;
    }
    put(heap, index, timer);
}

static void sink(struct fw_heap *heap, uint32_t index, struct fw_timer *timer)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && before(heap->timers[child + 1], heap->timers[child])) {
            child++;
        }
        if (!before(heap->timers[child], timer)) {
            break;
        }
        put(heap, index, heap->timers[child]);
        index = child;
    }
    put(heap, index, timer);
}

bool fw_heap_reserve(struct fw_heap *heap, uint32_t count)
{
    if (count <= heap->capacity) {
        return true;
    }
    uint32_t capacity = heap->capacity == 0 ? 64 : heap->capacity * 2;
    if (capacity < count) {
        capacity = count;
    }
    struct fw_timer **timers = realloc(heap->timers, capacity * sizeof(*timers));
    if (timers == NULL) {
        return false;
    }
    heap->timers = timers;
    heap->capacity = capacity;
    return true;
}

void fw_heap_fini(struct fw_heap *heap)
{
    free(heap->timers);
    *heap = (struct fw_heap){0};
}

void fw_heap_set(struct fw_heap *heap, struct fw_timer *timer, int64_t due)
{
    fw_heap_clear(heap, timer);
    assert(heap->count < heap->capacity);
    timer->due = due;
    rise(heap, heap->count++, timer);
}

void fw_heap_clear(struct fw_heap *heap, struct fw_timer *timer)
{
    if (timer->place == 0) {
        return;
    }
    uint32_t index = timer->place - 1;
    struct fw_timer *last = heap->timers[--heap->count];
    timer->place = 0;
    if (last == timer) {
        return;
    }
    if (index > 0 && before(last, heap->timers[(index - 1) / 2])) {
        rise(heap, index, last);
    } else {
        sink(heap, index, last);
    }
}
