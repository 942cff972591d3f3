/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The queue engine without memory: the same commands again and again, each time with another
 * allocation that fails. A command then says FILA_NO_MEMORY and has changed nothing, or has worked
 * all the same; nothing is lost, and nothing breaks.
 */
#include "base/clock.h"
#include "broker/queue.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGES 40
#define NONE     UINT32_MAX

static uint32_t fail_at = NONE; /* counts down to the allocation that fails */
static uint32_t failures;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool fails(void)
{
    if (fail_at == NONE || fail_at-- > 0) {
        return false;
    }
    fail_at = NONE;
    failures++;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

struct state {
    uint32_t nth; /* which allocation fails in this round */
    struct fq_engine *engine;
    int64_t now;
    char ids[MESSAGES][FQ_ID_SIZE];
    bool in[MESSAGES];
    struct fq_consumer *consumer;
};

static void must(const struct state *s, bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "engine_memory: allocation %u fails: %s\n", s->nth, what);
        abort();
    }
}

static void check(const struct state *s)
{
    const char *problem = fq_check(s->engine);
    must(s, !problem, problem ? problem : "");
    for (int i = 0; i < MESSAGES; i++) {
        enum fq_state where = fq_find(s->engine, fila_view_of(s->ids[i]), NULL);
        must(s, s->in[i] == (where != FQ_GONE), "what was stored is there, and nothing else");
    }
}

/* Whether the command worked; else it failed for want of memory, and for that alone. */
static bool worked(const struct state *s, fila_status status, const char *what)
{
    must(s, status == FILA_OK || (status == FILA_NO_MEMORY && failures), what);
    check(s);
    return status == FILA_OK;
}

static void on_enqueue(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    struct fq_plan *plan)
{
    static const fila_view throttle = {"t", 1};
    (void)user;
    (void)scripts;
    plan->fairness_key = message->payload;
    plan->throttle_keys = &throttle;
    plan->throttle_key_count = 1;
}

static enum fq_failure on_failure(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    fila_view error)
{
    (void)user;
    (void)scripts;
    (void)error;
    return message->attempt_count > 1 ? FQ_FAILURE_DEAD_LETTER : FQ_FAILURE_RETRY;
}

static void enqueue(struct state *s, int number)
{
    static fila_header headers[40];
    char key[8];
    fila_status status;
    struct fq_enqueue in = {fila_view_of("q"), headers, number % 2 ? 40 : 1, {key, 0}};
    for (int i = 0; i < 40; i++) {
        headers[i] = (fila_header){{&"abcdefghijklmnopqrstuvwxyzabcdefghijklmn"[i], 1}, {"v", 1}};
    }
    in.payload.len = (size_t)snprintf(key, sizeof key, "k%d", number % 5);
    status = fq_enqueue(s->engine, s->now, 1, &in, s->ids[number]);
    s->in[number] = status == FILA_OK;
    (void)worked(s, status, "enqueue");
}

static void settle_taken(struct state *s)
{
    struct fq_delivery delivery;
    uint32_t count = 0;
    while (s->consumer && fq_take(s->consumer, &delivery)) {
        fila_view queue = delivery.fields.queue;
        fila_view id = delivery.fields.id;
        if (count++ % 3) {
            fila_status status = fq_nack(s->engine, s->now, queue, id, fila_view_of("no"));
            if (status != FILA_MESSAGE_NOT_FOUND) { /* that was a stale copy */
                (void)worked(s, status, "nack");
            }
        }
        fq_delivery_release(&delivery);
        if (count > 60) {
            return;
        }
    }
}

static void open_consumer(struct state *s, const char *queue)
{
    struct fq_consumer *consumer = NULL;
    if (worked(s, fq_consumer_open(s->engine, s->now, fila_view_of(queue), s, &consumer), "open")) {
        s->consumer = consumer;
    }
}

static void administer(struct state *s)
{
    fila_reply reply;
    void *block = NULL;
    uint64_t redriven = 0;
    if (worked(s, fq_get_stats(s->engine, s->now, fila_view_of("q"), &reply, &block), "stats")) {
        free(block);
    }
    if (worked(s, fq_list_queues(s->engine, s->now, &reply, &block), "list queues")) {
        free(block);
    }
    if (worked(
            s, fq_list_config(s->engine, s->now, fila_view_of(""), &reply, &block), "settings")) {
        free(block);
    }
    (void)worked(s, fq_redrive(s->engine, s->now, fila_view_of("q.dlq"), 0, &redriven), "redrive");
}

/* The commands; true if they all worked, in which case some allocation was not reached. */
static void play(struct state *s)
{
    struct fq_queue_options options = {.visibility_timeout = FILA_S};
    fila_status status;
    do { /* without its queue there is nothing to see */
        status = fq_create_queue(s->engine, s->now, fila_view_of("q"), &options);
    } while (!worked(s, status, "create"));
    (void)worked(
        s, fq_set_config(s->engine, s->now, fila_view_of("throttle.t"), fila_view_of("1000,1000")),
        "set");
    for (int i = 0; i < MESSAGES; i++) {
        enqueue(s, i);
    }
    open_consumer(s, "q");
    for (int i = 0; i < 5; i++) {
        settle_taken(s);
        s->now += 2 * FILA_S;
        fq_tick(s->engine, s->now);
        check(s);
    }
    administer(s);
    (void)worked(s, fq_create_queue(s->engine, s->now, fila_view_of("r"), &options), "create r");
    status = fq_delete_queue(s->engine, s->now, fila_view_of("r"));
    must(s, status == FILA_OK || failures, "delete r");
}

/* With memory again everything is still there. */
static void drain(struct state *s)
{
    static const char *const queues[] = {"q", "q.dlq"};
    fail_at = NONE;
    if (s->consumer) {
        fq_consumer_close(s->engine, s->now, s->consumer);
    }
    for (int round = 0; round < 40; round++) {
        struct fq_delivery delivery;
        s->consumer = NULL;
        open_consumer(s, queues[round % 2]);
        while (fq_take(s->consumer, &delivery)) {
            fila_status status =
                fq_ack(s->engine, s->now, delivery.fields.queue, delivery.fields.id);
            must(s, status == FILA_OK || status == FILA_MESSAGE_NOT_FOUND, "ack");
            fq_delivery_release(&delivery);
        }
        fq_consumer_close(s->engine, s->now, s->consumer);
        memset(s->in, 0, sizeof s->in);
        for (int i = 0; i < MESSAGES; i++) {
            s->in[i] = fq_find(s->engine, fila_view_of(s->ids[i]), NULL) != FQ_GONE;
        }
        s->now += 31 * FILA_S;
        fq_tick(s->engine, s->now);
    }
    for (int i = 0; i < MESSAGES; i++) {
        must(s, !s->in[i], "everything can be read and acked");
    }
}

int main(void)
{
    struct fq_config config = FQ_CONFIG_INIT;
    uint32_t nth = 0;
    config.hooks.on_enqueue = on_enqueue;
    config.hooks.on_failure = on_failure;
    do {
        struct state s = {.nth = nth, .now = FILA_S};
        failures = 0;
        fail_at = nth++;
        s.engine = fq_new(&config, s.now);
        if (!s.engine) {
            continue;
        }
        play(&s);
        drain(&s);
        fq_free(s.engine);
    } while (failures);
    printf("%u allocations failed, one at a time\n", nth - 1);
    return nth > 100 ? 0 : 1;
}
