/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Rule 9's bounds, the rate, several streams, reload, memory pressure; the config's own check.
 */
#include "stand.h"

#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

static char m[4096];

static uint32_t granted(struct stand *s, uint32_t stream)
{
    uint32_t credits = 0;
    for (unsigned i = 0; i < s->count; i++) {
        if (s->commands[i].kind == FW_COMMAND_GRANT && s->commands[i].stream == stream) {
            credits += s->commands[i].credits;
        }
    }
    return credits;
}

static void read_sized(struct stand *s, int i, uint32_t stream, uint32_t size)
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
        .waiting_since = s->now - FILA_S,
    };
    stand_read_full(s, stream, &arrival);
}

Test(limits, rate)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 8;
    config.rate = 4;
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 9; i++) {
        read_sized(s, i, 0, 10);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    stand_pass(s, 150 * FILA_MS - 1); /* the first made up for 100 ms */
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    stand_pass(s, 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 2);
    stand_pass(s, 250 * FILA_MS - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 2);
    stand_pass(s, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 6);
    stand_free(s);
}

/* The lowest rates are no rate at all, and no overflow. */
Test(limits, rate_of_nearly_nothing)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 8;
    config.rate = 1e-300;
    struct stand *s = stand_new(&config);
    read_sized(s, 0, 0, 10);
    read_sized(s, 1, 0, 10);
    stand_pass(s, 20 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    stand_free(s);
}

/* Told once: it will be held without running, so what pins more memory than it needs can go. */
Test(limits, what_waits_is_told_once)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    read_sized(s, 0, 0, 10);
    cr_assert_eq(stand_count(s, FW_COMMAND_HOLD), 0); /* it runs */
    for (int i = 0; i < 2; i++) {
        stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
        cr_assert_eq(stand_count(s, FW_COMMAND_HOLD), 1);
        stand_pass(s, 3 * FILA_S); /* the backoff */
    }
    stand_free(s);
    config.lanes = true;
    s = stand_new(&config);
    read_sized(s, 0, 0, 10);
    cr_assert_eq(stand_count(s, FW_COMMAND_HOLD), 0);
    read_sized(s, 1, 0, 10); /* the same lane: behind it */
    cr_assert_not(stand_take_of(s, FW_COMMAND_HOLD, &m[0], NULL));
    cr_assert(stand_take_of(s, FW_COMMAND_HOLD, &m[1], NULL));
    stand_free(s);
}

/* A timer that comes late is made up for, but only by 100 ms: no burst after a pause. */
Test(limits, rate_does_not_burst)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 64;
    config.rate = 100;
    struct stand *s = stand_new(&config);
    read_sized(s, 100, 0, 10);
    stand_pass(s, 5 * FILA_S);
    for (int i = 0; i < 60; i++) {
        read_sized(s, i, 0, 10);
    }
    cr_assert_leq(stand_count(s, FW_COMMAND_RUN), 13);
    stand_free(s);
}

Test(limits, bytes_stop_the_reading)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 8;
    config.prefetch_bytes = 10000;
    struct stand *s = stand_new(&config);
    stand_forget(s);
    for (int i = 0; i < 5; i++) {
        read_sized(s, i, 0, 3000);
    }
    stand_forget(s);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    cr_assert_eq(granted(s, 0), 0); /* an acked one holds its bytes until the answer */
    stand_settled(s, &m[0], FW_SETTLED_OK);
    cr_assert_eq(granted(s, 0), 0); /* 12,000 still */
    cr_assert_eq(fw_delivery_stats(s->engine).held_bytes, 12000);
    stand_free(s);
}

/* The bytes of a nacked message are free once the nack is sent. */
Test(limits, bytes_are_freed_by_the_nack)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    struct stand *s = stand_new(&config);
    read_sized(s, 0, 0, 3000);
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_REJECT, &m[0], NULL));
    cr_assert_eq(fw_delivery_stats(s->engine).held, 1);
    cr_assert_eq(fw_delivery_stats(s->engine).held_bytes, 0);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_DEAD_LETTERED);
    stand_free(s);
}

