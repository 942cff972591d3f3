/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila/client.h: a client of Fila message queues for C programs. Link with `pkg-config --cflags
 * --libs fila`.
 *
 * A fila_client is a connection to one broker with one I/O thread of its own. Every call has an
 * asynchronous form, whose callback fires exactly once if and only if the start succeeded, never
 * inline and with no lock held; the synchronous form wraps it. Errors go into a fila_error that the
 * caller owns; an out-parameter is written only on success.
 *
 * Strings are views (pointer and length): Fila's ids, names and headers are UTF-8 without a
 * terminating zero. Views passed in need to live only until the call returns. Views handed out live
 * as long as what they were read from.
 */
#ifndef FILA_CLIENT_H
#define FILA_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#    define FILA_EXPORT            __attribute__((visibility("default")))
#    define FILA_NODISCARD         __attribute__((warn_unused_result))
#    define FILA_PRINTF(nth, args) __attribute__((format(printf, nth, args)))
#else
#    define FILA_EXPORT
#    define FILA_NODISCARD
#    define FILA_PRINTF(nth, args)
#endif

/* ---- Values
 * ------------------------------------------------------------------------------------------------------
 */

/* Bytes that somebody else owns. `data` may be NULL when `len` is 0. */
typedef struct fila_view {
    const char *data;
    size_t len;
} fila_view;

static inline fila_view fila_view_of(const char *text)
{
    fila_view v = {text, text ? strlen(text) : 0};
    return v;
}

/* One header of a message. */
typedef struct fila_header {
    fila_view key;
    fila_view value;
} fila_header;

/* What an operation of this library ends with. The meaning is by operation, not by wire code alone
 * (contract A2). */
typedef enum fila_status {
    FILA_OK = 0,
    FILA_INVALID_ARGUMENT,  /* the request is malformed and will never work */
    FILA_QUEUE_NOT_FOUND,   /* enqueue, stats, delete, redrive: no such queue */
    FILA_MESSAGE_NOT_FOUND, /* ack, nack: no lease of that id (expired, settled before, or wrong
                               queue) */
    FILA_KEY_NOT_FOUND,     /* API key calls: no such key id */
    FILA_QUEUE_EXISTS,      /* create: the name is taken */
    FILA_PARENT_NOT_FOUND,  /* redrive: the queue that this DLQ belongs to is gone */
    FILA_UNAUTHENTICATED,   /* no API key, or a wrong, expired or revoked one */
    FILA_DENIED,            /* the API key may not do this */
    FILA_OVERLOADED,        /* the broker refused it unseen: nothing was done, ask again later */
    FILA_TOO_LARGE,  /* over the broker's limit, or a message over this client's receive limit */
    FILA_NOT_LEADER, /* consume: another node serves this queue; fila_error.leader may name it */
    FILA_BROKER_UNAVAILABLE, /* not connected, or the connection broke: not known if it was done */
    FILA_TIMEOUT,            /* no answer in time: whether it was done is not known */
    FILA_CANCELLED,          /* this side cancelled it */
    FILA_UNIMPLEMENTED, /* the broker does not know this call (an older one, or no Fila broker at
                           all) */
    FILA_INTERNAL,      /* the broker failed inside */
    FILA_PROTOCOL,      /* the answer could not be understood */
    FILA_CLOSED,        /* the client, consumer or broker object is closed */
    FILA_UNSUPPORTED,   /* this transport or build cannot do it */
    FILA_NO_MEMORY,
    FILA_STATUS_COUNT
} fila_status;

/* A short lower-case name such as "queue not found"; never NULL. Thread: any. */
FILA_EXPORT const char *fila_status_name(fila_status status);

#define FILA_ERROR_TEXT  256
#define FILA_LEADER_TEXT 128

/* Why something failed. The caller owns it; functions fill it only when they fail and it is not
 * NULL. `text` is one line with the values that matter; it does not repeat which operation it was.
 */
typedef struct fila_error {
    fila_status code;
    int wire_code;        /* the gRPC status number, or -1 */
    bool retryable;       /* the same request may work later */
    bool outcome_unknown; /* the broker may have done it */
    char text[FILA_ERROR_TEXT];
    char leader[FILA_LEADER_TEXT]; /* FILA_NOT_LEADER: "host:port" where told, else "" */
} fila_error;

