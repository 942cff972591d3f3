/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Many threads on one broker, each with an in-process transport of its own: they enqueue, consume,
 * ack, nack, close streams and whole connections in mid-flight, while answers are delayed, lost and
 * hung by script. In the end every message was acked, none twice. Also meant for ThreadSanitizer.
 */
#include "base/clock.h"
#include "fila/broker.h"
#include "src/transport.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define PRODUCERS 2
#define CONSUMERS 3
#define EACH      20000 /* messages of a producer */
#define MESSAGES  (PRODUCERS * EACH)
#define IN_FLIGHT 32
#define PATIENCE  (60 * FILA_S)

static fila_broker *broker;
static atomic_uint acked[MESSAGES];   /* acks answered OK */
static atomic_uint unknown[MESSAGES]; /* acks of unknown outcome */
static atomic_uint settled;           /* messages with either */
static atomic_uint ended_streams;
static atomic_bool stop_admin;
static int64_t give_up_at;

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "stress: %s\n", what);
        abort();
    }
}

static uint32_t pick(uint64_t *random, uint32_t below)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*random >> 33) % below);
}

static struct fila_transport *connect_transport(void)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    struct fila_transport *t;
    fila_error error;
    options.url = "embedded:";
    options.broker = broker;
    must(fila_embedded_transport.open(&options, &t, &error) == FILA_OK, "open a transport");
    return t;
}

static void disconnect(struct fila_transport *t)
{
    t->ops->shutdown(t);
    while (t->ops->run(t, FILA_NEVER)) {
    }
    t->ops->free(t);
}

/* ---- Producers ---- */

struct publish {
    struct fila_publish item;
    bool busy;
};

static void published(struct fila_publish *item)
{
    struct publish *publish = item->user;
    must(item->error.code == FILA_OK && strlen(item->id) == 36, "a publish succeeds");
    publish->busy = false;
}

static void *produce(void *arg)
{
    struct fila_transport *t = connect_transport();
    static struct publish places[PRODUCERS][IN_FLIGHT];
    uint32_t nth = *(const uint32_t *)arg;
    fila_header header = {fila_view_of("from"), fila_view_of("stress")};
    for (uint32_t i = 0; i < EACH; i++) {
        struct publish *place = &places[nth][i % IN_FLIGHT];
        uint32_t number = nth * EACH + i;
        while (place->busy) {
            (void)t->ops->run(t, fila_now() + FILA_S);
        }
        place->busy = true;
        place->item = (struct fila_publish){
            .queue = fila_view_of("work"),
            .headers = &header,
            .header_count = 1,
            .payload = {(const char *)&number, sizeof number},
            .deadline = give_up_at,
            .done = published,
            .user = place,
        };
        t->ops->publish(t, &place->item);
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
        while (places[nth][i].busy) {
            (void)t->ops->run(t, fila_now() + FILA_S);
        }
    }
    disconnect(t);
    return NULL;
}

/* ---- Consumers ---- */

struct consumer {
    struct fila_transport *transport;
    struct fila_stream *stream;
    uint64_t random;
    uint32_t in_flight;
};

struct settle {
    struct fila_settle item;
    struct consumer *consumer;
    fila_message *message;
    uint32_t number;
};

static void on_settled(struct fila_settle *item)
{
    struct settle *settle = item->user;
    uint32_t number = settle->number;
    if (item->kind == FILA_SETTLE_ACK && item->result == FILA_SETTLE_OK) {
        must(atomic_fetch_add(&acked[number], 1) == 0, "no message is acked twice");
        if (atomic_load(&unknown[number]) == 0) {
            atomic_fetch_add(&settled, 1);
        }
    } else if (item->kind == FILA_SETTLE_ACK && item->result == FILA_SETTLE_UNKNOWN) {
        if (atomic_fetch_add(&unknown[number], 1) == 0 && atomic_load(&acked[number]) == 0) {
            atomic_fetch_add(&settled, 1);
        }
    }
    settle->consumer->in_flight--;
    fila_message_free(settle->message);
    free(settle);
}

static void on_message(void *user, fila_message *message, const struct fila_read *read)
{
    struct consumer *consumer = user;
    struct settle *settle = calloc(1, sizeof *settle);
    fila_view payload = fila_message_payload(message);
    must(settle && payload.len == sizeof settle->number, "a payload arrives whole");
    must(read->lease_end > read->read_at - 30 * FILA_S, "the lease end is told");
    must(read->waiting_since <= read->read_at, "waiting ends with the read");
    memcpy(&settle->number, payload.data, sizeof settle->number);
    settle->consumer = consumer;
    settle->message = message;
    settle->item = (struct fila_settle){
        .kind = pick(&consumer->random, 5) ? FILA_SETTLE_ACK : FILA_SETTLE_NACK,
        .queue = fila_message_queue(message),
        .receipt = fila_message_id(message),
        .reason = fila_view_of("again"),
        .deadline = fila_now() + 200 * FILA_MS,
        .done = on_settled,
        .user = settle,
    };
    consumer->in_flight++;
    consumer->transport->ops->settle(consumer->transport, &settle->item);
    if (consumer->stream) {
        consumer->transport->ops->grant(consumer->stream, 1);
    }
}

static void on_opened(void *user, int64_t now)
{
    (void)user;
    must(now > 0, "the opening has a time");
}

