/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The service around the engine: scripted faults, waiting calls, its clock, and its end.
 */
#include "service_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPECT_TAKE(reader, text) \
    cr_expect(eq(str, (char *)(uintptr_t)reader_take(reader), (char *)(uintptr_t)(text)))

static const fila_request ENQUEUE = {.call = FILA_CALL_ENQUEUE, .as.enqueue = {.queue = VIEW("q")}};
static const fila_request STATS = {.call = FILA_CALL_GET_STATS, .as.queue = {.queue = VIEW("q")}};

static fila_broker *with_queue(void)
{
    fila_broker *broker = broker_open(100, 100);
    must_create(broker, "q", 0);
    return broker;
}

static uint64_t depth(fila_broker *broker)
{
    struct ask ask;
    uint64_t depth;
    ask_start(&ask, broker, &STATS);
    cr_assert(ask.done && ask.reply);
    depth = ask.reply->as.stats.depth;
    ask_free(&ask);
    return depth;
}

/* ---- Unary calls ---- */

Test(fault, an_error_is_answered_and_nothing_done)
{
    fila_broker *broker = with_queue();
    fila_error error;
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_ERROR, .call = FILA_CALL_ENQUEUE, .count = 1, .wire_code = 13});
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_INTERNAL));
    cr_expect(eq(int, error.wire_code, 13));
    cr_expect(eq(str, error.text, "scripted fault"));
    cr_expect(eq(u64, depth(broker), 0));
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OK), "once");
    fila_broker_free(broker);
}

Test(fault, a_lost_reply_is_answered_and_all_done)
{
    fila_broker *broker = with_queue();
    fila_error error;
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_LOSE_REPLY, .call = FILA_CALL_ENQUEUE, .count = 1, .wire_code = 14});
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_BROKER_UNAVAILABLE));
    cr_expect(error.outcome_unknown);
    cr_expect(eq(u64, depth(broker), 1));
    fila_broker_free(broker);
}

Test(fault, the_nth_use_and_count_of_them)
{
    static const fila_status wanted[] = {FILA_OK,       FILA_OK, FILA_INTERNAL,
                                         FILA_INTERNAL, FILA_OK, FILA_OK};
    fila_broker *broker = with_queue();
    fila_error error;
    add_fault(
        broker, (fila_fault){
                    .kind = FILA_FAULT_ERROR,
                    .call = FILA_CALL_ENQUEUE,
                    .nth = 3,
                    .count = 2,
                    .wire_code = 13});
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), wanted[i]), "use %zu", i + 1);
        (void)depth(broker); /* other calls do not count */
    }
    fila_broker_free(broker);
}

Test(fault, count_0_is_for_ever_until_cleared)
{
    fila_broker *broker = with_queue();
    fila_error error;
    add_fault(
        broker, (fila_fault){.kind = FILA_FAULT_ERROR, .call = FILA_CALL_ENQUEUE, .wire_code = 8});
    for (int i = 0; i < 50; i++) {
        cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OVERLOADED));
    }
    fila_broker_clear_faults(broker);
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OK));
    fila_broker_free(broker);
}

Test(fault, only_of_the_queue_named)
{
    fila_broker *broker = with_queue();
    fila_request other = {.call = FILA_CALL_ENQUEUE, .as.enqueue = {.queue = VIEW("other")}};
    char name[] = "other";
    fila_error error;
    must_create(broker, "other", 0);
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_ERROR, .call = FILA_CALL_ENQUEUE, .queue = name, .wire_code = 7});
    memset(name, 'x', sizeof name - 1); /* it was copied */
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OK));
    cr_expect(eq(int, ask_call(broker, &other, &error), FILA_DENIED));
    fila_broker_free(broker);
}

Test(fault, the_first_that_fires_wins_and_all_count)
{
    fila_broker *broker = with_queue();
    fila_error error;
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_ERROR, .call = FILA_CALL_ENQUEUE, .count = 2, .wire_code = 13});
    add_fault(
        broker, (fila_fault){
                    .kind = FILA_FAULT_ERROR,
                    .call = FILA_CALL_ENQUEUE,
                    .nth = 2,
                    .count = 2,
                    .wire_code = 8});
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_INTERNAL));
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_INTERNAL));
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OVERLOADED));
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OK));
    fila_broker_free(broker);
}

