/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What `fila-worker dlq` does; dlq.c reads the command line. Two kinds of dead letters (design.md
 * chapter 7): copies that a worker made carry its x-fila-dead-letter-* headers; what the broker
 * moved itself has none of them, and its cause is shown as "broker". Thread: main.
 */
#ifndef FW_CLI_DLQ_H
#define FW_CLI_DLQ_H

#include "fila/client.h"

#include <stdio.h>

struct fw_dlq {
    fila_client *client;
    char name[1024];    /* of the dead-letter queue */
    char parent[1024];  /* of the queue it belongs to */
    const char *file;   /* of export and import; NULL = standard output or input */
    const char *cause;  /* only those; NULL = all */
    const char *header; /* "NAME=VALUE": only those that have it; NULL = all */
    uint64_t limit;     /* 0 = not given */
    uint64_t payload;   /* bytes to show */
    uint64_t from_line; /* of import; 1-based */
    bool json;
    bool hex;
    bool dry_run;
    bool take;          /* export removes what is written */
    uint32_t consumers; /* of the dead-letter queue when fw_dlq_waiting asked, so without ours */
};

/* Each returns the exit status. */
int fw_dlq_ls(struct fw_dlq *dlq);
int fw_dlq_show(struct fw_dlq *dlq);
int fw_dlq_redrive(struct fw_dlq *dlq);
int fw_dlq_export(struct fw_dlq *dlq);
int fw_dlq_import(struct fw_dlq *dlq);

/* Set by SIGINT and SIGTERM: finish the message at hand, put back the rest, and say how far it
 * went. */
bool fw_dlq_interrupted(void);

/* ---- dlq_filter.c ---- */

/* Whether --cause and --header choose this message. */
bool fw_dlq_chooses(const struct fw_dlq *dlq, const fila_message *message);
/* The cause in its headers, or "broker". A view into the message. */
fila_view fw_dlq_cause(const fila_message *message);
/* Whether a worker made it. */
bool fw_dlq_is_copy(const fila_message *message);

/* ---- dlq_scan.c: reading a dead-letter queue, which leases it ---- */

enum fw_dlq_step {
    FW_DLQ_KEEP,   /* put back at the end */
    FW_DLQ_SETTLED /* not to be put back */
};

struct fw_dlq_scan {
    struct fw_dlq *dlq;
    const char *doing; /* for the progress line: "read", "redriven" */
    const char *why;   /* given to the broker with what is put back */
    /* Once for each message, in the queue's order; takes the message over. May set `enough`. A
     * *ret_status that is not 0 ends the scan with it. */
    enum fw_dlq_step (*each)(struct fw_dlq_scan *scan, fila_message *message, int *ret_status);
    void *user;
    bool enough;
    uint64_t waiting; /* out: messages that nobody held when it began */
    uint64_t seen;    /* out */
};

/* Reads each waiting message once. What is not settled is put back when the consumer is gone:
 * sooner it would be read again and again. Returns the exit status. */
int fw_dlq_scan(struct fw_dlq_scan *scan);

/* Whether the messages are what the user chose, not all there are. */
static inline bool fw_dlq_is_selection(const struct fw_dlq *dlq)
{
    return dlq->limit > 0 || dlq->cause != NULL || dlq->header != NULL;
}

/* Messages in the dead-letter queue that nobody holds. 0, or the exit status when it cannot be
 * told. */
int fw_dlq_waiting(struct fw_dlq *dlq, uint64_t *ret_count);

/* ---- dlq_json.c: a message as one line of JSON ---- */

/* `max` cuts the payload (UINT64_MAX = whole). Why it died in an object of its own, when `apart`;
 * else all headers are together. False without memory, or when the line could not be written. */
bool fw_dlq_print_json(FILE *out, const fila_message *message, uint64_t max, bool apart);

/* A line of an export; views into `ret_line`, freed by fw_dlq_line_free. False with what is wrong.
 */
struct fw_dlq_line {
    struct json_t *json;
    fila_header *headers;
    size_t header_count;
    fila_view payload;
    char *bytes; /* of a payload in hex */
};

bool fw_dlq_read_json(
    const char *text,
    size_t len,
    struct fw_dlq_line *ret_line,
    char *ret_why,
    size_t size);
void fw_dlq_line_free(struct fw_dlq_line *line);

#endif
