/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Queues come and go, dead letters come back, settings: contract B12, B13, B14, C.
 */
#include "expect.h"

#include <stdio.h>
#include <stdlib.h>

static fila_status create(struct rig *rig, const char *name)
{
    return fq_create_queue(rig->engine, rig->now, fila_view_of(name), NULL);
}

static fila_status delete (struct rig *rig, const char *name)
{
    return fq_delete_queue(rig->engine, rig->now, fila_view_of(name));
}

/* How many were redriven, or minus the status. */
static int redrive(struct rig *rig, const char *dlq, uint64_t count)
{
    uint64_t redriven = 0;
    fila_status status = fq_redrive(rig->engine, rig->now, fila_view_of(dlq), count, &redriven);
    return status == FILA_OK ? (int)redriven : -(int)status;
}

/* ---- B13: DLQs ---- */

Test(B13, a_queue_comes_with_its_dlq)
{
    struct rig *rig = rig_open();
    EXPECT_OK(create(rig, "q"));
    EXPECT_STATS(rig, "q.dlq", "0/0/0/0");
    EXPECT_STATS(rig, "q.dlq.dlq", "-");
    cr_expect(eq(int, create(rig, "q"), FILA_QUEUE_EXISTS));
    cr_expect(eq(int, create(rig, "q.dlq"), FILA_QUEUE_EXISTS));
    rig_close(rig);
}

Test(B13, a_dlq_made_directly_is_a_plain_queue_and_is_kept)
{
    struct rig *rig = rig_open();
    EXPECT_OK(create(rig, "q.dlq"));
    EXPECT_STATS(rig, "q", "-");
    EXPECT_STATS(rig, "q.dlq.dlq", "-");
    EXPECT_OK(rig_put(rig, "q.dlq", 'a'));
    EXPECT_OK(create(rig, "q"));
    EXPECT_STATS(rig, "q.dlq", "1/0/1/0");
    rig_close(rig);
}

/* A message in q.dlq, nacked there three times before. */
static struct rig *with_dead_letter(void)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put_as(rig, "q", "a", "red", 3, "t");
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    EXPECT_OK(rig_nack(rig, "q", 'a'));
    EXPECT_OK(rig_nack(rig, "q", 'a'));
    rig->on_failure = FQ_FAILURE_DEAD_LETTER;
    EXPECT_OK(rig_nack(rig, "q", 'a'));
    EXPECT_TAKES(rig, consumer, "a1a2");
    rig_leave(rig, consumer);
    return rig;
}

Test(B13, a_dead_letter_keeps_all_but_its_queue)
{
    struct rig *rig = with_dead_letter();
    struct fq_delivery delivery;
    cr_assert(fq_take(rig_consume(rig, "q.dlq"), &delivery));
    cr_expect(eq(int, memcmp(delivery.fields.id.data, rig->ids['a'], 36), 0));
    cr_expect(eq(sz, delivery.fields.queue.len, 5));
    cr_expect(eq(int, memcmp(delivery.fields.queue.data, "q.dlq", 5), 0));
    cr_expect(eq(int, delivery.fields.attempt_count, 3));
    cr_expect(eq(int, delivery.fields.weight, 3));
    cr_expect(eq(sz, delivery.fields.header_count, 3));
    cr_expect(eq(sz, delivery.fields.throttle_key_count, 1));
    cr_expect(eq(int, memcmp(delivery.fields.fairness_key.data, "red", 3), 0));
    cr_expect(eq(i64, delivery.lease_end, rig->now + 30 * FILA_S), "the DLQ's own timeout");
    fq_delivery_release(&delivery);
    rig_close(rig);
}

