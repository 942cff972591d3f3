/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The queue engine's journal: what a durable store must keep of what an engine did, and how an
 * engine is made again from it. For the broker's commit thread (commit.c), the stores and tests.
 *
 * Properties. Still no I/O: changes pile up in the engine as an open group until they are taken. A
 * group holds the net effect: one change for each message that was touched, whatever happened to
 * it, in the order of the first touch; queues and settings change in the order of the commands.
 * Applied as a whole (all or nothing, one group after another) to what was stored before, it gives
 * what the engine is after it. An engine without a journal, the default, keeps none of this.
 *
 * Operation.
 *
 *     fq_journal_start(engine);
 *     ... fq_restore_queue, _setting, _message for all that is stored; fq_restore_end ...
 *     ... commands ...
 *     if (fq_journal_take(engine, &group)) {       under the lock
 *         ... store what is in `group` ...          on another thread
 *         fq_journal_durable(engine, group.number);  under the lock
 *         fq_group_clear(&group);
 *     }
 *
 * A message that was leased waits in its consumer's slot, and fq_take does not hand it out, until
 * the group that has the lease is durable: a consumer never holds what a crash would make pending
 * again (contract A5: the lease comes first).
 *
 * What is stored of a message survives its queue: fq_delete_queue forgets what is pending there,
 * and tells the journal of the queue alone. So after a restart the messages of a deleted queue are
 * back once its name exists again (contract B12).
 *
 * Safety. As the engine: one owner, or a lock around it. A group that was taken belongs to its
 * taker; what its changes point to is read on any thread.
 */
#ifndef FILA_BROKER_QUEUE_JOURNAL_H
#define FILA_BROKER_QUEUE_JOURNAL_H

#include "broker/queue.h"

enum fq_change_kind {
    FQ_CHANGE_NONE, /* came and went within the group */
    FQ_CHANGE_MESSAGE,
    FQ_CHANGE_QUEUE,
    FQ_CHANGE_SETTING
};

/* A queue or a setting that changed. The views point into the same block. */
struct fq_admin_change {
    fila_view name; /* of the queue, or the setting's key */
    fila_view value;
    fila_view on_enqueue; /* the scripts' sources: of a queue */
    fila_view on_failure;
    int64_t visibility_timeout; /* ns; of a queue */
};

struct fq_change {
    enum fq_change_kind kind;
    uint32_t attempt_count;
    bool put;          /* not stored yet: `message` is what to store, with the rest of this */
    bool settled;      /* the message is gone; or the queue or the setting was deleted */
    bool restated;     /* it is leased or pending, or was tried, otherwise than is stored */
    bool moved;        /* to another queue */
    bool was_restated; /* `restated` was told before: in an earlier group or in this one */
    uint64_t seq;      /* of the message: never used twice, rising in the order of enqueuing */
    uint64_t queue;    /* the number of the message's queue, or of the one that changed */
    int64_t lease_end; /* 0 = pending */
    struct fq_message *message;    /* `put` only: a reference */
    struct fq_admin_change *admin; /* FQ_CHANGE_QUEUE, FQ_CHANGE_SETTING */
};

struct fq_group {
    struct fq_change *list;
    size_t count;
    size_t room;
    uint64_t number; /* 1, 2, ...: groups in the order of time */
    bool incomplete; /* memory ran out: a change is missing, and this must not be stored */
};

#define FQ_GROUP_INIT        \
    {                        \
        NULL, 0, 0, 0, false \
    }

/* Keeps a journal from now on. Before anything else is done with the engine. */
void fq_journal_start(struct fq_engine *engine);

/* The number of the group that is open; 0 without a journal. */
uint64_t fq_journal_open(const struct fq_engine *engine);
/* Whether the open group has anything in it. */
bool fq_journal_dirty(const struct fq_engine *engine);

/* Takes the open group and opens the next. What *group had is cleared, its room goes to the engine.
 * False where there is nothing in it: then *group is empty, and no new group was opened. */
bool fq_journal_take(struct fq_engine *engine, struct fq_group *group);

/* All groups up to `number` are durable: what was leased in them may be taken. */
void fq_journal_durable(struct fq_engine *engine, uint64_t number);

/* Empties it, keeping its room; and gives that back too. Thread: any. */
void fq_group_clear(struct fq_group *group);
void fq_group_free(struct fq_group *group);

/* What is stored of a message that a change puts, apart from what the change has: its parts never
 * change. Thread: any. */
void fq_stored_fields(const struct fq_message *message, struct fila_message_fields *ret_fields);
const uint8_t *fq_stored_id(const struct fq_message *message); /* 16 bytes */

/* ---- Making an engine again ---- */

struct fq_stored_queue {
    uint64_t number; /* as in fq_change.queue; several may have one name, one of these exists */
    fila_view name;
    bool exists;
    struct fq_queue_options options;
};

struct fq_stored_message {
    uint64_t seq;
    fila_view queue;
    uint8_t id[16];
    const fila_header *headers;
    size_t header_count;
    fila_view payload;
    struct fq_plan plan;
    uint32_t attempt_count;
    int64_t lease_end; /* 0 = pending */
    bool restated;     /* stored apart from the message: see fq_change.was_restated */
};

/* First the queues, in any order. FILA_NO_MEMORY. */
FILA_NODISCARD fila_status
fq_restore_queue(struct fq_engine *engine, const struct fq_stored_queue *stored);
/* Then settings: FILA_INVALID_ARGUMENT as fq_set_config, FILA_NO_MEMORY. */
FILA_NODISCARD fila_status
fq_restore_setting(struct fq_engine *engine, int64_t now, fila_view key, fila_view value);
/* Then messages, in the order of `seq` (that makes their order in the queues: contract B10). What
 * is pending in a queue that does not exist is left where it is stored. FILA_NO_MEMORY. */
FILA_NODISCARD fila_status
fq_restore_message(struct fq_engine *engine, int64_t now, const struct fq_stored_message *stored);
/* Then this: leases that ended while nobody ran have been taken back (attempt + 1, but in their
 * place by enqueue time), and `next_seq` is the first that was never used. */
void fq_restore_end(struct fq_engine *engine, uint64_t next_seq);

#endif
