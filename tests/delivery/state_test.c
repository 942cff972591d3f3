/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What outlives the process: what the journal is told and tells (6), crash suspects (15).
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <string.h>

static char a, b, c, d;

static struct stand *new_stand(void)
{
    struct fw_delivery_config config = stand_config();
    config.journal = true;
    config.concurrency = 4;
    return stand_new(&config);
}

static struct fw_restored known(const char *id)
{
    return (struct fw_restored){.queue = "q", .queue_len = 1, .id = id, .id_len = strlen(id)};
}

/* The one record that came, which is of that delivery. */
static struct fw_command recorded(struct stand *s, void *user)
{
    struct fw_command command = {0};
    cr_assert_eq(stand_count(s, FW_COMMAND_RECORD), 1);
    cr_assert(stand_take_of(s, FW_COMMAND_RECORD, user, &command));
    return command;
}

static void expect_nothing_known(const struct fw_command *command)
{
    cr_assert(
        command->attempt == 0 && command->deadline == 0 && !command->done &&
        command->cause == FW_CAUSE_NONE);
}

/* ---- What the journal is told ---- */

Test(journal, a_success_is_told_before_its_ack_and_forgotten_after_it)
{
    struct stand *s = new_stand();
    stand_read(s, &a, "a", 3);
    stand_forget(s);
    stand_verdict(s, &a, FW_ACK, FILA_S);
    cr_assert_eq(s->commands[0].kind, FW_COMMAND_RECORD);
    cr_assert_eq(s->commands[1].kind, FW_COMMAND_ACK);
    struct fw_command told = recorded(s, &a);
    cr_assert(told.done);
    cr_assert_eq(told.outcome, FW_ACKED);
    cr_assert_eq(told.seen, 3);
    stand_settled(s, &a, FW_SETTLED_OK);
    told = recorded(s, &a);
    expect_nothing_known(&told);
    stand_finished(s, &a, FW_ACKED);
    stand_free(s);
}

Test(journal, a_success_whose_ack_is_gone_stays_known)
{
    struct stand *s = new_stand();
    stand_read(s, &a, "a", 0);
    stand_verdict(s, &a, FW_ACK, FILA_S);
    stand_forget(s);
    stand_settled(s, &a, FW_SETTLED_GONE);
    cr_assert_eq(stand_count(s, FW_COMMAND_RECORD), 0);
    stand_free(s);
}

Test(journal, tries_and_when_the_next_is_are_told)
{
    struct stand *s = new_stand();
    stand_read(s, &a, "a", 0);
    stand_forget(s);
    stand_verdict(s, &a, FW_RETRY, FILA_S);
    struct fw_command told = recorded(s, &a);
    cr_assert_eq(told.attempt, 1);
    cr_assert(!told.done);
    cr_assert_geq(told.deadline, s->now + FILA_S / 2);
    cr_assert_leq(told.deadline, s->now + FILA_S);
    stand_free(s);
}

Test(journal, a_dead_letter_is_told_before_and_after_its_copy)
{
    struct stand *s = new_stand();
    struct fw_command told;
    stand_read(s, &a, "a", 0);
    stand_forget(s);
    stand_verdict(s, &a, FW_REJECT, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RECORD), 2); /* a try; then that it is doomed */
    cr_assert(stand_take(s, FW_COMMAND_RECORD, NULL));
    told = recorded(s, &a);
    cr_assert_eq(told.cause, FW_CAUSE_REJECT);
    cr_assert(!told.done);
    stand_published(s, &a, FW_SETTLED_OK);
    told = recorded(s, &a);
    cr_assert(told.done);
    cr_assert_eq(told.outcome, FW_DEAD_LETTERED);
    stand_free(s);
}

