/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the parts of the delivery engine share: its tables, and one line for each function that
 * crosses a file. The rules (numbers as in the specification) live in:
 *
 *   window.c, walk.c  the lease window of a message; evidence of a shorter visibility timeout (10)
 *   admit.c           a message comes in: duplicates, what is known of its id, where it goes
 *   lanes.c           one at a time per key (12)
 *   start.c           what runs next (1, 2), what is returned (7), the rate
 *   shared.c          what the engines of a process share: max_running, who runs alone
 *   suspects.c        crash suspects run alone (15)
 *   restore.c         what the journal is told, and what it tells (6, 15)
 *   retry.c           a verdict comes in: tries, backoff in place (5, 6)
 *   deadletter.c      the worker's own dead letters (11)
 *   settle.c          acks and nacks (3, 4), at most so many in flight (9)
 *   streams.c         open, pace, grant (9, 14), a window too small for the path, leases that are
 *                     uncertain, or old, for good (2, 7)
 *   flush.c           an overleased queue (8)
 *   breaker.c         a dependency that is down; pause (13)
 *   drain.c           the end (14), and giving all back
 *   ids.c             what is remembered of an id (3, 6, 8, 11)
 *   timing.c          margin, slack, need, backoff
 *   held.c            a delivery from FREE to FINISH: states, accounts, the one exit
 *
 * Operation. Each event function of engine.c notes the event, then lets fw_step do all that has
 * become due. Nothing else calls into the engine. Thread: the owner's.
 */
#ifndef FW_DELIVERY_INTERNAL_H
#define FW_DELIVERY_INTERNAL_H

#include "base/clock.h"
#include "delivery/delivery.h"
#include "delivery/estimate.h"
#include "delivery/heap.h"
#include "delivery/tree.h"
#include "delivery/walk.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
    FW_WAITING_LIMIT = 1024, /* messages that wait for a backoff or a lane (5, 9) */
    FW_KEPT_LIMIT = 65536,   /* ids with tries or an unsettled success (6) */
    FW_LIGHT_LIMIT = 8192,   /* ids of which only a nack is known */
    FW_DEFAULT_SETTLE = 256,
    FW_PACES = 16,  /* each VT / 8: two VT in all */
    FW_EVIDENCE = 3 /* different ids that prove a shorter visibility timeout (10) */
};

#define FW_WINDOW_MAX (UINT32_C(4) << 20)

/* ---- Commands out ---- */

struct fw_commands {
    struct fw_command *ring;
    uint32_t capacity; /* a power of two */
    uint32_t head;     /* taken */
    uint32_t tail;     /* put */
};

/* Room for the commands of `held` deliveries; false without memory. */
bool fw_commands_reserve(struct fw_commands *commands, uint32_t held);
void fw_commands_fini(struct fw_commands *commands);
void fw_emit(struct fw_delivery *e, const struct fw_command *command);
bool fw_commands_take(struct fw_commands *commands, struct fw_command *ret_command);
void fw_notice(struct fw_delivery *e, enum fw_notice notice, void *user, int64_t value);

/* ---- Ids ---- */

struct fw_held;

enum fw_memory {
    FW_MEMORY_NONE, /* in no list: a delivery refers to it */
    FW_MEMORY_LIGHT,
    FW_MEMORY_KEPT,
    FW_MEMORY_COUNT
};

/* What is known of one (queue, id). Lives while a delivery refers to it, then as long as there is
 * something to remember and room. */
struct fw_id {
    UT_hash_handle hh;
    struct fw_id *prev;
    struct fw_id *next;
    struct fw_held *held;    /* the delivery that holds it */
    struct fw_held *nacking; /* the last one whose nack is under way */
    uint32_t references;     /* deliveries that refer to it */
    uint32_t tries;
    uint32_t attempt_seen; /* the broker's attempt count, highest read */
    uint32_t nacked_attempt;
    int64_t seen_at;      /* when that was read */
    int64_t not_before;   /* 0, or when it may run (or be published) again */
    int64_t nacked_at;    /* 0, or when our confirmed nack was sent */
    int64_t nack_unsure;  /* until then a nack of ours may still be done, on any lease */
    uint64_t flush;       /* number of the flush that returned it */
    enum fw_cause doomed; /* not NONE: it goes to the dead letters without running again */
    bool suspect;         /* it may have crashed the process: it runs alone */
    bool done;            /* a success is not settled for certain: acked on sight */
    bool done_settled;    /* its ack was OK: what comes now is a stale copy */
    enum fw_outcome done_as;
    enum fw_memory memory;
    uint32_t key_len;
    char *key; /* queue length (4 bytes), queue, id; in `room` if it fits */
    char room[72];
};

