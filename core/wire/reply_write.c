/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "codec.h"
#include "pb.h"

/* An element whose content `put` writes: counted first, for its length goes before it. */
static void put_counted(
    struct pb_writer *w,
    uint32_t number,
    void (*put)(struct pb_writer *w, const void *element),
    const void *element)
{
    struct pb_writer count = {0};
    put(&count, element);
    pb_put_head(w, number, count.len);
    put(w, element);
}

static void put_config_entry(struct pb_writer *w, const void *element)
{
    const fila_config_entry *entry = element;
    pb_put_view(w, 1, entry->key);
    pb_put_view(w, 2, entry->value);
}

static void put_key_stats(struct pb_writer *w, const void *element)
{
    const fila_key_stats *key = element;
    pb_put_view(w, 1, key->key);
    pb_put_number(w, 2, key->pending_count);
    pb_put_number(w, 3, (uint64_t)key->current_deficit);
    pb_put_number(w, 4, key->weight);
}

static void put_throttle_stats(struct pb_writer *w, const void *element)
{
    const fila_throttle_stats *throttle = element;
    pb_put_view(w, 1, throttle->key);
    pb_put_double(w, 2, throttle->tokens);
    pb_put_double(w, 3, throttle->rate_per_second);
    pb_put_double(w, 4, throttle->burst);
}

static void put_stats(struct pb_writer *w, const fila_queue_stats *stats)
{
    pb_put_number(w, 1, stats->depth);
    pb_put_number(w, 2, stats->in_flight);
    pb_put_number(w, 3, stats->active_fairness_keys);
    pb_put_number(w, 4, stats->active_consumers);
    pb_put_number(w, 5, stats->quantum);
    for (size_t i = 0; i < stats->key_count; i++) {
        put_counted(w, 6, put_key_stats, &stats->keys[i]);
    }
    for (size_t i = 0; i < stats->throttle_count; i++) {
        put_counted(w, 7, put_throttle_stats, &stats->throttles[i]);
    }
    pb_put_number(w, 8, stats->leader_node_id);
    pb_put_number(w, 9, stats->replication_count);
}

static void put_queue_info(struct pb_writer *w, const void *element)
{
    const fila_queue_info *queue = element;
    pb_put_view(w, 1, queue->name);
    pb_put_number(w, 2, queue->depth);
    pb_put_number(w, 3, queue->in_flight);
    pb_put_number(w, 4, queue->active_consumers);
    pb_put_number(w, 5, queue->leader_node_id);
}

static void put_api_key_info(struct pb_writer *w, const void *element)
{
    const fila_api_key_info *key = element;
    pb_put_view(w, 1, key->key_id);
    pb_put_view(w, 2, key->name);
    pb_put_number(w, 3, key->created_at_ms);
    pb_put_number(w, 4, key->expires_at_ms);
    pb_put_number(w, 5, key->is_superadmin);
}

static void put_permission(struct pb_writer *w, const void *element)
{
    const fila_acl_permission *permission = element;
    pb_put_view(w, 1, permission->kind);
    pb_put_view(w, 2, permission->pattern);
}

static void put_list_config(struct pb_writer *w, const fila_reply *reply)
{
    for (size_t i = 0; i < reply->as.list_config.count; i++) {
        put_counted(w, 1, put_config_entry, &reply->as.list_config.entries[i]);
    }
    pb_put_number(w, 2, reply->as.list_config.total_count);
}

static void put_list_queues(struct pb_writer *w, const fila_reply *reply)
{
    for (size_t i = 0; i < reply->as.list_queues.count; i++) {
        put_counted(w, 1, put_queue_info, &reply->as.list_queues.queues[i]);
    }
    pb_put_number(w, 2, reply->as.list_queues.cluster_node_count);
}

static void put_get_acl(struct pb_writer *w, const fila_reply *reply)
{
    pb_put_view(w, 1, reply->as.get_acl.key_id);
    for (size_t i = 0; i < reply->as.get_acl.count; i++) {
        put_counted(w, 2, put_permission, &reply->as.get_acl.permissions[i]);
    }
    pb_put_number(w, 3, reply->as.get_acl.is_superadmin);
}

static void put_create_api_key(struct pb_writer *w, const fila_reply *reply)
{
    pb_put_view(w, 1, reply->as.create_api_key.key_id);
    pb_put_view(w, 2, reply->as.create_api_key.key);
    pb_put_number(w, 3, reply->as.create_api_key.is_superadmin);
}

static void put_reply(struct pb_writer *w, const fila_reply *reply)
{
    switch (reply->call) {
    case FILA_CALL_ENQUEUE:
        pb_put_view(w, 1, reply->as.enqueue.message_id);
        break;
    case FILA_CALL_CREATE_QUEUE:
        pb_put_view(w, 1, reply->as.create_queue.queue_id);
        break;
    case FILA_CALL_GET_CONFIG:
        pb_put_view(w, 1, reply->as.get_config.value);
        break;
    case FILA_CALL_LIST_CONFIG:
        put_list_config(w, reply);
        break;
    case FILA_CALL_GET_STATS:
        put_stats(w, &reply->as.stats);
        break;
    case FILA_CALL_REDRIVE:
        pb_put_number(w, 1, reply->as.redrive.redriven);
        break;
    case FILA_CALL_LIST_QUEUES:
        put_list_queues(w, reply);
        break;
    case FILA_CALL_CREATE_API_KEY:
        put_create_api_key(w, reply);
        break;
    case FILA_CALL_LIST_API_KEYS:
        for (size_t i = 0; i < reply->as.list_api_keys.count; i++) {
            put_counted(w, 1, put_api_key_info, &reply->as.list_api_keys.keys[i]);
        }
        break;
    case FILA_CALL_GET_ACL:
        put_get_acl(w, reply);
        break;
    default: /* the others answer with nothing */
        break;
    }
}

size_t fila_reply_size(const fila_reply *reply)
{
    struct pb_writer w = {0};
    put_reply(&w, reply);
    return w.len;
}

void fila_reply_write(const fila_reply *reply, uint8_t *out)
{
    struct pb_writer w = {out, 0};
    put_reply(&w, reply);
}
