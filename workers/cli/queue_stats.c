/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "queue.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define CLEAR "\033[H\033[J"

static json_t *keys_json(const fila_queue_stats *s)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < s->key_count; i++) {
        const fila_key_stats *k = &s->keys[i];
        (void)json_array_append_new(
            keys, json_pack(
                      "{s:o,s:I,s:I,s:I}", "key", fw_cli_queue_text(k->key), "pending",
                      (json_int_t)k->pending_count, "deficit", (json_int_t)k->current_deficit,
                      "weight", (json_int_t)k->weight));
    }
    return keys;
}

static json_t *throttles_json(const fila_queue_stats *s)
{
    json_t *throttles = json_array();
    for (size_t i = 0; i < s->throttle_count; i++) {
        const fila_throttle_stats *t = &s->throttles[i];
        (void)json_array_append_new(
            throttles, json_pack(
                           "{s:o,s:f,s:f,s:f}", "name", fw_cli_queue_text(t->key), "tokens",
                           t->tokens, "rate_per_second", t->rate_per_second, "burst", t->burst));
    }
    return throttles;
}

static void print_json(const fila_queue_stats *s)
{
    fw_cli_queue_json(json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "depth", (json_int_t)s->depth, "in_flight",
        (json_int_t)s->in_flight, "consumers", (json_int_t)s->active_consumers, "fairness_keys",
        (json_int_t)s->active_fairness_keys, "quantum", (json_int_t)s->quantum, "keys",
        keys_json(s), "throttles", throttles_json(s)));
}

static void print_page(const fila_queue_stats *s)
{
    (void)printf("depth          %" PRIu64 " (waiting + in flight)\n", s->depth);
    (void)printf("in flight      %" PRIu64 "\n", s->in_flight);
    (void)printf("consumers      %u\n", s->active_consumers);
    (void)printf("fairness keys  %" PRIu64 "\n", s->active_fairness_keys);
    for (size_t i = 0; i < s->key_count; i++) {
        (void)printf("  ");
        fw_cli_print_text(stdout, s->keys[i].key);
        (void)printf(
            ": %" PRIu64 " waiting, weight %u\n", s->keys[i].pending_count, s->keys[i].weight);
    }
    if (s->throttle_count) {
        (void)printf("throttles      of the whole broker\n");
    }
    for (size_t i = 0; i < s->throttle_count; i++) {
        const fila_throttle_stats *t = &s->throttles[i];
        (void)printf("  ");
        fw_cli_print_text(stdout, t->key);
        (void)printf(
            ": %.1f tokens, %g a second up to %g\n", t->tokens, t->rate_per_second, t->burst);
    }
}

static void clock_text(char text[16])
{
    time_t now = time(NULL);
    struct tm parts;
    (void)localtime_r(&now, &parts);
    (void)strftime(text, 16, "%H:%M:%S", &parts);
}

/* One line, under a header that comes with the first. */
static void print_line(const fila_queue_stats *s, bool first)
{
    char now[16];
    clock_text(now);
    if (first) {
        (void)printf(
            "%-8s %10s %10s %10s %10s\n", "TIME", "DEPTH", "IN FLIGHT", "CONSUMERS", "KEYS");
    }
    (void)printf(
        "%-8s %10" PRIu64 " %10" PRIu64 " %10u %10" PRIu64 "\n", now, s->depth, s->in_flight,
        s->active_consumers, s->active_fairness_keys);
}

static void print_screen(const struct queue_verb *v, const fila_queue_stats *s)
{
    char now[16];
    clock_text(now);
    (void)fputs(CLEAR, stdout);
    fw_cli_print_text(stdout, fila_view_of(v->name));
    (void)printf("  %s\n\n", now);
    print_page(s);
}

static void print(const struct queue_verb *v, const fila_queue_stats *s, bool first)
{
    if (v->json) {
        print_json(s);
    } else if (!v->watch) {
        print_page(s);
    } else if (isatty(STDOUT_FILENO)) {
        print_screen(v, s);
    } else {
        print_line(s, first);
    }
}

static void pause_for(int64_t ns)
{
    const struct timespec pause = {(time_t)(ns / FILA_S), (long)(ns % FILA_S)};
    (void)nanosleep(&pause, NULL);
}

int fw_cli_queue_stats(struct queue_verb *v)
{
    uint64_t count = v->watch ? v->count : 1;
    for (uint64_t i = 0; count == 0 || i < count; i++) {
        fila_reply *reply = NULL;
        fila_request request = {
            .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(v->name)}};
        int status;
        if (i) {
            pause_for(v->interval);
        }
        status = fw_cli_queue_call(v, &request, &reply);
        if (status) {
            return status;
        }
        print(v, &reply->as.stats, i == 0);
        fila_reply_free(reply);
        if (fflush(stdout) != 0) {
            return 0; /* fw_cli_finish tells */
        }
    }
    return 0;
}
