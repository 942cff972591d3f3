/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "embedded_internal.h"
#include "wire/codec.h"

#include <stdlib.h>
#include <utlist.h>

static struct fe_transport *self(struct fila_transport *transport)
{
    return (struct fe_transport *)transport;
}

/* ---- Ops ---- */

static struct fe_op *op_new(struct fe_transport *t, enum fe_kind kind)
{
    struct fe_op *op = calloc(1, sizeof *op);
    if (op) {
        op->hub = t->hub;
        op->kind = kind;
        op->starter = pthread_self();
    }
    return op;
}

static void op_free(struct fe_op *op)
{
    fila_reply_free(op->reply);
    free(op);
}

/* The item's own error is filled; `done` comes with the next report. */
static void finish(struct fe_transport *t, struct fe_op *op)
{
    op->state = FE_FINISHED;
    DL_APPEND(t->done, op);
}

static void finish_unsent(
    struct fe_transport *t,
    struct fe_op *op,
    fila_status code,
    const char *text)
{
    (void)fila_fail(op->error, code, "%s", text);
    op->error->outcome_unknown = false;
    finish(t, op);
}

/* ---- Answers ---- */

/* Keeps what the broker answers; on whatever thread that is. */
static void keep_answer(struct fe_op *op, const fila_reply *reply, const fila_error *error)
{
    if (error->code != FILA_OK) {
        op->answer = *error;
        return;
    }
    op->answer.code = FILA_OK;
    if (op->kind == FE_SETTLE) {
        return;
    }
    op->reply = fila_reply_copy(reply);
    if (!op->reply) {
        (void)fila_fail(&op->answer, FILA_NO_MEMORY, "no memory for a reply");
        op->answer.outcome_unknown = true;
    }
}

static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct fe_op *op = user;
    struct fe_hub *hub = op->hub;
    keep_answer(op, reply, error);
    if (pthread_equal(op->starter, pthread_self())) {
        op->answered_inline = true;
        return;
    }
    (void)pthread_mutex_lock(&hub->lock);
    if (hub->locked.dead) {
        op_free(op);
    } else {
        op->next_answered = hub->locked.answered;
        hub->locked.answered = op;
        (void)pthread_cond_signal(&hub->news);
    }
    (void)pthread_mutex_unlock(&hub->lock);
    fe_hub_unref(hub);
}

/* Passes the broker's answer on to the item. */
static void settle_op(struct fe_transport *t, struct fe_op *op)
{
    if (op->answer.code != FILA_OK) {
        *op->error = op->answer;
    } else if (op->kind == FE_PUBLISH) {
        struct fila_publish *item = op->item;
        fila_view id = op->reply->as.enqueue.message_id;
        memcpy(item->id, id.data, id.len);
        item->id[id.len] = '\0';
    }
    finish(t, op);
}

void fe_calls_reap(struct fe_transport *t, struct fe_op *answered)
{
    while (answered) {
        struct fe_op *op = answered;
        answered = op->next_answered;
        op->with_broker = false;
        if (op->state == FE_OUTSTANDING) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in there */
            DL_DELETE(t->outstanding, op);
            settle_op(t, op);
        } else if (op->state == FE_REPORTED) {
            op_free(op);
        }
    }
}

/* ---- Sending ---- */

static bool text_ok(fila_view text)
{
    return fila_utf8_valid(text.data, text.len);
}

static bool headers_ok(const fila_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!text_ok(headers[i].key) || !text_ok(headers[i].value)) {
            return false;
        }
    }
    return true;
}

/* Whether all that protobuf calls strings is UTF-8: a server refuses the rest (contract A2), and
 * could not deliver it. */
static bool is_utf8(const fila_request *request)
{
    switch (request->call) {
    case FILA_CALL_ENQUEUE:
        return text_ok(request->as.enqueue.queue) &&
               headers_ok(request->as.enqueue.headers, request->as.enqueue.header_count);
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
        return text_ok(request->as.settle.queue) && text_ok(request->as.settle.message_id) &&
               text_ok(request->as.settle.error);
    case FILA_CALL_CREATE_QUEUE:
        return text_ok(request->as.create_queue.name) &&
               text_ok(request->as.create_queue.on_enqueue_script) &&
               text_ok(request->as.create_queue.on_failure_script);
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_GET_STATS:
        return text_ok(request->as.queue.queue);
    case FILA_CALL_SET_CONFIG:
        return text_ok(request->as.config.key) && text_ok(request->as.config.value);
    case FILA_CALL_GET_CONFIG:
    case FILA_CALL_LIST_CONFIG:
        return text_ok(request->as.config.key);
    case FILA_CALL_REDRIVE:
        return text_ok(request->as.redrive.dlq_queue);
    default:
        return true;
    }
}

