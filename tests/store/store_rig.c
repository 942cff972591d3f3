/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "store_rig.h"

#include <unistd.h>

static char folder[] = "/tmp/store_test_XXXXXX";
static char path[128];

const char *new_path(void)
{
    cr_assert(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/broker.db", folder);
    return path;
}

void remove_path(void)
{
    char wal[160];
    (void)snprintf(wal, sizeof wal, "%s-wal", path);
    (void)unlink(path);
    (void)unlink(wal);
    (void)rmdir(folder);
}

fila_broker *must_open(const char *file, uint32_t idle_timeout_ms)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    fila_error error = FILA_ERROR_INIT;
    options.path = file;
    options.sync = FILA_SYNC_NORMAL;
    options.idle_timeout_ms = idle_timeout_ms;
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK), "%s", error.text);
    return broker;
}

const char *refusal(const char *file, fila_status *ret_status)
{
    static fila_error error;
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    options.path = file;
    memset(&error, 0, sizeof error);
    *ret_status = fila_broker_open(&options, &broker, &error);
    if (*ret_status == FILA_OK) {
        fila_broker_free(broker);
        return "opened";
    }
    return error.text;
}

static void copy(char *to, size_t room, fila_view text)
{
    (void)snprintf(to, room, "%.*s", (int)text.len, text.data);
}

bool next_message(struct reader *reader, int ms, struct got *ret_got)
{
    int64_t until = fila_now() + (int64_t)ms * FILA_MS;
    for (;;) {
        struct fb_delivery delivery;
        fila_error end;
        uint32_t told;
        pthread_mutex_lock(&reader->lock);
        told = reader->ready;
        pthread_mutex_unlock(&reader->lock);
        if (fb_consumer_take(reader->consumer, &delivery, &end) == FB_TAKE_MESSAGE) {
            memset(ret_got, 0, sizeof *ret_got);
            copy(ret_got->id, sizeof ret_got->id, delivery.fields.id);
            copy(ret_got->payload, sizeof ret_got->payload, delivery.fields.payload);
            copy(ret_got->queue, sizeof ret_got->queue, delivery.fields.queue);
            copy(ret_got->key, sizeof ret_got->key, delivery.fields.fairness_key);
            if (delivery.fields.header_count) {
                const fila_header *header = &delivery.fields.headers[0];
                (void)snprintf(
                    ret_got->header, sizeof ret_got->header, "%.*s=%.*s", (int)header->key.len,
                    header->key.data, (int)header->value.len, header->value.data);
            }
            ret_got->attempts = delivery.fields.attempt_count;
            ret_got->lease_end = delivery.lease_end;
            fb_delivery_release(&delivery);
            return true;
        }
        int64_t left = (until - fila_now()) / FILA_MS;
        if (left <= 0 || !reader_wait(reader, told + 1, (int)left)) {
            return false;
        }
    }
}

void must_get(struct reader *reader, const char *payload, struct got *ret_got)
{
    cr_assert(next_message(reader, 20000, ret_got), "a message: %s", payload);
    cr_assert(eq(str, ret_got->payload, (char *)(uintptr_t)payload));
}

fila_status settle(fila_broker *broker, fila_call call, const char *queue, const char *id)
{
    fila_request request = settle_request(call, fila_view_of(queue), fila_view_of(id));
    fila_error error;
    return ask_call(broker, &request, &error);
}

void must_settle(fila_broker *broker, fila_call call, const char *queue, const char *id)
{
    cr_assert(eq(int, settle(broker, call, queue, id), FILA_OK));
}

static fila_queue_stats stats_of(fila_broker *broker, const char *queue)
{
    fila_request request = {.call = FILA_CALL_GET_STATS};
    fila_queue_stats stats;
    struct ask ask;
    request.as.queue.queue = fila_view_of(queue);
    ask_start(&ask, broker, &request);
    cr_assert(ask_wait(&ask, 20000));
    cr_assert(eq(int, ask.error.code, FILA_OK), "%s", ask.error.text);
    stats = ask.reply->as.stats;
    ask_free(&ask);
    return stats;
}

uint64_t depth_of(fila_broker *broker, const char *queue)
{
    return stats_of(broker, queue).depth;
}

uint64_t in_flight_of(fila_broker *broker, const char *queue)
{
    return stats_of(broker, queue).in_flight;
}

fila_status simple_call(
    fila_broker *broker,
    fila_call call,
    const char *name,
    fila_error *ret_error)
{
    fila_request request = {.call = call};
    if (call == FILA_CALL_REDRIVE) {
        request.as.redrive.dlq_queue = fila_view_of(name);
    } else if (call == FILA_CALL_ENQUEUE) {
        request.as.enqueue.queue = fila_view_of(name);
        request.as.enqueue.payload = fila_view_of("x");
    } else if (call == FILA_CALL_CREATE_QUEUE) {
        request.as.create_queue.name = fila_view_of(name);
    } else {
        request.as.queue.queue = fila_view_of(name);
    }
    return ask_call(broker, &request, ret_error);
}

void must_set(fila_broker *broker, const char *key, const char *value)
{
    fila_request request = {.call = FILA_CALL_SET_CONFIG};
    fila_error error;
    request.as.config.key = fila_view_of(key);
    request.as.config.value = fila_view_of(value);
    cr_assert(eq(int, ask_call(broker, &request, &error), FILA_OK), "%s", error.text);
}

void expect_config(fila_broker *broker, const char *key, const char *value)
{
    fila_request request = {.call = FILA_CALL_GET_CONFIG};
    char found[64];
    struct ask ask;
    request.as.config.key = fila_view_of(key);
    ask_start(&ask, broker, &request);
    cr_assert(ask_wait(&ask, 20000));
    cr_assert(eq(int, ask.error.code, FILA_OK), "%s", ask.error.text);
    copy(found, sizeof found, ask.reply->as.get_config.value);
    cr_expect(eq(str, found, (char *)(uintptr_t)value));
    ask_free(&ask);
}
