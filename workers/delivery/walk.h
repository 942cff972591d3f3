/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The walk back over a stream's pipe (lease window, term (b)): the broker leases a message when it
 * puts it into the pipe, and the pipe holds `slots` messages and then `bytes` bytes. So a message
 * cannot have been leased before the read of the one that lies a whole pipe ahead of it.
 *
 * Kept as a ring of read times and sizes with a running sum: O(1) a message. Thread: the engine's.
 */
#ifndef FW_DELIVERY_WALK_H
#define FW_DELIVERY_WALK_H

#include <stdbool.h>
#include <stdint.h>

struct fw_mark {
    int64_t at;
    uint32_t size;
};

struct fw_walk {
    struct fw_mark *marks;
    uint64_t capacity; /* a power of two, or 0 */
    uint64_t first;    /* oldest mark kept */
    uint64_t count;    /* messages read */
    uint64_t tail;     /* the pipe's bytes are [tail, edge) when the next message is read */
    uint64_t edge;
    uint64_t sum;        /* of sizes in [tail, edge) */
    uint64_t recent;     /* oldest mark that fw_walk_since last counted */
    uint64_t recent_sum; /* of sizes in [recent, count) */
    int64_t dropped_at;  /* time of the newest mark that was dropped for want of memory */
    uint32_t slots;
    uint32_t bytes;
};

void fw_walk_open(struct fw_walk *walk, uint32_t slots, uint32_t bytes); /* begins anew */
void fw_walk_fini(struct fw_walk *walk);
/* When the message that is read next cannot have been leased yet; false when the pipe was never
 * full since the stream's open. */
bool fw_walk_next(const struct fw_walk *walk, int64_t *ret_at);
/* How many messages the pipe holds, going by those read last; at least the slots. */
uint32_t fw_walk_pipe(const struct fw_walk *walk);
/* Bytes read at `from` or later; `from` must not go back between two calls (it may a little: then
 * less is counted). */
uint64_t fw_walk_since(struct fw_walk *walk, int64_t from);
/* A message was read. Without memory old marks are dropped: the walk then finds nothing for a
 * while, which is the safe side. */
void fw_walk_read(struct fw_walk *walk, int64_t at, uint32_t size);

#endif
