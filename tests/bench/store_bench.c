/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What durability costs. `store_bench FOLDER [rates] [depth]`, both parts unless named; the files
 * are made in FOLDER, which should be on a real disk.
 *
 * rates: calls a second with 64 in flight, enqueues and then deliveries with their acks, in memory,
 * with sync=normal and with sync=full, through the client library: in process, and over gRPC to a
 * broker in this process. The best of three rounds each, taken in turn, so that a busy machine is
 * busy for all.
 *
 * depth: a file with 1,000,000 waiting messages of 256 B: how long a start takes, what the process
 * holds; and what an enqueue and an ack cost (CPU time of all threads) at 1 k, 100 k and 1 M
 * waiting, and leased.
 */
#include "base/clock.h"
#include "broker/service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define IN_FLIGHT 64
#define PAYLOAD   1024
#define COUNT     30000
#define ROUNDS    3

static char payload[PAYLOAD];

static void must(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "store_bench: %s failed\n", what);
        abort();
    }
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void remove_file(const char *path)
{
    char wal[4200];
    (void)snprintf(wal, sizeof wal, "%s-wal", path);
    (void)unlink(path);
    (void)unlink(wal);
}

/* ---- A gate that lets 64 calls through ---- */

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t open;
    uint32_t in_flight;
    uint32_t done;
    uint32_t wanted; /* who drains waits for so many; 0 = nobody */
};

static void gate_init(struct gate *gate)
{
    memset(gate, 0, sizeof *gate);
    (void)pthread_mutex_init(&gate->lock, NULL);
    (void)pthread_cond_init(&gate->open, NULL);
}

static void gate_enter(struct gate *gate)
{
    (void)pthread_mutex_lock(&gate->lock);
    while (gate->in_flight >= IN_FLIGHT) {
        (void)pthread_cond_wait(&gate->open, &gate->lock);
    }
    gate->in_flight++;
    (void)pthread_mutex_unlock(&gate->lock);
}

static void gate_leave(struct gate *gate)
{
    (void)pthread_mutex_lock(&gate->lock);
    gate->done++;
    /* Wakes the caller for a batch, not for each. */
    if (gate->in_flight-- == IN_FLIGHT / 2 + 1 || gate->done == gate->wanted) {
        (void)pthread_cond_signal(&gate->open);
    }
    (void)pthread_mutex_unlock(&gate->lock);
}

static void gate_drain(struct gate *gate, uint32_t count)
{
    (void)pthread_mutex_lock(&gate->lock);
    gate->wanted = count;
    while (gate->done < count) {
        (void)pthread_cond_wait(&gate->open, &gate->lock);
    }
    gate->wanted = 0;
    (void)pthread_mutex_unlock(&gate->lock);
}

/* ---- Rates ---- */

struct bench {
    fila_client *client;
    struct gate gate;
    fila_consumer *consumer;
    fila_message *messages[COUNT]; /* read, to be acked when there is room */
    uint32_t read;
    uint32_t acked;
    uint32_t acks;
};

static void on_enqueued(void *user, const fila_reply *reply, const fila_error *error)
{
    struct bench *bench = user;
    (void)reply;
    must(!error, error ? error->text : "");
    gate_leave(&bench->gate);
}

static double enqueue_rate(struct bench *bench)
{
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    double began = seconds_of(CLOCK_MONOTONIC);
    fila_error error;
    request.as.enqueue.queue = fila_view_of("bench");
    request.as.enqueue.payload = (fila_view){payload, sizeof payload};
    gate_init(&bench->gate);
    for (int i = 0; i < COUNT; i++) {
        gate_enter(&bench->gate);
        must(
            fila_call_start(bench->client, &request, on_enqueued, bench, &error) == FILA_OK,
            "enqueue");
    }
    gate_drain(&bench->gate, COUNT);
    return COUNT / (seconds_of(CLOCK_MONOTONIC) - began);
}

