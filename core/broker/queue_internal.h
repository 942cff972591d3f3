/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What is inside the queue engine, shared by queue*.c alone.
 *
 *   queue.c           the engine: commands on messages, leases, the idle tick
 *   queue_rounds.c    fairness keys, deficit round robin, delivery into slots
 *   queue_consumer.c  consumers and their slots
 *   queue_message.c   the stored message
 *   queue_admin.c     create, delete, redrive, statistics
 *   queue_config.c    the config store and throttle buckets
 *   queue_id.c        UUIDs
 *   queue_journal.c   what a durable store must keep
 *   queue_restore.c   making an engine again from it
 *   queue_check.c     the invariants
 *
 * Where a message is: `by_id` holds every message that is pending or leased. A pending one is in
 * the FIFO of its fairness key, a leased one in the list of its term. A term is one visibility
 * timeout in use: what is leased for the same time expires in the order of leasing, so that each
 * term's list is sorted without work.
 */
#ifndef FILA_BROKER_QUEUE_INTERNAL_H
#define FILA_BROKER_QUEUE_INTERNAL_H

#include "base/clock.h"
#include "broker/queue.h"
#include "broker/queue_journal.h"
#include "broker/table.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <utlist.h>

#define FQ_DLQ_SUFFIX     ".dlq"
#define FQ_DLQ_SUFFIX_LEN 4

/* What on_enqueue said, where it differs from the defaults; one block. */
struct fq_extra {
    fila_view fairness_key;
    size_t throttle_key_count;
    fila_view throttle_keys[];
};

struct fq_message {
    struct fb_node by_id;
    struct fq_message *prev; /* in its key's FIFO, or in its term's list */
    struct fq_message *next;
    struct fq_queue *queue; /* not to be followed by holders of a reference: see fq_delivery */
    struct fq_key *key;     /* FQ_PENDING */
    struct fq_term *term;   /* FQ_LEASED */
    int64_t lease_end;
    uint64_t seq; /* the order of enqueuing */
    struct fq_extra *extra;
    uint64_t group; /* of the journal, the last that it is in: as its list[change] */
    size_t change;
    atomic_uint refs;
    uint32_t attempt_count;
    uint32_t weight;
    enum fq_state state;
    uint32_t incarnation; /* of its queue when it was leased */
    uint8_t id[16];
    char id_text[FQ_ID_SIZE];
    bool restated; /* the store has it otherwise than it was put */
    fila_view queue_name;
    fila_view payload;
    size_t header_count;
    fila_header headers[];
};

/* A visibility timeout in use, with what is leased for it, first to expire first. */
struct fq_term {
    struct fq_term *prev;
    struct fq_term *next;
    struct fq_message *leases;
    int64_t length;
    size_t queues; /* that use it now */
};

/* A fairness key of a queue, for as long as messages of it are pending. */
struct fq_key {
    struct fb_node by_name;
    struct fq_queue *queue;
    struct fq_key *prev; /* in its queue's `round` or `waiting` */
    struct fq_key *next;
    struct fq_message *fifo;
    uint64_t pending;
    int64_t deficit; /* deliveries left in this round */
    uint32_t weight; /* of the message enqueued last */
    uint32_t turn;   /* deliveries left in this turn; 0 = its turn has not begun */
    bool in_round;
    size_t name_len;
    char name[];
};

struct fq_slot {
    struct fq_message *message;
    int64_t lease_end;
    uint64_t group; /* it may be taken when this group is durable */
    uint32_t attempt_count;
};

struct fq_consumer {
    struct fq_engine *engine;
    struct fq_queue *queue;
    void *user;
    struct fq_consumer *prev; /* of all */
    struct fq_consumer *next;
    struct fq_consumer *prev_room; /* in its queue's `room` */
    struct fq_consumer *next_room;
    struct fq_consumer *prev_ready; /* in the engine's `ready` */
    struct fq_consumer *next_ready;
    struct fq_consumer *prev_held; /* in the engine's `held` */
    struct fq_consumer *next_held;
    bool told; /* returned by fq_next_ready, or about to be, and not seen empty since */
    bool in_ready;
    bool in_held;
    uint32_t first;
    uint32_t count;
    struct fq_slot slots[FQ_SLOTS];
};

/* A queue, and what is left of a deleted one: streams and leases keep its name alive. */
struct fq_queue {
    struct fb_node by_name;
    struct fq_queue *prev; /* in the engine's `runnable` or `parked` */
    struct fq_queue *next;

