/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The life of a message, by the items of contract chapter B.
 */
#include "expect.h"

#include <stdio.h>

/* ---- B1: ids ---- */

Test(B1, ids_are_uuid_v7_with_the_wall_clock)
{
    struct rig *rig = rig_open();
    const char *id = rig->ids['a'];
    unsigned long long ms = 0;
    unsigned low = 0;
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    cr_expect(eq(sz, strlen(id), 36));
    cr_expect(eq(sz, strspn(id, "0123456789abcdef-"), 36), "lower case: %s", id);
    cr_expect(eq(int, sscanf(id, "%8llx-%4x-", &ms, &low), 2));
    cr_expect(eq(i64, (int64_t)(ms << 16 | low), RIG_WALL_MS));
    cr_expect(eq(chr, id[14], '7'), "version: %s", id);
    cr_expect(ne(ptr, strchr("89ab", id[19]), NULL), "variant: %s", id);
    rig_close(rig);
}

Test(B1, ids_are_parsed_as_rusts_uuid_does)
{
    static const struct {
        const char *text;
        bool valid;
    } rows[] = {
        {"01890a5d-ac96-774b-bcce-b302099a8057", true},
        {"01890A5D-AC96-774B-BCCE-B302099A8057", true},
        {"01890a5dac96774bbcceb302099a8057", true},
        {"{01890a5d-ac96-774b-bcce-b302099a8057}", true},
        {"{01890A5D-AC96-774B-BCCE-B302099A8057}", true},
        {"urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057", true},
        {"", false},
        {"x", false},
        {"01890a5d-ac96-774b-bcce-b302099a805", false},
        {"01890a5d-ac96-774b-bcce-b302099a80577", false},
        {"01890a5dac96-774b-bcce-b302099a8057-", false},
        {"01890a5d-ac96-774b-bcce-b302099a805g", false},
        {"01890a5dac96774bbcceb302099a805g", false},
        {"{01890a5dac96774bbcceb302099a8057}", false},
        {"{01890a5d-ac96-774b-bcce-b302099a8057)", false},
        {"URN:UUID:01890a5d-ac96-774b-bcce-b302099a8057", false},
        {"urn:uuid:01890a5dac96774bbcceb302099a8057", false},
        {" 1890a5d-ac96-774b-bcce-b302099a8057", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t id[16] = {0};
        char text[FQ_ID_SIZE];
        bool valid = fq_id_parse(fila_view_of(rows[i].text), id);
        cr_expect(eq(int, valid, rows[i].valid), "%s", rows[i].text);
        fq_id_format(id, text);
        if (valid) {
            cr_expect(eq(str, text, "01890a5d-ac96-774b-bcce-b302099a8057"), "%s", rows[i].text);
        }
    }
}

Test(B1, any_form_settles)
{
    struct rig *rig = rig_open();
    char braces[FQ_ID_SIZE + 2] = "{";
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    for (int i = 0; i < 36; i++) {
        char c = rig->ids['a'][i];
        braces[i + 1] = (char)(c >= 'a' && c <= 'f' ? c - 32 : c);
    }
    braces[37] = '}';
    EXPECT_TAKES(rig, consumer, "a");
    cr_expect(eq(
        int, fq_ack(rig->engine, rig->now, fila_view_of("q"), (fila_view){braces, 38}), FILA_OK));
    cr_expect(eq(int, rig_state(rig, 'a'), FQ_GONE));
    rig_close(rig);
}

/* ---- B4: how long a lease lasts ---- */

Test(B4, leases_last_the_queues_visibility_timeout)
{
    static const struct {
        int64_t given_ms;
        int64_t lasts;
    } rows[] = {
        {0, 30 * FILA_S},
        {1, FILA_MS},
        {1000, FILA_S},
        {43200000, 43200 * FILA_S},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig *rig = rig_open();
        rig_create(rig, "q", rows[i].given_ms);
        rig_put(rig, "q", 'a');
        EXPECT_TAKES(rig, rig_consume(rig, "q"), "a");
        cr_expect(eq(i64, rig->lease_ends['a'], rig->now + rows[i].lasts), "row %zu", i);
        rig_close(rig);
    }
}

Test(B4, the_longest_timeout_does_not_overflow)
{
    struct rig *rig = rig_open();
    struct fq_queue_options options = {.visibility_timeout = INT64_MAX, .scripts = NULL};
    cr_assert(
        eq(int, fq_create_queue(rig->engine, rig->now, fila_view_of("q"), &options), FILA_OK));
    rig_put(rig, "q", 'a');
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "a");
    cr_expect(gt(i64, rig->lease_ends['a'], rig->now));
    rig_pass(rig, 1000000);
    cr_expect(eq(int, rig_state(rig, 'a'), FQ_LEASED));
    rig_close(rig);
}

