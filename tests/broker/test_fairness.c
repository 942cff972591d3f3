/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Fairness keys and throttles: contract B8, B9.
 */
#include "expect.h"

#include <stdio.h>
#include <stdlib.h>

static void set(struct rig *rig, const char *key, const char *value)
{
    EXPECT_OK(fq_set_config(rig->engine, rig->now, fila_view_of(key), fila_view_of(value)));
}

/* ---- B8: deficit round robin ---- */

Test(B8, a_key_delivers_its_weight_in_messages_a_turn)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "ABCDEF", "heavy", 3, NULL);
    rig_put_as(rig, "q", "abcdef", "light", 1, NULL);
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "ABCaDEFbcdef");
    rig_close(rig);
}

Test(B8, the_default_is_one_key_of_weight_1)
{
    struct rig *rig = rig_open();
    struct fq_delivery delivery;
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    rig_put_as(rig, "q", "b", "default", 1, NULL);
    consumer = rig_consume(rig, "q");
    cr_assert(fq_take(consumer, &delivery));
    cr_expect(eq(sz, delivery.fields.fairness_key.len, 7));
    cr_expect(eq(int, memcmp(delivery.fields.fairness_key.data, "default", 7), 0));
    cr_expect(eq(int, delivery.fields.weight, 1));
    cr_expect(eq(sz, delivery.fields.throttle_key_count, 0));
    fq_delivery_release(&delivery);
    EXPECT_TAKES(rig, consumer, "b");
    rig_close(rig);
}

Test(B8, weight_0_is_kept_and_scheduled_as_1)
{
    struct rig *rig = rig_open();
    fila_reply reply;
    void *block;
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "ab", "zero", 0, NULL);
    rig_put_as(rig, "q", "AB", "two", 2, NULL);
    EXPECT_OK(fq_get_stats(rig->engine, rig->now, fila_view_of("q"), &reply, &block));
    cr_expect(eq(int, reply.as.stats.keys[1].weight, 0), "keys are in byte order");
    free(block);
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "aABb");
    rig_close(rig);
}

Test(B8, the_latest_messages_weight_is_the_keys)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "abc", "one", 1, NULL);
    rig_put_as(rig, "q", "d", "one", 2, NULL);
    rig_put_as(rig, "q", "ABC", "two", 1, NULL);
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "abAcdBC");
    rig_close(rig);
}

Test(B8, a_round_gives_each_key_weight_times_quantum)
{
    struct rig *rig = rig_open_with(2);
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "ABCDEFGH", "heavy", 2, NULL);
    rig_put_as(rig, "q", "abcd", "light", 1, NULL);
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "ABaCDb"); /* the round; the next one begins with the next turn */
    rig_foreign(rig);
    EXPECT_TAKES(rig, consumer, "EFcGHd");
    rig_close(rig);
}

Test(B8, a_key_added_in_mid_round_waits_for_the_next)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "ab", "default", 1, NULL);
    rig_fill(rig, "q", FQ_SLOTS + 8);
    consumer = rig_consume(rig, "q");
    rig_put_as(rig, "q", "N", "new", 1, NULL);
    cr_expect(eq(int, rig_take_some(rig, consumer, FQ_SLOTS), FQ_SLOTS));
    rig_foreign(rig);
    EXPECT_TAKES(rig, consumer, "xxxxxxxxxx");
    rig_foreign(rig);
    EXPECT_TAKES(rig, consumer, "N");
    rig_close(rig);
}

Test(B8, many_keys_take_turns)
{
    struct rig *rig = rig_open();
    char key[8];
    char letters[3] = "";
    rig_create(rig, "q", 0);
    for (int i = 0; i < 26; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        letters[0] = (char)('a' + i);
        letters[1] = (char)('A' + i);
        rig_put_as(rig, "q", letters, key, 1, NULL);
    }
    EXPECT_TAKES(
        rig, rig_consume(rig, "q"), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    EXPECT_STATS(rig, "q", "52/52/0/1");
    rig_close(rig);
}

Test(B8, the_same_key_in_two_queues_is_two)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_create(rig, "r", 0);
    rig_put_as(rig, "q", "ab", "k", 1, NULL);
    rig_put_as(rig, "r", "c", "k", 1, NULL);
    EXPECT_STATS(rig, "q", "2/0/1/0");
    EXPECT_STATS(rig, "r", "1/0/1/0");
    EXPECT_TAKES(rig, rig_consume(rig, "r"), "c");
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "ab");
    rig_close(rig);
}

/* ---- B9: throttles ---- */

/* The measured series: rate 2, burst 1, another message behind and another key beside. */
Test(B9, a_throttled_front_blocks_its_key_and_no_other)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    set(rig, "throttle.slow", "2,1");
    rig_put_as(rig, "q", "abc", "k", 1, "slow");
    rig_put_as(rig, "q", "d", "k", 1, NULL);
    rig_put_as(rig, "q", "z", "other", 1, NULL);
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "az");
    rig_pass(rig, 499);
    EXPECT_TAKES(rig, consumer, "");
    rig_pass(rig, 1);
    EXPECT_TAKES(rig, consumer, "b");
    rig_pass(rig, 400);
    EXPECT_TAKES(rig, consumer, "");
    rig_pass(rig, 100);
    EXPECT_TAKES(rig, consumer, "cd");
    rig_close(rig);
}