    enum {
        FQ_QUEUE_STILL,    /* nothing to deliver, or nobody with room */
        FQ_QUEUE_RUNNABLE, /* the next turn delivers */
        FQ_QUEUE_PARKED    /* all that could be delivered is throttled until `parked_until` */
    } place;

    int64_t parked_until;
    bool exists;
    void *scripts;
    struct fq_term *term;
    struct fq_key *round;   /* keys with a part in this round, in the order of their turns */
    struct fq_key *waiting; /* keys for the next round */
    uint64_t keys;
    struct fq_consumer *room; /* those with a free slot, in the order of their turns */
    uint32_t consumers;
    uint64_t number; /* salt of its keys' hashes */
    uint64_t pending;
    uint64_t leased;
    uint64_t in_flight; /* those of `leased` from after the last deletion (contract B12) */
    uint32_t incarnation;
    size_t name_len;
    char name[];
};

struct fq_setting {
    struct fb_node by_key;
    size_t key_len;
    size_t value_len;
    char text[]; /* key, value */
};

/* A throttle bucket (contract B9). */
struct fq_bucket {
    struct fb_node by_name;
    double rate;
    double burst;
    double tokens;
    int64_t filled_at;
    uint64_t spent_for; /* the last message that took a token: of equal throttle keys one counts */
    size_t name_len;
    char name[];
};

struct fq_engine {
    struct fq_config config;
    uint64_t hash_seed[2];
    uint64_t random;
    uint64_t next_seq;
    uint64_t next_queue_number;
    uint64_t deliveries_throttled; /* of messages with throttle keys */
    int64_t idle_since;            /* the last command or tick */
    int64_t next_expiry;           /* no lease ends before it */
    int64_t next_unpark;           /* no parked queue is due before it */
    struct fb_table messages;
    struct fb_table queues;
    struct fb_table keys;
    struct fb_table settings;
    struct fb_table buckets;
    struct fq_queue *runnable;
    struct fq_queue *parked;
    struct fq_consumer *consumers;
    struct fq_consumer *ready;
    struct fq_consumer *held; /* not told yet: what they could take is not durable */
    struct fq_group journal;  /* the open group; its number is 0 without a journal */
    uint64_t durable;         /* the last group that is */
    struct fq_term *terms;
    struct fq_term *default_term; /* also of what was deleted */
};

static inline fila_view fq_view(const char *data, size_t len)
{
    fila_view view = {data, len};
    return view;
}

