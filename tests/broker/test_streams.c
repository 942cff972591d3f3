/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Consumers: what is leased when, who gets what, and what a disconnect leaves: contract A2, A4, A5,
 * A6.
 */
#include "expect.h"

/* ---- A4: streams and queues ---- */

Test(A4, a_stream_on_a_missing_queue_is_open_silent_and_counted)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer = rig_consume(rig, "later");
    EXPECT_TAKES(rig, consumer, "");
    EXPECT_STATS(rig, "later", "-");
    cr_expect(eq(int, rig_put(rig, "later", 'a'), FILA_QUEUE_NOT_FOUND));
    rig_create(rig, "later", 0);
    EXPECT_STATS(rig, "later", "0/0/0/1");
    EXPECT_OK(rig_put(rig, "later", 'a'));
    EXPECT_TAKES(rig, consumer, "a");
    rig_close(rig);
}

Test(A4, a_stream_outlives_its_queue_and_serves_the_next_of_that_name)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    consumer = rig_consume(rig, "q");
    EXPECT_OK(fq_delete_queue(rig->engine, rig->now, fila_view_of("q")));
    EXPECT_TAKES(rig, consumer, "");
    rig_create(rig, "q", 0);
    EXPECT_OK(rig_put(rig, "q", 'a'));
    EXPECT_TAKES(rig, consumer, "a");
    rig_close(rig);
}

/* ---- A5: leases before reading ---- */

Test(A5, a_stalled_stream_holds_129_leased_messages)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_fill(rig, "q", 500);
    consumer = rig_consume(rig, "q");
    cr_expect(eq(int, fq_consumer_waiting(consumer), 129));
    rig_pass(rig, 5000);
    EXPECT_STATS(rig, "q", "500/129/1/1");
    rig_close(rig);
}

Test(A5, slots_are_filled_by_commands_not_by_taking)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_fill(rig, "q", 500);
    consumer = rig_consume(rig, "q");
    cr_expect(eq(int, rig_take_some(rig, consumer, 1000), 129));
    cr_expect(eq(int, rig_take_some(rig, consumer, 1000), 0));
    rig_foreign(rig); /* any command of anybody */
    cr_expect(eq(int, rig_take_some(rig, consumer, 1000), 129));
    rig_close(rig);
}

Test(A5, or_by_the_idle_tick)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_fill(rig, "q", 500);
    consumer = rig_consume(rig, "q");
    cr_expect(eq(int, rig_take_some(rig, consumer, 10), 10));
    cr_expect(eq(i64, fq_wake_at(rig->engine), rig->now + 100 * FILA_MS));
    rig_pass(rig, 99);
    cr_expect(eq(int, fq_consumer_waiting(consumer), 119));
    rig_pass(rig, 1);
    cr_expect(eq(int, fq_consumer_waiting(consumer), 129));
    rig_close(rig);
}

Test(A5, the_clock_runs_in_the_slots_and_stale_copies_are_delivered)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put_as(rig, "q", "abc", "default", 1, NULL);
    consumer = rig_consume(rig, "q");
    rig_pass(rig, 3600);
    EXPECT_TAKES(rig, consumer, "abca1b1c1a2b2c2a3b3c3");
    EXPECT_STATS(rig, "q", "3/3/0/1");
    EXPECT_OK(rig_ack(rig, "q", 'b'));
    rig_close(rig);
}

Test(A5, an_acked_message_stays_in_the_slots)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_OK(rig_ack(rig, "q", 'a'));
    EXPECT_TAKES(rig, consumer, "a");
    cr_expect(eq(int, rig_state(rig, 'a'), FQ_GONE));
    rig_close(rig);
}

Test(A5, order_holds_while_all_are_full)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_fill(rig, "q", FQ_SLOTS);
    consumer = rig_consume(rig, "q");
    rig_put_as(rig, "q", "abc", "default", 1, NULL);
    for (int i = 0; i < 10; i++) {
        rig_pass(rig, 250);
        rig_foreign(rig);
    }
    cr_expect(eq(int, rig_take_some(rig, consumer, FQ_SLOTS), FQ_SLOTS));
    rig_foreign(rig);
    EXPECT_TAKES(rig, consumer, "abc");
    rig_close(rig);
}

/* ---- Who has something to take ---- */

