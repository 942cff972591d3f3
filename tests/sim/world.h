/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Inside the simulator: the world, its events, and what the parts call of each other. Not for
 * tests.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "sim/sim.h"

#include <stdio.h>

enum {
    SIM_TRACE = 400 /* events that are kept */
};

struct world;
struct event;

typedef void sim_fire_fn(struct world *w, struct event *event);

struct event {
    int64_t at;
    uint64_t seq;
    sim_fire_fn *fire;
    void *object;
    uint64_t life; /* of the object's worker when it was scheduled */
    int64_t value;
};

/* The truth about a message. */
struct sim_message {
    char id[FQ_ID_SIZE];
    int64_t enqueued;
    int64_t first_start; /* 0 = not yet */
    uint32_t runs;
    uint32_t running;  /* now, over all workers */
    uint32_t attempts; /* the highest count read */
    uint32_t copies;
    uint32_t unknown_publishes;
    uint32_t lane;
    uint64_t stray_process; /* whose nack ended a lease that was not its own, last */
    bool strays;            /* of more than one process */
    bool there;             /* enqueued */
    bool poison;
    bool rejects;
    bool kills;
    uint32_t killed; /* processes */
    bool succeeded;  /* a handler said so, and the engine heard it */
    bool dropped;    /* its engine had reason to drop it */
    bool gone;       /* acked, or moved to the DLQ by the broker */
};

/* What one process has seen of a message since it started. */
struct sim_seen {
    int64_t lease_end; /* the true one, of the newest copy it read */
    int64_t latest_read;
    int64_t spaced_until; /* not before this, its tries being what they are */
    uint32_t tries;
    uint32_t crashes; /* that the crash record holds against it */
    bool suspect;
    bool running;
    bool succeeded;
    bool rejected;
    bool published;
};

/* What a RECORD command said of a message. */
struct sim_record {
    int64_t at;
    uint32_t message;
    uint32_t tries;
    uint32_t seen;
    int64_t not_before;
    enum fw_cause doomed;
    enum fw_outcome done_as;
    bool done;
};

/* A worker's state folder. */
struct sim_state {
    struct sim_record *log; /* since the process started */
    size_t count;
    size_t capacity;
    struct sim_record *known; /* by message: what was there at its start; at = 0: nothing */
    uint8_t *crashes;         /* by message: 0 = no suspect, else 1 + crashes while alone */
};

/* One delivery in a worker: what `user` points to. */
struct sim_delivery {
    struct sim_delivery *next; /* of the worker's, or free */
    struct sim_delivery *previous;
    struct sim_worker *worker;
    uint32_t message;
    uint32_t attempt_count;
    uint64_t run; /* number of the run, 0 = none */
    int64_t started;
    int64_t deadline;
    int64_t natural_end;
    bool ignores_stop;
    bool cancelled;
    bool finished;
    bool nack_unknown; /* its nack was done, or may have been */
    bool asked;        /* a settlement or a publish is under way */
    bool suspect;      /* it began alone */
    bool alone;
};

/* A message on its way through a stream. */
struct sim_copy {
    struct sim_copy *next;
    uint32_t message;
    uint32_t attempt_count;
    int64_t lease_end;
    int64_t arrives;
};

struct sim_copies {
    struct sim_copy *first;
    struct sim_copy **last;
};

enum sim_stream_state {
    SIM_STREAM_DOWN,
    SIM_STREAM_OPENING,
    SIM_STREAM_UP
};

struct sim_stream {
    struct sim_worker *worker;
    uint32_t index;
    uint64_t generation; /* of its opening: events of older ones are void */
    enum sim_stream_state state;
    bool stopping;
    struct fq_consumer *consumer;
    struct sim_copies encoded; /* in the broker's buffer */
    struct sim_copies wire;    /* on the wire, or read by the client's transport */
    uint32_t encoded_bytes;
    int64_t window_free;
    uint32_t window;
    int64_t last_arrival;
    uint32_t credits;
    int64_t posted_at;
    bool reading;
};

struct sim_worker {
    struct world *world;
    uint32_t index;
    uint64_t life;              /* increased by each kill and each end */
    uint64_t process;           /* unique */
    struct fw_delivery *engine; /* NULL while it is down */
    struct fw_delivery_config config;
    struct sim_stream streams[SIM_STREAMS_MAX];
    struct sim_seen *seen; /* by message */
    struct sim_delivery *deliveries;
    struct sim_state state;
    uint32_t running;
    uint32_t alone;    /* of those, as crash suspects */
    uint32_t given_up; /* of those, by a drain */
    uint32_t lane_running[256];
    uint32_t under_way;
    int64_t wake_at; /* of the event scheduled for it, whose number is: */
    int64_t wake_number;
    bool draining;
    bool stuck;
    bool paused;
    bool pressed;
    int64_t drain_deadline;
    int64_t woken_at;
    int wakes_here;
    uint32_t most_prefetch;
    bool flushed; /* since its start: the bound on what is read was broken */
};

