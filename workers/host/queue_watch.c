/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A missing queue gives an open, silent stream (contract A2): so the worker asks for it when a
 * stream opens, and does what missing_queue says. Asking needs admin rights when the broker checks
 * keys; without them it stays unknown, silently.
 */
#include "base/clock.h"
#include "queue_internal.h"

#include <stdio.h>

#define LOOK_TIMEOUT (3 * FILA_S)

static void ask(
    struct fw_queue *q,
    const fila_request *request,
    void (*done)(struct fila_unary *, const fila_reply *))
{
    struct fila_transport *transport = q->turn->transport;
    q->exists = FW_EXISTS_ASKED;
    q->in_transport++;
    q->look = (struct fila_unary){
        .request = request,
        .deadline = q->turn->now + LOOK_TIMEOUT,
        .done = done,
        .user = q,
    };
    transport->ops->unary(transport, &q->look);
}

static void on_created(struct fila_unary *unary, const fila_reply *reply)
{
    struct fw_queue *q = unary->user;
    (void)reply;
    q->in_transport--;
    if (unary->error.code == FILA_OK || unary->error.code == FILA_QUEUE_EXISTS) {
        q->exists = FW_EXISTS_YES;
        FW_LOG(
            FW_EVENT_QUEUE_CREATED,
            unary->error.code == FILA_OK ? "the queue did not exist and was created"
                                         : "the queue exists",
            fw_str("queue", q->config->queue),
            fw_int("visibility_timeout_ms", q->config->visibility_timeout / FILA_MS));
        return;
    }
    q->exists = FW_EXISTS_UNKNOWN;
    FW_LOG(
        FW_EVENT_QUEUE_MISSING, "the queue does not exist and could not be created",
        fw_str("queue", q->config->queue), fw_str("code", fila_status_name(unary->error.code)),
        fw_str("error", unary->error.text));
}

static void create(struct fw_queue *q)
{
    const struct fw_queue_config *c = q->config;
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue =
            {
                .name = fila_view_of(c->queue),
                .on_enqueue_script = fila_view_of(c->on_enqueue_script),
                .on_failure_script = fila_view_of(c->on_failure_script),
                .visibility_timeout_ms = (uint64_t)(c->visibility_timeout / FILA_MS),
            },
    };
    ask(q, &request, on_created);
}

static void on_looked(struct fila_unary *unary, const fila_reply *reply)
{
    struct fw_queue *q = unary->user;
    (void)reply;
    q->in_transport--;
    if (unary->error.code != FILA_QUEUE_NOT_FOUND) {
        q->exists = unary->error.code == FILA_OK ? FW_EXISTS_YES : FW_EXISTS_UNKNOWN;
        return;
    }
    q->exists = FW_EXISTS_NO;
    if (q->create || q->config->missing_queue == FW_MISSING_CREATE) {
        create(q);
        return;
    }
    FW_LOG(
        FW_EVENT_QUEUE_MISSING,
        q->config->missing_queue == FW_MISSING_FAIL
            ? "the queue does not exist (missing_queue = \"fail\")"
            : "the queue does not exist: waiting for it",
        fw_str("queue", q->config->queue), fw_str("broker", q->broker));
    if (q->config->missing_queue == FW_MISSING_FAIL) {
        q->events->missing(q->user, q);
    }
}

void fw_queue_look(struct fw_queue *q)
{
    if (q->exists != FW_EXISTS_UNKNOWN) {
        return;
    }
    fila_request request = {
        .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(q->config->queue)}};
    ask(q, &request, on_looked);
}
