/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "publish.h"

#include "base/clock.h"
#include "executor/outbox.h"
#include "queue_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_PAUSE (100 * FILA_MS)
#define MAX_PAUSE   (2 * FILA_S)

enum sending_state {
    SENDING_UNDER_WAY,
    SENDING_WAITING /* for retry_at, in queue->publishing */
};

/* The outbox of one delivery on its way. */
struct fw_sending {
    struct fw_item *item;
    struct fw_sending *next; /* of those that wait */
    enum sending_state state;
    int64_t until;
    int64_t retry_at;
    int64_t pause;
    uint32_t in_flight;
    bool stop;    /* send nothing again */
    bool refused; /* `error` is one that will not go away */
    fila_error error;
    fila_view error_queue;
    uint32_t count;
    struct fila_publish items[];
};

/* Whether asking again cannot help. */
static bool is_final(fila_status code)
{
    switch (code) {
    case FILA_QUEUE_NOT_FOUND:
    case FILA_DENIED:
    case FILA_UNAUTHENTICATED:
    case FILA_INVALID_ARGUMENT:
    case FILA_TOO_LARGE:
    case FILA_UNIMPLEMENTED:
    case FILA_UNSUPPORTED:
        return true;
    default:
        return false;
    }
}

/* ---- The verdict ---- */

static void fail(struct fw_job *job, enum fw_verdict_kind kind, const struct fw_sending *sending)
{
    char text[FILA_ERROR_TEXT + 320];
    (void)snprintf(
        text, sizeof text, "publish to \"%.*s\": %s (%s)",
        (int)(sending->error_queue.len > 256 ? 256 : sending->error_queue.len),
        sending->error_queue.data, fila_status_name(sending->error.code), sending->error.text);
    job->verdict.kind = kind;
    job->verdict.cause = kind == FW_RETRY ? FW_CAUSE_RETRY : FW_CAUSE_UNAVAILABLE;
    free(job->reason);
    job->reason = fw_reason_copy(text);
}

static void log_failure(
    const struct fw_queue *q,
    const struct fw_sending *sending,
    const char *text,
    int64_t pause)
{
    FW_LOG(
        FW_EVENT_PUBLISH_FAILED, text, fw_str("queue", q->config->queue),
        fw_str("handler", q->config->handler_plugin),
        fw_text("message_id", fila_message_id(sending->item->message)),
        fw_text("to", sending->error_queue), fw_str("code", fila_status_name(sending->error.code)),
        fw_str("error", sending->error.text), fw_int("retry_in_ms", pause / FILA_MS));
}

static void end(struct fw_queue *q, struct fw_sending *sending)
{
    struct fw_item *item = sending->item;
    if (sending->error.code != FILA_OK) {
        fail(&item->job, sending->refused ? FW_RETRY : FW_UNAVAILABLE, sending);
        log_failure(q, sending, "what the handler published was not confirmed: no ack", 0);
    }
    fw_publish_free(item);
    fw_queue_verdict(q, item);
}

/* ---- Waiting ---- */

static void wait_again(struct fw_queue *q, struct fw_sending *sending, int64_t now)
{
    log_failure(q, sending, "what the handler published was not confirmed: again", sending->pause);
    sending->state = SENDING_WAITING;
    sending->retry_at = now + sending->pause;
    sending->pause = sending->pause * 2 > MAX_PAUSE ? MAX_PAUSE : sending->pause * 2;
    sending->next = q->publishing;
    q->publishing = sending;
}

static void unlink_waiting(struct fw_queue *q, struct fw_sending *sending)
{
    struct fw_sending **at = &q->publishing;
    while (*at != sending) {
        at = &(*at)->next;
    }
    *at = sending->next;
}

/* All answers of this round are in. */
static void conclude(struct fw_queue *q, struct fw_sending *sending)
{
    int64_t now = fila_now();
    bool again = sending->error.code != FILA_OK && !sending->refused && !sending->stop &&
                 !q->is_drained && now + sending->pause < sending->until;
    if (again) {
        wait_again(q, sending, now);
    } else {
        end(q, sending);
    }
}

/* ---- On the way ---- */

