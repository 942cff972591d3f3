/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "client_impl.h"
#include "wire/codec.h"

/* The broker's storage keys hold lengths in 16 bits. */
#define NAME_MAX_BYTES 65535u

struct check {
    fila_error *reterr;
    fila_status status; /* the first failure */
};

static void text(struct check *check, const char *what, fila_view view)
{
    if (!check->status && !fila_utf8_valid(view.data, view.len)) {
        check->status = fila_fail(
            check->reterr, FILA_INVALID_ARGUMENT, "%s of %zu bytes is not UTF-8", what, view.len);
    }
}

static void name_within(struct check *check, const char *what, fila_view view, size_t max)
{
    if (!check->status && view.len > max) {
        check->status = fila_fail(
            check->reterr, FILA_INVALID_ARGUMENT, "%s of %zu bytes, at most %zu are possible", what,
            view.len, max);
    }
    text(check, what, view);
}

static void name(struct check *check, const char *what, fila_view view)
{
    name_within(check, what, view, NAME_MAX_BYTES);
}

static bool is_dlq(fila_view queue)
{
    return queue.len >= 4 && !memcmp(queue.data + queue.len - 4, ".dlq", 4);
}

static void create_queue(struct check *check, const fila_request *request)
{
    fila_view queue = request->as.create_queue.name;
    /* The broker makes <queue>.dlq too. */
    name_within(check, "a queue name", queue, is_dlq(queue) ? NAME_MAX_BYTES : NAME_MAX_BYTES - 4);
    text(check, "an on_enqueue script", request->as.create_queue.on_enqueue_script);
    text(check, "an on_failure script", request->as.create_queue.on_failure_script);
}

static void enqueue(struct check *check, const fila_request *request)
{
    name(check, "a queue name", request->as.enqueue.queue);
    for (size_t i = 0; i < request->as.enqueue.header_count && !check->status; i++) {
        text(check, "a header's key", request->as.enqueue.headers[i].key);
        text(check, "a header's value", request->as.enqueue.headers[i].value);
    }
}

static void api_key(struct check *check, const fila_request *request)
{
    name(check, "a key id", request->as.api_key.key_id);
    for (size_t i = 0; request->call == FILA_CALL_SET_ACL && !check->status &&
                       i < request->as.api_key.permission_count;
         i++) {
        text(check, "a permission's kind", request->as.api_key.permissions[i].kind);
        name(check, "a permission's pattern", request->as.api_key.permissions[i].pattern);
    }
}

static void config(struct check *check, const fila_request *request)
{
    name(check, "a config key", request->as.config.key);
    if (request->call == FILA_CALL_SET_CONFIG) {
        text(check, "a config value", request->as.config.value);
    }
}

static void settle(struct check *check, const fila_request *request)
{
    name(check, "a queue name", request->as.settle.queue);
    name(check, "a message id", request->as.settle.message_id);
    if (request->call == FILA_CALL_NACK) {
        text(check, "a nack's error", request->as.settle.error);
    }
}

static void by_call(struct check *check, const fila_request *request)
{
    switch (request->call) {
    case FILA_CALL_ENQUEUE:
        enqueue(check, request);
        break;
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
        settle(check, request);
        break;
    case FILA_CALL_CREATE_QUEUE:
        create_queue(check, request);
        break;
    case FILA_CALL_CONSUME:
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_GET_STATS:
        name(check, "a queue name", request->as.queue.queue);
        break;
    case FILA_CALL_SET_CONFIG:
    case FILA_CALL_GET_CONFIG:
    case FILA_CALL_LIST_CONFIG:
        config(check, request);
        break;
    case FILA_CALL_REDRIVE:
        name(check, "a queue name", request->as.redrive.dlq_queue);
        break;
    case FILA_CALL_CREATE_API_KEY:
        name(check, "a key's name", request->as.create_api_key.name);
        break;
    case FILA_CALL_REVOKE_API_KEY:
    case FILA_CALL_SET_ACL:
    case FILA_CALL_GET_ACL:
        api_key(check, request);
        break;
    case FILA_CALL_LIST_QUEUES:
    case FILA_CALL_LIST_API_KEYS:
        break;
    default:
        check->status = fila_fail(
            check->reterr, FILA_INVALID_ARGUMENT, "there is no call %d", (int)request->call);
    }
}

fila_status fc_check_request(const fila_request *request, uint32_t max_message, fila_error *reterr)
{
    struct check check = {reterr, FILA_OK};
    by_call(&check, request);
    if (check.status) {
        return check.status;
    }
    size_t size = max_message ? fila_request_size(request) : 0;
    if (size > max_message) {
        return fila_fail(
            reterr, FILA_TOO_LARGE, "a request of %zu bytes, the broker takes at most %u", size,
            max_message);
    }
    return FILA_OK;
}
