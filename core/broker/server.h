/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Inside the gRPC server of the embedded broker: what the server_*.c files share. service.h is its
 * outside.
 *
 * Properties. One thread and one completion queue serve every call. An event's tag is a
 * struct server_event, which says what to run. Each call sits in a slot (struct server_call) from
 * the request for it until its last event; slots are reused.
 *
 * Fairness. A round lasts until no event is left, or many have been handled. In it the first
 * SERVER_PROMPT calls of each connection are served as they come; more wait for the end of the
 * round, and are then served connection by connection in turns. So who keeps thousands of calls in
 * flight cannot make others wait for them.
 *
 * Bounds. A connection may have as many unanswered calls as SERVER_MAX_CALLS leaves free, all
 * connections counted: alone half of them, k greedy ones 1 / (k + 1) each, and as much stays free
 * for who comes next. So with streams and SERVER_MAX_STREAMS. What is over is answered with
 * FILA_OVERLOADED; while SERVER_MAX_REFUSALS of these answers are not taken, more calls are
 * reset. But gRPC reads a connection on and on while bytes come, at about 10 KiB a call, before the
 * thread that polls gets back with the first of them. Hence two more measures. Clients are told a
 * limit of concurrent streams, which a Fila server does not tell (contract A4.8); it lies above
 * what a connection gets, so only those who would be refused anyway meet it. And a second thread,
 * the relief, looks five times a second whether events wait while the first is away, and handles
 * them until it is back: that bounds what clients can pile up who keep to nothing.
 *
 * Operation. Slots wait in gRPC for calls to come, some for each method and some for names that
 * nobody registered. A unary call is decoded and handed to fb_call; its answer, encoded where it is
 * given, goes out in one batch with everything that a call needs, so it costs two events in all. A
 * Consume call becomes a server_stream: one message on its way at most, one more taken ahead, which
 * tells whether the one before it may wait in gRPC's buffer (it may: the next write flushes both).
 *
 * Safety. Events are handled with the turn, a lock that the relief contends for only when it is
 * needed; slots and streams are touched by whoever has it. Two things may happen without it: a late
 * answer and a consumer's `ready`. They put the slot into the inbox and, if it was empty, post an
 * event by starting an empty batch on that very call: gRPC's C API has no alarms, a batch without
 * operations ends at once on any thread, and the call is certain to be alive, because nothing is
 * taken out of the inbox meanwhile (the same lock) and no call is let go before. A payload that
 * gRPC shares is released on any thread, and at the end of the server perhaps a moment after it.
 */
#ifndef FILA_BROKER_SERVER_H
#define FILA_BROKER_SERVER_H

#include "broker/service.h"

#include <grpc/grpc.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
    SERVER_REQUEST_LIMIT = 4194304, /* bytes of an encoded request (contract A7) */
    SERVER_MAX_CALLS = 20000,       /* one client gets the command capacity of a Fila server */
    SERVER_MAX_STREAMS = 20000,
    SERVER_PROMPT = 16,         /* calls of a connection that are served as they come in a round */
    SERVER_BATCH = 16,          /* of those that wait, served before events are looked at again */
    SERVER_EVENTS = 512,        /* of a round, while calls wait */
    SERVER_MAX_REFUSALS = 1000, /* calls that are being refused at once; the next are reset */
    SERVER_MAX_PER_CONNECTION = 11000, /* calls and streams: see Bounds */
    SERVER_BUFFER_MIB = 512,           /* of requests that are still on their way in */
    SERVER_POOL = 1024,                /* unused slots that are kept */
    SERVER_MAX_ADDRESSES = 8,          /* of a host, that are listened on */
    SERVER_RESERVE = 32,               /* file descriptors that connections do not get */
    SERVER_DESCRIPTORS = 64,          /* free at the start, or it is refused: gRPC aborts without */
    SERVER_PEER_UNKNOWN = 1,          /* who they are; peer 0 is none */
    SERVER_UNKNOWN = FILA_CALL_COUNT, /* the kind of a call to a method that does not exist */
    SERVER_KINDS
};

struct server_call;

/* What a completion queue's tag points to. */
struct server_event {
    void (*run)(void *owner, bool ok);
    void *owner;
};

/* How a call ends. */
struct server_answer {
    int code;               /* the gRPC status */
    grpc_byte_buffer *body; /* unary, code 0; else NULL */
    grpc_slice text;
    grpc_slice leader; /* x-fila-leader-addr; empty = none */
};

struct server_stream;

