/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * More terms of rules, each by itself, as in guards_test.c: bounds, breaker and pause, drain,
 * suspects, answers that nobody waits for.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define VT     (30 * FILA_S)
#define MARGIN (1500 * FILA_MS)

static char m[4096];

static void read_sized(struct stand *s, int i, uint32_t size, uint32_t attempt)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    struct fw_arrival arrival = {
        .user = &m[i],
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .attempt_count = attempt,
        .size = size,
        .wire_size = size,
        .waiting_since = s->now - FILA_S,
    };
    stand_read_full(s, 0, &arrival);
}

static void read_one(struct stand *s, int i)
{
    read_sized(s, i, 100, 0);
}

static bool runs(struct stand *s, int i)
{
    return stand_take_of(s, FW_COMMAND_RUN, &m[i], NULL);
}

static uint32_t granted(const struct stand *s)
{
    uint32_t credits = 0;
    for (unsigned i = 0; i < s->count; i++) {
        credits += s->commands[i].kind == FW_COMMAND_GRANT ? s->commands[i].credits : 0;
    }
    return credits;
}

/* ---- Rules 5, 6: what is waited for and what is remembered ---- */

Test(terms, a_delay_longer_than_time_is_no_overflow)
{
    struct fw_delivery_config config = stand_config();
    struct fw_verdict verdict = {.kind = FW_RETRY, .delay = INT64_MAX};
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    cr_assert(runs(s, 0));
    fw_delivery_verdict(s->engine, s->now, &m[0], &verdict);
    stand_collect(s);
    stand_pass(s, VT - 2 * FILA_S);
    cr_assert_not(runs(s, 0));
    stand_free(s);
}

/* Its dependency is down, and its lease cannot be ended by us: no try, but it waits. */
Test(terms, when_it_may_run_is_remembered_without_a_try)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = config.retry_max = 300 * FILA_S;
    struct stand *s = stand_new(&config);
    s->pipe.window = 1024;
    stand_reopen(s);
    s->quiet = false;
    stand_pass(s, 40 * FILA_S);
    stand_read(s, &m[0], "a", 0);
    stand_runs(s, &m[0], 1);
    stand_verdict(s, &m[0], FW_UNAVAILABLE, FILA_MS);
    stand_pass(s, VT);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    s->quiet = true;
    stand_read(s, &m[1], "a", 1);
    cr_assert_not(runs(s, 1));
    stand_free(s);
}

/* (d) of one that was returned unstarted: nothing else is known of it. */
Test(terms, a_return_is_remembered)
{
    struct fw_delivery_config config = stand_config();
    struct fw_command run;
    config.timeout = 14 * FILA_S;
    struct stand *s = stand_new(&config);
    s->pipe.window = 1024;
    stand_reopen(s);
    int64_t opened = s->now;
    s->quiet = false;
    stand_read(s, &m[0], "a", 0);
    stand_runs(s, &m[0], 1);
    stand_read(s, &m[1], "b", 0);
    stand_until(s, opened + VT - MARGIN);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], NULL));
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_RETURNED);
    stand_verdict(s, &m[0], FW_ACK, FILA_S);
    stand_pass(s, 10 * FILA_S);
    stand_read(s, &m[2], "b", 1);
    cr_assert(stand_take_of(s, FW_COMMAND_RUN, &m[2], &run));
    cr_assert_geq(run.lease_end, opened + VT - MARGIN + VT - FILA_S);
    stand_free(s);
}

Test(terms, retry_split_is_told_once)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 14 * FILA_S;
    struct stand *s = stand_new(&config);
    cr_assert(stand_notice(s, FW_NOTICE_RETRY_SPLIT, NULL));
    for (int i = 0; i < 25; i++) {
        read_one(s, i);
        stand_pass(s, 10 * FILA_S);
        stand_verdict(s, &m[i], FW_ACK, 10 * FILA_S);
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_RETRY_SPLIT, NULL));
    stand_free(s);
}

Test(terms, retry_split_says_nothing_where_tries_are_not_counted)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 14 * FILA_S;
    config.dead_letter = FW_DEAD_LETTER_NONE;
    struct stand *s = stand_new(&config);
    cr_assert_not(stand_notice(s, FW_NOTICE_RETRY_SPLIT, NULL));
    stand_free(s);
}

/* ---- Rule 9 ---- */

Test(terms, one_that_waited_counts_with_the_waiting_ones)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    fw_delivery_pressure(s->engine, s->now, true); /* so that prefetch has room */
    read_one(s, 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    read_one(s, 1); /* has the slot */
    stand_pass(s, 2 * FILA_S);
    cr_assert_eq(fw_delivery_stats(s->engine).ready, 1);
    cr_assert_eq(fw_delivery_stats(s->engine).prefetched, 1);
    stand_free(s);
}

