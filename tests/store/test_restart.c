/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a restart brings back, and how (contract B3, B5, B10, B12, B13, C). The broker is closed and
 * opened again; store_crash does the same with kills.
 */
#include "store_rig.h"

#include <sqlite3.h>

#define SHORT 5 /* ms: an idle timeout for tests that wait for leases to end */

static const char *file;

static void set_up(void)
{
    file = new_path();
}

TestSuite(restart, .init = set_up, .fini = remove_path);

static fila_broker *again(fila_broker *broker)
{
    fila_broker_free(broker);
    return must_open(file, SHORT);
}

static void put(fila_broker *broker, const char *queue, const char *payload)
{
    must_enqueue(broker, queue, payload);
}

Test(restart, b3_queues_settings_and_messages_are_kept)
{
    fila_broker *broker = must_open(file, SHORT);
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    fila_header header = {fila_view_of("a"), fila_view_of("b")};
    fila_error error;
    struct reader *reader;
    struct got got;
    must_create(broker, "orders", 60000);
    must_set(broker, "plain", "value");
    must_set(broker, "gone", "x");
    must_set(broker, "gone", "");
    must_set(broker, "throttle.api", "2,5");
    request.as.enqueue.queue = fila_view_of("orders");
    request.as.enqueue.headers = &header;
    request.as.enqueue.header_count = 1;
    request.as.enqueue.payload = fila_view_of("one");
    cr_assert(eq(int, ask_call(broker, &request, &error), FILA_OK));
    put(broker, "orders", "");
    broker = again(broker);
    expect_config(broker, "plain", "value");
    expect_config(broker, "gone", "");
    expect_config(broker, "throttle.api", "2,5");
    cr_expect(eq(u64, depth_of(broker, "orders"), 2));
    cr_expect(eq(u64, depth_of(broker, "orders.dlq"), 0));
    cr_expect(
        eq(int, simple_call(broker, FILA_CALL_CREATE_QUEUE, "orders", &error), FILA_QUEUE_EXISTS));
    reader = reader_open(broker, "orders");
    must_get(reader, "one", &got);
    cr_expect(eq(str, got.header, "a=b"));
    cr_expect(eq(str, got.key, "default"));
    cr_expect(eq(str, got.queue, "orders"));
    cr_expect(eq(u32, got.attempts, 0));
    cr_expect(gt(i64, got.lease_end, fila_now() + 50 * FILA_S), "the visibility timeout is kept");
    must_get(reader, "", &got);
    cr_expect(eq(str, got.header, ""));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(restart, scripts_are_kept)
{
    fila_broker *broker = must_open(file, SHORT);
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    struct reader *reader;
    struct got got;
    fila_error error;
    request.as.create_queue.name = fila_view_of("q");
    request.as.create_queue.on_enqueue_script =
        fila_view_of("function on_enqueue(msg) return { fairness_key = 'red', weight = 7 } end");
    request.as.create_queue.on_failure_script =
        fila_view_of("function on_failure(msg) return { action = 'dlq' } end");
    if (ask_call(broker, &request, &error) == FILA_UNIMPLEMENTED) {
        fila_broker_free(broker);
        cr_skip("a build without Lua");
    }
    cr_assert(eq(int, error.code, FILA_OK), "%s", error.text);
    broker = again(broker);
    put(broker, "q", "m");
    reader = reader_open(broker, "q");
    must_get(reader, "m", &got);
    cr_expect(eq(str, got.key, "red"));
    must_settle(broker, FILA_CALL_NACK, "q", got.id);
    reader_close(reader);
    broker = again(broker);
    reader = reader_open(broker, "q.dlq");
    must_get(reader, "m", &got); /* moved, with its key */
    cr_expect(eq(str, got.key, "red"));
    cr_expect(eq(str, got.queue, "q.dlq"));
    cr_expect(eq(u32, got.attempts, 1));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(restart, b3_acked_stays_gone)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got got;
    must_create(broker, "q", 60000);
    put(broker, "q", "1");
    put(broker, "q", "2");
    reader = reader_open(broker, "q");
    must_get(reader, "1", &got);
    must_settle(broker, FILA_CALL_ACK, "q", got.id);
    reader_close(reader);
    broker = again(broker);
    cr_expect(eq(int, settle(broker, FILA_CALL_ACK, "q", got.id), FILA_MESSAGE_NOT_FOUND));
    cr_expect(eq(u64, depth_of(broker, "q"), 1));
    fila_broker_free(broker);
}

Test(restart, b10_order_is_rebuilt_by_enqueue_time)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got got;
    must_create(broker, "q", 60000);
    put(broker, "q", "old");
    reader = reader_open(broker, "q");
    must_get(reader, "old", &got);
    reader_close(reader);
    put(broker, "q", "new");
    must_settle(broker, FILA_CALL_NACK, "q", got.id); /* to the tail */
    broker = again(broker);
    reader = reader_open(broker, "q");
    must_get(reader, "old", &got); /* and back to the front */
    cr_expect(eq(u32, got.attempts, 1));
    must_get(reader, "new", &got);
    cr_expect(eq(u32, got.attempts, 0));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(restart, b3_leases_keep_their_end)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got first;
    struct got second;
    must_create(broker, "q", 2000);
    put(broker, "q", "m");
    reader = reader_open(broker, "q");
    must_get(reader, "m", &first);
    reader_close(reader);
    broker = again(broker);
    cr_expect(eq(u64, in_flight_of(broker, "q"), 1));
    reader = reader_open(broker, "q");
    must_get(reader, "m", &second);
    cr_expect(
        ge(i64, fila_now(), first.lease_end - 20 * FILA_MS), "it came before its lease's end");
    cr_expect(eq(u32, second.attempts, 1));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(restart, b11_a_lease_from_before_can_be_settled)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got a;
    struct got b;
    must_create(broker, "q", 60000);
    put(broker, "q", "a");
    put(broker, "q", "b");
    reader = reader_open(broker, "q");
    must_get(reader, "a", &a);
    must_get(reader, "b", &b);
    reader_close(reader);
    broker = again(broker);
    must_settle(broker, FILA_CALL_ACK, "q", a.id);
    must_settle(broker, FILA_CALL_NACK, "q", b.id);
    broker = again(broker);
    reader = reader_open(broker, "q");
    must_get(reader, "b", &b);
    cr_expect(eq(u32, b.attempts, 1));
    cr_expect(eq(u64, depth_of(broker, "q"), 1));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(restart, b3_what_ended_while_down_comes_at_once)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got got;
    must_create(broker, "q", 1000);
    put(broker, "q", "m");
    reader = reader_open(broker, "q");
    must_get(reader, "m", &got);
    reader_close(reader);
    fila_broker_free(broker);
    while (fila_now() < got.lease_end + 5 * FILA_MS) {
        struct timespec pause = {0, 10000000};
        (void)nanosleep(&pause, NULL);
    }
    broker = must_open(file, 3600000); /* and no idle tick helps */
    cr_expect(eq(u64, in_flight_of(broker, "q"), 0));
    broker = again(broker); /* the attempt was stored */
    reader = reader_open(broker, "q");
    must_get(reader, "m", &got);
    cr_expect(eq(u32, got.attempts, 1));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(restart, b12_messages_of_a_deleted_queue_come_back_with_its_name)
{
    fila_broker *broker = must_open(file, SHORT);
    fila_error error;
    must_create(broker, "q", 60000);
    put(broker, "q", "1");
    put(broker, "q", "2");
    put(broker, "q.dlq", "3");
    cr_assert(eq(int, simple_call(broker, FILA_CALL_DELETE_QUEUE, "q", &error), FILA_OK));
    broker = again(broker);
    cr_expect(eq(int, simple_call(broker, FILA_CALL_ENQUEUE, "q", &error), FILA_QUEUE_NOT_FOUND));
    must_create(broker, "q", 60000);
    cr_expect(eq(u64, depth_of(broker, "q"), 0));
    put(broker, "q", "4");
    broker = again(broker);
    cr_expect(eq(u64, depth_of(broker, "q"), 3));
    cr_expect(eq(u64, depth_of(broker, "q.dlq"), 1));
    fila_broker_free(broker);
}

Test(restart, b12_leases_of_a_deleted_queue_live_on)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got a;
    struct got b;
    fila_error error;
    must_create(broker, "q", 1000);
    put(broker, "q", "a");
    put(broker, "q", "b");
    reader = reader_open(broker, "q");
    must_get(reader, "a", &a);
    must_get(reader, "b", &b);
    reader_close(reader);
    cr_assert(eq(int, simple_call(broker, FILA_CALL_DELETE_QUEUE, "q", &error), FILA_OK));
    broker = again(broker);
    must_settle(broker, FILA_CALL_ACK, "q", a.id);
    reader = reader_open(broker, "q");
    must_get(reader, "b", &b);
    cr_expect(eq(u32, b.attempts, 1));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(restart, b13_what_was_redriven_is_in_the_parent)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got got;
    fila_error error;
    must_create(broker, "q", 60000);
    put(broker, "q.dlq", "1");
    put(broker, "q.dlq", "2");
    reader = reader_open(broker, "q.dlq");
    must_get(reader, "1", &got);
    reader_close(reader);
    must_settle(broker, FILA_CALL_NACK, "q.dlq", got.id);
    /* The other went back to nobody: it is leased to the closed stream. */
    cr_assert(eq(int, simple_call(broker, FILA_CALL_REDRIVE, "q.dlq", &error), FILA_OK));
    broker = again(broker);
    cr_expect(eq(u64, depth_of(broker, "q"), 1));
    cr_expect(eq(u64, depth_of(broker, "q.dlq"), 1));
    reader = reader_open(broker, "q");
    must_get(reader, "1", &got);
    cr_expect(eq(str, got.queue, "q"));
    cr_expect(eq(u32, got.attempts, 0));
    must_settle(broker, FILA_CALL_ACK, "q", got.id);
    reader_close(reader);
    broker = again(broker);
    cr_expect(eq(u64, depth_of(broker, "q"), 0));
    fila_broker_free(broker);
}

