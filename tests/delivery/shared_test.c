/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the engines of a process share: max_running over all of them.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>

enum {
    ENGINES = 3,
    EACH = 12
};

static char m[ENGINES][EACH];
static struct fw_shared *shared;
static struct stand *s[ENGINES];

static void start(uint32_t limit, uint32_t concurrency)
{
    struct fw_delivery_config config = stand_config();
    shared = fw_shared_new(limit);
    config.shared = shared;
    config.concurrency = concurrency;
    for (int i = 0; i < ENGINES; i++) {
        s[i] = stand_new(&config);
    }
}

static void stop(void)
{
    for (int i = 0; i < ENGINES; i++) {
        stand_free(s[i]);
    }
    cr_assert_eq(fw_shared_running(shared), 0, "what was freed still counts");
    fw_shared_free(shared);
}

/* As the I/O thread does: whoever is due. */
static void turn(void)
{
    int idle = 0;
    for (bool due = true; due; idle++) {
        due = false;
        cr_assert_lt(idle, 100, "the engines wake each other for ever");
        for (int i = 0; i < ENGINES; i++) {
            if (fw_delivery_wake_at(s[i]->engine) <= s[i]->now) {
                due = true;
                fw_delivery_timer(s[i]->engine, s[i]->now);
                stand_collect(s[i]);
            }
        }
    }
}

static void fill(int engine, int count)
{
    for (int i = 0; i < count; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "%d-%d", engine, i);
        stand_read(s[engine], &m[engine][i], id, 0);
    }
}

static uint32_t running(int engine)
{
    return fw_delivery_stats(s[engine]->engine).running;
}

/* The oldest run that was started there ends. */
static void end_one(int engine)
{
    struct fw_command run;
    cr_assert(stand_take(s[engine], FW_COMMAND_RUN, &run));
    stand_verdict(s[engine], run.user, FW_ACK, FILA_MS);
}

Test(shared, never_more_than_the_limit)
{
    start(2, 4);
    fill(0, 4);
    fill(1, 4);
    cr_assert_eq(running(0), 2);
    cr_assert_eq(running(1), 0);
    cr_assert_eq(fw_shared_running(shared), 2);
    end_one(0);
    turn();
    cr_assert_eq(running(0), 1, "it has its turn again before one that never had any");
    cr_assert_eq(running(1), 1);
    cr_assert_eq(fw_shared_running(shared), 2);
    stop();
}

Test(shared, turns_are_fair)
{
    int starts[ENGINES] = {0};
    start(1, 4);
    fill(0, 8);
    fill(1, 8);
    fill(2, 8);
    for (int n = 0; n < 24; n++) {
        int at = running(0) ? 0 : running(1) ? 1 : 2;
        starts[at]++;
        for (int i = 0; i < ENGINES; i++) {
            cr_assert_leq(starts[i], n / ENGINES + 1, "engine %d had %d of %d", i, starts[i], n);
        }
        end_one(at);
        turn();
    }
    cr_assert_eq(starts[0] + starts[1] + starts[2], 24);
    cr_assert_eq(fw_shared_running(shared), 0);
    stop();
}

Test(shared, one_that_has_nothing_left_gives_up_its_turn)
{
    start(1, 4);
    fill(0, 1);
    fill(1, 1);
    fill(2, 1);
    cr_assert_eq(running(0), 1);
    fw_delivery_pause(s[1]->engine, s[1]->now); /* the next in turn cannot start any more */
    stand_collect(s[1]);
    end_one(0);
    turn();
    cr_assert_eq(running(1), 0);
    cr_assert_eq(running(2), 1);
    end_one(2);
    fw_delivery_resume(s[1]->engine, s[1]->now);
    stand_collect(s[1]);
    turn();
    cr_assert_eq(running(1), 1);
    stop();
}

Test(shared, a_message_that_became_too_old_does_not_hold_up_the_others)
{
    start(1, 4);
    fill(0, 1);
    fill(1, 1);
    for (int i = 0; i < ENGINES; i++) { /* nobody looks at engine 1 meanwhile */
        s[i]->now += 28 * FILA_S;
    }
    fill(2, 1);
    end_one(0);
    turn();
    cr_assert_eq(running(1), 0);
    cr_assert_eq(running(2), 1);
    stop();
}

Test(shared, a_drained_or_freed_engine_leaves)
{
    start(1, 4);
    fill(0, 1);
    fill(1, 1);
    fw_delivery_drain(s[0]->engine, s[0]->now, s[0]->now); /* its run is given up */
    stand_collect(s[0]);
    cr_assert_eq(stand_count(s[0], FW_COMMAND_DRAINED), 1);
    turn();
    cr_assert_eq(running(1), 1);
    fill(2, 1);
    stand_free(s[1]);
    struct fw_delivery_config config = stand_config();
    config.shared = shared;
    s[1] = stand_new(&config);
    turn();
    cr_assert_eq(running(2), 1);
    stop();
}

Test(shared, another_limit_holds_at_once)
{
    start(1, 4);
    fill(0, 4);
    fill(1, 4);
    fw_shared_limit(shared, 3);
    turn();
    cr_assert_eq(running(0) + running(1), 3);
    fw_shared_limit(shared, 0);
    turn();
    cr_assert_eq(running(0), 4);
    cr_assert_eq(running(1), 4);
    stop();
}