Test(B13, it_is_settled_with_the_dlqs_name)
{
    struct rig *rig = with_dead_letter();
    struct fq_consumer *consumer = rig_consume(rig, "q.dlq");
    EXPECT_TAKES(rig, consumer, "a3");
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND));
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND));
    EXPECT_OK(rig_nack(rig, "q.dlq", 'a')); /* a DLQ has none of its own: a retry */
    EXPECT_TAKES(rig, consumer, "a4");
    EXPECT_OK(rig_ack(rig, "q.dlq", 'a'));
    EXPECT_STATS(rig, "q.dlq", "0/0/0/1");
    rig_close(rig);
}

Test(B13, without_its_dlq_a_queue_retries)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    EXPECT_OK(delete (rig, "q.dlq"));
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    rig->on_failure = FQ_FAILURE_DEAD_LETTER;
    EXPECT_OK(rig_nack(rig, "q", 'a'));
    EXPECT_TAKES(rig, consumer, "a1");
    rig_close(rig);
}

Test(B13, a_worker_may_publish_to_a_dlq_and_redrive_moves_it)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    EXPECT_OK(rig_put(rig, "q.dlq", 'a'));
    cr_expect(eq(int, redrive(rig, "q.dlq", 0), 1));
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "a");
    rig_close(rig);
}

/* ---- B14: redrive ---- */

Test(B14, resets_attempts_and_delivers_at_once)
{
    struct rig *rig = with_dead_letter();
    struct fq_consumer *consumer = rig_consume(rig, "q");
    cr_expect(eq(int, redrive(rig, "q.dlq", 0), 1));
    EXPECT_TAKES(rig, consumer, "a");
    EXPECT_OK(rig_ack(rig, "q", 'a'));
    EXPECT_STATS(rig, "q.dlq", "0/0/0/0");
    rig_close(rig);
}

Test(B14, in_storage_order_up_to_the_count)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q.dlq", "xy", "zebra", 1, NULL);
    rig_put_as(rig, "q.dlq", "ab", "ape", 1, NULL);
    rig_put_as(rig, "q.dlq", "z", "zebra", 1, NULL);
    cr_expect(eq(int, redrive(rig, "q.dlq", 3), 3));
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "axb"); /* keys take turns again */
    cr_expect(eq(int, redrive(rig, "q.dlq", 100), 2));
    cr_expect(eq(int, redrive(rig, "q.dlq", 0), 0));
    rig_close(rig);
}

Test(B14, enqueue_order_not_queue_order_within_a_key)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put(rig, "q.dlq", 'a');
    consumer = rig_consume(rig, "q.dlq");
    EXPECT_TAKES(rig, consumer, "a");
    rig_leave(rig, consumer);
    rig_put(rig, "q.dlq", 'b');
    EXPECT_OK(rig_nack(rig, "q.dlq", 'a')); /* now behind b in its FIFO */
    cr_expect(eq(int, redrive(rig, "q.dlq", 0), 2));
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "ab");
    rig_close(rig);
}

Test(B14, skips_what_is_leased)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_put(rig, "q.dlq", 'a');
    EXPECT_TAKES(rig, rig_consume(rig, "q.dlq"), "a");
    cr_expect(eq(int, redrive(rig, "q.dlq", 0), 0));
    EXPECT_OK(rig_ack(rig, "q.dlq", 'a'));
    rig_close(rig);
}

Test(B14, goes_to_the_tail)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_put(rig, "q.dlq", 'a');
    rig_put(rig, "q", 'b');
    cr_expect(eq(int, redrive(rig, "q.dlq", 0), 1));
    rig_put(rig, "q", 'c');
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "bac");
    rig_close(rig);
}

Test(B14, refusals_in_order)
{
    struct rig *rig = rig_open();
    EXPECT_OK(create(rig, "q"));
    EXPECT_OK(create(rig, "alone.dlq"));
    cr_expect(eq(int, redrive(rig, "none.dlq", 0), -FILA_QUEUE_NOT_FOUND));
    cr_expect(eq(int, redrive(rig, "none", 0), -FILA_QUEUE_NOT_FOUND));
    cr_expect(eq(int, redrive(rig, "q", 0), -FILA_INVALID_ARGUMENT));
    cr_expect(eq(int, redrive(rig, "alone.dlq", 0), -FILA_PARENT_NOT_FOUND));
    rig_close(rig);
}

