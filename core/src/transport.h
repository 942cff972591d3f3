/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The transport seam: what a broker connection looks like to those who use it (the client core, and
 * the worker's I/O thread), whatever protocol is behind it. Everything gRPC and protobuf stays
 * below this line.
 *
 * Properties. A transport has one owner thread, which calls every function here except
 * fila_transport_wake. All events are callbacks out of fila_transport_run, never inline. Each
 * started item gets exactly one `done`, each opened stream exactly one `ended`. Acks never depend
 * on a stream's connection.
 *
 * Operation. The URL's scheme picks the implementation (`grpc`, `embedded`); more follow (`fila`,
 * TLS forms). Times are CLOCK_BOOTTIME nanoseconds (fila_now).
 *
 * Safety. Views in requests are read before the starting function returns. Items belong to the
 * caller and must stay put until `done`. After fila_transport_shutdown everything in flight ends
 * with FILA_CANCELLED or FILA_CLOSED while fila_transport_run is called until it returns false.
 */
#ifndef FILA_CORE_TRANSPORT_H
#define FILA_CORE_TRANSPORT_H

#include "fila/client.h"

struct fila_transport;
struct fila_stream;

/* What a transport can do. Filled once, at open. */
struct fila_transport_caps {
    uint32_t pipe_slots;   /* messages that the broker leases ahead of a stream's reader, beyond its
                              bytes: Fila 64+1+64+1 */
    uint32_t pipe_bytes;   /* and the bytes: 2 x flow-control window + 32 KiB; 0 = none */
    bool credit_exact;     /* a grant bounds what is leased (else it only bounds what is read) */
    bool can_extend;       /* leases can be extended */
    bool can_delay_nack;   /* the broker waits before it redelivers */
    bool publish_and_ack;  /* a publish and an ack can be one atomic step */
    uint32_t settle_batch; /* items that travel as one, 1 = each alone */
    uint32_t in_flight;    /* unary calls on the wire at once */
    uint32_t max_message;  /* bytes of an encoded request that the broker accepts: 4 MiB */
};

enum fila_settle_kind {
    FILA_SETTLE_ACK,
    FILA_SETTLE_NACK,
    FILA_SETTLE_REJECT
};

enum fila_settle_result {
    FILA_SETTLE_OK,
    FILA_SETTLE_GONE,    /* no such lease any more */
    FILA_SETTLE_UNKNOWN, /* no answer: it may have been done */
    FILA_SETTLE_DENIED,  /* refused for good: rights, or a malformed id */
    FILA_SETTLE_RETRY    /* refused, not done: may be asked again */
};

/* One ack or nack. */
struct fila_settle {
    struct fila_settle *next; /* chains a batch; the transport's own while in flight */
    enum fila_settle_kind kind;
    fila_view queue;   /* the message's own queue_id */
    fila_view receipt; /* opaque; Fila: the id */
    fila_view reason;  /* nack, reject */
    int64_t delay;     /* nack: ns, where can_delay_nack */
    int64_t deadline;  /* give up at; it is then UNKNOWN, or RETRY if it was never sent */
    enum fila_settle_result result;
    fila_error error; /* set unless OK */
    void (*done)(struct fila_settle *item);
    void *user;
};

/* One message to publish. */
struct fila_publish {
    struct fila_publish *next;
    fila_view queue;
    const fila_header *headers;
    size_t header_count;
    fila_view payload;
    int64_t deadline;
    fila_error error; /* code FILA_OK on success */
    char id[FILA_ID_SIZE];
    void (*done)(struct fila_publish *item);
    void *user;
};

/* Any other unary call (also enqueue, ack and nack of the client core). */
struct fila_unary {
    struct fila_unary *next;
    const fila_request *request; /* read before the start returns */
    int64_t deadline;
    fila_error error;
    void (*done)(
        struct fila_unary *item,
        const fila_reply *reply); /* reply is NULL on error; borrowed */
    void *user;
};