static void ack_some(struct bench *bench);

static void on_acked(void *user, const fila_reply *reply, const fila_error *error)
{
    struct bench *bench = user;
    (void)reply;
    must(!error, error ? error->text : "");
    bench->acks--;
    gate_leave(&bench->gate);
    ack_some(bench);
}

/* On the client's thread, like all that it touches. */
static void ack_some(struct bench *bench)
{
    fila_error error;
    while (bench->acks < IN_FLIGHT && bench->acked < bench->read) {
        fila_message *message = bench->messages[bench->acked++];
        fila_request request = {.call = FILA_CALL_ACK};
        request.as.settle.queue = fila_message_queue(message);
        request.as.settle.message_id = fila_message_id(message);
        bench->acks++;
        must(fila_call_start(bench->client, &request, on_acked, bench, &error) == FILA_OK, "ack");
        fila_message_free(message);
        fila_consumer_grant(bench->consumer, 1);
    }
}

static void on_message(void *user, fila_message *message)
{
    struct bench *bench = user;
    bench->messages[bench->read++] = message;
    ack_some(bench);
}

static void on_end(void *user, const fila_error *why)
{
    (void)user;
    must(why->code == FILA_CANCELLED, why->text);
}

static double consume_rate(struct bench *bench)
{
    static const fila_consumer_events events = {on_message, on_end};
    double began = seconds_of(CLOCK_MONOTONIC);
    double rate;
    fila_error error;
    gate_init(&bench->gate);
    must(
        fila_consumer_open(
            bench->client, fila_view_of("bench"), &events, bench, &bench->consumer, &error) ==
            FILA_OK,
        "consume");
    fila_consumer_grant(bench->consumer, 1024);
    gate_drain(&bench->gate, COUNT);
    rate = COUNT / (seconds_of(CLOCK_MONOTONIC) - began);
    fila_consumer_free(bench->consumer);
    return rate;
}

struct rate {
    double enqueue;
    double consume;
};

static void better(double *best, double now)
{
    *best = now > *best ? now : *best;
}

static void one_rate(fila_broker_options options, bool grpc, struct rate *best)
{
    struct bench *bench = calloc(1, sizeof *bench);
    fila_client_options client = FILA_CLIENT_OPTIONS_INIT;
    fila_request create = {.call = FILA_CALL_CREATE_QUEUE};
    char url[64] = "embedded:";
    fila_broker *broker;
    fila_error error;
    options.listen = grpc ? "127.0.0.1:0" : NULL;
    if (options.path) {
        remove_file(options.path);
    }
    must(bench != NULL, "memory");
    must(fila_broker_open(&options, &broker, &error) == FILA_OK, error.text);
    if (grpc) {
        (void)snprintf(url, sizeof url, "grpc://127.0.0.1:%u", fila_broker_port(broker));
    }
    client.url = url;
    client.broker = grpc ? NULL : broker;
    client.call_timeout_ms = 60000;
    must(fila_client_open(&client, &bench->client, &error) == FILA_OK, error.text);
    create.as.create_queue.name = fila_view_of("bench");
    must(fila_call_wait(bench->client, &create, NULL, &error) == FILA_OK, error.text);
    better(&best->enqueue, enqueue_rate(bench));
    better(&best->consume, consume_rate(bench));
    fila_client_free(bench->client);
    fila_broker_free(broker);
    free(bench);
}

static void rates(const char *path)
{
    static const char *const MODE[] = {"in memory", "sync=normal", "sync=full"};
    for (int grpc = 0; grpc < 2; grpc++) {
        struct rate best[3] = {{0, 0}, {0, 0}, {0, 0}};
        printf("%s, 64 calls in flight, %d B\n", grpc ? "over gRPC" : "in process", PAYLOAD);
        for (int i = 0; i < ROUNDS * 3; i++) {
            fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
            options.path = i % 3 ? path : NULL;
            options.sync = i % 3 == 1 ? FILA_SYNC_NORMAL : FILA_SYNC_FULL;
            one_rate(options, grpc, &best[i % 3]);
        }
        for (int i = 0; i < 3; i++) {
            printf(
                "  %-12s enqueue %8.0f/s (%.2f)   deliver+ack %8.0f/s (%.2f)\n", MODE[i],
                best[i].enqueue, best[i].enqueue / best[0].enqueue, best[i].consume,
                best[i].consume / best[0].consume);
        }
    }
    remove_file(path);
}

