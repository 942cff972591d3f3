/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The conformance suite: what a client sees of a Fila broker, a row for each row of contract tables
 * A2 and for each numbered fact of A3 to A7, B, C and I, named after it. The same rows run against
 * the embedded broker in process, the embedded broker over gRPC, and a real Fila server.
 *
 * Properties. A row is a function that drives a broker as a client would and says what it expected
 * where that differs. Facts that no client can see have a row too, with the reason. contract.c says
 * what each fact says and which rows show it, and the suite fails where it names a row that is not
 * there or a row is not named: `conformance --facts` prints that map.
 *
 * Operation. The runner (main.c, batch.c) forks a process for a batch of rows: all the rows that
 * can share a broker, or one that needs a broker of its own. A row that differs ends its process at
 * once; the rest of the batch goes on in a new one. A row's queue is named after the row, so that
 * rows of one broker do not meet.
 *
 * Thread: rows run on the main thread of their process.
 */
#ifndef TESTS_CONFORMANCE_H
#define TESTS_CONFORMANCE_H

#include "base/clock.h"
#include "fila/broker.h"
#include "server/raw_client.h"
#include "support/real_server.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Targets ---- */

enum target {
    TARGET_EMBEDDED, /* the embedded broker, in process */
    TARGET_GRPC,     /* the embedded broker over gRPC; rows of ROW_PROCESS: `fila-worker broker` */
    TARGET_SERVER,   /* the program that FILA_SERVER_BIN names */
    TARGET_COUNT
};

/* What a row asks of its broker beyond the defaults; 0 and NULL = the default. */
struct wishes {
    uint32_t command_capacity;
    uint32_t quantum;
    uint32_t idle_timeout_ms;
};

/* ---- Rows ---- */

enum row_flags {
    ROW_OWN = 1,     /* a broker of its own: it waits, or looks at what all queues share */
    ROW_WIRE = 2,    /* looks at gRPC itself: not in process */
    ROW_FAULT = 4,   /* scripts a fault: the embedded broker only */
    ROW_PROCESS = 8, /* signals the broker's process */
    ROW_DATA = 16,   /* and starts it again on the same data */
    ROW_SCRIPT = 32  /* creates queues with scripts */
};

struct world;

struct row {
    const char *id;   /* "A2.Enqueue.empty-queue": the fact, and what of it */
    const char *what; /* in a few words */
    void (*run)(struct world *w);
    unsigned flags;
    const void *data; /* the row function's own */
    struct wishes wishes;
    const char *unseen;   /* no `run`: why no client can see it */
    const char *see;      /* no `run`: the id of the row that shows it */
    const char *deviates; /* the embedded broker differs on purpose, and why: it must */
};

/* A table of rows, and what the contract numbers. */
struct rows {
    const struct row *rows;
    size_t count;
};

extern const struct rows ROWS_CODES;   /* A2 */
extern const struct rows ROWS_WIRE;    /* A1, A3, A4, A7 */
extern const struct rows ROWS_PIPE;    /* A5, A6 */
extern const struct rows ROWS_LIFE;    /* B1 to B11, B15 to B17 */
extern const struct rows ROWS_QUEUES;  /* B12 to B14, C */
extern const struct rows ROWS_SCRIPTS; /* B7 to B9, C: queue scripts */
extern const struct rows ROWS_HINTS;   /* I */

/* What a fact says, and the rows that show it, or say why none can: their ids, with blanks between.
 */
struct claim {
    const char *fact; /* by its number in the contract */
    const char *says;
    const char *rows;
};

/* Every fact, in the contract's order; ends with a fact of NULL. */
extern const struct claim CONTRACT[];

/* ---- The world of a row ---- */

enum {
    SOON = 20000, /* ms: what should come at once; a row that waits so long differs */
    QUIET = 300,  /* ms without anything: more than the idle tick of 100 ms */
    MOST_STREAMS = 16
};

struct world {
    enum target target;
    const struct row *row;
    const char *q;       /* the row's queue name: its id */
    fila_broker *broker; /* in this process; NULL for a process of its own */
    char path[300];      /* of its file; "" = in memory */
    struct real_server server;
    char url[80];
    uint16_t port;
    fila_client *client;
    fila_consumer *streams[MOST_STREAMS]; /* closed at the row's end */
    size_t stream_count;
};

