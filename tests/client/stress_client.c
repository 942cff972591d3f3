/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Threads that call, consume, close and free at random on one client that is closed under them:
 * every started call has one callback, every opened consumer one end, and nothing is left.
 * Arguments: the number of rounds, a seed.
 */
#include "fake_transport.h"
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
};

struct worker {
    pthread_t thread;
    fila_client *client;
    struct totals *totals;
    uint64_t random;
    int close_at; /* the step before which it closes the client; -1 = none */
    fila_consumer *kept[KEPT];
};

static uint32_t pick(struct worker *w, uint32_t below)
{
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(w->random >> 33) % below;
}

static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct totals *totals = user;
    MUST((reply != NULL) != (error != NULL));
    MUST(!error || error->code == FILA_CLOSED);
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
    MUST(status == FILA_OK || status == FILA_CLOSED);
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

static void one_round(uint64_t seed, struct totals *sum)
{
    static struct worker workers[THREADS];
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    struct totals totals = {0};
    fila_client *client = NULL;
    MUST(!fc_open_over(fake_transport(fake_new(true)), &options, &client, NULL));
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
    }
    MUST(atomic_load(&totals.called_back) == atomic_load(&totals.started));
    MUST(atomic_load(&totals.ended) == atomic_load(&totals.opened));
    MUST(fake_messages_alive() == 0 && fake_transports_alive() == 0);
    atomic_fetch_add(&sum->started, atomic_load(&totals.started));
    atomic_fetch_add(&sum->opened, atomic_load(&totals.opened));
    atomic_fetch_add(&sum->messages, atomic_load(&totals.messages));
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20;
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    struct totals sum = {0};
    for (unsigned long i = 0; i < rounds; i++) {
        one_round(seed + i, &sum);
    }
    (void)printf(
        "%lu rounds: %u calls, %u consumers, %u messages\n", rounds, atomic_load(&sum.started),
        atomic_load(&sum.opened), atomic_load(&sum.messages));
    return atomic_load(&sum.messages) ? 0 : 1;
}
