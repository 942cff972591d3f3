/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A worker's copy is published to its queue without the worker's headers, and acked once that is
 * confirmed. What the broker moved itself is put back by the broker's own Redrive, which keeps the
 * id but knows no choice: of a selection, such a message is published and acked as well.
 */
#include "cli.h"
#include "connect.h"
#include "dlq.h"
#include "host/deadletter.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

struct redrive {
    uint64_t chosen;
    uint64_t done;      /* put back */
    uint64_t by_broker; /* left to the broker's Redrive */
};

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

/* The exit status, 0 = published and acked. */
static int put_back(const struct fw_dlq *dlq, const fila_message *m)
{
    char id[FILA_ID_SIZE];
    size_t count = 0;
    fila_error error = FILA_ERROR_INIT;
    fila_header *headers = own_headers(m, &count);
    if (!headers) {
        return fw_cli_fail("dlq", FW_EXIT_INTERNAL, "no memory");
    }
    fila_status status = fila_enqueue(
        dlq->client, fila_view_of(dlq->parent), headers, count, fila_message_payload(m), id,
        &error);
    free(headers);
    if (status != FILA_OK) {
        return fw_cli_call_failed("dlq", dlq->parent, &error);
    }
    if (fila_ack(dlq->client, fila_message_queue(m), fila_message_id(m), &error) != FILA_OK) {
        return fw_cli_call_failed(
            "dlq", "one is published, but not taken out of the dead-letter queue", &error);
    }
    return 0;
}

static enum fw_dlq_step one(struct fw_dlq_scan *scan, fila_message *m, int *ret_status)
{
    struct redrive *r = scan->user;
    const struct fw_dlq *dlq = scan->dlq;
    enum fw_dlq_step step = FW_DLQ_KEEP;
    if (fw_dlq_chooses(dlq, m)) {
        r->chosen++;
        scan->enough = r->chosen == dlq->limit;
        if (!fw_dlq_is_copy(m) && !fw_dlq_is_selection(dlq)) {
            r->by_broker++;
        } else if (!dlq->dry_run) {
            *ret_status = put_back(dlq, m);
            step = *ret_status == 0 ? FW_DLQ_SETTLED : FW_DLQ_KEEP;
            r->done += *ret_status == 0;
        }
    }
    fila_message_free(m);
    return step;
}

static int broker_redrive(const struct fw_dlq *dlq, struct redrive *r)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {
        .call = FILA_CALL_REDRIVE,
        .as.redrive = {.dlq_queue = fila_view_of(dlq->name), .count = r->by_broker},
    };
    if (fila_call_wait(dlq->client, &request, &reply, &error) != FILA_OK) {
        return fw_cli_call_failed("dlq", dlq->name, &error);
    }
    r->done += reply->as.redrive.redriven;
    fila_reply_free(reply);
    return 0;
}

static void report(const struct fw_dlq *dlq, const struct redrive *r, uint64_t waiting)
{
    if (dlq->json) {
        json_t *line = json_pack(
            "{s:s,s:I,s:I,s:I,s:b}", "queue", dlq->parent, "redriven", (json_int_t)r->done,
            "chosen", (json_int_t)r->chosen, "waiting", (json_int_t)waiting, "dry_run",
            dlq->dry_run);
        (void)json_dumpf(line, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(line);
    } else if (dlq->dry_run) {
        (void)printf(
            "%" PRIu64 " of %" PRIu64 " would be put back into \"%s\"\n", r->chosen, waiting,
            dlq->parent);
    } else {
        (void)printf(
            "%" PRIu64 " of %" PRIu64 " put back into \"%s\"\n", r->done, waiting, dlq->parent);
    }
}

int fw_dlq_redrive(struct fw_dlq *dlq)
{
    struct redrive r = {0};
    struct fw_dlq_scan scan = {
        .dlq = dlq,
        .doing = dlq->dry_run ? "read" : "redriven",
        .why = "fila-worker: read by dlq redrive",
        .each = one,
        .user = &r};
    int status = fw_dlq_scan(&scan);
    if (status == 0 && r.by_broker > 0 && !dlq->dry_run && !fw_dlq_interrupted()) {
        status = broker_redrive(dlq, &r);
    }
    report(dlq, &r, scan.waiting);
    if (status == 0 && !dlq->dry_run && !fw_dlq_interrupted() &&
        (r.done < r.chosen || (!scan.enough && scan.seen < scan.waiting))) {
        (void)fputs(
            "fila-worker dlq: the others are leased for now: try again after the dead-letter queue's "
            "visibility timeout\n",
            stderr);
    }
    return status;
}
