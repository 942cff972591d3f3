/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The in-process transport inside: straight to an embedded broker, without gRPC or protobuf. See
 * transport.h for what it promises.
 *
 * Properties. Everything belongs to the owner thread, except the hub, through which the broker's
 * threads tell it of messages and late answers. Most calls are answered while they start; their
 * `done` still comes out of run. Payloads are not copied: a fila_message keeps the broker's stored
 * message.
 *
 * Operation. A call is an fe_op: with the broker, then in `done` until run reports it. One that the
 * broker keeps past its deadline is finished without it; its op then lives until that answer. A
 * stream is in `busy` while run has something to do for it.
 *
 * Safety. The broker calls fe_stream_ready under its own lock, so the hub's lock is the inner one,
 * and is never held while the broker is called. The hub outlives the transport until the last op
 * has come back.
 */
#ifndef FILA_CORE_EMBEDDED_INTERNAL_H
#define FILA_CORE_EMBEDDED_INTERNAL_H

#include "base/clock.h"
#include "broker/service.h"
#include "transport.h"

#include <pthread.h>
#include <stdatomic.h>

enum fe_kind {
    FE_SETTLE,
    FE_PUBLISH,
    FE_UNARY
};

struct fe_transport;
struct fe_hub;

enum fe_state {
    FE_OUTSTANDING, /* in fe_transport.outstanding */
    FE_FINISHED,    /* in fe_transport.done; its item is filled */
    FE_REPORTED     /* its item is gone; only the broker still knows it */
};

/* One call. The broker's threads touch only `reply`, `answer` and `next_answered`. */
struct fe_op {
    struct fe_op *prev;
    struct fe_op *next;
    struct fe_op *next_answered; /* in fe_hub.answered */
    struct fe_hub *hub;
    pthread_t starter;
    enum fe_kind kind;
    enum fe_state state;
    bool with_broker; /* until its answer has been seen */
    bool answered_inline;
    void *item;        /* fila_settle, fila_publish or fila_unary */
    fila_error *error; /* inside the item */
    int64_t started;
    int64_t deadline;
    fila_reply *reply; /* a copy */
    fila_error answer;
};

struct fe_stream {
    struct fila_stream base;
    struct fe_stream *prev; /* of all */
    struct fe_stream *next;
    struct fe_stream *prev_busy;
    struct fe_stream *next_busy;
    bool in_busy;
    const struct fila_stream_events *events;
    void *user;
    struct fb_consumer *consumer; /* NULL once it is over; `end` says how */
    fila_error end;
    uint32_t credits;
    bool told_opened;
    bool more;         /* the broker has told of messages, and taking has not come to an end */
    int64_t ready_at;  /* when it told */
    int64_t posted_at; /* since when something could have been taken */
    /* Guarded by the hub's lock: */
    bool flagged; /* in fe_hub.ready */
    struct fe_stream *next_ready;
    int64_t flagged_at;
};

/* What other threads reach. */
struct fe_hub {
    pthread_mutex_t lock;
    pthread_cond_t news;

    atomic_uint refs; /* the transport, and each op that the broker has */

    struct {
        bool dead; /* the transport is gone */
        bool woken;
        struct fe_op *answered;
        struct fe_stream *ready;
    } locked;
};

struct fe_transport {
    struct fila_transport base;
    fila_broker *broker;
    struct fe_hub *hub;
    int64_t now; /* of this run */
    bool closing;
    struct fe_op *outstanding;
    struct fe_op *done;    /* finished, to be reported */
    int64_t next_deadline; /* no outstanding op's deadline is before it */
    struct fe_stream *streams;
    struct fe_stream *busy;
    struct fila_settle *failed_settles; /* no memory for them; `done` is owed */
    struct fila_publish *failed_publishes;
    struct fila_unary *failed_unaries;
};

/* ---- embedded_calls.c ---- */

void fe_settle(struct fila_transport *transport, struct fila_settle *batch);
void fe_publish(struct fila_transport *transport, struct fila_publish *batch);
void fe_unary(struct fila_transport *transport, struct fila_unary *item);
/* Finishes what the broker answered on its own threads. */
void fe_calls_reap(struct fe_transport *t, struct fe_op *answered);
/* Finishes what is past its deadline at t->now. */
void fe_calls_expire(struct fe_transport *t);
/* Calls `done` for what was finished before. */
void fe_calls_report(struct fe_transport *t);
void fe_calls_close(struct fe_transport *t);
/* Nothing to report. */
bool fe_calls_quiet(const struct fe_transport *t);

/* ---- embedded_streams.c ---- */

fila_status fe_open_stream(
    struct fila_transport *transport,
    const struct fila_stream_params *params,
    struct fila_stream **ret_stream,
    fila_error *reterr);
void fe_grant(struct fila_stream *stream, uint32_t credits);
void fe_stop_stream(struct fila_stream *stream);
/* Notes which streams the broker told of; the hub's lock is held. */
void fe_streams_note(struct fe_stream *ready);
/* Opens, reads and ends what is to be. */
void fe_streams_pump(struct fe_transport *t);
void fe_streams_close(struct fe_transport *t);

/* ---- embedded.c ---- */

void fe_hub_unref(struct fe_hub *hub);

#endif
