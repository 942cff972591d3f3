/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila/broker.h: the embedded broker, for programs and tests that want a Fila broker without a
 * server.
 *
 * It behaves as a Fila server does, surprises included (leases start before a consumer sees a
 * message, a nack is an immediate retry, an expired lease comes back only when the broker has been
 * idle): what works here works there. Reach it in process with fila_client_options.broker and the
 * URL `embedded:`, or over gRPC at `listen`.
 *
 * It keeps everything in memory, or in a file (`path`): then what it confirmed outlives it, and a
 * restart does what a server's does: leases go on and end when they would have ended, what is
 * pending is in the order of enqueuing again, and what was pending in a deleted queue is back once
 * there is a queue of that name (contract B3, B10, B12).
 *
 * It differs on purpose in this:
 * - In a file, an answer waits for the disk (`sync`). On a full disk what adds something (enqueue,
 *   a new queue or setting) is answered with 13, and nothing was done; the rest goes on in as much
 *   room as the log has, which is kept free for it from the start (a file without a name), and so
 *   do enqueues in the place of what was acked. Any other error of the disk, or that
 *   the file was moved or deleted, is answered with 13 too; after it every call is, until the file
 * can be written again, and then all is as the file says: a delivery that was leased but not yet
 * read then comes at the end of its lease. Streams stay open.
 * - A queue name over 65,535 bytes is refused (3); it stops a server (contract A7).
 * - Calls for API keys and ACLs are refused (12), as by servers that do not have them yet. There is
 *   no cluster.
 * - Queue scripts (Lua 5.4) have a state for each queue, where a server has one for all: globals
 *   are not shared between queues. They stay as long as the queue, but a run that met a limit loses
 *   them. A script that met a limit is over, where a server lets pcall catch it. Library functions
 *   are charged for long work, which a server lets run on. There is no string.dump and no __gc,
 *   collectgarbage only counts, and print and warn write nothing. A script as bytecode is refused
 *   (3). A fairness key of over 65,535 bytes, which stops a server, and throttle keys of over 1 MiB
 *   count as a failed run. A queue that could not be created leaves none of its scripts behind
 *   (contract C). In a build without Lua, scripts are refused (12).
 * - Of the text of an error 255 bytes are kept.
 * - Its HTTP/2 settings tell of 11,000 concurrent streams a connection, where a server's tell of no
 *   limit, and of larger frames than 16 KiB. Connections beyond the file descriptors are closed.
 * Each of these has its row in tests/conformance, where all other facts of the contract are
 * checked.
 */
#ifndef FILA_BROKER_H
#define FILA_BROKER_H

#include "fila/client.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fila_broker fila_broker;

/* What a confirmed call outlives. Either way a file is whole after a crash of any kind. */
typedef enum fila_sync {
    FILA_SYNC_FULL = 0, /* also a crash of the machine or a loss of power: each group of calls waits
                           for the disk's own confirmation */
    FILA_SYNC_NORMAL    /* the end of the process, however it comes; with the machine the last
                           moments may be lost (as with a Fila server, contract B3) */
} fila_sync;

/* A run of a queue script that failed, which the queue's message met as if there were no script. */
typedef struct fila_script_failure {
    size_t size; /* sizeof(fila_script_failure) */
    fila_view queue;
    const char *hook; /* "on_enqueue", "on_failure" */
    const char *text; /* what Lua said, or which limit it met */
    bool bypassed; /* it was one too many: for script_cooldown_ms the queue goes without scripts */
} fila_script_failure;