/* Refuses what a server's wire would refuse; true if it did. */
static bool refuse(struct fe_transport *t, struct fe_op *op, const fila_request *request)
{
    size_t size = fila_request_size(request);
    if (t->closing) {
        finish_unsent(t, op, FILA_CLOSED, "the connection is closed");
    } else if (size > t->base.caps.max_message) {
        (void)fila_fail(
            op->error, FILA_TOO_LARGE, "a request of %zu bytes is over the broker's limit of %u",
            size, t->base.caps.max_message);
        finish(t, op);
    } else if (!is_utf8(request)) {
        (void)fila_fail_wire(
            op->error, request->call, 13, fila_view_of("a text field is not UTF-8"));
        op->error->outcome_unknown = false;
        op->error->retryable = false;
        finish(t, op);
    } else if (op->deadline <= op->started) {
        finish_unsent(t, op, FILA_TIMEOUT, "not sent: its deadline had passed");
    } else {
        return false;
    }
    return true;
}

static void submit(struct fe_transport *t, struct fe_op *op, const fila_request *request)
{
    op->started = fila_now();
    op->error->code = FILA_OK;
    if (refuse(t, op, request)) {
        return;
    }
    op->with_broker = true;
    atomic_fetch_add(&t->hub->refs, 1);
    fb_call(t->broker, request, on_reply, op);
    if (op->answered_inline) {
        op->with_broker = false;
        fe_hub_unref(t->hub);
        settle_op(t, op);
        return;
    }
    op->state = FE_OUTSTANDING;
    DL_APPEND(t->outstanding, op);
    t->next_deadline = op->deadline < t->next_deadline ? op->deadline : t->next_deadline;
}

void fe_settle(struct fila_transport *transport, struct fila_settle *batch)
{
    struct fe_transport *t = self(transport);
    for (struct fila_settle *item = batch, *next = NULL; item; item = next) {
        bool ack = item->kind == FILA_SETTLE_ACK;
        fila_request request = {.call = ack ? FILA_CALL_ACK : FILA_CALL_NACK};
        struct fe_op *op = op_new(t, FE_SETTLE);
        next = item->next;
        if (!op) {
            item->next = t->failed_settles;
            t->failed_settles = item;
            continue;
        }
        request.as.settle.queue = item->queue;
        request.as.settle.message_id = item->receipt;
        request.as.settle.error = ack ? fila_view_of("") : item->reason;
        op->item = item;
        op->error = &item->error;
        op->deadline = item->deadline;
        submit(t, op, &request);
    }
}

void fe_publish(struct fila_transport *transport, struct fila_publish *batch)
{
    struct fe_transport *t = self(transport);
    for (struct fila_publish *item = batch, *next = NULL; item; item = next) {
        fila_request request = {.call = FILA_CALL_ENQUEUE};
        struct fe_op *op = op_new(t, FE_PUBLISH);
        next = item->next;
        if (!op) {
            item->next = t->failed_publishes;
            t->failed_publishes = item;
            continue;
        }
        request.as.enqueue.queue = item->queue;
        request.as.enqueue.headers = item->headers;
        request.as.enqueue.header_count = item->header_count;
        request.as.enqueue.payload = item->payload;
        op->item = item;
        op->error = &item->error;
        op->deadline = item->deadline;
        submit(t, op, &request);
    }
}

void fe_unary(struct fila_transport *transport, struct fila_unary *item)
{
    struct fe_transport *t = self(transport);
    struct fe_op *op = op_new(t, FE_UNARY);
    if (!op) {
        item->next = t->failed_unaries;
        t->failed_unaries = item;
        return;
    }
    op->item = item;
    op->error = &item->error;
    op->deadline = item->deadline;
    submit(t, op, item->request);
}

/* ---- Reports ---- */

