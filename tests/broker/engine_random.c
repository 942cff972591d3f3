/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The queue engine under random commands, seed after seed, against a model that knows each message:
 * after every step the engine's own invariants hold, and every message ever enqueued is pending,
 * leased or gone exactly as the commands so far demand. `engine_random SEED` replays one seed.
 */
#include "base/clock.h"
#include "broker/queue.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUES    4
#define NAMES     (2 * QUEUES) /* with DLQs */
#define CONSUMERS 6
#define HELD      400
#define MESSAGES  4000
#define STEPS     6000

static const char *const NAME[NAMES] = {"a", "b", "c", "d", "a.dlq", "b.dlq", "c.dlq", "d.dlq"};
static const char *const KEY[] = {"red", "green", "blue"};

/* What the model knows of a message. */
struct record {
    char id[FQ_ID_SIZE];
    int queue; /* index into NAME */
    int key;
    uint32_t attempts;
    bool gone;
    bool redriven; /* or dead-lettered: out of enqueue order */
};

struct held {
    struct fq_delivery delivery;
    uint32_t record;
};

struct model {
    uint64_t seed;
    uint64_t random;
    uint64_t step;
    int64_t now;
    struct fq_engine *engine;
    struct record records[MESSAGES];
    uint32_t count;
    bool exists[NAMES];
    struct fq_consumer *consumers[CONSUMERS];
    int consumer_queue[CONSUMERS];
    uint32_t last_fresh[CONSUMERS][3]; /* 1 + the last record seen with attempt 0, by key */
    struct held held[HELD];
    uint32_t held_count;
};

static void fail(const struct model *m, const char *what)
{
    fprintf(
        stderr, "seed %llu step %llu: %s\n", (unsigned long long)m->seed,
        (unsigned long long)m->step, what);
    abort();
}

static void require(const struct model *m, bool holds, const char *what)
{
    if (!holds) {
        fail(m, what);
    }
}

static uint32_t pick(struct model *m, uint32_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((m->random >> 33) % below);
}

static fila_view view(const char *text)
{
    return fila_view_of(text);
}

static uint32_t record_of(const struct fila_message_fields *fields)
{
    uint32_t record;
    memcpy(&record, fields->payload.data, sizeof record);
    return record;
}

/* ---- Hooks: the fairness key comes from a header, the third failure in b or d dead-letters ----
 */

static void on_enqueue(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    struct fq_plan *plan)
{
    static const fila_view throttle = {"slow", 4};
    (void)user;
    (void)scripts;
    plan->fairness_key = message->headers[0].value;
    plan->weight = (uint32_t)(message->headers[0].value.len - 2);
    if (message->queue.data[0] == 'c') {
        plan->throttle_keys = &throttle;
        plan->throttle_key_count = 1;
    }
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
    return message->attempt_count >= 3 && (message->queue.data[0] & 1) == 0 ? FQ_FAILURE_DEAD_LETTER
                                                                            : FQ_FAILURE_RETRY;
}

/* ---- Steps ---- */

static void step_enqueue(struct model *m)
{
    int queue = (int)pick(m, QUEUES + 1) % NAMES; /* a.dlq now and then */
    int key = (int)pick(m, 3);
    fila_header header = {view("k"), view(KEY[key])};
    uint32_t number = m->count;
    struct fq_enqueue in = {view(NAME[queue]), &header, 1, {(const char *)&number, sizeof number}};
    struct record *record = &m->records[number];
    fila_status status;
    if (number == MESSAGES) {
        return;
    }
    status = fq_enqueue(m->engine, m->now, m->now / FILA_MS, &in, record->id);
    require(m, (status == FILA_OK) == m->exists[queue], "enqueue answers by existence");
    if (status == FILA_OK) {
        record->queue = queue;
        record->key = key;
        m->count++;
    }
}

static void check_delivery(struct model *m, int consumer, const struct held *held)
{
    const struct fila_message_fields *fields = &held->delivery.fields;
    struct record *record = &m->records[held->record];
    require(m, memcmp(fields->id.data, record->id, FQ_ID_SIZE) == 0, "id of a delivery");
    require(m, strcmp(KEY[record->key], "red") != 0 || fields->fairness_key.len == 3, "key");
    if (fields->attempt_count == 0 && !record->redriven) {
        uint32_t *last = &m->last_fresh[consumer][record->key];
        require(m, held->record + 1 > *last, "order within a key");
        *last = held->record + 1;
    }
}

static void step_take(struct model *m)
{
    int at = (int)pick(m, CONSUMERS);
    uint32_t most = pick(m, 100);
    struct held *held;
    while (m->consumers[at] && most-- && m->held_count < HELD) {
        held = &m->held[m->held_count];
        if (!fq_take(m->consumers[at], &held->delivery)) {
            return;
        }
        held->record = record_of(&held->delivery.fields);
        check_delivery(m, at, held);
        m->held_count++;
    }
}

