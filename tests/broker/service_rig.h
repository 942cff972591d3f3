/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A broker in a test's hand, driven as its front ends do: calls that are waited for, and consumers
 * whose `ready` is waited for.
 */
#ifndef TESTS_BROKER_SERVICE_RIG_H
#define TESTS_BROKER_SERVICE_RIG_H

#include "base/clock.h"
#include "broker/service.h"

#include <pthread.h>

/* A view of a string literal, also in static initializers. */
#define VIEW(text)               \
    {                            \
        (text), sizeof(text) - 1 \
    }

/* A call under way. */
struct ask {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
    fila_reply *reply; /* a copy */
    fila_error error;
};

/* A consumer, and how often it was told. */
struct reader {
    pthread_mutex_t lock;
    pthread_cond_t told;
    uint32_t ready;
    struct fb_consumer *consumer;
};

fila_broker *broker_open(uint32_t idle_timeout_ms, uint32_t command_capacity);
void must_create(fila_broker *broker, const char *queue, uint64_t visibility_timeout_ms);
void must_enqueue(fila_broker *broker, const char *queue, const char *payload);

void ask_start(struct ask *ask, fila_broker *broker, const fila_request *request);
/* False after `ms` without an answer. */
bool ask_wait(struct ask *ask, int ms);
void ask_free(struct ask *ask); /* must be answered */
/* Start and wait; the error's code. */
fila_status ask_call(fila_broker *broker, const fila_request *request, fila_error *ret_error);

fila_request settle_request(fila_call call, fila_view queue, fila_view id);

struct reader *reader_open(fila_broker *broker, const char *queue);
/* Waits until `ready` was called `count` times in all; false after `ms`. */
bool reader_wait(struct reader *reader, uint32_t count, int ms);
/* Takes: the payload as text; "" when empty; "END code text" at the end. Lives until the next. */
const char *reader_take(struct reader *reader);
/* Takes all there is, without the end; how many. */
uint32_t reader_drain(struct reader *reader);
void reader_close(struct reader *reader);

void add_fault(fila_broker *broker, fila_fault fault);

#endif
