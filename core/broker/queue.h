/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The queue engine: all that a Fila broker decides about messages, leases, fairness and streams.
 *
 * Properties. A deterministic state machine: no thread, lock, I/O or clock. Commands go in with the
 * time, results come out; the same commands at the same times with the same seed give the same
 * results, ids included. It behaves as the G era of contract chapters A to C says, on one node and
 * in memory: what it leaves out is listed at the end of this comment. Every command costs the same
 * however many messages wait or are leased (admin calls that list or scan apart).
 *
 * Operation. Time is CLOCK_BOOTTIME nanoseconds and never goes back; wall-clock milliseconds are
 * given apart and end up in ids only. Each command is one turn of Fila's scheduler loop: the
 * command is applied, then what can be delivered is leased and pushed into consumers' slots
 * (64 + 1 + 64 each, contract A5). fq_take drains the slots and is no command: room that it makes
 * is filled at the next command, or at the idle tick. After commands and ticks ask fq_next_ready
 * which consumers have something to take, and call fq_tick at fq_wake_at:
 *
 *     struct fq_config config = FQ_CONFIG_INIT;
 *     struct fq_engine *engine = fq_new(&config, now);
 *     fq_create_queue(engine, now, fila_view_of("orders"), NULL);
 *     struct fq_consumer *consumer;
 *     fq_consumer_open(engine, now, fila_view_of("orders"), my_stream, &consumer);
 *     fq_enqueue(engine, now, wall_ms, &message, id);
 *     while ((consumer = fq_next_ready(engine))) {
 *         while (fq_take(consumer, &delivery)) {
 *             ... delivery.fields is leased until delivery.lease_end ...
 *             fq_delivery_release(&delivery);
 *         }
 *     }
 *     fq_ack(engine, now, delivery queue, delivery id);
 *     ... at fq_wake_at(engine): fq_tick(engine, now);
 *
 * Safety. Not thread-safe: one owner, or a lock around it, except fq_message_new and
 * fq_delivery_release, which any thread may call at any time. A message that was taken lives until
 * its release, whatever happens to the queue or the engine. Without memory a command answers
 * FILA_NO_MEMORY and has changed nothing.
 *
 * What outlives an engine, and how one is made again from it: queue_journal.h. Left out on purpose:
 * the panics (a queue name over 65,535 bytes, contract A7), which the service refuses instead.
 */
#ifndef FILA_BROKER_QUEUE_H
#define FILA_BROKER_QUEUE_H

#include "wire/message.h"

#define FQ_SLOTS              129 /* of a consumer: ready 64, converter 1, body 64 */
#define FQ_ID_SIZE            37  /* a lower-case hyphenated UUID and its terminating zero */
#define FQ_VISIBILITY_DEFAULT INT64_C(30000000000) /* ns */
#define FQ_LIST_CONFIG_MAX    10000                /* entries of one ListConfig answer */

struct fq_engine;
struct fq_consumer;
struct fq_message; /* a stored message; reference counted */

/* ---- Hooks: where queue scripts plug in ---- */

/* What on_enqueue decides about a message; comes with the defaults in it. Copied on return. */
struct fq_plan {
    fila_view fairness_key; /* "default" */
    uint32_t weight;        /* 1; 0 is stored as it is and scheduled as 1 */
    const fila_view *throttle_keys;
    size_t throttle_key_count;
};

enum fq_failure {
    FQ_FAILURE_RETRY,
    FQ_FAILURE_DEAD_LETTER /* move to the queue's DLQ; a retry where that does not exist */
};

/* Called inside commands; they must not call the engine, fq_peek_config apart. Either may be NULL.
 * `scripts` is what the queue was created with. */
struct fq_hooks {
    void *user;
    void (*on_enqueue)(
        void *user,
        void *scripts,
        const struct fila_message_fields *message,
        struct fq_plan *plan);
    /* On a nack, never on an expiry; attempt_count is already the increased one (contract B7). */
    enum fq_failure (*on_failure)(
        void *user,
        void *scripts,
        const struct fila_message_fields *message,
        fila_view error);
    /* The queue is gone, and its scripts are not used any more. */
    void (*release)(void *user, void *scripts);
};

/* ---- Engine ---- */

