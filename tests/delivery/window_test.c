/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The lease window of a message, its terms (a) to (d), and what follows from it: uncertain leases
 * (rule 2), a visibility timeout that is shorter than configured (rule 10), a window too small for
 * the path. VT 30 s, margin 1.5 s, slack 1 s, pipe 130 messages and 64 KiB.
 *
 * The window is seen from outside by the instant at which an unstartable message goes back:
 * earliest end - margin.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define VT     (30 * FILA_S)
#define MARGIN (1500 * FILA_MS)
#define SLACK  (1 * FILA_S)

static char m[4096];

static struct stand *fresh(void)
{
    struct fw_delivery_config config = stand_config();
    return stand_new(&config);
}

/* A window that one message of 1 KiB fills: readiness proves nothing then (term (c), second half).
 */
static struct stand *narrow(const struct fw_delivery_config *config)
{
    struct stand *s = stand_new(config);
    s->pipe.window = 1024;
    stand_reopen(s);
    stand_forget(s);
    return s;
}

/* A message of any size; `waited`: how long its receive had stood there. */
static void read_one(struct stand *s, int i, uint32_t size, int64_t waited)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    struct fw_arrival arrival = {
        .user = &m[i],
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .size = size,
        .wire_size = size,
        .waiting_since = s->now - waited,
    };
    stand_read_full(s, 0, &arrival);
}

/* Reads one behind a busy slot and returns the earliest start of its lease, found by waiting for
 * its return. */
static int64_t early_start(struct stand *s, int i, uint32_t size, int64_t waited)
{
    struct fw_command nack;
    read_one(s, i, size, waited);
    stand_pass(s, VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[i], &nack), "it did not go back");
    stand_settled(s, &m[i], FW_SETTLED_OK);
    return nack.deadline - VT;
}

/* Occupies the only slot for good. */
static void occupy(struct stand *s)
{
    read_one(s, 4000, 1, FILA_S);
    stand_runs(s, &m[4000], 1);
    stand_forget(s);
}

/* (a): not before the stream's opening was asked for. */
Test(window, stream_open)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    s->pipe.window = 1024;
    stand_end(s, 0, FW_STREAM_CLOSED);
    while (!stand_take(s, FW_COMMAND_OPEN_STREAM, NULL)) {
        stand_pass(s, FILA_MS);
    }
    int64_t asked = s->now;
    stand_pass(s, 300 * FILA_MS);
    stand_open(s, 0);
    read_one(s, 4000, 1024, 0);
    stand_runs(s, &m[4000], 1);
    int64_t start = early_start(s, 0, 1024, 0);
    cr_assert_geq(start, asked - FILA_MS);
    cr_assert_leq(start, asked);
    stand_free(s);
}

/* (b): the read of the message a pipe ahead: 130 slots, then more than 64 KiB. */
Test(window, walk_over_the_pipe)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = narrow(&config);
    int64_t at[400];
    for (int i = 0; i < 300; i++) {
        stand_pass(s, 10 * FILA_MS);
        at[i] = s->now;
        read_one(s, i, 1024, 0);
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_OK);
        stand_forget(s);
    }
    read_one(s, 300, 1024, 0);
    stand_runs(s, &m[300], 1);
    /* Of message 301, 130 slots go back to 172; 65 before them do not fit into 64 KiB: 107 to 171.
     * When 106 was read it cannot have been leased. */
    cr_assert_eq(early_start(s, 301, 1024, 0), at[106]);
    stand_free(s);
}

/* (c): a receive that had stood waiting for 20 ms: less the slack. */
Test(window, receive_stood_waiting)
{
    struct stand *s = fresh();
    occupy(s);
    stand_pass(s, 5 * FILA_S);
    int64_t now = s->now;
    cr_assert_eq(early_start(s, 0, 1024, 20 * FILA_MS), now - SLACK);
    stand_free(s);
}

Test(window, receive_did_not_wait_for_long)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = narrow(&config);
    int64_t opened = s->now;
    occupy(s);
    stand_pass(s, 2 * FILA_S);
    cr_assert_leq(early_start(s, 0, 1024, 20 * FILA_MS - 1), opened);
    stand_free(s);
}

