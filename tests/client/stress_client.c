/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Threads that call, publish, consume, close and free at random on one client that is closed under
 * them: every started call has one callback, every opened consumer one end, and nothing is left.
 * Arguments: what it runs over (fake, embedded, grpc), the number of rounds, a seed.
 */
#include "client/fake_transport.h"
#include "fila/broker.h"
#include "src/client_impl.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    THREADS = 6,
    STEPS = 400,
    KEPT = 4 /* consumers that a thread has at once */
};

#define MUST(condition)                                                           \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

struct totals {
    atomic_uint started;
    atomic_uint called_back;
    atomic_uint opened;
    atomic_uint ended;
    atomic_uint messages;
    atomic_uint sent;
    atomic_uint reported;
};

struct worker {
    pthread_t thread;
    fila_client *client;
    struct totals *totals;
    uint64_t random;
    int close_at; /* the step before which it closes the client; -1 = none */
    fila_consumer *kept[KEPT];
    fila_producer *producer;
};

static uint32_t pick(struct worker *w, uint32_t below)
{
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(w->random >> 33) % below;
}

/* What a call may end with: the client's end, or the broker's word on an id that is none. */
static bool is_expected(fila_status status)
{
    return status == FILA_CLOSED || status == FILA_INVALID_ARGUMENT;
}

static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct totals *totals = user;
    MUST((reply != NULL) != (error != NULL));
    MUST(!error || is_expected(error->code));
    atomic_fetch_add(&totals->called_back, 1);
}

static void on_message(void *user, fila_message *message)
{
    struct totals *totals = user;
    MUST(fila_message_id(message).len);
    atomic_fetch_add(&totals->messages, 1);
    fila_message_free(message);
}

static void on_end(void *user, const fila_error *why)
{
    struct totals *totals = user;
    MUST(why->code == FILA_CANCELLED || why->code == FILA_CLOSED);
    atomic_fetch_add(&totals->ended, 1);
}

static fila_request some_request(struct worker *w)
{
    static const char payload[256] = "payload";
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    if (pick(w, 2)) {
        request.as.enqueue.queue = fila_view_of("q");
        request.as.enqueue.payload = (fila_view){payload, pick(w, sizeof payload)};
    } else {
        request.call = FILA_CALL_ACK;
        request.as.settle.queue = fila_view_of("q");
        request.as.settle.message_id = fila_view_of("id");
    }
    return request;
}

static void call(struct worker *w)
{
    fila_request request = some_request(w);
    fila_status status = fila_call_start(w->client, &request, on_reply, w->totals, NULL);
    MUST(status == FILA_OK || status == FILA_CLOSED);
    if (!status) {
        atomic_fetch_add(&w->totals->started, 1);
    }
}

static void call_and_wait(struct worker *w)
{
    fila_request request = some_request(w);
    fila_reply *reply = NULL;
    fila_status status = fila_call_wait(w->client, &request, &reply, NULL);
    MUST(status == FILA_OK || is_expected(status));
    MUST((reply != NULL) == (status == FILA_OK));
    fila_reply_free(reply);
}

static void open_consumer(struct worker *w, fila_consumer **place)
{
    static const fila_consumer_events events = {on_message, on_end};
    bool with_events = pick(w, 2);
    fila_status status = fila_consumer_open(
        w->client, fila_view_of("q"), with_events ? &events : NULL, w->totals, place, NULL);
    MUST(status == FILA_OK || status == FILA_CLOSED);
    if (!status && with_events) {
        atomic_fetch_add(&w->totals->opened, 1);
    }
}

static void read_next(fila_consumer *consumer)
{
    fila_message *message = NULL;
    fila_status status = fila_consumer_next(consumer, 20, &message, NULL);
    MUST((message != NULL) == (status == FILA_OK));
    fila_message_free(message);
}

static void on_report(void *user, const fila_report *report)
{
    struct totals *totals = user;
    MUST(report->token == totals);
    MUST(
        !report->error || report->error->code == FILA_CLOSED ||
        report->error->code == FILA_CANCELLED);
    atomic_fetch_add(&totals->reported, 1);
}

static void open_producer(struct worker *w)
{
    fila_producer_options options = FILA_PRODUCER_OPTIONS_INIT;
    options.on_report = on_report;
    options.user = w->totals;
    options.flush_ms = pick(w, 3);
    options.flush_count = 1 + pick(w, 20);
    options.in_flight = 1 + pick(w, 10);
    fila_status status = fila_producer_open(w->client, &options, &w->producer, NULL);
    MUST(status == FILA_OK || status == FILA_CLOSED);
}

