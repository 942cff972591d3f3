/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The engine's own parts against plain models: tree, heap, quantile, peak, walk.
 */
#include "base/clock.h"
#include "delivery/estimate.h"
#include "delivery/heap.h"
#include "delivery/tree.h"
#include "delivery/walk.h"

#include <criterion/criterion.h>

#include <stdlib.h>

static uint64_t state = 88172645463325252U;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

enum {
    NODES = 300
};

Test(parts, tree)
{
    struct fw_tree tree = {0};
    static struct fw_tree_node nodes[NODES];
    static bool in[NODES];
    for (int i = 0; i < NODES; i++) {
        nodes[i].seq = (uint64_t)i + 1;
    }
    for (int round = 0; round < 20000; round++) {
        size_t i = draw() % NODES;
        if (in[i]) {
            fw_tree_remove(&tree, &nodes[i]);
        } else {
            nodes[i].key = (int64_t)(draw() % 100);
            fw_tree_add(&tree, &nodes[i]);
        }
        in[i] = !in[i];
        int64_t from = (int64_t)(draw() % 110);
        const struct fw_tree_node *first = NULL;
        const struct fw_tree_node *found = NULL;
        uint32_t count = 0;
        for (int k = 0; k < NODES; k++) {
            if (!in[k]) {
                continue;
            }
            count++;
            if (first == NULL || nodes[k].key < first->key) {
                first = &nodes[k];
            }
            if (nodes[k].key >= from && (found == NULL || nodes[k].key < found->key)) {
                found = &nodes[k];
            }
        }
        cr_assert_eq(tree.count, count);
        cr_assert_eq(fw_tree_first(&tree), first);
        cr_assert_eq(fw_tree_from(&tree, from), found);
    }
}

Test(parts, heap)
{
    struct fw_heap heap = {0};
    static struct fw_timer timers[NODES];
    cr_assert(fw_heap_reserve(&heap, NODES));
    for (int i = 0; i < NODES; i++) {
        timers[i].seq = (uint64_t)i;
    }
    for (int round = 0; round < 20000; round++) {
        struct fw_timer *timer = &timers[draw() % NODES];
        if (draw() % 3 == 0) {
            fw_heap_clear(&heap, timer);
        } else {
            fw_heap_set(&heap, timer, (int64_t)(draw() % 1000));
        }
        const struct fw_timer *first = NULL;
        uint32_t count = 0;
        for (int k = 0; k < NODES; k++) {
            if (timers[k].place == 0) {
                continue;
            }
            count++;
            if (first == NULL || timers[k].due < first->due) {
                first = &timers[k];
            }
        }
        cr_assert_eq(heap.count, count);
        cr_assert_eq(fw_heap_first(&heap), first);
    }
    fw_heap_fini(&heap);
}

/* Within 3 % above the true one, over nine orders of magnitude. */
Test(parts, quantile)
{
    for (int64_t scale = FILA_US; scale <= 1000 * FILA_S; scale *= 10) {
        struct fw_quantile quantile = {0};
        for (int i = 1; i <= 400; i++) {
            fw_quantile_add(&quantile, 0, scale * ((i * 7) % 401));
        }
        int64_t p95 = fw_quantile_get(&quantile, 950);
        cr_assert_geq(p95, scale * 379);
        cr_assert_leq(p95, scale * 382 / 31 * 32 + 2048);
    }
}

/* Old ones fade: after 2,048 short ones a long one is forgotten, and after minutes too. */
Test(parts, quantile_fades)
{
    struct fw_quantile quantile = {0};
    for (int i = 0; i < 100; i++) {
        fw_quantile_add(&quantile, 0, 10 * FILA_S);
    }
    for (int i = 0; i < 4096; i++) {
        fw_quantile_add(&quantile, 0, FILA_MS);
    }
    cr_assert_lt(fw_quantile_get(&quantile, 950), 2 * FILA_MS);
    fw_quantile_add(&quantile, 0, 10 * FILA_S);
    for (int i = 1; i < 20; i++) {
        fw_quantile_add(&quantile, i * 61 * FILA_S, FILA_MS);
    }
    cr_assert_lt(fw_quantile_get(&quantile, 990), 2 * FILA_MS);
    struct fw_quantile none = {0};
    cr_assert_eq(fw_quantile_get(&none, 990), 0);
}

