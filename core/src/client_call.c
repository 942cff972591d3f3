/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "base/error.h"
#include "client_impl.h"
#include "wire/copy.h"

#include <stdlib.h>

/* A call on its way, its request's bytes behind it in the same allocation. */
struct call {
    struct fc_op op;
    struct fila_unary unary;
    fila_request request;
    fila_reply_fn on_reply;
    void *user;
};

static void call_done(struct fila_unary *item, const fila_reply *reply)
{
    struct call *call = item->user;
    call->on_reply(call->user, reply, reply ? NULL : &item->error);
    free(call);
}

static void call_run(fila_client *client, struct fc_op *op, bool closed)
{
    struct call *call = (struct call *)op;
    if (closed) {
        (void)fc_fail_closed(&call->unary.error);
        call_done(&call->unary, NULL);
        return;
    }
    client->transport->ops->unary(client->transport, &call->unary);
}

static int64_t deadline_of(const fila_client *client, const fila_request *request)
{
    uint32_t ms = request->timeout_ms ? request->timeout_ms : client->call_timeout_ms;
    return fila_now() + (int64_t)ms * FILA_MS;
}

static fila_status check(fila_client *client, const fila_request *request, fila_error *reterr)
{
    if (request->call == FILA_CALL_CONSUME) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "Consume is a stream: open it with fila_consumer_open");
    }
    if (atomic_load(&client->closing)) {
        return fc_fail_closed(reterr);
    }
    return fc_check_request(request, client->transport->caps.max_message, reterr);
}

fila_status fila_call_start(
    fila_client *client,
    const fila_request *request,
    fila_reply_fn on_reply,
    void *user,
    fila_error *reterr)
{
    fila_status status = check(client, request, reterr);
    if (status) {
        return status;
    }
    struct call *call = malloc(sizeof *call + fila_request_copy_size(request));
    if (!call) {
        return fila_fail(reterr, FILA_NO_MEMORY, "a call");
    }
    *call = (struct call){.op.run = call_run, .on_reply = on_reply, .user = user};
    fila_request_copy_into(request, call + 1, &call->request);
    call->unary = (struct fila_unary){
        .request = &call->request,
        .deadline = deadline_of(client, request),
        .error = FILA_ERROR_INIT,
        .done = call_done,
        .user = call,
    };
    if (!fc_post(client, &call->op)) {
        free(call);
        return fc_fail_closed(reterr);
    }
    return FILA_OK;
}

/* ---- Waiting ---- */

struct wait {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    bool want_reply;

    struct {
        bool done;
        fila_status status;
        fila_error error;
        fila_reply *reply;
    } locked;
};

static void wait_done(void *user, const fila_reply *reply, const fila_error *error)
{
    struct wait *wait = user;
    fila_reply *copy = reply && wait->want_reply ? fila_reply_copy(reply) : NULL;
    (void)pthread_mutex_lock(&wait->lock);
    if (error) {
        wait->locked.error = *error;
        wait->locked.status = error->code;
    } else if (wait->want_reply && !copy) {
        wait->locked.status =
            fila_fail(&wait->locked.error, FILA_NO_MEMORY, "done, but no room for the answer");
        wait->locked.error.retryable = false;
    }
    wait->locked.reply = copy;
    wait->locked.done = true;
    (void)pthread_cond_signal(&wait->ready);
    (void)pthread_mutex_unlock(&wait->lock);
}

fila_status fila_call_wait(
    fila_client *client,
    const fila_request *request,
    fila_reply **ret_reply,
    fila_error *reterr)
{
    struct wait wait = {
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, ret_reply != NULL, {0}};
    if (fc_on_own_thread(client)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "a waiting call in a callback would wait for itself");
    }
    fila_status status = fila_call_start(client, request, wait_done, &wait, reterr);
    if (status) {
        return status;
    }
    (void)pthread_mutex_lock(&wait.lock);
    while (!wait.locked.done) {
        (void)pthread_cond_wait(&wait.ready, &wait.lock);
    }
    (void)pthread_mutex_unlock(&wait.lock);
    (void)pthread_cond_destroy(&wait.ready);
    (void)pthread_mutex_destroy(&wait.lock);
    if (wait.locked.status) {
        if (reterr) {
            *reterr = wait.locked.error;
        }
    } else if (ret_reply) {
        *ret_reply = wait.locked.reply;
    }
    return wait.locked.status;
}

/* ---- Short forms ---- */

/* NOLINTNEXTLINE(readability-function-size): what makes up a message */
fila_status fila_enqueue(
    fila_client *client,
    fila_view queue,
    const fila_header *headers,
    size_t header_count,
    fila_view payload,
    char ret_id[FILA_ID_SIZE],
    fila_error *reterr)
{
    fila_request request = {
        .call = FILA_CALL_ENQUEUE, .as.enqueue = {queue, headers, header_count, payload}};
    fila_reply *reply = NULL;
    fila_status status = fila_call_wait(client, &request, ret_id ? &reply : NULL, reterr);
    if (status || !ret_id) {
        return status;
    }
    fila_view id = reply->as.enqueue.message_id;
    if (id.len < FILA_ID_SIZE) {
        memcpy(ret_id, id.data, id.len);
        ret_id[id.len] = '\0';
    } else {
        status = fila_fail(reterr, FILA_PROTOCOL, "the broker gave an id of %zu bytes", id.len);
    }
    fila_reply_free(reply);
    return status;
}

fila_status fila_ack(fila_client *client, fila_view queue, fila_view message_id, fila_error *reterr)
{
    fila_request request = {.call = FILA_CALL_ACK, .as.settle = {queue, message_id, {0}}};
    return fila_call_wait(client, &request, NULL, reterr);
}

fila_status fila_nack(
    fila_client *client,
    fila_view queue,
    fila_view message_id,
    fila_view error,
    fila_error *reterr)
{
    fila_request request = {.call = FILA_CALL_NACK, .as.settle = {queue, message_id, error}};
    return fila_call_wait(client, &request, NULL, reterr);
}
