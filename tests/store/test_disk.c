/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A disk that is full, or that fails: calls are answered with 13 and why, nothing that was
 * confirmed is lost, memory is again what the file is, and when the disk is well the broker is,
 * with the streams that were open.
 */
#include "faulty_vfs.h"
#include "store_rig.h"

#include <unistd.h>

static const char *file;
static fila_broker *broker;

static void set_up(void)
{
    file = new_path();
    cr_assert(faulty_install());
    broker = must_open(file, 5);
    must_create(broker, "q", 600000);
}

static void tear_down(void)
{
    faulty_heal();
    fila_broker_free(broker);
    remove_path();
}

TestSuite(disk, .init = set_up, .fini = tear_down);

static fila_status enqueue(const char *payload, fila_error *ret_error)
{
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    request.as.enqueue.queue = fila_view_of("q");
    request.as.enqueue.payload = fila_view_of(payload);
    return ask_call(broker, &request, ret_error);
}

/* Until the broker takes calls again: it tries four times a second. */
static void wait_until_well(void)
{
    fila_error error;
    int64_t until = fila_now() + 30 * FILA_S;
    while (simple_call(broker, FILA_CALL_GET_STATS, "q", &error) != FILA_OK) {
        struct timespec pause = {0, 20000000};
        cr_assert(fila_now() < until, "still: %s", error.text);
        (void)nanosleep(&pause, NULL);
    }
}

static void expect_sick(const fila_error *error, const char *cause)
{
    char text[FILA_ERROR_TEXT];
    (void)snprintf(text, sizeof text, "%s: cannot write: %s", file, cause);
    cr_expect(eq(int, error->code, FILA_INTERNAL));
    cr_expect(eq(int, error->wire_code, 13));
    cr_expect(error->outcome_unknown, "nobody can know whether it was stored");
    cr_expect(eq(str, (char *)(uintptr_t)error->text, text));
}

Test(disk, full_and_well_again)
{
    fila_error error;
    struct reader *reader;
    struct got got;
    must_enqueue(broker, "q", "before");
    faulty_plan(FAULTY_FULL, 1);
    cr_assert(eq(int, enqueue("lost", &error), FILA_INTERNAL));
    expect_sick(&error, "the disk is full");
    cr_assert(eq(int, enqueue("refused", &error), FILA_INTERNAL));
    expect_sick(&error, "the disk is full");
    cr_expect(eq(int, simple_call(broker, FILA_CALL_GET_STATS, "q", &error), FILA_INTERNAL));
    faulty_heal();
    wait_until_well();
    cr_expect(eq(u64, depth_of(broker, "q"), 1));
    must_enqueue(broker, "q", "after");
    reader = reader_open(broker, "q");
    must_get(reader, "before", &got);
    must_settle(broker, FILA_CALL_ACK, "q", got.id);
    must_get(reader, "after", &got);
    reader_close(reader);
    fila_broker_free(broker);
    broker = must_open(file, 5);
    cr_expect(eq(u64, depth_of(broker, "q"), 1));
}

/* Whatever operation of whichever kind fails first, in the middle of a load. */
Test(disk, every_operation_can_fail)
{
    static const struct {
        enum faulty_kind kind;
        const char *cause;
    } ROWS[] = {
        {FAULTY_FULL, "the disk is full"},
        {FAULTY_FULL_HALF, "the disk is full"},
        {FAULTY_ERROR, "disk I/O error"},
        {FAULTY_SYNC_ERROR, "disk I/O error"},
    };

    uint64_t confirmed = 0;
    uint64_t unsure = 0;
    uint64_t failed = 0;
    for (uint64_t i = 0; i < 24; i++) {
        uint64_t failures = faulty_failures();
        faulty_plan(ROWS[i % 4].kind, 1 + i);
        for (int n = 0; n < 12; n++) {
            fila_error error;
            fila_status status = enqueue("message", &error);
            confirmed += status == FILA_OK;
            unsure += status != FILA_OK;
            cr_expect(status == FILA_OK || strstr(error.text, ROWS[i % 4].cause), "%s", error.text);
        }
        failed += faulty_failures() > failures;
        faulty_heal();
        wait_until_well();
        cr_assert(ge(u64, depth_of(broker, "q"), confirmed));
        cr_assert(le(u64, depth_of(broker, "q"), confirmed + unsure));
    }
    cr_expect(ge(u64, failed, 15), "faults were met: %llu", (unsigned long long)failed);
    cr_expect(gt(u64, confirmed, 0));
    uint64_t depth = depth_of(broker, "q");
    fila_broker_free(broker);
    broker = must_open(file, 5);
    cr_expect(eq(u64, depth_of(broker, "q"), depth), "memory was as the file is");
}