/* (c) for a message larger than the window: four round trips for each window that it takes. */
Test(window, large_message_takes_round_trips)
{
    struct stand *s = fresh();
    s->pipe.round_trip = 50 * FILA_MS;
    stand_reopen(s);
    int64_t opened = s->now;
    occupy(s);
    stand_pass(s, 2 * FILA_S); /* 64 KiB through 16 KiB: 5 trips, so that 1 s must have passed */
    cr_assert_leq(early_start(s, 0, 65536, FILA_S - 1), opened);
    int64_t now = s->now;
    cr_assert_eq(early_start(s, 1, 65536, FILA_S), now - SLACK);
    stand_free(s);
}

/* (c): receives that stood ready all the time, and less than half a window that came. */
Test(window, trickle_through_an_empty_pipe)
{
    struct stand *s = fresh();
    stand_pass(s, 5 * FILA_S); /* credits stand there since the open */
    occupy(s);
    stand_pass(s, 12 * FILA_MS);
    int64_t now = s->now;
    cr_assert_eq(early_start(s, 0, 1024, 12 * FILA_MS), now - SLACK);
    stand_free(s);
}

/* More than half a window within 20 ms: the broker's side may have been held up. */
Test(window, more_than_a_trickle)
{
    struct fw_delivery_config config = stand_config();
    config.prefetch = 64;
    struct stand *s = stand_new(&config);
    stand_pass(s, 5 * FILA_S);
    occupy(s);
    for (int i = 0; i < 8; i++) {
        read_one(s, 10 + i, 1024, 0);
    }
    int64_t now = s->now;
    struct fw_command nack;
    read_one(s, 0, 1024, 0);
    stand_pass(s, VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], &nack));
    cr_assert_eq(nack.deadline - VT, now - SLACK); /* those before it proved the pipe empty */
    stand_free(s);
    s = stand_new(&config);
    s->pipe.window = 16384;
    stand_reopen(s);
    int64_t opened = s->now;
    stand_pass(s, 19 * FILA_MS);
    occupy(s);
    for (int i = 0; i < 8; i++) { /* ready for less than 20 ms when they came, and then too many */
        read_one(s, 10 + i, 1024, 0);
    }
    stand_pass(s, 10 * FILA_MS);
    read_one(s, 0, 1024, 0);
    stand_pass(s, VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], &nack));
    cr_assert_leq(nack.deadline - VT, opened);
    stand_free(s);
}

/* (c): less the longest answer on that connection within the last VT. */
Test(window, slow_answers_widen_it)
{
    struct stand *s = fresh();
    read_one(s, 1, 1024, FILA_S);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    fw_delivery_settled(s->engine, s->now, &m[1], FW_SETTLED_OK, 3 * FILA_S);
    stand_collect(s);
    occupy(s);
    stand_pass(s, 5 * FILA_S);
    int64_t now = s->now;
    cr_assert_eq(early_start(s, 0, 1024, FILA_S), now - 3 * FILA_S);
    stand_free(s);
}

/* (c): pending answers count as long as they are under way. */
Test(window, pending_answers_widen_it)
{
    struct stand *s = fresh();
    read_one(s, 1, 1024, FILA_S);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    occupy(s);
    stand_pass(s, 4 * FILA_S);
    int64_t now = s->now;
    cr_assert_eq(early_start(s, 0, 1024, FILA_S), now - 4 * FILA_S);
    stand_free(s);
}

/* An exact lease end replaces all of that. */
Test(window, exact_lease_end)
{
    struct stand *s = fresh();
    struct fw_command nack;
    occupy(s);
    int64_t end = s->now + 12345 * FILA_MS;
    struct fw_arrival arrival = {
        .user = &m[0],
        .queue = "q",
        .queue_len = 1,
        .id = "a",
        .id_len = 1,
        .waiting_since = s->now,
        .lease_end = end,
    };
    stand_read_full(s, 0, &arrival);
    stand_until(s, end - MARGIN - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_until(s, end);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], &nack));
    cr_assert_eq(nack.deadline, end);
    stand_free(s);
}

/* A message of which only (a) is known: the stream opened 40 s ago. */
static void make_unsure(struct stand *s, int i)
{
    read_one(s, i, 1024, 0);
}

static struct stand *stale(const struct fw_delivery_config *config)
{
    struct stand *s = narrow(config);
    stand_pass(s, 40 * FILA_S);
    return s;
}