static void step_consumer(struct model *m)
{
    int at = (int)pick(m, CONSUMERS);
    if (m->consumers[at]) {
        fq_consumer_close(m->engine, m->now, m->consumers[at]);
        m->consumers[at] = NULL;
        return;
    }
    m->consumer_queue[at] = (int)pick(m, NAMES);
    memset(m->last_fresh[at], 0, sizeof m->last_fresh[at]);
    require(
        m,
        fq_consumer_open(
            m->engine, m->now, view(NAME[m->consumer_queue[at]]), NULL, &m->consumers[at]) ==
            FILA_OK,
        "open a consumer");
}

/* A nack's effect on the model. */
static void count_nack(struct model *m, struct record *record)
{
    record->attempts++;
    if (record->queue < QUEUES && m->exists[record->queue] && record->attempts >= 3 &&
        (NAME[record->queue][0] & 1) == 0 && m->exists[record->queue + QUEUES]) {
        record->queue += QUEUES;
        record->redriven = true;
    }
}

static void step_settle(struct model *m)
{
    uint32_t at = m->held_count ? pick(m, m->held_count) : 0;
    struct held held;
    struct record *record;
    enum fq_state before;
    fila_status status;
    bool ack = pick(m, 3) != 0;
    if (!m->held_count) {
        return;
    }
    held = m->held[at];
    m->held[at] = m->held[--m->held_count];
    record = &m->records[held.record];
    before = fq_find(m->engine, view(record->id), NULL);
    status = ack ? fq_ack(m->engine, m->now, view(NAME[record->queue]), held.delivery.fields.id)
                 : fq_nack(
                       m->engine, m->now, view(NAME[record->queue]), held.delivery.fields.id,
                       view("no"));
    require(
        m, status == (before == FQ_LEASED ? FILA_OK : FILA_MESSAGE_NOT_FOUND),
        "a settlement answers by the lease alone");
    if (status == FILA_OK && ack) {
        record->gone = true;
    } else if (status == FILA_OK) {
        count_nack(m, record);
    }
    fq_delivery_release(&held.delivery);
}

static void model_delete(struct model *m, int queue)
{
    m->exists[queue] = false;
    for (uint32_t i = 0; i < m->count; i++) {
        struct record *record = &m->records[i];
        if (record->queue == queue && fq_find(m->engine, view(record->id), NULL) == FQ_PENDING) {
            record->gone = true;
        }
    }
}

static void step_queue(struct model *m)
{
    int queue = (int)pick(m, NAMES);
    if (m->exists[queue] && pick(m, 4) == 0) {
        model_delete(m, queue);
        if (queue < QUEUES && m->exists[queue + QUEUES]) {
            model_delete(m, queue + QUEUES);
        }
        require(m, fq_delete_queue(m->engine, m->now, view(NAME[queue])) == FILA_OK, "delete");
        return;
    }
    struct fq_queue_options options = {.visibility_timeout = (1 + (int64_t)pick(m, 3)) * FILA_S};
    fila_status status = fq_create_queue(m->engine, m->now, view(NAME[queue]), &options);
    require(m, status == (m->exists[queue] ? FILA_QUEUE_EXISTS : FILA_OK), "create by existence");
    m->exists[queue] = true;
    if (queue < QUEUES && status == FILA_OK) {
        m->exists[queue + QUEUES] = true;
    }
}

static void step_redrive(struct model *m)
{
    int queue = QUEUES + (int)pick(m, QUEUES);
    uint64_t redriven = 0;
    bool was_pending[MESSAGES];
    uint64_t moved = 0;
    fila_status status;
    for (uint32_t i = 0; i < m->count; i++) {
        was_pending[i] = m->records[i].queue == queue && !m->records[i].gone &&
                         fq_find(m->engine, view(m->records[i].id), NULL) == FQ_PENDING;
    }
    status = fq_redrive(m->engine, m->now, view(NAME[queue]), pick(m, 5), &redriven);
    require(
        m,
        status == (!m->exists[queue]            ? FILA_QUEUE_NOT_FOUND
                   : !m->exists[queue - QUEUES] ? FILA_PARENT_NOT_FOUND
                                                : FILA_OK),
        "redrive answers by existence");
    for (uint32_t i = 0; i < m->count; i++) {
        struct fq_found found;
        if (was_pending[i] && fq_find(m->engine, view(m->records[i].id), &found) != FQ_GONE &&
            found.queue.len == 1) {
            m->records[i].queue = queue - QUEUES;
            m->records[i].attempts = 0;
            m->records[i].redriven = true;
            moved++;
        }
    }
    require(m, moved == redriven, "redrive counts what it moved");
}

