/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Rule 13: a dependency that is down; and pause, which shares its machinery.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>

#define VT (30 * FILA_S)

static char m[256];

static struct fw_delivery_config config_of(bool probe)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 16;
    config.has_probe = probe;
    return config;
}

static void read_one(struct stand *s, int i, uint32_t attempt)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    stand_read(s, &m[i], id, attempt);
}

/* Ten in a row, and one more message that is held. */
static struct stand *broken(bool probe)
{
    struct fw_delivery_config config = config_of(probe);
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 10; i++) {
        read_one(s, i, 0);
    }
    for (int i = 0; i < 9; i++) {
        stand_verdict(s, &m[i], FW_UNAVAILABLE, FILA_MS);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_BREAKER_OPEN, NULL));
    stand_verdict(s, &m[9], FW_UNAVAILABLE, FILA_MS);
    cr_assert(stand_notice(s, FW_NOTICE_BREAKER_OPEN, NULL));
    cr_assert(fw_delivery_stats(s->engine).breaker_open);
    stand_forget(s);
    return s;
}

Test(breaker, only_in_a_row)
{
    struct fw_delivery_config config = config_of(false);
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 30; i++) {
        read_one(s, i, 0);
        stand_verdict(s, &m[i], i % 9 == 8 ? FW_ACK : FW_UNAVAILABLE, FILA_MS);
    }
    cr_assert_not(fw_delivery_stats(s->engine).breaker_open);
    stand_free(s);
}

/* Nothing starts while it is open, whatever is read. */
Test(breaker, holds_all_back)
{
    struct stand *s = broken(true);
    read_one(s, 20, 0);
    stand_pass(s, 4 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_PROBE), 0);
    stand_free(s);
}

/* A probe every 5 s, doubling to 2 min; a good one closes it. */
Test(breaker, probe)
{
    struct stand *s = broken(true);
    int64_t pause = 5 * FILA_S;
    int64_t open;
    for (int i = 0; i < 8; i++) {
        stand_pass(s, pause - 1);
        cr_assert_eq(stand_count(s, FW_COMMAND_PROBE), 0);
        stand_pass(s, 1);
        cr_assert(stand_take(s, FW_COMMAND_PROBE, NULL));
        fw_delivery_probed(s->engine, s->now, i == 7);
        stand_collect(s);
        pause = 2 * pause < 120 * FILA_S ? 2 * pause : 120 * FILA_S;
    }
    cr_assert(stand_notice(s, FW_NOTICE_BREAKER_CLOSED, &open));
    cr_assert_eq(open, (5 + 10 + 20 + 40 + 80 + 120 + 120 + 120) * FILA_S);
    cr_assert_not(fw_delivery_stats(s->engine).breaker_open);
    stand_free(s);
}

/* Without a probe one held message is the trial. */
Test(breaker, held_message_is_the_trial)
{
    struct stand *s = broken(false);
    stand_pass(s, 5 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    struct fw_command run;
    cr_assert(stand_take(s, FW_COMMAND_RUN, &run));
    stand_verdict(s, run.user, FW_UNAVAILABLE, FILA_MS);
    stand_pass(s, 10 * FILA_S - 1); /* doubled */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}

Test(breaker, good_trial_lets_all_run)
{
    struct stand *s = broken(false);
    struct fw_command run;
    stand_pass(s, 5 * FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_RUN, &run));
    stand_verdict(s, run.user, FW_ACK, FILA_MS);
    cr_assert(stand_notice(s, FW_NOTICE_BREAKER_CLOSED, NULL));
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 9);
    stand_free(s);
}

/* A trial that hangs is no good one. */
Test(breaker, trial_that_times_out)
{
    struct stand *s = broken(false);
    struct fw_command run;
    stand_pass(s, 5 * FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_RUN, &run));
    stand_pass(s, 5 * FILA_S);
    stand_cause(s, run.user, FW_RETRY, FW_CAUSE_TIMEOUT, 5 * FILA_S);
    cr_assert(fw_delivery_stats(s->engine).breaker_open);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}

/* Open for VT / 2: the stream is stopped, then all that is held goes back. Later the stream is
 * opened for the trial, not within VT / 2; the first message runs, and if it fails all is given
 * back and the stream stopped again. */