Test(B4, timeouts_of_queues_do_not_mix)
{
    struct rig *rig = rig_open();
    struct fq_consumer *slow;
    struct fq_consumer *fast;
    rig_create(rig, "slow", 5000);
    rig_create(rig, "fast", 1000);
    rig_put(rig, "slow", 's');
    rig_put(rig, "fast", 'f');
    slow = rig_consume(rig, "slow");
    fast = rig_consume(rig, "fast");
    EXPECT_TAKES(rig, slow, "s");
    EXPECT_TAKES(rig, fast, "f");
    rig_pass(rig, 1100);
    EXPECT_TAKES(rig, fast, "f1");
    EXPECT_TAKES(rig, slow, "");
    rig_pass(rig, 3800);
    EXPECT_TAKES(rig, slow, "");
    rig_pass(rig, 200);
    EXPECT_TAKES(rig, slow, "s1");
    rig_close(rig);
}

/* ---- B5: expiry ---- */

Test(B5, an_idle_broker_takes_leases_back_at_the_next_tick)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1050);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    cr_expect(eq(i64, fq_wake_at(rig->engine), rig->now + 1100 * FILA_MS));
    rig_pass(rig, 1099);
    EXPECT_TAKES(rig, consumer, "");
    rig_pass(rig, 1);
    EXPECT_TAKES(rig, consumer, "a1"); /* to the same open stream that still holds it */
    cr_expect(eq(int, rig->failures, 0), "on_failure is not run");
    rig_close(rig);
}

Test(B5, commands_postpone_expiry_for_as_long_as_they_come)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    for (int i = 0; i < 14 * 12; i++) { /* 12/s for 14 s, on another queue */
        rig_pass(rig, 83);
        rig_foreign(rig);
    }
    EXPECT_TAKES(rig, consumer, "");
    cr_expect(eq(int, rig_state(rig, 'a'), FQ_LEASED));
    rig_pass(rig, 100);
    EXPECT_TAKES(rig, consumer, "a1");
    rig_close(rig);
}

Test(B5, one_gap_of_100_ms_is_enough)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    for (int i = 0; i < 20; i++) {
        rig_pass(rig, 99);
        rig_foreign(rig);
    }
    cr_expect(eq(int, rig_state(rig, 'a'), FQ_LEASED));
    rig_pass(rig, 100);
    rig_foreign(rig);
    EXPECT_TAKES(rig, consumer, "a1");
    rig_close(rig);
}

Test(B5, an_expired_message_goes_to_the_tail)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    rig_leave(rig, consumer);
    rig_put(rig, "q", 'b');
    rig_put(rig, "q", 'c');
    rig_pass(rig, 1100);
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "bca1");
    rig_close(rig);
}

Test(B5, a_broker_with_nothing_to_do_sleeps)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    consumer = rig_consume(rig, "q");
    cr_expect(eq(i64, fq_wake_at(rig->engine), FILA_NEVER));
    rig_put(rig, "q", 'a');
    EXPECT_TAKES(rig, consumer, "a");
    cr_expect(eq(i64, fq_wake_at(rig->engine), rig->now + FILA_S));
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_OK));
    rig_pass(rig, 5000);
    cr_expect(eq(i64, fq_wake_at(rig->engine), FILA_NEVER));
    rig_close(rig);
}

Test(B5, a_late_tick_keeps_the_beat)
{
    struct rig *rig = rig_open();
    int64_t began = rig->now;
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    rig->now += 1130 * FILA_MS; /* nobody called it at 1,000 and 1,100 */
    fq_tick(rig->engine, rig->now);
    EXPECT_TAKES(rig, consumer, "a1");
    cr_expect(eq(i64, fq_wake_at(rig->engine), began + 2200 * FILA_MS), "not 2,230 or 2,130");
    rig_close(rig);
}

