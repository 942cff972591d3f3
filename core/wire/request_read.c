/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "fila/v1/admin.pb-c.h"
#include "pb.h"
#include "rare.h"

/* ---- The hot ones by hand ---- */

static pb_problem count_headers(fila_view bytes, size_t *ret_count)
{
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field = {0};
    pb_problem problem = NULL;
    *ret_count = 0;
    while (!problem && reader.at < reader.end) {
        if (!(problem = pb_next(&reader, &field)) && field.tag == PB_TAG(2, PB_BYTES)) {
            ++*ret_count;
        }
    }
    return problem;
}

static pb_problem fill_enqueue(fila_view bytes, fila_header *headers, fila_request *request)
{
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field = {0};
    pb_problem problem = NULL;
    while (!problem && reader.at < reader.end) {
        if ((problem = pb_next(&reader, &field))) {
            break;
        }
        switch (field.tag) {
        case PB_TAG(1, PB_BYTES):
            problem = pb_text(&field, &request->as.enqueue.queue);
            break;
        case PB_TAG(2, PB_BYTES):
            problem = pb_header(field.bytes, &headers[request->as.enqueue.header_count++]);
            break;
        case PB_TAG(3, PB_BYTES):
            request->as.enqueue.payload = field.bytes;
            break;
        default:
            problem = pb_other(&field, 3);
        }
    }
    return problem;
}

static fila_status read_enqueue(
    fila_view bytes,
    struct fila_scratch *scratch,
    fila_request *request,
    fila_error *reterr)
{
    size_t count = 0;
    fila_header *headers = NULL;
    pb_problem problem = count_headers(bytes, &count);
    if (!problem && count) {
        if (!(headers = fila_scratch_array(scratch, count, sizeof *headers))) {
            return fila_fail(reterr, FILA_NO_MEMORY, "%zu headers", count);
        }
    }
    request->as.enqueue.headers = headers;
    if (!problem) {
        problem = fill_enqueue(bytes, headers, request);
    }
    if (problem) {
        return fila_fail(
            reterr, FILA_PROTOCOL, "EnqueueRequest of %zu bytes: %s", bytes.len, problem);
    }
    return FILA_OK;
}

/* A message of text fields numbered 1 to `count`, such as NackRequest. */
static fila_status read_texts(
    const char *name,
    fila_view bytes,
    fila_view *const *texts,
    uint32_t count,
    fila_error *reterr)
{
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field = {0};
    pb_problem problem = NULL;
    while (!problem && reader.at < reader.end) {
        if ((problem = pb_next(&reader, &field))) {
            break;
        }
        uint32_t number = PB_NUMBER(field.tag);
        if (number <= count && (field.tag & 7) == PB_BYTES) {
            problem = pb_text(&field, texts[number - 1]);
        } else {
            problem = pb_other(&field, count);
        }
    }
    if (problem) {
        return fila_fail(reterr, FILA_PROTOCOL, "%s of %zu bytes: %s", name, bytes.len, problem);
    }
    return FILA_OK;
}

static fila_status read_settle(fila_view bytes, fila_request *request, fila_error *reterr)
{
    fila_view *const texts[] = {
        &request->as.settle.queue,
        &request->as.settle.message_id,
        &request->as.settle.error,
    };
    bool nack = request->call == FILA_CALL_NACK;
    return read_texts(nack ? "NackRequest" : "AckRequest", bytes, texts, nack ? 3 : 2, reterr);
}

static fila_status read_queue(fila_view bytes, fila_request *request, fila_error *reterr)
{
    fila_view *const texts[] = {&request->as.queue.queue};
    const char *name = "DeleteQueueRequest";
    if (request->call != FILA_CALL_DELETE_QUEUE) {
        name = request->call == FILA_CALL_CONSUME ? "ConsumeRequest" : "GetStatsRequest";
    }
    return read_texts(name, bytes, texts, 1, reterr);
}

/* ---- The others through protobuf-c ---- */

static void take_create_queue(const Fila__V1__CreateQueueRequest *in, fila_request *request)
{
    request->as.create_queue.name = fila_view_of(in->name);
    if (in->config) {
        request->as.create_queue.on_enqueue_script = fila_view_of(in->config->on_enqueue_script);
        request->as.create_queue.on_failure_script = fila_view_of(in->config->on_failure_script);
        request->as.create_queue.visibility_timeout_ms = in->config->visibility_timeout_ms;
    }
}

static fila_status take_set_acl(
    const Fila__V1__SetAclRequest *in,
    struct fila_scratch *scratch,
    fila_request *request,
    fila_error *reterr)
{
    fila_acl_permission *permissions =
        fila_scratch_array(scratch, in->n_permissions, sizeof *permissions);
    if (!permissions) {
        return fila_fail(reterr, FILA_NO_MEMORY, "%zu permissions", in->n_permissions);
    }
    for (size_t i = 0; i < in->n_permissions; i++) {
        permissions[i].kind = fila_view_of(in->permissions[i]->kind);
        permissions[i].pattern = fila_view_of(in->permissions[i]->pattern);
    }
    request->as.api_key.key_id = fila_view_of(in->key_id);
    request->as.api_key.permissions = permissions;
    request->as.api_key.permission_count = in->n_permissions;
    return FILA_OK;
}

