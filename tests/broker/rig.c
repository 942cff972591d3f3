/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>

/* ---- Hooks ---- */

static bool is(fila_view text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

static uint32_t number(fila_view text)
{
    uint32_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    return value;
}

static void on_enqueue(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    struct fq_plan *plan)
{
    static fila_view throttles[8];
    (void)user;
    (void)scripts;
    plan->throttle_keys = throttles;
    for (size_t i = 0; i < message->header_count; i++) {
        const fila_header *header = &message->headers[i];
        if (is(header->key, "key")) {
            plan->fairness_key = header->value;
        } else if (is(header->key, "weight")) {
            plan->weight = number(header->value);
        } else {
            throttles[plan->throttle_key_count++] = header->value;
        }
    }
}

static enum fq_failure on_failure(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    fila_view error)
{
    struct rig *rig = user;
    (void)scripts;
    rig->failures++;
    rig->failure_attempts = message->attempt_count;
    (void)snprintf(
        rig->failure_error, sizeof rig->failure_error, "%.*s", (int)error.len, error.data);
    return rig->on_failure;
}

static void on_release(void *user, void *scripts)
{
    struct rig *rig = user;
    (void)scripts;
    rig->released++;
}

/* ---- The rig ---- */

struct rig *rig_open_with(uint32_t quantum)
{
    struct fq_config config = FQ_CONFIG_INIT;
    struct rig *rig = calloc(1, sizeof *rig);
    cr_assert(ne(ptr, rig, NULL));
    rig->now = 1000 * FILA_S;
    config.quantum = quantum;
    config.hooks = (struct fq_hooks){rig, on_enqueue, on_failure, on_release};
    rig->engine = fq_new(&config, rig->now);
    cr_assert(ne(ptr, rig->engine, NULL));
    return rig;
}

struct rig *rig_open(void)
{
    return rig_open_with(1000);
}

void rig_close(struct rig *rig)
{
    fq_free(rig->engine);
    free(rig);
}

static void check(struct rig *rig)
{
    const char *problem = fq_check(rig->engine);
    cr_assert(eq(ptr, (void *)(uintptr_t)problem, NULL), "%s", problem ? problem : "");
}

void rig_create(struct rig *rig, const char *queue, int64_t vt_ms)
{
    struct fq_queue_options options = {.visibility_timeout = vt_ms * FILA_MS, .scripts = rig};
    cr_assert(
        eq(int, fq_create_queue(rig->engine, rig->now, fila_view_of(queue), &options), FILA_OK));
    check(rig);
}

static fila_status put(
    struct rig *rig,
    const char *queue,
    char letter,
    const fila_header *headers,
    size_t count)
{
    struct fq_enqueue in = {fila_view_of(queue), headers, count, {&letter, 1}};
    fila_status status = fq_enqueue(rig->engine, rig->now, RIG_WALL_MS, &in, rig->ids[(int)letter]);
    check(rig);
    return status;
}

fila_status rig_put(struct rig *rig, const char *queue, char letter)
{
    return put(rig, queue, letter, NULL, 0);
}

void rig_put_as(
    struct rig *rig,
    const char *queue,
    const char *letters,
    const char *key,
    uint32_t weight,
    const char *throttles)
{
    char number[16];
    char words[64] = "";
    char *rest = NULL;
    size_t count = 2;
    fila_header headers[10] = {{fila_view_of("key"), fila_view_of(key)}};
    (void)snprintf(number, sizeof number, "%u", weight);
    (void)snprintf(words, sizeof words, "%s", throttles ? throttles : "");
    headers[1] = (fila_header){fila_view_of("weight"), fila_view_of(number)};
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        static char names[10][12];
        (void)snprintf(names[count], sizeof names[count], "throttle%zu", count);
        headers[count] = (fila_header){fila_view_of(names[count]), fila_view_of(word)};
        count++;
    }
    for (; *letters; letters++) {
        cr_assert(eq(int, put(rig, queue, *letters, headers, count), FILA_OK));
    }
}

void rig_fill(struct rig *rig, const char *queue, uint32_t count)
{
    while (count--) {
        cr_assert(eq(int, rig_put(rig, queue, 'x'), FILA_OK));
    }
}

struct fq_consumer *rig_consume(struct rig *rig, const char *queue)
{
    struct fq_consumer *consumer;
    cr_assert(
        eq(int, fq_consumer_open(rig->engine, rig->now, fila_view_of(queue), NULL, &consumer),
           FILA_OK));
    check(rig);
    return consumer;
}

void rig_leave(struct rig *rig, struct fq_consumer *consumer)
{
    fq_consumer_close(rig->engine, rig->now, consumer);
    check(rig);
}

const char *rig_take(struct rig *rig, struct fq_consumer *consumer)
{
    static char text[4096];
    size_t at = 0;
    struct fq_delivery delivery;
    text[0] = '\0';
    while (fq_take(consumer, &delivery)) {
        int letter = delivery.fields.payload.data[0];
        rig->lease_ends[letter] = delivery.lease_end;
        at += (size_t)snprintf(text + at, sizeof text - at, "%c", letter);
        if (delivery.fields.attempt_count) {
            at +=
                (size_t)snprintf(text + at, sizeof text - at, "%u", delivery.fields.attempt_count);
        }
        fq_delivery_release(&delivery);
    }
    check(rig);
    return text;
}

uint32_t rig_take_some(struct rig *rig, struct fq_consumer *consumer, uint32_t count)
{
    struct fq_delivery delivery;
    uint32_t taken = 0;
    while (taken < count && fq_take(consumer, &delivery)) {
        fq_delivery_release(&delivery);
        taken++;
    }
    check(rig);
    return taken;
}

fila_status rig_ack(struct rig *rig, const char *queue, char letter)
{
    fila_status status =
        fq_ack(rig->engine, rig->now, fila_view_of(queue), fila_view_of(rig->ids[(int)letter]));
    check(rig);
    return status;
}

fila_status rig_nack(struct rig *rig, const char *queue, char letter)
{
    fila_status status = fq_nack(
        rig->engine, rig->now, fila_view_of(queue), fila_view_of(rig->ids[(int)letter]),
        fila_view_of("it broke"));
    check(rig);
    return status;
}

void rig_pass(struct rig *rig, int64_t ms)
{
    int64_t until = rig->now + ms * FILA_MS;
    while (fq_wake_at(rig->engine) <= until) {
        rig->now = fq_wake_at(rig->engine);
        fq_tick(rig->engine, rig->now);
        check(rig);
        cr_assert(gt(i64, fq_wake_at(rig->engine), rig->now), "a tick leads to a later one");
    }
    rig->now = until;
}

void rig_foreign(struct rig *rig)
{
    cr_assert(eq(int, rig_put(rig, "no such queue", '?'), FILA_QUEUE_NOT_FOUND));
}

const char *rig_stats(struct rig *rig, const char *queue)
{
    static char text[128];
    fila_reply reply;
    void *block = NULL;
    fila_status status = fq_get_stats(rig->engine, rig->now, fila_view_of(queue), &reply, &block);
    if (status != FILA_OK) {
        return "-";
    }
    (void)snprintf(
        text, sizeof text, "%llu/%llu/%llu/%u", (unsigned long long)reply.as.stats.depth,
        (unsigned long long)reply.as.stats.in_flight,
        (unsigned long long)reply.as.stats.active_fairness_keys, reply.as.stats.active_consumers);
    free(block);
    return text;
}

enum fq_state rig_state(struct rig *rig, char letter)
{
    return fq_find(rig->engine, fila_view_of(rig->ids[(int)letter]), NULL);
}
