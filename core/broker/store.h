/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The durable store: a file that keeps what the queue engine did (queue_journal.h). One
 * implementation, in SQLite (store_sqlite.c and store_*.c), or none in a build without it
 * (store_none.c): then fb_store_open says so.
 *
 * What is written. Each message as it was enqueued, one row, written once and deleted once; beside
 * it, in a narrow row, what was leased or tried since; queues with their visibility timeouts and
 * scripts; settings. Lease ends are wall-clock times, because they outlive the process (contract
 * B4). Nothing is written that a restart does not bring back: streams, tokens in buckets, the order
 * among what was nacked (contract B10).
 *
 * What is atomic. A group: fb_store_write stores all of it or nothing, whatever happens at whatever
 * instruction. When it has returned FILA_OK, the group outlives a killed process; with
 * FILA_SYNC_FULL also a machine that loses power, with FILA_SYNC_NORMAL not always: there the last
 * groups may be missing, all or none of each, never one before another.
 *
 * Errors. FILA_INTERNAL with the cause and what to do; FILA_BROKER_UNAVAILABLE where the file
 * cannot be opened at all; FILA_UNSUPPORTED without SQLite; FILA_NO_MEMORY. After a failed write
 * the file is as it was before, and writing can be tried again: a full disk may have room again.
 * Opening never changes a file that it refuses.
 *
 * A full disk. Room is kept for what settles and moves messages, which makes room in the file: only
 * a group that brings more new messages than fb_store_room says may fail for want of it, as long as
 * nobody else takes what is left.
 *
 * Thread: a store belongs to whoever holds it, one thread at a time.
 */
#ifndef FILA_BROKER_STORE_H
#define FILA_BROKER_STORE_H

#include "broker/queue_journal.h"
#include "fila/broker.h"

struct fb_store;

/* Opens or creates the file, takes it for this process alone, and brings an older file up to date.
 */
FILA_NODISCARD fila_status
fb_store_open(const char *path, fila_sync sync, struct fb_store **ret_store, fila_error *reterr);

struct fb_store_load {
    struct fq_engine *engine; /* empty but for its journal */
    int64_t now;
    int64_t to_wall; /* wall-clock nanoseconds less fila_now() */
    void *user;
    /* Makes a queue's scripts of their sources, of which one at least is not empty; NULL = there
     * are no scripts in this build. */
    fila_status (*compile)(
        void *user,
        fila_view on_enqueue,
        fila_view on_failure,
        void **ret_scripts,
        fila_error *reterr);
};

/* Fills the engine with all that is stored: everything is read, so what is damaged is found here.
 * On failure the engine is to be freed. */
FILA_NODISCARD fila_status
fb_store_load(struct fb_store *store, const struct fb_store_load *load, fila_error *reterr);

FILA_NODISCARD fila_status fb_store_write(
    struct fb_store *store,
    const struct fq_group *group,
    int64_t to_wall,
    fila_error *reterr);

/* Whether the file can grow by a little, tried: for recovery after a failed write. */
FILA_NODISCARD fila_status fb_store_probe(struct fb_store *store, fila_error *reterr);

/* Bytes that new messages may take until it is asked again: INT64_MAX unless the disk is full.
 * Tries whether it still is. */
FILA_NODISCARD int64_t fb_store_room(struct fb_store *store);

/* Moves what was written to where it stays, when enough has piled up: between groups. A failure is
 * met again by the next write. */
void fb_store_rest(struct fb_store *store);

/* Takes NULL. */
void fb_store_close(struct fb_store *store);

#endif