static void on_ended(void *user, const fila_error *why)
{
    struct consumer *consumer = user;
    must(why->code != FILA_OK || why->wire_code == 0, "an end has a reason");
    consumer->stream = NULL;
    atomic_fetch_add(&ended_streams, 1);
}

static const struct fila_stream_events EVENTS = {on_opened, on_message, on_ended};

static void open_stream(struct consumer *consumer)
{
    struct fila_stream_params params = {
        .queue = fila_view_of("work"), .events = &EVENTS, .user = consumer};
    fila_error error;
    must(
        consumer->transport->ops->open_stream(
            consumer->transport, &params, &consumer->stream, &error) == FILA_OK,
        "open a stream");
    consumer->transport->ops->grant(consumer->stream, 1 + pick(&consumer->random, 20));
}

/* One life of a connection. */
static void consume_once(struct consumer *consumer)
{
    int rounds = 20 + (int)pick(&consumer->random, 300);
    consumer->transport = connect_transport();
    while (atomic_load(&settled) < MESSAGES && rounds-- && fila_now() < give_up_at) {
        if (!consumer->stream) {
            open_stream(consumer);
        } else if (pick(&consumer->random, 60) == 0) {
            consumer->transport->ops->stop_stream(consumer->stream);
        }
        (void)consumer->transport->ops->run(consumer->transport, fila_now() + 20 * FILA_MS);
    }
    disconnect(consumer->transport);
    must(consumer->in_flight == 0 && !consumer->stream, "a closed connection owes nothing");
}

static void *consume(void *arg)
{
    struct consumer consumer = {.random = 77 + *(const uint32_t *)arg};
    while (atomic_load(&settled) < MESSAGES && fila_now() < give_up_at) {
        consume_once(&consumer);
    }
    return NULL;
}

/* ---- Admin calls, faults, wake-ups ---- */

static void on_reply(struct fila_unary *item, const fila_reply *reply)
{
    bool *done = item->user;
    must(!reply == (item->error.code != FILA_OK), "a reply or an error");
    *done = true;
}

static void call(struct fila_transport *t, const fila_request *request)
{
    bool done = false;
    struct fila_unary item = {
        .request = request, .deadline = fila_now() + FILA_S, .done = on_reply, .user = &done};
    t->ops->unary(t, &item);
    while (!done) {
        (void)t->ops->run(t, FILA_NEVER);
    }
}

static void create(const char *name)
{
    struct fila_transport *t = connect_transport();
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    request.as.create_queue.name = fila_view_of(name);
    request.as.create_queue.visibility_timeout_ms = 1000;
    call(t, &request);
    disconnect(t);
}

static void add_fault(fila_fault_kind kind, fila_call which, uint32_t nth)
{
    fila_error error;
    fila_fault fault = {
        .size = sizeof fault,
        .kind = kind,
        .call = which,
        .nth = nth,
        .count = 3,
        .wire_code = kind == FILA_FAULT_LOSE_REPLY || kind == FILA_FAULT_ERROR ? 14 : 0,
        .delay_ms = 20 * nth,
        .after_messages = nth,
    };
    must(fila_broker_add_fault(broker, &fault, &error) == FILA_OK, "add a fault");
}

static void *administer(void *arg)
{
    struct fila_transport *t = connect_transport();
    uint64_t random = 5;
    (void)arg;
    while (!atomic_load(&stop_admin)) {
        static const fila_call lists[] = {FILA_CALL_LIST_QUEUES, FILA_CALL_LIST_CONFIG};
        fila_request request = {.call = lists[pick(&random, 2)]};
        call(t, &request);
        add_fault(FILA_FAULT_DELAY, FILA_CALL_ACK, 1 + pick(&random, 20));
        add_fault(FILA_FAULT_LOSE_REPLY, FILA_CALL_ACK, 1 + pick(&random, 20));
        add_fault(FILA_FAULT_HANG, FILA_CALL_NACK, 1 + pick(&random, 20));
        add_fault(FILA_FAULT_CUT, FILA_CALL_CONSUME, 1 + pick(&random, 20));
        add_fault(FILA_FAULT_DELAY, FILA_CALL_CONSUME, 1);
        (void)t->ops->run(t, fila_now() + 30 * FILA_MS);
        fila_broker_clear_faults(broker);
        (void)t->ops->run(t, fila_now() + 30 * FILA_MS);
    }
    disconnect(t);
    return NULL;
}

int main(void)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    pthread_t threads[PRODUCERS + CONSUMERS];
    uint32_t numbers[PRODUCERS + CONSUMERS];
    pthread_t admin;
    fila_error error;
    int64_t began = fila_now();
    give_up_at = began + PATIENCE;
    options.idle_timeout_ms = 2;
    must(fila_broker_open(&options, &broker, &error) == FILA_OK, "open a broker");
    create("work");
    must(pthread_create(&admin, NULL, administer, NULL) == 0, "a thread");
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++) {
        numbers[i] = i;
        must(
            pthread_create(&threads[i], NULL, i < PRODUCERS ? produce : consume, &numbers[i]) == 0,
            "a thread");
    }
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&stop_admin, true);
    pthread_join(admin, NULL);
    printf(
        "%u of %u messages settled in %.1f s; %u streams ended\n", atomic_load(&settled), MESSAGES,
        (double)(fila_now() - began) / 1e9, atomic_load(&ended_streams));
    must(atomic_load(&settled) == MESSAGES, "every message is settled");
    fila_broker_close(broker);
    fila_broker_free(broker);
    return 0;
}