#define FILA_ERROR_INIT                 \
    {                                   \
        FILA_OK, -1, false, false, {0}, \
        {                               \
            0                           \
        }                               \
    }

/* ---- Messages
 * ----------------------------------------------------------------------------------------------------
 */

/* A message as delivered. It has one owner, who frees it; the views below live until then.
 * Immutable, so any number of threads may read it. */
typedef struct fila_message fila_message;

FILA_EXPORT void fila_message_free(fila_message *message); /* takes NULL */
FILA_EXPORT fila_view fila_message_id(const fila_message *message);
/* The queue to ack it with: of a message read from a DLQ, the DLQ's name (contract B13). */
FILA_EXPORT fila_view fila_message_queue(const fila_message *message);
FILA_EXPORT fila_view fila_message_payload(const fila_message *message);
FILA_EXPORT fila_view fila_message_fairness_key(const fila_message *message);
/* Failed deliveries before this one, as the broker counts them: 0 at first (contract B6). */
FILA_EXPORT uint32_t fila_message_attempt_count(const fila_message *message);
FILA_EXPORT uint32_t fila_message_weight(const fila_message *message);
/* Milliseconds since 1970 at which it was enqueued, read from its UUIDv7 id; 0 when the id is none.
 */
FILA_EXPORT int64_t fila_message_enqueued_ms(const fila_message *message);

/* Walks the headers (throttle keys) in wire order: start with *cursor = 0, and go on while it
 * returns true. */
FILA_EXPORT bool fila_message_next_header(
    const fila_message *message,
    size_t *cursor,
    fila_header *ret_header);
FILA_EXPORT bool fila_message_next_throttle_key(
    const fila_message *message,
    size_t *cursor,
    fila_view *ret_key);
/* The value of the last header with that key; false when there is none. Cost: linear in the number
 * of headers. */
FILA_EXPORT bool fila_message_header(
    const fila_message *message,
    fila_view key,
    fila_view *ret_value);

/* ---- Requests and replies
 * ---------------------------------------------------------------------------------------- */

/* The calls of contract A1. CONSUME is not a unary call: see fila_consumer. */
typedef enum fila_call {
    FILA_CALL_ENQUEUE = 0,
    FILA_CALL_CONSUME,
    FILA_CALL_ACK,
    FILA_CALL_NACK,
    FILA_CALL_CREATE_QUEUE,
    FILA_CALL_DELETE_QUEUE,
    FILA_CALL_SET_CONFIG,
    FILA_CALL_GET_CONFIG,
    FILA_CALL_LIST_CONFIG,
    FILA_CALL_GET_STATS,
    FILA_CALL_REDRIVE,
    FILA_CALL_LIST_QUEUES,
    FILA_CALL_CREATE_API_KEY,
    FILA_CALL_REVOKE_API_KEY,
    FILA_CALL_LIST_API_KEYS,
    FILA_CALL_SET_ACL,
    FILA_CALL_GET_ACL,
    FILA_CALL_COUNT
} fila_call;

/* "Enqueue", "CreateQueue", ...: the RPC's name; never NULL. Thread: any. */
FILA_EXPORT const char *fila_call_name(fila_call call);

typedef struct fila_acl_permission {
    fila_view kind;    /* produce, consume or admin */
    fila_view pattern; /* "*", "prefix.*", or an exact name */
} fila_acl_permission;