Test(fault, a_delayed_call_is_done_at_once_and_answered_later)
{
    fila_broker *broker = with_queue();
    struct ask ask;
    int64_t began = fila_now();
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_DELAY, .call = FILA_CALL_ENQUEUE, .count = 1, .delay_ms = 150});
    ask_start(&ask, broker, &ENQUEUE);
    cr_expect(not(ask.done));
    cr_expect(eq(u64, depth(broker), 1));
    cr_assert(ask_wait(&ask, 10000));
    cr_expect(ge(i64, fila_now() - began, 150 * FILA_MS));
    cr_assert(ne(ptr, ask.reply, NULL));
    cr_expect(eq(sz, ask.reply->as.enqueue.message_id.len, 36));
    ask_free(&ask);
    fila_broker_free(broker);
}

Test(fault, delayed_answers_come_in_the_order_of_their_times)
{
    fila_broker *broker = with_queue();
    struct ask asks[3];
    static const uint32_t delays[] = {600, 50, 300};
    for (int i = 0; i < 3; i++) {
        add_fault(
            broker, (fila_fault){
                        .kind = FILA_FAULT_DELAY,
                        .call = FILA_CALL_ENQUEUE,
                        .count = 1,
                        .delay_ms = delays[i]});
        ask_start(&asks[i], broker, &ENQUEUE);
    }
    cr_assert(ask_wait(&asks[1], 10000));
    cr_expect(not(asks[0].done));
    cr_assert(ask_wait(&asks[2], 10000));
    cr_assert(ask_wait(&asks[0], 10000));
    for (int i = 0; i < 3; i++) {
        cr_expect(eq(int, asks[i].error.code, FILA_OK));
        ask_free(&asks[i]);
    }
    fila_broker_free(broker);
}

Test(fault, those_that_are_not_used_up_are_counted)
{
    fila_broker *broker = with_queue();
    struct ask ask;
    cr_expect(eq(sz, fila_broker_faults_left(broker), 0));
    add_fault(
        broker, (fila_fault){.kind = FILA_FAULT_DELAY, .call = FILA_CALL_ENQUEUE, .count = 2});
    add_fault(
        broker, (fila_fault){.kind = FILA_FAULT_DELAY, .call = FILA_CALL_ENQUEUE, .count = 0});
    for (size_t used = 0; used < 3; used++) {
        cr_expect(eq(sz, fila_broker_faults_left(broker), used < 2 ? 2 : 1));
        ask_start(&ask, broker, &ENQUEUE);
        cr_assert(ask_wait(&ask, 10000));
        ask_free(&ask);
    }
    fila_broker_clear_faults(broker);
    cr_expect(eq(sz, fila_broker_faults_left(broker), 0));
    fila_broker_free(broker);
}

Test(fault, a_hanging_call_is_not_done_and_answered_at_close)
{
    fila_broker *broker = with_queue();
    struct ask ask;
    add_fault(broker, (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_ENQUEUE, .count = 1});
    ask_start(&ask, broker, &ENQUEUE);
    cr_expect(not(ask_wait(&ask, 200)));
    fila_broker_clear_faults(broker); /* what hangs keeps hanging */
    cr_expect(eq(u64, depth(broker), 0));
    cr_expect(not(ask.done));
    fila_broker_close(broker);
    cr_assert(ask_wait(&ask, 10000));
    cr_expect(eq(int, ask.error.code, FILA_BROKER_UNAVAILABLE));
    cr_expect(eq(str, ask.error.text, "the broker was closed"));
    ask_free(&ask);
    fila_broker_free(broker);
}