/* 1,024 messages wait out their backoff, then reading stops. */
Test(limits, waiting_messages)
{
    struct fw_delivery_config config = stand_config();
    config.retry_first = 20 * FILA_S;
    config.retry_max = 20 * FILA_S;
    config.concurrency = 4;
    struct stand *s = stand_new(&config);
    uint32_t credits = 0;
    int i = 0;
    for (; i < 2000; i++) {
        credits += granted(s, 0);
        stand_forget(s);
        if (credits == 0) {
            break;
        }
        credits--;
        read_sized(s, i, 0, 10);
        stand_verdict(s, &m[i], FW_RETRY, FILA_MS);
    }
    cr_assert_geq(i, 1024);
    cr_assert_leq(i, 1024 + 8); /* and what was granted before the last of them failed */
    cr_assert_eq(fw_delivery_stats(s->engine).retry_waiting, (uint32_t)i);
    stand_free(s);
}

/* Each stream has its share of prefetch; ids are one table. */
Test(limits, several_streams)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 8;
    config.streams = 2;
    struct stand *s = stand_new(&config);
    cr_assert_eq(granted(s, 0), 8);
    cr_assert_eq(granted(s, 1), 8);
    cr_assert_eq(fw_delivery_stats(s->engine).streams_up, 2);
    read_sized(s, 0, 0, 10);
    stand_forget(s);
    struct fw_arrival copy = {
        .user = &m[1],
        .queue = "q",
        .queue_len = 1,
        .id = "id-0",
        .id_len = 4,
        .attempt_count = 1,
        .waiting_since = s->now};
    stand_read_full(s, 1, &copy);
    stand_finished(s, &m[1], FW_DUPLICATE);
    stand_end(s, 0, FW_STREAM_BROKEN); /* one stream's end leaves the other alone */
    stand_pass(s, FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_STOP_STREAM), 0);
    stand_free(s);
}

/* The key is queue and id: a broker-side move to another queue is another message. */
Test(limits, ids_belong_to_queues)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 2;
    struct stand *s = stand_new(&config);
    struct fw_arrival one = {
        .user = &m[0],
        .queue = "ab",
        .queue_len = 2,
        .id = "c",
        .id_len = 1,
        .waiting_since = s->now - FILA_S};
    struct fw_arrival other = one;
    other.user = &m[1];
    other.queue = "a";
    other.queue_len = 1;
    other.id = "bc";
    other.id_len = 2;
    stand_read_full(s, 0, &one);
    stand_read_full(s, 0, &other);
    stand_runs(s, &m[0], 1);
    stand_runs(s, &m[1], 1);
    stand_free(s);
}

/* Ids and queue names of any length. */
Test(limits, long_keys)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    static char queue[70000];
    static char id[300];
    memset(queue, 'q', sizeof(queue));
    memset(id, 'i', sizeof(id));
    struct fw_arrival arrival = {
        .user = &m[0],
        .queue = queue,
        .queue_len = sizeof(queue),
        .id = id,
        .id_len = sizeof(id),
        .waiting_since = s->now - FILA_S};
    stand_read_full(s, 0, &arrival);
    stand_runs(s, &m[0], 1);
    arrival.user = &m[1];
    arrival.attempt_count = 1;
    stand_read_full(s, 0, &arrival);
    stand_finished(s, &m[1], FW_DUPLICATE);
    stand_free(s);
}

Test(limits, pressure_stops_the_reading)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    fw_delivery_pressure(s->engine, s->now, true);
    stand_collect(s);
    stand_forget(s);
    read_sized(s, 0, 0, 10); /* was granted before */
    stand_runs(s, &m[0], 1);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    cr_assert_eq(granted(s, 0), 0);
    fw_delivery_pressure(s->engine, s->now, false);
    stand_collect(s);
    cr_assert_gt(granted(s, 0), 0);
    stand_free(s);
}

/* New limits hold at once; what runs keeps its deadline; streams change only if their number did.
 */