struct server_call {
    struct fb_server *server;
    struct server_call *next; /* in the pool, in the inbox, or waiting */
    grpc_call *call;
    grpc_byte_buffer *request;
    struct server_stream *stream; /* an accepted Consume */
    struct server_answer answer;
    struct server_event arrived; /* a call has come for this slot */
    struct server_event closed;  /* unary: all is sent. Stream: the client or the status ended it */
    struct server_event wrote;   /* stream: headers, a message or the status are sent */
    grpc_metadata_array metadata;
    grpc_call_details details; /* SERVER_UNKNOWN */
    gpr_timespec deadline;
    unsigned kind; /* a fila_call, or SERVER_UNKNOWN */
    unsigned peer; /* an index of fb_server.peers */
    int cancelled;
    bool refused;
    bool in_inbox; /* under the inbox's lock */
    bool is_held;  /* by a connection that is frozen: */
    struct server_call *next_held;
};

/* The sockets that are listened on, and the thread that accepts (server_listen.c, server_accept.c).
 * They are our own because gRPC's stop listening for good at the first accept that finds no
 * descriptor, and close at the start of a shutdown, where a Fila server's stay (contract A4.7). */
struct server_listener {
    int fds[SERVER_MAX_ADDRESSES];
    size_t count;
    char *path;       /* of a unix socket */
    uint64_t highest; /* a connection's descriptor must be below: the rest is the program's */
    int wake;         /* readable: accept no more */
    int spare;        /* given up to refuse a connection where there is no other */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* held while gRPC is given a connection: none after `over` */
    bool over;
};

struct server_frozen;

/* What a connection has open, and which of its calls wait to be served. */
struct server_peer {
    struct server_frozen *frozen; /* FILA_FAULT_HALF_OPEN; NULL = it is not */
    size_t calls;
    size_t streams;
    struct server_call *first; /* waiting */
    struct server_call *last;
    unsigned round; /* of the server, in which `prompt` were served at once */
    unsigned prompt;
    unsigned next_turn; /* the peer whose turn is after this one's; 0 = the last */
};

struct fb_server {
    fila_broker *broker;
    grpc_server *grpc;
    grpc_completion_queue *queue;
    void *methods[FILA_CALL_COUNT];
    pthread_t thread;
    uint16_t port;
    struct server_listener listener;
    atomic_bool draining; /* no more calls are taken; also while stopping */
    atomic_bool stopping;
    atomic_uint turns;       /* events that `thread` has handled */
    _Atomic(pthread_t) self; /* who has the turn, or had it last */

    struct {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        bool over;
        atomic_uint check_ms; /* how long `thread` may be away: 200; below 1,000 */
    } relief;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t told;
        bool over; /* `thread` has handled the last event */
    } end;

    pthread_mutex_t turn; /* guards all below but the inbox */
    struct server_call *pool;
    size_t pooled;
    size_t slots;                /* outside the pool */
    size_t posted[SERVER_KINDS]; /* slots that wait for a call */
    size_t calls;
    size_t streams;
    size_t refusals;
    struct server_frozen *frozen; /* connections that are */
    atomic_bool has_frozen;       /* the same, to be asked without the turn */
    struct server_peer *peers;    /* by server_call.peer; 0 is none */
    size_t peer_count;
    unsigned first_turn; /* the peers with calls that wait, in turn; 0 = none */
    unsigned last_turn;
    size_t waiting; /* calls that wait */
    unsigned round;
    struct server_stream *first_ready; /* streams to look at before the next event */
    struct server_stream **last_ready;
    uint8_t *joined; /* a request that came in several slices */
    size_t joined_size;
    bool down;    /* gRPC has let go of all connections */
    bool closing; /* the queue is shut down */
    struct server_event on_down;
    struct server_event on_wake; /* the inbox has something */

    struct {
        pthread_mutex_t lock;
        struct server_call *first;
        struct server_call **last;
    } inbox;
};

static inline bool server_is_self(struct fb_server *server)
{
    return pthread_equal(pthread_self(), atomic_load_explicit(&server->self, memory_order_relaxed));
}

/* ---- server_thread.c ---- */

void server_threads_init(struct fb_server *server);
void server_threads_fini(struct fb_server *server);
FILA_NODISCARD fila_status server_start_threads(struct fb_server *server, fila_error *reterr);
/* Waits for the end of a server that was stopped. */
void server_join_threads(struct fb_server *server);
/* Waits up to `ms` (-1: for ever) for the last event of a server that drains or stops; false: it
 * has not come. */
bool server_wait_end(struct fb_server *server, int ms);
/* Locks server->turn. */
void server_take_turn(struct fb_server *server);
/* After anything that may have woken streams or released slots. */
void server_finish_turn(struct fb_server *server);
/* Handles events until a server that was stopped is over. */
void server_serve_events(struct fb_server *server);

