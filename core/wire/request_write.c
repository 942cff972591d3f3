/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "codec.h"
#include "pb.h"

static void put_enqueue(struct pb_writer *w, const fila_request *request)
{
    pb_put_view(w, 1, request->as.enqueue.queue);
    for (size_t i = 0; i < request->as.enqueue.header_count; i++) {
        pb_put_header(w, 2, &request->as.enqueue.headers[i]);
    }
    pb_put_view(w, 3, request->as.enqueue.payload);
}

static void put_queue_config(struct pb_writer *w, const fila_request *request)
{
    pb_put_view(w, 1, request->as.create_queue.on_enqueue_script);
    pb_put_view(w, 2, request->as.create_queue.on_failure_script);
    pb_put_number(w, 3, request->as.create_queue.visibility_timeout_ms);
}

static void put_create_queue(struct pb_writer *w, const fila_request *request)
{
    struct pb_writer config = {0};
    put_queue_config(&config, request);
    pb_put_view(w, 1, request->as.create_queue.name);
    pb_put_head(w, 2, config.len);
    put_queue_config(w, request);
}

static void put_set_acl(struct pb_writer *w, const fila_request *request)
{
    pb_put_view(w, 1, request->as.api_key.key_id);
    for (size_t i = 0; i < request->as.api_key.permission_count; i++) {
        const fila_acl_permission *permission = &request->as.api_key.permissions[i];
        pb_put_head(w, 2, pb_view_size(permission->kind) + pb_view_size(permission->pattern));
        pb_put_view(w, 1, permission->kind);
        pb_put_view(w, 2, permission->pattern);
    }
}

static void put_rare(struct pb_writer *w, const fila_request *request)
{
    switch (request->call) {
    case FILA_CALL_CREATE_QUEUE:
        put_create_queue(w, request);
        break;
    case FILA_CALL_SET_CONFIG:
        pb_put_view(w, 1, request->as.config.key);
        pb_put_view(w, 2, request->as.config.value);
        break;
    case FILA_CALL_GET_CONFIG:
    case FILA_CALL_LIST_CONFIG:
        pb_put_view(w, 1, request->as.config.key);
        break;
    case FILA_CALL_REDRIVE:
        pb_put_view(w, 1, request->as.redrive.dlq_queue);
        pb_put_number(w, 2, request->as.redrive.count);
        break;
    case FILA_CALL_CREATE_API_KEY:
        pb_put_view(w, 1, request->as.create_api_key.name);
        pb_put_number(w, 2, request->as.create_api_key.expires_at_ms);
        pb_put_number(w, 3, request->as.create_api_key.is_superadmin);
        break;
    case FILA_CALL_REVOKE_API_KEY:
    case FILA_CALL_GET_ACL:
        pb_put_view(w, 1, request->as.api_key.key_id);
        break;
    case FILA_CALL_SET_ACL:
        put_set_acl(w, request);
        break;
    default: /* LIST_QUEUES, LIST_API_KEYS: nothing to say */
        break;
    }
}

static void put_request(struct pb_writer *w, const fila_request *request)
{
    switch (request->call) {
    case FILA_CALL_ENQUEUE:
        put_enqueue(w, request);
        break;
    case FILA_CALL_NACK:
        pb_put_view(w, 1, request->as.settle.queue);
        pb_put_view(w, 2, request->as.settle.message_id);
        pb_put_view(w, 3, request->as.settle.error);
        break;
    case FILA_CALL_ACK:
        pb_put_view(w, 1, request->as.settle.queue);
        pb_put_view(w, 2, request->as.settle.message_id);
        break;
    case FILA_CALL_CONSUME:
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_GET_STATS:
        pb_put_view(w, 1, request->as.queue.queue);
        break;
    default:
        put_rare(w, request);
        break;
    }
}

size_t fila_request_size(const fila_request *request)
{
    struct pb_writer w = {0};
    put_request(&w, request);
    return w.len;
}

void fila_request_write(const fila_request *request, uint8_t *out)
{
    struct pb_writer w = {out, 0};
    put_request(&w, request);
}
