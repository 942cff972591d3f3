/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The thread that makes what a broker did durable (fila_broker_options.path), and the answers that
 * wait for it.
 *
 * Properties. Calls change the engine in memory at once and are answered when the store has what
 * they did: one transaction for everything that came while the last one ran. An answer waits for
 * all that the engine did before it, so that nothing that anybody was told can be lost: neither an
 * effect, nor a refusal or a statistic that follows from one. Messages wait in their consumers'
 * slots for their leases in the same way (queue_journal.h).
 *
 * Failure. When a group cannot be stored, the engine in memory is ahead of the file, and is given
 * up: everything that waits is answered with FILA_INTERNAL (13: it may or may not have happened),
 * and so is every call until the file can be written again, which is tried four times a second.
 * Then the engine is made again from the file, under the streams that are open.
 *
 * A full disk comes to that only at the worst: the store keeps room for what settles and moves
 * messages, and calls that need more than is left are refused (fb_commit_take_room).
 *
 * Safety. All functions with the broker's lock held, except start, stop and free. Answers are given
 * on this thread, without the lock.
 */
#ifndef FILA_BROKER_COMMIT_H
#define FILA_BROKER_COMMIT_H

#include "broker/broker.h"
#include "broker/store.h"

struct fb_commit;

/* Opens the file and fills broker->engine, which is empty, from it. */
FILA_NODISCARD fila_status fb_commit_open(
    fila_broker *broker,
    const fila_broker_options *options,
    const struct fq_config *config,
    fila_error *reterr);
FILA_NODISCARD bool fb_commit_start(struct fb_commit *commit);
/* Waits until all is stored and answered, or cannot be. After the broker was closed. */
void fb_commit_stop(struct fb_commit *commit);
/* Closes the file; takes NULL. */
void fb_commit_free(struct fb_commit *commit);

/* Sees to it that what has been done is stored. */
void fb_commit_wake(struct fb_commit *commit);

/* FILA_OK, or why nothing can be done now. */
fila_status fb_commit_check(const struct fb_commit *commit, fila_error *reterr);

/* Whether the disk is full, so that room is short. */
bool fb_commit_is_full(const struct fb_commit *commit);

/* For a call that adds so many bytes (0: always well): whether they have room. Else refused as by a
 * failed write, but nothing was done. */
fila_status fb_commit_take_room(struct fb_commit *commit, size_t bytes, fila_error *reterr);

/* Whether an answer that is given now would be early. */
bool fb_commit_pending(const struct fb_commit *commit);

/* Keeps an answer until it is durable, and until `due`. `reply` and `error` as in fb_reply_fn.
 * False without memory. */
FILA_NODISCARD bool fb_commit_hold(
    struct fb_commit *commit,
    const fila_reply *reply,
    const fila_error *error,
    int64_t due,
    fb_reply_fn on_reply,
    void *user);

#endif
