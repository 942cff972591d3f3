/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What queue.c and queue_streams.c (events in), queue_commands.c (commands out) and queue_watch.c
 * (does the queue exist, does its stream bring what waits?) share. I/O thread.
 */
#ifndef FW_HOST_QUEUE_INTERNAL_H
#define FW_HOST_QUEUE_INTERNAL_H

#include "base/error.h"
#include "crash.h"
#include "item.h"
#include "queue.h"
#include "record.h"

struct fw_stream_slot {
    struct fw_queue *queue;
    struct fila_stream *stream; /* NULL = not open */
    uint32_t index;
    uint32_t window;
    int64_t asked_at;
    fila_error end;  /* how the last one ended */
    int64_t news_at; /* the last that came: the opening, a message, or the first credit */
    uint32_t credits;
    bool was_open;                   /* it had been accepted */
    uint32_t opens;                  /* so far */
    char url[FILA_LEADER_TEXT + 16]; /* of a leader; "" = the broker in use */
};

/* Whether the broker has the queue. */
enum fw_existence {
    FW_EXISTS_UNKNOWN,
    FW_EXISTS_YES,
    FW_EXISTS_NO
};

/* queue_watch.c's. */
struct fw_watch_state {
    enum fw_existence exists;
    struct fila_unary call;
    bool asked;       /* the call is under way */
    bool forced;      /* the next one is to be asked whatever is known */
    bool suspect;     /* messages waited at the last look, and none has been read since */
    bool news;        /* something was read since the last look */
    int64_t asked_at; /* when the call was sent */
    int64_t at;       /* when to look; FILA_NEVER = not before a stream opens */
    int64_t pause;    /* after the last question that failed */
    int64_t quiet;    /* the silence after which to look */
};

/* The handler's answer to a probe, left by its worker thread for the next pump. */
enum fw_probe_answer {
    FW_PROBE_NONE,
    FW_PROBE_HEALTHY,
    FW_PROBE_SICK
};

struct fw_queue {
    struct fw_queue *next;
    struct fw_done_list *done;
    const struct fw_queue_config *config;
    const char *broker;
    const struct fw_queue_events *events;
    void *user;
    bool create;
    struct fw_delivery *engine;
    struct fw_executor *executor;
    double rate; /* by order; negative = the config's */
    const struct fw_plugin *plugin;
    struct fw_record record;
    struct fw_item_pool items;
    struct fw_journal_entry *restored; /* until the engine has them */
    size_t restored_count;
    struct fw_stream_slot *streams;
    uint32_t stream_count;
    uint32_t concurrency; /* by order; 0 = the config's */
    struct fw_turn *turn; /* of the I/O thread that has us */
    struct fw_job *runs;  /* collected by the pump */
    struct fw_job **runs_end;
    int64_t clock; /* the last time the engine saw: its time must not go back */
    int64_t best_round_trip;
    int64_t drain_deadline;
    uint64_t lost_before_drain;
    bool cut_off;
    bool is_drained;
    struct fw_sending *publishing; /* publish.c: those that wait to be sent again */
    int64_t silent_since;          /* the sending of the first call that has had no answer */
    int64_t hung_at;               /* when its calls were last found to have no answer; 0 = never */
    uint32_t in_transport;         /* settlements, publishes and questions under way */
    _Atomic(enum fw_probe_answer) probe_answer;
    atomic_bool executor_stopped; /* it has given up its handler: for the next pump */
    bool stands_still;            /* and we have paused for it */
    char build_id[65];            /* of the plugin's file, in hex */
    fila_endpoints *endpoints; /* the broker in use, and the leader that it named for this queue */
    struct fw_watch_state watch;
};

extern const struct fila_stream_events FW_QUEUE_STREAM_EVENTS;

/* `now`, or the engine's last time if that is later. */
static inline int64_t fw_queue_clock(struct fw_queue *q, int64_t now)
{
    if (now > q->clock) {
        q->clock = now;
    }
    return q->clock;
}

/* Takes `user` off the item's users, and frees it when it was the last. */
void fw_queue_release(struct fw_queue *q, struct fw_item *item, unsigned user);
/* Tells the engine the verdict of a job whose publications, if any, are done with. */
void fw_queue_verdict(struct fw_queue *q, struct fw_item *item);
/* When a unary call is given up: `wanted` (0 = none), but no later than a few seconds from now, nor
 * than the drain's deadline. */
int64_t fw_queue_call_deadline(const struct fw_queue *q, int64_t wanted);
/* Tells the engine that a stream is over (slot->end says why). */
void fw_queue_stream_ended(struct fw_queue *q, struct fw_stream_slot *slot, enum fw_stream_end how);
void fw_queue_on_settled(struct fila_settle *settle);
void fw_queue_on_published(struct fila_publish *publish);
/* A stream is open; and, in every turn: looks at the queue when it is time to. */
void fw_queue_watch_opened(struct fw_queue *q);
void fw_queue_watch_due(struct fw_queue *q);
/* A call that was sent at `sent_at` ended so: calls that go unanswered while streams live show a
 * broker that is on its way out (contract A4.7). */
void fw_queue_call_ended(struct fw_queue *q, fila_status code, int64_t sent_at);

#endif