/* Rule 2: it runs, with the latest end for its deadline; it is acked, and never nacked. */
Test(unsure, runs_and_is_acked)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 29 * FILA_S;
    struct stand *s = stale(&config);
    make_unsure(s, 0);
    cr_assert_eq(stand_runs(s, &m[0], 1), s->now + VT - MARGIN);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_ACKED);
    stand_free(s);
}

Test(unsure, failure_is_not_nacked)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stale(&config);
    make_unsure(s, 0);
    stand_runs(s, &m[0], 1);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_free(s);
}

Test(unsure, comes_after_all_that_are_certain)
{
    struct fw_delivery_config config = stand_config();
    config.prefetch = 64;
    struct stand *s = stale(&config);
    make_unsure(s, 4000);
    stand_runs(s, &m[4000], 1);
    make_unsure(s, 0);
    read_one(s, 1, 1024, FILA_S);
    stand_verdict(s, &m[4000], FW_ACK, FILA_MS);
    stand_runs(s, &m[1], 1);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    stand_runs(s, &m[0], 1);
    stand_free(s);
}

/* After the latest end, less what it would need, it is dropped. */
Test(unsure, is_dropped_when_it_cannot_start_any_more)
{
    struct fw_delivery_config config = stand_config();
    config.prefetch = 64;
    struct stand *s = stale(&config);
    make_unsure(s, 4000);
    make_unsure(s, 0);
    int64_t last = s->now + VT - MARGIN - 15 * FILA_S;
    stand_until(s, last);
    stand_not_finished(s, &m[0]);
    stand_until(s, last + 1);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_free(s);
}

Test(unsure, is_left_with_skip)
{
    struct fw_delivery_config config = stand_config();
    config.unsure_lease = FW_UNSURE_SKIP;
    struct stand *s = stale(&config);
    make_unsure(s, 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_finished(s, &m[0], FW_LEFT);
    stand_free(s);
}

/* At once, even if it would have to wait for its backoff. */
Test(unsure, is_left_with_skip_though_it_would_wait)
{
    struct fw_delivery_config config = stand_config();
    config.unsure_lease = FW_UNSURE_SKIP;
    struct stand *s = stale(&config);
    struct fw_restored tried = {
        .queue = "q",
        .queue_len = 1,
        .id = "id-0",
        .id_len = 4,
        .tries = 1,
        .not_before = s->now + 5 * FILA_S,
    };
    fw_delivery_restore(s->engine, s->now, &tried);
    make_unsure(s, 0);
    stand_finished(s, &m[0], FW_LEFT);
    stand_free(s);
}

/* A message each second, and again when its lease has ended, for more than a VT; the receives never
 * stand waiting for long. Whether the stream was stopped, and when. */
static bool goes_round(struct stand *s, int64_t time, int64_t *ret_stopped)
{
    int64_t until = s->now + time;
    for (int i = 0; s->now < until; i++) {
        stand_pass(s, FILA_S);
        read_one(s, 100 + i, 1024, 0);
        *ret_stopped = s->now;
        if (stand_take(s, FW_COMMAND_STOP_STREAM, NULL)) {
            return true;
        }
    }
    return false;
}

/* Neither (b) nor (c) would ever make them certain: (a) does. */
Test(unsure, with_skip_a_stream_of_them_is_opened_anew)
{
    struct fw_delivery_config config = stand_config();
    config.unsure_lease = FW_UNSURE_SKIP;
    struct stand *s = stale(&config);
    int64_t began = s->now + FILA_S;
    int64_t stopped;
    cr_assert(goes_round(s, 2 * VT, &stopped), "they are left for ever");
    cr_assert_eq(stopped, began + VT);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_FINISH), 31);
    stand_reopen(s);
    read_one(s, 0, 1024, 0);
    stand_runs(s, &m[0], 1);
    stand_free(s);
}

Test(unsure, with_skip_one_that_can_start_keeps_the_stream)
{
    struct fw_delivery_config config = stand_config();
    config.unsure_lease = FW_UNSURE_SKIP;
    struct stand *s = stale(&config);
    int64_t stopped;
    for (int i = 0; i < 3; i++) {
        cr_assert(!goes_round(s, VT - FILA_S, &stopped));
        read_one(s, i, 1024, FILA_S); /* into an empty pipe */
        stand_runs(s, &m[i], 1);
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_OK);
        stand_pass(s, VT); /* it proves nothing for the next ones */
    }
    stand_free(s);
}