struct fw_ids {
    struct fw_id *table;
    struct fw_id *lists[FW_MEMORY_COUNT];
    uint32_t counts[FW_MEMORY_COUNT];
    struct fw_id *free;
    struct fw_chunk *chunks;
    char *scratch;
    size_t scratch_size;
    uint64_t seed;
};

bool fw_ids_init(struct fw_ids *ids, uint64_t seed); /* false without memory */
/* The entry of the arrival's id, new if need be, with one reference more; NULL without memory. */
struct fw_id *fw_ids_take(struct fw_ids *ids, const struct fw_arrival *arrival);
/* One reference less. The last one leaves it in a list, or forgets it. */
void fw_ids_drop(struct fw_ids *ids, struct fw_id *id, int64_t now);
void fw_ids_forget(struct fw_id *id); /* all that is remembered */
void fw_ids_fini(struct fw_ids *ids);

/* Chunks of a pool, freed as a whole. */
struct fw_chunk {
    struct fw_chunk *next;
};

/* ---- Deliveries ---- */

enum fw_state {
    FW_NEW,
    FW_READY,   /* in engine->certain or engine->unsure */
    FW_SUSPECT, /* ready, but only to run alone: in engine->suspects */
    FW_BEHIND,  /* its lane is busy */
    FW_ASIDE,   /* its lane went on without it: it cannot start any more */
    FW_WAITING, /* for time */
    FW_RUNNING,
    FW_PUBLISHING,
    FW_QUEUED,   /* for a settlement slot */
    FW_SETTLING, /* ack, nack or reject under way */
    FW_RESEND    /* a pause before it is asked again */
};

/* In which bound it counts (rule 9). */
enum fw_account {
    FW_ACCOUNT_NONE,
    FW_ACCOUNT_PREFETCH,
    FW_ACCOUNT_WAITING,
    FW_ACCOUNT_SETTLING,
    FW_ACCOUNT_COUNT
};

/* What a WAITING delivery waits for. */
enum fw_then {
    FW_THEN_RUN,
    FW_THEN_NACK,
    FW_THEN_PUBLISH
};

struct fw_lane {
    UT_hash_handle hh;
    uint64_t key;
    struct fw_held *active; /* ready or running */
    struct fw_held *behind; /* in read order */
    uint32_t members;       /* deliveries that name it */
    bool promoting;
    struct fw_lane *next_free;
};

struct fw_window {
    int64_t early; /* earliest and latest instant at which the lease began */
    int64_t late;
};

struct fw_held {
    struct fw_tree_node node; /* READY */
    struct fw_timer timer;    /* SUSPECT, BEHIND, ASIDE, WAITING, RESEND */
    struct fw_held *prev; /* in a lane, a settle queue, the settlements under way, the suspects */
    struct fw_held *next;
    UT_hash_handle hh; /* by user */
    void *user;
    struct fw_id *id;
    struct fw_lane *lane;
    struct fw_window window;
    uint64_t seq; /* read order */
    int64_t sent_at;
    uint32_t size;
    uint32_t attempt_count;
    uint32_t runs;  /* of this delivery */
    uint32_t sends; /* of its settlement, or of its publish */
    enum fw_state state;
    enum fw_account account;
    enum fw_then then;
    enum fw_command_kind settle; /* ACK, NACK, REJECT */
    enum fw_outcome outcome;     /* if the settlement is OK */
    enum fw_cause cause;         /* of the last failure in this delivery */
    bool unsure;                 /* READY: in which tree */
    bool failed;                 /* a counted try failed in this delivery */
    bool lease_bound;            /* the run's deadline is the lease's, not the handler's */
    bool cancelled;
    bool refused;     /* its dead letter was: it goes back like an unstarted one */
    bool waited;      /* it counts with the waiting ones from then on */
    bool nack_sent;   /* no longer held by its id */
    bool nack_proven; /* the id was read again */
    bool unknown;     /* an earlier answer was UNKNOWN */
    bool bytes_held;  /* its size counts in held_bytes */
    bool hold_told;   /* HOLD was */
};

