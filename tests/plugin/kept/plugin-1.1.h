/* SPDX-License-Identifier: AGPL-3.0-or-later WITH fila-plugin-exception
 *
 * fila/plugin.h: write a message handler as a shared object.
 *
 * Plugin exception: a program that uses fila-worker only through the interface in this file (a
 * handler) is not a derived work of fila-worker for the purposes of the AGPL, and may carry any
 * licence. This file may be copied into it.
 *
 * A handler is one const descriptor, defined with FILA_PLUGIN_DEFINE at the bottom of a file in
 * which all else is static. It needs libc only and links against nothing of the host. The host
 * reads the descriptor's numbers from the file before it runs any code in it, and refuses what does
 * not fit, naming the field and both values. In C:
 *
 *     static int handle(void *self, const fila_delivery *d, const fila_services *s) { ... }
 *
 *     FILA_PLUGIN_DEFINE({FILA_PLUGIN_HEAD, .name = "mine", .version = "1.0", .handle = handle})
 *
 * In C++, which before C++20 has no designated initializers, the descriptor is the value of a
 * constexpr function (a constant: it must be in the file, not be computed when it is loaded):
 *
 *     static constexpr fila_plugin describe()
 *     {
 *         fila_plugin p = FILA_PLUGIN_INIT;
 *         p.name = "mine";
 *         p.version = "1.0";
 *         p.handle = handle;
 *         return p;
 *     }
 *
 *     FILA_PLUGIN_DEFINE(describe())
 *
 * Threads: without FILA_PLUGIN_THREAD_SAFE there is one instance (one `init`) per worker thread,
 * and each instance is only ever used by one thread at a time. With it there is one instance for
 * all, used by many at once.
 *
 * Versions: within a major, structs grow at their end only, and nothing else changes. What has no
 * "Since" beside it came with 1.0.
 *   1.0  the first
 *   1.1  services: publish, counter; fila_publication, fila_publication_header
 * The promise: a host runs the plugins of its own minor and of all older ones, as they are: the
 * descriptor says how large its structs were when it was compiled. A plugin of a newer minor is
 * refused, for it may count on what this host does not have; to run on older hosts too, compile
 * with the header of the oldest one. Another major is refused.
 */
#ifndef FILA_PLUGIN_H
#define FILA_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FILA_PLUGIN_MAGIC     0x414c4946u /* "FILA" in a little-endian file */
#define FILA_PLUGIN_ABI_MAJOR 1u          /* differs: refused */
#define FILA_PLUGIN_ABI_MINOR 1u          /* a plugin of an older minor runs on a newer host */

/* What `handle` returns. Any other value is taken as FILA_RETRY, with a warning. */
#define FILA_ACK         0 /* done */
#define FILA_RETRY       1 /* failed; try again after the backoff, or after services->retry_after */
#define FILA_REJECT      2 /* will never work: dead letter */
#define FILA_UNAVAILABLE 3 /* a dependency is down: the breaker counts it, no try is burnt */
#define FILA_DEFER       4 /* not done yet: services->complete will be called, once, from any thread */

/* ---- Options: the host parses, checks and prints them ---- */

#define FILA_OPTION_STRING   1u
#define FILA_OPTION_BOOL     2u
#define FILA_OPTION_INT      3u
#define FILA_OPTION_FLOAT    4u
#define FILA_OPTION_DURATION 5u /* written "250ms", "5s"; read in `integer` as milliseconds */
#define FILA_OPTION_SIZE     6u /* written "64KiB"; read in `integer` as bytes */
#define FILA_OPTION_STRINGS  7u /* a list of strings */

#define FILA_OPTION_REQUIRED 1u
#define FILA_OPTION_SECRET   2u /* masked wherever config is printed */

typedef struct fila_option {
    const char *name;
    uint32_t type;
    uint32_t flags;
    const char *fallback; /* the default, written as in the config file; NULL = none; of a list ""
                             (an empty one) or its one string */
    double min;           /* of numbers, durations (ms) and sizes (bytes); both 0 = no range */
    double max;
    const char *help; /* one sentence */
} fila_option;