/* ---- B6: the attempt count ---- */

Test(B6, counts_nacks_and_expiries_but_not_deliveries)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_OK));
    EXPECT_TAKES(rig, consumer, "a1");
    rig_pass(rig, 1100);
    EXPECT_TAKES(rig, consumer, "a2");
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_OK));
    EXPECT_TAKES(rig, consumer, "a3");
    rig_close(rig);
}

/* ---- B7: nack ---- */

Test(B7, a_nacked_message_comes_back_at_once_for_ever)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    char expected[16];
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    for (int i = 1; i <= 5400; i++) {
        cr_assert(eq(int, rig_nack(rig, "q", 'a'), FILA_OK));
        (void)snprintf(expected, sizeof expected, "a%d", i);
        EXPECT_TAKES(rig, consumer, expected);
    }
    rig_close(rig);
}

Test(B7, behind_what_is_pending)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    rig_leave(rig, consumer);
    rig_put(rig, "q", 'b');
    rig_put(rig, "q", 'c');
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_OK));
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "bca1");
    rig_close(rig);
}

Test(B7, on_failure_is_told_the_error_and_the_increased_count)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "a");
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_OK));
    cr_expect(eq(int, rig->failures, 1));
    cr_expect(eq(int, rig->failure_attempts, 1));
    cr_expect(eq(str, rig->failure_error, "it broke"));
    rig_close(rig);
}

Test(B7, on_failure_may_dead_letter)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "a", "red", 3, "t");
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    rig_nack(rig, "q", 'a');
    EXPECT_TAKES(rig, consumer, "a1");
    rig->on_failure = FQ_FAILURE_DEAD_LETTER;
    rig_nack(rig, "q", 'a');
    EXPECT_TAKES(rig, consumer, "");
    EXPECT_STATS(rig, "q", "0/0/0/1");
    EXPECT_STATS(rig, "q.dlq", "1/0/1/0");
    rig_close(rig);
}

/* ---- B10: order ---- */

Test(B10, first_in_first_out_within_a_key)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put_as(rig, "q", "abcdefghij", "default", 1, NULL);
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "abcdefghij");
    rig_put_as(rig, "q", "klm", "default", 1, NULL);
    EXPECT_TAKES(rig, consumer, "klm");
    rig_close(rig);
}

/* ---- B11: settling ---- */

Test(B11, anyone_may_ack_also_after_the_stream_is_gone)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    rig_leave(rig, consumer);
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_OK));
    EXPECT_STATS(rig, "q", "0/0/0/0");
    rig_close(rig);
}

Test(B11, what_is_not_leased_is_not_found)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 0);
    rig_create(rig, "other", 0);
    rig_put(rig, "q", 'a');
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND), "pending, never leased");
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND), "pending, never leased");
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    cr_expect(eq(int, rig_ack(rig, "other", 'a'), FILA_MESSAGE_NOT_FOUND), "wrong queue");
    cr_expect(eq(int, rig_ack(rig, "nowhere", 'a'), FILA_MESSAGE_NOT_FOUND), "no such queue");
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_OK));
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND), "acked before");
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND), "acked before");
    cr_expect(
        eq(int,
           fq_ack(
               rig->engine, rig->now, fila_view_of("q"),
               fila_view_of("01890a5d-ac96-774b-bcce-b302099a8057")),
           FILA_MESSAGE_NOT_FOUND));
    cr_expect(
        eq(int, fq_ack(rig->engine, rig->now, fila_view_of("q"), fila_view_of("x")),
           FILA_INVALID_ARGUMENT));
    cr_expect(eq(
        int, fq_nack(rig->engine, rig->now, fila_view_of("q"), fila_view_of(""), fila_view_of("")),
        FILA_INVALID_ARGUMENT));
    rig_close(rig);
}

Test(B11, expired_but_not_taken_back_can_be_acked)
{
    struct rig *rig = rig_open();
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "a");
    rig->now += 20 * FILA_S; /* without a tick */
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_OK));
    rig_close(rig);
}

Test(B11, taken_back_and_pending_is_not_found)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    rig_leave(rig, consumer);
    rig_pass(rig, 1100);
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND));
    EXPECT_TAKES(rig, rig_consume(rig, "q"), "a1");
    rig_close(rig);
}