/* ---- Streams ---- */

enum fw_stream_state {
    FW_STREAM_DOWN,
    FW_STREAM_OPENING,
    FW_STREAM_UP,
    FW_STREAM_STOPPING
};

struct fw_stream {
    struct fw_walk walk;
    struct fw_pipe pipe;
    enum fw_stream_state state;
    bool was_open;      /* since it was asked for */
    uint32_t window;    /* to ask for; 0 = the transport's */
    uint32_t credits;   /* granted, not yet used */
    uint32_t redirects; /* in a row */
    int64_t asked_at;
    int64_t opened_at; /* earliest: no lease of this stream is older */
    int64_t up_at;
    int64_t ended_at;
    int64_t open_at;     /* when it may open again */
    int64_t pause;       /* the backoff's last ceiling */
    int64_t empty_at;    /* no lease of what is unread is older: the pipe was empty */
    int64_t ready_since; /* receives stand ready without a break; 0 = none does */
    int64_t unready_at;  /* when the last credit was used up */
    int64_t slow_since;  /* 0, or since when messages are old although receives stand waiting */
    int64_t slow_waited; /* how long they stood since then */
    uint64_t slow_bytes; /* read since then */
    int64_t stale_since; /* 0, or since when nothing came that had a certain lease to start on */
    bool flushing;
    int64_t flush_began;
    int64_t flush_next;
    uint32_t flush_left; /* messages that it may still read */
    uint32_t flush_returned;
    uint64_t flush_number;
};

/* Between the engines of a process. */
struct fw_shared {
    uint32_t limit; /* 0 = none */
    uint32_t running;
    uint64_t starts;
    struct fw_delivery *queue; /* engines with work that the limit keeps from starting; the one that
                                  started longest ago first */
    struct fw_delivery *alone; /* whose suspect runs alone, or is to as soon as nothing runs */
    struct fw_held *alone_run; /* that suspect, once it runs */
    int64_t alone_since;
    int64_t alone_until; /* of the wish, or of the run */
    int64_t alone_next;  /* no earlier wish: the others have their turn */
};

struct fw_breaker {
    bool open;
    bool asked;     /* a probe is under way */
    bool by_stream; /* the stream was opened for the trial */
    uint32_t in_a_row;
    int64_t opened_at;
    int64_t trial_at;
    int64_t pause;
    struct fw_held *trial;
};

/* How many messages had been through their handler by then. */
struct fw_pace {
    int64_t at; /* 0 = none */
    uint64_t through;
};

struct fw_evidence {
    uint64_t id; /* hash of it */
    int64_t at;
    int64_t observed;
};

struct fw_delivery {
    struct fw_delivery_config config; /* defaults filled in */
    int64_t now;
    int64_t vt; /* in effect: the configured, or a shorter one that was seen */
    int64_t margin;
    int64_t slack;
    int64_t need;
    int64_t need_limit;    /* VT / 2, or less after starving */
    int64_t starved_since; /* 0, or since when messages went back unstarted and none started */
    int64_t mean_run;
    uint64_t random;
    uint64_t seq;

    struct fw_commands commands;
    struct fw_ids ids;
    struct fw_held *by_user;
    struct fw_held *free_held;
    struct fw_chunk *held_chunks;
    struct fw_lane *lanes;
    struct fw_lane *free_lanes;
    struct fw_chunk *lane_chunks;

    struct fw_shared *shared; /* the config's, or own_shared */
    struct fw_shared own_shared;
    struct fw_delivery *queue_prev; /* in shared->queue */
    struct fw_delivery *queue_next;
    uint64_t last_start; /* number of it, over all engines */
    bool queued;
    bool blocked; /* by shared, with work that could start */