/* What an option is set to. All of it lives as long as the instance, and is not to be changed. */
typedef struct fila_option_value {
    uint32_t type;   /* 0: not set, and no default */
    uint32_t count;  /* of `strings` */
    int64_t integer; /* BOOL 0/1, INT, DURATION ms, SIZE bytes */
    double real;
    const char *string;
    const char *const *strings;
} fila_option_value;

/* How many elements an array has: {.options = OPTIONS, .option_count = FILA_COUNT(OPTIONS)}. */
#define FILA_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- What a handler sees ---- */

/* A message. Views; valid until `handle` returns, or, after FILA_DEFER, until services->complete
 * returns. */
typedef struct fila_delivery {
    uint32_t size; /* sizeof of the host's struct: later fields may be missing on an older host */
    uint32_t attempt; /* 1 at the first try that this worker has seen */
    const char *queue;
    size_t queue_len;
    const char *id;
    size_t id_len;
    const uint8_t *payload;
    size_t payload_len;
    const char *fairness_key;
    size_t fairness_key_len;
    int64_t enqueued_ms; /* since 1970; 0 = not known */
    void *host;          /* the host's own */
} fila_delivery;

#define FILA_LOG_DEBUG 0
#define FILA_LOG_INFO  1
#define FILA_LOG_WARN  2
#define FILA_LOG_ERROR 3

/* What brought a FILA_RETRY about, for those whose work is done by something that can hang or die
 * (a command, a child process): shown to the operator as the cause of the failure. */
#define FILA_CAUSE_TIMEOUT 1u
#define FILA_CAUSE_CRASH   2u

/* ---- What a handler publishes ---- */

/* A text that is written in the source, as the two fields of a text and its length. */
#define FILA_TEXT(literal) (literal), (sizeof(literal) - 1)

/* A header. Never grows: it is an element of an array. Texts are UTF-8. */
typedef struct fila_publication_header {
    const char *key;
    size_t key_len;
    const char *value;
    size_t value_len;
} fila_publication_header;

/* A message to publish. At most 4,096 headers, none with an empty key. */
typedef struct fila_publication {
    uint32_t size; /* sizeof(fila_publication), by FILA_PUBLICATION_INIT */
    uint32_t header_count;
    const char *queue; /* UTF-8; it must exist */
    size_t queue_len;
    const fila_publication_header *headers;
    const uint8_t *payload;
    size_t payload_len;
} fila_publication;

/* An empty one; set the fields that it needs. */
#define FILA_PUBLICATION_INIT                               \
    {                                                       \
        sizeof(fila_publication), 0, NULL, 0, NULL, NULL, 0 \
    }

/* What `publish` answers. INVALID: no queue, a text that is not UTF-8, a header without a key or
 * one too many, a wrong `size`. TOO_LARGE: it is over 4 MiB, or all of this delivery's are too
 * much. OVER: the delivery has ended, or was given up at its deadline. */
#define FILA_PUBLISH_TAKEN     0
#define FILA_PUBLISH_INVALID   1
#define FILA_PUBLISH_TOO_LARGE 2
#define FILA_PUBLISH_NO_MEMORY 3
#define FILA_PUBLISH_OVER      4

/* Of one delivery's publications: how many, and their bytes with all headers and names. */
#define FILA_PUBLISH_MESSAGES_MAX 256u
#define FILA_PUBLISH_BYTES_MAX    8388608u /* 8 MiB */

/* How many counters a handler may have, and the longest name, in bytes. */
#define FILA_COUNTERS_MAX     32u
#define FILA_COUNTER_NAME_MAX 48u

/* ---- What the host does ---- */

/* What the host does for a handler. `size` says how many of them there are. Where nothing else is
 * said, of each of them holds:
 *   Thread: called from inside `init`, `handle`, `probe` or `close`, on the thread that the host
 *     called these on; `delivery` is the one that `handle` was given.
 *   Blocks: never (a lock held for a few instructions at most).
 *   Ownership: none changes, also on failure: what is given is copied, what is returned is the
 *     host's. Nothing has happened when it fails. */
