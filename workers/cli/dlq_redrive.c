/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Two kinds of dead letters (design.md chapter 7). Copies that a worker made carry its
 * x-fila-dead-letter-* headers: each is published to its queue without them, and acked once that is
 * confirmed. What the broker moved itself is put back by the broker's own Redrive, which keeps the
 * id.
 */
#include "cli.h"
#include "connect.h"
#include "dlq.h"
#include "host/deadletter.h"
#include "progress.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    WAIT_MS = 2000
};

struct redrive {
    struct fw_dlq *dlq;
    uint64_t done;    /* our copies, published and acked */
    uint64_t foreign; /* moved by the broker: put back into the DLQ for Redrive */
};

static bool is_copy(const fila_message *m)
{
    size_t cursor = 0;
    for (fila_header h; fila_message_next_header(m, &cursor, &h);) {
        if (fw_dead_letter_header(h.key)) {
            return true;
        }
    }
    return false;
}

/* Headers without ours; NULL without memory. Views into the message. */
static fila_header *own_headers(const fila_message *m, size_t *ret_count)
{
    size_t cursor = 0;
    size_t count = 0;
    for (fila_header h; fila_message_next_header(m, &cursor, &h);) {
        count++;
    }
    fila_header *headers = malloc((count + 1) * sizeof *headers);
    cursor = 0;
    *ret_count = 0;
    for (fila_header h; headers && fila_message_next_header(m, &cursor, &h);) {
        if (!fw_dead_letter_header(h.key)) {
            headers[(*ret_count)++] = h;
        }
    }
    return headers;
}

static fila_status publish(struct redrive *r, const fila_message *m, fila_error *error)
{
    char id[FILA_ID_SIZE];
    size_t count = 0;
    fila_header *headers = own_headers(m, &count);
    if (!headers) {
        error->code = FILA_NO_MEMORY;
        return FILA_NO_MEMORY;
    }
    fila_status status = fila_enqueue(
        r->dlq->client, fila_view_of(r->dlq->parent), headers, count, fila_message_payload(m), id,
        error);
    free(headers);
    return status;
}

/* 0 = go on; else the exit status. A message that is not settled here comes back after the
 * visibility timeout. */
static int one(struct redrive *r, const fila_message *m)
{
    fila_error error = FILA_ERROR_INIT;
    fila_view queue = fila_message_queue(m);
    fila_view id = fila_message_id(m);
    if (!is_copy(m)) {
        r->foreign++;
        if (fila_nack(
                r->dlq->client, queue, id, fila_view_of("fila-worker: left to redrive"), &error) !=
            FILA_OK) {
            return fw_cli_call_failed("dlq", "putting a message back", &error);
        }
        return 0;
    }
    if (publish(r, m, &error) != FILA_OK) {
        return fw_cli_call_failed("dlq", r->dlq->parent, &error);
    }
    if (fila_ack(r->dlq->client, queue, id, &error) != FILA_OK) {
        return fw_cli_call_failed(
            "dlq", "published, but not taken out of the dead-letter queue", &error);
    }
    r->done++;
    return 0;
}

static int copies(struct redrive *r, uint64_t want)
{
    int status = 0;
    fila_consumer *consumer = NULL;
    fila_error error = FILA_ERROR_INIT;
    struct fw_progress progress;
    if (fila_consumer_open(
            r->dlq->client, fila_view_of(r->dlq->name), NULL, NULL, &consumer, &error) != FILA_OK) {
        return fw_cli_call_failed("dlq", r->dlq->name, &error);
    }
    fw_progress_start(&progress, "redriven", want);
    for (uint64_t i = 0; i < want && status == 0; i++) {
        fila_message *m = NULL;
        if (fila_consumer_next(consumer, WAIT_MS, &m, &error) != FILA_OK) {
            status = error.code == FILA_TIMEOUT ? 0
                                                : fw_cli_call_failed("dlq", r->dlq->name, &error);
            break;
        }
        status = one(r, m);
        fila_message_free(m);
        fw_progress_set(&progress, i + 1);
    }
    fw_progress_end(&progress);
    fila_consumer_free(consumer);
    return status;
}

static int broker_redrive(struct redrive *r)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {
        .call = FILA_CALL_REDRIVE,
        .as.redrive = {.dlq_queue = fila_view_of(r->dlq->name), .count = r->foreign},
    };
    if (fila_call_wait(r->dlq->client, &request, &reply, &error) != FILA_OK) {
        return fw_cli_call_failed("dlq", r->dlq->name, &error);
    }
    r->done += reply->as.redrive.redriven;
    fila_reply_free(reply);
    return 0;
}

int fw_dlq_redrive(struct fw_dlq *dlq)
{
    struct redrive r = {.dlq = dlq};
    uint64_t waiting = 0;
    int status = fw_dlq_waiting(dlq, &waiting);
    if (status) {
        return status;
    }
    uint64_t want = dlq->limit && dlq->limit < waiting ? dlq->limit : waiting;
    if (want) {
        status = copies(&r, want);
    }
    if (status == 0 && r.foreign) {
        status = broker_redrive(&r);
    }
    if (dlq->json) {
        json_t *line = json_pack(
            "{s:s,s:I,s:I}", "queue", dlq->parent, "redriven", (json_int_t)r.done, "waiting",
            (json_int_t)waiting);
        if (line) {
            (void)json_dumpf(line, stdout, JSON_COMPACT);
            (void)putchar('\n');
        }
        json_decref(line);
    } else {
        (void)printf(
            "%" PRIu64 " of %" PRIu64 " put back into \"%s\"\n", r.done, waiting, dlq->parent);
    }
    return status;
}