static inline bool fq_equal(fila_view a, fila_view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Byte order, as Rust compares strings. */
int fq_compare(fila_view a, fila_view b);

static inline fila_view fq_queue_name(const struct fq_queue *queue)
{
    return fq_view(queue->name, queue->name_len);
}

static inline fila_view fq_key_name(const struct fq_key *key)
{
    return fq_view(key->name, key->name_len);
}

static inline bool fq_is_dlq(fila_view name)
{
    return name.len >= FQ_DLQ_SUFFIX_LEN &&
           memcmp(name.data + name.len - FQ_DLQ_SUFFIX_LEN, FQ_DLQ_SUFFIX, FQ_DLQ_SUFFIX_LEN) == 0;
}

static inline fila_view fq_fairness_key(const struct fq_message *message)
{
    return message->extra ? message->extra->fairness_key : fq_view("default", 7);
}

/* ---- queue_id.c ---- */

void fq_id_make(uint64_t *random, int64_t wall_ms, uint8_t ret_id[16]);
uint64_t fq_random(uint64_t *state);

static inline uint64_t fq_id_hash(const uint8_t id[16])
{
    uint64_t hash;
    memcpy(&hash, id + 8, sizeof hash); /* the first byte's top bits are the variant */
    return hash >> 8 | hash << 56;
}

/* ---- queue_message.c ---- */

static inline struct fq_message *fq_message_ref(struct fq_message *message)
{
    atomic_fetch_add_explicit(&message->refs, 1, memory_order_relaxed);
    return message;
}

void fq_message_fields(const struct fq_message *message, struct fila_message_fields *ret_fields);
/* False without memory. */
bool fq_message_plan(struct fq_message *message, const struct fq_plan *plan);
/* The same message under another queue's name, with no place yet; NULL without memory. */
struct fq_message *fq_message_moved(const struct fq_message *message, fila_view queue_name);

/* ---- queue.c ---- */

/* Ends a command: delivers what can be delivered. */
void fq_turn(struct fq_engine *engine, int64_t now);
/* The queue of that name, whether it exists or is only kept alive; NULL when there is none. */
struct fq_queue *fq_queue_find(const struct fq_engine *engine, fila_view name);
/* The same, made when there is none: not existing, not placed. NULL without memory. */
struct fq_queue *fq_queue_get(struct fq_engine *engine, fila_view name);
/* Frees the queue if nothing keeps it. */
void fq_queue_drop(struct fq_engine *engine, struct fq_queue *queue);
/* Puts a message into `by_id`, and takes it out and gives up its reference: it must then be in no
 * list. */
void fq_admit(struct fq_engine *engine, struct fq_message *message);
void fq_forget(struct fq_engine *engine, struct fq_message *message);
/* Changes how long the queue's leases last from now on. False without memory. */
bool fq_queue_set_term(struct fq_engine *engine, struct fq_queue *queue, int64_t length);
/* The term of that length, made if need be; NULL without memory. */
struct fq_term *fq_term_get(struct fq_engine *engine, int64_t length);

/* ---- queue_admin.c ---- */

/* The name of a queue's DLQ; *ret_text, which it views, is the caller's to free. NULL without
 * memory. */
fila_view fq_dlq_name(fila_view parent, char **ret_text);
/* What the options come to. */
int64_t fq_visibility_of(const struct fq_queue_options *options);

/* ---- queue_rounds.c ---- */

/* The queue's key of that name, made if need be (then it must get a message at once); NULL without
 * memory. */
struct fq_key *fq_key_get(struct fq_engine *engine, struct fq_queue *queue, fila_view name);
/* Puts a message at the tail of its key. */
void fq_push(struct fq_engine *engine, struct fq_key *key, struct fq_message *message);
/* Takes a pending message out of its FIFO; frees a key that becomes empty. */
void fq_pull(struct fq_engine *engine, struct fq_message *message);
/* Puts the queue where it belongs: runnable or not. After whatever changes that. */
void fq_place(struct fq_engine *engine, struct fq_queue *queue);
/* Looks again at what is throttled, at the next turn. */
void fq_unpark(struct fq_engine *engine, struct fq_queue *queue);
/* One pass over the queue: at most the rest of its round. */
void fq_deliver(struct fq_engine *engine, struct fq_queue *queue, int64_t now);

/* ---- queue_consumer.c ---- */

/* Puts a leased message into the consumer whose turn it is. */
void fq_consumer_push(struct fq_queue *queue, struct fq_message *message);

/* ---- queue_journal.c: after what they name was done; nothing without a journal ---- */

void fq_journal_put(struct fq_engine *engine, struct fq_message *message);
void fq_journal_state(struct fq_engine *engine, struct fq_message *message);
void fq_journal_move(struct fq_engine *engine, struct fq_message *message);
void fq_journal_settled(struct fq_engine *engine, struct fq_message *message);
void fq_journal_queue(
    struct fq_engine *engine,
    const struct fq_queue *queue,
    const struct fq_queue_options *options);
void fq_journal_setting(struct fq_engine *engine, fila_view key, fila_view value);

/* Enqueued: the message is in its queue. */
static inline void fq_note_put(struct fq_engine *engine, struct fq_message *message)
{
    if (engine->journal.number) {
        fq_journal_put(engine, message);
    }
}

/* Leased, or pending again. */
static inline void fq_note_state(struct fq_engine *engine, struct fq_message *message)
{
    if (engine->journal.number) {
        fq_journal_state(engine, message);
    }
}

/* Pending in another queue; `message` is the copy there. */
static inline void fq_note_move(struct fq_engine *engine, struct fq_message *message)
{
    if (engine->journal.number) {
        fq_journal_move(engine, message);
    }
}

static inline void fq_note_settled(struct fq_engine *engine, struct fq_message *message)
{
    if (engine->journal.number) {
        fq_journal_settled(engine, message);
    }
}

/* Created or deleted. `options` may be NULL. */
static inline void fq_note_queue(
    struct fq_engine *engine,
    const struct fq_queue *queue,
    const struct fq_queue_options *options)
{
    if (engine->journal.number) {
        fq_journal_queue(engine, queue, options);
    }
}

static inline void fq_note_setting(struct fq_engine *engine, fila_view key, fila_view value)
{
    if (engine->journal.number) {
        fq_journal_setting(engine, key, value);
    }
}

/* ---- queue_config.c ---- */

void fq_bucket_fill(struct fq_bucket *bucket, int64_t now);
/* When the message may be delivered as far as its throttle keys say: `now` or before = at once;
 * FILA_NEVER = not until a bucket changes. */
int64_t fq_throttled_until(struct fq_engine *engine, const struct fq_message *message, int64_t now);
void fq_throttle_spend(struct fq_engine *engine, const struct fq_message *message);

#endif