struct fq_config {
    uint32_t quantum;     /* deliveries a key may make in a round, times its weight; at least 1 */
    int64_t idle_timeout; /* ns without any command before the idle tick; more than 0 */
    uint64_t seed;        /* of ids and hashing */
    struct fq_hooks hooks;
};

#define FQ_CONFIG_INIT               \
    {                                \
        1000, INT64_C(100000000), 1, \
        {                            \
            NULL, NULL, NULL, NULL   \
        }                            \
    }

/* NULL without memory. */
struct fq_engine *fq_new(const struct fq_config *config, int64_t now);
/* Frees consumers, queues and messages; taken messages live on until released. Takes NULL. */
void fq_free(struct fq_engine *engine);

/* The idle tick of contract B5, which comes each idle_timeout after the last command: takes back
 * expired leases (attempt + 1, tail of their FIFO) and delivers. Does nothing before fq_wake_at;
 * may be called at any time. */
void fq_tick(struct fq_engine *engine, int64_t now);

/* The first idle tick that may have an effect; FILA_NEVER when only a command can change anything.
 * Never too late; may be early after leases were settled. Moves with each command. */
int64_t fq_wake_at(const struct fq_engine *engine);

/* ---- Messages in ---- */

struct fq_enqueue {
    fila_view queue;
    const fila_header *headers; /* of equal keys the last counts (contract A7) */
    size_t header_count;
    fila_view payload;
};

/* Stores a message; `ret_id` (may be NULL) gets its id. FILA_QUEUE_NOT_FOUND, FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fq_enqueue(
    struct fq_engine *engine,
    int64_t now,
    int64_t wall_ms,
    const struct fq_enqueue *in,
    char ret_id[FQ_ID_SIZE]);

/* The same in two steps, so that the copying is done outside a lock. fq_message_new is NULL without
 * memory; fq_enqueue_made takes over `message` on success only. */
struct fq_message *fq_message_new(const struct fq_enqueue *in);
void fq_message_unref(struct fq_message *message); /* takes NULL; any thread */
FILA_NODISCARD fila_status fq_enqueue_made(
    struct fq_engine *engine,
    int64_t now,
    int64_t wall_ms,
    struct fq_message *message,
    char ret_id[FQ_ID_SIZE]);

/* ---- Messages out ---- */

/* A message out of a consumer's slots. */
struct fq_delivery {
    struct fila_message_fields fields; /* views live until the release */
    int64_t lease_end;                 /* it is taken back at an idle tick at or after this */
    struct fq_message *message;
};

/* Opens a consumer: never refused for the queue, which need not exist (contract A2). `user` comes
 * back from fq_consumer_user. FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fq_consumer_open(
    struct fq_engine *engine,
    int64_t now,
    fila_view queue,
    void *user,
    struct fq_consumer **ret_consumer);
void *fq_consumer_user(const struct fq_consumer *consumer);
fila_view fq_consumer_queue(const struct fq_consumer *consumer); /* lives as long as it */
/* Messages in its slots: leased, not taken. */
uint32_t fq_consumer_waiting(const struct fq_consumer *consumer);
/* Forgets it, and the copies in its slots. Leases stay until they expire (contract A6). */
void fq_consumer_close(struct fq_engine *engine, int64_t now, struct fq_consumer *consumer);

/* The next consumer that has something to take and has not been returned since fq_take last said
 * false for it; NULL when there is none. */
struct fq_consumer *fq_next_ready(struct fq_engine *engine);

/* Takes the oldest message out of the slots; false when they are empty. Not a command. The copy may
 * be stale: its lease may have expired since, or belong to another by now. */
bool fq_take(struct fq_consumer *consumer, struct fq_delivery *ret_delivery);
void fq_delivery_release(struct fq_delivery *delivery); /* any thread */

/* Settle by queue and id, by whoever asks: no fencing (contract B11). `id` in any form that Rust's
 * uuid parser takes. FILA_INVALID_ARGUMENT (no UUID), FILA_MESSAGE_NOT_FOUND (no lease of that id
 * in that queue), FILA_NO_MEMORY (nack: a move to the DLQ, which then has not happened). */
FILA_NODISCARD fila_status
fq_ack(struct fq_engine *engine, int64_t now, fila_view queue, fila_view id);
FILA_NODISCARD fila_status
fq_nack(struct fq_engine *engine, int64_t now, fila_view queue, fila_view id, fila_view error);

