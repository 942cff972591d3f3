/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "service_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void deadline(struct timespec *ret, int ms)
{
    clock_gettime(CLOCK_REALTIME, ret);
    ret->tv_sec += ms / 1000;
    ret->tv_nsec += (long)(ms % 1000) * 1000000;
    if (ret->tv_nsec >= 1000000000) {
        ret->tv_sec++;
        ret->tv_nsec -= 1000000000;
    }
}

fila_broker *broker_open(uint32_t idle_timeout_ms, uint32_t command_capacity)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    fila_error error;
    options.idle_timeout_ms = idle_timeout_ms;
    options.command_capacity = command_capacity;
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK));
    return broker;
}

void must_create(fila_broker *broker, const char *queue, uint64_t visibility_timeout_ms)
{
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    fila_error error;
    request.as.create_queue.name = fila_view_of(queue);
    request.as.create_queue.visibility_timeout_ms = visibility_timeout_ms;
    cr_assert(eq(int, ask_call(broker, &request, &error), FILA_OK), "%s", error.text);
}

void must_enqueue(fila_broker *broker, const char *queue, const char *payload)
{
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    fila_error error;
    request.as.enqueue.queue = fila_view_of(queue);
    request.as.enqueue.payload = fila_view_of(payload);
    cr_assert(eq(int, ask_call(broker, &request, &error), FILA_OK), "%s", error.text);
}

/* ---- Calls ---- */

static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct ask *ask = user;
    pthread_mutex_lock(&ask->lock);
    ask->error = *error;
    ask->reply = reply ? fila_reply_copy(reply) : NULL;
    ask->done = true;
    pthread_cond_signal(&ask->answered);
    pthread_mutex_unlock(&ask->lock);
}

void ask_start(struct ask *ask, fila_broker *broker, const fila_request *request)
{
    memset(ask, 0, sizeof *ask);
    pthread_mutex_init(&ask->lock, NULL);
    pthread_cond_init(&ask->answered, NULL);
    fb_call(broker, request, on_reply, ask);
}

bool ask_wait(struct ask *ask, int ms)
{
    struct timespec until;
    bool done;
    deadline(&until, ms);
    pthread_mutex_lock(&ask->lock);
    while (!ask->done && pthread_cond_timedwait(&ask->answered, &ask->lock, &until) != ETIMEDOUT) {
    }
    done = ask->done;
    pthread_mutex_unlock(&ask->lock);
    return done;
}

void ask_free(struct ask *ask)
{
    fila_reply_free(ask->reply);
    pthread_cond_destroy(&ask->answered);
    pthread_mutex_destroy(&ask->lock);
}

fila_status ask_call(fila_broker *broker, const fila_request *request, fila_error *ret_error)
{
    struct ask ask;
    ask_start(&ask, broker, request);
    cr_assert(ask_wait(&ask, 20000), "an answer");
    *ret_error = ask.error;
    cr_assert(eq(int, ask.error.code == FILA_OK, ask.reply != NULL), "a reply or an error");
    ask_free(&ask);
    return ret_error->code;
}

fila_request settle_request(fila_call call, fila_view queue, fila_view id)
{
    fila_request request = {.call = call};
    request.as.settle.queue = queue;
    request.as.settle.message_id = id;
    request.as.settle.error = fila_view_of("no");
    return request;
}

/* ---- Consumers ---- */

static void on_ready(void *user)
{
    struct reader *reader = user;
    pthread_mutex_lock(&reader->lock);
    reader->ready++;
    pthread_cond_signal(&reader->told);
    pthread_mutex_unlock(&reader->lock);
}

struct reader *reader_open(fila_broker *broker, const char *queue)
{
    static const struct fb_consumer_events events = {on_ready};
    struct reader *reader = calloc(1, sizeof *reader);
    fila_error error;
    cr_assert(ne(ptr, reader, NULL));
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->told, NULL);
    cr_assert(
        eq(int,
           fb_consumer_open(
               broker, fila_view_of(queue), &events, reader, &reader->consumer, &error),
           FILA_OK),
        "%s", error.text);
    return reader;
}

bool reader_wait(struct reader *reader, uint32_t count, int ms)
{
    struct timespec until;
    bool enough;
    deadline(&until, ms);
    pthread_mutex_lock(&reader->lock);
    while (reader->ready < count &&
           pthread_cond_timedwait(&reader->told, &reader->lock, &until) != ETIMEDOUT) {
    }
    enough = reader->ready >= count;
    pthread_mutex_unlock(&reader->lock);
    return enough;
}

const char *reader_take(struct reader *reader)
{
    static char text[FILA_ERROR_TEXT + 32];
    struct fb_delivery delivery;
    fila_error end;
    switch (fb_consumer_take(reader->consumer, &delivery, &end)) {
    case FB_TAKE_MESSAGE:
        (void)snprintf(
            text, sizeof text, "%.*s", (int)delivery.fields.payload.len,
            delivery.fields.payload.data);
        fb_delivery_release(&delivery);
        break;
    case FB_TAKE_END:
        (void)snprintf(text, sizeof text, "END %d %s", end.wire_code, end.text);
        break;
    default:
        text[0] = '\0';
        break;
    }
    return text;
}

uint32_t reader_drain(struct reader *reader)
{
    uint32_t count = 0;
    struct fb_delivery delivery;
    fila_error end;
    while (fb_consumer_take(reader->consumer, &delivery, &end) == FB_TAKE_MESSAGE) {
        fb_delivery_release(&delivery);
        count++;
    }
    return count;
}

void reader_close(struct reader *reader)
{
    fb_consumer_close(reader->consumer);
    pthread_cond_destroy(&reader->told);
    pthread_mutex_destroy(&reader->lock);
    free(reader);
}

void add_fault(fila_broker *broker, fila_fault fault)
{
    fila_error error;
    fault.size = sizeof fault;
    fault.nth = fault.nth ? fault.nth : 1;
    cr_assert(eq(int, fila_broker_add_fault(broker, &fault, &error), FILA_OK), "%s", error.text);
}