/* Kept is the first that will not go away, else the last. */
static void note_failure(struct fw_sending *sending, const struct fila_publish *p)
{
    bool refused = is_final(p->error.code);
    if (!sending->refused || refused) {
        sending->error = p->error;
        sending->error_queue = p->queue;
        sending->refused = refused;
    }
}

static void on_sent(struct fila_publish *p)
{
    struct fw_sending *sending = p->user;
    struct fw_queue *q = sending->item->queue;
    q->in_transport--;
    sending->in_flight--;
    FW_CRASH(PUBLISH_ANSWERED);
    if (p->error.code != FILA_OK) {
        note_failure(sending, p);
    }
    if (sending->in_flight == 0) {
        conclude(q, sending);
    }
}

/* What is not confirmed yet. In a turn. */
static void send(struct fw_queue *q, struct fw_sending *sending)
{
    struct fw_turn *turn = q->turn;
    FW_CRASH(BEFORE_PUBLISH);
    sending->state = SENDING_UNDER_WAY;
    sending->error = (fila_error)FILA_ERROR_INIT;
    for (uint32_t i = 0; i < sending->count; i++) {
        struct fila_publish *p = &sending->items[i];
        if (p->done && p->error.code == FILA_OK) {
            continue;
        }
        p->next = NULL;
        p->error = (fila_error)FILA_ERROR_INIT;
        p->deadline = fw_queue_call_deadline(q, 0);
        p->done = on_sent;
        p->user = sending;
        sending->in_flight++;
        q->in_transport++;
        *turn->publishes_end = p;
        turn->publishes_end = &p->next;
    }
}

static struct fw_sending *make(struct fw_item *item)
{
    uint32_t count = 0;
    for (const struct fw_outgoing *o = item->job.outbox; o; o = o->next) {
        count++;
    }
    struct fw_sending *sending =
        calloc(1, sizeof *sending + (size_t)count * sizeof sending->items[0]);
    if (!sending) {
        return NULL;
    }
    sending->item = item;
    sending->count = count;
    sending->pause = FIRST_PAUSE;
    sending->until = item->job.deadline;
    struct fila_publish *p = sending->items;
    for (const struct fw_outgoing *o = item->job.outbox; o; o = o->next, p++) {
        p->queue = o->queue;
        p->headers = o->headers;
        p->header_count = o->header_count;
        p->payload = o->payload;
    }
    return sending;
}

bool fw_publish_start(struct fw_queue *q, struct fw_item *item)
{
    struct fw_job *job = &item->job;
    if (!job->outbox || job->verdict.kind != FW_ACK) {
        return false;
    }
    item->sending = make(item);
    if (item->sending) {
        send(q, item->sending);
        return true;
    }
    struct fw_sending none = {.item = item};
    (void)fila_fail(&none.error, FILA_NO_MEMORY, "out of memory");
    none.error_queue = job->outbox->queue;
    end(q, &none);
    return true;
}

void fw_publish_pump(struct fw_queue *q, int64_t now)
{
    struct fw_sending *list = q->publishing;
    if (q->is_drained) {
        return;
    }
    q->publishing = NULL;
    while (list) {
        struct fw_sending *sending = list;
        list = sending->next;
        if (now >= sending->retry_at) {
            send(q, sending);
        } else {
            sending->next = q->publishing;
            q->publishing = sending;
        }
    }
}

int64_t fw_publish_wake_at(const struct fw_queue *q)
{
    int64_t at = FILA_NEVER;
    for (const struct fw_sending *s = q->publishing; s; s = s->next) {
        at = s->retry_at < at ? s->retry_at : at;
    }
    return at;
}

bool fw_publish_cancel(struct fw_queue *q, struct fw_item *item)
{
    struct fw_sending *sending = item->sending;
    if (!sending) {
        return false;
    }
    sending->stop = true;
    if (sending->state == SENDING_WAITING) {
        unlink_waiting(q, sending);
        end(q, sending);
    }
    return true;
}

void fw_publish_free(struct fw_item *item)
{
    free(item->sending);
    item->sending = NULL;
    fw_outgoing_free(item->job.outbox);
    item->job.outbox = NULL;
}
