/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A bounded load on a server, for server.sh, which counts the server's instructions meanwhile:
 *
 *   server_load PORT create=0|1 enqueue=N consume=N ack=N [payload=1024] [in_flight=64]
 *   server_load PORT streams=N
 *
 * one after the other: creates the queue "orders" if asked, enqueues, opens a stream and reads that
 * many messages, acks the first of them with `in_flight` calls at once, and leaves. Prints the
 * seconds that each part took. With streams=N it opens a stream on each of N queues, sends and
 * reads a message on each, prints "ready", and holds them until its standard input ends.
 */
#include "base/clock.h"
#include "server/raw_client.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUE "orders"

struct load {
    struct raw_client *client;
    long create;
    long enqueue;
    long consume;
    long ack;
    long payload;
    long in_flight;
    fila_message **messages; /* `consume` of them */
    char *bytes;             /* a payload */
};

static void must(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "server_load: %s\n", what);
        _Exit(1);
    }
}

static long option(int argc, char **argv, const char *name, long fallback)
{
    size_t len = strlen(name);
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') {
            return strtol(argv[i] + len + 1, NULL, 10);
        }
    }
    return fallback;
}

static void finish(struct raw_call *call)
{
    struct raw_end end = raw_finish(call);
    must(end.code == 0, end.text);
    raw_end_free(&end);
}

static struct raw_call *start_enqueue(struct load *load, long number)
{
    static const fila_header headers[] = {
        {{"x-tenant-name", 13}, {"a-value-of-twenty-ch", 20}},
        {{"x-other-name", 12}, {"a-value-of-twenty-ch", 20}},
    };
    fila_request request = {
        .call = FILA_CALL_ENQUEUE,
        .timeout_ms = 300000,
        .as.enqueue =
            {
                .queue = fila_view_of(QUEUE),
                .headers = headers,
                .header_count = 2,
                .payload = {load->bytes, (size_t)load->payload},
            },
    };
    (void)number;
    return raw_start_request(load->client, &request);
}

static struct raw_call *start_ack(struct load *load, long number)
{
    fila_request request = {
        .call = FILA_CALL_ACK,
        .timeout_ms = 300000,
        .as.settle =
            {
                .queue = fila_view_of(QUEUE),
                .message_id = fila_message_id(load->messages[number]),
            },
    };
    return raw_start_request(load->client, &request);
}

/* `count` calls, `in_flight` at once. */
static void pipeline(
    struct load *load,
    long count,
    struct raw_call *(*start)(struct load *load, long number))
{
    struct raw_call **calls = calloc((size_t)load->in_flight, sizeof *calls);
    must(calls, "no memory");
    for (long i = 0; i < count + load->in_flight; i++) {
        struct raw_call **call = &calls[i % load->in_flight];
        if (*call) {
            finish(*call);
        }
        *call = i < count ? start(load, i) : NULL;
    }
    free(calls);
}

static void create_queue(struct load *load)
{
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE,
        .timeout_ms = 300000,
        .as.create_queue = {.name = fila_view_of(QUEUE), .visibility_timeout_ms = 3600000},
    };
    finish(raw_start_request(load->client, &request));
}

static double seconds_since(int64_t *last)
{
    int64_t now = fila_now();
    double seconds = (double)(now - *last) / (double)FILA_S;
    *last = now;
    return seconds;
}

static void run(struct load *load)
{
    struct raw_call *stream = NULL;
    int64_t at = fila_now();
    if (load->create) {
        create_queue(load);
    }
    (void)seconds_since(&at);
    pipeline(load, load->enqueue, start_enqueue);
    double enqueue = seconds_since(&at);
    if (load->consume) {
        stream = raw_consume(load->client, QUEUE);
    }
    for (long i = 0; i < load->consume; i++) {
        load->messages[i] = raw_next(stream, 60000, NULL);
        must(load->messages[i], "a message is missing");
    }
    double consume = seconds_since(&at);
    pipeline(load, load->ack, start_ack);
    double ack = seconds_since(&at);
    if (stream) {
        struct raw_end end;
        raw_cancel(stream);
        end = raw_finish(stream);
        raw_end_free(&end);
    }
    (void)printf("enqueue %.3f consume %.3f ack %.3f\n", enqueue, consume, ack);
}

/* ---- Many streams ---- */

static void call(struct load *load, const fila_request *request)
{
    finish(raw_start_request(load->client, request));
}

static void hold_streams(struct load *load, long count)
{
    struct raw_call **streams = calloc((size_t)count, sizeof *streams);
    char name[32];
    must(streams, "no memory");
    for (long i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "queue-%ld", i);
        fila_view queue = fila_view_of(name);
        call(load, &(fila_request){.call = FILA_CALL_CREATE_QUEUE, .as.create_queue.name = queue});
        streams[i] = raw_consume(load->client, name);
        must(raw_headers(streams[i], 60000), "a stream is not answered");
        call(load, &(fila_request){.call = FILA_CALL_ENQUEUE, .as.enqueue.queue = queue});
        fila_message *message = raw_next(streams[i], 60000, NULL);
        must(message, "a message is missing");
        fila_message_free(message);
    }
    (void)puts("ready");
    (void)fflush(stdout);
    (void)getchar();
    for (long i = 0; i < count; i++) {
        raw_cancel(streams[i]);
        struct raw_end end = raw_finish(streams[i]);
        raw_end_free(&end);
    }
    free(streams);
}

int main(int argc, char **argv)
{
    struct load load = {
        .create = option(argc, argv, "create", 0),
        .enqueue = option(argc, argv, "enqueue", 0),
        .consume = option(argc, argv, "consume", 0),
        .ack = option(argc, argv, "ack", 0),
        .payload = option(argc, argv, "payload", 1024),
        .in_flight = option(argc, argv, "in_flight", 64),
    };
    must(argc > 1, "which port?");
    must(load.ack <= load.consume && load.in_flight > 0 && load.payload >= 0, "impossible options");
    load.messages = calloc((size_t)load.consume + 1, sizeof *load.messages);
    load.bytes = calloc(1, (size_t)load.payload + 1);
    must(load.messages && load.bytes, "no memory");
    load.client = raw_open_lean((uint16_t)strtol(argv[1], NULL, 10));
    long streams = option(argc, argv, "streams", 0);
    if (streams > 0) {
        hold_streams(&load, streams);
    } else {
        run(&load);
    }
    for (long i = 0; i < load.consume; i++) {
        fila_message_free(load.messages[i]);
    }
    raw_close(load.client);
    free(load.messages);
    free(load.bytes);
    return 0;
}