Test(ready, told_once_until_seen_empty)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    consumer = rig_consume(rig, "q");
    cr_expect(eq(ptr, fq_next_ready(rig->engine), NULL));
    rig_put(rig, "q", 'a');
    cr_expect(eq(ptr, fq_next_ready(rig->engine), consumer));
    cr_expect(eq(ptr, fq_next_ready(rig->engine), NULL));
    rig_put(rig, "q", 'b');
    cr_expect(eq(ptr, fq_next_ready(rig->engine), NULL), "not told again");
    EXPECT_TAKES(rig, consumer, "ab");
    rig_put(rig, "q", 'c');
    cr_expect(eq(ptr, fq_next_ready(rig->engine), consumer));
    rig_close(rig);
}

Test(ready, not_told_of_what_was_taken_meanwhile)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    consumer = rig_consume(rig, "q");
    rig_put(rig, "q", 'a');
    EXPECT_TAKES(rig, consumer, "a");
    cr_expect(eq(ptr, fq_next_ready(rig->engine), NULL));
    rig_put(rig, "q", 'b');
    rig_leave(rig, consumer);
    cr_expect(eq(ptr, fq_next_ready(rig->engine), NULL), "a closed consumer is forgotten");
    rig_close(rig);
}

Test(ready, users_come_back)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    int mine;
    EXPECT_OK(fq_consumer_open(rig->engine, rig->now, fila_view_of("q"), &mine, &consumer));
    cr_expect(eq(ptr, fq_consumer_user(consumer), &mine));
    rig_close(rig);
}

/* ---- A6: several consumers; disconnect ---- */

Test(A6, equal_consumers_share_strictly_in_turn)
{
    struct rig *rig = rig_open();
    struct fq_consumer *three[3];
    rig_create(rig, "q", 0);
    for (int i = 0; i < 3; i++) {
        three[i] = rig_consume(rig, "q");
    }
    rig_put_as(rig, "q", "abcdefghi", "default", 1, NULL);
    EXPECT_TAKES(rig, three[0], "adg");
    EXPECT_TAKES(rig, three[1], "beh");
    EXPECT_TAKES(rig, three[2], "cfi");
    rig_close(rig);
}

Test(A6, a_stalled_one_takes_its_share_until_it_is_full)
{
    struct rig *rig = rig_open();
    struct fq_consumer *stalled;
    struct fq_consumer *fast;
    uint32_t taken = 0;
    rig_create(rig, "q", 0);
    stalled = rig_consume(rig, "q");
    fast = rig_consume(rig, "q");
    for (int i = 0; i < 400; i++) {
        rig_put(rig, "q", 'x');
        taken += rig_take_some(rig, fast, 1000);
        cr_assert(
            eq(int, fq_consumer_waiting(stalled), (uint32_t)(i / 2 + 1 < 129 ? i / 2 + 1 : 129)));
    }
    cr_expect(eq(int, taken, 400 - 129));
    rig_close(rig);
}

Test(A6, a_late_stream_finds_what_the_first_left)
{
    struct rig *rig = rig_open();
    struct fq_consumer *late;
    rig_create(rig, "q", 0);
    rig_fill(rig, "q", 100);
    (void)rig_consume(rig, "q");
    late = rig_consume(rig, "q");
    cr_expect(eq(int, fq_consumer_waiting(late), 0));
    rig_close(rig);
}

Test(A6, a_disconnect_releases_no_lease)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 2000);
    rig_fill(rig, "q", 200);
    consumer = rig_consume(rig, "q");
    cr_expect(eq(int, rig_take_some(rig, consumer, 1), 1));
    rig_leave(rig, consumer);
    EXPECT_STATS(rig, "q", "200/129/1/0");
    consumer = rig_consume(rig, "q");
    cr_expect(eq(int, rig_take_some(rig, consumer, 1000), 71), "the rest");
    rig_pass(rig, 2100);
    cr_expect(eq(int, rig_take_some(rig, consumer, 1000), 129), "and after the timeout these");
    rig_close(rig);
}

Test(A6, quick_cycles_strand_a_pipe_each)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_fill(rig, "q", 900);
    for (int i = 0; i < 6; i++) {
        rig_leave(rig, rig_consume(rig, "q"));
    }
    EXPECT_STATS(rig, "q", "900/774/1/0");
    rig_close(rig);
}