static void use_producer(struct worker *w)
{
    if (!w->producer) {
        open_producer(w);
        return;
    }
    switch (pick(w, 16)) {
    case 0:
        fila_producer_free(w->producer);
        w->producer = NULL;
        break;
    case 1:
        fila_producer_close(w->producer);
        break;
    case 2:
        (void)!fila_producer_flush(w->producer, 1, NULL);
        break;
    default: {
        fila_status status = fila_producer_send(
            w->producer, fila_view_of("q"), NULL, 0, fila_view_of("p"), w->totals, NULL);
        MUST(status == FILA_OK || status == FILA_CLOSED);
        if (!status) {
            atomic_fetch_add(&w->totals->sent, 1);
        }
    }
    }
}

static void use_consumer(struct worker *w)
{
    fila_consumer **place = &w->kept[pick(w, KEPT)];
    if (!*place) {
        open_consumer(w, place);
        return;
    }
    switch (pick(w, 8)) {
    case 0:
        fila_consumer_free(*place);
        *place = NULL;
        break;
    case 1:
        fila_consumer_close(*place);
        break;
    case 2:
    case 3:
        read_next(*place);
        break;
    default:
        fila_consumer_grant(*place, 1 + pick(w, 5));
        break;
    }
}

static void *work(void *user)
{
    struct worker *w = user;
    for (int i = 0; i < STEPS; i++) {
        uint32_t what = pick(w, 16);
        if (i == w->close_at) {
            fila_client_close(w->client);
        }
        if (what < 6) {
            call(w);
        } else if (what < 8) {
            call_and_wait(w);
        } else if (what < 11) {
            use_producer(w);
        } else {
            use_consumer(w);
        }
    }
    for (int i = 0; i < KEPT; i += 2) { /* the others outlive the client */
        fila_consumer_free(w->kept[i]);
        w->kept[i] = NULL;
    }
    return NULL;
}

/* ---- What it runs over ---- */

struct place {
    fila_client_options options;
    fila_broker *broker; /* NULL: fakes */
    char url[64];
};

static void place_init(struct place *place, const char *kind)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    *place = (struct place){.options = FILA_CLIENT_OPTIONS_INIT};
    if (!strcmp(kind, "fake")) {
        return;
    }
    bool grpc = !strcmp(kind, "grpc");
    options.listen = grpc ? "127.0.0.1:0" : NULL;
    MUST(!fila_broker_open(&options, &place->broker, NULL));
    (void)snprintf(place->url, sizeof place->url, "embedded:");
    if (grpc) {
        uint16_t port = fila_broker_port(place->broker);
        (void)snprintf(place->url, sizeof place->url, "grpc://127.0.0.1:%u", port);
    } else {
        place->options.broker = place->broker;
    }
    place->options.url = place->url;
}

static fila_client *place_client(const struct place *place)
{
    fila_request create = {.call = FILA_CALL_CREATE_QUEUE};
    fila_client *client = NULL;
    if (!place->broker) {
        MUST(!fc_open_over(fake_transport(fake_new(true)), &place->options, &client, NULL));
        return client;
    }
    MUST(!fila_client_open(&place->options, &client, NULL));
    create.as.create_queue.name = fila_view_of("q");
    fila_status status = fila_call_wait(client, &create, NULL, NULL);
    MUST(status == FILA_OK || status == FILA_QUEUE_EXISTS);
    return client;
}

static void one_round(const struct place *place, uint64_t seed, struct totals *sum)
{
    static struct worker workers[THREADS];
    struct totals totals = {0};
    fila_client *client = place_client(place);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.client = client, .totals = &totals};
        workers[i].random = seed * THREADS + (uint64_t)i;
        workers[i].close_at = i || seed % 3 == 0 ? -1 : (int)pick(&workers[i], STEPS);
        MUST(!pthread_create(&workers[i].thread, NULL, work, &workers[i]));
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    fila_client_free(client);
    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < KEPT; k++) {
            fila_consumer_free(workers[i].kept[k]);
        }
        fila_producer_free(workers[i].producer);
    }
    MUST(atomic_load(&totals.called_back) == atomic_load(&totals.started));
    MUST(atomic_load(&totals.ended) == atomic_load(&totals.opened));
    MUST(atomic_load(&totals.reported) == atomic_load(&totals.sent));
    MUST(fake_messages_alive() == 0 && fake_transports_alive() == 0);
    atomic_fetch_add(&sum->started, atomic_load(&totals.started));
    atomic_fetch_add(&sum->opened, atomic_load(&totals.opened));
    atomic_fetch_add(&sum->messages, atomic_load(&totals.messages));
    atomic_fetch_add(&sum->sent, atomic_load(&totals.sent));
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "fake";
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 20;
    unsigned long seed = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
    struct totals sum = {0};
    struct place place;
    place_init(&place, kind);
    for (unsigned long i = 0; i < rounds; i++) {
        one_round(&place, seed + i, &sum);
    }
    fila_broker_free(place.broker);
    (void)printf(
        "%s: %lu rounds, %u calls, %u consumers, %u messages, %u published\n", kind, rounds,
        atomic_load(&sum.started), atomic_load(&sum.opened), atomic_load(&sum.messages),
        atomic_load(&sum.sent));
    return atomic_load(&sum.messages) ? 0 : 1;
}