/* ---- Depth ---- */

static void on_done(void *user, const fila_reply *reply, const fila_error *error)
{
    (void)reply;
    must(error->code == FILA_OK, error->text);
    gate_leave(user);
}

static void put(
    fila_broker *broker,
    struct gate *gate,
    const char *queue,
    uint32_t count,
    size_t len)
{
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    uint32_t before = gate->done;
    request.as.enqueue.queue = fila_view_of(queue);
    request.as.enqueue.payload = (fila_view){payload, len};
    for (uint32_t i = 0; i < count; i++) {
        gate_enter(gate);
        fb_call(broker, &request, on_done, gate);
    }
    gate_drain(gate, before + count);
}

static void create(fila_broker *broker, struct gate *gate, const char *queue)
{
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    uint32_t before = gate->done;
    request.as.create_queue.name = fila_view_of(queue);
    request.as.create_queue.visibility_timeout_ms = 86400000;
    gate_enter(gate);
    fb_call(broker, &request, on_done, gate);
    gate_drain(gate, before + 1);
}

struct reader {
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool ready;
    struct fb_consumer *consumer;
};

static void on_ready(void *user)
{
    struct reader *reader = user;
    (void)pthread_mutex_lock(&reader->lock);
    reader->ready = true;
    (void)pthread_cond_signal(&reader->told);
    (void)pthread_mutex_unlock(&reader->lock);
}

static void reader_open(struct reader *reader, fila_broker *broker, const char *queue)
{
    static const struct fb_consumer_events events = {on_ready};
    fila_error error;
    memset(reader, 0, sizeof *reader);
    (void)pthread_mutex_init(&reader->lock, NULL);
    (void)pthread_cond_init(&reader->told, NULL);
    must(
        fb_consumer_open(broker, fila_view_of(queue), &events, reader, &reader->consumer, &error) ==
            FILA_OK,
        "consume");
}

static void reader_next(struct reader *reader, struct fb_delivery *ret_delivery)
{
    fila_error end;
    while (fb_consumer_take(reader->consumer, ret_delivery, &end) != FB_TAKE_MESSAGE) {
        (void)pthread_mutex_lock(&reader->lock);
        while (!reader->ready) {
            (void)pthread_cond_wait(&reader->told, &reader->lock);
        }
        reader->ready = false;
        (void)pthread_mutex_unlock(&reader->lock);
    }
}

/* Takes and acks, or only takes: then each needs a command of somebody to go on. */
static void take(
    fila_broker *broker,
    struct gate *gate,
    struct reader *reader,
    uint32_t count,
    bool ack)
{
    fila_request request = {.call = ack ? FILA_CALL_ACK : FILA_CALL_GET_CONFIG};
    uint32_t before = gate->done;
    for (uint32_t i = 0; i < count; i++) {
        struct fb_delivery delivery;
        reader_next(reader, &delivery);
        request.as.settle.queue = delivery.fields.queue;
        request.as.settle.message_id = delivery.fields.id;
        if (!ack) {
            request.as.config.key = fila_view_of("k");
        }
        gate_enter(gate);
        fb_call(broker, &request, on_done, gate);
        fb_delivery_release(&delivery);
    }
    gate_drain(gate, before + count);
}

