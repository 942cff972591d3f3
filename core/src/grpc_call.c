/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "grpc_internal.h"
#include "wire/codec.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice_buffer.h>

#include <assert.h>
#include <stdlib.h>

/* Spare calls that are kept; a burst beyond goes back to the allocator. */
#define MOST_SPARE 1024
/* Looks for overdue calls are at least this far apart. */
#define EXPIRY_STEP (2 * FILA_MS)

static struct fg_transport *self(struct fila_transport *transport)
{
    return (struct fg_transport *)transport;
}

/* ---- Lists ---- */

static void list_push(struct fg_list *list, struct fg_call *c)
{
    c->next = NULL;
    *list->last = c;
    list->last = &c->next;
}

static struct fg_call *list_pop(struct fg_list *list)
{
    struct fg_call *c = list->first;
    if (c) {
        list->first = c->next;
        if (!list->first) {
            list->last = &list->first;
        }
    }
    return c;
}

/* ---- Making and recycling ---- */

static void call_done(struct fg_tag *tag, bool ok);

static struct fg_call *call_new(struct fg_transport *t)
{
    struct fg_call *c = t->spare;
    if (c) {
        t->spare = c->next;
        t->spare_count--;
        return c;
    }
    c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->tag.fire = call_done;
    c->transport = t;
    grpc_metadata_array_init(&c->head);
    grpc_metadata_array_init(&c->trail);
    c->request.type = GRPC_BB_RAW;
    c->request.data.raw.compression = GRPC_COMPRESS_NONE;
    grpc_slice_buffer_init(&c->request.data.raw.slice_buffer);
    grpc_op *op = c->ops;
    op->op = GRPC_OP_SEND_INITIAL_METADATA;
    op->data.send_initial_metadata.count = t->key_count;
    op++->data.send_initial_metadata.metadata = &t->key;
    op->op = GRPC_OP_SEND_MESSAGE;
    op++->data.send_message.send_message = &c->request;
    op++->op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    op->op = GRPC_OP_RECV_INITIAL_METADATA;
    op++->data.recv_initial_metadata.recv_initial_metadata = &c->head;
    op->op = GRPC_OP_RECV_MESSAGE;
    op++->data.recv_message.recv_message = &c->reply;
    op->op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op->data.recv_status_on_client.trailing_metadata = &c->trail;
    op->data.recv_status_on_client.status = &c->status;
    op->data.recv_status_on_client.status_details = &c->details;
    return c;
}

static void call_free(struct fg_call *c)
{
    grpc_metadata_array_destroy(&c->head);
    grpc_metadata_array_destroy(&c->trail);
    grpc_slice_buffer_destroy(&c->request.data.raw.slice_buffer);
    free(c);
}

/* Lets go of what gRPC gave and keeps the rest for the next one. */
static void call_recycle(struct fg_call *c)
{
    struct fg_transport *t = c->transport;
    grpc_slice_buffer_reset_and_unref(&c->request.data.raw.slice_buffer);
    if (c->call) {
        grpc_byte_buffer_destroy(c->reply);
        c->reply = NULL;
        grpc_slice_unref(c->details);
        grpc_call_unref(c->call);
        c->call = NULL;
    }
    c->head.count = 0;
    c->trail.count = 0;
    if (t->spare_count >= MOST_SPARE) {
        call_free(c);
        return;
    }
    c->next = t->spare;
    t->spare = c;
    t->spare_count++;
}

/* ---- Sending ---- */

