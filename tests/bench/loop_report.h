/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the loops of this folder share: their options, and the line that they print.
 *
 *   LOOP address=HOST:PORT [messages=20000] [warm=2000] [in_flight=64] [window=65536]
 * [queue=orders]
 *
 * Prints one JSON object: messages, rate (messages a second), cpu_us, user_us and sys_us (of the
 * whole process, a message), p50_us and p99_us (from the read of a message to the answer of its
 * ack).
 */
#ifndef TESTS_BENCH_LOOP_REPORT_H
#define TESTS_BENCH_LOOP_REPORT_H

#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct loop {
    const char *address;
    const char *queue;
    unsigned long messages;
    unsigned long warm;
    unsigned in_flight;
    unsigned window;
    unsigned long acked;
    int64_t began;
    struct rusage used;
    uint32_t *latency_us; /* of each message after the warm-up */
};

static inline const char *loop_option(int argc, char **argv, const char *name, const char *fallback)
{
    size_t len = strlen(name);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') {
            return argv[i] + len + 1;
        }
    }
    return fallback;
}

static inline struct loop loop_init(int argc, char **argv)
{
    struct loop l = {
        .address = loop_option(argc, argv, "address", NULL),
        .queue = loop_option(argc, argv, "queue", "orders"),
        .messages = strtoul(loop_option(argc, argv, "messages", "20000"), NULL, 10),
        .warm = strtoul(loop_option(argc, argv, "warm", "2000"), NULL, 10),
        .in_flight = (unsigned)strtoul(loop_option(argc, argv, "in_flight", "64"), NULL, 10),
        .window = (unsigned)strtoul(loop_option(argc, argv, "window", "65536"), NULL, 10),
    };
    if (!l.address || !l.messages || !l.in_flight) {
        (void)fprintf(
            stderr,
            "usage: %s address=HOST:PORT [messages=20000] [warm=2000] [in_flight=64] "
            "[window=65536] [queue=orders]\n",
            argv[0]);
        _exit(64);
    }
    l.latency_us = calloc(l.messages, sizeof *l.latency_us);
    return l;
}

/* One ack was answered, for a message read at `since`. True when that was the last. */
static inline bool loop_acked(struct loop *l, int64_t since)
{
    int64_t now = fila_now();
    if (l->acked == l->warm) {
        l->began = now;
        getrusage(RUSAGE_SELF, &l->used);
    }
    if (l->acked >= l->warm && l->acked < l->warm + l->messages) {
        l->latency_us[l->acked - l->warm] = (uint32_t)((now - since) / FILA_US);
    }
    return ++l->acked >= l->warm + l->messages;
}

static int loop_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static inline double loop_us(struct timeval from, struct timeval to)
{
    return (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_usec - from.tv_usec);
}

static inline void loop_print(struct loop *l)
{
    struct rusage now;
    double count = (double)l->messages;
    double seconds = (double)(fila_now() - l->began) / 1e9;
    getrusage(RUSAGE_SELF, &now);
    double user = loop_us(l->used.ru_utime, now.ru_utime) / count;
    double sys = loop_us(l->used.ru_stime, now.ru_stime) / count;
    qsort(l->latency_us, l->messages, sizeof *l->latency_us, loop_compare);
    printf(
        "{\"messages\":%lu,\"rate\":%.0f,\"cpu_us\":%.2f,\"user_us\":%.2f,\"sys_us\":%.2f,\"p50_us\":%u,"
        "\"p99_us\":%u}\n",
        l->messages, count / seconds, user + sys, user, sys, l->latency_us[l->messages / 2],
        l->latency_us[l->messages * 99 / 100]);
    free(l->latency_us);
}

#endif
