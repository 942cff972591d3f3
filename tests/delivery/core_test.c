/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The path of one message, and the rules that every message meets: 1, 3, 4, 5, 6, 7, 9, 10, 11.
 * Default config: VT 30 s, margin 1.5 s, slack 1 s, timeout = need = 15 s.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define VT     (30 * FILA_S)
#define MARGIN (1500 * FILA_MS)
#define SLACK  (1 * FILA_S)

static char m[64]; /* users: &m[0], &m[1], ... */

static struct stand *fresh(void)
{
    struct fw_delivery_config config = stand_config();
    return stand_new(&config);
}

Test(core, run_ack_finish)
{
    struct stand *s = fresh();
    struct fw_command command;
    stand_read(s, &m[0], "a", 0);
    cr_assert_eq(stand_runs(s, &m[0], 1), s->now + 15 * FILA_S);
    stand_pass(s, FILA_S);
    stand_verdict(s, &m[0], FW_ACK, FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], &command));
    cr_assert_eq(command.deadline, s->now + 5 * FILA_S);
    stand_not_finished(s, &m[0]);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_ACKED);
    cr_assert_eq(fw_delivery_stats(s->engine).held, 0);
    cr_assert_eq(fw_delivery_stats(s->engine).finished[FW_ACKED], 1);
    stand_free(s);
}

/* Rule 1: the deadline is cut by the lease, less the margin. */
Test(core, deadline_is_within_the_lease)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 25 * FILA_S;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    int64_t read = s->now;
    stand_runs(s, &m[0], 1);
    stand_pass(s, 10 * FILA_S);
    stand_verdict(s, &m[0], FW_ACK, 10 * FILA_S);
    /* need is VT / 2 at most, so b starts, with what its lease leaves: less than its timeout */
    cr_assert_eq(stand_runs(s, &m[1], 1), read - SLACK + VT - MARGIN);
    stand_free(s);
}

/* Rules 1 and 7: what cannot start goes back at earliest end - margin, not sooner. */
Test(core, unstartable_is_returned_at_the_margin)
{
    struct stand *s = fresh();
    struct fw_command command;
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    int64_t back = s->now - SLACK + VT - MARGIN;
    stand_runs(s, &m[0], 1);
    stand_pass(s, 14 * FILA_S); /* 13.5 s are left, 15 needed */
    stand_verdict(s, &m[0], FW_ACK, 14 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_until(s, back - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_until(s, back);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], &command));
    cr_assert_eq(command.cause, FW_CAUSE_NONE);
    cr_assert_eq(command.deadline, back + MARGIN);
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_RETURNED);
    stand_free(s);
}

/* Rule 7 with `expire`: left as soon as it cannot start, and no nack. */
Test(core, unstartable_is_left_with_expire)
{
    struct fw_delivery_config config = stand_config();
    config.surplus = FW_SURPLUS_EXPIRE;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    stand_runs(s, &m[0], 1);
    stand_pass(s, VT - SLACK - MARGIN - 15 * FILA_S);
    stand_not_finished(s, &m[1]);
    stand_pass(s, 1);
    stand_finished(s, &m[1], FW_LEFT);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_free(s);
}

/* Rule 1: once 20 have run, 1.25 x their 95th percentile is what a message needs. */
Test(core, need_follows_the_handler)
{
    struct stand *s = fresh();
    for (int i = 0; i < 20; i++) {
        char id[8] = {'i', (char)('a' + i), 0};
        stand_read(s, &m[i], id, 0);
        stand_pass(s, FILA_S);
        stand_verdict(s, &m[i], FW_ACK, FILA_S);
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    stand_forget(s);
    stand_read(s, &m[30], "x", 0);
    stand_read(s, &m[31], "y", 0);
    stand_pass(s, 26 * FILA_S); /* 1.5 s left before the margin: 1.25 s (and 3 %) are needed */
    stand_verdict(s, &m[30], FW_ACK, 26 * FILA_S);
    stand_runs(s, &m[31], 1);
    stand_free(s);
}

/* Rule 3: an unknown answer is asked again; gone after that, within the lease, was our own ack. */
Test(core, unknown_ack_is_asked_again)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], NULL));
    stand_pass(s, 5 * FILA_S);
    stand_settled(s, &m[0], FW_SETTLED_UNKNOWN);
    stand_not_finished(s, &m[0]);
    stand_pass(s, 50 * FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_GONE);
    stand_finished(s, &m[0], FW_ACKED);
    stand_free(s);
}

