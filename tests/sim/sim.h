/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The simulator: delivery engines against the broker's queue engine, on a virtual clock.
 *
 * Properties. One thread, no clock, no I/O: a run follows from its configuration, seed included.
 * The broker and the engines are the real ones; what is modelled is what lies between and around
 * them: the path (delay, flow-control window, lost, slow and refused calls, cut streams), the host
 * (credits, calls with deadlines, runs with deadlines), handlers, and operators (drain, kill,
 * restart, pause, reload). The truth about every message is kept beside (struct sim_message), and
 * the invariants of the delivery engine's specification are checked after every event against it.
 *
 * Operation. sim_run takes a configuration and returns figures; on the first violation it prints
 * the seed, what is wrong, and the last events. random.c makes a configuration of a seed;
 * scenarios.c has those of the specification's table, pitfalls.c those of the contract's chapter I.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "base/clock.h"
#include "broker/queue.h"
#include "delivery/delivery.h"

enum {
    SIM_NEVER_FAILS = 0,
    SIM_WORKERS_MAX = 32,
    SIM_STREAMS_MAX = 4,
    SIM_QUEUE_LEN = 1
};

/* A probability in [0, 1]. */
typedef double sim_chance;

/* From when until when something is the case; both 0 = never. */
struct sim_span {
    int64_t from;
    int64_t until;
};

struct sim_config {
    const char *name;
    uint64_t seed;

    /* Messages. */
    uint32_t messages;
    int64_t interval; /* between enqueues; 0 = all at the start */
    uint32_t size;    /* on the wire */
    uint32_t keys;    /* lanes */
    int64_t broker_vt;
    int64_t broker_cost;   /* ns of the broker's time for a call */
    int64_t cost_of_lease; /* and for each lease that there is */
    bool script;           /* the queue has an on_failure script, as config/ ships it */
    uint32_t script_attempts;

    /* Workers. */
    uint32_t workers;
    uint32_t stuck_workers; /* the first ones: their handlers take for ever */
    struct fw_delivery_config engine;

    /* The path. */
    int64_t latency; /* one way */
    int64_t jitter;
    uint32_t window;

    /* Handlers. */
    int64_t run_min;
    int64_t run_max;
    sim_chance long_run; /* takes long_for instead */
    int64_t long_for;
    sim_chance fail;   /* RETRY */
    sim_chance reject; /* of a message, each time */
    sim_chance poison; /* of a message: RETRY each time */
    sim_chance crash;
    sim_chance retry_after;  /* a failure names its own delay */
    sim_chance ignores_stop; /* does not stop at its deadline or when cancelled */
    sim_chance kills;        /* of a message: each run of it ends the process */
    struct sim_span dependency_down;
    bool probe_works;

    /* Faults, until faults_end. */
    int64_t faults_end;
    sim_chance lose_request;
    sim_chance lose_answer;
    sim_chance slow;
    int64_t slow_for; /* up to */
    sim_chance refuse;
    sim_chance publish_unknown;
    struct sim_span publish_denied;
    int64_t cut_each; /* mean time between cuts of a stream; 0 = none */
    bool cut_exactly; /* that time exactly */
    bool cut_closes;  /* in good order: the broker ends them with status OK */
    struct sim_span path_down;
    struct sim_span calls_down;   /* streams deliver, calls hang (a server in SIGTERM) */
    struct sim_span calls_denied; /* the API key was revoked */
    int64_t kill_once;            /* the last worker, at that time; it comes back after 5 s */
    int64_t kill_each;            /* mean time between kills of a worker */
    bool state;                   /* workers have a state_dir: journal and crash record */
    int64_t journal_lag;          /* what a kill takes of the journal, up to */
    uint32_t max_running; /* the workers are one process: so many runs over all; 0 = they are not */
    int64_t broker_restart_each; /* mean time between restarts of the broker; streams break, calls
                                    under way are lost */
    int64_t broker_down_for;     /* up to */
    bool broker_forgets_leases;  /* at a restart: what was leased is to be had again */
    int64_t drain_each;
    int64_t pause_each;
    int64_t reload_each;
    int64_t pressure_each;
    int64_t late_wake; /* the host calls the engine's timer up to so late */

    int64_t limit;       /* the run must be over by then */
    bool overload;       /* more is asked for than one lease can hold: returns are expected */
    bool no_lease_truth; /* the configured VT is wrong: leases end when the engine cannot know */
    bool keep_going;     /* stop at `limit` without complaint */
    bool trace;          /* print every event */
    uint32_t check_each; /* recount the engines at each nth event; 0 = 1 */
};

struct sim_figures {
    int64_t took; /* virtual, until the last message was gone from the queue */
    uint64_t events;
    uint64_t received;
    uint64_t outcomes[FW_OUTCOME_COUNT];
    uint64_t runs;
    uint64_t runs_after_success; /* by other processes */
    uint64_t runs_spared;        /* acked on sight because the journal knew */
    uint64_t process_kills;      /* by messages */
    uint64_t quarantined;
    uint64_t acks;
    uint64_t nacks;
    uint64_t returns; /* nacks of unstarted messages */
    uint64_t publishes;
    uint64_t copies; /* in the dead-letter queue */
    uint64_t moved;  /* there by the broker */
    uint64_t acked_gone;
    uint64_t nacks_done;
    uint64_t expiries;    /* leases that ran out, as far as later reads show */
    uint64_t stray_nacks; /* that ended a lease of someone else */
    uint64_t flushes;
    uint64_t streams_opened;
    uint64_t notices[FW_NOTICE_COUNT];
    int64_t notice_values[FW_NOTICE_COUNT]; /* the last */
    uint32_t most_leased;
    uint32_t most_concurrent; /* runs of one message at once, over all workers */
    uint32_t most_tries;      /* of one message */
    double busy;              /* share of the slots' time that was used until the last run */
    uint64_t overtaken;       /* messages whose first start came after that of much later ones */
    int64_t age_p50;          /* from enqueue to the first start */
    int64_t age_p99;
    uint32_t gone; /* messages that are through */
};

/* False on a violation, which has been printed. */
bool sim_run(const struct sim_config *config, struct sim_figures *ret_figures);

/* The defaults of the config file, a local path, no faults. */
struct sim_config sim_defaults(void);
/* A configuration drawn from the seed. */
struct sim_config sim_random(uint64_t seed);
/* Runs the scenario table, or the one row; false if any fails. */
bool sim_scenarios(const char *only, bool trace);

/* ---- Scenarios ---- */

struct sim_judge {
    bool fine;
};

struct sim_scenario {
    const char *name;
    const char *what;
    void (*make)(struct sim_config *config);
    void (*judge)(struct sim_judge *judge, const struct sim_config *c, const struct sim_figures *f);
};

extern const struct sim_scenario sim_pitfalls[]; /* up to one without a name */

/* Prints one figure and its bounds. */
void sim_expect(struct sim_judge *judge, const char *what, double value, double low, double high);

#endif