Test(fault, what_makes_no_sense_is_refused)
{
    static const struct {
        fila_fault fault; /* size 0: as it should be */
        const char *text;
    } rows[] = {
        {{.kind = FILA_FAULT_ERROR, .call = FILA_CALL_ACK, .wire_code = 13},
         "nth is 0: the next use is 1"},
        {{.kind = FILA_FAULT_ERROR, .call = FILA_CALL_ACK, .nth = 1},
         "wire_code is 0: must be 1 to 16"},
        {{.kind = FILA_FAULT_LOSE_REPLY, .call = FILA_CALL_ACK, .nth = 1, .wire_code = 17},
         "wire_code is 17: must be 1 to 16"},
        {{.kind = FILA_FAULT_CUT, .call = FILA_CALL_CONSUME, .nth = 1, .wire_code = -1},
         "wire_code is -1: must be 0 to 16"},
        {{.kind = FILA_FAULT_CUT, .call = FILA_CALL_ACK, .nth = 1},
         "only Consume can be cut, frozen or late, not Ack"},
        {{.kind = FILA_FAULT_FREEZE, .call = FILA_CALL_ENQUEUE, .nth = 1},
         "only Consume can be cut, frozen or late, not Enqueue"},
        {{.kind = FILA_FAULT_LATE, .call = FILA_ANY_CALL, .nth = 1},
         "only Consume can be cut, frozen or late, not any call"},
        {{.kind = (fila_fault_kind)0, .call = FILA_CALL_ACK, .nth = 1}, "no fault kind 0"},
        {{.kind = (fila_fault_kind)12, .call = FILA_CALL_ACK, .nth = 1}, "no fault kind 12"},
        {{.kind = FILA_FAULT_HANG, .call = FILA_CALL_COUNT, .nth = 1}, "no call 17"},
        {{.kind = FILA_FAULT_HANG, .call = FILA_CALL_ACK, .nth = 1, .chance = 1000001},
         "chance is 1000001: must be at most 1000000"},
        {{.size = 7, .kind = FILA_FAULT_HANG, .call = FILA_CALL_ACK, .nth = 1}, NULL},
        {{.size = 1000, .kind = FILA_FAULT_HANG, .call = FILA_CALL_ACK, .nth = 1}, NULL},
    };

    fila_broker *broker = with_queue();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fila_fault fault = rows[i].fault;
        fila_error error;
        fault.size = fault.size ? fault.size : sizeof fault;
        cr_expect(eq(int, fila_broker_add_fault(broker, &fault, &error), FILA_INVALID_ARGUMENT));
        if (rows[i].text) {
            cr_expect(eq(str, error.text, (char *)(uintptr_t)rows[i].text));
        }
    }
    fila_broker_free(broker);
}

/* ---- Streams ---- */

static void fill(fila_broker *broker, int count)
{
    while (count--) {
        must_enqueue(broker, "q", "x");
    }
}

Test(fault, consume_is_refused)
{
    static const struct fb_consumer_events events = {NULL};
    fila_broker *broker = with_queue();
    struct fb_consumer *consumer;
    fila_error error;
    fill(broker, 1);
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_ERROR, .call = FILA_CALL_CONSUME, .count = 1, .wire_code = 16});
    cr_expect(
        eq(int, fb_consumer_open(broker, fila_view_of("q"), &events, NULL, &consumer, &error),
           FILA_UNAUTHENTICATED));
    cr_expect(eq(int, error.wire_code, 16));
    fila_broker_free(broker);
}

Test(fault, a_consume_whose_answer_is_lost_strands_a_pipe)
{
    static const struct fb_consumer_events events = {NULL};
    fila_broker *broker = with_queue();
    struct fb_consumer *consumer;
    struct reader *reader;
    fila_error error;
    fill(broker, 200);
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_LOSE_REPLY, .call = FILA_CALL_CONSUME, .count = 1, .wire_code = 14});
    cr_expect(
        eq(int, fb_consumer_open(broker, fila_view_of("q"), &events, NULL, &consumer, &error),
           FILA_BROKER_UNAVAILABLE));
    reader = reader_open(broker, "q");
    cr_expect(eq(int, reader_drain(reader), 200 - 129));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(fault, a_stream_is_cut_after_its_messages)
{
    static const struct {
        int wire_code;
        const char *end;
    } rows[] = {{0, "END 0 "}, {14, "END 14 scripted fault"}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fila_broker *broker = with_queue();
        struct reader *reader;
        fila_error end;
        add_fault(
            broker, (fila_fault){
                        .kind = FILA_FAULT_CUT,
                        .call = FILA_CALL_CONSUME,
                        .count = 1,
                        .wire_code = rows[i].wire_code,
                        .after_messages = 2});
        reader = reader_open(broker, "q");
        fill(broker, 5);
        EXPECT_TAKE(reader, "x");
        cr_expect(not(fb_consumer_ended(reader->consumer, &end)));
        EXPECT_TAKE(reader, "x");
        cr_expect(fb_consumer_ended(reader->consumer, &end));
        EXPECT_TAKE(reader, rows[i].end);
        EXPECT_TAKE(reader, rows[i].end);
        cr_expect(eq(int, reader->ready, 2), "messages, and the end");
        reader_close(reader);
        fila_broker_free(broker);
    }
}

