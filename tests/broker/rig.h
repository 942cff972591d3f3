/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The queue engine in a test's hand, on a virtual clock. Messages are single letters: the payload
 * is the letter, and commands name a message by it. After each command the engine's invariants are
 * checked.
 */
#ifndef TESTS_BROKER_RIG_H
#define TESTS_BROKER_RIG_H

#include "base/clock.h"
#include "broker/queue.h"

#define RIG_WALL_MS INT64_C(1700000000000)

struct rig {
    struct fq_engine *engine;
    int64_t now;
    char ids[128][FQ_ID_SIZE];  /* by letter: of the one enqueued last */
    int64_t lease_ends[128];    /* as told by the last take */
    enum fq_failure on_failure; /* what the hook answers */
    uint32_t failures;          /* how often it was asked */
    uint32_t failure_attempts;  /* what it was told last */
    char failure_error[64];
    uint32_t released; /* scripts given back */
};

/* With hooks: fairness key, weight and throttle keys come from the headers "key", "weight" and
 * "throttle" (each one throttle key). */
struct rig *rig_open(void);
struct rig *rig_open_with(uint32_t quantum);
void rig_close(struct rig *rig);

/* `vt_ms` 0 = the default. */
void rig_create(struct rig *rig, const char *queue, int64_t vt_ms);
fila_status rig_put(struct rig *rig, const char *queue, char letter);
/* As many messages as `letters` has, under `key` with `weight`; throttle keys separated by spaces,
 * or NULL. */
void rig_put_as(
    struct rig *rig,
    const char *queue,
    const char *letters,
    const char *key,
    uint32_t weight,
    const char *throttles);
/* `count` messages of the letter 'x'. */
void rig_fill(struct rig *rig, const char *queue, uint32_t count);

struct fq_consumer *rig_consume(struct rig *rig, const char *queue);
void rig_leave(struct rig *rig, struct fq_consumer *consumer);
/* Takes all that waits: each message's letter, then its attempt count if it is not 0 ("ab1c"). The
 * text lives until the next call. */
const char *rig_take(struct rig *rig, struct fq_consumer *consumer);
/* Takes at most `count`; how many there were. */
uint32_t rig_take_some(struct rig *rig, struct fq_consumer *consumer, uint32_t count);

fila_status rig_ack(struct rig *rig, const char *queue, char letter);
fila_status rig_nack(struct rig *rig, const char *queue, char letter);

/* Lets time pass with the ticks that come in it; no command. */
void rig_pass(struct rig *rig, int64_t ms);
/* A command that touches no message: enqueue to a queue that does not exist. */
void rig_foreign(struct rig *rig);

/* "depth/in_flight/keys/consumers"; "-" without such a queue. */
const char *rig_stats(struct rig *rig, const char *queue);
enum fq_state rig_state(struct rig *rig, char letter);

#endif