/* How a message was read. */
struct fila_read {
    int64_t read_at;       /* when this side took it */
    int64_t waiting_since; /* when the receive that took it was posted: it had nothing to read until
                              read_at */
    uint32_t wire_size;    /* bytes, frame included */
    int64_t lease_end;     /* exact, where the transport knows it; else 0 */
};

struct fila_stream_events {
    /* The broker accepted the stream (its headers came). Not all transports can tell before the
     * first message. */
    void (*opened)(void *user, int64_t now);
    void (*message)(void *user, fila_message *owned, const struct fila_read *read);
    /* Exactly once, last; the stream is freed on return. FILA_OK: the broker ended it in good
     * order. */
    void (*ended)(void *user, const fila_error *why);
};

struct fila_stream_params {
    fila_view queue;
    const char *url; /* of the node that serves this queue, a leader; NULL = the transport's own.
                        Read before open_stream returns; ignored where there is one broker only */
    uint32_t window; /* flow-control bytes; 0 = the transport's */
    const struct fila_stream_events *events;
    void *user;
};

/* One implementation. All slots: owner thread unless said, must not block (run apart). */
struct fila_transport_ops {
    const char *scheme;
    /* Opens in the background: a broker that is down is no error. */
    fila_status (*open)(
        const fila_client_options *options,
        struct fila_transport **ret_transport,
        fila_error *reterr);
    /* Waits until `until` for something to do, then does all that is ready without waiting again.
     * False once shut down and drained: it must not be called again, only freed. May block until
     * `until`. */
    bool (*run)(struct fila_transport *transport, int64_t until);
    /* Makes a waiting or the next run return soon. Any thread, also at once with others; not after
     * free. */
    void (*wake)(struct fila_transport *transport);
    fila_status (*open_stream)(
        struct fila_transport *transport,
        const struct fila_stream_params *params,
        struct fila_stream **ret_stream,
        fila_error *reterr);
    void (*grant)(struct fila_stream *stream, uint32_t credits);
    /* No new leases; messages already on their way may still come, then `ended`. */
    void (*stop_stream)(struct fila_stream *stream);
    /* Ends it at once, FILA_CANCELLED. */
    void (*cancel_stream)(struct fila_stream *stream);
    void (*settle)(struct fila_transport *transport, struct fila_settle *batch);
    void (*publish)(struct fila_transport *transport, struct fila_publish *batch);
    void (*unary)(struct fila_transport *transport, struct fila_unary *item);
    /* Stops all: see Safety above. May be repeated. */
    void (*shutdown)(struct fila_transport *transport);
    /* After run returned false, or if run was never called. */
    void (*free)(struct fila_transport *transport);
};

/* The head of every implementation's own struct. */
struct fila_transport {
    const struct fila_transport_ops *ops;
    struct fila_transport_caps caps;
};

struct fila_stream {
    struct fila_transport *transport;
};

/* Picks the implementation by options->url and opens it. Errors: FILA_INVALID_ARGUMENT (no or
 * malformed URL, with the accepted forms), FILA_UNSUPPORTED (a scheme that this build does not
 * have). */
FILA_NODISCARD fila_status fila_transport_open(
    const fila_client_options *options,
    struct fila_transport **ret_transport,
    fila_error *reterr);

/* All options, those that an older program's struct does not have yet at their defaults.
 * FILA_INVALID_ARGUMENT for a size that cannot be. */
FILA_NODISCARD fila_status fila_client_options_complete(
    const fila_client_options *options,
    fila_client_options *ret_options,
    fila_error *reterr);

/* Whether the URL's scheme is `embedded`. */
bool fila_url_is_embedded(const char *url);

extern const struct fila_transport_ops fila_grpc_transport;
extern const struct fila_transport_ops fila_embedded_transport;

static inline bool fila_transport_run(struct fila_transport *t, int64_t until)
{
    return t->ops->run(t, until);
}

static inline void fila_transport_wake(struct fila_transport *t)
{
    t->ops->wake(t);
}

#endif
