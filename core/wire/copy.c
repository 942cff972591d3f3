/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "copy.h"

#include <stdlib.h>

/* Two regions, arrays and then text. First pass (`base` NULL): only the lengths move. Second pass:
 * views and array pointers of the struct at hand are turned to the copies. */
struct packer {
    char *base;
    size_t text_at; /* offset of the text region: the first pass's array_len */
    size_t array_len;
    size_t text_len;
};

static void pack_view(struct packer *p, fila_view *view)
{
    if (p->base) {
        char *copy = p->base + p->text_at + p->text_len;
        if (view->len) {
            memcpy(copy, view->data, view->len);
        }
        view->data = copy;
    }
    p->text_len += view->len;
}

/* Room for an array of that size in the second pass, else NULL. */
static void *pack_array(struct packer *p, size_t size)
{
    void *copy = p->base ? p->base + p->array_len : NULL;
    p->array_len += size;
    return copy;
}

static const fila_header *pack_headers(struct packer *p, const fila_header *headers, size_t count)
{
    fila_header *copy = pack_array(p, count * sizeof *headers);
    for (size_t i = 0; i < count; i++) {
        fila_header header = headers[i];
        pack_view(p, &header.key);
        pack_view(p, &header.value);
        if (copy) {
            copy[i] = header;
        }
    }
    return copy;
}

static const fila_acl_permission *pack_permissions(
    struct packer *p,
    const fila_acl_permission *permissions,
    size_t count)
{
    fila_acl_permission *copy = pack_array(p, count * sizeof *permissions);
    for (size_t i = 0; i < count; i++) {
        fila_acl_permission permission = permissions[i];
        pack_view(p, &permission.kind);
        pack_view(p, &permission.pattern);
        if (copy) {
            copy[i] = permission;
        }
    }
    return copy;
}

/* ---- Requests ---- */

static void pack_request(struct packer *p, fila_request *request)
{
    switch (request->call) {
    case FILA_CALL_ENQUEUE:
        pack_view(p, &request->as.enqueue.queue);
        request->as.enqueue.headers =
            pack_headers(p, request->as.enqueue.headers, request->as.enqueue.header_count);
        pack_view(p, &request->as.enqueue.payload);
        break;
    case FILA_CALL_NACK:
        pack_view(p, &request->as.settle.error);
        pack_view(p, &request->as.settle.queue);
        pack_view(p, &request->as.settle.message_id);
        break;
    case FILA_CALL_ACK:
        pack_view(p, &request->as.settle.queue);
        pack_view(p, &request->as.settle.message_id);
        break;
    case FILA_CALL_CREATE_QUEUE:
        pack_view(p, &request->as.create_queue.name);
        pack_view(p, &request->as.create_queue.on_enqueue_script);
        pack_view(p, &request->as.create_queue.on_failure_script);
        break;
    case FILA_CALL_CONSUME:
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_GET_STATS:
        pack_view(p, &request->as.queue.queue);
        break;
    case FILA_CALL_SET_CONFIG:
        pack_view(p, &request->as.config.value);
        pack_view(p, &request->as.config.key);
        break;
    case FILA_CALL_GET_CONFIG:
    case FILA_CALL_LIST_CONFIG:
        pack_view(p, &request->as.config.key);
        break;
    case FILA_CALL_REDRIVE:
        pack_view(p, &request->as.redrive.dlq_queue);
        break;
    case FILA_CALL_CREATE_API_KEY:
        pack_view(p, &request->as.create_api_key.name);
        break;
    case FILA_CALL_SET_ACL:
        request->as.api_key.permissions = pack_permissions(
            p, request->as.api_key.permissions, request->as.api_key.permission_count);
        pack_view(p, &request->as.api_key.key_id);
        break;
    case FILA_CALL_REVOKE_API_KEY:
    case FILA_CALL_GET_ACL:
        pack_view(p, &request->as.api_key.key_id);
        break;
    default:
        break;
    }
}

size_t fila_request_copy_size(const fila_request *request)
{
    struct packer p = {0};
    fila_request copy = *request;
    pack_request(&p, &copy);
    return p.array_len + p.text_len;
}