Test(journal, a_run_that_a_drain_cut_is_no_try)
{
    struct stand *s = new_stand();
    stand_read(s, &a, "a", 0);
    (void)stand_runs(s, &a, 1);
    fw_delivery_drain(s->engine, s->now, s->now + 2 * FILA_S);
    stand_collect(s);
    cr_assert(stand_take_of(s, FW_COMMAND_CANCEL, &a, NULL));
    stand_forget(s);
    stand_verdict(s, &a, FW_RETRY, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_RECORD), 0);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &a, NULL));
    stand_free(s);
}

Test(journal, without_one_nothing_is_told)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    stand_read(s, &a, "a", 0);
    stand_verdict(s, &a, FW_ACK, FILA_S);
    stand_settled(s, &a, FW_SETTLED_OK);
    cr_assert_eq(stand_count(s, FW_COMMAND_RECORD), 0);
    stand_free(s);
}

/* ---- What it tells ---- */

Test(journal, what_was_done_is_acked_on_sight)
{
    struct stand *s = new_stand();
    struct fw_restored done = known("a");
    done.done = true;
    done.done_as = FW_DEAD_LETTERED;
    done.seen = 1;
    fw_delivery_restore(s->engine, s->now, &done);
    stand_pass(s, FILA_S);
    stand_read(s, &a, "a", 2);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &a, NULL));
    stand_forget(s);
    stand_settled(s, &a, FW_SETTLED_OK);
    struct fw_command told = recorded(s, &a);
    expect_nothing_known(&told);
    stand_finished(s, &a, FW_DEAD_LETTERED);
    stand_free(s);
}

Test(journal, tries_go_on_where_they_were)
{
    struct stand *s = new_stand();
    struct fw_restored tried = known("a");
    tried.tries = 4;
    tried.not_before = s->now + 5 * FILA_S;
    fw_delivery_restore(s->engine, s->now, &tried);
    stand_read(s, &a, "a", 4);
    stand_pass(s, 5 * FILA_S - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, 1);
    (void)stand_runs(s, &a, 5);
    stand_verdict(s, &a, FW_RETRY, FILA_S);
    struct fw_command publish;
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &a, &publish));
    cr_assert_eq(publish.attempt, 5);
    stand_free(s);
}

Test(journal, one_that_is_doomed_does_not_run)
{
    struct stand *s = new_stand();
    struct fw_restored doomed = known("a");
    doomed.tries = 1;
    doomed.doomed = FW_CAUSE_REJECT;
    fw_delivery_restore(s->engine, s->now, &doomed);
    stand_read(s, &a, "a", 1);
    struct fw_command publish;
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &a, &publish));
    cr_assert_eq(publish.cause, FW_CAUSE_REJECT);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}

Test(journal, a_redriven_one_begins_anew_and_that_is_told)
{
    struct stand *s = new_stand();
    struct fw_restored done = known("a");
    done.tries = 3;
    done.seen = 9;
    fw_delivery_restore(s->engine, s->now, &done);
    stand_pass(s, 10 * FILA_S);
    stand_forget(s);
    stand_read(s, &a, "a", 0);
    struct fw_command told = recorded(s, &a);
    expect_nothing_known(&told);
    (void)stand_runs(s, &a, 1);
    stand_free(s);
}

/* ---- Crash suspects ---- */

static void suspect(struct stand *s, const char *id, uint32_t crashes)
{
    struct fw_restored message = known(id);
    fw_delivery_suspect(s->engine, s->now, &message, crashes);
}

static bool runs_alone(struct stand *s, void *user)
{
    struct fw_command run = {0};
    cr_assert(stand_take_of(s, FW_COMMAND_RUN, user, &run), "it does not run");
    return run.alone;
}