Test(B11, no_fencing_an_old_ack_deletes_under_the_new_holder)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    rig_pass(rig, 1100);
    EXPECT_TAKES(rig, consumer, "a1");
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_OK), "the old holder's");
    cr_expect(eq(int, rig_ack(rig, "q", 'a'), FILA_MESSAGE_NOT_FOUND), "the new holder's");
    rig_close(rig);
}

Test(B11, no_fencing_an_old_nack_hands_it_out_once_more)
{
    struct rig *rig = rig_open();
    struct fq_consumer *consumer;
    rig_create(rig, "q", 1000);
    rig_put(rig, "q", 'a');
    consumer = rig_consume(rig, "q");
    EXPECT_TAKES(rig, consumer, "a");
    rig_pass(rig, 1100);
    EXPECT_TAKES(rig, consumer, "a1");
    cr_expect(eq(int, rig_nack(rig, "q", 'a'), FILA_OK), "the old holder's");
    EXPECT_TAKES(rig, consumer, "a2");
    rig_close(rig);
}

/* ---- What a message carries ---- */

Test(A7, headers_are_a_map_and_the_last_of_equal_keys_stays)
{
    static const size_t counts[] = {2, 5, 32, 33, 64};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct rig *rig = rig_open();
        char values[64][24];
        fila_header headers[64];
        struct fq_enqueue in = {fila_view_of("q"), headers, counts[i], fila_view_of("")};
        struct fq_delivery delivery;
        for (size_t h = 0; h < counts[i]; h++) {
            (void)snprintf(values[h], sizeof values[h], "v%zu", h);
            headers[h].key = fila_view_of(h % 2 ? "odd" : "key");
            headers[h].value = fila_view_of(values[h]);
        }
        rig_create(rig, "q", 0);
        EXPECT_OK(fq_enqueue(rig->engine, rig->now, 1, &in, NULL));
        cr_assert(fq_take(rig_consume(rig, "q"), &delivery));
        cr_assert(eq(sz, delivery.fields.header_count, 2), "of %zu", counts[i]);
        for (size_t h = 0; h < 2; h++) {
            fila_view value = delivery.fields.headers[h].value;
            const char *wanted = values[counts[i] - 2 + h];
            cr_expect(eq(sz, value.len, strlen(wanted)));
            cr_expect(eq(int, memcmp(value.data, wanted, value.len), 0), "wants %s", wanted);
        }
        fq_delivery_release(&delivery);
        rig_close(rig);
    }
}

Test(A7, a_delivery_carries_what_was_enqueued)
{
    struct rig *rig = rig_open();
    fila_header headers[] = {
        {fila_view_of("throttle"), fila_view_of("t1")},
        {fila_view_of("throttle"), fila_view_of("t2")},
        {fila_view_of("key"), fila_view_of("red")},
    };
    struct fq_enqueue in = {fila_view_of("q"), headers, 3, {"a\0b", 3}};
    struct fq_delivery delivery;
    rig_create(rig, "q", 0);
    cr_assert(eq(int, fq_enqueue(rig->engine, rig->now, 1, &in, rig->ids['a']), FILA_OK));
    cr_assert(fq_take(rig_consume(rig, "q"), &delivery));
    fq_free(rig->engine); /* what was taken lives on */
    rig->engine = NULL;
    cr_expect(eq(int, memcmp(delivery.fields.id.data, rig->ids['a'], 36), 0));
    cr_expect(eq(sz, delivery.fields.payload.len, 3));
    cr_expect(eq(int, memcmp(delivery.fields.payload.data, "a\0b", 3), 0));
    cr_expect(eq(sz, delivery.fields.header_count, 2));
    cr_expect(eq(int, memcmp(delivery.fields.headers[0].value.data, "t2", 2), 0));
    cr_expect(eq(sz, delivery.fields.fairness_key.len, 3));
    cr_expect(eq(sz, delivery.fields.throttle_key_count, 1));
    cr_expect(eq(int, memcmp(delivery.fields.throttle_keys[0].data, "t2", 2), 0));
    cr_expect(eq(int, delivery.fields.weight, 1));
    cr_expect(eq(chr, delivery.fields.queue.data[0], 'q'));
    fq_delivery_release(&delivery);
    rig_close(rig);
}