Test(B14, a_copy_read_before_the_move_keeps_its_queue)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    struct fq_delivery delivery;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    rig->on_failure = FQ_FAILURE_DEAD_LETTER;
    EXPECT_OK(rig_nack(rig, "q", 'a'));
    cr_assert(fq_take(consumer, &delivery));
    cr_expect(eq(sz, delivery.fields.queue.len, 1), "not q.dlq");
    fq_delivery_release(&delivery);
    rig_close(rig);
}

/* ---- B12: deletion ---- */

Test(B12, what_is_pending_goes_with_the_queue_and_its_dlq)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    rig_put(rig, "q.dlq", 'b');
    EXPECT_OK(delete (rig, "q"));
    cr_expect(eq(int, rig_state(rig, 'a'), FQ_GONE));
    cr_expect(eq(int, rig_state(rig, 'b'), FQ_GONE));
    EXPECT_STATS(rig, "q", "-");
    EXPECT_STATS(rig, "q.dlq", "-");
    cr_expect(eq(int, rig_put(rig, "q", 'a'), FILA_QUEUE_NOT_FOUND));
    cr_expect(eq(int, delete (rig, "q"), FILA_QUEUE_NOT_FOUND));
    cr_expect(eq(int, rig->released, 1), "the scripts are given back");
    rig_close(rig);
}

Test(B12, leases_of_a_deleted_queue_can_be_settled)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put_as(rig, "q", "abc", "default", 1, NULL);
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "abc");
    EXPECT_OK(delete (rig, "q"));
    EXPECT_OK(rig_ack(rig, "q", 'a'));
    EXPECT_OK(rig_nack(rig, "q", 'b'));
    cr_expect(eq(int, rig->failures, 0), "its scripts are gone");
    EXPECT_TAKES(rig, consumer, "b1"); /* at once */
    cr_expect(eq(i64, rig->lease_ends['b'], rig->now + 30 * FILA_S), "for the default now");
    rig_pass(rig, 1100);
    EXPECT_TAKES(rig, consumer, "c1"); /* after its timeout, on the old stream */
    rig_create(rig, "q", 1000);
    EXPECT_STATS(rig, "q", "2/2/0/1"); /* a new queue counts the zombies */
    EXPECT_OK(rig_ack(rig, "q", 'b'));
    EXPECT_OK(rig_ack(rig, "q", 'c'));
    EXPECT_STATS(rig, "q", "0/0/0/1");
    rig_close(rig);
}

Test(B12, a_recreated_queue_does_not_count_leases_from_before)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "a");
    EXPECT_OK(delete (rig, "q"));
    rig_create(rig, "q", 1000);
    EXPECT_STATS(rig, "q", "0/0/0/1");
    EXPECT_OK(rig_ack(rig, "q", 'a'));
    EXPECT_STATS(rig, "q", "0/0/0/1");
    rig_close(rig);
}

Test(B12, nothing_is_left_once_nobody_needs_it)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer = NULL;
    for (int i = 0; i < 1000; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "q%d", i);
        rig_create(rig, name, 1000 + i);
        rig_put(rig, name, 'a');
        consumer = rig_consume(rig, name);
        EXPECT_TAKES(rig, consumer, "a");
        EXPECT_OK(delete (rig, name));
        rig_leave(rig, consumer);
        EXPECT_OK(rig_ack(rig, name, 'a')); /* fq_check complains of queues kept for nothing */
    }
    rig_close(rig);
}

/* ---- C: settings ---- */

static fila_status set(struct rig *rig, const char *key, const char *value)
{
    return fq_set_config(rig->engine, rig->now, fila_view_of(key), fila_view_of(value));
}