Test(reload, limits)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    for (int i = 0; i < 4; i++) {
        read_sized(s, i, 0, 10);
    }
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    stand_forget(s);
    config.concurrency = 3;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 2);
    cr_assert_eq(
        stand_count(s, FW_COMMAND_OPEN_STREAM) + stand_count(s, FW_COMMAND_STOP_STREAM), 0);
    config.concurrency = 1;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    stand_forget(s);
    stand_verdict(s, &m[0], FW_ACK, FILA_MS);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 0);
    stand_verdict(s, &m[2], FW_ACK, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    stand_free(s);
}

Test(reload, streams)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    struct fw_command command;
    stand_forget(s);
    config.streams = 3;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 2);
    stand_open(s, 1);
    stand_open(s, 2);
    config.streams = 1;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, &command));
    cr_assert_eq(command.stream, 1);
    cr_assert(stand_take(s, FW_COMMAND_STOP_STREAM, &command));
    cr_assert_eq(command.stream, 2);
    stand_forget(s);
    stand_end(s, 1, FW_STREAM_CLOSED);
    stand_end(s, 2, FW_STREAM_CLOSED);
    stand_pass(s, 100 * FILA_S);
    cr_assert_eq(stand_count(s, FW_COMMAND_OPEN_STREAM), 0);
    stand_free(s);
}

/* The lanes setting may change while messages are held. */
Test(reload, lanes)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 4;
    struct stand *s = stand_new(&config);
    read_sized(s, 0, 0, 10);
    config.lanes = true;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    read_sized(s, 1, 0, 10);
    read_sized(s, 2, 0, 10); /* the same lane, 0 */
    stand_runs(s, &m[0], 1);
    stand_runs(s, &m[1], 1);
    config.lanes = false;
    fw_delivery_reconfigure(s->engine, s->now, &config);
    stand_collect(s);
    read_sized(s, 3, 0, 10);
    stand_runs(s, &m[3], 1);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    stand_runs(s, &m[2], 1);
    stand_free(s);
}

/* Rule 6: the LRU of tries. The 65,537th id that failed pushes the first one out. */
Test(memory, tries_are_kept_for_65536_ids)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    config.retry_first = FILA_MS;
    config.retry_max = FILA_MS;
    struct stand *s = stand_new(&config);
    char id[16];
    for (int i = 0; i < 65537; i++) {
        (void)snprintf(id, sizeof(id), "t-%d", i);
        stand_read(s, &m[0], id, 0);
        stand_runs(s, &m[0], 1);
        stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
        stand_pass(s, FILA_MS);
        stand_settled(s, &m[0], FW_SETTLED_OK);
        stand_forget(s);
    }
    stand_read(s, &m[1], "t-0", 1);
    stand_runs(s, &m[1], 1);
    stand_verdict(s, &m[1], FW_ACK, FILA_MS);
    stand_read(s, &m[2], "t-2", 1);
    stand_runs(s, &m[2], 2);
    stand_free(s);
}

/* Rule 6: max_deliveries is a net: only from the second failure that this process sees. */
Test(net, from_the_second_failure_on)
{
    struct fw_delivery_config config = stand_config();
    config.max_deliveries = 100;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 500);
    stand_runs(s, &m[0], 1);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_PUBLISH), 0);
    stand_pass(s, FILA_S);
    stand_runs(s, &m[0], 2);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_PUBLISH), 1);
    stand_read(s, &m[1], "b", 10); /* under the net */
    stand_verdict(s, &m[1], FW_RETRY, FILA_MS);
    stand_pass(s, FILA_S);
    stand_verdict(s, &m[1], FW_RETRY, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_PUBLISH), 1);
    stand_free(s);
}

/* What becomes of a message that is out of tries, by dead_letter. */
Test(dead_letter, drop)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_DROP;
    config.retry_attempts = 1;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    cr_assert(stand_take_of(s, FW_COMMAND_ACK, &m[0], NULL));
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_DROPPED);
    stand_free(s);
}