    struct fw_held *suspects; /* SUSPECT, in read order */
    uint32_t suspect_count;
    struct fw_tree certain; /* READY, by earliest lease start */
    struct fw_tree unsure;  /* READY, by latest lease start */
    struct fw_heap timers;
    struct fw_held *acks;      /* QUEUED */
    struct fw_held *nacks;     /* QUEUED */
    struct fw_held *under_way; /* SETTLING, oldest first */
    uint32_t settling;         /* in under_way */
    uint32_t running;
    uint32_t waiting; /* in state WAITING */
    uint32_t aside;   /* in state ASIDE */
    uint32_t behind;  /* in state BEHIND */
    uint32_t accounts[FW_ACCOUNT_COUNT];
    uint64_t held_bytes;
    uint32_t size_seen; /* recent largest message, fading */
    uint64_t received;
    uint64_t finished[FW_OUTCOME_COUNT];
    uint64_t failures[FW_CAUSE_COUNT];

    struct fw_quantile settle_times;
    struct fw_quantile run_times;
    struct fw_peak answers;

    struct fw_stream *streams;
    uint32_t stream_count; /* allocated; those over config.streams are closing */
    int64_t streams_at;    /* when they are looked at again; 0 after a change */
    uint32_t share;        /* of prefetch, for each stream */
    uint32_t flushing;     /* streams */
    uint32_t next_stream;
    uint32_t credits; /* outstanding, over all streams */

    struct fw_breaker breaker;
    struct fw_evidence evidence[FW_EVIDENCE];
    int64_t anew_at;    /* what was read before proves nothing: the broker may be another by now */
    int64_t next_start; /* rate */
    struct fw_pace paces[FW_PACES];
    uint32_t next_pace;
    uint64_t through; /* messages that a handler was done with, for good or bad */
    uint64_t flushes;
    int64_t overleased_until; /* end of the spell that was told */
    bool split_told;

    bool pressure;
    bool paused;
    int64_t paused_at;
    bool withdrawn; /* streams stopped, what is held given back; but for a drain */
    int64_t withdrawn_at;
    bool draining;
    bool drain_cancelled; /* runs were told to stop */
    bool drained;
    int64_t drain_deadline;
};

static inline int64_t fw_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t fw_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#define FW_OWNER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* ---- held.c ---- */
bool fw_held_init(struct fw_delivery *e); /* false without memory */
/* NULL without memory; the caller gives it an account. */
struct fw_held *fw_held_new(struct fw_delivery *e, const struct fw_arrival *arrival);
struct fw_held *fw_held_of(const struct fw_delivery *e, void *user);
void fw_held_fini(struct fw_delivery *e);
/* Leaves the old state's tables; the caller enters those of `state`. */
void fw_move(struct fw_delivery *e, struct fw_held *h, enum fw_state state);
void fw_account(struct fw_delivery *e, struct fw_held *h, enum fw_account account);
void fw_free_bytes(struct fw_delivery *e, struct fw_held *h);
/* It will be held for a while: the owner may make it small. */
void fw_hold(struct fw_delivery *e, struct fw_held *h);
/* An arrival that there is no memory for, or that came after the end: `left` at once. */
void fw_refuse(struct fw_delivery *e, void *user);
/* The one exit: FINISH, and gone. */
void fw_finish(struct fw_delivery *e, struct fw_held *h, enum fw_outcome outcome);

/* ---- timing.c ---- */
/* a x b, neither negative, but no more than a quarter of all time: sums of a few stay in range. */
int64_t fw_times(int64_t a, int64_t b);
int64_t fw_margin_for(int64_t vt, int64_t settle_p99);
int64_t fw_slack_for(int64_t vt, int64_t round_trip);
/* Recomputes margin, slack and need after what they depend on has changed. */
void fw_timing_update(struct fw_delivery *e);
/* A message goes back unstarted. When none has started for a VT although slots were free, what a
 * message is said to need is halved: to start with too little time is safe, since its deadline is
 * within the lease, and better than never. */
void fw_starved(struct fw_delivery *e);
/* A run was cut by its lease: it does need more. */
void fw_needs_more(struct fw_delivery *e);
void fw_settle_took(struct fw_delivery *e, int64_t took);
void fw_run_took(struct fw_delivery *e, int64_t took);
void fw_came_through(struct fw_delivery *e); /* one more message is through its handler */
uint64_t fw_random(struct fw_delivery *e);
int64_t fw_random_up_to(struct fw_delivery *e, int64_t limit); /* [0, limit] */
/* What a message waits after its `tries`th failed run; jitter in [1/2, 1]. */
int64_t fw_backoff(struct fw_delivery *e, uint32_t tries);
int64_t fw_slowest_backoff(struct fw_delivery *e);
int64_t fw_call_deadline(const struct fw_delivery *e); /* of a call that is sent now */
/* RETRY-SPLIT, once: tries that do not fit one lease. */
void fw_check_split(struct fw_delivery *e);