/* Rule 3: until the latest end; the success is remembered, and acked on sight. */
Test(core, unsettled_success_is_acked_on_sight)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    int64_t read = s->now;
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    while (stand_take_of(s, FW_COMMAND_ACK, &m[0], NULL)) {
        stand_pass(s, 5 * FILA_S);
        stand_settled(s, &m[0], FW_SETTLED_UNKNOWN);
        stand_pass(s, FILA_S);
    }
    cr_assert_geq(s->now, read + VT);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_forget(s);
    stand_read(s, &m[1], "a", 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[1], NULL));
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_ACKED);
    stand_free(s);
}

Test(core, gone_ack_is_a_lost_lease_and_remembered)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_settled(s, &m[0], FW_SETTLED_GONE);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_forget(s);
    stand_read(s, &m[1], "a", 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[1], NULL));
    stand_free(s);
}

/* An ack that was done after the earliest end may have overtaken a copy that was leased before. */
Test(core, copy_of_a_late_acked_one_is_a_duplicate)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_pass(s, VT);
    stand_verdict(s, &m[0], FW_ACK, VT);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_ACKED);
    stand_forget(s);
    stand_read(s, &m[1], "a", 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_settled(s, &m[1], FW_SETTLED_GONE);
    stand_finished(s, &m[1], FW_DUPLICATE);
    stand_free(s);
}

/* Rule 4: never again after an unknown outcome. */
Test(core, unknown_nack_is_not_repeated)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = 26 * FILA_S; /* at least 13: too late to run again */
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 26 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_UNKNOWN);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_pass(s, VT);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_free(s);
}

/* Rule 4: RETRY may be sent again until earliest end - margin. */
Test(core, refused_nack_is_sent_again_until_the_margin)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = 26 * FILA_S; /* at least 13: too late to run again */
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    int64_t end = s->now - SLACK + VT;
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 26 * FILA_S);
    unsigned sent = 0;
    while (stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL)) {
        cr_assert_lt(s->now, end - MARGIN);
        sent++;
        stand_settled(s, &m[0], FW_SETTLED_RETRY);
        for (int i = 0; i < 100 && stand_count(s, FW_COMMAND_NACK) == 0; i++) {
            stand_pass(s, 10 * FILA_MS);
        }
    }
    cr_assert_geq(sent, 4);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_free(s);
}

/* Rule 4: a failure after the earliest end is never nacked. */
Test(core, no_late_nack)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_pass(s, VT - SLACK);
    stand_cause(s, &m[0], FW_RETRY, FW_CAUSE_RETRY, 3 * FILA_S);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_forget(s);
    stand_read(s, &m[1], "a", 1); /* but the try counts, and its backoff is kept */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, FILA_S);
    stand_runs(s, &m[1], 2);
    stand_free(s);
}

/* Refused, and meanwhile a stale copy was read (out of another stream's pipe): that one holds the
 * id, the old nack is given up. The two used to hold it both. */
Test(core, refused_nack_of_an_id_that_was_read_again)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = 26 * FILA_S;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 3);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 26 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_read(s, &m[1], "a", 2);
    stand_settled(s, &m[0], FW_SETTLED_RETRY);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_not_finished(s, &m[1]);
    stand_free(s);
}

/* A nack of unknown outcome may end any later lease of the id, so that none is nacked meanwhile. */
Test(core, no_nack_while_another_may_be_under_way)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = 26 * FILA_S;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 26 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_UNKNOWN);
    stand_read(s, &m[1], "a", 1);
    stand_runs(s, &m[1], 2);
    stand_verdict(s, &m[1], FW_RETRY, FILA_MS);
    stand_pass(s, VT);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_finished(s, &m[1], FW_LEASE_LOST);
    stand_pass(s, 2 * VT);
    stand_read(s, &m[2], "a", 2); /* two VT later it is over */
    stand_runs(s, &m[2], 3);
    stand_verdict(s, &m[2], FW_RETRY, FILA_MS);
    stand_pass(s, VT);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[2], NULL));
    stand_free(s);
}

/* Rule 5: waits out its backoff, [1/2, 1] of it, without a slot, and runs again. */
Test(core, retry_in_place)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_runs(s, &m[0], 1);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    cr_assert_eq(fw_delivery_stats(s->engine).retry_waiting, 1);
    stand_read(s, &m[1], "b", 0);
    stand_runs(s, &m[1], 1); /* the slot is free meanwhile */
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    stand_pass(s, 500 * FILA_MS - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, 500 * FILA_MS + 1);
    stand_runs(s, &m[0], 2);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, FILA_S - 1); /* the second backoff is 2 s */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, FILA_S + 1);
    stand_runs(s, &m[0], 3);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_ACKED);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    cr_assert_eq(fw_delivery_stats(s->engine).failures[FW_CAUSE_RETRY], 2);
    stand_free(s);
}

