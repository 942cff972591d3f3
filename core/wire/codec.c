/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "codec.h"

#include "pb.h"

#define SERVICE "/fila.v1.FilaService/"
#define ADMIN   "/fila.v1.FilaAdmin/"

static const char *const PATHS[FILA_CALL_COUNT] = {
    [FILA_CALL_ENQUEUE] = SERVICE "Enqueue",
    [FILA_CALL_CONSUME] = SERVICE "Consume",
    [FILA_CALL_ACK] = SERVICE "Ack",
    [FILA_CALL_NACK] = SERVICE "Nack",
    [FILA_CALL_CREATE_QUEUE] = ADMIN "CreateQueue",
    [FILA_CALL_DELETE_QUEUE] = ADMIN "DeleteQueue",
    [FILA_CALL_SET_CONFIG] = ADMIN "SetConfig",
    [FILA_CALL_GET_CONFIG] = ADMIN "GetConfig",
    [FILA_CALL_LIST_CONFIG] = ADMIN "ListConfig",
    [FILA_CALL_GET_STATS] = ADMIN "GetStats",
    [FILA_CALL_REDRIVE] = ADMIN "Redrive",
    [FILA_CALL_LIST_QUEUES] = ADMIN "ListQueues",
    [FILA_CALL_CREATE_API_KEY] = ADMIN "CreateApiKey",
    [FILA_CALL_REVOKE_API_KEY] = ADMIN "RevokeApiKey",
    [FILA_CALL_LIST_API_KEYS] = ADMIN "ListApiKeys",
    [FILA_CALL_SET_ACL] = ADMIN "SetAcl",
    [FILA_CALL_GET_ACL] = ADMIN "GetAcl",
};

const char *fila_call_path(fila_call call)
{
    return (unsigned)call < FILA_CALL_COUNT ? PATHS[call] : NULL;
}

/* ---- A ConsumeResponse's bytes up to its payload ---- */

static void put_metadata(struct pb_writer *w, const struct fila_message_fields *fields)
{
    pb_put_view(w, 1, fields->fairness_key);
    pb_put_number(w, 2, fields->weight);
    for (size_t i = 0; i < fields->throttle_key_count; i++) {
        pb_put_element(w, 3, fields->throttle_keys[i]);
    }
    pb_put_number(w, 4, fields->attempt_count);
    pb_put_view(w, 5, fields->queue);
}

static void put_body_head(struct pb_writer *w, const struct fila_message_fields *fields)
{
    struct pb_writer metadata = {0};
    pb_put_view(w, 1, fields->id);
    for (size_t i = 0; i < fields->header_count; i++) {
        pb_put_header(w, 2, &fields->headers[i]);
    }
    put_metadata(&metadata, fields);
    pb_put_head(w, 4, metadata.len);
    put_metadata(w, fields);
    if (fields->payload.len) {
        pb_put_head(w, 3, fields->payload.len);
    }
}

static void put_delivery_head(struct pb_writer *w, const struct fila_message_fields *fields)
{
    struct pb_writer body = {0};
    put_body_head(&body, fields);
    pb_put_head(w, 1, body.len + fields->payload.len);
    if (w->out) {
        put_body_head(w, fields);
    } else {
        w->len += body.len;
    }
}

size_t fila_delivery_head_size(const struct fila_message_fields *fields)
{
    struct pb_writer w = {0};
    put_delivery_head(&w, fields);
    return w.len;
}

void fila_delivery_head_write(const struct fila_message_fields *fields, uint8_t *out)
{
    struct pb_writer w = {out, 0};
    put_delivery_head(&w, fields);
}
