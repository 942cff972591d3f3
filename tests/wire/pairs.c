/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "pairs.h"

#include "fila/v1/admin.pb-c.h"
#include "fila/v1/service.pb-c.h"

#include <stdlib.h>

#define V(text) ((fila_view){(text), sizeof(text) - 1})

#define ID "0190d2f0-7c1e-7a3b-8f00-0123456789ab"

static void add(struct pair *pair, const ProtobufCMessage *message)
{
    pair->name = message->descriptor->short_name;
    pair->len = protobuf_c_message_get_packed_size(message);
    pair->bytes = malloc(pair->len ? pair->len : 1);
    (void)protobuf_c_message_pack(message, pair->bytes);
}

void free_pairs(struct pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(pairs[i].bytes);
    }
}

static size_t hot_requests(struct pair *pairs)
{
    static const fila_header headers[] = {
        {V("trace"), V("00-aa-bb")},
        {V("h\xc3\xa9"), V("")},
        {V(""), V("value of no key")},
    };
    size_t n = 0;
    pairs[n].request = (fila_request){
        .call = FILA_CALL_ENQUEUE,
        .as.enqueue = {V("orders"), headers, 3, V("pay\0load\xff")},
    };
    {
        Fila__V1__EnqueueRequest message = FILA__V1__ENQUEUE_REQUEST__INIT;

        Fila__V1__EnqueueRequest__HeadersEntry entries[3] = {
            FILA__V1__ENQUEUE_REQUEST__HEADERS_ENTRY__INIT,
            FILA__V1__ENQUEUE_REQUEST__HEADERS_ENTRY__INIT,
            FILA__V1__ENQUEUE_REQUEST__HEADERS_ENTRY__INIT,
        };
        Fila__V1__EnqueueRequest__HeadersEntry *list[] = {&entries[0], &entries[1], &entries[2]};
        entries[0].key = "trace";
        entries[0].value = "00-aa-bb";
        entries[1].key = "h\xc3\xa9";
        entries[2].value = "value of no key";
        message.queue = "orders";
        message.n_headers = 3;
        message.headers = list;
        message.payload = (ProtobufCBinaryData){9, (uint8_t *)"pay\0load\xff"};
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_ENQUEUE};
    {
        Fila__V1__EnqueueRequest message = FILA__V1__ENQUEUE_REQUEST__INIT;

        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_CONSUME, .as.queue = {V("orders.dlq")}};
    {
        Fila__V1__ConsumeRequest message = FILA__V1__CONSUME_REQUEST__INIT;
        message.queue = "orders.dlq";
        add(&pairs[n++], &message.base);
    }
    pairs[n].request =
        (fila_request){.call = FILA_CALL_ACK, .as.settle = {V("orders"), V(ID), {0}}};
    {
        Fila__V1__AckRequest message = FILA__V1__ACK_REQUEST__INIT;

        message.queue = "orders";
        message.message_id = ID;
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){
        .call = FILA_CALL_NACK, .as.settle = {V("orders"), V(ID), V("why \xe2\x82\xac")}};
    {
        Fila__V1__NackRequest message = FILA__V1__NACK_REQUEST__INIT;

        message.queue = "orders";
        message.message_id = ID;
        message.error = "why \xe2\x82\xac";
        add(&pairs[n++], &message.base);
    }
    return n;
}