/* Rule 5: a backoff longer than the lease is nacked at the margin; redelivered, it waits on. */
Test(core, long_backoff_outlives_the_lease)
{
    struct fw_delivery_config config = stand_config();
    config.retry_attempts = 0;
    struct stand *s = stand_new(&config);
    struct fw_command command;
    stand_read(s, &m[0], "a", 0);
    int64_t start = s->now;
    struct fw_verdict later = {
        .kind = FW_RETRY, .delay = 60 * FILA_S, .started = start, .ended = start};
    fw_delivery_verdict(s->engine, s->now, &m[0], &later);
    stand_collect(s);
    stand_forget(s);
    stand_until(s, start - SLACK + VT - MARGIN - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_pass(s, 1);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], &command));
    cr_assert_eq(command.cause, FW_CAUSE_RETRY);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_RETRIED);
    stand_read(s, &m[1], "a", 1);
    stand_pass(s, 20 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_until(s, start + 56 * FILA_S); /* returned, its own try has not come */
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], &command));
    cr_assert_eq(command.cause, FW_CAUSE_NONE);
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_RETURNED);
    stand_read(s, &m[2], "a", 2);
    stand_until(s, start + 60 * FILA_S - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, 1);
    stand_runs(s, &m[2], 2);
    stand_free(s);
}

/* Rule 6: UNAVAILABLE is no try; tries bring the dead letter; then publish, ack (rule 11). */
Test(core, dead_letter_after_its_tries)
{
    struct fw_delivery_config config = stand_config();
    config.retry_attempts = 3;
    config.retry_max = FILA_S;
    struct stand *s = stand_new(&config);
    struct fw_command command;
    stand_read(s, &m[0], "a", 0);
    stand_runs(s, &m[0], 1);
    stand_verdict(s, &m[0], FW_UNAVAILABLE, FILA_MS);
    for (uint32_t i = 1; i <= 3; i++) {
        stand_pass(s, FILA_S);
        stand_runs(s, &m[0], i);
        stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    }
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[0], &command));
    cr_assert_eq(command.attempt, 3);
    cr_assert_eq(command.cause, FW_CAUSE_RETRY);
    cr_assert_eq(stand_count(s, FW_COMMAND_ACK), 0);
    stand_published(s, &m[0], FW_SETTLED_OK);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_DEAD_LETTERED);
    stand_free(s);
}

Test(core, reject_needs_no_tries)
{
    struct stand *s = fresh();
    struct fw_command command;
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[0], &command));
    cr_assert_eq(command.cause, FW_CAUSE_REJECT);
    cr_assert_eq(command.attempt, 1);
    stand_free(s);
}

/* Rule 6: tries survive the redelivery. */
Test(core, tries_are_kept_between_deliveries)
{
    struct fw_delivery_config config = stand_config();
    config.retry_attempts = 2;
    config.retry_first = 26 * FILA_S; /* at least 13: too late to run again */
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 26 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_forget(s);
    stand_read(s, &m[1], "a", 1);
    stand_runs(s, &m[1], 2);
    stand_verdict(s, &m[1], FW_RETRY, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[1], NULL));
    stand_free(s);
}

/* Rule 6: a lower attempt count under a newer lease means redriven. */
Test(core, redriven_is_a_new_message)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 7);
    stand_pass(s, VT);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_finished(s, &m[0], FW_LEASE_LOST);
    stand_pass(s, 10 * FILA_S);
    stand_forget(s);
    stand_read(s, &m[1], "a", 0);
    stand_runs(s, &m[1], 1);
    stand_free(s);
}

/* Rule 11: an unknown publish is done again before the earliest end only; then it goes back. */
Test(core, unknown_publish_is_repeated_within_the_lease)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    int64_t end = s->now - SLACK + VT;
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    unsigned published = 0;
    while (stand_take_of(s, FW_COMMAND_PUBLISH, &m[0], NULL)) {
        cr_assert_lt(s->now, end);
        published++;
        stand_pass(s, FILA_S);
        stand_published(s, &m[0], FW_SETTLED_UNKNOWN);
        stand_pass(s, 8 * FILA_S);
    }
    cr_assert_geq(published, 3);
    stand_until(s, end - MARGIN);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_forget(s);
    stand_pass(s, 60 * FILA_S);
    stand_read(s, &m[1], "a", 1); /* back again it does not run */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[1], NULL));
    stand_free(s);
}