/* ---- window.c ---- */
struct fw_window fw_window_read(
    struct fw_delivery *e,
    struct fw_stream *stream,
    const struct fw_arrival *arrival);
/* No lease of an unread message of that stream is older. */
int64_t fw_oldest_unread(const struct fw_stream *stream);
void fw_renew(struct fw_delivery *e, struct fw_held *h, struct fw_window window);
/* The lease of `h` ended before it could. */
void fw_lease_was_short(struct fw_delivery *e, const struct fw_held *h);
void fw_forget_short_lease(struct fw_delivery *e);

static inline int64_t fw_early_end(const struct fw_delivery *e, const struct fw_held *h)
{
    return h->window.early + e->vt;
}

static inline int64_t fw_late_end(const struct fw_delivery *e, const struct fw_held *h)
{
    return h->window.late + e->vt;
}

static inline bool fw_certain(const struct fw_delivery *e, const struct fw_held *h)
{
    return e->now < fw_early_end(e, h);
}

/* ---- admit.c ---- */
void fw_admit(struct fw_delivery *e, struct fw_stream *stream, const struct fw_arrival *arrival);

/* ---- lanes.c ---- */
bool fw_lane_init(struct fw_delivery *e); /* false without memory */
bool fw_lane_assign(struct fw_delivery *e, struct fw_held *h, uint64_t key); /* false: no memory */
bool fw_lane_enter(struct fw_delivery *e, struct fw_held *h);  /* false: it went behind */
void fw_lane_leave(struct fw_delivery *e, struct fw_held *h);  /* the next one becomes ready */
void fw_lane_forget(struct fw_delivery *e, struct fw_held *h); /* it is over */
void fw_lane_fini(struct fw_delivery *e);

/* ---- start.c ---- */
void fw_make_ready(struct fw_delivery *e, struct fw_held *h);
bool fw_fits(const struct fw_delivery *e, const struct fw_held *h); /* rule 1, and 2's bound */
/* When a delivery that has not been started is given back at the latest. */
int64_t fw_last_call(const struct fw_delivery *e, const struct fw_held *h);
void fw_time_over(struct fw_delivery *e, struct fw_held *h); /* of BEHIND or ASIDE */
/* Nacks it while that may be done, else leaves it (rules 5, 7). */
void fw_give_back(struct fw_delivery *e, struct fw_held *h);
/* Its lease cannot be ended by us any more: `lease_lost` if it ran, else `left`. */
void fw_lose(struct fw_delivery *e, struct fw_held *h);
void fw_return_overdue(struct fw_delivery *e);
void fw_start(struct fw_delivery *e);
bool fw_slot_free(const struct fw_delivery *e); /* and rate, breaker, pause, drain allow a start */
bool fw_startable(const struct fw_delivery *e); /* something that fw_start would start */
int64_t fw_start_wake(const struct fw_delivery *e);

/* Runs it now. */
void fw_run(struct fw_delivery *e, struct fw_held *h, bool alone);
bool fw_rate_allows(const struct fw_delivery *e);
int64_t fw_rate_interval(const struct fw_delivery *e); /* between two starts, with a rate */

/* ---- shared.c ---- */
bool fw_shared_allows(const struct fw_delivery *e); /* one more run, of no suspect */
/* Takes or leaves its place among those that wait, after it has started what it could. */
void fw_shared_wait(struct fw_delivery *e, bool has_work);
void fw_shared_started(struct fw_delivery *e);
void fw_shared_ended(struct fw_delivery *e, const struct fw_held *h);
void fw_shared_leave(struct fw_delivery *e);              /* the engine is over */
void fw_alone_end(struct fw_shared *shared, int64_t now); /* the others have their turn */

/* ---- suspects.c ---- */
void fw_suspect_ready(struct fw_delivery *e, struct fw_held *h);
void fw_suspects_step(struct fw_delivery *e);
int64_t fw_suspects_wake(const struct fw_delivery *e);

/* ---- restore.c ---- */
/* Tells the journal what is known of the id of `h`, if there is a journal. */
void fw_record(struct fw_delivery *e, const struct fw_held *h);
/* The same, and that it is done: its ack makes `outcome`. */
void fw_record_done(struct fw_delivery *e, const struct fw_held *h, enum fw_outcome outcome);

