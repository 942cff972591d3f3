/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Rule 8: a queue of which more is leased than can be worked off.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define VT (30 * FILA_S)

static char m[4096];
static int read_so_far;
static uint32_t credits;
static int64_t opened;

static void collect_credits(struct stand *s)
{
    struct fw_command grant;
    while (stand_take(s, FW_COMMAND_GRANT, &grant)) {
        credits += grant.credits;
    }
}

static void read_one(struct stand *s, int i, uint32_t attempt)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    struct fw_arrival arrival = {
        .user = &m[read_so_far++],
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .attempt_count = attempt,
        .size = 1024,
        .wire_size = 1024,
        .waiting_since = s->now,
    };
    credits--;
    stand_read_full(s, 0, &arrival);
    collect_credits(s);
}

/* A pipe full of messages: as many are read as credits allow. Stops at `limit` of them. */
static int read_all(struct stand *s, int first, int limit)
{
    int count = 0;
    while (credits > 0 && count < limit) {
        read_one(s, first + count++, 0);
    }
    return count;
}

static struct stand *full(struct fw_delivery_config *config)
{
    struct stand *s = stand_new(config);
    s->pipe.window = 1024; /* one message fills it: readiness proves nothing */
    stand_reopen(s);
    opened = s->now;
    read_so_far = 0;
    credits = 0;
    stand_forget(s);
    credits = 4; /* prefetch */
    cr_assert_eq(read_all(s, 0, 1000), 4);
    cr_assert_eq(credits, 0);
    return s;
}

/* When the oldest lease in the pipe nears VT - need - margin, one pipe is turned round; then not
 * again within VT / 4; OVERLEASED is told once. */
Test(flush, one_pipe_when_leases_get_old)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full(&config);
    int64_t vt;
    int64_t returned;
    int64_t due = opened + VT - 15 * FILA_S - 1500 * FILA_MS - FILA_S;
    stand_until(s, due - 20 * FILA_MS); /* the stream was asked for a little before it opened */
    collect_credits(s);
    cr_assert_eq(credits, 0);
    stand_until(s, due);
    collect_credits(s);
    cr_assert_eq(credits, 1);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    int count = read_all(s, 1000, 1000);
    cr_assert_geq(count, 130); /* a pipe: 130 slots, and 64 of 1 KiB */
    cr_assert_leq(count, 195);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), (unsigned)count);
    cr_assert(stand_notice(s, FW_NOTICE_FLUSH, &returned));
    cr_assert_eq(returned, count);
    cr_assert(stand_notice(s, FW_NOTICE_OVERLEASED, &vt));
    cr_assert_geq(vt, 194 * 15 * FILA_S);
    stand_pass(s, VT / 4 - 1);
    collect_credits(s);
    cr_assert_eq(credits, 0);
    stand_free(s);
}

/* It ends at the first id that it has itself returned. */
Test(flush, small_queue_does_not_go_round)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full(&config);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert_eq(credits, 1);
    for (int i = 0; i < 10; i++) {
        read_one(s, 100 + i, 0);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 10);
    read_one(s, 100, 1);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 10);
    stand_free(s);
}

/* A fresh one ends it, and is kept. */
Test(flush, ends_at_a_fresh_lease)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full(&config);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert_eq(credits, 1);
    struct fw_arrival arrival = {
        .user = &m[500],
        .queue = "q",
        .queue_len = 1,
        .id = "new",
        .id_len = 3,
        .size = 100,
        .wire_size = 100,
        .waiting_since = s->now - 30 * FILA_MS};
    stand_read_full(s, 0, &arrival);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_not_finished(s, &m[500]);
    cr_assert_not(stand_notice(s, FW_NOTICE_FLUSH, NULL)); /* it returned nothing */
    cr_assert_not(stand_notice(s, FW_NOTICE_OVERLEASED, NULL));
    stand_free(s);
}

/* What can run at once is not returned; with a rate, "at once" means that the rate allows it. It
 * used to keep all, the slots being free between two starts. */
Test(flush, keeps_only_what_starts)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 2;
    config.prefetch = 4;
    config.rate = 0.1;
    config.timeout = 5 * FILA_S;
    struct stand *s = full(&config);
    struct fw_command run;
    while (s->now < opened + 22500 * FILA_MS) {
        while (stand_take(s, FW_COMMAND_RUN, &run)) { /* one each 10 s */
            stand_verdict(s, run.user, FW_ACK, FILA_MS);
            stand_settled(s, run.user, FW_SETTLED_OK);
        }
        collect_credits(s);
        (void)read_all(s, read_so_far, 10);
        stand_pass(s, 100 * FILA_MS);
    }
    collect_credits(s);
    cr_assert_eq(credits, 1);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    cr_assert_eq(fw_delivery_stats(s->engine).running, 0); /* both slots are free */
    for (int i = 0; i < 20; i++) {
        read_one(s, 200 + i, 0);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 20);
    stand_free(s);
}

