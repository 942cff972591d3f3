/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The worker as seen from outside, at one instant: what /metrics, /readyz, /status and `ctl` show.
 *
 * Properties. A snapshot is a copy that owns all it points to: whoever asked for it reads it on
 * their own thread while the worker goes on. It holds no payload, no header and no secret. All
 * texts are valid UTF-8 without control characters, and cut to a length.
 *
 * Operation. The asker (the HTTP thread) calls the source's `take`; the I/O thread copies its
 * queues' figures between two events, the asker's thread adds what the supervisor has published.
 *
 * Safety. A snapshot belongs to whoever took it.
 */
#ifndef FW_STATUS_SNAPSHOT_H
#define FW_STATUS_SNAPSHOT_H

#include "config/arena.h"
#include "delivery/delivery.h"
#include "delivery/look.h"
#include "log/log.h"
#include "status/counters.h"

/* How many held messages a snapshot lists, over all queues; the oldest of each queue. */
#define FW_SNAPSHOT_HELD 2000
/* Longest text of a reason or an error in it, in bytes. */
#define FW_SNAPSHOT_TEXT 300
/* Failures that a queue remembers. */
#define FW_RECENT 16

/* What is wrong with a queue. Each with a word of its own in metrics, JSON and /readyz. */
enum fw_trouble {
    FW_TROUBLE_STREAM_DOWN,   /* fewer streams than configured, and not by our own will */
    FW_TROUBLE_QUEUE_MISSING, /* the broker has no such queue */
    FW_TROUBLE_BREAKER_OPEN,  /* the handler says that its dependency is down */
    FW_TROUBLE_VT_SHORT,      /* leases end sooner than visibility_timeout says */
    FW_TROUBLE_DLQ_REFUSED,   /* dead letters cannot be written */
    FW_TROUBLE_STUCK,         /* handlers do not return */
    FW_TROUBLE_GIVEN_UP,      /* its handler's children cannot be started */
    FW_TROUBLE_PAUSED,        /* by an operator */
    FW_TROUBLE_FAILING,       /* its last tries all failed; still ready */
    FW_TROUBLE_OVERLEASED,    /* more is leased ahead than can be done in time; still ready */
    FW_TROUBLE_COUNT
};

const char *fw_trouble_name(enum fw_trouble trouble);    /* "stream_down" */
enum fw_event fw_trouble_event(enum fw_trouble trouble); /* the log's word for it: its remedy */
bool fw_trouble_unready(enum fw_trouble trouble);        /* whether a queue with it is not ready */

struct fw_trouble_state {
    int64_t since;    /* CLOCK_BOOTTIME ns; 0 = not now */
    const char *text; /* why, "" when nothing more is known */
};

struct fw_stream_status {
    bool up;
    uint32_t opens;   /* so far */
    const char *code; /* of its last end; "" = it never ended */
    const char *error;
};

struct fw_held_status {
    const char *id;
    enum fw_held_phase phase;
    uint32_t tries;         /* failed ones that this worker has seen */
    uint32_t attempt_count; /* the broker's */
    uint32_t size;
    int64_t read_at;
    int64_t run_at;      /* start of its last run; 0 = none */
    int64_t lease_end;   /* the earliest instant at which its lease may end */
    int64_t due;         /* WAITING: when it goes on; else 0 */
    int64_t enqueued_ms; /* since 1970; 0 = not known */
};

/* A failed try, a dead letter, a dropped message. */
struct fw_recent_status {
    enum fw_event event;
    int64_t wall_ms;
    const char *id;
    uint32_t attempt;
    const char *cause;
    const char *text;
};

/* One of a handler's own counters. */
struct fw_handler_counter {
    const char *name;
    uint64_t value;
};

enum {
    FW_CHILD_STATES = 4, /* starting, idle, busy, ending */
    FW_CHILD_CAUSES = 6  /* enum fw_child_end */
};

struct fw_queue_status {
    const char *queue;
    const char *handler; /* as the config names it */
    const char *handler_name;
    const char *handler_version;
    const char *handler_build_id; /* "" = the file has none */
    bool gone;                    /* a sum of those that a reload has ended: counters only */
    struct fw_delivery_stats stats;
    struct fw_delivery_look look;
    struct fw_queue_counters counters;
    uint32_t concurrency; /* in force: an order may have lowered it */
    double rate;          /* starts a second; 0 = no limit */
    uint32_t streams;
    uint32_t prefetch;
    uint32_t stuck;
    uint32_t stuck_limit;       /* more than these are a reason to restart */
    int64_t visibility_timeout; /* configured */
    int64_t timeout;
    struct fw_handler_counter *handler_counters;
    uint32_t handler_counter_count;
    bool has_children;                                   /* isolation is "process" */
    struct fw_handler_counter children[FW_CHILD_STATES]; /* now, by state */
    const char *given_up; /* why its children are not started any more; NULL = they are */
    struct fw_handler_counter child_exits[FW_CHILD_CAUSES]; /* so far, by cause */
    struct fw_trouble_state troubles[FW_TROUBLE_COUNT];
    struct fw_stream_status *stream_list; /* `streams` of them */
    struct fw_held_status *held_list;
    uint32_t held_count;
    struct fw_recent_status *recent_list; /* newest first */
    uint32_t recent_count;
};

struct fw_snapshot {
    struct fw_arena memory;
    int64_t now;     /* CLOCK_BOOTTIME ns */
    int64_t wall_ms; /* the same instant, since 1970 */
    struct fw_queue_status *queues;
    uint32_t queue_count;
    const char *broker; /* the URL in use */

    /* What the supervisor says. */
    int64_t started_at;
    int64_t start_took; /* ns from start to ready; 0 = not ready yet */
    bool draining;
    int64_t drain_deadline;
    uint64_t reloads_done;
    uint64_t reloads_refused;
    const char *config_file;
    char config_hash[17]; /* of the config in force, secrets apart */
};

/* What to copy. */
enum {
    FW_SNAPSHOT_LISTS = 1 /* held messages and recent failures too */
};

struct fw_status_source {
    /* Waits at most `patience` ns for the I/O thread. NULL: it does not answer, or there is no
     * memory. Thread: any, one at a time. */
    struct fw_snapshot *(*take)(void *user, unsigned what, int64_t patience);
    /* Whether the supervisor's loop goes round; never waits. The same thread. */
    bool (*beats)(void *user);
    void *user;
};

/* A zeroed one; NULL without memory. */
struct fw_snapshot *fw_snapshot_new(void);
void fw_snapshot_free(struct fw_snapshot *snapshot); /* takes NULL */

/* Its queues with those of one queue and handler added up (a reload has the old one drain beside
 * the new one, and keeps the counters of those that are gone), for series that must be unique. In
 * `memory`, which fails without memory; lists are left out. */
const struct fw_queue_status **fw_snapshot_merged(
    const struct fw_snapshot *snapshot,
    struct fw_arena *memory,
    uint32_t *ret_count);

/* A copy in the snapshot's memory of at most `limit` bytes, made valid UTF-8 without control
 * characters; never NULL. */
const char *fw_snapshot_text(struct fw_snapshot *snapshot, fila_view text, size_t limit);

#endif