Test(unsure, that_run_keep_the_stream)
{
    struct fw_delivery_config config = stand_config();
    config.prefetch = 256;
    struct stand *s = stale(&config);
    int64_t stopped;
    cr_assert(!goes_round(s, 2 * VT, &stopped));
    stand_free(s);
}

/* Nor may `expire` leave what is always too old for ever: 230 messages a pipe, one each 0.1 s, are
 * 23 s old, and need 15 s. */
Test(unsure, with_expire_a_stream_of_old_ones_is_opened_anew)
{
    struct fw_delivery_config config = stand_config();
    config.surplus = FW_SURPLUS_EXPIRE;
    config.prefetch = 256;
    struct stand *s = narrow(&config);
    fw_delivery_pressure(s->engine, s->now, true); /* no flush */
    int64_t stopped = 0;
    for (int i = 0; i < 1000 && stopped == 0; i++) {
        stand_pass(s, 100 * FILA_MS);
        read_one(s, 100 + i, 1024, 0);
        if (stand_take_of(s, FW_COMMAND_RUN, &m[100 + i], NULL)) {
            stand_verdict(s, &m[100 + i], FW_UNAVAILABLE, FILA_MS); /* says nothing of its need */
        }
        stopped = stand_take(s, FW_COMMAND_STOP_STREAM, NULL) ? s->now : 0;
    }
    cr_assert_neq(stopped, 0, "they are left for ever");
    stand_free(s);
}

/* What is to be dead-lettered may not be published on an uncertain lease: it is as stuck. */
Test(unsure, dead_letters_have_the_stream_opened_anew)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stale(&config);
    for (int i = 100; i < 200; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id-%d", i);
        struct fw_restored dead = {
            .queue = "q",
            .queue_len = 1,
            .id = id,
            .id_len = strlen(id),
            .tries = 5,
            .doomed = FW_CAUSE_RETRY,
        };
        fw_delivery_restore(s->engine, s->now, &dead);
    }
    int64_t stopped;
    cr_assert(goes_round(s, 2 * VT, &stopped));
    stand_reopen(s);
    read_one(s, 100, 1024, 0);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[100], NULL));
    stand_free(s);
}

/* Rule 1: a run that its lease cut, not its own timeout, is no try; stopped in time it is nacked.
 */
Test(cut, is_no_try)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 25 * FILA_S;
    config.retry_attempts = 1;
    struct stand *s = stand_new(&config);
    read_one(s, 0, 1024, FILA_S);
    read_one(s, 1, 1024, FILA_S);
    stand_runs(s, &m[0], 1);
    stand_pass(s, 10 * FILA_S);
    stand_verdict(s, &m[0], FW_ACK, 10 * FILA_S);
    int64_t deadline = stand_runs(s, &m[1], 1);
    cr_assert_lt(deadline, s->now + 25 * FILA_S);
    stand_until(s, deadline);
    stand_cause(s, &m[1], FW_RETRY, FW_CAUSE_TIMEOUT, 16 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_PUBLISH), 0);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], NULL));
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_RETRIED);
    stand_free(s);
}

Test(cut, after_the_earliest_end_is_lost)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 25 * FILA_S;
    struct stand *s = stand_new(&config);
    read_one(s, 0, 1024, FILA_S);
    read_one(s, 1, 1024, FILA_S);
    stand_pass(s, 10 * FILA_S);
    stand_verdict(s, &m[0], FW_ACK, 10 * FILA_S);
    stand_pass(s, 20 * FILA_S);
    stand_cause(s, &m[1], FW_RETRY, FW_CAUSE_TIMEOUT, 20 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_finished(s, &m[1], FW_LEASE_LOST);
    stand_free(s);
}

/* Its own timeout is a try. */
Test(cut, own_timeout_is_a_try)
{
    struct fw_delivery_config config = stand_config();
    config.retry_attempts = 1;
    struct stand *s = stand_new(&config);
    read_one(s, 0, 1024, FILA_S);
    stand_until(s, stand_runs(s, &m[0], 1));
    stand_cause(s, &m[0], FW_RETRY, FW_CAUSE_TIMEOUT, 15 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[0], NULL));
    stand_free(s);
}