/* One unary call. Only the member of `as` that belongs to `call` is read. */
typedef struct fila_request {
    fila_call call;
    uint32_t timeout_ms; /* 0 = the client's call_timeout_ms */

    union {
        struct {
            fila_view queue;
            const fila_header *headers;
            size_t header_count;
            fila_view payload;
        } enqueue;

        struct {
            fila_view queue;
            fila_view message_id;
            fila_view error; /* nack only */
        } settle;            /* ACK, NACK */

        struct {
            fila_view name;
            fila_view on_enqueue_script; /* Lua; empty = none */
            fila_view on_failure_script;
            uint64_t
                visibility_timeout_ms; /* 0 = the broker's default, 30,000; else at least 1,000 */
        } create_queue;

        struct {
            fila_view queue;
        } queue; /* DELETE_QUEUE, GET_STATS */

        struct {
            fila_view key;   /* LIST_CONFIG: the prefix */
            fila_view value; /* SET_CONFIG only */
        } config;            /* SET_CONFIG, GET_CONFIG, LIST_CONFIG */

        struct {
            fila_view dlq_queue;
            uint64_t count; /* 0 = all */
        } redrive;

        struct {
            fila_view name;
            uint64_t expires_at_ms; /* 0 = never */
            bool is_superadmin;
        } create_api_key;

        struct {
            fila_view key_id;
            const fila_acl_permission *permissions; /* SET_ACL only */
            size_t permission_count;
        } api_key; /* REVOKE_API_KEY, SET_ACL, GET_ACL */
    } as;
} fila_request;

typedef struct fila_config_entry {
    fila_view key;
    fila_view value;
} fila_config_entry;

typedef struct fila_key_stats {
    fila_view key;
    uint64_t pending_count;
    int64_t current_deficit;
    uint32_t weight;
} fila_key_stats;

typedef struct fila_throttle_stats {
    fila_view key;
    double tokens;
    double rate_per_second;
    double burst;
} fila_throttle_stats;

typedef struct fila_queue_stats {
    uint64_t depth; /* pending + in flight (contract C) */
    uint64_t in_flight;
    uint64_t active_fairness_keys;
    uint32_t active_consumers;
    uint32_t quantum;
    const fila_key_stats *keys;
    size_t key_count;
    const fila_throttle_stats *throttles;
    size_t throttle_count;
    uint64_t leader_node_id; /* 0 on a single node */
    uint32_t replication_count;
} fila_queue_stats;

typedef struct fila_queue_info {
    fila_view name;
    uint64_t depth;
    uint64_t in_flight;
    uint32_t active_consumers;
    uint64_t leader_node_id;
} fila_queue_info;

typedef struct fila_api_key_info {
    fila_view key_id;
    fila_view name;
    uint64_t created_at_ms;
    uint64_t expires_at_ms;
    bool is_superadmin;
} fila_api_key_info;

/* The answer to a fila_request. Calls without an answer of their own leave `as` zero. */
typedef struct fila_reply {
    fila_call call;

    union {
        struct {
            fila_view message_id;
        } enqueue;

        struct {
            fila_view queue_id;
        } create_queue;

        struct {
            fila_view value; /* "" also for a key that does not exist (contract A2) */
        } get_config;

        struct {
            const fila_config_entry *entries;
            size_t count;
            uint32_t total_count;
        } list_config;

        fila_queue_stats stats;

        struct {
            uint64_t redriven;
        } redrive;

        struct {
            const fila_queue_info *queues;
            size_t count;
            uint32_t cluster_node_count;
        } list_queues;

        struct {
            fila_view key_id;
            fila_view key; /* the secret, shown once */
            bool is_superadmin;
        } create_api_key;

        struct {
            const fila_api_key_info *keys;
            size_t count;
        } list_api_keys;

        struct {
            fila_view key_id;
            const fila_acl_permission *permissions;
            size_t count;
            bool is_superadmin;
        } get_acl;
    } as;
} fila_reply;

/* A deep copy in one allocation, or NULL without memory; freed with fila_reply_free, which takes
 * NULL. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_reply *fila_reply_copy(const fila_reply *reply);
FILA_EXPORT void fila_reply_free(fila_reply *reply);

/* ---- Client
 * ------------------------------------------------------------------------------------------------------
 */

typedef struct fila_client fila_client;
struct fila_broker; /* fila/broker.h */

/* All strings may be NULL; they are copied. Set by FILA_CLIENT_OPTIONS_INIT, then change what you
 * need. */