void fila_request_copy_into(const fila_request *request, void *memory, fila_request *ret_copy)
{
    struct packer count = {0};
    fila_request copy = *request;
    pack_request(&count, &copy);
    struct packer p = {.base = memory, .text_at = count.array_len};
    copy = *request;
    pack_request(&p, &copy);
    *ret_copy = copy;
}

/* ---- Replies ---- */

static void pack_list_config(struct packer *p, fila_reply *reply)
{
    size_t count = reply->as.list_config.count;
    fila_config_entry *copy = pack_array(p, count * sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        fila_config_entry entry = reply->as.list_config.entries[i];
        pack_view(p, &entry.key);
        pack_view(p, &entry.value);
        if (copy) {
            copy[i] = entry;
        }
    }
    reply->as.list_config.entries = copy;
}

static void pack_stats(struct packer *p, fila_queue_stats *stats)
{
    fila_key_stats *keys = pack_array(p, stats->key_count * sizeof *keys);
    for (size_t i = 0; i < stats->key_count; i++) {
        fila_key_stats key = stats->keys[i];
        pack_view(p, &key.key);
        if (keys) {
            keys[i] = key;
        }
    }
    fila_throttle_stats *throttles = pack_array(p, stats->throttle_count * sizeof *throttles);
    for (size_t i = 0; i < stats->throttle_count; i++) {
        fila_throttle_stats throttle = stats->throttles[i];
        pack_view(p, &throttle.key);
        if (throttles) {
            throttles[i] = throttle;
        }
    }
    stats->keys = keys;
    stats->throttles = throttles;
}

static void pack_list_queues(struct packer *p, fila_reply *reply)
{
    size_t count = reply->as.list_queues.count;
    fila_queue_info *copy = pack_array(p, count * sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        fila_queue_info queue = reply->as.list_queues.queues[i];
        pack_view(p, &queue.name);
        if (copy) {
            copy[i] = queue;
        }
    }
    reply->as.list_queues.queues = copy;
}

static void pack_list_api_keys(struct packer *p, fila_reply *reply)
{
    size_t count = reply->as.list_api_keys.count;
    fila_api_key_info *copy = pack_array(p, count * sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        fila_api_key_info key = reply->as.list_api_keys.keys[i];
        pack_view(p, &key.key_id);
        pack_view(p, &key.name);
        if (copy) {
            copy[i] = key;
        }
    }
    reply->as.list_api_keys.keys = copy;
}

static void pack_reply(struct packer *p, fila_reply *reply)
{
    switch (reply->call) {
    case FILA_CALL_ENQUEUE:
        pack_view(p, &reply->as.enqueue.message_id);
        break;
    case FILA_CALL_CREATE_QUEUE:
        pack_view(p, &reply->as.create_queue.queue_id);
        break;
    case FILA_CALL_GET_CONFIG:
        pack_view(p, &reply->as.get_config.value);
        break;
    case FILA_CALL_LIST_CONFIG:
        pack_list_config(p, reply);
        break;
    case FILA_CALL_GET_STATS:
        pack_stats(p, &reply->as.stats);
        break;
    case FILA_CALL_LIST_QUEUES:
        pack_list_queues(p, reply);
        break;
    case FILA_CALL_CREATE_API_KEY:
        pack_view(p, &reply->as.create_api_key.key_id);
        pack_view(p, &reply->as.create_api_key.key);
        break;
    case FILA_CALL_LIST_API_KEYS:
        pack_list_api_keys(p, reply);
        break;
    case FILA_CALL_GET_ACL:
        reply->as.get_acl.permissions =
            pack_permissions(p, reply->as.get_acl.permissions, reply->as.get_acl.count);
        pack_view(p, &reply->as.get_acl.key_id);
        break;
    default:
        break;
    }
}

fila_reply *fila_reply_copy(const fila_reply *reply)
{
    struct packer count = {0};
    fila_reply copy = *reply;
    pack_reply(&count, &copy);
    fila_reply *memory = malloc(sizeof *memory + count.array_len + count.text_len);
    if (memory) {
        struct packer p = {.base = (char *)(memory + 1), .text_at = count.array_len};
        *memory = *reply;
        pack_reply(&p, memory);
    }
    return memory;
}

void fila_reply_free(fila_reply *reply)
{
    free(reply);
}