Test(breaker, withdraws_and_tries_with_a_stream)
{
    struct stand *s = broken(false);
    struct fw_command command;
    stand_pass(s, 5 * FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_RUN, &command));
    stand_verdict(s, command.user, FW_UNAVAILABLE, FILA_MS); /* the next trial: at 15 s */
    stand_pass(s, 10 * FILA_S - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_STOP_STREAM), 0);
    stand_pass(s, 1); /* half a VT since it opened */
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    int64_t stopped = s->now;
    while (stand_take(s, FW_COMMAND_RUN, &command)) { /* the trial that was due as well */
        stand_verdict(s, command.user, FW_UNAVAILABLE, FILA_MS);
    }
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, 100 * FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 10);
    while (stand_take(s, FW_COMMAND_NACK, &command)) {
        stand_settled(s, command.user, FW_SETTLED_OK);
        stand_finished(s, command.user, FW_RETRIED); /* they ran, and were no tries */
    }
    stand_until(s, stopped + VT / 2 - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
    stand_pass(s, 10 * FILA_S);
    cr_assert(stand_take(s, FW_COMMAND_OPEN_STREAM, NULL));
    stand_open(s, 0);
    read_one(s, 30, 1);
    read_one(s, 31, 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    cr_assert(stand_take(s, FW_COMMAND_RUN, &command));
    stand_verdict(s, command.user, FW_UNAVAILABLE, FILA_MS);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, 100 * FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 2);
    stand_free(s);
}

/* Its messages are no tries, however often. */
Test(breaker, unavailable_is_no_try)
{
    struct fw_delivery_config config = config_of(false);
    config.retry_attempts = 1;
    struct stand *s = stand_new(&config);
    read_one(s, 0, 0);
    for (int i = 0; i < 9; i++) {
        stand_runs(s, &m[0], 1);
        stand_verdict(s, &m[0], FW_UNAVAILABLE, FILA_MS);
        stand_pass(s, FILA_S);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_PUBLISH), 0);
    stand_free(s);
}

Test(pause, nothing_starts_and_later_all_goes_back)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    read_one(s, 0, 0);
    read_one(s, 1, 0);
    stand_runs(s, &m[0], 1);
    fw_delivery_pause(s->engine, s->now);
    stand_collect(s);
    stand_forget(s);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], NULL)); /* what ran is settled */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN) + stand_count(s, FW_COMMAND_GRANT), 0);
    stand_pass(s, VT / 2 - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_STOP_STREAM), 0);
    stand_pass(s, 1);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, 100 * FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], NULL));
    stand_pass(s, 10 * VT);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
    fw_delivery_resume(s->engine, s->now);
    stand_collect(s);
    cr_assert(stand_take(s, FW_COMMAND_OPEN_STREAM, NULL));
    stand_free(s);
}

Test(pause, short_one_keeps_the_stream)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    fw_delivery_pause(s->engine, s->now);
    stand_collect(s);
    read_one(s, 0, 0);
    stand_pass(s, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    fw_delivery_resume(s->engine, s->now);
    stand_collect(s);
    stand_runs(s, &m[0], 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_STOP_STREAM), 0);
    stand_free(s);
}

/* A handler that can be asked is asked: no message is spent on the question. */
Test(breaker, with_a_probe_no_message_is_the_trial)
{
    struct stand *s = broken(true);
    stand_pass(s, 14 * FILA_S); /* and the probe is not answered */
    cr_assert_eq(stand_count(s, FW_COMMAND_PROBE), 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}

/* Each stream leases a pipe away: a trial needs one. */
Test(breaker, one_stream_for_a_trial)
{
    struct fw_delivery_config config = config_of(false);
    config.streams = 3;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 10; i++) {
        read_one(s, i, 0);
        stand_verdict(s, &m[i], FW_UNAVAILABLE, FILA_MS);
    }
    cr_assert(fw_delivery_stats(s->engine).breaker_open);
    stand_pass(s, VT / 2);
    for (uint32_t i = 0; i < 3; i++) {
        stand_end(s, i, FW_STREAM_CLOSED);
    }
    struct fw_command nack;
    stand_pass(s, FILA_S);
    while (stand_take(s, FW_COMMAND_NACK, &nack)) {
        stand_settled(s, nack.user, FW_SETTLED_OK);
    }
    stand_forget(s);
    stand_pass(s, VT);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 1);
    stand_free(s);
}
