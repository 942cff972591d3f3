/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * An intrusive hash table that never stops to rehash and whose insertion cannot fail. The queue
 * engine keeps messages, queues, fairness keys and settings in such tables.
 *
 * It grows by linear hashing, one bucket an insertion, so that the millionth insertion costs what
 * the tenth did; where there is no memory to grow, chains get longer instead. (uthash doubles all
 * at once, and spends 56 bytes an entry where this takes 16.)
 *
 * An entry has a struct fb_node as its first member. Not thread-safe.
 */
#ifndef FILA_BROKER_TABLE_H
#define FILA_BROKER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fb_node {
    struct fb_node *next;
    uint64_t hash;
};

struct fb_table {
    struct fb_node **buckets;
    size_t bucket_count; /* in use */
    size_t bucket_room;  /* allocated; a power of two */
    size_t count;        /* entries */
};

/* False without memory. */
bool fb_table_init(struct fb_table *table);
/* The entries are the caller's. */
void fb_table_fini(struct fb_table *table);

void fb_table_insert(struct fb_table *table, struct fb_node *node, uint64_t hash);
/* `node` must be in the table. */
void fb_table_remove(struct fb_table *table, struct fb_node *node);

/* The first entry with that hash, then the next one; NULL at the end. The caller compares keys. */
struct fb_node *fb_table_find(const struct fb_table *table, uint64_t hash);
struct fb_node *fb_table_find_next(const struct fb_node *node);

/* Walks all entries, in no order: start with NULL. `node` may be removed once its successor is
 * known. */
struct fb_node *fb_table_next(const struct fb_table *table, const struct fb_node *node);

/* SipHash-1-3: keys come from users, who must not be able to make them collide. */
uint64_t fb_hash(const uint64_t seed[2], const void *data, size_t len);

#endif