static enum fila_settle_result settle_result(const fila_error *error)
{
    switch (error->code) {
    case FILA_OK:
        return FILA_SETTLE_OK;
    case FILA_MESSAGE_NOT_FOUND:
        return FILA_SETTLE_GONE;
    case FILA_INVALID_ARGUMENT:
    case FILA_UNAUTHENTICATED:
    case FILA_DENIED:
    case FILA_TOO_LARGE:
    case FILA_UNIMPLEMENTED:
        return FILA_SETTLE_DENIED;
    case FILA_OVERLOADED:
    case FILA_NO_MEMORY:
        return FILA_SETTLE_RETRY;
    case FILA_BROKER_UNAVAILABLE:
    case FILA_TIMEOUT:
    case FILA_CLOSED:
        return error->outcome_unknown ? FILA_SETTLE_UNKNOWN : FILA_SETTLE_RETRY;
    default:
        return FILA_SETTLE_UNKNOWN;
    }
}

static void report_settle(struct fila_settle *item)
{
    item->result = settle_result(&item->error);
    item->done(item);
}

/* Calls `done`; the op is freed, or left to the broker. */
static void report(struct fe_op *op)
{
    void *item = op->item;
    enum fe_kind kind = op->kind;
    fila_reply *reply = NULL;
    op->state = FE_REPORTED;
    op->item = NULL;
    if (!op->with_broker) {
        reply = op->reply;
        op->reply = NULL;
        op_free(op);
    }
    if (kind == FE_SETTLE) {
        report_settle(item);
    } else if (kind == FE_PUBLISH) {
        struct fila_publish *publish = item;
        publish->done(publish);
    } else {
        struct fila_unary *unary = item;
        unary->done(unary, reply);
    }
    fila_reply_free(reply);
}

static void report_failed(struct fe_transport *t)
{
    struct fila_settle *settle = t->failed_settles;
    struct fila_publish *publish = t->failed_publishes;
    struct fila_unary *unary = t->failed_unaries;
    t->failed_settles = NULL;
    t->failed_publishes = NULL;
    t->failed_unaries = NULL;
    for (struct fila_settle *next = NULL; settle; settle = next) {
        next = settle->next;
        (void)fila_fail(&settle->error, FILA_NO_MEMORY, "no memory for a call");
        report_settle(settle);
    }
    for (struct fila_publish *next = NULL; publish; publish = next) {
        next = publish->next;
        (void)fila_fail(&publish->error, FILA_NO_MEMORY, "no memory for a call");
        publish->done(publish);
    }
    for (struct fila_unary *next = NULL; unary; unary = next) {
        next = unary->next;
        (void)fila_fail(&unary->error, FILA_NO_MEMORY, "no memory for a call");
        unary->done(unary, NULL);
    }
}

void fe_calls_report(struct fe_transport *t)
{
    struct fe_op *all = t->done;
    t->done = NULL;
    report_failed(t);
    while (all) {
        struct fe_op *op = all;
        DL_DELETE(all, op);
        report(op);
    }
}

bool fe_calls_quiet(const struct fe_transport *t)
{
    return !t->done && !t->failed_settles && !t->failed_publishes && !t->failed_unaries;
}

/* ---- Time, and the end ---- */

void fe_calls_expire(struct fe_transport *t)
{
    struct fe_op *op;
    struct fe_op *after;
    if (t->now < t->next_deadline) {
        return;
    }
    t->next_deadline = FILA_NEVER;
    DL_FOREACH_SAFE(t->outstanding, op, after)
    {
        if (op->deadline <= t->now) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in there */
            DL_DELETE(t->outstanding, op);
            (void)fila_fail(
                op->error, FILA_TIMEOUT, "no answer from the embedded broker within %lld ms",
                (long long)((t->now - op->started) / FILA_MS));
            finish(t, op);
        } else if (op->deadline < t->next_deadline) {
            t->next_deadline = op->deadline;
        }
    }
}

void fe_calls_close(struct fe_transport *t)
{
    while (t->outstanding) {
        struct fe_op *op = t->outstanding;
        DL_DELETE(t->outstanding, op);
        (void)fila_fail(
            op->error, FILA_CLOSED, "the connection was closed before the broker answered");
        finish(t, op);
    }
}
