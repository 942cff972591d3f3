/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the queue engine alone costs: full message lives (enqueue 1 KiB, lease, ack) a second on one
 * core, the same with many messages waiting or leased, and the memory of waiting messages. CPU time
 * of this process, so that a busy machine does not blur it; the best of several rounds.
 */
#include "base/clock.h"
#include "broker/queue.h"

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