/* ---- retry.c ---- */
void fw_verdict(struct fw_delivery *e, struct fw_held *h, const struct fw_verdict *verdict);
/* WAITING until `not_before`, or until it must be given back. */
void fw_wait(struct fw_delivery *e, struct fw_held *h, int64_t not_before, enum fw_then then);
void fw_wait_over(struct fw_delivery *e, struct fw_held *h);

/* ---- deadletter.c ---- */
/* What the config says of a message that is not to run again. */
void fw_dead_letter(struct fw_delivery *e, struct fw_held *h, enum fw_cause cause);
void fw_publish(struct fw_delivery *e, struct fw_held *h);
void fw_published(struct fw_delivery *e, struct fw_held *h, enum fw_settled result, bool too_large);

/* ---- settle.c ---- */
void fw_settle(
    struct fw_delivery *e,
    struct fw_held *h,
    enum fw_command_kind kind,
    enum fw_outcome outcome);
void fw_settle_send(struct fw_delivery *e);
void fw_settle_again(struct fw_delivery *e, struct fw_held *h); /* after its pause */
void fw_settled(struct fw_delivery *e, struct fw_held *h, enum fw_settled result);
int64_t fw_oldest_settlement(const struct fw_delivery *e); /* how long it is under way */

/* ---- streams.c ---- */
bool fw_streams_resize(struct fw_delivery *e, uint32_t count);
void fw_streams_fini(struct fw_delivery *e);
void fw_stream_opened(struct fw_delivery *e, struct fw_stream *s, const struct fw_pipe *pipe);
void fw_stream_ended(struct fw_delivery *e, struct fw_stream *s, enum fw_stream_end how);
void fw_stream_stop(struct fw_delivery *e, struct fw_stream *s);
void fw_stream_used(struct fw_delivery *e, struct fw_stream *s); /* a credit, by a message */
void fw_streams_step(struct fw_delivery *e);
int64_t fw_streams_wake(const struct fw_delivery *e);
void fw_pipe_check(struct fw_delivery *e, struct fw_stream *s, const struct fw_arrival *arrival);
/* A new delivery was read. When for a VT all that could be done with what came was to leave it to
 * its lease, the stream is opened anew, and term (a) makes leases certain again. */
void fw_stale_check(struct fw_delivery *e, struct fw_stream *s, const struct fw_held *h);
uint32_t fw_room(const struct fw_delivery *e); /* messages that may be granted now */
void fw_grant(struct fw_delivery *e, uint32_t room);
void fw_stream_grant(struct fw_delivery *e, struct fw_stream *s, uint32_t credits);
/* Whether none is open, opening or stopping; *ret_since: since when. */
bool fw_streams_down(const struct fw_delivery *e, int64_t *ret_since);

/* ---- flush.c ---- */
/* True when the arrival was dealt with by a flush. */
bool fw_flush_takes(struct fw_delivery *e, struct fw_stream *s, struct fw_held *h);
void fw_flush_step(struct fw_delivery *e);
void fw_flush_end(struct fw_delivery *e, struct fw_stream *s);
int64_t fw_flush_wake(const struct fw_delivery *e);

/* ---- breaker.c ---- */
void fw_breaker_verdict(
    struct fw_delivery *e,
    const struct fw_held *h,
    const struct fw_verdict *verdict);
void fw_breaker_probed(struct fw_delivery *e, bool healthy);
void fw_breaker_step(struct fw_delivery *e);
int64_t fw_breaker_wake(const struct fw_delivery *e);
/* Whether a run may start now, as far as breaker, pause and drain go. */
bool fw_may_start(const struct fw_delivery *e);
/* What is to be open: of `i`, while a breaker's trial needs one stream only. */
bool fw_wants_stream(const struct fw_delivery *e, uint32_t i);

/* ---- drain.c ---- */
void fw_withdraw(struct fw_delivery *e); /* stop the streams, then give back what is held */
void fw_drain_step(struct fw_delivery *e);
int64_t fw_drain_wake(const struct fw_delivery *e);

/* ---- config.c ---- */
struct fw_delivery_config fw_config_fill(const struct fw_delivery_config *config);

#endif