/* The types of the rare requests; NULL where there is nothing to read. */
static const ProtobufCMessageDescriptor *rare_type(fila_call call)
{
    switch (call) {
    case FILA_CALL_CREATE_QUEUE:
        return &fila__v1__create_queue_request__descriptor;
    case FILA_CALL_SET_CONFIG:
        return &fila__v1__set_config_request__descriptor;
    case FILA_CALL_GET_CONFIG:
        return &fila__v1__get_config_request__descriptor;
    case FILA_CALL_LIST_CONFIG:
        return &fila__v1__list_config_request__descriptor;
    case FILA_CALL_REDRIVE:
        return &fila__v1__redrive_request__descriptor;
    case FILA_CALL_LIST_QUEUES:
        return &fila__v1__list_queues_request__descriptor;
    case FILA_CALL_CREATE_API_KEY:
        return &fila__v1__create_api_key_request__descriptor;
    case FILA_CALL_REVOKE_API_KEY:
        return &fila__v1__revoke_api_key_request__descriptor;
    case FILA_CALL_LIST_API_KEYS:
        return &fila__v1__list_api_keys_request__descriptor;
    case FILA_CALL_SET_ACL:
        return &fila__v1__set_acl_request__descriptor;
    case FILA_CALL_GET_ACL:
        return &fila__v1__get_acl_request__descriptor;
    default:
        return NULL;
    }
}

union rare_request {
    void *any;
    const Fila__V1__CreateQueueRequest *create_queue;
    const Fila__V1__SetConfigRequest *set_config;
    const Fila__V1__GetConfigRequest *get_config;
    const Fila__V1__ListConfigRequest *list_config;
    const Fila__V1__RedriveRequest *redrive;
    const Fila__V1__CreateApiKeyRequest *create_api_key;
    const Fila__V1__RevokeApiKeyRequest *revoke_api_key;
    const Fila__V1__SetAclRequest *set_acl;
    const Fila__V1__GetAclRequest *get_acl;
};

static fila_status take_rare(
    union rare_request in,
    struct fila_scratch *scratch,
    fila_request *request,
    fila_error *reterr)
{
    switch (request->call) {
    case FILA_CALL_CREATE_QUEUE:
        take_create_queue(in.create_queue, request);
        break;
    case FILA_CALL_SET_CONFIG:
        request->as.config.key = fila_view_of(in.set_config->key);
        request->as.config.value = fila_view_of(in.set_config->value);
        break;
    case FILA_CALL_GET_CONFIG:
        request->as.config.key = fila_view_of(in.get_config->key);
        break;
    case FILA_CALL_LIST_CONFIG:
        request->as.config.key = fila_view_of(in.list_config->prefix);
        break;
    case FILA_CALL_REDRIVE:
        request->as.redrive.dlq_queue = fila_view_of(in.redrive->dlq_queue);
        request->as.redrive.count = in.redrive->count;
        break;
    case FILA_CALL_CREATE_API_KEY:
        request->as.create_api_key.name = fila_view_of(in.create_api_key->name);
        request->as.create_api_key.expires_at_ms = in.create_api_key->expires_at_ms;
        request->as.create_api_key.is_superadmin = in.create_api_key->is_superadmin;
        break;
    case FILA_CALL_REVOKE_API_KEY:
        request->as.api_key.key_id = fila_view_of(in.revoke_api_key->key_id);
        break;
    case FILA_CALL_GET_ACL:
        request->as.api_key.key_id = fila_view_of(in.get_acl->key_id);
        break;
    case FILA_CALL_SET_ACL:
        return take_set_acl(in.set_acl, scratch, request, reterr);
    default:
        break;
    }
    return FILA_OK;
}

static fila_status read_rare(
    fila_view bytes,
    struct fila_scratch *scratch,
    fila_request *request,
    fila_error *reterr)
{
    const ProtobufCMessageDescriptor *type = rare_type(request->call);
    union rare_request in = {NULL};
    if (!type) {
        return fila_fail(reterr, FILA_UNIMPLEMENTED, "unknown call %d", (int)request->call);
    }
    fila_status status = fila_rare_read(type, bytes, scratch, &in.any, reterr);
    return status ? status : take_rare(in, scratch, request, reterr);
}

fila_status fila_request_read(
    fila_call call,
    const uint8_t *bytes,
    size_t len,
    struct fila_scratch *scratch,
    fila_request *ret_request,
    fila_error *reterr)
{
    fila_request request = {.call = call};
    fila_view view = {(const char *)bytes, len};
    fila_status status = FILA_OK;
    switch (call) {
    case FILA_CALL_ENQUEUE:
        status = read_enqueue(view, scratch, &request, reterr);
        break;
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
        status = read_settle(view, &request, reterr);
        break;
    case FILA_CALL_CONSUME:
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_GET_STATS:
        status = read_queue(view, &request, reterr);
        break;
    default:
        status = read_rare(view, scratch, &request, reterr);
        break;
    }
    if (!status) {
        *ret_request = request;
    }
    return status;
}
