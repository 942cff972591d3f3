/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Terms of rules that no other test sees by itself: each of these fails when one guard is taken out
 * (tests/mutants/delivery.txt). VT 30 s, timeout 15 s, margin 1.5 s, slack 1 s.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define VT     (30 * FILA_S)
#define MARGIN (1500 * FILA_MS)

static char m[4096];

/* A message whose lease has that much left, for certain. */
static void read_as(struct stand *s, void *user, int i, int64_t left, uint64_t lane)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    struct fw_arrival arrival = {
        .user = user,
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .size = 100,
        .wire_size = 100,
        .lane = lane,
        .waiting_since = s->now,
        .lease_end = s->now + left,
    };
    stand_read_full(s, 0, &arrival);
}

static void read_left(struct stand *s, int i, int64_t left, uint64_t lane)
{
    read_as(s, &m[i], i, left, lane);
}

static bool runs(struct stand *s, int i)
{
    return stand_take_of(s, FW_COMMAND_RUN, &m[i], NULL);
}

static bool nacked(struct stand *s, int i)
{
    return stand_take_of(s, FW_COMMAND_NACK, &m[i], NULL);
}

/* Not at rest: what is read may have lain in the pipe since the stream opened. */
static struct stand *narrow(const struct fw_delivery_config *config)
{
    struct stand *s = stand_new(config);
    s->pipe.window = 1024;
    stand_reopen(s);
    s->quiet = false;
    stand_forget(s);
    return s;
}

/* ---- The lease window ---- */

/* (d): read again with the count that it had, it is a copy of the lease that our nack ended. */
Test(guards, a_copy_from_before_our_nack_has_the_old_lease)
{
    struct fw_delivery_config config = stand_config();
    struct fw_command run;
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    config.timeout = 3 * FILA_S;
    struct stand *s = narrow(&config);
    int64_t opened = s->now;
    stand_pass(s, 10 * FILA_S);
    for (uint32_t i = 0; i < 3; i++) { /* of the third only is the lease a new one */
        stand_read(s, &m[i], "a", i < 2 ? 1 : 2);
        cr_assert(stand_take_of(s, FW_COMMAND_RUN, &m[i], &run));
        cr_assert_eq(run.lease_end >= opened + 10 * FILA_S + VT, i == 2, "%u", i);
        stand_verdict(s, &m[i], FW_REJECT, FILA_MS);
        cr_assert(stand_take_of(s, FW_COMMAND_REJECT, &m[i], NULL));
        stand_settled(s, &m[i], FW_SETTLED_OK);
        stand_pass(s, (i + 1) * FILA_S); /* its backoff */
    }
    stand_free(s);
}

/* (c): a receive that stands ready since just now proves nothing of the pipe, little as came. */
Test(guards, receives_that_are_new_prove_nothing)
{
    struct fw_delivery_config config = stand_config();
    struct fw_command nack;
    struct stand *s = stand_new(&config);
    stand_reopen(s);
    s->quiet = false;
    int64_t opened = s->now;
    for (int i = 0; i < 4; i++) { /* prefetch */
        read_left(s, i, VT, 0);
    }
    stand_pass(s, 10 * FILA_S);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_read(s, &m[10], "old", 0);
    stand_pass(s, VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[10], &nack));
    cr_assert_leq(nack.deadline, opened + VT);
    stand_free(s);
}

/* A lease that is renewed while its message waits out a backoff lets it wait for all of that. */
Test(guards, a_waiting_ones_new_lease_counts)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = config.retry_max = 80 * FILA_S; /* with jitter, 40 to 80 */
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 20 * FILA_S);
    stand_read(s, &m[1], "a", 1);
    stand_finished(s, &m[1], FW_DUPLICATE);
    stand_pass(s, 15 * FILA_S);
    cr_assert_not(nacked(s, 0));
    stand_free(s);
}

