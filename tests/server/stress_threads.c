/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The gRPC server while everything happens at once on other threads: answers come late, messages
 * are pushed, streams are ended by the broker or cancelled by clients, and at last the server is
 * stopped in the middle of it. Every call gets its answer, every message that arrives is whole and
 * in order, and the stand-in broker gets everything back. Meant for ThreadSanitizer.
 */
#include "base/error.h"
#include "broker/server.h"
#include "server/rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ROLES = 6,
    ROUNDS = 30,
    IN_FLIGHT = 40
};

static struct rig rig;
static atomic_bool stop;
static atomic_bool stopping; /* the server may break off anything */
static atomic_size_t answered;
static atomic_size_t messages;
static atomic_size_t streams;

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

static struct raw_call *call_some(struct raw_client *client, uint64_t *random)
{
    static const char *const queues[] = {"now", "late", "late"};
    char payload[3000] = {0};
    fila_request request = rig_enqueue(queues[pick(random, 3)], payload, pick(random, 3000));
    struct raw_call *call = raw_start_request(client, &request);
    if (pick(random, 16) == 0) {
        raw_cancel(call);
    }
    return call;
}

static void check_answer(struct raw_call *call)
{
    struct raw_end end = raw_finish(call);
    must(end.code == 0 || end.code == 1 || atomic_load(&stopping), end.text);
    atomic_fetch_add(&answered, 1);
    raw_end_free(&end);
}

static void *call_on(void *arg)
{
    uint64_t random = *(const uint64_t *)arg;
    struct raw_client *client = raw_open_port(fb_server_port(rig.server));
    struct raw_call *calls[IN_FLIGHT] = {0};
    while (!atomic_load(&stop)) {
        size_t i = pick(&random, IN_FLIGHT);
        if (calls[i]) {
            check_answer(calls[i]);
        }
        calls[i] = call_some(client, &random);
    }
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        if (calls[i]) {
            check_answer(calls[i]);
        }
    }
    raw_close(client);
    return NULL;
}

static void check_message(const fila_message *message, size_t number)
{
    char id[40];
    fila_view payload = fila_message_payload(message);
    (void)snprintf(id, sizeof id, "00000000-0000-7000-8000-%012zu", number);
    must(memcmp(fila_message_id(message).data, id, 36) == 0, "a message is missing");
    for (size_t i = 0; i < payload.len; i += 97) {
        must((unsigned char)payload.data[i] == ((i * 7 + number) & 255), "a payload is wrong");
    }
}

static void *read_on(void *arg)
{
    uint64_t random = *(const uint64_t *)arg;
    struct raw_client *client = raw_open_port(fb_server_port(rig.server));
    while (!atomic_load(&stop)) {
        struct raw_call *stream = raw_consume(client, pick(&random, 2) ? "odd" : "even");
        size_t count = pick(&random, 2000);
        fila_message *message = NULL;
        bool quiet = false;
        for (size_t i = 0; i < count; i++) {
            message = raw_next(stream, 100, &quiet);
            if (!message) {
                break;
            }
            check_message(message, i);
            fila_message_free(message);
            atomic_fetch_add(&messages, 1);
        }
        raw_cancel(stream);
        struct raw_end end = raw_finish(stream);
        must(end.code == 1 || end.code == 0 || atomic_load(&stopping), end.text);
        raw_end_free(&end);
        atomic_fetch_add(&streams, 1);
    }
    raw_close(client);
    return NULL;
}

static void *push_on(void *arg)
{
    uint64_t random = *(const uint64_t *)arg;
    fila_error end = FILA_ERROR_INIT;
    while (!atomic_load(&stop)) {
        const char *queue = pick(&random, 2) ? "odd" : "even";
        uint32_t size = pick(&random, 20) ? 400 : 20000;
        fake_push(rig.fake, queue, 1 + pick(&random, 20), pick(&random, size));
        if (pick(&random, 200) == 0) {
            fake_end(rig.fake, queue, &end);
        }
        while (fake_outstanding(rig.fake) > 200 && !atomic_load(&stop)) {
            struct timespec pause = {.tv_nsec = 1000000};
            (void)nanosleep(&pause, NULL);
        }
    }
    return NULL;
}

static void one_round(uint64_t seed)
{
    static void *(*const roles[ROLES])(void *) = {call_on, call_on, read_on,
                                                  read_on, push_on, push_on};
    pthread_t threads[ROLES];
    uint64_t seeds[ROLES];
    struct timespec pause = {.tv_nsec = 100000000};
    atomic_store(&stop, false);
    atomic_store(&stopping, false);
    rig = rig_open();
    atomic_store(&rig.server->relief.check_ms, seed % 3 ? 1 : 200); /* both threads, or one */
    for (size_t i = 0; i < ROLES; i++) {
        seeds[i] = seed * 100 + i;
        pthread_create(&threads[i], NULL, roles[i], &seeds[i]);
    }
    (void)nanosleep(&pause, NULL);
    atomic_store(&stopping, seed % 2 == 0);
    if (seed % 2 == 0) {
        fb_server_stop(rig.server);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < ROLES; i++) {
        pthread_join(threads[i], NULL);
    }
    rig_close(&rig);
}

int main(void)
{
    grpc_init();
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        one_round(seed);
    }
    grpc_shutdown();
    (void)printf(
        "%zu calls, %zu streams, %zu messages\n", atomic_load(&answered), atomic_load(&streams),
        atomic_load(&messages));
    return 0;
}