Test(fault, a_stream_is_cut_at_once)
{
    fila_broker *broker = with_queue();
    struct reader *reader;
    add_fault(
        broker, (fila_fault){
                    .kind = FILA_FAULT_CUT, .call = FILA_CALL_CONSUME, .count = 1, .wire_code = 8});
    fill(broker, 1);
    reader = reader_open(broker, "q");
    cr_expect(reader_wait(reader, 1, 1000));
    EXPECT_TAKE(reader, "END 8 scripted fault");
    reader_close(reader);
    fila_broker_free(broker);
}

Test(fault, a_frozen_stream_stays_open_and_silent)
{
    fila_broker *broker = with_queue();
    struct reader *reader;
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_FREEZE, .call = FILA_CALL_CONSUME, .count = 1, .after_messages = 1});
    fill(broker, 5);
    reader = reader_open(broker, "q");
    EXPECT_TAKE(reader, "x");
    EXPECT_TAKE(reader, "");
    fill(broker, 5);
    cr_expect(not(reader_wait(reader, 2, 200)));
    EXPECT_TAKE(reader, "");
    cr_expect(eq(u64, depth(broker), 10));
    fila_broker_close(broker);
    EXPECT_TAKE(reader, "END 14 the broker was closed");
    reader_close(reader);
    fila_broker_free(broker);
}

Test(fault, a_hanging_stream_leases_nothing)
{
    fila_broker *broker = with_queue();
    struct reader *reader;
    struct reader *second;
    add_fault(broker, (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_CONSUME, .count = 1});
    fill(broker, 3);
    reader = reader_open(broker, "q");
    EXPECT_TAKE(reader, "");
    second = reader_open(broker, "q");
    cr_expect(eq(int, reader_drain(second), 3));
    reader_close(second);
    reader_close(reader);
    fila_broker_free(broker);
}

static struct reader *open_delayed(fila_broker *broker, const char *queue, uint32_t delay_ms)
{
    add_fault(
        broker,
        (fila_fault){
            .kind = FILA_FAULT_DELAY, .call = FILA_CALL_CONSUME, .count = 1, .delay_ms = delay_ms});
    return reader_open(broker, queue);
}

Test(fault, a_delayed_stream_begins_later)
{
    fila_broker *broker = with_queue();
    struct reader *first;
    struct reader *reader;
    int64_t began;
    must_create(broker, "other", 0);
    must_enqueue(broker, "other", "x");
    fill(broker, 1);
    first = open_delayed(broker, "other", 20);
    cr_assert(reader_wait(first, 1, 10000)); /* now the broker's clock sleeps until a lease ends */
    began = fila_now();
    reader = open_delayed(broker, "q", 150);
    EXPECT_TAKE(reader, "");
    cr_assert(reader_wait(reader, 1, 10000));
    cr_expect(ge(i64, fila_now() - began, 150 * FILA_MS));
    EXPECT_TAKE(reader, "x");
    reader_close(reader);
    reader_close(first);
    fila_broker_free(broker);
}

/* ---- Capacity ---- */

Test(capacity, more_waiting_calls_are_refused_unseen)
{
    fila_broker *broker = broker_open(100, 2);
    struct ask asks[2];
    fila_error error;
    must_create(broker, "q", 0);
    add_fault(broker, (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_ENQUEUE, .count = 2});
    ask_start(&asks[0], broker, &ENQUEUE);
    cr_expect(eq(u64, depth(broker), 0));
    ask_start(&asks[1], broker, &ENQUEUE);
    cr_expect(eq(int, ask_call(broker, &STATS, &error), FILA_OVERLOADED));
    cr_expect(eq(int, error.wire_code, 8));
    cr_expect(not(error.outcome_unknown));
    fila_broker_close(broker);
    for (int i = 0; i < 2; i++) {
        cr_assert(ask_wait(&asks[i], 10000));
        ask_free(&asks[i]);
    }
    fila_broker_free(broker);
}