static const char *get(struct rig *rig, const char *key)
{
    static char text[64];
    fila_view value = fq_get_config(rig->engine, rig->now, fila_view_of(key));
    (void)snprintf(text, sizeof text, "%.*s", (int)value.len, value.len ? value.data : "");
    return text;
}

/* "key=value;" of each, then the total. */
static const char *list(struct rig *rig, const char *prefix)
{
    static char text[512];
    size_t at = 0;
    fila_reply reply;
    void *block;
    EXPECT_OK(fq_list_config(rig->engine, rig->now, fila_view_of(prefix), &reply, &block));
    for (size_t i = 0; i < reply.as.list_config.count; i++) {
        const fila_config_entry *entry = &reply.as.list_config.entries[i];
        at += (size_t)snprintf(
            text + at, sizeof text - at, "%.*s=%.*s;", (int)entry->key.len, entry->key.data,
            (int)entry->value.len, entry->value.data);
    }
    (void)snprintf(text + at, sizeof text - at, "%u", reply.as.list_config.total_count);
    free(block);
    return text;
}

Test(C, settings_are_set_changed_and_deleted)
{
    struct rig *rig = rig_open();
    EXPECT_TEXT(get(rig, "k"), "");
    EXPECT_OK(set(rig, "k", "one"));
    EXPECT_OK(set(rig, "k", "two"));
    EXPECT_TEXT(get(rig, "k"), "two");
    EXPECT_OK(set(rig, "k", ""));
    EXPECT_TEXT(get(rig, "k"), "");
    EXPECT_OK(set(rig, "k", ""));
    EXPECT_TEXT(list(rig, ""), "0");
    rig_close(rig);
}

Test(C, lists_are_in_byte_order_by_prefix)
{
    struct rig *rig = rig_open();
    EXPECT_OK(set(rig, "b", "2"));
    EXPECT_OK(set(rig, "a.b", "1"));
    EXPECT_OK(set(rig, "a", "0"));
    EXPECT_OK(set(rig, "\xc3\xa9", "4"));
    EXPECT_OK(set(rig, "a-", "3"));
    EXPECT_TEXT(list(rig, ""), "a=0;a-=3;a.b=1;b=2;\xc3\xa9=4;5");
    EXPECT_TEXT(list(rig, "a."), "a.b=1;1");
    EXPECT_TEXT(list(rig, "zzz"), "0");
    rig_close(rig);
}

Test(C, lists_stop_at_10_000)
{
    struct rig *rig = rig_open();
    fila_reply reply;
    void *block;
    for (int i = 0; i < 10007; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%05d", i);
        cr_assert(eq(int, set(rig, key, "v"), FILA_OK));
    }
    EXPECT_OK(fq_list_config(rig->engine, rig->now, fila_view_of("k"), &reply, &block));
    cr_expect(eq(sz, reply.as.list_config.count, 10000));
    cr_expect(eq(int, reply.as.list_config.total_count, 10000));
    cr_expect(eq(int, memcmp(reply.as.list_config.entries[9999].key.data, "k09999", 6), 0));
    free(block);
    rig_close(rig);
}

Test(C, throttle_values_are_checked)
{
    static const struct {
        const char *value;
        bool valid;
    } rows[] = {
        {"1,1", true},          {"0,0", true},         {" 1.5 , 2e3 ", true}, {".5,5.", true},
        {"1", false},           {"1,", false},         {",1", false},         {"1,1,1", false},
        {"-1,1", false},        {"1,-1", false},       {"inf,1", false},      {"1,nan", false},
        {"1e999,1", false},     {"0x10,1", false},     {"one,two", false},    {"1 2,3", false},
        {"1,1\xc2\xa0", false}, {"\t1,\r\n2\n", true},
    };
    struct rig *rig = rig_open();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        EXPECT_OK(set(rig, "throttle.t", ""));
        cr_expect(
            eq(int, set(rig, "throttle.t", rows[i].value),
               rows[i].valid ? FILA_OK : FILA_INVALID_ARGUMENT),
            "%s", rows[i].value);
        EXPECT_TEXT(get(rig, "throttle.t"), rows[i].valid ? rows[i].value : "");
        EXPECT_OK(set(rig, "throttles.t", rows[i].value)); /* any other key is free-form */
    }
    rig_close(rig);
}

