/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Rule 14: drain, and the pace at which streams are opened again.
 */
#include "stand.h"

#include <criterion/criterion.h>

static char m[16];

static struct stand *fresh(void)
{
    struct fw_delivery_config config = stand_config();
    return stand_new(&config);
}

Test(drain, nothing_held)
{
    struct stand *s = fresh();
    fw_delivery_drain(s->engine, s->now, s->now + 25 * FILA_S);
    stand_collect(s);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, NULL));
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 0);
    stand_pass(s, 50 * FILA_MS);
    stand_end(s, 0, FW_STREAM_CLOSED);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 1);
    stand_pass(s, 60 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
    stand_free(s);
}

/* What was not started goes back 100 ms after the stream's end; what runs finishes. */
Test(drain, returns_the_unstarted_and_finishes_the_running)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    fw_delivery_drain(s->engine, s->now, s->now + 25 * FILA_S);
    stand_collect(s);
    stand_pass(s, FILA_S);
    stand_read(s, &m[2], "c", 0); /* on its way when the stream was stopped */
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, 100 * FILA_MS - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_pass(s, 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 2);
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_settled(s, &m[2], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_RETURNED);
    stand_finished(s, &m[2], FW_RETURNED);
    stand_verdict(s, &m[0], FW_ACK, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 0);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_ACKED);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 1);
    stand_free(s);
}

/* 2 s before the deadline what still runs is told to stop; it is nacked, and that is no try. */
Test(drain, cancels_what_does_not_fit)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 2;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    int64_t deadline = s->now + 10 * FILA_S;
    fw_delivery_drain(s->engine, s->now, deadline);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_until(s, deadline - 2 * FILA_S - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_CANCEL), 0);
    stand_pass(s, 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_CANCEL), 2);
    stand_cause(s, &m[0], FW_RETRY, FW_CAUSE_TIMEOUT, 8 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_RETRIED);
    stand_until(s, deadline - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 0);
    stand_pass(s, 1); /* b does not stop */
    stand_finished(s, &m[1], FW_LEFT);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 1);
    stand_verdict(s, &m[1], FW_ACK, 15 * FILA_S); /* later: ignored */
    cr_assert_eq(stand_count(s, FW_COMMAND_ACK), 0);
    stand_free(s);
}

Test(drain, cancelled_after_its_lease_is_not_nacked)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    fw_delivery_drain(s->engine, s->now, s->now + 40 * FILA_S);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, 39 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_CANCEL), 1);
    stand_cause(s, &m[0], FW_RETRY, FW_CAUSE_TIMEOUT, 39 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 1);
    stand_free(s);
}

/* A waiting retry is nacked when it is due, or 2 s before the deadline; it does not run. */
Test(drain, waiting_retries)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS); /* due within 1 s */
    stand_read(s, &m[1], "b", 0);
    struct fw_verdict later = {.kind = FW_RETRY, .delay = 20 * FILA_S};
    fw_delivery_verdict(s->engine, s->now, &m[1], &later);
    int64_t deadline = s->now + 10 * FILA_S;
    fw_delivery_drain(s->engine, s->now, deadline);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_until(s, deadline - 2 * FILA_S - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_pass(s, 1);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], NULL));
    stand_free(s);
}

/* A second signal: all at once, though the stream has not ended. */
Test(drain, shortened)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    fw_delivery_drain(s->engine, s->now, s->now + 25 * FILA_S);
    fw_delivery_drain(s->engine, s->now, s->now + FILA_S);
    stand_collect(s);
    cr_assert_eq(stand_count(s, FW_COMMAND_CANCEL), 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 1);
    stand_pass(s, FILA_S);
    stand_finished(s, &m[0], FW_LEFT);
    stand_finished(s, &m[1], FW_LEFT);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 1);
    stand_read(s, &m[2], "c", 0); /* after the end */
    stand_finished(s, &m[2], FW_LEFT);
    stand_free(s);
}

