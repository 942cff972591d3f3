/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Many connections to a listening broker at once: they enqueue, consume, ack and nack with many
 * calls in flight, cancel streams and leave in mid-flight, while the broker delays answers and cuts
 * streams by script. Every message is acked in the end. A last round closes the broker under load.
 */
#include "server/raw_client.h"

#include <fila/broker.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    CONNECTIONS = 3,
    EACH = 3000,
    MESSAGES = CONNECTIONS * EACH,
    IN_FLIGHT = 32
};

static fila_broker *broker;
static atomic_bool acked[MESSAGES];
static atomic_size_t done;
static atomic_size_t deliveries;
static atomic_bool closing;

static void must(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "stress: %s\n", what);
        abort();
    }
}

static uint32_t pick(uint64_t *random, uint32_t below)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*random >> 33) % below);
}

static int finish(struct raw_call *call)
{
    struct raw_end end = raw_finish(call);
    int code = end.code;
    must(code == 0 || code == 1 || code == 5 || code == 14 || code == 4, end.text);
    raw_end_free(&end);
    return code;
}

/* ---- Producing ---- */

static struct raw_call *enqueue(struct raw_client *client, uint32_t number)
{
    char payload[2000] = {0};
    memcpy(payload, &number, sizeof number);
    fila_request request = {
        .call = FILA_CALL_ENQUEUE,
        .as.enqueue = {.queue = fila_view_of("q"), .payload = {payload, 4 + number % 1900}},
    };
    return raw_start_request(client, &request);
}

static void *produce(void *arg)
{
    uint32_t first = *(const uint32_t *)arg * EACH;
    struct raw_client *client = raw_open_port(fila_broker_port(broker));
    struct raw_call *calls[IN_FLIGHT] = {0};
    for (uint32_t i = 0; i < EACH + IN_FLIGHT; i++) {
        struct raw_call **call = &calls[i % IN_FLIGHT];
        if (*call) {
            must(finish(*call) == 0 || atomic_load(&closing), "an enqueue failed");
        }
        *call = i < EACH && !atomic_load(&closing) ? enqueue(client, first + i) : NULL;
    }
    raw_close(client);
    return NULL;
}

/* ---- Consuming ---- */

struct settle {
    struct raw_call *call;
    uint32_t number;
    bool ack;
};

static void finish_settle(struct settle *settle)
{
    if (!settle->call) {
        return;
    }
    if (finish(settle->call) == 0 && settle->ack &&
        !atomic_exchange(&acked[settle->number], true)) {
        atomic_fetch_add(&done, 1);
    }
    settle->call = NULL;
}

static void start_settle(
    struct raw_client *client,
    fila_message *message,
    uint64_t *random,
    struct settle *settle)
{
    fila_view payload = fila_message_payload(message);
    fila_request request = {
        .as.settle = {.queue = fila_message_queue(message), .message_id = fila_message_id(message)},
    };
    must(payload.len >= 4, "a payload is short");
    memcpy(&settle->number, payload.data, 4);
    must(settle->number < MESSAGES && payload.len == 4 + settle->number % 1900, "a wrong payload");
    settle->ack = pick(random, 20) != 0;
    request.call = settle->ack ? FILA_CALL_ACK : FILA_CALL_NACK;
    settle->call = raw_start_request(client, &request);
    fila_message_free(message);
    atomic_fetch_add(&deliveries, 1);
}

/* One stream, left after some messages or when nothing comes. */
static void consume_once(struct raw_client *client, uint64_t *random)
{
    struct settle settles[IN_FLIGHT] = {0};
    struct raw_call *stream = raw_consume(client, "q");
    uint32_t count = 200 + pick(random, 2000);
    for (uint32_t i = 0; i < count; i++) {
        fila_message *message = raw_next(stream, 50, NULL);
        if (!message) {
            break;
        }
        finish_settle(&settles[i % IN_FLIGHT]);
        start_settle(client, message, random, &settles[i % IN_FLIGHT]);
    }
    raw_cancel(stream);
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        finish_settle(&settles[i]);
    }
    (void)finish(stream);
}

static void *consume(void *arg)
{
    uint64_t random = *(const uint32_t *)arg + 1;
    struct raw_client *client = NULL;
    while (atomic_load(&done) < MESSAGES && !atomic_load(&closing)) {
        if (!client || pick(&random, 4) == 0) {
            if (client) {
                raw_close(client);
            }
            client = raw_open_port(fila_broker_port(broker));
        }
        consume_once(client, &random);
    }
    if (client) {
        raw_close(client);
    }
    return NULL;
}

/* ---- Rounds ---- */

static void add_faults(void)
{
    fila_fault faults[] = {
        {.kind = FILA_FAULT_DELAY, .call = FILA_CALL_ACK, .nth = 100, .count = 2000, .delay_ms = 2},
        {.kind = FILA_FAULT_DELAY,
         .call = FILA_CALL_ENQUEUE,
         .nth = 500,
         .count = 500,
         .delay_ms = 1},
        {.kind = FILA_FAULT_CUT,
         .call = FILA_CALL_CONSUME,
         .nth = 2,
         .count = 2,
         .after_messages = 100},
        {.kind = FILA_FAULT_ERROR, .call = FILA_CALL_NACK, .nth = 3, .count = 5, .wire_code = 14},
        {.kind = FILA_FAULT_HALF_OPEN,
         .call = FILA_CALL_ACK,
         .nth = 1000,
         .count = 3,
         .delay_ms = 20},
        {.kind = FILA_FAULT_HALF_OPEN,
         .call = FILA_CALL_CONSUME,
         .nth = 3,
         .count = 2,
         .delay_ms = 20,
         .after_messages = 50},
    };
    fila_error error;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        faults[i].size = sizeof faults[i];
        must(fila_broker_add_fault(broker, &faults[i], &error) == FILA_OK, "no fault");
    }
}

static void create_queue(void)
{
    struct raw_client *client = raw_open_port(fila_broker_port(broker));
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue = {.name = fila_view_of("q"), .visibility_timeout_ms = 1000},
    };
    must(finish(raw_start_request(client, &request)) == 0, "no queue");
    raw_close(client);
}

static void run_round(bool close_amid)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    pthread_t producers[CONNECTIONS];
    pthread_t consumers[CONNECTIONS];
    uint32_t numbers[CONNECTIONS];
    fila_error error;
    options.listen = "127.0.0.1:0";
    options.idle_timeout_ms = 1; /* leases that a cancelled stream left behind come back */
    must(fila_broker_open(&options, &broker, &error) == FILA_OK, "no broker");
    create_queue();
    add_faults();
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        numbers[i] = i;
        pthread_create(&producers[i], NULL, produce, &numbers[i]);
        pthread_create(&consumers[i], NULL, consume, &numbers[i]);
    }
    if (close_amid) {
        while (atomic_load(&done) < MESSAGES / 4) {
            struct timespec pause = {.tv_nsec = 1000000};
            (void)nanosleep(&pause, NULL);
        }
        atomic_store(&closing, true);
        fila_broker_close(broker);
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        pthread_join(producers[i], NULL);
        pthread_join(consumers[i], NULL);
    }
    fila_broker_free(broker);
}

int main(void)
{
    grpc_init();
    run_round(false);
    must(atomic_load(&done) == MESSAGES, "not every message was acked");
    (void)printf("%d messages, %zu deliveries\n", MESSAGES, atomic_load(&deliveries));
    for (size_t i = 0; i < MESSAGES; i++) {
        atomic_store(&acked[i], false);
    }
    atomic_store(&done, 0);
    run_round(true);
    grpc_shutdown();
    return 0;
}