Test(C, a_refused_throttle_leaves_the_old_one)
{
    struct rig *rig = rig_open();
    EXPECT_OK(set(rig, "throttle.t", "1,2"));
    cr_expect(eq(int, set(rig, "throttle.t", "x"), FILA_INVALID_ARGUMENT));
    EXPECT_TEXT(get(rig, "throttle.t"), "1,2");
    rig_close(rig);
}

/* ---- C: statistics ---- */

Test(C, depth_is_pending_and_in_flight)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_fill(rig, "q", 140);
    consumer = rig_consume(rig, "q");
    EXPECT_STATS(rig, "q", "140/129/1/1");
    rig->now += 20 * FILA_S; /* expired, not taken back: still in flight */
    EXPECT_STATS(rig, "q", "140/129/1/1");
    rig_leave(rig, consumer);
    EXPECT_STATS(rig, "q", "140/129/1/0");
    rig_close(rig);
}

Test(C, per_key_statistics)
{
    struct rig *rig = rig_open();
    fila_reply reply;
    void *block;
    const fila_queue_stats *stats = &reply.as.stats;
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "ab", "green", 2, NULL);
    rig_put_as(rig, "q", "c", "blue", 1, NULL);
    EXPECT_OK(fq_get_stats(rig->engine, rig->now, fila_view_of("q"), &reply, &block));
    cr_assert(eq(sz, stats->key_count, 2));
    cr_expect(eq(int, memcmp(stats->keys[0].key.data, "blue", 4), 0));
    cr_expect(eq(u64, stats->keys[0].pending_count, 1));
    cr_expect(eq(u64, stats->keys[1].pending_count, 2));
    cr_expect(eq(int, stats->keys[1].weight, 2));
    cr_expect(eq(int, stats->quantum, 1000));
    cr_expect(eq(u64, stats->leader_node_id, 0));
    cr_expect(eq(int, stats->replication_count, 0));
    free(block);
    rig_close(rig);
}

Test(C, queues_are_listed_in_byte_order_with_dlqs)
{
    struct rig *rig = rig_open();
    static const char *const names[] = {"a", "a.dlq", "a/b", "a/b.dlq", "b", "b.dlq"};
    fila_reply reply;
    void *block;
    EXPECT_OK(create(rig, "b"));
    EXPECT_OK(create(rig, "a/b"));
    EXPECT_OK(create(rig, "a"));
    rig_put(rig, "a", 'x');
    (void)rig_consume(rig, "a");
    (void)rig_consume(rig, "no such queue");
    EXPECT_OK(fq_list_queues(rig->engine, rig->now, &reply, &block));
    cr_assert(eq(sz, reply.as.list_queues.count, 6), "a stream makes no queue");
    for (size_t i = 0; i < 6; i++) {
        fila_view name = reply.as.list_queues.queues[i].name;
        cr_expect(eq(sz, name.len, strlen(names[i])));
        cr_expect(eq(int, memcmp(name.data, names[i], name.len), 0), "%s", names[i]);
    }
    cr_expect(eq(u64, reply.as.list_queues.queues[0].depth, 1));
    cr_expect(eq(u64, reply.as.list_queues.queues[0].in_flight, 1));
    cr_expect(eq(int, reply.as.list_queues.queues[0].active_consumers, 1));
    cr_expect(eq(int, reply.as.list_queues.cluster_node_count, 0));
    free(block);
    rig_close(rig);
}