static void ack(struct stand *s, int i)
{
    cr_assert(runs(s, i));
    stand_verdict(s, &m[i], FW_ACK, FILA_MS);
    stand_settled(s, &m[i], FW_SETTLED_OK);
}

/* 10,000 bytes, messages of 3,000: three, those that are on their way included. */
Test(terms, bytes_of_what_is_on_its_way_count)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 2;
    config.prefetch_bytes = 10000;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 4; i++) {
        read_sized(s, i, 3000, 0);
    }
    for (int i = 0; i < 4; i++) {
        ack(s, i);
    }
    uint32_t ready = granted(s) - 4;
    cr_assert_eq(ready, 3);
    stand_forget(s);
    read_sized(s, 10, 3000, 0);
    cr_assert_eq(granted(s), 0);
    stand_free(s);
}

Test(terms, a_message_larger_than_all_the_bytes_is_read_alone)
{
    struct fw_delivery_config config = stand_config();
    config.prefetch_bytes = 10000;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 4; i++) {
        read_sized(s, i, 20000, 0);
    }
    stand_forget(s);
    fw_delivery_timer(s->engine, s->now);
    for (int i = 0; i < 4; i++) {
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    cr_assert_eq(granted(s), 1);
    stand_free(s);
}

Test(terms, nothing_is_granted_to_a_stream_that_is_down)
{
    struct fw_delivery_config config = stand_config();
    config.streams = 2;
    config.prefetch = 8;
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    cr_assert(runs(s, 0));
    stand_forget(s);
    stand_end(s, 1, FW_STREAM_REFUSED);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    for (unsigned i = 0; i < s->count; i++) {
        cr_assert(s->commands[i].kind != FW_COMMAND_GRANT || s->commands[i].stream == 0);
    }
    stand_free(s);
}

/* ---- Rule 11 ---- */

Test(terms, what_the_script_lets_come_back_runs)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    cr_assert(runs(s, 0));
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_REJECT, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_pass(s, 2 * FILA_S);
    stand_read(s, &m[1], "id-0", 1);
    cr_assert(runs(s, 1));
    stand_free(s);
}

/* ---- Rule 13: breaker and pause ---- */

static void break_it(struct stand *s, uint32_t failures)
{
    for (uint32_t i = 0; i < failures; i++) {
        read_one(s, 200 + (int)i);
        cr_assert(runs(s, 200 + (int)i));
        stand_verdict(s, &m[200 + i], FW_UNAVAILABLE, FILA_MS);
    }
    cr_assert(stand_notice(s, FW_NOTICE_BREAKER_OPEN, NULL));
}

static struct stand *with_breaker(bool probe)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 4;
    config.prefetch = 32;
    config.breaker_failures = 3;
    config.has_probe = probe;
    config.retry_first = config.retry_max = 300 * FILA_S;
    return stand_new(&config);
}

Test(terms, a_probes_answer_that_nobody_asked_for_is_none)
{
    struct stand *s = with_breaker(true);
    fw_delivery_probed(s->engine, s->now, true);
    stand_collect(s);
    cr_assert_not(stand_notice(s, FW_NOTICE_BREAKER_CLOSED, NULL));
    break_it(s, 3);
    fw_delivery_probed(s->engine, s->now, true);
    stand_collect(s);
    cr_assert(fw_delivery_stats(s->engine).breaker_open);
    stand_free(s);
}

Test(terms, a_probe_is_asked_once)
{
    struct stand *s = with_breaker(true);
    break_it(s, 3);
    stand_pass(s, 6 * FILA_S);
    read_one(s, 1);
    read_one(s, 2);
    cr_assert_eq(stand_count(s, FW_COMMAND_PROBE), 1);
    stand_free(s);
}

Test(terms, no_probe_in_a_drain_and_none_while_paused)
{
    struct stand *s = with_breaker(true);
    break_it(s, 3);
    fw_delivery_pause(s->engine, s->now);
    stand_pass(s, 6 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_PROBE), 0);
    fw_delivery_drain(s->engine, s->now, s->now + 20 * FILA_S);
    fw_delivery_resume(s->engine, s->now);
    stand_collect(s);
    stand_pass(s, 6 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_PROBE), 0);
    stand_free(s);
}