Test(dead_letter, none)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_NONE;
    config.retry_attempts = 1;
    config.retry_max = 4 * FILA_S;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_REJECT, FILA_MS); /* even that: at the slowest pace */
    stand_pass(s, 2 * FILA_S - 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 1);
    stand_pass(s, 2 * FILA_S + 1);
    cr_assert_eq(stand_count(s, FW_COMMAND_RUN), 2);
    stand_free(s);
}

/* The script decides: each failure is nacked with its cause once its backoff is over. */
Test(dead_letter, broker)
{
    struct fw_delivery_config config = stand_config();
    config.dead_letter = FW_DEAD_LETTER_BROKER;
    config.retry_attempts = 1;
    struct stand *s = stand_new(&config);
    struct fw_command nack;
    stand_read(s, &m[0], "a", 0);
    stand_cause(s, &m[0], FW_RETRY, FW_CAUSE_CRASH, FILA_MS);
    cr_assert_eq(stand_count(s, FW_COMMAND_NACK), 0);
    stand_pass(s, FILA_S);
    cr_assert(stand_take_of(s, FW_COMMAND_NACK, &m[0], &nack));
    cr_assert_eq(nack.cause, FW_CAUSE_CRASH);
    stand_settled(s, &m[0], FW_SETTLED_OK);
    stand_finished(s, &m[0], FW_RETRIED);
    stand_free(s);
}

/* Too large for the broker: no publish will ever work, so it runs again, at the slowest pace. */
Test(dead_letter, too_large)
{
    struct fw_delivery_config config = stand_config();
    config.retry_attempts = 1;
    config.retry_max = 4 * FILA_S;
    struct stand *s = stand_new(&config);
    stand_read(s, &m[0], "a", 0);
    stand_verdict(s, &m[0], FW_RETRY, FILA_MS);
    fw_delivery_published(s->engine, s->now, &m[0], FW_SETTLED_DENIED, true);
    stand_collect(s);
    cr_assert(stand_notice(s, FW_NOTICE_DLQ_TOO_LARGE, NULL));
    stand_forget(s);
    stand_pass(s, 4 * FILA_S);
    stand_runs(s, &m[0], 2);
    stand_free(s);
}

static void problem(const struct fw_delivery_config *config, const char *expected)
{
    char text[512] = "";
    bool wrong = fw_delivery_config_problem(config, text, sizeof(text));
    cr_assert_eq(wrong, expected != NULL, "%s", text);
    if (expected != NULL) {
        cr_assert_str_eq(text, expected);
    }
}

Test(config, defaults_pass)
{
    struct fw_delivery_config config = stand_config();
    problem(&config, NULL);
    config.visibility_timeout = FILA_S;
    problem(&config, NULL);
    config.visibility_timeout = 24 * 3600 * FILA_S;
    problem(&config, NULL);
}

Test(config, timeout_must_leave_room)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 27500 * FILA_MS;
    problem(
        &config,
        "timeout (27500ms) + margin (1500ms) + slack (1s) must be less than visibility_timeout "
        "(30s): at most timeout = \"27499ms\", or at least visibility_timeout = \"30001ms\" passes");
    config.timeout = 27499 * FILA_MS;
    problem(&config, NULL);
    config.timeout = 27500 * FILA_MS;
    config.visibility_timeout = 30001 * FILA_MS;
    problem(&config, NULL);
}

Test(config, ranges)
{
    struct fw_delivery_config config = stand_config();
    config.concurrency = 0;
    problem(&config, "concurrency (0) must be from 1 to 65536");
    config = stand_config();
    config.concurrency = 8;
    config.prefetch = 4;
    problem(
        &config,
        "prefetch, at least the larger of concurrency and streams, (4) must be from 8 to 1000000");
    config = stand_config();
    config.retry_max = FILA_MS;
    problem(&config, "retry.max (1ms) must be from 1s to 315360000s");
    config = stand_config();
    config.rate = NAN;
    problem(&config, "rate (nan) must be from 0 to 1e9");
    config = stand_config();
    config.visibility_timeout = FILA_MS;
    problem(&config, "visibility_timeout (1ms) must be from 100ms to 315360000s");
}