/* ---- server_call.c: slots and answers. Locks: the turn, from here on, unless said. ---- */

/* Registers the methods of contract A1 with a server that has not started. */
void server_register(struct fb_server *server);
/* Keeps the wanted number of slots of this kind waiting for calls. */
void server_post(struct fb_server *server, unsigned kind);
/* Takes back a slot whose call is over. */
void server_call_release(struct server_call *call);
/* Encodes an answer; `reply` is read if `error` has code FILA_OK, and may be NULL (a stream's end).
 * Thread: any. Locks: none. */
void server_answer_set(
    struct server_answer *answer,
    const fila_reply *reply,
    const fila_error *error);
/* Sends a call's answer and ends it: `closed` comes last. */
void server_call_answer(struct server_call *call);
/* The status operation of call->answer; `leader` must live until the batch has been started. */
void server_status_op(struct server_call *call, grpc_op *op, grpc_metadata *leader);
void server_batch(
    struct server_call *call,
    const grpc_op *ops,
    size_t count,
    struct server_event *event);

/* ---- server_peer.c ---- */

/* Counts the call in, as a call or as a stream, and knows its connection from then on; false: that
 * has its share already. */
bool server_peer_enter(struct server_call *call, bool stream);
void server_peer_leave(struct server_call *call, bool stream);
/* Whether the connection had its share of this round, so that the call has to wait; else it counts.
 */
bool server_peer_is_greedy(const struct server_call *call);
void server_peer_wait(struct server_call *call);
/* The next of those that wait, one of each connection in turn; NULL: none waits. */
struct server_call *server_peer_next(struct fb_server *server);

/* Which peer a connection's descriptor is, and the other way round. */
static inline int server_peer_fd(unsigned peer)
{
    return (int)peer - 1;
}

/* ---- server_freeze.c: connections that are dead without being closed (FILA_FAULT_HALF_OPEN) ----
 *
 * Of a frozen connection the kernel drops whatever comes in, by a socket filter, so that neither it
 * nor gRPC acknowledges anything; what the server would send is held here. When it thaws, the
 * client's own repetitions bring what was dropped. */

/* Freezes the call's connection from now on, for `ms` (0 = for good). */
void server_freeze(struct server_call *call, uint32_t ms);
/* Whether the call's connection is frozen: then server_call_answer, or server_stream_thaw, is
 * called again when it is not. */
bool server_freeze_holds(struct server_call *call);
/* A call has come: one that came by a new connection under an old number is not held. */
void server_freeze_check(struct server_call *call);
/* Thaws what is due; all, in a server that stops. Locks: not the turn. */
void server_thaw(struct fb_server *server);

/* ---- server_unary.c ---- */

/* Takes a call that has come: refuses it, serves it, or has it wait. */
void server_arrive(struct server_call *call);
/* Serves a call that waited. */
void server_serve(struct server_call *call);

/* ---- server_stream.c ---- */

void server_stream_open(struct server_call *call, const fila_request *request);
/* Goes on after its connection was frozen. */
void server_stream_thaw(struct server_stream *stream);
/* Sends what can be sent now. */
void server_stream_run(struct server_stream *stream);
/* Notes that the broker has messages. */
void server_stream_wake(struct server_stream *stream);
/* Runs the streams that were woken. */
void server_run_ready(struct fb_server *server);

/* ---- server_inbox.c ---- */

bool server_inbox_init(struct fb_server *server);
void server_inbox_fini(struct fb_server *server);
/* Locks: not the turn. */
void server_inbox_put(struct server_call *call);
/* Whether the slot is still in there, and therefore cannot be released: its turn will come. */
bool server_inbox_holds(struct server_call *call);

/* ---- server_listen.c ---- */

void server_listener_init(struct server_listener *listener);
/* Opens the sockets, and fills server->port. FILA_BROKER_UNAVAILABLE with address and cause: also
 * when there are too few file descriptors for a server. */
FILA_NODISCARD fila_status
server_listen(struct fb_server *server, const char *address, fila_error *reterr);
void server_listener_fini(struct server_listener *listener); /* after server_accept_join */

/* ---- server_accept.c ---- */

/* Connections over the process's file descriptors are closed at once. */
FILA_NODISCARD fila_status server_accept_start(struct fb_server *server, fila_error *reterr);
/* Accepts no more; who connects from now on waits. Never blocks. */
void server_accept_stop(struct fb_server *server);
/* Refuses who connects, and who waits. After server_accept_stop; never blocks. */
void server_accept_close(struct fb_server *server);
void server_accept_join(struct fb_server *server);

#endif