static int count_in_file(const char *sql)
{
    sqlite3_stmt *count;
    sqlite3 *db;
    int number;
    cr_assert(eq(int, sqlite3_open(file, &db), SQLITE_OK));
    cr_assert(eq(int, sqlite3_prepare_v2(db, sql, -1, &count, NULL), SQLITE_OK));
    cr_assert(eq(int, sqlite3_step(count), SQLITE_ROW));
    number = sqlite3_column_int(count, 0);
    (void)sqlite3_finalize(count);
    (void)sqlite3_close(db);
    return number;
}

Test(restart, settled_messages_leave_nothing_behind)
{
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    struct got got;
    must_create(broker, "q", 60000);
    for (int i = 0; i < 20; i++) {
        put(broker, "q", "waiting");
    }
    reader = reader_open(broker, "q");
    for (int i = 0; i < 40; i++) { /* each twice: nacked, then acked */
        must_get(reader, "waiting", &got);
        must_settle(broker, got.attempts ? FILA_CALL_ACK : FILA_CALL_NACK, "q", got.id);
    }
    reader_close(reader);
    fila_broker_free(broker);
    cr_expect(eq(int, count_in_file("SELECT count(*) FROM message"), 0));
    cr_expect(eq(int, count_in_file("SELECT count(*) FROM state"), 0));
}