/* Reopening: full jitter under 0.2 s, doubling to min(VT, 30 s). */
Test(streams, reopened_at_a_growing_pace)
{
    struct stand *s = fresh();
    struct fw_command command;
    int64_t ceiling = 200 * FILA_MS;
    int64_t pause;
    for (int i = 0; i < 12; i++) {
        stand_forget(s);
        stand_end(s, 0, FW_STREAM_BROKEN);
        cr_assert(stand_notice(s, FW_NOTICE_RECONNECT, &pause));
        cr_assert_leq(pause, ceiling);
        if (pause > 0) {
            cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
            stand_pass(s, pause - 1);
            cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
            stand_pass(s, 1);
        }
        cr_assert(stand_take(s, FW_COMMAND_OPEN_STREAM, &command));
        stand_open(s, 0);
        ceiling = 2 * ceiling < 30 * FILA_S ? 2 * ceiling : 30 * FILA_S;
    }
    stand_pass(s, 30 * FILA_S); /* it stood for a VT: from the start again */
    stand_end(s, 0, FW_STREAM_BROKEN);
    cr_assert(stand_notice(s, FW_NOTICE_RECONNECT, &pause));
    cr_assert_leq(pause, 200 * FILA_MS);
    stand_free(s);
}

Test(streams, refused_is_tried_at_the_slowest_pace)
{
    struct stand *s = fresh();
    int64_t pause;
    stand_end(s, 0, FW_STREAM_REFUSED);
    cr_assert(stand_notice(s, FW_NOTICE_RECONNECT, &pause));
    cr_assert_geq(pause, 15 * FILA_S);
    cr_assert_leq(pause, 30 * FILA_S);
    stand_free(s);
}

/* The first hint is followed at once, one after the other not. */
Test(streams, redirected)
{
    struct stand *s = fresh();
    stand_end(s, 0, FW_STREAM_REDIRECTED);
    cr_assert(stand_take(s, FW_COMMAND_OPEN_STREAM, NULL));
    int64_t paused = 0;
    for (int i = 0; i < 8; i++) {
        int64_t pause;
        stand_open(s, 0);
        stand_forget(s);
        stand_end(s, 0, FW_STREAM_REDIRECTED);
        cr_assert(stand_notice(s, FW_NOTICE_RECONNECT, &pause));
        paused += pause;
        stand_pass(s, pause);
    }
    cr_assert_gt(paused, 0);
    stand_free(s);
}

Test(streams, grants_end_with_their_stream)
{
    struct stand *s = fresh();
    struct fw_command command;
    cr_assert(stand_take(s, FW_COMMAND_GRANT, &command));
    cr_assert_eq(command.credits, 4);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, FILA_S);
    stand_open(s, 0);
    cr_assert(stand_take(s, FW_COMMAND_GRANT, &command));
    cr_assert_eq(command.credits, 4);
    stand_free(s);
}

Test(drain, a_second_one_does_not_lengthen_it)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    fw_delivery_drain(s->engine, s->now, s->now + 10 * FILA_S);
    fw_delivery_drain(s->engine, s->now, s->now + 100 * FILA_S);
    stand_collect(s);
    stand_pass(s, 10 * FILA_S - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 0);
    stand_pass(s, 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_DRAINED), 1);
    stand_free(s);
}

/* Whether the stream has ended or not. */
Test(drain, a_waiting_retry_goes_back_when_due)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    fw_delivery_drain(s->engine, s->now, s->now + 25 * FILA_S);
    stand_collect(s);
    stand_pass(s, FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_free(s);
}

/* Many workers lose the same broker at once: they do not come back at once. */
Test(streams, full_jitter)
{
    int64_t least = INT64_MAX;
    int64_t most = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct fw_delivery_config config = stand_config();
        int64_t pause = -1;
        config.seed = seed;
        struct stand *s = stand_new(&config);
        stand_end(s, 0, FW_STREAM_BROKEN);
        cr_assert(stand_notice(s, FW_NOTICE_RECONNECT, &pause));
        cr_assert_leq(pause, 200 * FILA_MS);
        least = pause < least ? pause : least;
        most = pause > most ? pause : most;
        stand_free(s);
    }
    cr_assert_lt(least, 20 * FILA_MS);
    cr_assert_gt(most, 180 * FILA_MS);
}