/* The answer comes while all is paused, and was given back: no stream before it goes on. */
Test(terms, a_breaker_that_closes_in_a_pause_opens_no_stream)
{
    struct stand *s = with_breaker(true);
    break_it(s, 3);
    stand_pass(s, VT / 2);
    cr_assert_eq(stand_count(s, FW_COMMAND_PROBE), 1);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_end(s, 0, FW_STREAM_CLOSED);
    fw_delivery_pause(s->engine, s->now);
    stand_collect(s);
    fw_delivery_probed(s->engine, s->now, true);
    stand_collect(s);
    stand_pass(s, 5 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
    fw_delivery_resume(s->engine, s->now);
    stand_collect(s);
    stand_pass(s, 5 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 1);
    stand_free(s);
}

/* Its stream takes long to end: until then it is not wanted back, and nobody is told that it is. */
Test(terms, the_old_stream_is_gone_before_the_trials_is_wanted)
{
    struct stand *s = with_breaker(false);
    break_it(s, 3);
    stand_pass(s, VT / 2);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_pass(s, 10 * VT);
    stand_end(s, 0, FW_STREAM_CLOSED);
    cr_assert_not(stand_notice(s, FW_NOTICE_RECONNECT, NULL));
    stand_pass(s, FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_OPEN_STREAM, NULL));
    stand_free(s);
}

Test(terms, a_second_pause_does_not_lengthen_the_first)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    fw_delivery_pause(s->engine, s->now);
    stand_pass(s, 10 * FILA_S);
    fw_delivery_pause(s->engine, s->now);
    stand_pass(s, 5 * FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_free(s);
}

Test(terms, what_is_not_paused_cannot_go_on)
{
    struct stand *s = with_breaker(false);
    break_it(s, 3);
    stand_pass(s, VT / 2);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, 10 * FILA_S);
    fw_delivery_resume(s->engine, s->now);
    stand_collect(s);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
    stand_pass(s, 6 * FILA_S); /* VT / 2 after it was withdrawn, not after that */
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 1);
    stand_free(s);
}

/* ---- Rule 14 ---- */

Test(terms, runs_are_told_to_stop_once)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    fw_delivery_drain(s->engine, s->now, s->now + 4 * FILA_S);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    for (int i = 0; i < 30; i++) {
        stand_pass(s, 100 * FILA_MS);
        fw_delivery_timer(s->engine, s->now);
        stand_collect(s);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_CANCEL), 1);
    stand_free(s);
}

Test(terms, an_ack_without_an_answer_at_the_end_is_a_lost_lease)
{
    struct fw_delivery_config config = stand_config();
    struct fw_command sent;
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    int64_t end = s->now + 3 * FILA_S;
    fw_delivery_drain(s->engine, s->now, end);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], &sent));
    cr_assert_leq(sent.deadline, end, "the call may take longer than the drain");
    stand_until(s, end);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_free(s);
}

/* Its opening and its stop cross: what opens is still to be stopped. */
Test(terms, a_stream_that_opens_late_is_stopped_all_the_same)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    stand_end(s, 0, FW_STREAM_BROKEN);
    stand_pass(s, FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_OPEN_STREAM, NULL));
    stand_forget(s);
    fw_delivery_pause(s->engine, s->now);
    stand_collect(s);
    stand_pass(s, VT / 2);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_open(s, 0);
    cr_assert_eq(fw_delivery_stats(s->engine).streams_up, 0);
    stand_free(s);
}

Test(terms, a_stream_ends_once)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    stand_forget(s);
    stand_end(s, 0, FW_STREAM_REFUSED);
    stand_end(s, 0, FW_STREAM_REFUSED);
    cr_assert(stand_notice(s, FW_NOTICE_RECONNECT, NULL));
    cr_assert_not(stand_notice(s, FW_NOTICE_RECONNECT, NULL));
    stand_free(s);
}

/* ---- Rule 15 ---- */

static void suspect(struct stand *s, const char *id)
{
    struct fw_restored message = {.queue = "q", .queue_len = 1, .id = id, .id_len = strlen(id)};
    fw_delivery_suspect(s->engine, s->now, &message, 0);
}

Test(terms, no_suspect_starts_in_a_pause)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    suspect(s, "id-0");
    fw_delivery_pause(s->engine, s->now);
    read_one(s, 0);
    stand_pass(s, FILA_S);
    cr_assert_not(runs(s, 0));
    stand_free(s);
}

Test(terms, no_suspect_starts_that_does_not_fit_its_lease)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    struct fw_arrival arrival = {
        .user = &m[0],
        .queue = "q",
        .queue_len = 1,
        .id = "id-0",
        .id_len = 4,
        .waiting_since = s->now,
        .lease_end = s->now + 10 * FILA_S, /* 15 are needed */
    };
    suspect(s, "id-0");
    stand_read_full(s, 0, &arrival);
    stand_pass(s, FILA_S);
    cr_assert_not(runs(s, 0));
    stand_free(s);
}

Test(terms, a_suspect_waits_for_the_rate)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 4;
    config.rate = 0.1;
    struct stand *s = stand_new(&config);
    suspect(s, "id-1");
    read_one(s, 0);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    read_one(s, 1);
    stand_pass(s, 9 * FILA_S);
    cr_assert_not(runs(s, 1));
    stand_pass(s, 2 * FILA_S);
    cr_assert(runs(s, 1));
    stand_free(s);
}