static size_t queue_requests(struct pair *pairs)
{
    size_t n = 0;
    pairs[n].request = (fila_request){
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue = {V("orders"), V("function on_enqueue() end"), V("f"), UINT64_C(1) << 53},
    };
    {
        Fila__V1__CreateQueueRequest message = FILA__V1__CREATE_QUEUE_REQUEST__INIT;

        Fila__V1__QueueConfig config = FILA__V1__QUEUE_CONFIG__INIT;
        config.on_enqueue_script = "function on_enqueue() end";
        config.on_failure_script = "f";
        config.visibility_timeout_ms = UINT64_C(1) << 53;
        message.name = "orders";
        message.config = &config;
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_DELETE_QUEUE, .as.queue = {V("a/b\nc")}};
    {
        Fila__V1__DeleteQueueRequest message = FILA__V1__DELETE_QUEUE_REQUEST__INIT;
        message.queue = "a/b\nc";
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_SET_CONFIG, .as.config = {V("k"), V("v")}};
    {
        Fila__V1__SetConfigRequest message = FILA__V1__SET_CONFIG_REQUEST__INIT;

        message.key = "k";
        message.value = "v";
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_GET_CONFIG, .as.config = {V("k"), {0}}};
    {
        Fila__V1__GetConfigRequest message = FILA__V1__GET_CONFIG_REQUEST__INIT;
        message.key = "k";
        add(&pairs[n++], &message.base);
    }
    pairs[n].request =
        (fila_request){.call = FILA_CALL_LIST_CONFIG, .as.config = {V("throttle."), {0}}};
    {
        Fila__V1__ListConfigRequest message = FILA__V1__LIST_CONFIG_REQUEST__INIT;
        message.prefix = "throttle.";
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_GET_STATS, .as.queue = {V("orders")}};
    {
        Fila__V1__GetStatsRequest message = FILA__V1__GET_STATS_REQUEST__INIT;
        message.queue = "orders";
        add(&pairs[n++], &message.base);
    }
    pairs[n].request =
        (fila_request){.call = FILA_CALL_REDRIVE, .as.redrive = {V("orders.dlq"), UINT64_MAX}};
    {
        Fila__V1__RedriveRequest message = FILA__V1__REDRIVE_REQUEST__INIT;

        message.dlq_queue = "orders.dlq";
        message.count = UINT64_MAX;
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_LIST_QUEUES};
    {
        Fila__V1__ListQueuesRequest message = FILA__V1__LIST_QUEUES_REQUEST__INIT;

        add(&pairs[n++], &message.base);
    }
    return n;
}

static size_t key_requests(struct pair *pairs)
{
    static const fila_acl_permission permissions[] = {
        {V("produce"), V("orders.*")}, {V("admin"), V("*")}};
    size_t n = 0;
    pairs[n].request = (fila_request){
        .call = FILA_CALL_CREATE_API_KEY, .as.create_api_key = {V("ci"), 1700000000000u, true}};
    {
        Fila__V1__CreateApiKeyRequest message = FILA__V1__CREATE_API_KEY_REQUEST__INIT;

        message.name = "ci";
        message.expires_at_ms = 1700000000000u;
        message.is_superadmin = 1;
        add(&pairs[n++], &message.base);
    }
    pairs[n].request =
        (fila_request){.call = FILA_CALL_REVOKE_API_KEY, .as.api_key = {V(ID), NULL, 0}};
    {
        Fila__V1__RevokeApiKeyRequest message = FILA__V1__REVOKE_API_KEY_REQUEST__INIT;
        message.key_id = ID;
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_LIST_API_KEYS};
    {
        Fila__V1__ListApiKeysRequest message = FILA__V1__LIST_API_KEYS_REQUEST__INIT;

        add(&pairs[n++], &message.base);
    }
    pairs[n].request =
        (fila_request){.call = FILA_CALL_SET_ACL, .as.api_key = {V(ID), permissions, 2}};
    {
        Fila__V1__SetAclRequest message = FILA__V1__SET_ACL_REQUEST__INIT;

        Fila__V1__AclPermission all[2] = {
            FILA__V1__ACL_PERMISSION__INIT, FILA__V1__ACL_PERMISSION__INIT};
        Fila__V1__AclPermission *list[] = {&all[0], &all[1]};
        all[0].kind = "produce";
        all[0].pattern = "orders.*";
        all[1].kind = "admin";
        all[1].pattern = "*";
        message.key_id = ID;
        message.n_permissions = 2;
        message.permissions = list;
        add(&pairs[n++], &message.base);
    }
    pairs[n].request = (fila_request){.call = FILA_CALL_GET_ACL, .as.api_key = {V(ID), NULL, 0}};
    {
        Fila__V1__GetAclRequest message = FILA__V1__GET_ACL_REQUEST__INIT;
        message.key_id = ID;
        add(&pairs[n++], &message.base);
    }
    return n;
}

size_t make_request_pairs(struct pair *pairs)
{
    size_t n = hot_requests(pairs);
    n += queue_requests(pairs + n);
    return n + key_requests(pairs + n);
}

/* ---- Replies ---- */