/* Whatever passes as a config must not run over what a time can be. */
Test(config, sums_of_the_largest_numbers)
{
    struct fw_delivery_config config = stand_config();
    int64_t vt;
    config.visibility_timeout = INT64_C(24) * 3600 * FILA_S;
    config.timeout = config.visibility_timeout / 2;
    config.retry_attempts = 1000000;
    config.retry_max = config.retry_first;
    struct stand *s = stand_new(&config);
    cr_assert(stand_notice(s, FW_NOTICE_RETRY_SPLIT, &vt));
    cr_assert_gt(vt, INT64_C(1000000) * FILA_S * 2000);
    cr_assert_lt(vt, FILA_NEVER / 3);
    stand_free(s);
    config.retry_first = config.retry_max = INT64_C(3650) * 24 * 3600 * FILA_S;
    s = stand_new(&config);
    cr_assert(stand_notice(s, FW_NOTICE_RETRY_SPLIT, &vt));
    cr_assert_gt(vt, config.retry_max);
    cr_assert_lt(vt, FILA_NEVER / 4 * 3);
    stand_free(s);
}

Test(config, tries_at_the_same_pace_are_all_counted)
{
    struct fw_delivery_config config = stand_config();
    int64_t vt;
    config.timeout = FILA_S;
    config.retry_attempts = 100;
    config.retry_first = config.retry_max = FILA_S;
    struct stand *s = stand_new(&config); /* 99 s of backoffs, 100 s of runs */
    cr_assert(stand_notice(s, FW_NOTICE_RETRY_SPLIT, &vt));
    cr_assert_geq(vt - vt / 20, 199 * FILA_S);
    cr_assert_leq(vt - vt / 20, 206 * FILA_S);
    stand_free(s);
}

/* Rule 6: the VT that keeps all tries under one lease: 1 + 2 + 4 + 8 s of backoff, 5 x 10 s. */
Test(config, tries_that_do_not_fit_one_lease)
{
    struct fw_delivery_config config = stand_config();
    config.timeout = 10 * FILA_S;
    struct stand *s = stand_new(&config);
    int64_t vt;
    cr_assert(stand_notice(s, FW_NOTICE_RETRY_SPLIT, &vt));
    cr_assert_geq(vt - vt / 20, 65 * FILA_S);
    cr_assert_leq(vt - vt / 20, 67 * FILA_S);
    stand_free(s);
    config.visibility_timeout = vt;
    s = stand_new(&config);
    cr_assert_not(stand_notice(s, FW_NOTICE_RETRY_SPLIT, NULL));
    stand_free(s);
}

/* The default timeout says nothing about the handler: then its own times do, once known. */
Test(config, tries_by_the_handlers_own_times)
{
    struct fw_delivery_config config = stand_config();
    struct stand *s = stand_new(&config);
    cr_assert_not(stand_notice(s, FW_NOTICE_RETRY_SPLIT, NULL));
    for (int i = 0; i < 20; i++) {
        read_sized(s, i, 0, 10);
        stand_pass(s, 5 * FILA_S);
        stand_verdict(s, &m[i], FW_ACK, 5 * FILA_S);
        stand_settled(s, &m[i], FW_SETTLED_OK);
    }
    cr_assert(stand_notice(s, FW_NOTICE_RETRY_SPLIT, NULL));
    stand_free(s);
}

Test(names, all_have_one)
{
    static const char *const outcomes[] = {"acked",    "retried", "dead_lettered", "dropped",
                                           "returned", "left",    "lease_lost",    "duplicate"};
    static const char *const causes[] = {"none",    "retry", "reject", "unavailable",
                                         "timeout", "crash", "poison"};
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        cr_assert_str_eq(fw_outcome_name((enum fw_outcome)i), outcomes[i]);
    }
    for (int i = 0; i < FW_CAUSE_COUNT; i++) {
        cr_assert_str_eq(fw_cause_name((enum fw_cause)i), causes[i]);
    }
}
