/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Timers of deliveries: a binary heap of pointers to timers that live inside their owners. Setting
 * and clearing are O(log n). Room is reserved when a delivery comes in, so that arming cannot fail
 * later. Thread: the engine's.
 */
#ifndef FW_DELIVERY_HEAP_H
#define FW_DELIVERY_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct fw_timer {
    int64_t due;
    uint64_t seq;   /* unique: the order among equal times */
    uint32_t place; /* 1 + index in the heap; 0 = not set */
};

struct fw_heap {
    struct fw_timer **timers;
    uint32_t count;
    uint32_t capacity;
};

/* Makes room for `count` timers in all; false without memory. */
bool fw_heap_reserve(struct fw_heap *heap, uint32_t count);
void fw_heap_fini(struct fw_heap *heap);
/* Sets or moves it. */
void fw_heap_set(struct fw_heap *heap, struct fw_timer *timer, int64_t due);
void fw_heap_clear(struct fw_heap *heap, struct fw_timer *timer);

static inline struct fw_timer *fw_heap_first(const struct fw_heap *heap)
{
    return heap->count > 0 ? heap->timers[0] : 0;
}

#endif