typedef struct fila_broker_options {
    size_t size; /* sizeof(fila_broker_options), set by the macro */
    const char
        *listen; /* "127.0.0.1:5555", ":0" for a free port, "unix:/path"; NULL = in process only */
    uint32_t quantum;         /* deficit round robin: 1,000 */
    uint32_t idle_timeout_ms; /* how long without any command before expired leases are taken back:
                                 100 (contract B5) */
    uint32_t
        command_capacity; /* calls waiting at once; more are refused with FILA_OVERLOADED: 10,000 */
    uint64_t seed;        /* of ids; 0 = random */
    const char *path; /* the file that keeps everything (SQLite; FILE-wal beside it belongs to it);
                         made if it does not exist; NULL = in memory. No two brokers at once. */
    fila_sync sync;   /* with a path */
    /* Queue scripts (contract E: lua.*). */
    uint32_t script_timeout_ms;  /* of one run, at 10,000 instructions a millisecond: 10 */
    uint32_t script_memory;      /* bytes: 1 MiB */
    uint32_t script_failures;    /* in a row, until a queue's scripts are bypassed: 3 */
    uint32_t script_cooldown_ms; /* how long they are: 10,000 */
    /* Called for each failed run, on any thread, with the broker's lock held: it must not call the
     * broker. NULL = nobody is told. */
    void (*on_script_failure)(void *user, const fila_script_failure *failure);
    void *user;
    const char *chaos; /* faults from the first call on, as in fila_broker_add_chaos; NULL = none */
} fila_broker_options;

#define FILA_BROKER_OPTIONS_INIT                                                                \
    {                                                                                           \
        sizeof(fila_broker_options), 0, 1000, 100, 10000, 0, 0, FILA_SYNC_FULL, 10, 1048576, 3, \
            10000, 0, 0, 0                                                                      \
    }

/* Starts a broker. Errors: FILA_INVALID_ARGUMENT (option), FILA_BROKER_UNAVAILABLE (cannot listen:
 * the address and why; cannot open the file: why, and what to do, and nothing was changed),
 * FILA_INTERNAL (the file cannot be read or written), FILA_UNSUPPORTED (a path, in a build without
 * SQLite), FILA_NO_MEMORY. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status
fila_broker_open(const fila_broker_options *options, fila_broker **ret_broker, fila_error *reterr);

/* The same by a URL: `embedded:` (in memory) or `embedded:PATH`, then perhaps
 * `?listen=HOST:PORT&sync=full|normal`, which come before what `options` (NULL = the defaults) say.
 * Errors: also FILA_INVALID_ARGUMENT (the URL). Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status fila_broker_open_url(
    const char *url,
    const fila_broker_options *options,
    fila_broker **ret_broker,
    fila_error *reterr);

/* The TCP port it listens on, 0 without one. Thread: any. */
FILA_EXPORT uint16_t fila_broker_port(const fila_broker *broker);

/* Stops serving: open streams end as with a killed server. Never blocks; may be repeated. Thread:
 * any. */
FILA_EXPORT void fila_broker_close(fila_broker *broker);

/* Ends the way a Fila server does at SIGTERM (contract A4.7): tells all connections to go (GOAWAY)
 * and takes no new calls or connections, but keeps the port, on which calls now hang; streams that
 * are open are served on. Waits up to timeout_ms (-1 = for ever) until the clients have closed the
 * last connection; true: none is left. May be repeated. Thread: any. */
FILA_EXPORT bool fila_broker_drain(fila_broker *broker, int timeout_ms);

/* Closes, waits for its threads, frees everything. In-process clients must be freed first. Takes
 * NULL. */
FILA_EXPORT void fila_broker_free(fila_broker *broker);

/* ---- Faults, for tests
 * ------------------------------------------------------------------------------------------- */

