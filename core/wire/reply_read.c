/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "fila/v1/admin.pb-c.h"
#include "pb.h"
#include "rare.h"

union rare_reply {
    void *any;
    const Fila__V1__CreateQueueResponse *create_queue;
    const Fila__V1__GetConfigResponse *get_config;
    const Fila__V1__ListConfigResponse *list_config;
    const Fila__V1__GetStatsResponse *get_stats;
    const Fila__V1__RedriveResponse *redrive;
    const Fila__V1__ListQueuesResponse *list_queues;
    const Fila__V1__CreateApiKeyResponse *create_api_key;
    const Fila__V1__ListApiKeysResponse *list_api_keys;
    const Fila__V1__GetAclResponse *get_acl;
};

/* ---- Each `take`: false without memory ---- */

static bool take_list_config(
    const Fila__V1__ListConfigResponse *in,
    struct fila_scratch *scratch,
    fila_reply *reply)
{
    fila_config_entry *entries = fila_scratch_array(scratch, in->n_entries, sizeof *entries);
    if (!entries) {
        return false;
    }
    for (size_t i = 0; i < in->n_entries; i++) {
        entries[i].key = fila_view_of(in->entries[i]->key);
        entries[i].value = fila_view_of(in->entries[i]->value);
    }
    reply->as.list_config.entries = entries;
    reply->as.list_config.count = in->n_entries;
    reply->as.list_config.total_count = in->total_count;
    return true;
}

static bool take_key_stats(
    const Fila__V1__GetStatsResponse *in,
    struct fila_scratch *scratch,
    fila_queue_stats *stats)
{
    fila_key_stats *keys = fila_scratch_array(scratch, in->n_per_key_stats, sizeof *keys);
    if (!keys) {
        return false;
    }
    for (size_t i = 0; i < in->n_per_key_stats; i++) {
        const Fila__V1__PerFairnessKeyStats *key = in->per_key_stats[i];
        keys[i] = (fila_key_stats){
            .key = fila_view_of(key->key),
            .pending_count = key->pending_count,
            .current_deficit = key->current_deficit,
            .weight = key->weight,
        };
    }
    stats->keys = keys;
    stats->key_count = in->n_per_key_stats;
    return true;
}

static bool take_throttle_stats(
    const Fila__V1__GetStatsResponse *in,
    struct fila_scratch *scratch,
    fila_queue_stats *stats)
{
    size_t count = in->n_per_throttle_stats;
    fila_throttle_stats *throttles = fila_scratch_array(scratch, count, sizeof *throttles);
    if (!throttles) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const Fila__V1__PerThrottleKeyStats *throttle = in->per_throttle_stats[i];
        throttles[i] = (fila_throttle_stats){
            .key = fila_view_of(throttle->key),
            .tokens = throttle->tokens,
            .rate_per_second = throttle->rate_per_second,
            .burst = throttle->burst,
        };
    }
    stats->throttles = throttles;
    stats->throttle_count = count;
    return true;
}

static bool take_stats(
    const Fila__V1__GetStatsResponse *in,
    struct fila_scratch *scratch,
    fila_queue_stats *stats)
{
    stats->depth = in->depth;
    stats->in_flight = in->in_flight;
    stats->active_fairness_keys = in->active_fairness_keys;
    stats->active_consumers = in->active_consumers;
    stats->quantum = in->quantum;
    stats->leader_node_id = in->leader_node_id;
    stats->replication_count = in->replication_count;
    return take_key_stats(in, scratch, stats) && take_throttle_stats(in, scratch, stats);
}

static bool take_list_queues(
    const Fila__V1__ListQueuesResponse *in,
    struct fila_scratch *scratch,
    fila_reply *reply)
{
    fila_queue_info *queues = fila_scratch_array(scratch, in->n_queues, sizeof *queues);
    if (!queues) {
        return false;
    }
    for (size_t i = 0; i < in->n_queues; i++) {
        const Fila__V1__QueueInfo *queue = in->queues[i];
        queues[i] = (fila_queue_info){
            .name = fila_view_of(queue->name),
            .depth = queue->depth,
            .in_flight = queue->in_flight,
            .active_consumers = queue->active_consumers,
            .leader_node_id = queue->leader_node_id,
        };
    }
    reply->as.list_queues.queues = queues;
    reply->as.list_queues.count = in->n_queues;
    reply->as.list_queues.cluster_node_count = in->cluster_node_count;
    return true;
}

static bool take_list_api_keys(
    const Fila__V1__ListApiKeysResponse *in,
    struct fila_scratch *scratch,
    fila_reply *reply)
{
    fila_api_key_info *keys = fila_scratch_array(scratch, in->n_keys, sizeof *keys);
    if (!keys) {
        return false;
    }
    for (size_t i = 0; i < in->n_keys; i++) {
        const Fila__V1__ApiKeyInfo *key = in->keys[i];
        keys[i] = (fila_api_key_info){
            .key_id = fila_view_of(key->key_id),
            .name = fila_view_of(key->name),
            .created_at_ms = key->created_at_ms,
            .expires_at_ms = key->expires_at_ms,
            .is_superadmin = key->is_superadmin,
        };
    }
    reply->as.list_api_keys.keys = keys;
    reply->as.list_api_keys.count = in->n_keys;
    return true;
}

