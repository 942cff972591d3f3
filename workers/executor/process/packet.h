/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the worker and a child that runs a handler say to each other: packets over a SEQPACKET
 * socket pair, so that each arrives whole or not at all.
 *
 * A packet is a head and fields in the order of its type, numbers as in memory (both ends are one
 * program on one machine), byte strings as a length and the bytes. Each field's length is checked
 * against the packet's, and nothing may be left over. A child is not trusted: its plugin may have
 * written anywhere, so whatever does not fit ends that child, and nothing else.
 *
 * The worker sends START once, then one RUN or PROBE at a time, and at last CLOSE. The child
 * answers START with PROBLEM (any number) and READY or FAILED, RUN with LOG (any number) and
 * RESULT, PROBE with PROBED; CRASH are its last words. A new service of fila/plugin.h that the
 * child cannot do by itself is one more type from the child, and one more to it if it has an
 * answer.
 *
 * The body of START and RUN follows in the packet, or is in the shared area (area.h) if it is over
 * FW_PACKET_INLINE bytes. Pure; any thread.
 */
#ifndef FW_PROCESS_PACKET_H
#define FW_PROCESS_PACKET_H

#include "executor/executor.h"

struct fw_arena; /* config/arena.h */

#define FW_PACKET_VERSION 1u
#define FW_PACKET_INLINE  65536u
/* The longest packet of all: a body and the fields before it. */
#define FW_PACKET_SIZE (FW_PACKET_INLINE + 256u)

enum fw_packet_type {
    /* To the child. */
    FW_PACKET_START = 1, /* body: struct fw_start */
    FW_PACKET_RUN,       /* body: a message */
    FW_PACKET_PROBE,
    FW_PACKET_CLOSE,
    /* From the child. */
    FW_PACKET_READY,
    FW_PACKET_FAILED,
    FW_PACKET_PROBLEM,
    FW_PACKET_LOG,
    FW_PACKET_PUBLISH,
    FW_PACKET_COUNT,
    FW_PACKET_RESULT,
    FW_PACKET_PROBED,
    FW_PACKET_CRASH,
    FW_PACKET_TYPE_COUNT
};

#define FW_FRAMES_MAX 16u

/* The longest part of a published message in one packet. */
#define FW_PUBLISH_PART 32768u

struct fw_frame {
    uint64_t offset;  /* in its module */
    fila_view module; /* path; "" when not known */
};

/* A packet as read; views into the bytes that it was read from. */
struct fw_packet {
    enum fw_packet_type type;
    uint64_t id; /* of the run or probe; 0 = of none */

    union {
        struct {
            uint32_t area_len; /* of a body in the area; 0: it is `body` */
            fila_view body;
            int64_t deadline; /* RUN: CLOCK_BOOTTIME ns */
            uint32_t attempt; /* RUN */
        } run;                /* START, RUN */

        struct {
            fila_view name;
            fila_view version;
            bool has_probe;
        } ready;

        fila_view text; /* FAILED */

        struct {
            uint32_t line;
            fila_view file;
            fila_view key;
            fila_view text;
        } problem;

        struct {
            uint32_t event; /* enum fw_event */
            fila_view text;
        } log;

        struct {
            uint32_t total; /* bytes of the whole; parts come in order */
            uint32_t offset;
            fila_view part;
        } publish;

        struct {
            fila_view name;
            uint64_t delta;
        } count;

        struct {
            int32_t verdict;
            uint32_t cause; /* enum fw_cause */
            int64_t delay;
            fila_view reason; /* data NULL = none */
        } result;

        bool healthy; /* PROBED */

        struct {
            int32_t number; /* of the signal */
            int32_t code;
            uint64_t address;
            bool other_thread; /* not the one that `handle` runs on */
            uint32_t frame_count;
            struct fw_frame frames[FW_FRAMES_MAX];
        } crash;
    };
};

/* False: `ret_why` says what does not fit. */
bool fw_packet_read(
    const uint8_t *bytes,
    size_t len,
    struct fw_packet *ret_packet,
    char *ret_why,
    size_t size);

/* Writes all but a START's or RUN's body, which is to follow. Texts that are too long for a packet
 * are cut off. Returns the length. Also in a signal handler. */
size_t fw_packet_write(const struct fw_packet *packet, uint8_t ret_bytes[FW_PACKET_SIZE]);

/* ---- Bodies ---- */

/* A growing buffer; `failed` without memory. */
struct fw_buffer {
    uint8_t *bytes;
    size_t len;
    size_t capacity;
    bool failed;
};

void fw_buffer_fini(struct fw_buffer *buffer);
/* False without memory. */
bool fw_buffer_add(struct fw_buffer *buffer, fila_view bytes);

/* All of a message but its payload, which is to follow. */
void fw_message_write(struct fw_buffer *buffer, const fila_message *message);

/* A message over `body`, which stays alive as long as it does. `headers` is where its headers go,
 * grown as needed. NULL: it does not fit, or no memory. */
struct fw_header_list {
    fila_header *items;
    size_t capacity;
};

fila_message *fw_message_read(fila_view body, struct fw_header_list *headers);

/* A published message as a whole, and back: FILA_PUBLISH_TAKEN, and *ret_outgoing is the caller's;
 * FILA_PUBLISH_NO_MEMORY; or another one of them when it is not what services->publish takes. */
void fw_outgoing_write(struct fw_buffer *buffer, const struct fw_outgoing *outgoing);
int fw_outgoing_read(fila_view whole, struct fw_outgoing **ret_outgoing);

/* What a child needs to know to begin. */
struct fw_start {
    const char *path;  /* of the plugin */
    const char *queue; /* for its services */
    int64_t size;      /* of the plugin's file: what it must be, when its path is loaded */
    int64_t mtime_ns;
    uint64_t inode;
    const struct fw_handler_option *options;
    size_t option_count;
    uint32_t log_level;
    bool load_descriptor; /* load the descriptor that is passed, not the path: it was replaced */
};

void fw_start_write(struct fw_buffer *buffer, const struct fw_start *start);
/* Texts are copied into `arena`. */
bool fw_start_read(fila_view body, struct fw_arena *arena, struct fw_start *ret_start);

#endif