typedef struct fila_client_options {
    size_t size;         /* sizeof(fila_client_options), set by the macro */
    const char *url;     /* grpc://HOST:PORT, grpc://unix:/path, embedded:[PATH] */
    const char *api_key; /* sent as `authorization: Bearer KEY` on every call, also in the clear */
    const char *tls_ca;  /* PEM paths, for grpcs:// */
    const char *tls_cert;
    const char *tls_key;
    uint32_t call_timeout_ms; /* of a unary call: 5,000 */
    uint32_t calls_in_flight; /* unary calls on the wire at once; more wait their turn: 64 */
    uint32_t receive_limit;   /* bytes of the largest message accepted: 16 MiB */
    uint32_t
        window; /* bytes a stream may run ahead of its reader: 65,536 (grpc-limits chapter 6) */
    uint32_t keepalive_ms;         /* ping an idle connection: 10,000; 0 = never */
    uint32_t keepalive_timeout_ms; /* and give it up without an answer: 5,000 */
    uint32_t reconnect_max_ms;     /* longest pause between connection attempts: 2,000 */
    struct fila_broker *broker; /* embedded: this broker; NULL = one of the client's own, in memory
                                   or in the file that the URL names (fila/broker.h) */
} fila_client_options;

#define FILA_CLIENT_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(fila_client_options), 0, 0, 0, 0, 0, 5000, 64, 16u << 20, 65536, 10000, 5000, 2000, \
            0                                                                                      \
    }

/* Opens a client. It connects in the background: a broker that is down is no error here; calls fail
 * until it is up. Errors: FILA_INVALID_ARGUMENT (URL or option), FILA_UNSUPPORTED (scheme),
 * FILA_NO_MEMORY. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status
fila_client_open(const fila_client_options *options, fila_client **ret_client, fila_error *reterr);

/* Starts the end: calls in flight and consumers end with FILA_CLOSED or FILA_CANCELLED. Never
 * blocks; may be repeated. */
FILA_EXPORT void fila_client_close(fila_client *client);

/* Closes, waits until the last callback has returned, and frees. Takes NULL. Not from a callback.
 */
FILA_EXPORT void fila_client_free(fila_client *client);

/* `error` is NULL on success, else `reply` is NULL; both live until the callback returns. Thread:
 * the client's own. It must not block: it holds up everything else on this client. */
typedef void (*fila_reply_fn)(void *user, const fila_reply *reply, const fila_error *error);

/* Starts a unary call. Errors at once (then no callback): FILA_INVALID_ARGUMENT for an unknown
 * call, a queue name, key or id over 65,535 bytes (contract I25; a new queue's name leaves 4 of
 * them for its .dlq), or text that is not UTF-8; FILA_TOO_LARGE for a request over 4 MiB encoded;
 * FILA_CLOSED; FILA_NO_MEMORY. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status fila_call_start(
    fila_client *client,
    const fila_request *request,
    fila_reply_fn on_reply,
    void *user,
    fila_error *reterr);

/* The same, waiting for the answer. *ret_reply (may be NULL if not wanted) is freed with
 * fila_reply_free. Thread: any but the client's own callbacks. */
FILA_EXPORT FILA_NODISCARD fila_status fila_call_wait(
    fila_client *client,
    const fila_request *request,
    fila_reply **ret_reply,
    fila_error *reterr);

/* Room for a message id and its terminating zero. Fila's ids are UUIDs of 36 characters. */
#define FILA_ID_SIZE 64

/* Short forms of fila_call_wait. Enqueue retried after an unknown outcome may put the message in
 * twice (contract I19). */
FILA_EXPORT FILA_NODISCARD fila_status fila_enqueue(
    fila_client *client,
    fila_view queue,
    const fila_header *headers,
    size_t header_count,
    fila_view payload,
    char ret_id[FILA_ID_SIZE],
    fila_error *reterr);
FILA_EXPORT FILA_NODISCARD fila_status
fila_ack(fila_client *client, fila_view queue, fila_view message_id, fila_error *reterr);
FILA_EXPORT FILA_NODISCARD fila_status fila_nack(
    fila_client *client,
    fila_view queue,
    fila_view message_id,
    fila_view error,
    fila_error *reterr);

/* ---- Consuming
 * ---------------------------------------------------------------------------------------------------
 */

typedef struct fila_consumer fila_consumer;

/* Called on the client's own thread; must not block. */
typedef struct fila_consumer_events {
    /* A message, which now belongs to the callee. */
    void (*on_message)(void *user, fila_message *message);
    /* The stream's end, exactly once and last. FILA_OK means that the broker ended it in good
     * order: open another (contract A4.5); FILA_CANCELLED answers fila_consumer_close. */
    void (*on_end)(void *user, const fila_error *why);
} fila_consumer_events;

