/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The delivery engine: decides what happens to every message of one queue between its read and its
 * settlement.
 *
 * Properties. A deterministic state machine: no thread, lock, I/O, or clock. Events go in with the
 * time (CLOCK_BOOTTIME ns, never going back), commands come out. Same events, same commands. Every
 * delivery that went in comes out in exactly one FINISH command, with one outcome. received =
 * finished + held at every instant.
 *
 * Operation. The owner (the worker's I/O thread, or the simulator) calls one event function at a
 * time, then takes the commands with fw_delivery_next until it returns false, and calls
 * fw_delivery_timer no later than fw_delivery_wake_at. A delivery is named by the `user` pointer
 * that came with its message: it must stay the same and unique until its FINISH command has been
 * taken. What the engine asks for is answered once: RUN by fw_delivery_verdict; ACK, NACK and
 * REJECT by fw_delivery_settled; PUBLISH by fw_delivery_published; OPEN_STREAM by
 * fw_delivery_stream_open or fw_delivery_stream_end, and an open stream later by
 * fw_delivery_stream_end, also after STOP_STREAM; PROBE by fw_delivery_probed. CANCEL has no answer
 * of its own: the run's verdict is it. An answer that nobody waits for is ignored.
 *
 * A run that is over its deadline keeps its place among `concurrency`, its lane and its id until
 * its verdict comes. The executor bounds that wait (a thread is given up, a child is killed, some
 * seconds later at most: executor.h), and only then does a spare take the place. Before, the
 * handler may well be at work: another one in its place would be one more than the user allowed at
 * once, and the same message, or the next of its lane, beside it is what rules 10 and 12 rule out.
 *
 * A drain's deadline does not wait: what is in flight then is finished without its answer, runs as
 * `left`. The owner may release what the engine knew of it (the message may be counted and
 * logged), but `user` must not be given to another delivery of this engine before the run, or the
 * call, that still carries it has ended; its answer may be given to the engine, or dropped.
 *
 * Safety. Not thread-safe: one owner. Memory is bounded by the configured bounds; without memory an
 * arrival is finished `left` at once.
 */
#ifndef FW_DELIVERY_H
#define FW_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fw_delivery;
struct fw_shared;

enum fw_dead_letter {
    FW_DEAD_LETTER_WORKER,
    FW_DEAD_LETTER_BROKER,
    FW_DEAD_LETTER_DROP,
    FW_DEAD_LETTER_NONE
};

enum fw_surplus {
    FW_SURPLUS_NACK,
    FW_SURPLUS_EXPIRE
};

enum fw_unsure_lease {
    FW_UNSURE_RUN,
    FW_UNSURE_SKIP
};

/* All times in ns. */
struct fw_delivery_config {
    int64_t visibility_timeout;
    int64_t timeout; /* of one run; 0 = half of visibility_timeout */
    uint32_t concurrency;
    uint32_t streams;
    uint32_t prefetch; /* 0 = max(4, 2 x concurrency) */
    uint64_t prefetch_bytes;
    uint32_t retry_attempts; /* 0 = for ever */
    int64_t retry_first;
    int64_t retry_max;
    uint32_t max_deliveries; /* 0 = off */
    enum fw_dead_letter dead_letter;
    enum fw_surplus surplus;
    enum fw_unsure_lease unsure_lease;
    bool lanes;  /* one at a time per lane key */
    double rate; /* starts a second; 0 = no limit */
    uint32_t breaker_failures;
    int64_t breaker_probe;
    int64_t breaker_max;
    bool has_probe;           /* the handler can be asked whether its dependency is back */
    bool journal;             /* RECORD commands are wanted */
    struct fw_shared *shared; /* with the other engines of the process; outlives them. NULL: none */
    uint32_t settle_in_flight; /* settlements sent and unanswered: 256 */
    uint64_t seed;             /* of jitter */
};

/* What a stream's transport leases ahead of its reader (struct fila_transport_caps), and the path's
 * round trip. */
struct fw_pipe {
    uint32_t slots;
    uint32_t bytes;
    uint32_t window;
    int64_t round_trip;
};

enum fw_stream_end {
    FW_STREAM_CLOSED,     /* in good order, also when we stopped it */
    FW_STREAM_BROKEN,     /* connection lost or refused: retry, paced */
    FW_STREAM_REDIRECTED, /* not the leader; the host follows the hint */
    FW_STREAM_REFUSED,    /* rights, arguments: retry at the slowest pace */
    FW_STREAM_MISSING     /* no such queue */
};

struct fw_arrival {
    void *user;
    const char
        *queue; /* the message's own queue_id, with its id the key of all tables; both copied */
    size_t queue_len;
    const char *id;
    size_t id_len;
    uint32_t attempt_count; /* the broker's */
    uint32_t size;          /* bytes held for it */
    uint32_t wire_size;     /* bytes on the wire, for the pipe's walk */
    uint64_t lane;          /* hash of the lane key; ignored without lanes */
    int64_t waiting_since; /* when the receive that took it was posted (the pipe was empty from then
                              until now) */
    int64_t lease_end;     /* exact, where the transport knows it; else 0 */
};

/* The same numbers as fila/plugin.h. */
enum fw_verdict_kind {
    FW_ACK,
    FW_RETRY,
    FW_REJECT,
    FW_UNAVAILABLE
};

enum fw_cause {
    FW_CAUSE_NONE,
    FW_CAUSE_RETRY,
    FW_CAUSE_REJECT,
    FW_CAUSE_UNAVAILABLE,
    FW_CAUSE_TIMEOUT,
    FW_CAUSE_CRASH,
    FW_CAUSE_POISON,
    FW_CAUSE_COUNT
};

struct fw_verdict {
    enum fw_verdict_kind kind;
    enum fw_cause cause;
    int64_t delay;   /* the handler's own retry-after; 0 = the backoff */
    int64_t started; /* when the handler began and ended, for its duration */
    int64_t ended;
};

enum fw_settled {
    FW_SETTLED_OK,
    FW_SETTLED_GONE,
    FW_SETTLED_UNKNOWN,
    FW_SETTLED_DENIED,
    FW_SETTLED_RETRY
};

enum fw_outcome {
    FW_ACKED,
    FW_RETRIED,
    FW_DEAD_LETTERED,
    FW_DROPPED,
    FW_RETURNED,
    FW_LEFT,
    FW_LEASE_LOST,
    FW_DUPLICATE,
    FW_OUTCOME_COUNT
};

/* Lower-case names as conventions.md lists them ("acked", "timeout", ...); never NULL. */
const char *fw_outcome_name(enum fw_outcome outcome);
const char *fw_cause_name(enum fw_cause cause);

enum fw_command_kind {
    FW_COMMAND_RUN,     /* user, deadline, attempt, lease_end, alone (a crash suspect: nothing runs
                           beside it) */
    FW_COMMAND_CANCEL,  /* user: ask the run to stop; its verdict is still expected */
    FW_COMMAND_ACK,     /* user, deadline */
    FW_COMMAND_NACK,    /* user, deadline, cause (NONE: returned unstarted) */
    FW_COMMAND_REJECT,  /* user, deadline, cause: nack for good (dead_letter = broker) */
    FW_COMMAND_PUBLISH, /* user, deadline, cause, attempt: the dead-letter copy */
    FW_COMMAND_GRANT,   /* stream, credits */
    FW_COMMAND_OPEN_STREAM, /* stream, window */
    FW_COMMAND_STOP_STREAM, /* stream */
    FW_COMMAND_PROBE,       /* ask the handler whether its dependency is back */
    FW_COMMAND_HOLD,        /* user: it will be held without running, for a backoff or a lane: what
                               pins more memory than its own size may be copied. Once a delivery */
    FW_COMMAND_COMPANY,     /* user: its run is not alone any more (it is over its deadline) */
    FW_COMMAND_RECORD, /* user, and what is known of its id from now on, for the journal: attempt
                          (tries), deadline (not before), seen, cause (doomed), done, outcome (done
                          as); all 0: nothing */
    FW_COMMAND_NOTICE, /* notice, user (may be NULL), value, stream (PIPE_SLOW,
                           RECONNECT): something for the log */
    FW_COMMAND_FINISH, /* user, outcome, cause, attempt: the delivery is over; last command that
                          names it */
    FW_COMMAND_DRAINED /* the drain is over: nothing is held, no stream is open */
};

/* Log events that only the engine can know; `value` in the unit of the comment. */
enum fw_notice {
    FW_NOTICE_OVERLEASED,  /* the visibility timeout that would end it, ns */
    FW_NOTICE_PIPE_SLOW,   /* the window it reopens with, bytes */
    FW_NOTICE_VT_SHORT,    /* the visibility timeout seen, ns: it must be shorter than configured */
    FW_NOTICE_RETRY_SPLIT, /* the visibility timeout that keeps the tries together, ns */
    FW_NOTICE_BREAKER_OPEN,   /* until the trial, ns */
    FW_NOTICE_BREAKER_CLOSED, /* how long it was open, ns */
    FW_NOTICE_DLQ_REFUSED,    /* dead-letter publish denied, or no such queue */
    FW_NOTICE_DLQ_TOO_LARGE,  /* the copy is over the broker's limit */
    FW_NOTICE_FLUSH,          /* messages returned */
    FW_NOTICE_RECONNECT,      /* the pause before the stream opens again, ns */
    FW_NOTICE_COUNT
};

struct fw_command {
    enum fw_command_kind kind;
    void *user;
    int64_t deadline;
    int64_t lease_end; /* of RUN: the earliest instant at which the lease may end */
    uint32_t attempt;  /* tries including this one */
    uint32_t seen;     /* the broker's attempt count, highest read */
    bool alone;
    bool done; /* a success whose ack may not have reached the broker */
    enum fw_cause cause;
    enum fw_outcome outcome;
    uint32_t stream;
    uint32_t credits;
    uint32_t window;
    enum fw_notice notice;
    int64_t value;
};

/* What operators see of a queue; all by value. */
struct fw_delivery_stats {
    uint64_t received;
    uint64_t finished[FW_OUTCOME_COUNT];
    uint64_t failures[FW_CAUSE_COUNT];
    uint32_t held;
    uint64_t held_bytes;
    uint32_t running;
    uint32_t prefetched;    /* read, not yet through the handler */
    uint32_t ready;         /* startable, waiting for a slot */
    uint32_t retry_waiting; /* waiting out a backoff */
    uint32_t settling;
    uint32_t streams_up;
    bool breaker_open;
    bool flushing; /* reading past the bounds, to return what is old */
    bool draining;
    bool paused;
};

/* What the engines of a process have in common: a bound on what runs over all of them (max_running;
 * turns are fair: each engine that waits starts one), and the rule that a crash suspect runs alone.
 * No lock: it belongs to the thread of its engines. After any event an engine may be due for the
 * sake of another, so all their fw_delivery_wake_at are to be asked. */
struct fw_shared *fw_shared_new(uint32_t max_running); /* 0 = no limit; NULL without memory */
void fw_shared_free(struct fw_shared *shared);         /* after its engines; takes NULL */
void fw_shared_limit(struct fw_shared *shared, uint32_t max_running);
uint32_t fw_shared_running(const struct fw_shared *shared);

/* What an earlier process knew of a message. The texts are copied. */
struct fw_restored {
    const char *queue;
    size_t queue_len;
    const char *id;
    size_t id_len;
    uint32_t tries;
    uint32_t seen;
    int64_t not_before;
    enum fw_cause doomed;
    bool done;
    enum fw_outcome done_as;
};

/* What is wrong with a config, in words, with the inequality and the value that would pass; false =
 * nothing. `timeout + margin + slack >= visibility_timeout` and the like. */
bool fw_delivery_config_problem(
    const struct fw_delivery_config *config,
    char *ret_text,
    size_t size);

/* What of a visibility timeout a message may wait and run: without margin and slack, on a path
 * whose times are not known yet. */
int64_t fw_delivery_usable(int64_t vt);

/* NULL without memory. `config` is copied. The first commands open the streams. */
struct fw_delivery *fw_delivery_new(const struct fw_delivery_config *config, int64_t now);
void fw_delivery_free(struct fw_delivery *engine); /* takes NULL; what is held is forgotten */

/* Takes up what the journal says of a message, as fw_command RECORD told it. Before the first
 * message; without memory it is not known. */
void fw_delivery_restore(
    struct fw_delivery *engine,
    int64_t now,
    const struct fw_restored *restored);
/* The message may have crashed the process (rule 15): it runs alone, or, with two crashes or more
 * while it ran alone, never again: it is dead-lettered for the cause `poison`. Of `suspect`, queue
 * and id count. */
void fw_delivery_suspect(
    struct fw_delivery *engine,
    int64_t now,
    const struct fw_restored *suspect,
    uint32_t crashes);

void fw_delivery_stream_open(
    struct fw_delivery *engine,
    int64_t now,
    uint32_t stream,
    const struct fw_pipe *pipe);
void fw_delivery_stream_end(
    struct fw_delivery *engine,
    int64_t now,
    uint32_t stream,
    enum fw_stream_end how);
void fw_delivery_message(
    struct fw_delivery *engine,
    int64_t now,
    uint32_t stream,
    const struct fw_arrival *arrival);
void fw_delivery_verdict(
    struct fw_delivery *engine,
    int64_t now,
    void *user,
    const struct fw_verdict *verdict);
/* Answers an ACK, NACK or REJECT command; `took` is how long it was under way. */
void fw_delivery_settled(
    struct fw_delivery *engine,
    int64_t now,
    void *user,
    enum fw_settled result,
    int64_t took);
/* Answers a PUBLISH command. `too_large` with DENIED: the copy is over the broker's limit. */
void fw_delivery_published(
    struct fw_delivery *engine,
    int64_t now,
    void *user,
    enum fw_settled result,
    bool too_large);
/* Answers a PROBE command. */
void fw_delivery_probed(struct fw_delivery *engine, int64_t now, bool healthy);
void fw_delivery_timer(struct fw_delivery *engine, int64_t now);
void fw_delivery_pause(struct fw_delivery *engine, int64_t now);
void fw_delivery_resume(struct fw_delivery *engine, int64_t now);
/* Rule 14. DRAINED comes at `deadline` at the latest if the owner answers what is in flight. A
 * second call with an earlier deadline shortens it. */
void fw_delivery_drain(struct fw_delivery *engine, int64_t now, int64_t deadline);
/* New limits for what comes; what runs keeps its deadline. Streams change only if `streams` did. */
void fw_delivery_reconfigure(
    struct fw_delivery *engine,
    int64_t now,
    const struct fw_delivery_config *config);
/* Memory pressure: stop (or go on) reading. */
void fw_delivery_pressure(struct fw_delivery *engine, int64_t now, bool on);

/* Takes the next command; false when there is none. */
bool fw_delivery_next(struct fw_delivery *engine, struct fw_command *ret_command);
/* When fw_delivery_timer is due; FILA_NEVER (INT64_MAX) if nothing waits for time. */
int64_t fw_delivery_wake_at(const struct fw_delivery *engine);
struct fw_delivery_stats fw_delivery_stats(const struct fw_delivery *engine);

/* ---- For tests and simulators ---- */

/* Recounts everything, and looks for work that waits beside a free slot: the first thing found that
 * must never be after an event, or NULL. Cost: all that is held. */
const char *fw_delivery_check(const struct fw_delivery *engine);

#endif
