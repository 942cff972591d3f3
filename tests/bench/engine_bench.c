/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the queue engine alone costs: full message lives (enqueue 1 KiB, lease, ack) a second on one
 * core, the same with many messages waiting or leased, and the memory of waiting messages. CPU time
 * of this process, so that a busy machine does not blur it; the best of several rounds.
 */
#include "base/clock.h"
#include "broker/queue.h"
#include "broker/service.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PAYLOAD 1024
#define ROUNDS  5
#define LIVES   200000

static char payload[PAYLOAD];
static struct fq_engine *engine;
static int64_t now = FILA_S;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "engine_bench: %s failed\n", what);
        abort();
    }
}

static void put(const char *queue, size_t len)
{
    struct fq_enqueue in = {fila_view_of(queue), NULL, 0, {payload, len}};
    now += 1000;
    must(fq_enqueue(engine, now, now / FILA_MS, &in, NULL) == FILA_OK, "enqueue");
}

/* Takes and acks all that is in the slots. */
static uint32_t finish(struct fq_consumer *consumer)
{
    struct fq_delivery delivery;
    uint32_t count = 0;
    while (fq_take(consumer, &delivery)) {
        now += 1000;
        must(fq_ack(engine, now, delivery.fields.queue, delivery.fields.id) == FILA_OK, "ack");
        fq_delivery_release(&delivery);
        count++;
    }
    return count;
}

static struct fq_consumer *start(const char *queue)
{
    struct fq_consumer *consumer;
    must(fq_create_queue(engine, now, fila_view_of(queue), NULL) == FILA_OK, "create");
    must(fq_consumer_open(engine, now, fila_view_of(queue), NULL, &consumer) == FILA_OK, "open");
    return consumer;
}

/* Lives a second, `batch` messages at a time. */
static double lives(struct fq_consumer *consumer, const char *queue, uint32_t batch)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double began = cpu_seconds();
        uint32_t done = 0;
        double rate;
        while (done < LIVES) {
            for (uint32_t i = 0; i < batch; i++) {
                put(queue, PAYLOAD);
            }
            done += finish(consumer);
        }
        rate = done / (cpu_seconds() - began);
        best = rate > best ? rate : best;
    }
    return best;
}

static void row(const char *what, double rate)
{
    printf("%-52s %10.0f lives/s %8.0f ns\n", what, rate, 1e9 / rate);
}

static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
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

static void waiting(const char *queue, uint32_t count, size_t len)
{
    size_t before = in_use();
    long resident = resident_kib();
    for (uint32_t i = 0; i < count; i++) {
        put(queue, len);
    }
    printf(
        "%u waiting messages of %zu B: %.1f MB in use, %.0f B each; resident +%.1f MB\n", count,
        len, (double)(in_use() - before) / 1e6, (double)(in_use() - before) / count,
        (double)(resident_kib() - resident) / 1e3);
}

static void leases(const char *queue, uint32_t count)
{
    struct fq_consumer *consumer = start(queue);
    struct fq_delivery delivery;
    for (uint32_t i = 0; i < count; i++) {
        put(queue, 64);
        must(fq_take(consumer, &delivery), "take");
        fq_delivery_release(&delivery);
    }
}

/* ---- The same through the service: its lock, its checks, its clock ---- */

static void note_status(void *user, const fila_reply *reply, const fila_error *error)
{
    fila_status *status = user;
    (void)reply;
    *status = error->code;
}

static void call(fila_broker *broker, const fila_request *request)
{
    fila_status status = FILA_INTERNAL;
    fb_call(broker, request, note_status, &status);
    must(status == FILA_OK, fila_call_name(request->call));
}

static void ignore_ready(void *user)
{
    (void)user;
}

static uint32_t finish_service(fila_broker *broker, struct fb_consumer *consumer)
{
    fila_request ack = {.call = FILA_CALL_ACK};
    struct fb_delivery delivery;
    fila_error end;
    uint32_t count = 0;
    while (fb_consumer_take(consumer, &delivery, &end) == FB_TAKE_MESSAGE) {
        ack.as.settle.queue = delivery.fields.queue;
        ack.as.settle.message_id = delivery.fields.id;
        call(broker, &ack);
        fb_delivery_release(&delivery);
        count++;
    }
    return count;
}

static double service_lives(void)
{
    static const struct fb_consumer_events events = {ignore_ready};
    fila_request create = {.call = FILA_CALL_CREATE_QUEUE};
    fila_request enqueue = {.call = FILA_CALL_ENQUEUE};
    fila_broker *broker;
    struct fb_consumer *consumer;
    fila_error error;
    uint32_t done = 0;
    double began;
    create.as.create_queue.name = fila_view_of("bench");
    enqueue.as.enqueue.queue = fila_view_of("bench");
    enqueue.as.enqueue.payload = (fila_view){payload, PAYLOAD};
    must(fila_broker_open(NULL, &broker, &error) == FILA_OK, "open a broker");
    call(broker, &create);
    must(
        fb_consumer_open(broker, fila_view_of("bench"), &events, NULL, &consumer, &error) ==
            FILA_OK,
        "consume");
    began = cpu_seconds();
    while (done < LIVES) {
        for (int i = 0; i < 64; i++) {
            call(broker, &enqueue);
        }
        done += finish_service(broker, consumer);
    }
    began = cpu_seconds() - began;
    fb_consumer_close(consumer);
    fila_broker_free(broker);
    return done / began;
}

int main(void)
{
    struct fq_config config = FQ_CONFIG_INIT;
    struct fq_consumer *consumer;
    double plain;
    memset(payload, 'x', sizeof payload);
    engine = fq_new(&config, now);
    must(engine != NULL, "new");
    consumer = start("bench");
    plain = lives(consumer, "bench", 64);
    row("nothing else in the broker, 64 at a time", plain);
    row("through the service (fb_call)", service_lives());
    row("one at a time", lives(consumer, "bench", 1));
    leases("held", 100000);
    row("100,000 messages leased elsewhere", lives(consumer, "bench", 64));
    must(fq_create_queue(engine, now, fila_view_of("deep"), NULL) == FILA_OK, "create");
    waiting("deep", 100000, PAYLOAD);
    row("and 100,000 waiting", lives(consumer, "bench", 64));
    waiting("deep", 1000000, 256);
    row("and 1,100,000 waiting", lives(consumer, "bench", 64));
    fq_free(engine);
    printf("engine lives/s: %.0f\n", plain);
    return plain >= 300000 ? 0 : 1;
}
