/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a handler published during one run (services->publish): copies, in order, that are sent when
 * its verdict is an ack and thrown away otherwise. The executor collects them and hands them over
 * as job->outbox; the host sends them and holds the verdict back until they are confirmed
 * (host/publish.h; delivery-engine.md rule 3).
 *
 * Thread: an outgoing message belongs to one thread at a time; an outbox may be used by many at
 * once, also by a handler that publishes when its delivery has ended already: what it adds then
 * goes nowhere.
 */
#ifndef FW_OUTBOX_H
#define FW_OUTBOX_H

#include "fila/client.h"
#include "fila/plugin.h"

#include <pthread.h>
#include <stdatomic.h>

/* One message, in one block with all that it points to. */
struct fw_outgoing {
    struct fw_outgoing *next;
    fila_view queue;
    const fila_header *headers;
    size_t header_count;
    fila_view payload;
    size_t bytes; /* of all the texts above */

    /* While in an outbox: the run that it is of, and how much that has with it. */
    uint64_t generation;
    size_t total_count;
    size_t total_bytes;
};

/* Checks and copies a publication. `about` is the message that the handler is working on: its trace
 * headers are continued unless the publication has its own; may be NULL. FILA_PUBLISH_TAKEN, and
 * *ret_outgoing is freed with fw_outgoing_free; or FILA_PUBLISH_INVALID, _TOO_LARGE, _NO_MEMORY. */
int fw_outgoing_make(
    const fila_publication *publication,
    const fila_message *about,
    struct fw_outgoing **ret_outgoing);
void fw_outgoing_free(struct fw_outgoing *list); /* a whole chain; takes NULL */

struct fw_outbox {
    pthread_mutex_t mutex; /* a leaf: no other is taken while it is held */
    _Atomic(struct fw_outgoing *) newest;
};

void fw_outbox_init(struct fw_outbox *outbox);
void fw_outbox_fini(struct fw_outbox *outbox);
/* Puts it into the outbox of the run `generation`; false when that has too much already: it stays
 * the caller's. Any number of threads. */
bool fw_outbox_add(struct fw_outbox *outbox, uint64_t generation, struct fw_outgoing *outgoing);
/* Empties the outbox: what is of run `generation`, in the order in which it came; the rest, of
 * those who came too late, is freed. Costs nothing when it is empty. */
struct fw_outgoing *fw_outbox_take(struct fw_outbox *outbox, uint64_t generation);

#endif