static void call_start(struct fg_call *c)
{
    struct fg_transport *t = c->transport;
    c->index = t->flying_count;
    t->flying[t->flying_count++] = c;
    c->call = grpc_channel_create_registered_call(
        t->main->channel, NULL, 0, t->queue, t->methods[c->method],
        gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_call_error e = grpc_call_start_batch(c->call, c->ops, 6, &c->tag, NULL);
    assert(e == GRPC_CALL_OK);
    (void)e;
}

/* The next call whose turn it is: acks before nacks before the rest, except that each 8th start
 * looks at them the other way round, so that nothing starves. */
static struct fg_call *next_waiting(struct fg_transport *t)
{
    bool reversed = (t->turn & 7) == 7;
    for (int i = 0; i < FG_CLASSES; i++) {
        struct fg_call *c = list_pop(&t->waiting[reversed ? FG_CLASSES - 1 - i : i]);
        if (c) {
            t->turn++;
            return c;
        }
    }
    return NULL;
}

static void finish_unsent(struct fg_call *c, fila_status code, const char *text)
{
    (void)fila_fail(c->error, code, "%s", text);
    c->error->outcome_unknown = false;
    list_push(&c->transport->finished, c);
}

static void finish_overdue(struct fg_call *c)
{
    struct fg_transport *t = c->transport;
    (void)fila_fail(
        c->error, FILA_TIMEOUT, "not sent within %lld ms: %u calls were in flight to %s",
        (long long)((t->now - c->submitted_at) / FILA_MS), t->base.caps.in_flight, t->address.name);
    c->error->outcome_unknown = false;
    list_push(&t->finished, c);
}

/* A nack is never sent late, so for those the clock is asked anew. */
static bool is_overdue(const struct fg_call *c)
{
    return c->deadline <= (c->class == FG_ACKS ? c->transport->now : fila_now());
}

/* Fills the places in flight. */
static void start_waiting(struct fg_transport *t)
{
    while (t->flying_count < t->base.caps.in_flight) {
        struct fg_call *c = next_waiting(t);
        if (!c) {
            return;
        }
        if (is_overdue(c)) {
            finish_overdue(c);
        } else {
            call_start(c);
        }
    }
}

static bool any_waiting(const struct fg_transport *t)
{
    return t->waiting[FG_ACKS].first || t->waiting[FG_NACKS].first || t->waiting[FG_OTHERS].first;
}

/* Takes over an encoded call. */
static void submit(struct fg_call *c, fila_call method, const fila_request *request)
{
    struct fg_transport *t = c->transport;
    size_t size = fila_request_size(request);
    c->method = method;
    c->cancel = FG_NOT_CANCELLED;
    c->submitted_at = t->now;
    if (t->closing) {
        finish_unsent(c, FILA_CLOSED, "the connection is closed");
        return;
    }
    if (size > t->base.caps.max_message) {
        (void)fila_fail(
            c->error, FILA_TOO_LARGE, "a request of %zu bytes is over the broker's limit of %u",
            size, t->base.caps.max_message);
        list_push(&t->finished, c);
        return;
    }
    if (is_overdue(c)) {
        finish_unsent(c, FILA_TIMEOUT, "not sent: its deadline had passed");
        return;
    }
    grpc_slice_buffer_add(&c->request.data.raw.slice_buffer, fg_encode(request, size));
    if (c->deadline < t->next_deadline) {
        t->next_deadline = c->deadline;
    }
    if (t->flying_count < t->base.caps.in_flight && !any_waiting(t)) {
        call_start(c);
    } else {
        list_push(&t->waiting[c->class], c);
    }
}

/* ---- The three kinds of items ---- */

void fg_settle(struct fila_transport *transport, struct fila_settle *batch)
{
    struct fg_transport *t = self(transport);
    for (struct fila_settle *item = batch, *next = NULL; item; item = next) {
        struct fg_call *c = call_new(t);
        next = item->next;
        if (!c) {
            item->next = t->failed_settles;
            t->failed_settles = item;
            continue;
        }
        bool ack = item->kind == FILA_SETTLE_ACK;
        fila_request request = {.call = ack ? FILA_CALL_ACK : FILA_CALL_NACK};
        request.as.settle.queue = item->queue;
        request.as.settle.message_id = item->receipt;
        request.as.settle.error = ack ? (fila_view){0} : item->reason;
        c->kind = FG_SETTLE;
        c->class = ack ? FG_ACKS : FG_NACKS;
        c->item = item;
        c->error = &item->error;
        c->deadline = item->deadline;
        submit(c, request.call, &request);
    }
}

void fg_publish(struct fila_transport *transport, struct fila_publish *batch)
{
    struct fg_transport *t = self(transport);
    for (struct fila_publish *item = batch, *next = NULL; item; item = next) {
        struct fg_call *c = call_new(t);
        next = item->next;
        if (!c) {
            item->next = t->failed_publishes;
            t->failed_publishes = item;
            continue;
        }
        fila_request request = {.call = FILA_CALL_ENQUEUE};
        request.as.enqueue.queue = item->queue;
        request.as.enqueue.headers = item->headers;
        request.as.enqueue.header_count = item->header_count;
        request.as.enqueue.payload = item->payload;
        c->kind = FG_PUBLISH;
        c->class = FG_OTHERS;
        c->item = item;
        c->error = &item->error;
        c->deadline = item->deadline;
        submit(c, request.call, &request);
    }
}

void fg_unary(struct fila_transport *transport, struct fila_unary *item)
{
    struct fg_transport *t = self(transport);
    struct fg_call *c = call_new(t);
    if (!c) {
        item->next = t->failed_unaries;
        t->failed_unaries = item;
        return;
    }
    c->kind = FG_UNARY;
    c->class = FG_OTHERS;
    c->item = item;
    c->error = &item->error;
    c->deadline = item->deadline;
    submit(c, item->request->call, item->request);
}

/* ---- Answers ---- */

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
        return FILA_SETTLE_RETRY;
    case FILA_BROKER_UNAVAILABLE:
    case FILA_TIMEOUT:
    case FILA_CLOSED:
        return error->outcome_unknown ? FILA_SETTLE_UNKNOWN : FILA_SETTLE_RETRY;
    default:
        return FILA_SETTLE_UNKNOWN;
    }
}