/* With `expire` nothing is nacked: all is left. */
/* A message whose lease has that much left, for certain. */
static void read_left(struct stand *s, int i, int64_t left, uint64_t lane)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    struct fw_arrival arrival = {
        .user = &m[read_so_far++],
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .size = 1024,
        .wire_size = 1024,
        .lane = lane,
        .waiting_since = s->now,
        .lease_end = s->now + left,
    };
    credits--;
    stand_read_full(s, 0, &arrival);
    collect_credits(s);
}

/* Leased since it began, however long it takes: that is fresh. */
Test(flush, ends_at_one_that_was_leased_since_it_began)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full(&config);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert_eq(credits, 1);
    int64_t began = s->now;
    stand_pass(s, 5 * FILA_S);
    read_left(s, 500, began + FILA_MS + VT - s->now, 0);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_free(s);
}

/* An id that it has itself let go ends it, though nothing was nacked. */
Test(flush, small_queue_does_not_go_round_with_expire)
{
    struct fw_delivery_config config = stand_config();
    config.surplus = FW_SURPLUS_EXPIRE;
    struct stand *s = full(&config);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert_eq(credits, 1);
    for (int i = 0; i < 5; i++) {
        read_one(s, 100 + i, 0);
    }
    cr_assert(fw_delivery_stats(s->engine).flushing);
    read_one(s, 100, 1);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    stand_free(s);
}

Test(flush, not_while_paused)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full(&config);
    stand_until(s, opened + 11 * FILA_S);
    fw_delivery_pause(s->engine, s->now);
    stand_collect(s);
    stand_pass(s, 5 * FILA_S);
    collect_credits(s);
    cr_assert_eq(credits, 0);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    stand_free(s);
}

/* Receives stand ready: what is there would be read. */
Test(flush, not_while_receives_stand_ready)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    s->pipe.window = 1024;
    stand_reopen(s);
    opened = s->now;
    credits = 0;
    collect_credits(s);
    uint32_t before = credits;
    stand_until(s, opened + 20 * FILA_S);
    fw_delivery_timer(s->engine, s->now);
    stand_collect(s);
    collect_credits(s);
    cr_assert_eq(credits, before);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    stand_free(s);
}

/* Slots are free, and the bytes are used up by messages that wait for their next try. */
static struct stand *full_of_bytes(struct fw_delivery_config *config)
{
    config->concurrency = 8;
    config->prefetch_bytes = 4096;
    config->retry_first = config->retry_max = 1000 * FILA_S;
    struct stand *s = stand_new(config);
    s->pipe.window = 1024;
    stand_reopen(s);
    opened = s->now;
    read_so_far = 0;
    stand_forget(s);
    credits = 100;
    return s;
}

Test(flush, what_would_not_fit_is_returned_although_a_slot_is_free)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full_of_bytes(&config);
    for (int i = 0; i < 20; i++) { /* more than prefetch: no credit is left */
        read_one(s, i, 0);
        stand_cause(s, &m[i], FW_RETRY, FW_CAUSE_CRASH, FILA_MS);
    }
    collect_credits(s);
    stand_forget(s);
    credits = 0;
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    int user = read_so_far;
    read_left(s, 500, 11500 * FILA_MS, 0);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[user], NULL));
    stand_free(s);
}

Test(flush, one_whose_lane_is_busy_is_returned_although_a_slot_is_free)
{
    struct fw_delivery_config config = stand_config();
    config.lanes = true;
    struct stand *s = full_of_bytes(&config);
    read_left(s, 100, VT, 7); /* runs */
    for (int i = 0; i < 20; i++) {
        read_left(s, i, VT, 100 + (uint64_t)i);
        stand_cause(s, &m[1 + i], FW_RETRY, FW_CAUSE_CRASH, FILA_MS);
    }
    collect_credits(s);
    stand_forget(s);
    credits = 0;
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    int user = read_so_far;
    read_left(s, 500, 21500 * FILA_MS, 7); /* it has 5 s more than it needs */
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[user], NULL));
    stand_free(s);
}

/* 64 slots, but one start a second: that is what a pipe takes. */
Test(flush, overleased_counts_the_rate)
{
    struct fw_delivery_config config = stand_config();
    int64_t vt = 0;
    config.concurrency = 64;
    config.prefetch = 64;
    config.rate = 1;
    struct stand *s = stand_new(&config);
    s->pipe.window = 1024;
    stand_reopen(s);
    opened = s->now;
    read_so_far = 0;
    stand_forget(s);
    credits = 64;
    cr_assert_eq(read_all(s, 0, 64), 64);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    for (int i = 0; i < 300 && fw_delivery_stats(s->engine).flushing; i++) {
        read_one(s, 1000 + i, 0);
    }
    cr_assert(stand_notice(s, FW_NOTICE_OVERLEASED, &vt));
    cr_assert_geq(vt, 194 * FILA_S);
    stand_free(s);
}