Test(disk, an_ack_that_could_not_be_stored_did_not_happen)
{
    struct reader *reader;
    struct got got;
    must_enqueue(broker, "q", "m");
    reader = reader_open(broker, "q");
    must_get(reader, "m", &got);
    faulty_plan(FAULTY_FULL, 1);
    cr_expect(eq(int, settle(broker, FILA_CALL_ACK, "q", got.id), FILA_INTERNAL));
    faulty_heal();
    wait_until_well();
    cr_expect(eq(u64, in_flight_of(broker, "q"), 1));
    must_settle(broker, FILA_CALL_ACK, "q", got.id);
    cr_expect(eq(u64, depth_of(broker, "q"), 0));
    reader_close(reader);
}

Test(disk, nothing_is_delivered_whose_lease_cannot_be_stored)
{
    fila_error error;
    struct got got;
    struct reader *reader = reader_open(broker, "q");
    faulty_plan(FAULTY_FULL, 1);
    cr_assert(eq(int, enqueue("lost", &error), FILA_INTERNAL));
    cr_expect(not(next_message(reader, 50, &got)), "%s came", got.payload);
    faulty_heal();
    wait_until_well();
    must_enqueue(broker, "q", "after"); /* the stream was open all the time */
    must_get(reader, "after", &got);
    reader_close(reader);
}

Test(disk, queues_and_settings_are_as_the_file_says)
{
    fila_error error;
    must_set(broker, "key", "old");
    faulty_plan(FAULTY_ERROR, 1);
    cr_expect(eq(int, simple_call(broker, FILA_CALL_DELETE_QUEUE, "q", &error), FILA_INTERNAL));
    expect_sick(&error, "disk I/O error (778)");
    faulty_heal();
    wait_until_well();
    expect_config(broker, "key", "old");
    must_enqueue(broker, "q", "it is there");
}

Test(disk, a_stream_is_refused_while_nothing_can_be_stored)
{
    static const struct fb_consumer_events events = {NULL};
    struct fb_consumer *consumer;
    fila_error error;
    faulty_plan(FAULTY_FULL, 1);
    cr_assert(eq(int, enqueue("lost", &error), FILA_INTERNAL));
    cr_expect(
        eq(int, fb_consumer_open(broker, fila_view_of("q"), &events, NULL, &consumer, &error),
           FILA_INTERNAL));
    expect_sick(&error, "the disk is full");
    cr_expect(
        eq(int, fb_consumer_open(broker, fila_view_of(""), &events, NULL, &consumer, &error),
           FILA_INVALID_ARGUMENT));
}

Test(disk, it_can_be_closed_while_it_fails)
{
    fila_error error;
    must_enqueue(broker, "q", "kept");
    faulty_plan(FAULTY_ERROR, 1);
    cr_assert(eq(int, enqueue("lost", &error), FILA_INTERNAL));
    fila_broker_free(broker);
    faulty_heal();
    broker = must_open(file, 5);
    cr_expect(eq(u64, depth_of(broker, "q"), 1));
}

/* SQLite itself would go on writing into what has no name any more. */
static void take_away_and_put_back(const char *name)
{
    char away[200];
    char text[FILA_ERROR_TEXT];
    fila_error error;
    (void)snprintf(away, sizeof away, "%s.away", name);
    (void)snprintf(
        text, sizeof text, "%s was moved or deleted while it was in use: put it back where it was",
        name);
    must_enqueue(broker, "q", "before");
    cr_assert(rename(name, away) == 0);
    for (int i = 0; i < 2; i++) {
        cr_expect(eq(int, enqueue("lost", &error), FILA_INTERNAL));
        cr_expect(eq(int, error.wire_code, 13));
        cr_expect(eq(str, (char *)error.text, text));
    }
    cr_assert(rename(away, name) == 0);
    wait_until_well();
    must_enqueue(broker, "q", "after");
    fila_broker_free(broker);
    broker = must_open(file, 5);
}

Test(disk, a_file_that_is_moved_away_is_noticed)
{
    take_away_and_put_back(file);
    cr_expect(eq(u64, depth_of(broker, "q"), 2));
}

Test(disk, so_is_its_log)
{
    char log[160];
    (void)snprintf(log, sizeof log, "%s-wal", file);
    take_away_and_put_back(log);
    cr_expect(eq(u64, depth_of(broker, "q"), 2));
}
