/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What is inside a fila_broker, shared by broker.c (its life, its clock), service.c (calls),
 * streams.c (consumers), faults.c and commit.c (durability).
 *
 * Properties. One lock guards everything in struct fila_broker but what is marked otherwise. One
 * thread, the ticker, sleeps until something is due: the engine's idle tick, a delayed answer, a
 * stream whose delay is over. With nothing leased and nothing delayed it sleeps for ever.
 *
 * Operation. A call locks, asks the faults, drives the engine, unlocks and answers. After anything
 * that touched the engine fb_settle tells consumers that have become ready and sees to it that the
 * ticker wakes in time. Answers that wait (DELAY, HANG) are parked; the ticker gives them.
 *
 * Safety. Callbacks run without the lock, except fb_consumer_events.ready.
 */
#ifndef FILA_BROKER_BROKER_H
#define FILA_BROKER_BROKER_H

#include "base/clock.h"
#include "broker/lua.h"
#include "broker/queue.h"
#include "broker/service.h"

#include <pthread.h>
#include <stdatomic.h>

#define FB_NAME_MAX 65535 /* bytes; a longer name stops a Fila server (contract A7) */

/* A scripted fault, and how often what it names was used since it was added. */
struct fb_fault {
    struct fb_fault *prev;
    struct fb_fault *next;
    fila_fault what; /* `queue` points to `name` */
    uint32_t uses;
    char name[];
};

/* A call whose answer waits. */
struct fb_parked {
    struct fb_parked *prev;
    struct fb_parked *next;
    int64_t due; /* FILA_NEVER: until the broker closes */
    fb_reply_fn on_reply;
    void *user;
    fila_reply *reply; /* NULL: answered with `error` */
    fila_error error;
};

struct fb_consumer {
    fila_broker *broker;
    struct fb_consumer *prev; /* of all */
    struct fb_consumer *next;
    struct fq_consumer *slots; /* NULL once ended, and when it hangs */
    const struct fb_consumer_events *events;
    void *user;
    bool told;            /* `ready` was called, and take has not said FB_TAKE_EMPTY since */
    bool ended;           /* `end` says how */
    bool cut;             /* ends with `end` once `left` is 0 (else it freezes) */
    uint64_t left;        /* messages that may still be taken; UINT64_MAX = no limit */
    int64_t quiet_until;  /* nothing can be taken before */
    struct fb_late *late; /* holds messages back; NULL = does not */
    fila_error end;
};

struct fila_broker {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* `alarm` is earlier now, or `closed` */
    pthread_t ticker;
    struct fq_engine *engine;
    struct fb_lua *lua;
    void (*on_script_failure)(void *user, const fila_script_failure *failure); /* or NULL */
    void *user;
    struct fb_fault *faults;
    atomic_bool has_half_open; /* there may be such a fault; not under the lock */
    atomic_bool closing;       /* a stall is over; not under the lock */
    struct fb_parked *parked;
    struct fb_consumer *consumers;
    struct fb_commit *commit; /* NULL: in memory only. Set before the broker is handed out */
    int64_t alarm;            /* when the ticker wakes */
    bool closed;
    uint64_t chaos_seed;      /* set the same */
    struct fb_server *server; /* set before the broker is handed out */
    uint32_t command_capacity;
    atomic_uint waiting; /* calls begun and unanswered; not under the lock */
};

/* ---- broker.c ---- */

/* Checks options, and fills in the defaults of those that the caller does not know yet. */
fila_status fb_options_read(
    const fila_broker_options *given,
    fila_broker_options *ret_options,
    fila_error *reterr);

/* After the engine or the parked answers changed; lock held. */
void fb_settle(fila_broker *broker);
/* Wakes the ticker if it would sleep past `due`; lock held. */
void fb_alarm(fila_broker *broker, int64_t due);

/* A condition that is waited for on the monotonic clock; false without memory. */
bool fb_init_cond(pthread_cond_t *cond);
/* Starts a thread that leaves all signals to the program's own. */
bool fb_start_thread(pthread_t *ret_thread, void *(*run)(void *), void *arg, const char *name);
/* `wanted`, or a random one where that is 0. */
uint64_t fb_make_seed(uint64_t wanted);

/* ---- service.c ---- */

/* Fills *reterr and returns `code`; the text is cut where it is too long, never inside a
 * character. */
fila_status fb_refuse(fila_error *reterr, fila_status code, fila_view text);
/* Refused before the engine is asked: no name, or one that is too long. */
fila_status fb_check_queue(fila_view queue, fila_error *reterr);
/* Counts a call in, unless command_capacity are waiting. Counted out with fb_leave. */
fila_status fb_enter(fila_broker *broker, fila_error *reterr);
void fb_leave(fila_broker *broker);
/* Has the ticker give an answer at parked->due, unless that is FILA_NEVER; lock held. */
void fb_park(fila_broker *broker, struct fb_parked *parked);
/* Gives a parked answer, and frees it; no lock held. */
void fb_answer_parked(fila_broker *broker, struct fb_parked *parked);

/* ---- streams.c ---- */

/* Tells `ready` where there is reason to; lock held. */
void fb_streams_notify(fila_broker *broker);
/* Streams whose quiet time is over by `now`; returns when the next one is. Lock held. */
int64_t fb_streams_wake(fila_broker *broker, int64_t now);
/* Opens the streams that are open again with broker->engine, which is new; lock held. */
void fb_streams_move(fila_broker *broker);
/* Ends every stream as a killed server does; lock held. */
void fb_streams_end(fila_broker *broker);

/* ---- faults.c ---- */

/* Counts a use of `call` on `queue` and says which fault it meets: a copy of it, with `kind` 0 for
 * none. STALL and CRASH have happened then: it returns afterwards, or never. HALF_OPEN is not among
 * them: fb_meets_half_open. Lock held. */
fila_fault fb_faults_use(fila_broker *broker, fila_call call, fila_view queue);
/* The queue that a request names; empty where it names none. */
fila_view fb_queue_of(const fila_request *request);
/* Ends the process as a crash would. */
_Noreturn void fb_crash(void);
/* A number of `seed` and `nth`, below `below`. */
uint64_t fb_fault_random(uint64_t seed, uint64_t nth, uint64_t below);
/* Frees all; lock held. */
void fb_faults_clear(fila_broker *broker);

/* ---- faults_parse.c ---- */

/* One rule of a chaos text. */
struct fb_chaos_rule {
    fila_fault fault; /* `queue` is NULL, or views `queue` below: not terminated */
    fila_view queue;
};

/* Reads the next rule from `*at` on, and moves it behind that; false at the end, and on an error,
 * when `reterr` is set and *at is where it is. A seed is stored in *ret_seed. */
bool fb_chaos_next(
    const char *spec,
    size_t *at,
    struct fb_chaos_rule *ret_rule,
    uint64_t *ret_seed,
    fila_error *reterr);

/* ---- late.c ---- */

/* Holds messages of one stream back (FILA_FAULT_LATE). Lock held. */
struct fb_late *fb_late_new(const fila_fault *fault); /* NULL without memory */
/* Releases what is held; takes NULL. */
void fb_late_free(struct fb_late *late);
/* Moves what `slots` has into it, as far as there is room, and takes what is due; else false, and
 * *ret_due says when the next one is (FILA_NEVER: nothing is held). */
bool fb_late_take(
    struct fb_late *late,
    struct fq_consumer *slots,
    int64_t now,
    struct fq_delivery *ret_delivery,
    int64_t *ret_due);

#endif