/* ---- Admin ---- */

struct fq_queue_options {
    int64_t visibility_timeout; /* ns; 0 = FQ_VISIBILITY_DEFAULT */
    void *scripts;              /* handed to the hooks; released with the queue */
    fila_view on_enqueue;       /* their sources: for the journal alone */
    fila_view on_failure;
};

/* Creates a queue, and `<name>.dlq` with it unless it is one itself or exists (contract B13).
 * `options` may be NULL. FILA_QUEUE_EXISTS (`scripts` stay the caller's), FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fq_create_queue(
    struct fq_engine *engine,
    int64_t now,
    fila_view name,
    const struct fq_queue_options *options);

/* Deletes a queue, its DLQ, and what is pending in both. Leases can still be settled; what is
 * nacked or expires comes back to streams that are still open (contract B12). FILA_QUEUE_NOT_FOUND.
 */
FILA_NODISCARD fila_status fq_delete_queue(struct fq_engine *engine, int64_t now, fila_view name);

/* Moves up to `count` (0 = all) pending messages of a DLQ to its parent, in the order of fairness
 * key, then enqueue; attempt count 0. FILA_QUEUE_NOT_FOUND, FILA_INVALID_ARGUMENT (name does not
 * end in .dlq), FILA_PARENT_NOT_FOUND, FILA_NO_MEMORY (nothing moved; without memory half way the
 * partial count is returned with FILA_OK). */
FILA_NODISCARD fila_status fq_redrive(
    struct fq_engine *engine,
    int64_t now,
    fila_view dlq,
    uint64_t count,
    uint64_t *ret_redriven);

/* The config store (contract C). An empty value deletes. Keys `throttle.<name>` need a value
 * `<rate per second>,<burst>`: else FILA_INVALID_ARGUMENT. FILA_NO_MEMORY. */
FILA_NODISCARD fila_status
fq_set_config(struct fq_engine *engine, int64_t now, fila_view key, fila_view value);
/* An empty view for an unknown key. Lives until the next command. */
fila_view fq_get_config(struct fq_engine *engine, int64_t now, fila_view key);

/* Fill `ret_reply` (as.list_config, as.stats, as.list_queues); all that it points to is in one
 * block that the caller frees with free(). FILA_QUEUE_NOT_FOUND (stats), FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fq_list_config(
    struct fq_engine *engine,
    int64_t now,
    fila_view prefix,
    fila_reply *ret_reply,
    void **ret_block);
FILA_NODISCARD fila_status fq_get_stats(
    struct fq_engine *engine,
    int64_t now,
    fila_view queue,
    fila_reply *ret_reply,
    void **ret_block);
FILA_NODISCARD fila_status
fq_list_queues(struct fq_engine *engine, int64_t now, fila_reply *ret_reply, void **ret_block);

/* ---- Look without touching (no commands) ---- */

/* Whether there is a queue of that name. */
bool fq_exists(const struct fq_engine *engine, fila_view queue);

/* As fq_get_config: for hooks, which may call nothing else. */
fila_view fq_peek_config(const struct fq_engine *engine, fila_view key);

/* For tests and simulators. */

enum fq_state {
    FQ_GONE, /* acked, never there, or deleted with its queue */
    FQ_PENDING,
    FQ_LEASED
};

struct fq_found {
    fila_view queue; /* lives until the next command */
    uint32_t attempt_count;
    int64_t lease_end; /* FQ_LEASED only */
};

/* Where the message with that id is; `ret_found` may be NULL. */
enum fq_state fq_find(const struct fq_engine *engine, fila_view id, struct fq_found *ret_found);

/* Recounts everything: the first thing found that must never be, or NULL. Cost: all messages. */
const char *fq_check(const struct fq_engine *engine);

/* ---- Ids ---- */

/* Any form that Rust's uuid parser takes: hyphenated, simple, {hyphenated}, urn:uuid:hyphenated. */
bool fq_id_parse(fila_view text, uint8_t ret_id[16]);
/* Lower-case, hyphenated, zero-terminated. */
void fq_id_format(const uint8_t id[16], char ret_text[FQ_ID_SIZE]);

#endif