typedef struct fila_services {
    uint32_t size;
    uint32_t abi_minor;
    void *host; /* the host's own */

    /* An option of this handler by name; NULL when the table has none of that name. Lives as long
     * as the instance. Cost: a walk over the table; ask in `init`. Thread: any. */
    const fila_option_value *(*option)(const struct fila_services *services, const char *name);

    /* One log line; `delivery` may be NULL. An unknown level is taken as FILA_LOG_INFO. Errors:
     * none; while whoever reads the worker's log is far behind, lines are lost, and counted.
     * Thread: any.
     */
    void (*log)(
        const struct fila_services *services,
        const fila_delivery *delivery,
        int level,
        const char *text);

    /* Why the verdict is what it is: shown in the log, and kept with the dead letter. Copied, up to
     * 4,351 bytes; the last one counts. In `init` (delivery NULL): why it failed. */
    void (*reason)(
        const struct fila_services *services,
        const fila_delivery *delivery,
        const char *text);

    /* With FILA_RETRY or FILA_UNAVAILABLE: not before that many milliseconds; the last one counts.
     * Up to a week; 0 or less: the usual backoff. */
    void (*retry_after)(const fila_delivery *delivery, int64_t ms);

    /* Walks the headers: start with *cursor = 0, go on while it returns 1. At the end 0, and
     * nothing is written. Views as of the delivery: not zero-terminated. Thread: any. */
    int (*next_header)(
        const fila_delivery *delivery,
        size_t *cursor,
        const char **ret_key,
        size_t *ret_key_len,
        const char **ret_value,
        size_t *ret_value_len);

    /* Milliseconds left until the host gives this message up; negative after that. Thread: any. */
    int64_t (*deadline_ms)(const fila_delivery *delivery);

    /* 1 when the result is no longer wanted (the deadline has passed, or the host stops): return
     * soon. Thread: any. */
    int (*cancelled)(const fila_delivery *delivery);

    /* Ends a deferred delivery with a verdict (not FILA_DEFER). 0 = taken; -1 = it was not deferred
     * or is over already, as the host gives it up itself at its deadline: even then `complete` is
     * called once, and only then is the delivery let go. The delivery is invalid afterwards, also
     * when it returned -1. Thread: any, also before `handle` has returned FILA_DEFER. */
    int (*complete)(const fila_delivery *delivery, int verdict, const char *reason);

    /* With FILA_RETRY: its cause, FILA_CAUSE_TIMEOUT or FILA_CAUSE_CRASH; the last one counts, and
     * another number is none. */
    void (*cause)(const fila_delivery *delivery, uint32_t cause);

    /* A file descriptor that polls readable from when `cancelled` is 1 until `handle` returns, for
     * those that wait in poll(2); it may do so once too often: ask `cancelled`. -1 = none, ask
     * `cancelled` from time to time. The host's: neither read nor close it. */
    int (*cancel_fd)(const fila_delivery *delivery);

    /* The environment for a child process: the host's own without its secrets (API keys, key files,
     * whatever its config took out of the environment). "NAME=value" strings, ended by NULL. Lives
     * as long as the instance. Thread: any. */
    const char *const *(*environment)(const struct fila_services *services);

    /* Since 1.1. Publishes a message when this delivery's verdict is FILA_ACK: then it is sent, and
     * the delivery is acked only once the broker has confirmed it and all others that it published,
     * in no particular order. With any other verdict all of them are dropped. What cannot be
     * confirmed makes a retry of the delivery (queue missing, or no right to it) or a
     * FILA_UNAVAILABLE (no broker), with the reason; those that were confirmed are published again
     * by the next try: at least once, like everything. The `traceparent` and `tracestate` headers
     * of the delivery are added unless it has a traceparent of its own. Copied. Returns
     * FILA_PUBLISH_*; only FILA_PUBLISH_TAKEN (0) has taken it. Thread: any, until the delivery
     * ends. */
    int (*publish)(const fila_delivery *delivery, const fila_publication *publication);

    /* Since 1.1. Adds to a counter of the plugin's own, shown to the operator as
     * fila_worker_handler_counter_total{queue, handler, name}; all instances of one queue's handler
     * count together. A name is of a-z 0-9 _, begins with a letter, and is better a literal: each
     * new one makes a counter, FILA_COUNTERS_MAX in all. 0 = added; -1 = not a name, or one too
     * many. Cost: a search among the names. Thread: any. */
    int (*counter)(const struct fila_services *services, const char *name, uint64_t delta);
} fila_services;