/* Reads a reply of status OK into *ret_reply. */
static fila_status read_reply(
    struct fg_call *c,
    const uint8_t *bytes,
    size_t len,
    struct fila_scratch *scratch,
    fila_reply *ret_reply)
{
    fila_view id = {0};
    fila_status status = fila_reply_read(c->method, bytes, len, scratch, ret_reply, c->error);
    if (status || c->kind != FG_PUBLISH) {
        return status;
    }
    struct fila_publish *item = c->item;
    id = ret_reply->as.enqueue.message_id;
    if (id.len >= sizeof item->id) {
        return fila_fail(c->error, FILA_PROTOCOL, "the broker gave an id of %zu bytes", id.len);
    }
    memcpy(item->id, id.data ? id.data : "", id.len);
    item->id[id.len] = '\0';
    return FILA_OK;
}

/* Hands a failed or bare result to the item's owner, having let go of the call. */
static void report(struct fg_call *c)
{
    enum fg_kind kind = c->kind;
    void *item = c->item;
    call_recycle(c);
    if (kind == FG_SETTLE) {
        struct fila_settle *settle = item;
        settle->result = settle_result(&settle->error);
        settle->done(settle);
    } else if (kind == FG_PUBLISH) {
        struct fila_publish *publish = item;
        publish->done(publish);
    } else {
        struct fila_unary *unary = item;
        unary->done(unary, NULL);
    }
}

/* A call that ended with OK: its reply, for those who want one. */
static void report_reply(struct fg_call *c)
{
    struct fila_scratch scratch = {0};
    fila_reply reply = {.call = c->method};
    const uint8_t *bytes = NULL;
    uint8_t *copy = NULL;
    size_t len = 0;
    if (!fg_bytes(c->reply, &bytes, &len, &copy)) {
        (void)fila_fail(c->error, FILA_NO_MEMORY, "no memory for a reply");
        c->error->outcome_unknown = true;
    } else if (read_reply(c, bytes, len, &scratch, &reply) == FILA_OK && c->kind == FG_UNARY) {
        struct fila_unary *item = c->item;
        item->done(item, &reply);
        c->item = NULL;
    }
    fila_scratch_free(&scratch);
    free(copy);
    if (c->item) {
        report(c);
    } else {
        call_recycle(c);
    }
}

static void explain(struct fg_call *c)
{
    struct fg_transport *t = c->transport;
    if (c->status == GRPC_STATUS_CANCELLED && c->cancel == FG_OVERDUE) {
        (void)fila_fail(
            c->error, FILA_TIMEOUT, "no answer from %s within %lld ms", t->address.name,
            (long long)((t->now - c->submitted_at) / FILA_MS));
    } else if (c->status == GRPC_STATUS_CANCELLED && c->cancel == FG_CLOSING) {
        (void)fila_fail(
            c->error, FILA_CLOSED, "the connection was closed before %s answered", t->address.name);
    } else {
        fg_explain(t, c->method, c->call, c->status, &c->details, c->error);
    }
}

