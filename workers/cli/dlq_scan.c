/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "cli.h"
#include "connect.h"
#include "dlq.h"
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uthash.h>

enum {
    SLICE_MS = 250,
    QUIET_SLICES = 8, /* of them without a message, and there are no more */
    PIPE = 256        /* what a broker may have buffered for us */
};

/* A message that was read: its id, and where to nack it. */
struct seen {
    UT_hash_handle hh; /* by id: the first bytes of `text`, before the queue */
    size_t id_len;
    size_t queue_len;
    bool keep;
    char text[];
};

int fw_dlq_waiting(struct fw_dlq *dlq, uint64_t *ret_count)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {
        .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(dlq->name)}};
    if (fila_call_wait(dlq->client, &request, &reply, &error) != FILA_OK) {
        return fw_cli_call_failed("dlq", dlq->name, &error);
    }
    const fila_queue_stats *s = &reply->as.stats;
    *ret_count = s->depth > s->in_flight ? s->depth - s->in_flight : 0;
    dlq->consumers = s->active_consumers;
    fila_reply_free(reply);
    return 0;
}

/* Closes our consumer, and waits (2 s at most) until the broker has noticed: what is put back
 * before that would be leased to it again. */
static void let_go(struct fw_dlq *dlq, fila_consumer *consumer)
{
    const struct timespec pause = {0, 10000000};
    fila_request request = {
        .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(dlq->name)}};
    fila_consumer_free(consumer);
    for (int64_t until = fila_now() + 2 * FILA_S; fila_now() < until;) {
        fila_reply *reply = NULL;
        fila_error error = FILA_ERROR_INIT;
        if (fila_call_wait(dlq->client, &request, &reply, &error) != FILA_OK) {
            return;
        }
        bool gone = reply->as.stats.active_consumers <= dlq->consumers;
        fila_reply_free(reply);
        if (gone) {
            return;
        }
        (void)nanosleep(&pause, NULL);
    }
}

/* NULL without memory. *ret_again: it was read before; its lease has ended meanwhile, and begun
 * anew. */
static struct seen *note(struct seen **table, const fila_message *m, bool *ret_again)
{
    fila_view id = fila_message_id(m);
    fila_view queue = fila_message_queue(m);
    struct seen *s = NULL;
    HASH_FIND(hh, *table, id.data, id.len, s);
    *ret_again = s != NULL;
    if (s != NULL) {
        return s;
    }
    s = malloc(sizeof *s + id.len + queue.len);
    if (s == NULL) {
        return NULL;
    }
    s->id_len = id.len;
    s->queue_len = queue.len;
    s->keep = true;
    memcpy(s->text, id.data, id.len);
    memcpy(s->text + id.len, queue.data, queue.len);
    HASH_ADD_KEYPTR(hh, *table, s->text, s->id_len, s);
    return s;
}

/* One message within the quiet time, or NULL with the status to end with. */
static fila_message *next(const struct fw_dlq *dlq, fila_consumer *consumer, int *ret_status)
{
    fila_message *m = NULL;
    fila_error error = FILA_ERROR_INIT;
    for (int slice = 0; slice < QUIET_SLICES && !fw_dlq_interrupted(); slice++) {
        if (fila_consumer_next(consumer, SLICE_MS, &m, &error) == FILA_OK) {
            return m;
        }
        if (error.code != FILA_TIMEOUT) {
            *ret_status = fw_cli_call_failed("dlq", dlq->name, &error);
            return NULL;
        }
    }
    return NULL;
}

/* Fewer than the broker has buffered for us are read to the end and put back: left unread they
 * would be leased to nobody. */
static bool wants_more(const struct fw_dlq_scan *scan)
{
    uint64_t left = scan->waiting - scan->seen;
    return left > 0 && (!scan->enough || left <= PIPE);
}

static int read_all(struct fw_dlq_scan *scan, fila_consumer *consumer, struct seen **table)
{
    int status = 0;
    struct fw_progress progress;
    fw_progress_start(&progress, scan->doing, scan->waiting);
    while (status == 0 && wants_more(scan)) {
        bool again = false;
        fila_message *m = next(scan->dlq, consumer, &status);
        if (m == NULL) {
            break;
        }
        struct seen *s = note(table, m, &again);
        if (s == NULL) {
            status = fw_cli_fail("dlq", FW_EXIT_INTERNAL, "no memory");
        } else if (!again) {
            scan->seen++;
        }
        if (s != NULL && !again && !scan->enough) {
            s->keep = scan->each(scan, m, &status) == FW_DLQ_KEEP;
            m = NULL;
        }
        fila_message_free(m);
        fw_progress_set(&progress, scan->seen);
    }
    fw_progress_end(&progress);
    return status;
}

/* One whose lease has ended is back already. */
static int put_back(const struct fw_dlq_scan *scan, const struct seen *table)
{
    int status = 0;
    for (const struct seen *s = table; s != NULL && status == 0; s = s->hh.next) {
        fila_error error = FILA_ERROR_INIT;
        fila_view id = {s->text, s->id_len};
        fila_view queue = {s->text + s->id_len, s->queue_len};
        if (s->keep &&
            fila_nack(scan->dlq->client, queue, id, fila_view_of(scan->why), &error) != FILA_OK &&
            error.code != FILA_MESSAGE_NOT_FOUND) {
            status = fw_cli_call_failed(
                "dlq",
                "putting back what was read (the rest comes back by itself, after the visibility timeout)",
                &error);
        }
    }
    return status;
}

static void free_seen(struct seen *table)
{
    struct seen *s = table;
    HASH_CLEAR(hh, table); /* the table; the elements still chain */
    while (s != NULL) {
        struct seen *next = s->hh.next;
        free(s);
        s = next;
    }
}

int fw_dlq_scan(struct fw_dlq_scan *scan)
{
    struct seen *table = NULL;
    fila_consumer *consumer = NULL;
    fila_error error = FILA_ERROR_INIT;
    int status = fw_dlq_waiting(scan->dlq, &scan->waiting);
    if (status != 0 || scan->waiting == 0) {
        return status;
    }
    if (fila_consumer_open(
            scan->dlq->client, fila_view_of(scan->dlq->name), NULL, NULL, &consumer, &error) !=
        FILA_OK) {
        return fw_cli_call_failed("dlq", scan->dlq->name, &error);
    }
    status = read_all(scan, consumer, &table);
    let_go(scan->dlq, consumer);
    int back = put_back(scan, table);
    free_seen(table);
    return status ? status : back;
}