/* One engine has a suspect that waits for the other's run; then it is freed. */
Test(terms, a_freed_engine_wishes_no_more)
{
    struct fw_shared *shared = fw_shared_new(0);
    struct fw_delivery_config config = stand_config();
    config.shared = shared;
    config.concurrency = 4;
    struct stand *one = stand_new(&config);
    struct stand *other = stand_new(&config);
    read_one(other, 0);
    cr_assert(runs(other, 0));
    suspect(one, "id-1");
    read_one(one, 1);
    read_one(other, 2);
    cr_assert_not(runs(other, 2)); /* the suspect is to be alone */
    stand_free(one);
    stand_pass(other, 0);
    cr_assert(runs(other, 2));
    stand_free(other);
    fw_shared_free(shared);
}

/* A run that a drain gave up holds up nobody once the drain is over. */
Test(terms, a_drained_engine_holds_up_nobody)
{
    struct fw_shared *shared = fw_shared_new(1);
    struct fw_delivery_config config = stand_config();
    config.shared = shared;
    struct stand *one = stand_new(&config);
    struct stand *other = stand_new(&config);
    read_one(one, 0);
    cr_assert(runs(one, 0));
    fw_delivery_drain(one->engine, one->now, one->now + 3 * FILA_S);
    stand_collect(one);
    stand_end(one, 0, FW_STREAM_CLOSED);
    suspect(one, "id-3");
    stand_pass(one, 3 * FILA_S);
    cr_assert(stand_take(one, FW_COMMAND_DRAINED, NULL));
    cr_assert_eq(fw_shared_running(shared), 0);
    stand_pass(other, 3 * FILA_S);
    read_one(other, 1);
    cr_assert(runs(other, 1));
    stand_free(one);
    stand_free(other);
    fw_shared_free(shared);
}

/* ---- Answers that nobody waits for ---- */

Test(terms, a_verdict_on_what_does_not_run)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    read_one(s, 1); /* waits for the slot */
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    cr_assert_not(stand_take_of(s, FW_COMMAND_ACK, &m[1], NULL));
    stand_free(s);
}

Test(terms, an_answer_to_what_was_not_asked)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_published(s, &m[0], FW_SETTLED_OK);
    stand_not_finished(s, &m[0]);
    cr_assert_eq(stand_count(s, FW_COMMAND_ACK), 0);
    cr_assert_eq(fw_delivery_stats(s->engine).running, 1);
    stand_free(s);
}

/* ---- The journal, the pipe ---- */

Test(terms, a_dropped_one_is_told)
{
    struct fw_delivery_config config = stand_config();
    struct fw_command told = {0};
    config.journal = true;
    config.dead_letter = FW_DEAD_LETTER_DROP;
    struct stand *s = stand_new(&config);
    bool done = false;
    read_one(s, 0);
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    while (stand_take_of(s, FW_COMMAND_RECORD, &m[0], &told)) {
        done = done || (told.done && told.outcome == FW_DROPPED);
    }
    cr_assert(done);
    stand_free(s);
}

static struct stand *far(int64_t round_trip)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 64;
    config.prefetch = 1000;
    struct stand *s = stand_new(&config);
    s->pipe.window = 1024;
    s->pipe.round_trip = round_trip;
    stand_reopen(s);
    stand_forget(s);
    return s;
}

static void read_waited(struct stand *s, int i, int64_t waited)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    struct fw_arrival arrival = {
        .user = &m[i],
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .size = 1000,
        .wire_size = 1000,
        .waiting_since = s->now - waited,
    };
    stand_read_full(s, 0, &arrival);
    stand_verdict(s, &m[i], FW_ACK, FILA_MS);
    stand_settled(s, &m[i], FW_SETTLED_OK);
}

/* Old messages, but no receive stands waiting: it is us who are slow. */
Test(terms, a_window_that_we_do_not_empty_is_large_enough)
{
    struct stand *s = far(100 * FILA_MS);
    stand_pass(s, 10 * FILA_S);
    for (int i = 0; i < 120; i++) {
        stand_pass(s, 100 * FILA_MS);
        read_waited(s, i, 0);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_PIPE_SLOW, NULL));
    stand_free(s);
}

/* A window's worth each few round trips, all of it fresh. */
Test(terms, a_full_window_of_fresh_messages_is_large_enough)
{
    struct stand *s = far(10 * FILA_MS);
    for (int i = 0; i < 400; i += 2) {
        stand_pass(s, 40 * FILA_MS);
        read_waited(s, i, 40 * FILA_MS);
        read_waited(s, i + 1, 0);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_PIPE_SLOW, NULL));
    stand_free(s);
}
