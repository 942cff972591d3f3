/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Rule 10: what is evidence of a shorter visibility timeout, and what is none.
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

static void ready_config(struct fw_delivery_config *config)
{
    *config = stand_config();
    config->concurrency = 8;
}

Test(evidence, evidence_is_of_late)
{
    struct fw_delivery_config config;
    ready_config(&config);
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 3; i++) {
        read_one(s, i);
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_GONE);
        stand_pass(s, 61 * FILA_S);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_VT_SHORT, NULL));
    stand_free(s);
}

Test(evidence, a_copy_with_the_same_count_is_no_evidence)
{
    struct fw_delivery_config config;
    ready_config(&config);
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 3; i++) {
        read_sized(s, i, 100, 1);
    }
    stand_pass(s, 5 * FILA_S);
    for (int i = 0; i < 3; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id-%d", i);
        stand_read(s, &m[10 + i], id, 1);
        stand_finished(s, &m[10 + i], FW_DUPLICATE);
    }
    cr_assert_not(stand_notice(s, FW_NOTICE_VT_SHORT, NULL));
    stand_free(s);
}

/* A lease that began 3 s ago for certain, if the visibility timeout were so short. */
static bool vt_is_short(struct stand *s)
{
    return stand_notice(s, FW_NOTICE_VT_SHORT, NULL);
}

Test(evidence, gone_after_a_refused_ack_is_no_evidence)
{
    struct fw_delivery_config config;
    ready_config(&config);
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 3; i++) {
        read_one(s, i);
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_RETRY);
    }
    stand_pass(s, FILA_S);
    for (int i = 0; i < 3; i++) {
        stand_settled(s, &m[i], FW_SETTLED_GONE);
        stand_finished(s, &m[i], FW_LEASE_LOST);
    }
    cr_assert_not(vt_is_short(s));
    stand_free(s);
}

static void real_evidence(struct stand *s, int i)
{
    read_one(s, i);
    cr_assert(runs(s, i));
    stand_verdict(s, &m[i], FW_ACK, FILA_MS);
    stand_settled(s, &m[i], FW_SETTLED_GONE);
}

enum late {
    LATE_ACK,
    LATE_NACK,
    LATE_COPY
};

/* What happens to a lease after its end takes no place among the evidence. */
static void late_is_no_evidence(enum late late)
{
    struct fw_delivery_config config;
    ready_config(&config);
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    config.timeout = 2 * FILA_S; /* an answer that is out for long widens the windows of others */
    struct stand *s = stand_new(&config);
    read_one(s, 0);
    cr_assert(runs(s, 0));
    if (late == LATE_NACK) {
        stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
        cr_assert(stand_take_of(s, FW_COMMAND_REJECT, &m[0], NULL));
    }
    stand_pass(s, 25 * FILA_S);
    real_evidence(s, 1);
    stand_pass(s, 6 * FILA_S);
    if (late == LATE_ACK) {
        stand_verdict(s, &m[0], FW_ACK, FILA_MS);
        stand_settled(s, &m[0], FW_SETTLED_GONE);
    } else if (late == LATE_NACK) {
        stand_settled(s, &m[0], FW_SETTLED_GONE);
    } else {
        stand_read(s, &m[10], "id-0", 1);
        stand_finished(s, &m[10], FW_DUPLICATE);
    }
    real_evidence(s, 2);
    cr_assert_not(vt_is_short(s));
    real_evidence(s, 3);
    cr_assert(vt_is_short(s));
    stand_free(s);
}

Test(evidence, a_late_ack_takes_no_place_among_the_evidence)
{
    late_is_no_evidence(LATE_ACK);
}

Test(evidence, a_late_nack_takes_no_place_among_the_evidence)
{
    late_is_no_evidence(LATE_NACK);
}

Test(evidence, a_late_copy_takes_no_place_among_the_evidence)
{
    late_is_no_evidence(LATE_COPY);
}

Test(evidence, gone_to_an_ack_on_sight_is_no_evidence)
{
    struct fw_delivery_config config;
    ready_config(&config);
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 3; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id-%d", i);
        struct fw_restored known = {
            .queue = "q", .queue_len = 1, .id = id, .id_len = strlen(id), .done = true};
        fw_delivery_restore(s->engine, s->now, &known);
        stand_pass(s, FILA_S);
        read_one(s, i);
        cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[i], NULL));
        stand_settled(s, &m[i], FW_SETTLED_GONE);
    }
    cr_assert_not(vt_is_short(s));
    stand_free(s);
}

Test(evidence, gone_after_a_refused_nack_is_no_evidence)
{
    struct fw_delivery_config config;
    ready_config(&config);
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 3; i++) {
        read_one(s, i);
        stand_verdict(s, &m[i], FW_REJECT, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_RETRY);
    }
    stand_pass(s, FILA_S);
    for (int i = 0; i < 3; i++) {
        stand_settled(s, &m[i], FW_SETTLED_GONE);
        stand_finished(s, &m[i], FW_LEASE_LOST);
    }
    cr_assert_not(vt_is_short(s));
    stand_free(s);
}

static void shorten(struct stand *s)
{
    for (int i = 0; i < 3; i++) {
        read_one(s, i);
        cr_assert(runs(s, i));
    }
    stand_pass(s, 5 * FILA_S);
    for (int i = 0; i < 3; i++) {
        stand_verdict(s, &m[i], FW_ACK, FILA_MS);
        stand_settled(s, &m[i], FW_SETTLED_GONE);
    }
    cr_assert(vt_is_short(s));
}

/* A reload that says nothing of the visibility timeout forgets nothing of it; another one does. */
Test(evidence, a_reload_keeps_the_visibility_timeout_that_was_seen)
{
    struct fw_delivery_config config;
    struct fw_command run;
    ready_config(&config);
    struct stand *s = stand_new(&config);
    shorten(s);
    config.concurrency = 9;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    read_one(s, 10);
    cr_assert(stand_take_of(s, FW_COMMAND_RUN, &m[10], &run));
    cr_assert_leq(run.lease_end, s->now + 7 * FILA_S);
    config.visibility_timeout = 2 * VT;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    read_one(s, 11);
    cr_assert(stand_take_of(s, FW_COMMAND_RUN, &m[11], &run));
    cr_assert_geq(run.lease_end, s->now + 2 * VT - 2 * FILA_S);
    stand_free(s);
}
