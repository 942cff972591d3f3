/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The hash table under the engine.
 */
#include "broker/table.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdlib.h>

#define ENTRIES 20000

struct entry {
    struct fb_node node;
    uint32_t number;
    bool in;
    bool seen;
};

static bool has(const struct fb_table *table, const struct entry *entry, uint64_t hash)
{
    struct fb_node *node = fb_table_find(table, hash);
    for (; node; node = fb_table_find_next(node)) {
        if (node == &entry->node) {
            return true;
        }
    }
    return false;
}

/* Hashes that collide in their low bits, and some in all. */
static uint64_t hash_of(uint32_t number)
{
    return number % 7 == 0 ? UINT64_C(42) : (uint64_t)number << 3;
}

Test(table, finds_what_is_in_it_and_nothing_else)
{
    struct entry *entries = calloc(ENTRIES, sizeof *entries);
    struct fb_table table;
    uint64_t random = 1;
    size_t in = 0;
    size_t walked = 0;
    cr_assert(fb_table_init(&table));
    for (int step = 0; step < 10 * ENTRIES; step++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        struct entry *entry = &entries[(random >> 33) % ENTRIES];
        entry->number = (uint32_t)(entry - entries);
        if (entry->number % 7 == 0 && entry->number > 700) {
            continue; /* some equal hashes are enough */
        }
        cr_assert(eq(int, has(&table, entry, hash_of(entry->number)), entry->in));
        if (entry->in) {
            fb_table_remove(&table, &entry->node);
            in--;
        } else {
            fb_table_insert(&table, &entry->node, hash_of(entry->number));
            in++;
        }
        entry->in = !entry->in;
        cr_assert(eq(sz, table.count, in));
    }
    for (struct fb_node *node = fb_table_next(&table, NULL); node;
         node = fb_table_next(&table, node)) {
        struct entry *entry = (struct entry *)node;
        cr_assert(entry->in && !entry->seen);
        entry->seen = true;
        walked++;
    }
    cr_expect(eq(sz, walked, in));
    fb_table_fini(&table);
    free(entries);
}

Test(table, grows_by_one_bucket_an_insertion)
{
    struct entry *entries = calloc(ENTRIES, sizeof *entries);
    struct fb_table table;
    cr_assert(fb_table_init(&table));
    for (size_t i = 0; i < ENTRIES; i++) {
        size_t before = table.bucket_count;
        fb_table_insert(&table, &entries[i].node, i);
        cr_assert(le(sz, table.bucket_count, before + 1));
        cr_assert(ge(sz, table.bucket_count, table.count));
    }
    fb_table_fini(&table);
    free(entries);
}

/* The reference vectors of SipHash-1-3: key 00 01 .. 0f, input 00 01 .. of each length. */
Test(table, hashes_as_siphash_1_3)
{
    static const uint64_t wanted[] = {
        UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93), UINT64_C(0x82cb9b024dc7d44d),
        UINT64_C(0x8bf80ab8e7ddf7fb), UINT64_C(0xcf75576088d38328), UINT64_C(0xdef9d52f49533b67),
        UINT64_C(0xc50d2b50c59f22a7), UINT64_C(0xd3927d989bb11140), UINT64_C(0x369095118d299a8e),
    };
    const uint64_t seed[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    uint8_t input[16];
    for (uint8_t i = 0; i < sizeof input; i++) {
        input[i] = i;
    }
    for (size_t len = 0; len < sizeof wanted / sizeof wanted[0]; len++) {
        cr_expect(eq(u64, fb_hash(seed, input, len), wanted[len]), "of %zu bytes", len);
    }
}