/* And one that stands behind its lane is not returned for the sake of the old one. */
Test(guards, a_new_lease_of_one_behind_its_lane_counts)
{
    struct fw_delivery_config config = stand_config();
    config.lanes = true;
    config.timeout = 28 * FILA_S;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_runs(s, &m[0], 1);
    stand_read(s, &m[1], "b", 0);
    stand_pass(s, 20 * FILA_S);
    stand_read(s, &m[2], "b", 1);
    stand_finished(s, &m[2], FW_DUPLICATE);
    stand_pass(s, 9 * FILA_S);
    cr_assert_not(nacked(s, 1));
    stand_free(s);
}

Test(guards, time_never_goes_back)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    int64_t now = s->now;
    fw_delivery_timer(s->engine, now);
    s->now -= 10 * FILA_S;
    read_left(s, 0, 35 * FILA_S, 0);
    cr_assert_eq(stand_runs(s, &m[0], 1), now + 15 * FILA_S);
    stand_free(s);
}

/* ---- Rule 1: cuts, and what is needed ---- */

/* Told to stop by a drain, the handler says that the message never will work: that counts. */
Test(guards, a_reject_counts_although_the_run_was_cut)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    read_left(s, 0, VT, 0);
    fw_delivery_drain(s->engine, s->now, s->now + 4 * FILA_S);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, 2 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_CANCEL, &m[0], NULL));
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[0], NULL));
    stand_free(s);
}

/* Crashes after a ms say nothing of what the handler takes: 15 s are needed still. */
Test(guards, crashes_say_nothing_of_the_time_that_is_needed)
{
    struct fw_delivery_config config = stand_config();
    config.retry_attempts = 1;
    config.dead_letter = FW_DEAD_LETTER_DROP;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 40; i++) {
        read_left(s, i, VT, 0);
        stand_cause(s, &m[i], FW_RETRY, FW_CAUSE_CRASH, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    read_left(s, 100, MARGIN + 14 * FILA_S, 0);
    cr_assert_not(runs(s, 100));
    stand_free(s);
}

/* While the slot is taken nobody starves: what goes back then says nothing. */
Test(guards, less_is_needed_only_while_nothing_starts)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    read_left(s, 0, VT, 0);
    cr_assert(runs(s, 0));
    for (int i = 1; i < 12; i++) {
        read_left(s, i, 10 * FILA_S, 0);
        stand_pass(s, 9 * FILA_S);
        cr_assert(nacked(s, i));
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    read_left(s, 100, MARGIN + 14 * FILA_S, 0);
    cr_assert_not(runs(s, 100));
    stand_free(s);
}

/* Nothing fits, for long. Returns with the need at its floor. */
static int starve(struct stand *s, int64_t left, int rounds)
{
    int i = 0;
    for (; i < rounds; i++) {
        read_left(s, i, left, 0);
        cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0, "round %d", i);
        stand_pass(s, left);
        stand_settled(s, &m[i], FW_SETTLED_OK);
        stand_forget(s);
    }
    return i;
}

Test(guards, no_less_than_a_sixteenth_is_needed)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    (void)starve(s, MARGIN + VT / 16 - 100 * FILA_MS, 400);
    read_left(s, 3000, MARGIN + VT / 16, 0);
    cr_assert(runs(s, 3000));
    stand_free(s);
}

/* Started with little, it was cut by its lease: it did need more. */
Test(guards, a_cut_takes_the_lesser_need_back)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    (void)starve(s, MARGIN + VT / 16 - 100 * FILA_MS, 400);
    read_left(s, 3000, MARGIN + VT / 16, 0);
    cr_assert(runs(s, 3000));
    stand_pass(s, VT / 16);
    stand_cause(s, &m[3000], FW_RETRY, FW_CAUSE_TIMEOUT, VT / 16);
    cr_assert(nacked(s, 3000));
    stand_settled(s, &m[3000], FW_SETTLED_OK);
    read_left(s, 3001, MARGIN + 14 * FILA_S, 0);
    cr_assert_not(runs(s, 3001));
    stand_free(s);
}

