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
#include <uthash.h>

enum {
    WAIT_MS = 2000
};

/* Moved by the broker itself. Held until our consumer is gone: nacked at once it would be read
 * again and again, and what is leased the broker's Redrive passes over. */
struct foreign {
    UT_hash_handle hh; /* by id: the first bytes of `text`, before the queue */
    size_t id_len;
    size_t queue_len;
    char text[];
};

struct redrive {
    struct fw_dlq *dlq;
    uint64_t done; /* put back */
    struct foreign *foreign;
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

static int hold_foreign(struct redrive *r, fila_view queue, fila_view id)
{
    struct foreign *f = NULL;
    HASH_FIND(hh, r->foreign, id.data, id.len, f);
    if (f) { /* its lease ended meanwhile, and began anew */
        return 0;
    }
    f = malloc(sizeof *f + id.len + queue.len);
    if (!f) {
        return fw_cli_fail("dlq", FW_EXIT_INTERNAL, "no memory");
    }
    f->id_len = id.len;
    f->queue_len = queue.len;
    memcpy(f->text, id.data, id.len);
    memcpy(f->text + id.len, queue.data, queue.len);
    HASH_ADD_KEYPTR(hh, r->foreign, f->text, f->id_len, f);
    return 0;
}

/* 0 = go on; else the exit status. A message that is not settled here comes back after the
 * visibility timeout. */
static int one(struct redrive *r, const fila_message *m)
{
    fila_error error = FILA_ERROR_INIT;
    fila_view queue = fila_message_queue(m);
    fila_view id = fila_message_id(m);
    if (!is_copy(m)) {
        return hold_foreign(r, queue, id);
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

static uint64_t seen(const struct redrive *r)
{
    return r->done + HASH_COUNT(r->foreign);
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
    while (seen(r) < want && status == 0) {
        fila_message *m = NULL;
        if (fila_consumer_next(consumer, WAIT_MS, &m, &error) != FILA_OK) {
            status = error.code == FILA_TIMEOUT ? 0
                                                : fw_cli_call_failed("dlq", r->dlq->name, &error);
            break;
        }
        status = one(r, m);
        fila_message_free(m);
        fw_progress_set(&progress, seen(r));
    }
    fw_progress_end(&progress);
    fw_dlq_let_go(r->dlq, consumer);
    return status;
}

/* Back into the dead-letter queue, whatever came in between. One whose lease has ended is there
 * already. */
static int put_back_foreign(struct redrive *r)
{
    int status = 0;
    struct foreign *f = NULL;
    struct foreign *next = NULL;
    HASH_ITER(hh, r->foreign, f, next)
    {
        fila_error error = FILA_ERROR_INIT;
        fila_view id = {f->text, f->id_len};
        fila_view queue = {f->text + f->id_len, f->queue_len};
        fila_view why = fila_view_of("fila-worker: left to redrive");
        if (status == 0 && fila_nack(r->dlq->client, queue, id, why, &error) != FILA_OK &&
            error.code != FILA_MESSAGE_NOT_FOUND) {
            status = fw_cli_call_failed("dlq", "putting a message back", &error);
        }
    }
    return status;
}

static void free_foreign(struct redrive *r)
{
    struct foreign *f = r->foreign;
    HASH_CLEAR(hh, r->foreign); /* the table; the elements still chain */
    while (f) {
        struct foreign *next = f->hh.next;
        free(f);
        f = next;
    }
}

static int broker_redrive(struct redrive *r)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {
        .call = FILA_CALL_REDRIVE,
        .as.redrive = {.dlq_queue = fila_view_of(r->dlq->name), .count = HASH_COUNT(r->foreign)},
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
    int back = put_back_foreign(&r);
    status = status ? status : back;
    if (status == 0 && r.foreign) {
        status = broker_redrive(&r);
    }
    free_foreign(&r);
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
    if (status == 0 && r.done < want) {
        (void)fputs(
            "fila-worker dlq: the others are leased for now: try again after the dead-letter queue's "
            "visibility timeout\n",
            stderr);
    }
    return status;
}