Test(restart, deleted_queues_leave_nothing_behind)
{
    fila_broker *broker = must_open(file, SHORT);
    fila_error error;
    for (int i = 0; i < 20; i++) {
        must_create(broker, "q", 0);
        cr_assert(eq(int, simple_call(broker, FILA_CALL_DELETE_QUEUE, "q", &error), FILA_OK));
    }
    broker = again(broker);
    fila_broker_free(broker);
    cr_expect(eq(int, count_in_file("SELECT count(*) FROM queue"), 0));
}

Test(restart, a_message_of_every_size)
{
    static const size_t SIZES[] = {0, 1, 4000, 4096, 5000, 100000, 4000000};
    static char big[4000000];
    fila_broker *broker = must_open(file, SHORT);
    struct reader *reader;
    memset(big, 'z', sizeof big);
    must_create(broker, "q", 60000);
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        fila_request request = {.call = FILA_CALL_ENQUEUE};
        fila_error error;
        request.as.enqueue.queue = fila_view_of("q");
        request.as.enqueue.payload = (fila_view){big, SIZES[i]};
        cr_assert(eq(int, ask_call(broker, &request, &error), FILA_OK), "%s", error.text);
    }
    broker = again(broker);
    reader = reader_open(broker, "q");
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        struct fb_delivery delivery;
        fila_error end;
        while (fb_consumer_take(reader->consumer, &delivery, &end) != FB_TAKE_MESSAGE) {
            cr_assert(reader_wait(reader, 1, 20000));
        }
        cr_expect(eq(sz, delivery.fields.payload.len, SIZES[i]));
        cr_expect(
            delivery.fields.payload.len == 0 || delivery.fields.payload.data[SIZES[i] - 1] == 'z');
        fb_delivery_release(&delivery);
    }
    reader_close(reader);
    fila_broker_free(broker);
}
