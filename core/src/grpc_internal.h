/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The gRPC transport inside: what its files share. See transport.h for what it promises.
 *
 * Properties. One completion queue and one thread: everything here belongs to the owner thread
 * except `woken`, `sleeping` and the `waker` (see fg_wake). The hot path (a message read, its ack)
 * allocates what gRPC itself needs and one fila_message, takes no lock of its own and sets no
 * timer.
 *
 * Operation. Every batch started on a gRPC call carries an fg_tag, whose function runs out of
 * fg_run when gRPC has finished it. Unary calls are fg_calls, recycled with their prepared
 * operations; beyond calls_in_flight they wait, encoded, in three queues: acks, nacks, the rest.
 * gRPC gets no deadlines (a checked one costs a tenth of an ack): the transport keeps them, and
 * cancels what is overdue.
 *
 * Safety. `done`, `message`, `opened` and `ended` run only out of fg_run, and may call back into
 * the transport.
 */
#ifndef FILA_CORE_GRPC_INTERNAL_H
#define FILA_CORE_GRPC_INTERNAL_H

#include "base/clock.h"
#include "grpc_url.h"
#include "transport.h"

#include <grpc/grpc.h>

#include <stdatomic.h>

struct fg_transport;

/* What travels through the completion queue. `ok` is gRPC's: whether the batch succeeded. */
struct fg_tag {
    void (*fire)(struct fg_tag *tag, bool ok);
};

/* A connection. The transport's own carries all unary calls and the streams with the transport's
 * window. A stream that asks for another window gets one of its own, because C core sets windows
 * per connection, and because they share less than they seem to: whatever the streams' windows are,
 * C core 1.51 (without its bandwidth probe, which knows no bound) keeps the connection's at 64 KiB
 * or the message that is being read, a round trip. */
struct fg_channel {
    grpc_channel *channel;
    uint32_t users; /* the transport, and streams */
};

enum fg_kind {
    FG_SETTLE,
    FG_PUBLISH,
    FG_UNARY
};

enum fg_class {
    FG_ACKS,
    FG_NACKS,
    FG_OTHERS,
    FG_CLASSES
};

/* Why this side cancelled a call, if it did. */
enum fg_cancel {
    FG_NOT_CANCELLED,
    FG_OVERDUE,
    FG_CLOSING
};

/* One unary call: waiting, in flight, finished, or spare. */
struct fg_call {
    struct fg_tag tag;
    struct fg_transport *transport;
    struct fg_call *next;
    enum fg_kind kind;
    enum fg_class class;
    enum fg_cancel cancel;
    fila_call method;
    uint32_t index; /* in fg_transport.flying */
    int64_t submitted_at;
    int64_t deadline;
    void *item;        /* the caller's fila_settle, fila_publish or fila_unary */
    fila_error *error; /* inside the item */
    grpc_call *call;
    grpc_byte_buffer request; /* not allocated: gRPC takes the slice out of it */
    grpc_byte_buffer *reply;
    grpc_metadata_array head;
    grpc_metadata_array trail;
    grpc_status_code status;
    grpc_slice details;
    grpc_op ops[6];
};

struct fg_list {
    struct fg_call *first;
    struct fg_call **last; /* where the next one is hung */
};

struct fg_stream {
    struct fila_stream base;
    struct fg_stream *next;
    struct fg_stream **link; /* what points here */
    struct fg_tag accepted;
    struct fg_tag received;
    struct fg_tag ended;
    const struct fila_stream_events *events;
    void *user;
    struct fg_channel *channel;
    grpc_call *call;
    grpc_byte_buffer *request;
    grpc_byte_buffer *message;
    grpc_metadata_array head;
    grpc_metadata_array trail;
    grpc_status_code status;
    grpc_slice details;
    uint32_t credits;
    uint32_t pending;   /* batches that gRPC has not finished */
    int64_t asked_at;   /* when the stream was asked for */
    int64_t posted_at;  /* when the pending receive was posted */
    int64_t headers_at; /* when the headers came */
    int64_t tell_at;    /* when `opened` is to be told, unless the stream has ended by then */
    bool receiving;     /* a receive is pending */
    bool told_opened;
    bool stopped;       /* by this side: no more is read */
    bool dropping;      /* and nothing is handed out any more */
    bool over;          /* the status came */
    fila_error own_end; /* why this side ended it, if code is not FILA_OK */
};