typedef enum fila_fault_kind {
    FILA_FAULT_ERROR = 1,  /* answer with `wire_code` and do nothing */
    FILA_FAULT_LOSE_REPLY, /* do it, and answer with `wire_code` as if it had failed */
    FILA_FAULT_DELAY,      /* do it, and answer `delay_ms` later */
    FILA_FAULT_HANG,       /* do nothing and never answer */
    FILA_FAULT_CUT,        /* CONSUME: end the stream with `wire_code` (0 = in good order) after
                              `after_messages` */
    FILA_FAULT_FREEZE, /* CONSUME: deliver nothing more after `after_messages`, but keep the stream
                          open */
    FILA_FAULT_LATE,   /* CONSUME: hold back each message of the stream by `delay_ms` and a random
                          part of `jitter_ms`, so that they overtake each other */
    FILA_FAULT_STALL,  /* the broker stands still for `delay_ms` before it does it: no call, message
                          or keepalive ping is answered on any connection, and none is closed */
    FILA_FAULT_CRASH,  /* the process is killed (SIGKILL) before it does it */
    FILA_FAULT_CRASH_AFTER, /* the same when it is done, and durable where there is a file, but
                               before it is answered */
    FILA_FAULT_HALF_OPEN /* it is done, and from then on the TCP connection that it came by is dead
                            for `delay_ms` (0 = for good) without being closed: what the client
                            sends is not even acknowledged, no keepalive ping and no call is
                            answered, no message comes. CONSUME: with `after_messages`, when so
                            many were sent. After the time all goes on where it was. A unix socket
                            answers pings still; in process there is no connection to lose, and
                            this fault is not met */
} fila_fault_kind;

#define FILA_ANY_CALL ((fila_call)255) /* for fila_fault.call */

/* One scripted fault: it applies to the nth use of a call (1 = the next), `count` times in a row (0
 * = for ever), or to a random part of these. Uses are counted from when it was added, by each fault
 * for itself; of several that apply the one added first does, and a HALF_OPEN beside any other. Of
 * a CONSUME, LOSE_REPLY leases a pipe of messages to nobody, DELAY leases them and hands out
 * nothing before `delay_ms`, and HANG opens a stream that stays silent. Calls that are delayed or
 * hang count as waiting (command_capacity). What is random comes of `seed` and the number of the
 * use (LATE: of the message), so the same uses meet the same faults. */
typedef struct fila_fault {
    size_t size; /* sizeof(fila_fault) */
    fila_fault_kind kind;
    fila_call call;
    const char *queue; /* only calls that name this queue; NULL = any. Copied. */
    uint32_t nth;
    uint32_t count;
    int wire_code;
    uint32_t delay_ms;
    uint32_t after_messages;
    uint32_t jitter_ms;
    uint32_t chance; /* in a million; 0 = always. LATE: of each message, not of the stream */
    uint64_t seed;
} fila_fault;

/* Adds a fault. Errors: FILA_INVALID_ARGUMENT, FILA_NO_MEMORY. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status
fila_broker_add_fault(fila_broker *broker, const fila_fault *fault, fila_error *reterr);

/* Faults as text, e.g. "ack:lose@5; enqueue:error=unavailable@10%; consume:late=0s..2s; seed=7":
 * see `fila-worker broker --help` for all of it. Adds each of them. Without a seed in it a random
 * one is taken; `ret_seed` (may be NULL) gets the one used. Errors: FILA_INVALID_ARGUMENT (where
 * and what), FILA_NO_MEMORY; then none is added. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status fila_broker_add_chaos(
    fila_broker *broker,
    const char *spec,
    uint64_t *ret_seed,
    fila_error *reterr);

/* The seed of the faults in fila_broker_options.chaos; 0 without any. Thread: any. */
FILA_EXPORT uint64_t fila_broker_chaos_seed(const fila_broker *broker);

/* Whether fila_broker_add_chaos would understand `spec`; if not, `ret_at` (may be NULL) gets the
 * offset of what it does not. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status
fila_chaos_check(const char *spec, size_t *ret_at, fila_error *reterr);

/* How many faults are not used up yet; one for ever always counts. Thread: any. */
FILA_EXPORT size_t fila_broker_faults_left(fila_broker *broker);

/* Forgets all faults; what hangs keeps hanging. Thread: any. */
FILA_EXPORT void fila_broker_clear_faults(fila_broker *broker);

#ifdef __cplusplus
}
#endif
#endif
