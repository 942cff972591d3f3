/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "client/target.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

enum target_kind target_kind(void)
{
    const char *name = getenv("FILA_TEST_TARGET");
    if (!name || !strcmp(name, "embedded")) {
        return TARGET_EMBEDDED;
    }
    return !strcmp(name, "server") ? TARGET_SERVER : TARGET_GRPC;
}

/* Before Criterion's main, which has no exit status for this. */
__attribute__((constructor)) static void skip_without_a_server(void)
{
    if (target_kind() == TARGET_SERVER && !real_server_wanted()) {
        (void)printf("skipped: FILA_SERVER_BIN names no Fila server\n");
        exit(77);
    }
}

static void open_broker(struct target *target)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_error error = FILA_ERROR_INIT;
    if (target->kind == TARGET_GRPC) {
        options.listen = "127.0.0.1:0";
    }
    cr_assert_eq(fila_broker_open(&options, &target->broker, &error), FILA_OK, "%s", error.text);
    (void)snprintf(target->url, sizeof target->url, "embedded:");
    if (target->kind == TARGET_GRPC) {
        (void)snprintf(
            target->url, sizeof target->url, "grpc://127.0.0.1:%u",
            fila_broker_port(target->broker));
    }
}

fila_client *target_client(const struct target *target)
{
    fila_client *client = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fila_client_open(&target->options, &client, &error), FILA_OK, "%s", error.text);
    return client;
}

void target_open(struct target *ret_target)
{
    char why[256] = "";
    *ret_target = (struct target){.kind = target_kind(), .options = FILA_CLIENT_OPTIONS_INIT};
    if (ret_target->kind == TARGET_SERVER) {
        bool up = real_server_start(&ret_target->server, NULL, why, sizeof why);
        cr_assert(up, "%s", why);
        (void)snprintf(ret_target->url, sizeof ret_target->url, "%s", ret_target->server.url);
    } else {
        open_broker(ret_target);
    }
    ret_target->options.url = ret_target->url;
    if (ret_target->kind == TARGET_EMBEDDED) {
        ret_target->options.broker = ret_target->broker;
    }
    ret_target->client = target_client(ret_target);
}

void target_close(struct target *target)
{
    fila_client_free(target->client);
    fila_broker_free(target->broker);
    if (target->kind == TARGET_SERVER) {
        real_server_stop(&target->server);
    }
}

void target_create(const struct target *target, const char *queue)
{
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    fila_error error = FILA_ERROR_INIT;
    request.as.create_queue.name = fila_view_of(queue);
    cr_assert_eq(fila_call_wait(target->client, &request, NULL, &error), FILA_OK, "%s", error.text);
}

void target_enqueue(const struct target *target, const char *queue, const char *payload)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(
        fila_enqueue(
            target->client, fila_view_of(queue), NULL, 0, fila_view_of(payload), NULL, &error),
        FILA_OK, "%s", error.text);
}

fila_message *target_next(fila_consumer *consumer)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fila_consumer_next(consumer, 10000, &message, &error), FILA_OK, "%s", error.text);
    return message;
}

fila_consumer *target_consumer(const struct target *target, const char *queue)
{
    fila_consumer *consumer = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(
        fila_consumer_open(target->client, fila_view_of(queue), NULL, NULL, &consumer, &error),
        FILA_OK, "%s", error.text);
    return consumer;
}

void target_ack(const struct target *target, const fila_message *message)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(
        fila_ack(target->client, fila_message_queue(message), fila_message_id(message), &error),
        FILA_OK, "%s", error.text);
}

fila_queue_stats target_stats(const struct target *target, const char *queue)
{
    fila_request request = {.call = FILA_CALL_GET_STATS};
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    request.as.queue.queue = fila_view_of(queue);
    cr_assert_eq(
        fila_call_wait(target->client, &request, &reply, &error), FILA_OK, "%s", error.text);
    fila_queue_stats stats = reply->as.stats;
    stats.keys = NULL;
    stats.throttles = NULL;
    fila_reply_free(reply);
    return stats;
}

bool view_is(fila_view view, const char *text)
{
    return view.len == strlen(text) && (!view.len || !memcmp(view.data, text, view.len));
}