struct fg_transport {
    struct fila_transport base;
    struct fg_address address;
    uint32_t receive_limit;
    uint32_t window;
    uint32_t keepalive_ms;
    uint32_t keepalive_timeout_ms;
    uint32_t reconnect_max_ms;
    grpc_metadata key; /* authorization, when key_count is 1 */
    size_t key_count;
    void *methods[FILA_CALL_COUNT]; /* registered on the first channel */
    grpc_completion_queue *queue;
    struct fg_channel *main;
    bool closing;

    /* Waking, by any thread. */
    grpc_call *waker; /* never started: empty batches on it are events without cost */
    struct fg_tag woke;
    atomic_bool woken;    /* a wake-up that no run has answered */
    atomic_bool sleeping; /* the owner is about to block, or does */

    /* Time. */
    int64_t now;       /* when the last event was taken */
    int64_t lapsed_at; /* when this thread last came back from being away: see fg_look */

    /* Unary calls. */
    struct fg_call **flying; /* caps.in_flight places */
    uint32_t flying_count;
    uint32_t turn; /* counts starts, so that acks leave every 8th to the others */
    struct fg_list waiting[FG_CLASSES];
    struct fg_list finished; /* without gRPC's doing: their items are filled, `done` is owed */
    struct fg_call *spare;
    uint32_t spare_count;
    int64_t next_deadline;              /* no call's deadline is before this */
    struct fila_settle *failed_settles; /* no memory for them; `done` is owed */
    struct fila_publish *failed_publishes;
    struct fila_unary *failed_unaries;

    struct fg_stream *streams;
    int64_t next_telling; /* no stream's tell_at is before this */
};

/* ---- grpc_channel.c ---- */

/* A channel to that address (&transport->address: the transport's own broker) for a stream with
 * that window, or for the transport itself; NULL without memory. */
struct fg_channel *fg_channel_use(
    struct fg_transport *transport,
    const struct fg_address *address,
    uint32_t window);
void fg_channel_leave(struct fg_channel *channel); /* takes NULL */

/* ---- grpc_call.c ---- */

void fg_settle(struct fila_transport *transport, struct fila_settle *batch);
void fg_publish(struct fila_transport *transport, struct fila_publish *batch);
void fg_unary(struct fila_transport *transport, struct fila_unary *item);
/* Ends what is past its deadline at transport->now. */
void fg_calls_expire(struct fg_transport *transport);
/* Calls `done` for what finished without gRPC; true when there was any. */
bool fg_calls_report(struct fg_transport *transport);
/* Ends all: waiting ones at once, those in flight when gRPC has cancelled them. */
void fg_calls_close(struct fg_transport *transport);
bool fg_calls_idle(const struct fg_transport *transport);
void fg_calls_free(struct fg_transport *transport);

/* ---- grpc_stream.c ---- */

fila_status fg_open_stream(
    struct fila_transport *transport,
    const struct fila_stream_params *params,
    struct fila_stream **ret_stream,
    fila_error *reterr);
void fg_grant(struct fila_stream *stream, uint32_t credits);
void fg_stop_stream(struct fila_stream *stream);
void fg_cancel_stream(struct fila_stream *stream);
/* Tells `opened` where it is due. */
void fg_streams_tell_opened(struct fg_transport *transport);
void fg_streams_close(struct fg_transport *transport);

/* ---- grpc_loop.c ---- */

bool fg_run(struct fila_transport *transport, int64_t until);
void fg_wake(struct fila_transport *transport);
void fg_woke(struct fg_tag *tag, bool ok);

/* ---- grpc_status.c ---- */

/* Fills *ret_error with what `status`, with which `call` of `method` ended, means, in words for
 * people. outcome_unknown is cleared when the call certainly never reached the broker: gRPC says
 * that it found no connection for it (it looks for one only once, as retries are off) and names no
 * peer, which it does as soon as one has answered. All else counts as sent, also a call that was
 * cancelled while gRPC was still connecting: that cannot be told from one whose connection is just
 * going. */
void fg_explain(
    const struct fg_transport *transport,
    fila_call method,
    grpc_call *call,
    grpc_status_code status,
    const grpc_slice *details,
    fila_error *ret_error);

/* Makes FILA_NOT_LEADER of an answer 14 that came with the metadata x-fila-leader-addr. */
void fg_read_leader(const grpc_metadata_array *trailing, fila_error *error);

/* ---- Bytes ---- */

/* The bytes of a received buffer: in place when it is one slice, else joined in *ret_copy, which
 * the caller frees. False without memory, or when compressed, which nothing asked for. */
bool fg_bytes(
    const grpc_byte_buffer *buffer,
    const uint8_t **ret_bytes,
    size_t *ret_len,
    uint8_t **ret_copy);

/* A request of that size, encoded. */
grpc_slice fg_encode(const fila_request *request, size_t size);

#endif