static void gone_at(struct stand *s, int i, int64_t after)
{
    read_one(s, i, 1024, FILA_S);
    stand_pass(s, after);
    stand_verdict(s, &m[i], FW_ACK, after);
    stand_settled(s, &m[i], FW_SETTLED_GONE);
}

/* Rule 10: three different ids within 2 VT; the largest of the three counts. */
Test(short_lease, three_prove_it)
{
    struct stand *s = fresh();
    int64_t vt;
    gone_at(s, 0, 11 * FILA_S);
    gone_at(s, 1, 14 * FILA_S);
    cr_assert_not(stand_notice(s, FW_NOTICE_VT_SHORT, NULL));
    gone_at(s, 2, 12 * FILA_S);
    cr_assert(stand_notice(s, FW_NOTICE_VT_SHORT, &vt));
    cr_assert_eq(vt, 14 * FILA_S + SLACK);
    /* Now leases are taken to last so long: margin 1.4 s (VT / 10, then 1 s at most: 1 s) */
    occupy(s);
    int64_t start = s->now;
    struct fw_command nack;
    read_one(s, 5, 1024, FILA_S);
    stand_pass(s, VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[5], &nack));
    cr_assert_eq(nack.deadline, start - SLACK + vt);
    stand_settled(s, &m[5], FW_SETTLED_OK);
    /* Until the stream opens anew. */
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, FILA_S);
    stand_open(s, 0);
    stand_pass(s, FILA_S);
    start = s->now;
    read_one(s, 6, 1024, FILA_S);
    stand_pass(s, 2 * VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[6], &nack));
    cr_assert_eq(nack.deadline, start - SLACK + VT);
    stand_free(s);
}

Test(short_lease, the_same_id_is_no_proof)
{
    struct stand *s = fresh();
    for (int i = 0; i < 5; i++) {
        char id[] = "same";
        struct fw_arrival arrival = {
            .user = &m[i],
            .queue = "q",
            .queue_len = 1,
            .id = id,
            .id_len = 4,
            .attempt_count = (uint32_t)(2 * i),
            .waiting_since = s->now - FILA_S};
        stand_read_full(s, 0, &arrival);
        stand_pass(s, FILA_S);
        arrival.user = &m[100 + i];
        arrival.attempt_count++;
        stand_read_full(s, 0, &arrival); /* held, and read again */
        stand_verdict(s, &m[i], FW_ACK, FILA_S);
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_VT_SHORT, NULL));
    stand_free(s);
}

Test(short_lease, duplicates_prove_it_never_under_an_eighth)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 4;
    struct stand *s = stand_new(&config);
    int64_t vt;
    for (int i = 0; i < 3; i++) {
        char id[4] = {'d', (char)('0' + i), 0};
        stand_read(s, &m[i], id, 0);
        stand_pass(s, 10 * FILA_MS);
        stand_read(s, &m[10 + i], id, 1);
        stand_finished(s, &m[10 + i], FW_DUPLICATE);
    }
    cr_assert(stand_notice(s, FW_NOTICE_VT_SHORT, &vt));
    cr_assert_eq(vt, VT / 8);
    stand_free(s);
}

/* After a failover, or a restart that lost its leases, those of before are gone: that says nothing
 * about how long leases last. */
Test(short_lease, what_was_read_before_the_stream_opened_anew_proves_nothing)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 4;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 4; i++) {
        read_one(s, i, 1024, 0);
    }
    stand_pass(s, FILA_S);
    stand_end(s, 0, FW_STREAM_BROKEN);
    stand_pass(s, FILA_S);
    stand_open(s, 0);
    for (int i = 0; i < 4; i++) {
        stand_verdict(s, &m[i], FW_ACK, FILA_S);
        stand_settled(s, &m[i], FW_SETTLED_GONE);
        stand_finished(s, &m[i], FW_LEASE_LOST);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_VT_SHORT, NULL));
    stand_free(s);
}

/* GONE to a second ack is no evidence: the first may have done it. */
Test(short_lease, only_the_first_answer_counts)
{
    struct stand *s = fresh();
    for (int i = 0; i < 4; i++) {
        read_one(s, i, 1024, FILA_S);
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_UNKNOWN);
        stand_pass(s, FILA_S);
        stand_settled(s, &m[i], FW_SETTLED_GONE);
        stand_finished(s, &m[i], FW_ACKED);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_VT_SHORT, NULL));
    stand_free(s);
}