/* Rule 11: refused: it goes back at the margin like an unstarted one, and waits the slow retry,
 * 60 to 120 s here, without running. */
Test(core, refused_dead_letter_goes_back)
{
    struct fw_delivery_config config = stand_config();
    config.retry_max = 120 * FILA_S;
    struct stand *s = stand_new(&config);
    struct fw_command command;
    int64_t start = s->now;
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &m[0], NULL));
    stand_published(s, &m[0], FW_SETTLED_DENIED);
    cr_assert(stand_notice(s, FW_NOTICE_DLQ_REFUSED, NULL));
    stand_runs(s, &m[0], 1);
    uint32_t i = 0;
    for (; s->now < start + 120 * FILA_S; i++) {
        /* after the first, the nack's own time is the earliest start of the lease */
        int64_t back = s->now - (i == 0 ? SLACK : 0) + VT - MARGIN;
        stand_until(s, back - 1);
        cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
        if (stand_take_of(s, FW_COMMAND_PUBLISH, &m[i], NULL)) {
            break;
        }
        cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
        stand_until(s, back);
        cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[i], &command));
        cr_assert_eq(command.cause, FW_CAUSE_NONE);
        stand_settled(s, &m[i], FW_SETTLED_OK);
        stand_finished(s, &m[i], FW_RETURNED);
        stand_read(s, &m[i + 1], "a", i + 1);
    }
    cr_assert_geq(s->now, start + 60 * FILA_S);
    cr_assert_lt(s->now, start + 120 * FILA_S);
    stand_free(s);
}

/* Rule 9: prefetch is what may be read and not yet through its handler: 4 here. */
Test(core, credits_keep_to_prefetch)
{
    struct stand *s = fresh();
    struct fw_command command;
    cr_assert(stand_take(s, FW_COMMAND_GRANT, &command));
    cr_assert_eq(command.credits, 4);
    for (int i = 0; i < 4; i++) {
        char id[2] = {(char)('a' + i), 0};
        stand_read(s, &m[i], id, 0);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_GRANT), 0);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS); /* through its handler, the ack is under way */
    cr_assert(stand_take(s, FW_COMMAND_GRANT, &command));
    cr_assert_eq(command.credits, 1);
    stand_free(s);
}

/* Rule 9: settlements under way are bounded, acks go before nacks. */
Test(core, settlements_in_flight)
{
    struct fw_delivery_config config = stand_config();
    config.settle_in_flight = 1;
    config.retry_first = FILA_MS;
    config.retry_max = FILA_MS;
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    stand_read(s, &m[2], "c", 0);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_verdict(s, &m[1], FW_RETRY, FILA_MS);
    stand_pass(s, 2 * FILA_MS); /* b's nack is due */
    stand_verdict(s, &m[2], FW_ACK, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_ACK), 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    cr_assert_eq(stand_count(s, FW_COMMAND_ACK), 2);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_settled(s, &m[2], FW_SETTLED_OK);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 1);
    stand_free(s);
}

/* Rule 10: a held id read again is a duplicate and renews the window. */
Test(core, held_id_read_again)
{
    struct stand *s = fresh();
    stand_read(s, &m[0], "a", 0);
    stand_read(s, &m[1], "b", 0);
    stand_runs(s, &m[0], 1);
    stand_pass(s, 20 * FILA_S);
    stand_read(s, &m[2], "b", 1);
    stand_finished(s, &m[2], FW_DUPLICATE);
    stand_verdict(s, &m[0], FW_ACK, 20 * FILA_S);
    stand_runs(s, &m[1], 1); /* its first lease would have left no time */
    stand_free(s);
}

/* Rule 10: once its nack is sent, the id read again is a new delivery, and proves the nack. */
Test(core, redelivery_outruns_the_nack)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = 26 * FILA_S; /* at least 13: too late to run again */
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 26 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_forget(s);
    stand_read(s, &m[1], "a", 1);
    stand_runs(s, &m[1], 2);
    stand_not_finished(s, &m[0]); /* it stays in the account until the answer */
    cr_assert_eq(fw_delivery_stats(s->engine).held, 2);
    stand_settled(s, &m[0], FW_SETTLED_UNKNOWN);
    stand_finished(s, &m[0], FW_RETRIED);
    stand_free(s);
}

/* No memory of the owner's mistakes: answers for what is over are ignored. */
Test(core, answers_for_nobody_are_ignored)
{
    struct stand *s = fresh();
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_published(s, &m[0], FW_SETTLED_OK);
    cr_assert_eq(stand_count(s, FW_COMMAND_FINISH), 0);
    stand_free(s);
}