/* Opens a consume stream. *ret_consumer is written before the first event. The broker leases
 * messages ahead of the reader (contract A5); the lease clock runs from then. Nothing is read
 * before credits are granted. `events` NULL: read with fila_consumer_next. A queue that does not
 * exist gives an open, silent stream (contract A2). Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status fila_consumer_open(
    fila_client *client,
    fila_view queue,
    const fila_consumer_events *events,
    void *user,
    fila_consumer **ret_consumer,
    fila_error *reterr);

/* Lets `count` more messages be read. Thread: any. */
FILA_EXPORT void fila_consumer_grant(fila_consumer *consumer, uint32_t count);

/* For consumers without events: waits up to timeout_ms (-1 = for ever) for the next message,
 * granting the credit itself. FILA_TIMEOUT when none came; the stream's end otherwise,
 * FILA_BROKER_UNAVAILABLE with retryable set for an end in good order. One thread at a time, and
 * none of the client's own. */
FILA_EXPORT FILA_NODISCARD fila_status fila_consumer_next(
    fila_consumer *consumer,
    int timeout_ms,
    fila_message **ret_message,
    fila_error *reterr);

/* Ends the stream. What was leased to it unread comes back after the visibility timeout (contract
 * A6); a message that is read after the client's thread has seen this is dropped the same way.
 * Never blocks; may be repeated. Thread: any. */
FILA_EXPORT void fila_consumer_close(fila_consumer *consumer);

/* Closes and frees; waits until on_end has returned, unless called on the client's own thread,
 * where on_end must have been called, or be the caller. May come after fila_client_free, by which a
 * consumer has ended. Takes NULL. Thread: any. */
FILA_EXPORT void fila_consumer_free(fila_consumer *consumer);

/* ---- Pausing between attempts
 * ------------------------------------------------------------------------------------
 */

/* Pauses that double up to a longest, with jitter, so that many clients do not come back at once.
 * Caller-owned and without pointers: nothing to free. One thread at a time. */
typedef struct fila_backoff {
    uint32_t first_ms;
    uint32_t max_ms;
    uint32_t
        jitter_percent; /* of each pause, how much is random: 100 = [0, pause], 50 = [1/2, 1] */
    uint32_t next_ms;   /* the rest is its own */
    uint64_t random;
} fila_backoff;

/* `seed` 0 = a random one; any other gives the same pauses again. A max_ms below first_ms counts as
 * first_ms, a jitter_percent over 100 as 100. */
FILA_EXPORT void fila_backoff_init(
    fila_backoff *backoff,
    uint32_t first_ms,
    uint32_t max_ms,
    uint32_t jitter_percent,
    uint64_t seed);

/* Milliseconds to wait before the next attempt. */
FILA_EXPORT uint32_t fila_backoff_next(fila_backoff *backoff);

/* After a success: begin with first_ms again. */
FILA_EXPORT void fila_backoff_reset(fila_backoff *backoff);

/* ---- Publishing with a buffer
 * -------------------------------------------------------------------------------------
 */

typedef struct fila_producer fila_producer;

/* What became of one message. */
typedef struct fila_report {
    void *token;             /* as given with it */
    fila_view id;            /* the broker's; empty on failure */
    uint32_t attempts;       /* how often it was sent */
    const fila_error *error; /* NULL on success */
} fila_report;

/* Thread: the client's own; must not block. `report` lives until it returns. */
typedef void (*fila_report_fn)(void *user, const fila_report *report);

typedef struct fila_producer_options {
    size_t size;              /* sizeof(fila_producer_options), set by the macro */
    uint32_t buffer_messages; /* taken and not reported yet, at most: 10,000 */
    uint64_t buffer_bytes;    /* and their memory: 64 MiB */
    uint32_t flush_count;     /* so many go out at once: 64 */
    uint32_t flush_ms;        /* fewer wait at most that long for more: 5; 0 = they do not */
    uint32_t in_flight;       /* on their way at once: 64 */
    uint32_t timeout_ms;      /* of one message, from taking it to reporting it: 30,000 */
    uint32_t retry_first_ms;  /* pauses after a failure that may pass, for all: 100 */
    uint32_t retry_max_ms;    /* 5,000 */
    bool retry_unknown;       /* also when a message may have got in: it may then be there twice */
    fila_report_fn on_report; /* NULL: nobody is told */
    void *user;
} fila_producer_options;