Test(B9, buckets_are_shared_by_all_queues)
{
    struct rig *rig = rig_open();
    struct fq_consumer *first;
    struct fq_consumer *second;
    rig_create(rig, "q", 0);
    rig_create(rig, "r", 0);
    set(rig, "throttle.t", "1,1");
    rig_put_as(rig, "q", "a", "k", 1, "t");
    rig_put_as(rig, "r", "b", "k", 1, "t");
    first = rig_consume(rig, "q");
    second = rig_consume(rig, "r");
    EXPECT_TAKES(rig, first, "a");
    EXPECT_TAKES(rig, second, "");
    rig_pass(rig, 1000);
    EXPECT_TAKES(rig, second, "b");
    rig_close(rig);
}

Test(B9, every_configured_bucket_must_have_a_token_and_gives_one)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    set(rig, "throttle.many", "0,5");
    set(rig, "throttle.two", "0,2");
    rig_put_as(rig, "q", "abcd", "k", 1, "many two many unknown");
    rig_put_as(rig, "q", "ABCD", "l", 1, "many");
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "aAbBC"); /* two: 2 gone; many: 5 gone, once a message */
    rig_pass(rig, 60000);
    EXPECT_TAKES(rig, consumer, ""); /* also of what expired: it is behind its key's front */
    rig_close(rig);
}

Test(B9, a_burst_below_1_never_delivers)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    set(rig, "throttle.t", "1000,0.9");
    rig_put_as(rig, "q", "a", "k", 1, "t");
    consumer = rig_consume(rig, "q");
    rig_pass(rig, 100000);
    EXPECT_TAKES(rig, consumer, "");
    cr_expect(eq(i64, fq_wake_at(rig->engine), FILA_NEVER), "and nobody wakes for it");
    rig_close(rig);
}

Test(B9, a_change_applies_at_once_and_keeps_tokens)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    set(rig, "throttle.t", "0,2");
    rig_put_as(rig, "q", "abcdefg", "k", 1, "t");
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "ab");
    set(rig, "throttle.t", "0,4"); /* more room is not more tokens */
    rig_pass(rig, 500);
    EXPECT_TAKES(rig, consumer, "");
    set(rig, "throttle.t", "10,4");
    rig_pass(rig, 100);
    EXPECT_TAKES(rig, consumer, "c");
    set(rig, "throttle.t", "");
    EXPECT_TAKES(rig, consumer, "defg");
    rig_close(rig);
}

Test(B9, tokens_are_clamped_to_a_smaller_burst)
{
    struct rig *rig = rig_open();
    fila_reply reply;
    void *block;
    rig_create(rig, "q", 0);
    set(rig, "throttle.b", "1,10");
    set(rig, "throttle.b", " 2.5 , 3 ");
    set(rig, "throttle.a", "1e1,0");
    EXPECT_OK(fq_get_stats(rig->engine, rig->now, fila_view_of("q"), &reply, &block));
    cr_assert(eq(sz, reply.as.stats.throttle_count, 2), "of every queue: buckets are global");
    cr_expect(eq(chr, reply.as.stats.throttles[0].key.data[0], 'a'));
    cr_expect(epsilon_eq(dbl, reply.as.stats.throttles[0].rate_per_second, 10.0, 1e-9));
    cr_expect(epsilon_eq(dbl, reply.as.stats.throttles[1].tokens, 3.0, 1e-9));
    cr_expect(epsilon_eq(dbl, reply.as.stats.throttles[1].rate_per_second, 2.5, 1e-9));
    cr_expect(epsilon_eq(dbl, reply.as.stats.throttles[1].burst, 3.0, 1e-9));
    free(block);
    rig_close(rig);
}

Test(B9, a_full_consumer_spends_no_token)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    set(rig, "throttle.t", "0,1");
    rig_fill(rig, "q", FQ_SLOTS);
    consumer = rig_consume(rig, "q");
    rig_put_as(rig, "q", "a", "k", 1, "t");
    rig_pass(rig, 1000);
    cr_expect(eq(int, rig_take_some(rig, consumer, FQ_SLOTS), FQ_SLOTS));
    rig_foreign(rig);
    EXPECT_TAKES(rig, consumer, "a");
    rig_close(rig);
}

Test(B9, a_new_key_is_seen_although_the_others_are_throttled)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    set(rig, "throttle.t", "0,0");
    rig_put_as(rig, "q", "a", "k", 1, "t");
    consumer = rig_consume(rig, "q");
    rig_pass(rig, 1000);
    rig_put_as(rig, "q", "b", "l", 1, NULL);
    EXPECT_TAKES(rig, consumer, "b");
    rig_close(rig);
}