Test(suspects, run_one_at_a_time_with_nothing_beside)
{
    struct stand *s = new_stand();
    suspect(s, "a", 0);
    suspect(s, "b", 0);
    stand_read(s, &a, "a", 1);
    cr_assert(runs_alone(s, &a));
    stand_read(s, &b, "b", 1);
    stand_read(s, &c, "c", 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0, "something runs beside it");
    stand_pass(s, FILA_S);
    stand_verdict(s, &a, FW_ACK, FILA_S);
    cr_assert(!runs_alone(s, &c)); /* the others have their turn, as long as they were kept */
    stand_pass(s, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_verdict(s, &c, FW_ACK, FILA_S);
    stand_pass(s, 0);
    cr_assert(runs_alone(s, &b));
    stand_verdict(s, &b, FW_RETRY, FILA_S);
    stand_settled(s, &a, FW_SETTLED_OK);
    stand_settled(s, &c, FW_SETTLED_OK);
    stand_pass(s, 2 * FILA_S);
    cr_assert(!runs_alone(s, &b)); /* it came to an end once: no suspect any more */
    stand_free(s);
}

Test(suspects, wait_for_what_runs_but_not_for_ever)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 4;
    config.timeout = 5 * FILA_S;
    struct stand *s = stand_new(&config);
    suspect(s, "a", 1);
    stand_read(s, &b, "b", 0);
    cr_assert(!runs_alone(s, &b));
    stand_read(s, &a, "a", 1);
    stand_read(s, &c, "c", 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, 30 * FILA_S / 4 - 1); /* a quarter of VT */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, 1);
    cr_assert(!runs_alone(s, &c));
    stand_verdict(s, &c, FW_ACK, FILA_S);
    stand_verdict(s, &b, FW_ACK, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0); /* still the others' turn */
    stand_pass(s, 30 * FILA_S / 4);
    cr_assert(runs_alone(s, &a));
    stand_free(s);
}

Test(suspects, one_that_does_not_stop_loses_its_solitude)
{
    struct stand *s = new_stand();
    struct fw_command company;
    suspect(s, "a", 0);
    stand_read(s, &a, "a", 1);
    cr_assert(runs_alone(s, &a));
    stand_pass(s, 15 * FILA_S);
    stand_read(s, &c, "c", 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_COMPANY), 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, 2 * FILA_S); /* timeout and margin are over */
    cr_assert(stand_take_of(s, FW_COMMAND_COMPANY, &a, &company));
    cr_assert(!runs_alone(s, &c));
    stand_free(s);
}

Test(suspects, alone_counts_over_all_engines)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 4;
    config.shared = fw_shared_new(0);
    struct stand *s = stand_new(&config);
    struct stand *other = stand_new(&config);
    suspect(s, "a", 0);
    stand_read(other, &b, "b", 0);
    (void)stand_runs(other, &b, 1);
    stand_read(s, &a, "a", 0);
    stand_read(other, &c, "c", 0);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN) + stand_count(other, FW_COMMAND_RUN), 0);
    stand_verdict(other, &b, FW_ACK, FILA_MS);
    stand_pass(s, 0);
    cr_assert(runs_alone(s, &a));
    stand_pass(other, FILA_S);
    cr_assert_eq(stand_count(other, FW_COMMAND_RUN), 0);
    stand_verdict(s, &a, FW_ACK, FILA_MS);
    stand_pass(other, 0);
    cr_assert(!runs_alone(other, &c));
    stand_free(s);
    stand_free(other);
    fw_shared_free(config.shared);
}

Test(suspects, one_that_cannot_run_in_time_goes_back)
{
    struct stand *s = new_stand();
    suspect(s, "a", 0);
    fw_delivery_pressure(s->engine, s->now, true);
    stand_read(s, &b, "b", 0);
    stand_read(s, &a, "a", 0);
    stand_pass(s, 20 * FILA_S); /* b does not end; nobody runs alone */
    cr_assert(!stand_take_of(s, FW_COMMAND_RUN, &a, NULL));
    stand_pass(s, 8 * FILA_S + FILA_S / 2);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &a, NULL));
    stand_settled(s, &a, FW_SETTLED_OK);
    stand_finished(s, &a, FW_RETURNED);
    stand_verdict(s, &b, FW_ACK, FILA_S);
    stand_read(s, &c, "a", 1); /* and is a suspect still */
    stand_pass(s, 15 * FILA_S);
    cr_assert(runs_alone(s, &c));
    stand_free(s);
}