/* A stream that is to stop is read no further. */
Test(flush, ends_with_a_drain)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full(&config);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert_eq(credits, 1);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    fw_delivery_drain(s->engine, s->now, s->now + 20 * FILA_S);
    stand_collect(s);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    read_one(s, 100, 0); /* was on its way */
    cr_assert_eq(credits, 0);
    stand_free(s);
}

Test(flush, leaves_with_expire)
{
    struct fw_delivery_config config = stand_config();
    config.surplus = FW_SURPLUS_EXPIRE;
    struct stand *s = full(&config);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    for (int i = 0; i < 10; i++) { /* what is held is left, and what is then read at once */
        (void)read_all(s, 1000 + 100 * i, 100);
        stand_pass(s, FILA_S);
        collect_credits(s);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    cr_assert_geq(fw_delivery_stats(s->engine).finished[FW_LEFT], 50);
    stand_free(s);
}

/* Not while reading stands still for another reason. */
Test(flush, not_under_memory_pressure)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = full(&config);
    fw_delivery_pressure(s->engine, s->now, true);
    stand_collect(s);
    stand_pass(s, 13 * FILA_S);
    collect_credits(s);
    cr_assert_eq(credits, 0);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    stand_free(s);
}

/* Progress: when nothing ever fits, because a message is said to need more than its lease has left
 * when it comes, that need is halved each VT. Such a path: 8 s old when it is read. */
Test(starving, starts_at_last)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    s->pipe.round_trip = 4 * FILA_S; /* slack 16 s: 30 - 16 - 1.5 is less than the 15 needed */
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, FILA_S);
    stand_open(s, 0);
    stand_forget(s);
    int64_t begin = s->now;
    int i = 0;
    for (; s->now < begin + 10 * VT && stand_count(s, FW_COMMAND_RUN) == 0; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "s-%d", i);
        stand_pass(s, 20 * FILA_S);
        stand_read(s, &m[i], id, 0);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    cr_assert_geq(s->now, begin + VT);
    stand_free(s);
}

/* ---- What a flush does not do ---- */

static struct stand *flushing(struct fw_delivery_config *config)
{
    struct stand *s = full(config);
    stand_until(s, opened + 12500 * FILA_MS);
    collect_credits(s);
    cr_assert_eq(credits, 1);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    return s;
}

/* Also where the broker does not count returns. */
Test(flush, ends_at_its_own_returns_whatever_they_count)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = flushing(&config);
    read_one(s, 100, 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 1);
    read_one(s, 100, 0);
    cr_assert_not(fw_delivery_stats(s->engine).flushing);
    stand_not_finished(s, &m[read_so_far - 1]);
    stand_free(s);
}

Test(flush, keeps_what_is_past_its_earliest_end)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = flushing(&config);
    stand_until(s, opened + VT + FILA_S);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    stand_forget(s);
    read_one(s, 100, 0);
    stand_not_finished(s, &m[read_so_far - 1]); /* rule 2: it may still run */
    stand_free(s);
}

Test(flush, keeps_what_can_start_at_once)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = flushing(&config);
    struct fw_command run;
    while (stand_take(s, FW_COMMAND_RUN, &run)) {
        stand_verdict(s, run.user, FW_ACK, FILA_MS);
    }
    cr_assert_eq(fw_delivery_stats(s->engine).running, 0);
    cr_assert(fw_delivery_stats(s->engine).flushing);
    read_one(s, 100, 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_free(s);
}

Test(flush, its_nacks_keep_pace)
{
    struct fw_delivery_config config = stand_config();
    config.settle_in_flight = 8;
    struct stand *s = flushing(&config);
    int count = read_all(s, 100, 1000); /* and nobody answers */
    cr_assert_geq(count, 8);
    cr_assert_leq(count, 17);
    stand_free(s);
}

Test(flush, overleased_is_told_once_a_spell)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = flushing(&config);
    (void)read_all(s, 1000, 1000);
    cr_assert(stand_notice(s, FW_NOTICE_FLUSH, NULL));
    cr_assert(stand_notice(s, FW_NOTICE_OVERLEASED, NULL));
    for (int n = 0; n < 40 && !stand_notice(s, FW_NOTICE_FLUSH, NULL); n++) {
        struct fw_command nack;
        while (stand_take(s, FW_COMMAND_NACK, &nack)) {
            stand_settled(s, nack.user, FW_SETTLED_OK);
        }
        stand_pass(s, FILA_S);
        collect_credits(s);
        (void)read_all(s, 2000 + 1000 * n, 1000);
        cr_assert_not(stand_notice(s, FW_NOTICE_OVERLEASED, NULL));
        cr_assert_lt(n, 39, "no second flush");
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_OVERLEASED, NULL));
    stand_free(s);
}
