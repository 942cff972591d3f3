/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_BUCKETS 16

bool fb_table_init(struct fb_table *table)
{
    *table = (struct fb_table){.bucket_count = FIRST_BUCKETS, .bucket_room = FIRST_BUCKETS};
    table->buckets = calloc(FIRST_BUCKETS, sizeof *table->buckets);
    return table->buckets != NULL;
}

void fb_table_fini(struct fb_table *table)
{
    free(table->buckets);
    *table = (struct fb_table){0};
}

/* The smallest power of two that is not below `n`. */
static size_t ceiling(size_t n)
{
    size_t power = FIRST_BUCKETS;
    if (n > power) {
        power = (size_t)1 << (64 - __builtin_clzll((unsigned long long)n - 1));
    }
    return power;
}

static size_t bucket_of(const struct fb_table *table, uint64_t hash)
{
    size_t power = ceiling(table->bucket_count);
    size_t at = (size_t)hash & (power - 1);
    return at < table->bucket_count ? at : at - power / 2;
}

static bool make_room(struct fb_table *table)
{
    struct fb_node **larger;
    if (table->bucket_count < table->bucket_room) {
        return true;
    }
    larger = realloc(table->buckets, 2 * table->bucket_room * sizeof(struct fb_node *));
    if (!larger) {
        return false;
    }
    table->buckets = larger;
    table->bucket_room *= 2;
    return true;
}

/* Adds one bucket and moves to it what belongs there: a part of exactly one other bucket. */
static void grow(struct fb_table *table)
{
    size_t added = table->bucket_count;
    struct fb_node **from;
    struct fb_node **to;
    size_t mask;
    if (!make_room(table)) {
        return;
    }
    mask = ceiling(added + 1) - 1;
    from = &table->buckets[added - (mask + 1) / 2];
    to = &table->buckets[added];
    table->bucket_count++;
    while (*from) {
        struct fb_node *node = *from;
        if ((node->hash & mask) == added) {
            *from = node->next;
            *to = node;
            to = &node->next;
        } else {
            from = &node->next;
        }
    }
    *to = NULL;
}

void fb_table_insert(struct fb_table *table, struct fb_node *node, uint64_t hash)
{
    size_t at;
    if (table->count >= table->bucket_count) {
        grow(table);
    }
    at = bucket_of(table, hash);
    node->hash = hash;
    node->next = table->buckets[at];
    table->buckets[at] = node;
    table->count++;
}

void fb_table_remove(struct fb_table *table, struct fb_node *node)
{
    struct fb_node **link = &table->buckets[bucket_of(table, node->hash)];
    while (*link != node) {
        link = &(*link)->next;
    }
    *link = node->next;
    table->count--;
}

static struct fb_node *with_hash(struct fb_node *node, uint64_t hash)
{
    while (node && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct fb_node *fb_table_find(const struct fb_table *table, uint64_t hash)
{
    return with_hash(table->buckets[bucket_of(table, hash)], hash);
}

struct fb_node *fb_table_find_next(const struct fb_node *node)
{
    return with_hash(node->next, node->hash);
}

struct fb_node *fb_table_next(const struct fb_table *table, const struct fb_node *node)
{
    size_t at = 0;
    if (node) {
        if (node->next) {
            return node->next;
        }
        at = bucket_of(table, node->hash) + 1;
    }
    for (; at < table->bucket_count; at++) {
        if (table->buckets[at]) {
            return table->buckets[at];
        }
    }
    return NULL;
}

static uint64_t rotate(uint64_t word, unsigned by)
{
    return (word << by) | (word >> (64 - by));
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static uint64_t load_word(const uint8_t *bytes, size_t len)
{
    uint64_t word = 0;
    memcpy(&word, bytes, len);
    return word;
}

static void sip_absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

uint64_t fb_hash(const uint64_t seed[2], const void *data, size_t len)
{
    const uint8_t *bytes = data;
    size_t left = len;
    uint64_t v[4] = {
        seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
        seed[0] ^ UINT64_C(0x6c7967656e657261), seed[1] ^ UINT64_C(0x7465646279746573)};
    for (; left >= 8; left -= 8, bytes += 8) {
        sip_absorb(v, load_word(bytes, 8));
    }
    sip_absorb(v, ((uint64_t)len << 56) | (left ? load_word(bytes, left) : 0));
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