Test(parts, peak)
{
    struct fw_peak peak = {0};
    int64_t period = 30 * FILA_S;
    int64_t now = 1000 * FILA_S;
    fw_peak_add(&peak, now, period, 7 * FILA_S);
    fw_peak_add(&peak, now + FILA_S, period, FILA_S);
    cr_assert_eq(fw_peak_get(&peak, now + 30 * FILA_S, period), 7 * FILA_S);
    cr_assert_lt(fw_peak_get(&peak, now + 38 * FILA_S, period), 7 * FILA_S);
    cr_assert_eq(fw_peak_get(&peak, now + 100 * FILA_S, period), 0);
    fw_peak_add(&peak, now + 100 * FILA_S, period, 3);
    cr_assert_eq(fw_peak_get(&peak, now + 100 * FILA_S, period), 3);
}

enum {
    READS = 5000
};

/* The walk as it is defined: back over the slots, then over the bytes. */
static bool plain_walk(
    const struct fw_mark *marks,
    int count,
    uint32_t slots,
    uint32_t bytes,
    int64_t *ret_at)
{
    int64_t i = count - (int64_t)slots; /* the newest that is not in the slots */
    uint64_t sum = 0;
    for (; i >= 0; i--) {
        sum += marks[i].size;
        if (sum > bytes) {
            break;
        }
    }
    if (i < 1) {
        return false;
    }
    *ret_at = marks[i - 1].at;
    return true;
}

Test(parts, walk)
{
    static struct fw_mark marks[READS];

    static const struct {
        uint32_t slots;
        uint32_t bytes;
    } pipes[] = {{130, 65536}, {1, 0}, {1, 100}, {321, 1000000}, {130, 0}};

    for (size_t p = 0; p < sizeof(pipes) / sizeof(pipes[0]); p++) {
        struct fw_walk walk = {0};
        fw_walk_open(&walk, pipes[p].slots, pipes[p].bytes);
        for (int i = 0; i < READS; i++) {
            int64_t at = -1;
            int64_t expected = -1;
            bool found = fw_walk_next(&walk, &at);
            bool known = plain_walk(marks, i, pipes[p].slots, pipes[p].bytes, &expected);
            cr_assert_eq(found, known, "pipe %zu, read %d", p, i);
            cr_assert_eq(at, expected);
            marks[i].at = 10 * i;
            marks[i].size = draw() % 10 == 0 ? 0 : (uint32_t)(draw() % 3000);
            fw_walk_read(&walk, marks[i].at, marks[i].size);
            uint64_t since = 0;
            int64_t from = 10 * (i - 50);
            for (int k = i; k >= 0 && marks[k].at >= from; k--) {
                since += marks[k].size;
            }
            cr_assert_eq(fw_walk_since(&walk, from), since);
            cr_assert_geq(fw_walk_pipe(&walk), pipes[p].slots);
        }
        fw_walk_fini(&walk);
    }
}

/* Half of what was seen goes when there is much of it, and each minute. */
Test(parts, quantile_fades_by_number_and_by_time)
{
    struct fw_quantile many = {0};
    for (int i = 0; i < 2000; i++) {
        fw_quantile_add(&many, FILA_S, FILA_S);
    }
    for (int i = 0; i < 6000; i++) {
        fw_quantile_add(&many, FILA_S, FILA_MS);
    }
    cr_assert_lt(fw_quantile_get(&many, 950), 2 * FILA_MS);
    struct fw_quantile few = {0};
    for (int i = 0; i < 100; i++) {
        fw_quantile_add(&few, FILA_S, FILA_S);
    }
    for (int i = 1; i < 20; i++) {
        fw_quantile_add(&few, i * 61 * FILA_S, FILA_MS);
    }
    cr_assert_lt(fw_quantile_get(&few, 950), 2 * FILA_MS);
}

/* The longest of the last period, wherever in it: no sooner forgotten, no later. */
Test(parts, peak_is_kept_for_a_period)
{
    const int64_t period = 8 * FILA_S;
    for (int64_t at = 0; at < 3 * period; at += FILA_S / 2) {
        struct fw_peak peak = {0};
        int64_t now = 1000 * FILA_S;
        int64_t end = now + at + 4 * period;
        for (int64_t t = now; t < end; t += FILA_S / 2) {
            bool recent = t >= now + at && t <= now + at + period;
            if (t == now + at) {
                fw_peak_add(&peak, t, period, 5 * FILA_S);
            }
            int64_t longest = fw_peak_get(&peak, t, period);
            cr_assert(!recent || longest == 5 * FILA_S);
            cr_assert(t <= now + at + 2 * period || longest == 0);
        }
    }
}