/* A nack of unknown outcome may have ended the lease under which it runs now, and made a copy. */
Test(core, an_ack_does_not_outlive_the_copy_of_a_late_nack)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    static char first, busy, second, third;
    struct fw_command nack;
    stand_read(s, &busy, "busy", 0);
    stand_read(s, &first, "id", 0);
    while (!stand_take_of(s, FW_COMMAND_NACK, &first, &nack)) {
        stand_pass(s, FILA_S / 10);
    }
    stand_settled(s, &first, FW_SETTLED_UNKNOWN); /* for two VT it may still be done */
    stand_verdict(s, &busy, FW_ACK, FILA_S);
    stand_settled(s, &busy, FW_SETTLED_OK);
    stand_pass(s, 59 * FILA_S);
    stand_read(s, &second, "id", 1);
    (void)stand_runs(s, &second, 1);
    stand_pass(s, 5 * FILA_S); /* now it cannot be done any more; but it may have been */
    stand_verdict(s, &second, FW_ACK, FILA_S);
    stand_settled(s, &second, FW_SETTLED_OK);
    stand_finished(s, &second, FW_ACKED);
    stand_forget(s);
    stand_read(s, &third, "id", 2);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0, "it runs again after it was done");
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &third, NULL));
    stand_free(s);
}

/* Leases that leave less than what a message is said to need, always: then some are tried with
 * less. */
Test(core, when_nothing_ever_fits_less_is_taken_for_need)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    static char users[64];
    int64_t start = s->now;
    int64_t ran_at = 0;
    for (int i = 0; i < 64 && ran_at == 0; i++) {
        char id[16];
        struct fw_command nack;
        (void)snprintf(id, sizeof(id), "id-%d", i);
        struct fw_arrival arrival = {
            .user = &users[i],
            .queue = "q",
            .queue_len = 1,
            .id = id,
            .id_len = strlen(id),
            .lease_end = s->now + 10 * FILA_S, /* of 15 s needed */
        };
        stand_read_full(s, 0, &arrival);
        stand_pass(s, 9 * FILA_S);
        ran_at = stand_count(s, FW_COMMAND_RUN) > 0 ? s->now : 0;
        if (stand_take(s, FW_COMMAND_NACK, &nack)) {
            stand_settled(s, nack.user, FW_SETTLED_OK);
        }
    }
    cr_assert_neq(ran_at, 0, "nothing ever ran");
    cr_assert_geq(ran_at - start, 30 * FILA_S); /* not before a VT of it */
    cr_assert_leq(ran_at - start, 60 * FILA_S);
    stand_free(s);
}

/* The margin is twice what the slowest answers take, within a quarter of VT. */
Test(core, slow_answers_widen_the_margin)
{
    static const struct {
        int64_t took;
        int64_t margin;
    } rows[] = {
        {FILA_MS, 3 * FILA_S / 2},
        {2 * FILA_S, 4 * FILA_S},
        {20 * FILA_S, 15 * FILA_S / 2},
    };

    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        struct fw_delivery_config config = stand_config();
        struct stand *s = stand_new(&config);
        static char done, busy, behind;
        for (int i = 0; i < 20; i++) {
            stand_read(s, &done, "done", (uint32_t)i);
            stand_verdict(s, &done, FW_ACK, FILA_MS);
            fw_delivery_settled(s->engine, s->now, &done, FW_SETTLED_OK, rows[row].took);
            stand_collect(s);
        }
        stand_read(s, &busy, "busy", 0);
        stand_pass(s, FILA_S);
        struct fw_arrival arrival = {
            .user = &behind,
            .queue = "q",
            .queue_len = 1,
            .id = "behind",
            .id_len = 6,
            .lease_end = s->now + 30 * FILA_S,
        };
        int64_t due = s->now + 30 * FILA_S - rows[row].margin;
        stand_read_full(s, 0, &arrival);
        stand_until(s, due - 100 * FILA_MS); /* quantiles are kept to some percent */
        cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0, "row %zu: too soon", row);
        stand_until(s, due + 100 * FILA_MS);
        cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 1, "row %zu: not yet", row);
        stand_free(s);
    }
}

/* The answer to the first nack never comes: while it may still be on its way, no second one. */
Test(core, no_nack_while_the_first_is_unanswered)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = 26 * FILA_S;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    stand_pass(s, 26 * FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], NULL));
    stand_read(s, &m[1], "a", 1);
    stand_runs(s, &m[1], 2);
    stand_verdict(s, &m[1], FW_RETRY, FILA_MS);
    stand_pass(s, VT);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_finished(s, &m[1], FW_LEASE_LOST);
    stand_free(s);
}