#define FILA_PRODUCER_OPTIONS_INIT                                                                \
    {                                                                                             \
        sizeof(fila_producer_options), 10000, 64u << 20, 64, 5, 64, 30000, 100, 5000, false, 0, 0 \
    }

/* Buffers messages and publishes them over `client`, many at once. Messages of one producer go out
 * in the order in which they were sent, unless one fails and is sent again. Errors:
 * FILA_INVALID_ARGUMENT (option), FILA_CLOSED, FILA_NO_MEMORY. Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status fila_producer_open(
    fila_client *client,
    const fila_producer_options *options,
    fila_producer **ret_producer,
    fila_error *reterr);

/* Takes a message, which is copied. Never blocks. Reported exactly once, if and only if this is
 * FILA_OK. Errors: FILA_OVERLOADED (the buffer is full: wait for reports), else as fila_call_start.
 * Thread: any. */
FILA_EXPORT FILA_NODISCARD fila_status fila_producer_send(
    fila_producer *producer,
    fila_view queue,
    const fila_header *headers,
    size_t header_count,
    fila_view payload,
    void *token,
    fila_error *reterr);

/* Sends what waits for company, and waits up to timeout_ms (-1 = for ever) until all that was taken
 * before is reported. FILA_TIMEOUT. Thread: any but the client's own. */
FILA_EXPORT FILA_NODISCARD fila_status
fila_producer_flush(fila_producer *producer, int timeout_ms, fila_error *reterr);

/* Takes no more; what is not on its way is reported FILA_CANCELLED (flush first to have it sent).
 * Never blocks; may be repeated. Thread: any. */
FILA_EXPORT void fila_producer_close(fila_producer *producer);

/* Closes and frees; waits for the last report, unless called on the client's own thread. May come
 * after fila_client_free. Takes NULL. Thread: any. */
FILA_EXPORT void fila_producer_free(fila_producer *producer);

/* ---- Several brokers
 * ---------------------------------------------------------------------------------------------
 */

/* Which of several brokers to talk to: remembers which failed, pauses between attempts, follows a
 * leader's address. It opens nothing itself. One thread at a time; times are milliseconds of any
 * clock that does not jump. */
typedef struct fila_endpoints fila_endpoints;

/* `urls` are copied, in order of preference. Pauses of a failing one as fila_backoff has them, half
 * of each random; `seed` as there. Errors: FILA_INVALID_ARGUMENT (none, or an empty one),
 * FILA_NO_MEMORY. */
FILA_EXPORT FILA_NODISCARD fila_status fila_endpoints_new(
    const char *const *urls,
    size_t count,
    uint32_t first_ms,
    uint32_t max_ms,
    uint64_t seed,
    fila_endpoints **ret_endpoints,
    fila_error *reterr);
FILA_EXPORT void fila_endpoints_free(fila_endpoints *endpoints); /* takes NULL */

/* The one to try next, and after how many milliseconds: a leader that was named, else the one that
 * last worked, else the next in turn that has not failed lately, else the one whose pause is over
 * first. Lives until the next call here. */
FILA_EXPORT const char *fila_endpoints_pick(
    fila_endpoints *endpoints,
    int64_t now_ms,
    uint32_t *ret_wait_ms);

/* What became of trying `url`. */
FILA_EXPORT void fila_endpoints_worked(fila_endpoints *endpoints, const char *url);
FILA_EXPORT void fila_endpoints_failed(fila_endpoints *endpoints, const char *url, int64_t now_ms);

/* `from_url` answered FILA_NOT_LEADER with fila_error.leader. True: the next pick is the leader.
 * False: the address is none, or is that of `from_url`, or it is the fourth in a row without
 * success (contract I21): go on as after a failure. */
FILA_EXPORT bool fila_endpoints_redirect(
    fila_endpoints *endpoints,
    const char *from_url,
    const char *leader);

#ifdef __cplusplus
}
#endif
#endif