static bool take_get_acl(
    const Fila__V1__GetAclResponse *in,
    struct fila_scratch *scratch,
    fila_reply *reply)
{
    fila_acl_permission *permissions =
        fila_scratch_array(scratch, in->n_permissions, sizeof *permissions);
    if (!permissions) {
        return false;
    }
    for (size_t i = 0; i < in->n_permissions; i++) {
        permissions[i].kind = fila_view_of(in->permissions[i]->kind);
        permissions[i].pattern = fila_view_of(in->permissions[i]->pattern);
    }
    reply->as.get_acl.key_id = fila_view_of(in->key_id);
    reply->as.get_acl.permissions = permissions;
    reply->as.get_acl.count = in->n_permissions;
    reply->as.get_acl.is_superadmin = in->is_superadmin;
    return true;
}

static bool take(union rare_reply in, struct fila_scratch *scratch, fila_reply *reply)
{
    switch (reply->call) {
    case FILA_CALL_CREATE_QUEUE:
        reply->as.create_queue.queue_id = fila_view_of(in.create_queue->queue_id);
        return true;
    case FILA_CALL_GET_CONFIG:
        reply->as.get_config.value = fila_view_of(in.get_config->value);
        return true;
    case FILA_CALL_LIST_CONFIG:
        return take_list_config(in.list_config, scratch, reply);
    case FILA_CALL_GET_STATS:
        return take_stats(in.get_stats, scratch, &reply->as.stats);
    case FILA_CALL_REDRIVE:
        reply->as.redrive.redriven = in.redrive->redriven;
        return true;
    case FILA_CALL_LIST_QUEUES:
        return take_list_queues(in.list_queues, scratch, reply);
    case FILA_CALL_CREATE_API_KEY:
        reply->as.create_api_key.key_id = fila_view_of(in.create_api_key->key_id);
        reply->as.create_api_key.key = fila_view_of(in.create_api_key->key);
        reply->as.create_api_key.is_superadmin = in.create_api_key->is_superadmin;
        return true;
    case FILA_CALL_LIST_API_KEYS:
        return take_list_api_keys(in.list_api_keys, scratch, reply);
    case FILA_CALL_GET_ACL:
        return take_get_acl(in.get_acl, scratch, reply);
    default:
        return true;
    }
}

static const ProtobufCMessageDescriptor *rare_type(fila_call call)
{
    switch (call) {
    case FILA_CALL_CREATE_QUEUE:
        return &fila__v1__create_queue_response__descriptor;
    case FILA_CALL_DELETE_QUEUE:
        return &fila__v1__delete_queue_response__descriptor;
    case FILA_CALL_SET_CONFIG:
        return &fila__v1__set_config_response__descriptor;
    case FILA_CALL_GET_CONFIG:
        return &fila__v1__get_config_response__descriptor;
    case FILA_CALL_LIST_CONFIG:
        return &fila__v1__list_config_response__descriptor;
    case FILA_CALL_GET_STATS:
        return &fila__v1__get_stats_response__descriptor;
    case FILA_CALL_REDRIVE:
        return &fila__v1__redrive_response__descriptor;
    case FILA_CALL_LIST_QUEUES:
        return &fila__v1__list_queues_response__descriptor;
    case FILA_CALL_CREATE_API_KEY:
        return &fila__v1__create_api_key_response__descriptor;
    case FILA_CALL_REVOKE_API_KEY:
        return &fila__v1__revoke_api_key_response__descriptor;
    case FILA_CALL_LIST_API_KEYS:
        return &fila__v1__list_api_keys_response__descriptor;
    case FILA_CALL_SET_ACL:
        return &fila__v1__set_acl_response__descriptor;
    case FILA_CALL_GET_ACL:
        return &fila__v1__get_acl_response__descriptor;
    default:
        return NULL;
    }
}

static fila_status read_rare(
    fila_view bytes,
    struct fila_scratch *scratch,
    fila_reply *reply,
    fila_error *reterr)
{
    const ProtobufCMessageDescriptor *type = rare_type(reply->call);
    union rare_reply in = {NULL};
    if (!type) {
        return fila_fail(
            reterr, FILA_PROTOCOL, "%s has no unary answer", fila_call_name(reply->call));
    }
    fila_status status = fila_rare_read(type, bytes, scratch, &in.any, reterr);
    if (status) {
        return status;
    }
    if (!take(in, scratch, reply)) {
        return fila_fail(reterr, FILA_NO_MEMORY, "%s of %zu bytes", type->short_name, bytes.len);
    }
    return FILA_OK;
}

/* EnqueueResponse, and the empty answers of Ack and Nack. */
static pb_problem read_hot(fila_view bytes, fila_reply *reply)
{
    uint32_t known = reply->call == FILA_CALL_ENQUEUE ? 1 : 0;
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field = {0};
    pb_problem problem = NULL;
    while (!problem && reader.at < reader.end) {
        if ((problem = pb_next(&reader, &field))) {
            break;
        }
        if (known && field.tag == PB_TAG(1, PB_BYTES)) {
            problem = pb_text(&field, &reply->as.enqueue.message_id);
        } else {
            problem = pb_other(&field, known);
        }
    }
    return problem;
}

fila_status fila_reply_read(
    fila_call call,
    const uint8_t *bytes,
    size_t len,
    struct fila_scratch *scratch,
    fila_reply *ret_reply,
    fila_error *reterr)
{
    fila_reply reply = {.call = call};
    fila_view view = {(const char *)bytes, len};
    fila_status status = FILA_OK;
    if (call == FILA_CALL_ENQUEUE || call == FILA_CALL_ACK || call == FILA_CALL_NACK) {
        pb_problem problem = read_hot(view, &reply);
        if (problem) {
            status = fila_fail(
                reterr, FILA_PROTOCOL, "%sResponse of %zu bytes: %s", fila_call_name(call), len,
                problem);
        }
    } else {
        status = read_rare(view, scratch, &reply, reterr);
    }
    if (!status) {
        *ret_reply = reply;
    }
    return status;
}