static void step_time(struct model *m)
{
    int64_t wake;
    m->now += (int64_t)pick(m, 150) * FILA_MS;
    wake = fq_wake_at(m->engine);
    if (wake <= m->now) {
        for (uint32_t i = 0; i < m->count; i++) {
            struct fq_found found;
            struct record *record = &m->records[i];
            if (!record->gone && fq_find(m->engine, view(record->id), &found) == FQ_LEASED &&
                found.lease_end <= m->now) {
                record->attempts++;
            }
        }
    }
    fq_tick(m->engine, m->now);
}

static void step_throttle(struct model *m)
{
    static const char *const VALUES[] = {"", "5,2", "0,1", "100, 0.5", "1000,50"};
    require(
        m,
        fq_set_config(m->engine, m->now, view("throttle.slow"), view(VALUES[pick(m, 5)])) ==
            FILA_OK,
        "set a throttle");
}

static void check(struct model *m)
{
    const char *problem = fq_check(m->engine);
    if (problem) {
        fail(m, problem);
    }
    for (uint32_t i = 0; i < m->count; i++) {
        struct fq_found found;
        const struct record *record = &m->records[i];
        enum fq_state state = fq_find(m->engine, view(record->id), &found);
        require(m, record->gone == (state == FQ_GONE), "every message is where it must be");
        if (state != FQ_GONE) {
            require(
                m,
                found.queue.len == strlen(NAME[record->queue]) &&
                    memcmp(found.queue.data, NAME[record->queue], found.queue.len) == 0,
                "a message is in its queue");
            require(m, found.attempt_count == record->attempts, "attempts are counted");
        }
    }
}

static void step(struct model *m)
{
    uint32_t what = pick(m, 100);
    if (what < 40) {
        step_enqueue(m);
    } else if (what < 55) {
        step_take(m);
    } else if (what < 85) {
        step_settle(m);
    } else if (what < 91) {
        step_time(m);
    } else if (what < 94) {
        step_consumer(m);
    } else if (what < 96) {
        step_redrive(m);
    } else if (what < 98) {
        step_queue(m);
    } else {
        step_throttle(m);
    }
}

/* With everything open and time passing, what is left can all be read and acked. */
static void drain(struct model *m)
{
    require(m, fq_set_config(m->engine, m->now, view("throttle.slow"), view("")) == FILA_OK, "");
    for (int at = 0; at < CONSUMERS; at++) {
        if (m->consumers[at]) {
            fq_consumer_close(m->engine, m->now, m->consumers[at]);
        }
        m->consumers[at] = NULL;
    }
    for (int round = 0; round < 400; round++) {
        for (int queue = 0; queue < NAMES; queue++) {
            struct fq_consumer *consumer;
            struct fq_delivery delivery;
            require(
                m,
                fq_consumer_open(m->engine, m->now, view(NAME[queue]), NULL, &consumer) == FILA_OK,
                "open to drain");
            while (fq_take(consumer, &delivery)) {
                struct record *record = &m->records[record_of(&delivery.fields)];
                if (fq_ack(m->engine, m->now, delivery.fields.queue, delivery.fields.id) ==
                    FILA_OK) {
                    record->gone = true;
                }
                fq_delivery_release(&delivery);
            }
            fq_consumer_close(m->engine, m->now, consumer);
        }
        m->now += FILA_S;
        fq_tick(m->engine, m->now);
    }
    for (uint32_t i = 0; i < m->count; i++) {
        require(
            m, fq_find(m->engine, view(m->records[i].id), NULL) == FQ_GONE && m->records[i].gone,
            "everything can be drained");
    }
}

static uint64_t run(struct model *m, uint64_t seed)
{
    struct fq_config config = FQ_CONFIG_INIT;
    uint64_t mark;
    memset(m, 0, sizeof *m);
    m->seed = seed;
    m->random = seed * 2 + 1;
    m->now = FILA_S;
    config.seed = seed;
    config.quantum = 1 + pick(m, 5);
    config.hooks.on_enqueue = on_enqueue;
    config.hooks.on_failure = on_failure;
    m->engine = fq_new(&config, m->now);
    require(m, m->engine != NULL, "memory");
    for (m->step = 0; m->step < STEPS; m->step++) {
        step(m);
        if (m->step % 64 == 0 || m->step < 200) {
            check(m);
        }
    }
    check(m);
    drain(m);
    while (m->held_count) {
        fq_delivery_release(&m->held[--m->held_count].delivery);
    }
    mark = m->random ^ (uint64_t)m->count;
    fq_free(m->engine);
    return mark;
}

int main(int argc, char **argv)
{
    struct model *m = malloc(sizeof *m);
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t last = argc > 1 ? first : 24;
    if (!m) {
        return 1;
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        uint64_t mark = run(m, seed);
        require(m, run(m, seed) == mark, "the same seed gives the same run");
    }
    printf("%llu seeds\n", (unsigned long long)(last - first + 1));
    free(m);
    return 0;
}
