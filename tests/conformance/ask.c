/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "conformance/conformance.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static fila_view queue_view(struct world *w, const char *queue)
{
    return fila_view_of(queue ? queue : w->q);
}

/* ---- Calls ---- */

struct answer ask(struct world *w, const fila_request *request)
{
    struct answer answer = {0};
    fila_error error = FILA_ERROR_INIT;
    if (fila_call_wait(w->client, request, &answer.reply, &error)) {
        answer.code = error.wire_code;
        (void)snprintf(answer.text, sizeof answer.text, "%s", error.text);
    }
    return answer;
}

void answer_free(struct answer *answer)
{
    fila_reply_free(answer->reply);
    answer->reply = NULL;
}

void expect_answer(struct world *w, const fila_request *request, int code, const char *text)
{
    struct answer answer = ask(w, request);
    char expected[400];
    if (answer.code != code || (text && strcmp(answer.text, text) != 0)) {
        (void)snprintf(
            expected, sizeof expected, "%s: %d%s%s", fila_call_name(request->call), code,
            text && text[0] ? " " : "", text ? text : "");
        differs(expected, "%d %s", answer.code, answer.text);
    }
    answer_free(&answer);
}

void create(struct world *w, const char *queue, uint64_t visibility_timeout_ms)
{
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue = {
            .name = queue_view(w, queue), .visibility_timeout_ms = visibility_timeout_ms}};
    expect_answer(w, &request, 0, NULL);
}

void delete_queue(struct world *w, const char *queue)
{
    fila_request request = {.call = FILA_CALL_DELETE_QUEUE, .as.queue.queue = queue_view(w, queue)};
    expect_answer(w, &request, 0, NULL);
}

void enqueue(struct world *w, const char *queue, const char *payload, char ret_id[FILA_ID_SIZE])
{
    fila_error error = FILA_ERROR_INIT;
    if (fila_enqueue(
            w->client, queue_view(w, queue), NULL, 0, fila_view_of(payload), ret_id, &error)) {
        differs("Enqueue: 0", "%d %s", error.wire_code, error.text);
    }
}

void set_config(struct world *w, const char *key, const char *value)
{
    fila_request request = {
        .call = FILA_CALL_SET_CONFIG, .as.config = {fila_view_of(key), fila_view_of(value)}};
    expect_answer(w, &request, 0, NULL);
}

uint64_t redrive(struct world *w, const char *dlq, uint64_t count)
{
    fila_request request = {.call = FILA_CALL_REDRIVE, .as.redrive = {fila_view_of(dlq), count}};
    struct answer answer = ask(w, &request);
    if (answer.code) {
        differs("Redrive: 0", "%d %s", answer.code, answer.text);
    }
    uint64_t redriven = answer.reply->as.redrive.redriven;
    answer_free(&answer);
    return redriven;
}

fila_queue_stats stats(struct world *w, const char *queue)
{
    fila_request request = {.call = FILA_CALL_GET_STATS, .as.queue.queue = queue_view(w, queue)};
    struct answer answer = ask(w, &request);
    if (answer.code) {
        differs("GetStats: 0", "%d %s", answer.code, answer.text);
    }
    fila_queue_stats numbers = answer.reply->as.stats;
    numbers.keys = NULL;
    numbers.throttles = NULL;
    answer_free(&answer);
    return numbers;
}

/* ---- Settling ---- */

int ack(struct world *w, const char *queue, fila_view id)
{
    fila_error error = FILA_ERROR_INIT;
    return fila_ack(w->client, queue_view(w, queue), id, &error) ? error.wire_code : 0;
}

int nack(struct world *w, const char *queue, fila_view id)
{
    fila_error error = FILA_ERROR_INIT;
    return fila_nack(w->client, queue_view(w, queue), id, fila_view_of("no"), &error)
               ? error.wire_code
               : 0;
}

void expect_ack(struct world *w, const char *queue, fila_view id, int code)
{
    expect_number("the code of an ack", ack(w, queue, id), code);
}

void expect_nack(struct world *w, const char *queue, fila_view id, int code)
{
    expect_number("the code of a nack", nack(w, queue, id), code);
}

/* ---- Names and time ---- */

const char *named(struct world *w, const char *suffix)
{
    static char names[16][160];
    static unsigned turn;
    char *name = names[turn++ % 16];
    (void)snprintf(name, sizeof names[0], "%s%s", w->q, suffix);
    return name;
}

void rest(int ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left)) {
    }
}

/* ---- Streams ---- */

fila_consumer *open_stream(struct world *w, const char *queue)
{
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *stream = NULL;
    if (w->stream_count == MOST_STREAMS ||
        fila_consumer_open(w->client, queue_view(w, queue), NULL, NULL, &stream, &error)) {
        differs("an open stream", "%s", error.text);
    }
    w->streams[w->stream_count++] = stream;
    return stream;
}

void close_stream(struct world *w, fila_consumer *stream)
{
    for (size_t i = 0; i < w->stream_count; i++) {
        if (w->streams[i] == stream) {
            w->streams[i] = w->streams[--w->stream_count];
            fila_consumer_free(stream);
            return;
        }
    }
}

fila_message *next_within(fila_consumer *stream, int ms)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_status status = fila_consumer_next(stream, ms, &message, &error);
    if (status && status != FILA_TIMEOUT) {
        differs("an open stream", "it ended: %d %s", error.wire_code, error.text);
    }
    return status ? NULL : message;
}

fila_message *next(fila_consumer *stream)
{
    fila_message *message = next_within(stream, SOON);
    if (!message) {
        differs("a message", "none within %d s", SOON / 1000);
    }
    return message;
}

void expect_next(
    fila_consumer *stream,
    const char *payload,
    uint32_t attempt,
    char ret_id[FILA_ID_SIZE])
{
    fila_message *message = next(stream);
    fila_view id = fila_message_id(message);
    expect_view("the next message's payload", fila_message_payload(message), payload);
    expect_number("its attempt_count", fila_message_attempt_count(message), attempt);
    if (ret_id) {
        (void)snprintf(ret_id, FILA_ID_SIZE, "%.*s", (int)id.len, id.data);
    }
    fila_message_free(message);
}

void expect_quiet(fila_consumer *stream, int ms)
{
    fila_message *message = next_within(stream, ms);
    if (message) {
        fila_view payload = fila_message_payload(message);
        differs(
            "an open, silent stream", "a message \"%.*s\" at attempt %u",
            (int)(payload.len < 40 ? payload.len : 40), payload.data,
            fila_message_attempt_count(message));
    }
}

void wait_in_flight(struct world *w, const char *queue, uint64_t count)
{
    int64_t give_up = fila_now() + SOON * FILA_MS;
    uint64_t got;
    while ((got = stats(w, queue).in_flight) != count) {
        if (fila_now() > give_up) {
            differs(
                "that many in flight", "%llu, not %llu", (unsigned long long)got,
                (unsigned long long)count);
        }
        rest(150);
    }
}