static size_t empty_replies(struct pair *pairs)
{
    size_t n = 0;
    pairs[n].reply.call = FILA_CALL_ACK;
    {
        Fila__V1__AckResponse message = FILA__V1__ACK_RESPONSE__INIT;

        add(&pairs[n++], &message.base);
    }
    pairs[n].reply.call = FILA_CALL_NACK;
    {
        Fila__V1__NackResponse message = FILA__V1__NACK_RESPONSE__INIT;

        add(&pairs[n++], &message.base);
    }
    pairs[n].reply.call = FILA_CALL_DELETE_QUEUE;
    {
        Fila__V1__DeleteQueueResponse message = FILA__V1__DELETE_QUEUE_RESPONSE__INIT;

        add(&pairs[n++], &message.base);
    }
    pairs[n].reply.call = FILA_CALL_SET_CONFIG;
    {
        Fila__V1__SetConfigResponse message = FILA__V1__SET_CONFIG_RESPONSE__INIT;

        add(&pairs[n++], &message.base);
    }
    pairs[n].reply.call = FILA_CALL_REVOKE_API_KEY;
    {
        Fila__V1__RevokeApiKeyResponse message = FILA__V1__REVOKE_API_KEY_RESPONSE__INIT;

        add(&pairs[n++], &message.base);
    }
    pairs[n].reply.call = FILA_CALL_SET_ACL;
    {
        Fila__V1__SetAclResponse message = FILA__V1__SET_ACL_RESPONSE__INIT;

        add(&pairs[n++], &message.base);
    }
    return n;
}

static size_t small_replies(struct pair *pairs)
{
    static const fila_config_entry entries[] = {{V("a"), V("1")}, {V("b"), V("")}};
    size_t n = 0;
    pairs[n].reply = (fila_reply){.call = FILA_CALL_ENQUEUE, .as.enqueue = {V(ID)}};
    {
        Fila__V1__EnqueueResponse message = FILA__V1__ENQUEUE_RESPONSE__INIT;
        message.message_id = ID;
        add(&pairs[n++], &message.base);
    }
    pairs[n].reply = (fila_reply){.call = FILA_CALL_CREATE_QUEUE, .as.create_queue = {V("orders")}};
    {
        Fila__V1__CreateQueueResponse message = FILA__V1__CREATE_QUEUE_RESPONSE__INIT;
        message.queue_id = "orders";
        add(&pairs[n++], &message.base);
    }
    pairs[n].reply = (fila_reply){.call = FILA_CALL_GET_CONFIG, .as.get_config = {V("10,20")}};
    {
        Fila__V1__GetConfigResponse message = FILA__V1__GET_CONFIG_RESPONSE__INIT;
        message.value = "10,20";
        add(&pairs[n++], &message.base);
    }
    pairs[n].reply = (fila_reply){.call = FILA_CALL_LIST_CONFIG, .as.list_config = {entries, 2, 2}};
    {
        Fila__V1__ListConfigResponse message = FILA__V1__LIST_CONFIG_RESPONSE__INIT;

        Fila__V1__ConfigEntry all[2] = {FILA__V1__CONFIG_ENTRY__INIT, FILA__V1__CONFIG_ENTRY__INIT};
        Fila__V1__ConfigEntry *list[] = {&all[0], &all[1]};
        all[0].key = "a";
        all[0].value = "1";
        all[1].key = "b";
        message.n_entries = 2;
        message.entries = list;
        message.total_count = 2;
        add(&pairs[n++], &message.base);
    }
    pairs[n].reply = (fila_reply){.call = FILA_CALL_REDRIVE, .as.redrive = {300}};
    {
        Fila__V1__RedriveResponse message = FILA__V1__REDRIVE_RESPONSE__INIT;
        message.redriven = 300;
        add(&pairs[n++], &message.base);
    }
    return n;
}