/* ---- The descriptor ---- */

#define FILA_PLUGIN_THREAD_SAFE 1u

typedef struct fila_plugin {
    uint32_t magic; /* the first seven by FILA_PLUGIN_HEAD; read from the file before any code of
                       it runs */
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t plugin_size;
    uint32_t option_size;
    uint32_t delivery_size;
    uint32_t services_size;
    uint32_t flags;
    uint32_t option_count;
    const fila_option *options;
    const char *name;
    const char *version;
    const char *description;

    /* Makes an instance; *ret_self is handed to the others. 0 = fine; else say why with
     * services->reason, and free what was made: `close` is not called. Called once for each
     * instance, of which a process may make and close many. Thread: the worker thread that the
     * instance is for (thread-safe: one of them). Blocks: may, within `start_timeout`; it holds up
     * the start of the worker. NULL slot: no instance needed, `self` is NULL. `services` lives as
     * long as the instance. */
    int (*init)(const fila_services *services, void **ret_self);

    /* Handles one message and returns a verdict. No exception may leave it, nor any other slot.
     * Ownership: the delivery is the host's; what was made for it is the plugin's to free, with
     * every verdict. Errors: the verdict, with a reason. Thread: that of its instance (thread-safe:
     * many at once). Blocks: may, until its deadline; long after it, the host takes the thread for
     * lost. Idempotence: a message may come twice. Required. */
    int (*handle)(void *self, const fila_delivery *delivery, const fila_services *services);

    /* Frees an instance; after its last `handle` and `complete`. Thread: that of its `init`
     * (thread-safe: any one). Blocks: may, within the worker's drain timeout. NULL slot: nothing to
     * free. */
    void (*close)(void *self);

    /* Is the dependency back? 1 = yes, 0 = no, and so is anything else. Asked while the breaker is
     * open. Thread: one that `handle` is called on. Blocks: may, for a few seconds; 30 s without an
     * answer are a no. NULL slot: a message is tried instead. */
    int (*probe)(void *self, const fila_services *services);
} fila_plugin;

#define FILA_PLUGIN_SYMBOL "fila_plugin_descriptor"

/* The first seven fields. */
#define FILA_PLUGIN_HEAD                                                                  \
    FILA_PLUGIN_MAGIC, FILA_PLUGIN_ABI_MAJOR, FILA_PLUGIN_ABI_MINOR, sizeof(fila_plugin), \
        sizeof(fila_option), sizeof(fila_delivery), sizeof(fila_services)

/* A descriptor with its head set and nothing else. */
#define FILA_PLUGIN_INIT                                                       \
    {                                                                          \
        FILA_PLUGIN_HEAD, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    }

#if defined(__GNUC__)
#    define FILA_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#    define FILA_PLUGIN_EXPORT
#endif

/* The one symbol that a plugin exports. */
extern FILA_PLUGIN_EXPORT const fila_plugin fila_plugin_descriptor;

#ifdef __cplusplus
#    define FILA_PLUGIN_DEFINE(...) \
        extern "C" FILA_PLUGIN_EXPORT constexpr fila_plugin fila_plugin_descriptor = __VA_ARGS__;
#else
#    define FILA_PLUGIN_DEFINE(...) \
        FILA_PLUGIN_EXPORT const fila_plugin fila_plugin_descriptor = __VA_ARGS__;
#endif

#ifdef __cplusplus
}
#endif
#endif