/* What goes back after a run had enough: it does not starve. */
Test(guards, what_failed_and_goes_back_does_not_starve)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = config.retry_max = 1000 * FILA_S;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 3; i++) { /* all start at once, and then nothing does */
        read_left(s, i, VT, 0);
        stand_verdict(s, &m[i], FW_RETRY, FILA_MS);
    }
    for (int i = 1; i < 3; i++) { /* those that are left have new leases */
        stand_pass(s, 20 * FILA_S);
        for (int j = i; j < 3; j++) {
            read_as(s, &m[10 * i + j], j, VT, 0);
        }
    }
    stand_pass(s, VT);
    for (int i = 0; i < 3; i++) {
        cr_assert(nacked(s, i));
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    stand_forget(s);
    read_left(s, 100, MARGIN + 14 * FILA_S, 0);
    cr_assert_not(runs(s, 100));
    stand_free(s);
}

/* ---- Rule 2: a timer that comes late finds leases uncertain that were not ---- */

static void late_timer(struct stand *s, int64_t to)
{
    s->now = to;
    fw_delivery_timer(s->engine, to);
    stand_collect(s);
}

Test(guards, a_ready_one_becomes_uncertain)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 3 * FILA_S;
    config.prefetch = 8;
    struct stand *s = narrow(&config);
    int64_t opened = s->now;
    stand_pass(s, 10 * FILA_S);
    stand_read(s, &m[0], "a", 0);
    stand_runs(s, &m[0], 1);
    stand_read(s, &m[1], "b", 0);
    late_timer(s, opened + VT + FILA_S);
    stand_not_finished(s, &m[1]);
    stand_verdict(s, &m[0], FW_ACK, FILA_S);
    cr_assert(runs(s, 1));
    stand_free(s);
}

Test(guards, one_that_stepped_aside_becomes_uncertain)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 3 * FILA_S;
    config.prefetch = 8;
    config.lanes = true;
    struct stand *s = narrow(&config);
    int64_t opened = s->now;
    struct fw_arrival other = {
        .user = &m[0],
        .queue = "q",
        .queue_len = 1,
        .id = "a",
        .id_len = 1,
        .lane = 7,
        .size = 1024,
        .wire_size = 1024};
    stand_pass(s, 10 * FILA_S);
    other.waiting_since = s->now;
    stand_read_full(s, 0, &other);
    stand_runs(s, &m[0], 1);
    stand_read(s, &m[1], "b", 0);
    stand_until(s, opened + VT - MARGIN - 2 * FILA_S); /* it cannot start any more */
    late_timer(s, opened + VT + FILA_S);
    stand_not_finished(s, &m[1]);
    stand_verdict(s, &m[0], FW_ACK, FILA_S);
    cr_assert(runs(s, 1));
    stand_free(s);
}

/* ---- Rule 3: a success is never run again ---- */

/* Its first delivery's nack has no answer yet: whatever it ended, a copy may follow. */
Test(guards, an_ack_does_not_outlive_a_nack_that_is_still_out)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_REJECT, &m[0], NULL));
    stand_pass(s, FILA_S); /* its backoff */
    stand_read(s, &m[1], "a", 1);
    stand_runs(s, &m[1], 2);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_ACKED);
    stand_read(s, &m[2], "a", 2);
    cr_assert_not(runs(s, 2));
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[2], NULL));
    stand_free(s);
}

/* With two streams a copy of what came again may still lie in the other's pipe. */
Test(guards, an_ack_does_not_outlive_a_copy_in_another_stream)
{
    struct fw_delivery_config config = stand_config();
    config.streams = 2;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 1);
    stand_runs(s, &m[0], 1);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_read(s, &m[1], "a", 1);
    cr_assert_not(runs(s, 1));
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[1], NULL));
    stand_settled(s, &m[1], FW_SETTLED_GONE);
    stand_finished(s, &m[1], FW_DUPLICATE);
    stand_free(s);
}