struct sim_call {
    struct sim_worker *worker;
    struct sim_delivery *delivery; /* NULL once its worker is dead */
    uint64_t life;
    uint64_t process;
    enum fw_command_kind kind;
    enum fw_cause cause;
    uint32_t message;
    int64_t lease_end;
    int64_t sent;
    int64_t deadline;
    bool answered; /* the worker has its answer */
    bool lose_answer;
    uint32_t references; /* events that name it: the deadline's, and the next of its way */
};

struct trace_entry {
    int64_t at;
    const char *what;
    uint32_t worker; /* UINT32_MAX: none */
    uint32_t message;
    int64_t value;
};

struct world {
    struct sim_config config;
    struct sim_figures figures;
    int64_t now;
    int64_t start;
    uint64_t random;
    uint64_t event_seq;
    uint64_t processes;
    struct event *events; /* a heap */
    size_t event_count;
    size_t event_capacity;

    struct fw_shared *shared; /* NULL: each worker is a process of its own */
    struct fq_engine *broker;
    int64_t broker_down_until;
    int64_t broker_free_at;
    int64_t tick_at;
    int64_t last_leases_at;
    uint32_t leases;

    struct sim_message *messages;
    struct sim_worker workers[SIM_WORKERS_MAX];
    uint32_t enqueued;
    uint32_t gone;
    int64_t last_gone;
    uint32_t newest_started; /* message */
    int64_t slots_used;      /* ns */
    int64_t last_run_end;
    bool over; /* all are gone: workers drain */

    struct sim_delivery *free_deliveries;
    struct sim_copy *free_copies;
    struct trace_entry trace[SIM_TRACE];
    uint64_t traced;
    bool failed;
};

/* ---- world.c ---- */
void sim_at(
    struct world *w,
    int64_t at,
    sim_fire_fn *fire,
    void *object,
    uint64_t life,
    int64_t value);
void sim_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct world *w, const char *what, uint32_t worker, uint32_t message, int64_t value);
uint64_t sim_draw(struct world *w);
int64_t sim_between(struct world *w, int64_t low, int64_t high);
bool sim_happens(struct world *w, sim_chance chance);
bool sim_faults(const struct world *w); /* still on */
bool sim_within(const struct world *w, struct sim_span span);
int64_t sim_delay(struct world *w);        /* one way over the path */
bool sim_path_down(const struct world *w); /* nothing gets through, or the broker is down */
void sim_gone(struct world *w, uint32_t message);

/* ---- broker.c ---- */
bool sim_broker_open(struct world *w);
void sim_broker_close(struct world *w);
void sim_broker_turn(struct world *w); /* after each command: deliver, plan the tick */
void sim_broker_plan(struct world *w); /* the tick alone */
fila_view sim_queue(void);
fila_view sim_dead_letters(void);
uint32_t sim_message_of(fila_view payload);
int64_t sim_broker_takes(struct world *w); /* when a call that arrives now is done */

/* ---- stream.c ---- */
void sim_stream_open(struct sim_stream *s, uint32_t window);
void sim_stream_stop(struct sim_stream *s);
void sim_stream_cut(struct sim_stream *s, bool told); /* told: the worker's engine hears of it */
void sim_stream_grant(struct sim_stream *s, uint32_t credits);
void sim_stream_fill(struct sim_stream *s);
void sim_stream_fini(struct sim_stream *s);

/* ---- call.c ---- */
void sim_call(struct sim_delivery *d, const struct fw_command *command);

void sim_call_forget(const struct event *event); /* the world ends: frees what the event carries */

/* ---- worker.c ---- */
bool sim_worker_start(struct sim_worker *worker);
void sim_worker_kill(struct sim_worker *worker); /* it dies as it stands */
void sim_worker_end(struct sim_worker *worker);  /* in good order */
void sim_restart(struct world *w, struct event *event);
void sim_worker_take(struct sim_worker *worker); /* the engine's commands, after an event */
void sim_worker_drain(struct sim_worker *worker, int64_t time);
void sim_delivery_release(struct sim_delivery *d);
void sim_read(struct sim_stream *s, const struct sim_copy *copy, int64_t waiting_since);
struct fw_delivery_config sim_worker_config(const struct world *w, uint32_t index);

/* ---- handler.c ---- */
void sim_run_start(struct sim_delivery *d, const struct fw_command *command);
void sim_run_cancel(struct sim_delivery *d);
void sim_probe(struct sim_worker *worker);

/* ---- state.c ---- */
bool sim_state_init(struct sim_state *state, uint32_t messages);
void sim_state_fini(struct sim_state *state);
void sim_state_record(struct sim_worker *worker, const struct fw_command *command);
/* What the next process will find. */
void sim_state_keep(struct sim_worker *worker, bool killed);
void sim_state_restore(struct sim_worker *worker);
/* Its run came to an end. */
void sim_state_ran(struct sim_delivery *d, const struct fw_verdict *verdict);

/* ---- check.c ---- */
void sim_check_command(struct sim_worker *worker, const struct fw_command *command);
void sim_check_verdict(struct sim_delivery *d, const struct fw_verdict *verdict);
void sim_check_worker(struct sim_worker *worker);
void sim_check_end(struct world *w);

#endif