/* Opens the broker and a client; exits with a result where that fails. */
void world_open(struct world *w, enum target target, const struct row *row);
void world_close(struct world *w);
/* Closes what the row left open. */
void world_tidy(struct world *w);
/* One more client of the same broker; the caller frees it. `receive_limit` 0 = the default. */
fila_client *world_client(struct world *w, const char *api_key, uint32_t receive_limit);
/* A client of the wire; the row closes it. */
struct raw_client *world_raw(struct world *w);

/* ---- The broker's process: ROW_PROCESS ---- */

void process_signal(struct world *w, int number);
/* Its wait status, within `ms`; -1: it still runs. */
int process_wait(struct world *w, int ms);
/* After it has ended: starts it again on the same port and data. */
void process_restart(struct world *w);

/* ---- Verdicts: each ends the row's process where what was seen differs ---- */

_Noreturn void differs(const char *expected, const char *got, ...)
    __attribute__((format(printf, 2, 3)));
void expect_number(const char *what, int64_t got, int64_t expected);
void expect_between(const char *what, int64_t got, int64_t least, int64_t most);
void expect_view(const char *what, fila_view got, const char *expected);

/* ---- Calls ---- */

struct answer {
    int code; /* the gRPC status; -1: the client refused it itself */
    char text[FILA_ERROR_TEXT];
    fila_reply *reply; /* code 0 */
};

/* A view of a string literal, also in static initializers. */
#define VIEW(text)               \
    {                            \
        (text), sizeof(text) - 1 \
    }

struct answer ask(struct world *w, const fila_request *request);
void answer_free(struct answer *answer);
/* Makes the call and checks the code, and the text unless it is NULL. */
void expect_answer(struct world *w, const fila_request *request, int code, const char *text);

/* Short forms, which must succeed. `queue` NULL: the row's own. */
void create(struct world *w, const char *queue, uint64_t visibility_timeout_ms);
void delete_queue(struct world *w, const char *queue);
void enqueue(struct world *w, const char *queue, const char *payload, char ret_id[FILA_ID_SIZE]);
void set_config(struct world *w, const char *key, const char *value);
uint64_t redrive(struct world *w, const char *dlq, uint64_t count);
fila_queue_stats stats(struct world *w, const char *queue); /* the numbers alone */

/* The code of an ack (a nack). */
int ack(struct world *w, const char *queue, fila_view id);
int nack(struct world *w, const char *queue, fila_view id);
/* That must be `code`. */
void expect_ack(struct world *w, const char *queue, fila_view id, int code);
void expect_nack(struct world *w, const char *queue, fila_view id, int code);

/* "<the row's queue><suffix>"; lives for ever. */
const char *named(struct world *w, const char *suffix);
/* Lets the broker be idle: longer than its idle tick. */
void rest(int ms);

/* ---- Streams ---- */

fila_consumer *open_stream(struct world *w, const char *queue);
void close_stream(struct world *w, fila_consumer *stream);
/* The next message, which must come within SOON; the caller frees it. */
fila_message *next(fila_consumer *stream);
/* The same within `ms`, or NULL. */
fila_message *next_within(fila_consumer *stream, int ms);
/* The next message must be this one, at this attempt. Its id goes to `ret_id` unless that is NULL.
 */
void expect_next(
    fila_consumer *stream,
    const char *payload,
    uint32_t attempt,
    char ret_id[FILA_ID_SIZE]);
/* The stream must be open and silent for so long. */
void expect_quiet(fila_consumer *stream, int ms);
/* Polls until `queue` has so many, leaving gaps in which the broker is idle. */
void wait_in_flight(struct world *w, const char *queue, uint64_t count);

/* ---- The runner's side (batch.c) ---- */

enum outcome {
    OUTCOME_NONE,
    OUTCOME_PASS,
    OUTCOME_DIFFERS,
    OUTCOME_DEVIATES, /* it differs, as `deviates` says */
    OUTCOME_ELSEWHERE /* cannot run against this target */
};

struct result {
    size_t row;
    enum outcome outcome;
    char expected[480];
    char got[480];
};

struct plan {
    enum target target;
    const struct row *const *rows;
    struct result *results; /* one for each row */
    bool *chosen;
    size_t count;
    int jobs;
};

/* Runs the chosen rows that can be run; fills their results. */
void run_plan(const struct plan *plan);
/* Why the row cannot run against the target; NULL: it can. */
const char *not_here(const struct row *row, enum target target);

/* In a row's process: tells the runner, before the process ends. */
void report(const struct result *result);
extern struct result CURRENT;

#endif
