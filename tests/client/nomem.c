/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Codec and client when memory runs out: each allocation of each operation fails in turn, and each
 * time the operation says FILA_NO_MEMORY, writes nothing out, and leaves nothing behind (which the
 * sanitizer builds check).
 */
#include "client/fake_transport.h"
#include "src/client_impl.h"
#include "support/failing_malloc.h"
#include "wire/codec.h"
#include "wire/pairs.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                           \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

static unsigned refusals;

/* Runs `operation` with its 1st, 2nd, ... allocation failing, until it has no more of them. */
static void exhaust(const char *name, fila_status (*operation)(void *), void *user, unsigned least)
{
    unsigned nth = 1;
    for (bool failed = true; failed; nth++) {
        fail_nth_allocation(nth);
        fila_status status = operation(user);
        failed = allocation_failed();
        if (status != (failed ? FILA_NO_MEMORY : FILA_OK)) {
            (void)fprintf(stderr, "%s: %s at %u\n", name, fila_status_name(status), nth);
            abort();
        }
        refusals += failed;
    }
    MUST(nth - 2 >= least);
}

/* ---- Codec ---- */

static fila_status read_request(void *user)
{
    const struct pair *pair = user;
    struct fila_scratch scratch = {0};
    fila_request request;
    fila_status status =
        fila_request_read(pair->request.call, pair->bytes, pair->len, &scratch, &request, NULL);
    fila_scratch_free(&scratch);
    return status;
}

static fila_status read_reply(void *user)
{
    const struct pair *pair = user;
    struct fila_scratch scratch = {0};
    fila_reply reply;
    fila_status status =
        fila_reply_read(pair->reply.call, pair->bytes, pair->len, &scratch, &reply, NULL);
    fila_scratch_free(&scratch);
    return status;
}

static fila_status copy_reply(void *user)
{
    const struct pair *pair = user;
    fila_reply *copy = fila_reply_copy(&pair->reply);
    bool copied = copy != NULL;
    fila_reply_free(copy);
    return copied ? FILA_OK : FILA_NO_MEMORY;
}

static fila_status read_message(void *user)
{
    const fila_view *bytes = user;
    fila_message *message = NULL;
    fila_status status =
        fila_message_read((const uint8_t *)bytes->data, bytes->len, NULL, NULL, &message, NULL);
    MUST((message != NULL) == (status == FILA_OK));
    fila_message_free(message);
    return status;
}

static void codec(void)
{
    static struct pair pairs[PAIRS_MAX];
    static const char twice[] = "\x0a\x07\x0a\x01i\x12\x02\x0a\x00\x0a\x03\x0a\x01j";
    fila_view once = {twice, 9};
    fila_view merged = {twice, sizeof twice - 1};
    size_t count = make_request_pairs(pairs);
    for (size_t i = 0; i < count; i++) {
        exhaust(pairs[i].name, read_request, &pairs[i], 0);
    }
    free_pairs(pairs, count);
    count = make_reply_pairs(pairs);
    for (size_t i = 0; i < count; i++) {
        exhaust(pairs[i].name, read_reply, &pairs[i], 0);
        exhaust(pairs[i].name, copy_reply, &pairs[i], 1);
    }
    free_pairs(pairs, count);
    exhaust("a message", read_message, &once, 1);
    exhaust("a merged message", read_message, &merged, 1);
}

/* ---- Client ---- */

static fila_client *client;

static fila_status open_client(void *user)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_client *opened = NULL;
    fila_status status = fc_open_over(user, &options, &opened, NULL);
    if (!status) {
        client = opened;
    }
    return status;
}

static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    (void)user;
    (void)reply;
    (void)error;
}

static fila_status start_call(void *user)
{
    return fila_call_start(client, user, on_reply, NULL, NULL);
}

static fila_status open_consumer(void *user)
{
    fila_consumer *consumer = NULL;
    (void)user;
    fila_status status = fila_consumer_open(client, fila_view_of("q"), NULL, NULL, &consumer, NULL);
    MUST((consumer != NULL) == (status == FILA_OK));
    fila_consumer_free(consumer);
    return status;
}

static fila_status produce(void *user)
{
    fila_producer_options options = FILA_PRODUCER_OPTIONS_INIT;
    fila_producer *producer = NULL;
    (void)user;
    fila_status status = fila_producer_open(client, &options, &producer, NULL);
    MUST((producer != NULL) == (status == FILA_OK));
    if (!status) {
        status =
            fila_producer_send(producer, fila_view_of("q"), NULL, 0, fila_view_of("p"), NULL, NULL);
    }
    if (!status) {
        MUST(!fila_producer_flush(producer, -1, NULL));
    }
    fila_producer_free(producer);
    return status;
}

static fila_status list_endpoints(void *user)
{
    const char *const urls[] = {"grpc://a:1", "grpc://b:1"};
    fila_endpoints *endpoints = NULL;
    (void)user;
    fila_status status = fila_endpoints_new(urls, 2, 1, 1, 1, &endpoints, NULL);
    fila_endpoints_free(endpoints);
    return status;
}

static void clients(void)
{
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    request.as.enqueue.queue = fila_view_of("q");
    exhaust("a client", open_client, fake_transport(fake_new(true)), 1);
    exhaust("a call", start_call, &request, 1);
    exhaust("a consumer", open_consumer, NULL, 1);
    exhaust("a producer", produce, NULL, 2);
    exhaust("endpoints", list_endpoints, NULL, 2);
    fila_client_free(client);
    MUST(fake_transports_alive() == 0);
}

int main(void)
{
    codec();
    clients();
    (void)printf("%u allocations failed in turn\n", refusals);
    return refusals < 45; /* else the operations no longer do what they did */
}