static size_t queue_replies(struct pair *pairs)
{
    static const fila_key_stats keys[] = {
        {V("default"), 7, -3, 1}, {V("vip"), UINT64_MAX, INT64_MAX, 0}};
    static const fila_throttle_stats throttles[] = {{V("api"), 0.5, 1e9, 0.25}};
    static const fila_queue_info queues[] = {{V("a"), 1, 2, 3, 4}, {V("a.dlq"), 0, 0, 0, 0}};
    size_t n = 0;
    pairs[n].reply = (fila_reply){
        .call = FILA_CALL_GET_STATS,
        .as.stats = {9, 2, 2, 1, 1000, keys, 2, throttles, 1, 5, 3},
    };
    {
        Fila__V1__GetStatsResponse message = FILA__V1__GET_STATS_RESPONSE__INIT;

        Fila__V1__PerFairnessKeyStats key[2] = {
            FILA__V1__PER_FAIRNESS_KEY_STATS__INIT, FILA__V1__PER_FAIRNESS_KEY_STATS__INIT};
        Fila__V1__PerFairnessKeyStats *key_list[] = {&key[0], &key[1]};
        Fila__V1__PerThrottleKeyStats throttle = FILA__V1__PER_THROTTLE_KEY_STATS__INIT;
        Fila__V1__PerThrottleKeyStats *throttle_list[] = {&throttle};
        key[0].key = "default";
        key[0].pending_count = 7;
        key[0].current_deficit = -3;
        key[0].weight = 1;
        key[1].key = "vip";
        key[1].pending_count = UINT64_MAX;
        key[1].current_deficit = INT64_MAX;
        throttle.key = "api";
        throttle.tokens = 0.5;
        throttle.rate_per_second = 1e9;
        throttle.burst = 0.25;
        message.depth = 9;
        message.in_flight = 2;
        message.active_fairness_keys = 2;
        message.active_consumers = 1;
        message.quantum = 1000;
        message.n_per_key_stats = 2;
        message.per_key_stats = key_list;
        message.n_per_throttle_stats = 1;
        message.per_throttle_stats = throttle_list;
        message.leader_node_id = 5;
        message.replication_count = 3;
        add(&pairs[n++], &message.base);
    }
    pairs[n].reply = (fila_reply){.call = FILA_CALL_LIST_QUEUES, .as.list_queues = {queues, 2, 1}};
    {
        Fila__V1__ListQueuesResponse message = FILA__V1__LIST_QUEUES_RESPONSE__INIT;

        Fila__V1__QueueInfo all[2] = {FILA__V1__QUEUE_INFO__INIT, FILA__V1__QUEUE_INFO__INIT};
        Fila__V1__QueueInfo *list[] = {&all[0], &all[1]};
        all[0].name = "a";
        all[0].depth = 1;
        all[0].in_flight = 2;
        all[0].active_consumers = 3;
        all[0].leader_node_id = 4;
        all[1].name = "a.dlq";
        message.n_queues = 2;
        message.queues = list;
        message.cluster_node_count = 1;
        add(&pairs[n++], &message.base);
    }
    return n;
}

static size_t key_replies(struct pair *pairs)
{
    static const fila_acl_permission permissions[] = {{V("consume"), V("q")}};
    static const fila_api_key_info keys[] = {
        {V(ID), V("ci"), 1, 0, true}, {V("x"), V(""), 2, 3, false}};
    size_t n = 0;
    pairs[n].reply = (fila_reply){
        .call = FILA_CALL_CREATE_API_KEY, .as.create_api_key = {V(ID), V("secret"), true}};
    {
        Fila__V1__CreateApiKeyResponse message = FILA__V1__CREATE_API_KEY_RESPONSE__INIT;

        message.key_id = ID;
        message.key = "secret";
        message.is_superadmin = 1;
        add(&pairs[n++], &message.base);
    }
    pairs[n].reply = (fila_reply){.call = FILA_CALL_LIST_API_KEYS, .as.list_api_keys = {keys, 2}};
    {
        Fila__V1__ListApiKeysResponse message = FILA__V1__LIST_API_KEYS_RESPONSE__INIT;

        Fila__V1__ApiKeyInfo all[2] = {FILA__V1__API_KEY_INFO__INIT, FILA__V1__API_KEY_INFO__INIT};
        Fila__V1__ApiKeyInfo *list[] = {&all[0], &all[1]};
        all[0].key_id = ID;
        all[0].name = "ci";
        all[0].created_at_ms = 1;
        all[0].is_superadmin = 1;
        all[1].key_id = "x";
        all[1].created_at_ms = 2;
        all[1].expires_at_ms = 3;
        message.n_keys = 2;
        message.keys = list;
        add(&pairs[n++], &message.base);
    }
    pairs[n].reply =
        (fila_reply){.call = FILA_CALL_GET_ACL, .as.get_acl = {V(ID), permissions, 1, true}};
    {
        Fila__V1__GetAclResponse message = FILA__V1__GET_ACL_RESPONSE__INIT;

        Fila__V1__AclPermission permission = FILA__V1__ACL_PERMISSION__INIT;
        Fila__V1__AclPermission *list[] = {&permission};
        permission.kind = "consume";
        permission.pattern = "q";
        message.key_id = ID;
        message.n_permissions = 1;
        message.permissions = list;
        message.is_superadmin = 1;
        add(&pairs[n++], &message.base);
    }
    return n;
}

size_t make_reply_pairs(struct pair *pairs)
{
    size_t n = empty_replies(pairs);
    n += small_replies(pairs + n);
    n += queue_replies(pairs + n);
    return n + key_replies(pairs + n);
}