/* ---- The clock ---- */

Test(clock, an_idle_broker_takes_leases_back_by_itself)
{
    fila_broker *broker = broker_open(20, 100);
    struct reader *reader;
    int64_t began;
    must_create(broker, "q", 1000);
    reader = reader_open(broker, "q");
    began = fila_now();
    fill(broker, 1);
    EXPECT_TAKE(reader, "x");
    EXPECT_TAKE(reader, "");
    cr_assert(reader_wait(reader, 2, 20000));
    cr_expect(ge(i64, fila_now() - began, FILA_S));
    EXPECT_TAKE(reader, "x");
    reader_close(reader);
    fila_broker_free(broker);
}

Test(clock, room_is_filled_without_further_commands)
{
    fila_broker *broker = broker_open(20, 100);
    struct reader *reader;
    uint32_t taken = 0;
    must_create(broker, "q", 0);
    fill(broker, 400);
    reader = reader_open(broker, "q");
    for (uint32_t told = 1; taken < 400; told++) {
        cr_assert(reader_wait(reader, told, 20000), "told %u times", told);
        taken += reader_drain(reader);
    }
    cr_expect(eq(int, taken, 400));
    reader_close(reader);
    fila_broker_free(broker);
}

/* How often the ticker has gone to sleep, from its entry in /proc. */
static long ticker_sleeps(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    long sleeps = -1;
    cr_assert(ne(ptr, tasks, NULL));
    while ((task = readdir(tasks))) {
        char path[300];
        char line[200];
        bool ours = false;
        FILE *file;
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            ours |= strcmp(line, "Name:\tfila-broker\n") == 0;
            if (ours && sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps) == 1) {
                break;
            }
        }
        if (file) {
            (void)fclose(file);
        }
    }
    (void)closedir(tasks);
    cr_assert(ge(long, sleeps, 0), "the ticker has its name");
    return sleeps;
}

Test(clock, an_idle_broker_does_not_wake)
{
    fila_broker *broker = broker_open(10, 100);
    struct ask never;
    long before;
    must_create(broker, "q", 0);
    fill(broker, 3);
    add_fault(broker, (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_ENQUEUE, .count = 1});
    ask_start(&never, broker, &ENQUEUE);
    (void)ask_wait(&never, 100);
    before = ticker_sleeps();
    (void)ask_wait(&never, 500); /* 50 idle timeouts */
    cr_expect(le(long, ticker_sleeps() - before, 1));
    fila_broker_close(broker);
    cr_assert(ask_wait(&never, 10000));
    ask_free(&never);
    fila_broker_free(broker);
}

/* ---- The end ---- */

Test(close, ends_streams_and_refuses_calls)
{
    fila_broker *broker = with_queue();
    struct reader *reader = reader_open(broker, "q");
    fila_error error;
    static const struct fb_consumer_events events = {NULL};
    struct fb_consumer *consumer;
    fill(broker, 3);
    fila_broker_close(broker);
    EXPECT_TAKE(reader, "END 14 the broker was closed");
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_BROKER_UNAVAILABLE));
    cr_expect(eq(str, error.text, "the broker was closed"));
    cr_expect(
        eq(int, fb_consumer_open(broker, fila_view_of("q"), &events, NULL, &consumer, &error),
           FILA_BROKER_UNAVAILABLE));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(close, a_taken_message_outlives_the_broker)
{
    fila_broker *broker = with_queue();
    struct reader *reader = reader_open(broker, "q");
    struct fb_delivery delivery;
    fila_error end;
    must_enqueue(broker, "q", "keep me");
    cr_assert(eq(int, fb_consumer_take(reader->consumer, &delivery, &end), FB_TAKE_MESSAGE));
    reader_close(reader);
    fila_broker_free(broker);
    cr_expect(eq(int, memcmp(delivery.fields.payload.data, "keep me", 7), 0));
    fb_delivery_release(&delivery);
}