/* A stale copy, out of another stream's pipe: no new lease. */
Test(short_lease, stale_copy_does_not_renew)
{
    struct stand *s = fresh();
    struct fw_command nack;
    occupy(s);
    stand_read(s, &m[0], "a", 5);
    int64_t end = s->now - SLACK + VT;
    stand_pass(s, 10 * FILA_S);
    stand_read(s, &m[1], "a", 4);
    stand_finished(s, &m[1], FW_DUPLICATE);
    stand_pass(s, VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], &nack));
    cr_assert_eq(nack.deadline, end);
    stand_free(s);
}

/* Large messages over a far path: they come steadily, each of them old. */
Test(pipe, slow_path_doubles_the_window)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 8;
    struct stand *s = stand_new(&config);
    struct fw_command command;
    int64_t window = 0;
    s->pipe.round_trip = 100 * FILA_MS;
    stand_reopen(s);
    for (int i = 0; i < 100 && window == 0; i++) {
        stand_pass(s, 400 * FILA_MS);
        read_one(s, i, 65536, 400 * FILA_MS);
        if (stand_take_of(s, FW_COMMAND_RUN, &m[i], NULL)) {
            stand_verdict(s, &m[i], FW_ACK, FILA_MS);
            stand_settled(s, &m[i], FW_SETTLED_OK);
        }
        (void)stand_notice(s, FW_NOTICE_PIPE_SLOW, &window);
    }
    cr_assert_eq(window, 32768);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_forget(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_OPEN_STREAM, &command));
    cr_assert_eq(command.window, 32768);
    stand_free(s);
}

/* A queue that is slow by itself is no reason. */
Test(pipe, slow_queue_does_not)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 8;
    struct stand *s = stand_new(&config);
    s->pipe.round_trip = 100 * FILA_MS;
    stand_reopen(s);
    for (int i = 0; i < 400; i++) {
        stand_pass(s, 100 * FILA_MS);
        read_one(s, i, 200, 100 * FILA_MS);
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_OK);
        cr_assert_not(stand_notice(s, FW_NOTICE_PIPE_SLOW, NULL));
        stand_forget(s);
    }
    stand_free(s);
}

/* No further than 4 MiB. */
Test(pipe, the_window_has_a_limit)
{
    static const uint32_t windows[] = {UINT32_C(3) << 20, UINT32_C(4) << 20};
    for (int row = 0; row < 2; row++) {
        struct fw_delivery_config config = stand_config();
        config.concurrency = 8;
        struct stand *s = stand_new(&config);
        int64_t window = 0;
        s->pipe.round_trip = 100 * FILA_MS;
        s->pipe.window = windows[row];
        s->pipe.bytes = 2 * windows[row];
        stand_reopen(s);
        for (int i = 0; i < 100 && window == 0; i++) {
            stand_pass(s, 400 * FILA_MS);
            read_one(s, i, 4 << 20, 400 * FILA_MS);
            if (stand_take_of(s, FW_COMMAND_RUN, &m[i], NULL)) {
                stand_verdict(s, &m[i], FW_ACK, FILA_MS);
                stand_settled(s, &m[i], FW_SETTLED_OK);
            }
            (void)stand_notice(s, FW_NOTICE_PIPE_SLOW, &window);
        }
        cr_assert_eq(window, row == 0 ? 4 << 20 : 0, "row %d: %ld", row, window);
        stand_free(s);
    }
}

/* Old messages, through a window that is not nearly full: a larger one would not help. */
Test(pipe, half_a_window_is_no_reason)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 8;
    struct stand *s = stand_new(&config);
    s->pipe.round_trip = 100 * FILA_MS;
    stand_reopen(s);
    for (int i = 0; i < 400; i++) { /* 3,000 of 16,384 bytes in each round trip */
        stand_pass(s, 100 * FILA_MS);
        read_one(s, i, 3000, 100 * FILA_MS);
        if (stand_take_of(s, FW_COMMAND_RUN, &m[i], NULL)) {
            stand_verdict(s, &m[i], FW_ACK, FILA_MS);
            stand_settled(s, &m[i], FW_SETTLED_OK);
        }
        cr_assert_not(stand_notice(s, FW_NOTICE_PIPE_SLOW, NULL), "message %d", i);
        stand_forget(s);
    }
    stand_free(s);
}