Test(suspects, a_drain_gives_them_back)
{
    struct stand *s = new_stand();
    suspect(s, "a", 0);
    stand_read(s, &b, "b", 0);
    stand_read(s, &a, "a", 0);
    fw_delivery_drain(s->engine, s->now, s->now + 20 * FILA_S);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &a, NULL));
    stand_free(s);
}

Test(suspects, keep_their_lane)
{
    struct fw_delivery_config config = stand_config();
    config.lanes = true;
    config.concurrency = 4;
    struct stand *s = stand_new(&config);
    suspect(s, "a", 0);
    stand_read(s, &b, "b", 0); /* all of lane 0 */
    stand_read(s, &a, "a", 0);
    stand_read(s, &c, "c", 0);
    (void)stand_runs(s, &b, 1);
    stand_verdict(s, &b, FW_ACK, FILA_MS);
    stand_pass(s, FILA_MS);
    cr_assert(runs_alone(s, &a));
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_verdict(s, &a, FW_ACK, FILA_MS);
    stand_pass(s, FILA_MS);
    cr_assert(!runs_alone(s, &c));
    stand_free(s);
}

/* ---- Poison ---- */

Test(poison, two_crashes_are_enough)
{
    struct stand *s = new_stand();
    struct fw_command publish;
    suspect(s, "a", 2);
    stand_read(s, &a, "a", 2);
    stand_read(s, &b, "b", 0);
    cr_assert(stand_take_of(s, FW_COMMAND_PUBLISH, &a, &publish));
    cr_assert_eq(publish.cause, FW_CAUSE_POISON);
    cr_assert_eq(publish.attempt, 2);
    (void)stand_runs(s, &b, 1); /* nobody is kept waiting for it */
    stand_published(s, &a, FW_SETTLED_OK);
    stand_settled(s, &a, FW_SETTLED_OK);
    stand_finished(s, &a, FW_DEAD_LETTERED);
    stand_free(s);
}

Test(poison, one_that_was_done_is_acked_instead)
{
    struct stand *s = new_stand();
    struct fw_restored done = known("a");
    done.done = true;
    fw_delivery_restore(s->engine, s->now, &done);
    suspect(s, "a", 2);
    stand_read(s, &a, "a", 1);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &a, NULL));
    cr_assert_eq(stand_count(s, FW_COMMAND_PUBLISH), 0);
    stand_free(s);
}

Test(poison, is_dropped_or_rejected_as_the_config_says)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_DROP;
    struct stand *s = stand_new(&config);
    suspect(s, "a", 3);
    stand_read(s, &a, "a", 2);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &a, NULL));
    stand_settled(s, &a, FW_SETTLED_OK);
    stand_finished(s, &a, FW_DROPPED);
    stand_free(s);

    struct fw_command reject;
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    s = stand_new(&config);
    suspect(s, "b", 2);
    stand_read(s, &b, "b", 2);
    cr_assert(stand_take_of(s, FW_COMMAND_REJECT, &b, &reject));
    cr_assert_eq(reject.cause, FW_CAUSE_POISON);
    stand_settled(s, &b, FW_SETTLED_OK);
    stand_read(s, &c, "b", 3); /* its script let it come back: it does not run all the same */
    cr_assert(stand_take_of(s, FW_COMMAND_REJECT, &c, NULL));
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}

Test(poison, without_dead_letters_it_is_kept_aside_and_returned)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_NONE;
    struct stand *s = stand_new(&config);
    suspect(s, "a", 2);
    stand_read(s, &a, "a", 2);
    stand_pass(s, 27 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_pass(s, 2 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &a, NULL));
    stand_settled(s, &a, FW_SETTLED_OK);
    stand_finished(s, &a, FW_RETURNED);
    stand_read(s, &d, "a", 3);
    stand_pass(s, 25 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}
