/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Rule 12: one running per key, in read order.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#define VT     (30 * FILA_S)
#define MARGIN (1500 * FILA_MS)
#define SLACK  (1 * FILA_S)

static char m[2048];

static struct stand *fresh(uint32_t concurrency)
{
    struct fw_delivery_config config = stand_config();
    config.lanes = true;
    config.concurrency = concurrency;
    return stand_new(&config);
}

static void read_in(struct stand *s, int i, uint64_t lane)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%d", i);
    struct fw_arrival arrival = {
        .user = &m[i],
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .size = 100,
        .wire_size = 100,
        .lane = lane,
        .waiting_since = s->now - FILA_S,
    };
    stand_read_full(s, 0, &arrival);
}

static bool runs(struct stand *s, int i)
{
    return stand_take_of(s, FW_COMMAND_RUN, &m[i], NULL);
}

Test(lanes, one_at_a_time_in_read_order)
{
    struct stand *s = fresh(4);
    for (int i = 0; i < 3; i++) {
        read_in(s, i, 7);
    }
    read_in(s, 3, 8);
    cr_assert(runs(s, 0));
    cr_assert(runs(s, 3)); /* another key does not wait */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS); /* its ack need not be answered */
    cr_assert(runs(s, 1));
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    cr_assert(runs(s, 2));
    stand_free(s);
}

/* A retry may be overtaken, but does not run beside another of its lane. */
Test(lanes, retry_may_be_overtaken)
{
    struct stand *s = fresh(4);
    read_in(s, 0, 7);
    read_in(s, 1, 7);
    read_in(s, 2, 7);
    cr_assert(runs(s, 0));
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    cr_assert(runs(s, 1));
    stand_pass(s, 2 * FILA_S); /* its backoff is over, 1 runs still */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    cr_assert(runs(s, 0)); /* read before 2 */
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    cr_assert(runs(s, 2));
    stand_free(s);
}

/* What waits behind its lane goes back like anything unstarted. */
Test(lanes, those_behind_go_back_in_time)
{
    struct stand *s = fresh(4);
    struct fw_command nack;
    read_in(s, 0, 7);
    read_in(s, 1, 7);
    int64_t end = s->now - SLACK + VT;
    stand_until(s, end - MARGIN - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_until(s, end - MARGIN);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], &nack));
    stand_settled(s, &m[1], FW_SETTLED_OK);
    stand_finished(s, &m[1], FW_RETURNED);
    stand_free(s);
}

/* The first of a lane cannot start any more: the lane goes on without it. It used to wait for its
 * return, by which time those behind could not start either, and so on for ever. */
Test(lanes, unstartable_head_steps_aside)
{
    struct stand *s = fresh(1);
    read_in(s, 0, 1);
    cr_assert(runs(s, 0));
    read_in(s, 1, 7);
    int64_t read = s->now;
    stand_pass(s, 10 * FILA_S);
    read_in(s, 2, 7);
    cr_assert(stand_take_of(s, FW_COMMAND_HOLD, &m[2], NULL));
    stand_until(s, read + 13 * FILA_S); /* 1 has 14.5 s left to its margin, 15 are needed */
    cr_assert(stand_take_of(s, FW_COMMAND_HOLD, &m[1], NULL));
    stand_verdict(s, &m[0], FW_ACK, 13 * FILA_S);
    cr_assert(runs(s, 2));
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_until(s, read - SLACK + VT - MARGIN);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[1], NULL));
    stand_free(s);
}

/* Rule 9: those behind a busy lane count with the waiting ones, up to 1,024; prefetch counts lanes.
 */
Test(lanes, those_behind_do_not_fill_prefetch)
{
    struct stand *s = fresh(4);
    struct fw_command grant;
    uint32_t granted = 0;
    for (int i = 0; i < 1500; i++) {
        while (stand_take(s, FW_COMMAND_GRANT, &grant)) {
            granted += grant.credits;
        }
        if (granted == 0) {
            break;
        }
        granted--;
        read_in(s, i, 7);
    }
    struct fw_delivery_stats stats = fw_delivery_stats(s->engine);
    cr_assert_eq(stats.running, 1);
    cr_assert_eq(stats.prefetched, 1);
    cr_assert_eq(stats.held, 1025);
    stand_free(s);
}

/* The end of one lane frees its table entry; thousands of keys come and go. */
Test(lanes, many_keys)
{
    struct stand *s = fresh(1);
    for (int i = 0; i < 1000; i++) {
        read_in(s, i, (uint64_t)i * 977);
        cr_assert(runs(s, i));
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_OK);
        stand_finished(s, &m[i], FW_ACKED);
        stand_forget(s);
    }
    stand_free(s);
}

Test(lanes, drain_gives_all_back)
{
    struct stand *s = fresh(2);
    for (int i = 0; i < 20; i++) {
        read_in(s, i, (uint64_t)(i % 3));
    }
    stand_forget(s);
    fw_delivery_drain(s->engine, s->now, s->now + 10 * FILA_S);
    stand_collect(s);
    stand_end(s, 0, FW_STREAM_CLOSED);
    stand_pass(s, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 18);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}

Test(lanes, skipped_behind_a_lane)
{
    struct fw_delivery_config config = stand_config();
    config.lanes = true;
    config.concurrency = 2;
    config.unsure_lease = FW_UNSURE_SKIP;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 5; i++) {
        read_in(s, i, 7);
    }
    cr_assert(runs(s, 0));
    s->now += VT; /* the host slept: all leases are over, and no timer came */
    stand_verdict(s, &m[0], FW_ACK, VT);
    for (int i = 1; i < 5; i++) {
        stand_finished(s, &m[i], FW_LEFT);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_free(s);
}