static void call_done(struct fg_tag *tag, bool ok)
{
    struct fg_call *c = (struct fg_call *)tag;
    struct fg_transport *t = c->transport;
    (void)ok;
    struct fg_call *moved = t->flying[--t->flying_count];
    t->flying[c->index] = moved;
    moved->index = c->index;
    start_waiting(t);
    if (c->status != GRPC_STATUS_OK) {
        explain(c);
    } else if (!c->reply) {
        (void)fila_fail(c->error, FILA_PROTOCOL, "%s answered OK without a reply", t->address.name);
    } else if (grpc_byte_buffer_length(c->reply) > t->receive_limit) {
        (void)fila_fail(
            c->error, FILA_TOO_LARGE, "a reply of %zu bytes is over the receive limit of %u",
            grpc_byte_buffer_length(c->reply), t->receive_limit);
        c->error->outcome_unknown = true;
    } else {
        c->error->code = FILA_OK;
        if (c->kind != FG_SETTLE) {
            report_reply(c);
            return;
        }
    }
    report(c);
}

/* ---- Time and the end ---- */

void fg_calls_expire(struct fg_transport *t)
{
    int64_t next = FILA_NEVER;
    if (t->now < t->next_deadline) {
        return;
    }
    for (int k = 0; k < FG_CLASSES; k++) {
        struct fg_list all = t->waiting[k];
        t->waiting[k] = (struct fg_list){NULL, &t->waiting[k].first};
        for (struct fg_call *c = all.first, *after = NULL; c; c = after) {
            after = c->next;
            if (c->deadline <= t->now) {
                finish_overdue(c);
            } else {
                next = c->deadline < next ? c->deadline : next;
                list_push(&t->waiting[k], c);
            }
        }
    }
    for (uint32_t i = 0; i < t->flying_count; i++) {
        struct fg_call *c = t->flying[i];
        if (c->cancel != FG_NOT_CANCELLED) {
            continue;
        }
        if (c->deadline <= t->now) {
            c->cancel = FG_OVERDUE;
            (void)grpc_call_cancel(c->call, NULL);
        } else {
            next = c->deadline < next ? c->deadline : next;
        }
    }
    t->next_deadline = next < t->now + EXPIRY_STEP ? t->now + EXPIRY_STEP : next;
}

static bool report_failed(struct fg_transport *t)
{
    struct fila_settle *settle = t->failed_settles;
    struct fila_publish *publish = t->failed_publishes;
    struct fila_unary *unary = t->failed_unaries;
    bool any = settle || publish || unary;
    t->failed_settles = NULL;
    t->failed_publishes = NULL;
    t->failed_unaries = NULL;
    for (struct fila_settle *next = NULL; settle; settle = next) {
        next = settle->next;
        (void)fila_fail(&settle->error, FILA_NO_MEMORY, "no memory for a call");
        settle->result = FILA_SETTLE_RETRY;
        settle->done(settle);
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
    return any;
}

bool fg_calls_report(struct fg_transport *t)
{
    bool any = report_failed(t);
    struct fg_list all = t->finished;
    t->finished = (struct fg_list){NULL, &t->finished.first};
    for (struct fg_call *c = all.first, *next = NULL; c; c = next) {
        next = c->next;
        any = true;
        report(c);
    }
    return any;
}

void fg_calls_close(struct fg_transport *t)
{
    for (int k = 0; k < FG_CLASSES; k++) {
        for (struct fg_call *c = list_pop(&t->waiting[k]); c; c = list_pop(&t->waiting[k])) {
            finish_unsent(c, FILA_CLOSED, "the connection was closed before this was sent");
        }
    }
    for (uint32_t i = 0; i < t->flying_count; i++) {
        struct fg_call *c = t->flying[i];
        if (c->cancel == FG_NOT_CANCELLED) {
            c->cancel = FG_CLOSING;
            (void)grpc_call_cancel(c->call, NULL);
        }
    }
}

bool fg_calls_idle(const struct fg_transport *t)
{
    return t->flying_count == 0 && !any_waiting(t) && !t->finished.first && !t->failed_settles &&
           !t->failed_publishes && !t->failed_unaries;
}

void fg_calls_free(struct fg_transport *t)
{
    while (t->spare) {
        struct fg_call *c = t->spare;
        t->spare = c->next;
        call_free(c);
    }
    free(t->flying);
}