/* CPU microseconds of an enqueue and of a delivery with its ack, on a queue of their own. */
static void costs(fila_broker *broker, struct gate *gate, struct reader *reader, const char *when)
{
    const uint32_t count = 20000;
    double least[2] = {1e9, 1e9};
    for (int round = 0; round < ROUNDS; round++) {
        double began = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
        double middle;
        double end;
        put(broker, gate, "bench", count, 256);
        middle = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
        take(broker, gate, reader, count, true);
        end = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
        least[0] = middle - began < least[0] ? middle - began : least[0];
        least[1] = end - middle < least[1] ? end - middle : least[1];
    }
    printf(
        "  %-24s enqueue %5.1f us   deliver+ack %5.1f us (CPU, all threads)\n", when,
        least[0] / count * 1e6, least[1] / count * 1e6);
    (void)fflush(stdout);
}

static long resident_kib(void)
{
    char line[128] = "0 0";
    char *second;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        must(fgets(line, sizeof line, file) != NULL, "statm");
        (void)fclose(file);
    }
    second = strchr(line, ' ');
    return second ? strtol(second, NULL, 10) * 4 : 0;
}

static fila_broker *open_file(const char *path, const char *what)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    double began = seconds_of(CLOCK_MONOTONIC);
    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    fila_broker *broker;
    fila_error error;
    options.path = path;
    options.sync = FILA_SYNC_NORMAL;
    must(fila_broker_open(&options, &broker, &error) == FILA_OK, error.text);
    printf(
        "%s: start %.2f s (%.2f s CPU), resident %ld MiB\n", what,
        seconds_of(CLOCK_MONOTONIC) - began, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu,
        resident_kib() / 1024);
    return broker;
}

static void fill_to(fila_broker *broker, struct gate *gate, uint32_t *depth, uint32_t wanted)
{
    put(broker, gate, "deep", wanted - *depth, 256);
    *depth = wanted;
}

static void depth(const char *path)
{
    static const uint32_t DEPTHS[] = {1000, 100000, 1000000};
    struct gate gate;
    struct reader reader;
    struct reader hoarder;
    uint32_t waiting = 0;
    uint32_t leased = 0;
    char when[64];
    fila_broker *broker;
    remove_file(path);
    gate_init(&gate);
    broker = open_file(path, "an empty file");
    create(broker, &gate, "bench");
    create(broker, &gate, "deep");
    reader_open(&reader, broker, "bench");
    for (int i = 0; i < 3; i++) {
        fill_to(broker, &gate, &waiting, DEPTHS[i]);
        (void)snprintf(when, sizeof when, "%u waiting", waiting);
        costs(broker, &gate, &reader, when);
    }
    fb_consumer_close(reader.consumer);
    fila_broker_free(broker);
    broker = open_file(path, "1,000,000 waiting messages of 256 B");
    reader_open(&reader, broker, "bench");
    reader_open(&hoarder, broker, "deep");
    for (int i = 0; i < 3; i++) {
        take(broker, &gate, &hoarder, DEPTHS[i] - leased, false);
        leased = DEPTHS[i];
        (void)snprintf(when, sizeof when, "%u leased", leased);
        costs(broker, &gate, &reader, when);
    }
    fb_consumer_close(hoarder.consumer);
    fb_consumer_close(reader.consumer);
    fila_broker_free(broker);
    broker = open_file(path, "1,000,000 leased messages of 256 B");
    fila_broker_free(broker);
    remove_file(path);
}

int main(int argc, char **argv)
{
    char path[4096];
    bool all = argc == 2;
    if (argc < 2) {
        (void)fprintf(stderr, "usage: store_bench FOLDER [rates] [depth]\n");
        return 64;
    }
    (void)snprintf(path, sizeof path, "%s/store_bench.db", argv[1]);
    for (int i = 2; i < argc || all; i++) {
        if (all || strcmp(argv[i], "rates") == 0) {
            rates(path);
        }
        if (all || strcmp(argv[i], "depth") == 0) {
            depth(path);
        }
        all = false;
    }
    return 0;
}
