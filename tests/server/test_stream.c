/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Consume streams through the gRPC server: what arrives and in which order, how they end, and that
 * whatever the server took out of the broker it gives back.
 */
#include "base/error.h"
#include "server/rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <pthread.h>
#include <stdio.h>

enum {
    SOON = 10000
}; /* ms; a test that waits this long fails */

/* Reads message number `number` and checks all of it. */
static void check_next(struct raw_call *stream, size_t number, size_t payload)
{
    bool quiet;
    char id[40];
    fila_message *message = raw_next(stream, SOON, &quiet);
    cr_assert(
        ne(ptr, message, NULL), "message %zu %s", number, quiet ? "missing" : "after the end");
    (void)snprintf(id, sizeof id, "00000000-0000-7000-8000-%012zu", number);
    fila_view bytes = fila_message_payload(message);
    cr_expect(eq(int, strncmp(fila_message_id(message).data, id, 36), 0), "message %zu", number);
    cr_assert(eq(sz, bytes.len, payload));
    for (size_t i = 0; i < payload; i++) {
        bool same = (unsigned char)bytes.data[i] == ((i * 7 + number) & 255);
        cr_assert(same, "message %zu, byte %zu", number, i);
    }
    fila_message_free(message);
}

static void check_finish(struct raw_call *stream, int code, const char *text)
{
    struct raw_end end = raw_finish(stream);
    cr_expect(eq(int, end.code, code), "%s", end.text);
    if (text) {
        cr_expect(eq(str, end.text, (char *)text));
    }
    raw_end_free(&end);
}

static struct raw_call *open_stream(struct rig *rig, const char *queue, size_t consumers)
{
    struct raw_call *stream = raw_consume(rig->client, queue);
    cr_assert(raw_headers(stream, SOON));
    cr_assert(fake_wait_consumers(rig->fake, consumers));
    return stream;
}

static void cancel(struct rig *rig, struct raw_call *stream)
{
    raw_cancel(stream);
    check_finish(stream, 1, NULL);
    cr_expect(fake_wait_consumers(rig->fake, 0));
    cr_expect(fake_wait_outstanding(rig->fake, 0));
}

Test(server_stream, headers_come_at_once_and_nothing_else)
{
    struct rig rig = rig_open();
    struct raw_call *stream = open_stream(&rig, "q", 1);
    bool quiet;
    cr_expect(eq(ptr, raw_next(stream, 100, &quiet), NULL));
    cr_expect(quiet);
    cancel(&rig, stream);
    rig_close(&rig);
}

Test(server_stream, messages_arrive_whole_and_in_order)
{
    static const size_t sizes[] = {0, 1, 100, 1024, 8191, 8192, 8193, 65536, 3000000, 1};
    struct rig rig = rig_open();
    struct raw_call *stream = open_stream(&rig, "q", 1);
    size_t number = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fake_push(rig.fake, "q", 3, sizes[i]);
        for (int j = 0; j < 3; j++) {
            check_next(stream, number++, sizes[i]);
        }
    }
    cancel(&rig, stream);
    rig_close(&rig);
}

Test(server_stream, the_last_message_of_a_burst_is_not_kept_back)
{
    struct rig rig = rig_open();
    struct raw_call *stream = open_stream(&rig, "q", 1);
    size_t number = 0;
    for (size_t burst = 1; burst <= 300; burst++) {
        fake_push(rig.fake, "q", burst, burst % 5 * 20);
        for (size_t j = 0; j < burst; j++) {
            check_next(stream, number++, burst % 5 * 20);
        }
    }
    cancel(&rig, stream);
    rig_close(&rig);
}

struct pusher {
    struct fila_broker *fake;
    size_t count;
};

static void *push_one_by_one(void *arg)
{
    struct pusher *pusher = arg;
    for (size_t i = 0; i < pusher->count; i++) {
        fake_push(pusher->fake, "q", 1, 64);
    }
    return NULL;
}

Test(server_stream, messages_pushed_by_another_thread_all_arrive)
{
    enum {
        COUNT = 20000
    };
    struct rig rig = rig_open();
    struct raw_call *stream = open_stream(&rig, "q", 1);
    struct pusher pusher = {rig.fake, COUNT};
    pthread_t thread;
    pthread_create(&thread, NULL, push_one_by_one, &pusher);
    for (size_t i = 0; i < COUNT; i++) {
        check_next(stream, i, 64);
    }
    pthread_join(thread, NULL);
    cancel(&rig, stream);
    rig_close(&rig);
}

Test(server_stream, a_hundred_streams_on_one_connection)
{
    enum {
        STREAMS = 100,
        EACH = 50
    };
    struct rig rig = rig_open();
    struct raw_call *streams[STREAMS];
    for (size_t i = 0; i < STREAMS; i++) {
        streams[i] = open_stream(&rig, i % 2 ? "odd" : "even", i + 1);
    }
    fake_push(rig.fake, "odd", EACH, 2000);
    fake_push(rig.fake, "even", EACH, 20000);
    for (size_t i = 0; i < STREAMS; i++) {
        for (size_t j = 0; j < EACH; j++) {
            check_next(streams[i], j, i % 2 ? 2000 : 20000);
        }
    }
    for (size_t i = 0; i < STREAMS; i++) {
        raw_cancel(streams[i]);
        check_finish(streams[i], 1, NULL);
    }
    cr_expect(fake_wait_consumers(rig.fake, 0));
    rig_close(&rig);
}

Test(server_stream, a_cancel_in_mid_stream_gives_everything_back)
{
    struct rig rig = rig_open();
    for (size_t size = 100; size <= 100000; size *= 10) {
        struct raw_call *stream = open_stream(&rig, "q", 1);
        fake_push(rig.fake, "q", 1000, size);
        for (size_t i = 0; i < 10; i++) {
            check_next(stream, i, size);
        }
        cancel(&rig, stream);
    }
    rig_close(&rig);
}

Test(server_stream, an_end_in_good_order_comes_behind_the_messages)
{
    struct rig rig = rig_open();
    struct raw_call *stream = open_stream(&rig, "q", 1);
    fila_error end = FILA_ERROR_INIT;
    fake_push(rig.fake, "q", 100, 1000);
    fake_end(rig.fake, "q", &end);
    for (size_t i = 0; i < 100; i++) {
        check_next(stream, i, 1000);
    }
    check_finish(stream, 0, "");
    cr_expect(fake_wait_consumers(rig.fake, 0));
    rig_close(&rig);
}

Test(server_stream, an_end_with_an_error_keeps_code_text_and_leader)
{
    struct rig rig = rig_open();
    struct raw_call *stream = open_stream(&rig, "q", 1);
    fila_error end;
    (void)fila_fail(&end, FILA_NOT_LEADER, "moved");
    strcpy(end.leader, "b:5555");
    fake_end(rig.fake, "q", &end);
    bool quiet;
    cr_expect(eq(ptr, raw_next(stream, SOON, &quiet), NULL));
    cr_expect(not(quiet));
    struct raw_end got = raw_finish(stream);
    cr_expect(eq(int, got.code, 14));
    cr_expect(eq(str, got.text, (char *)"moved"));
    cr_expect(eq(str, got.leader, (char *)"b:5555"));
    rig_close(&rig);
}

Test(server_stream, a_refused_stream_has_no_messages)
{
    struct rig rig = rig_open();
    fila_error why;
    (void)fila_fail(&why, FILA_NOT_LEADER, "elsewhere");
    strcpy(why.leader, "c:5555");
    fake_fail_with(rig.fake, &why);
    struct raw_call *stream = raw_consume(rig.client, "fail");
    cr_expect(eq(ptr, raw_next(stream, SOON, NULL), NULL));
    struct raw_end end = raw_finish(stream);
    cr_expect(eq(int, end.code, 14));
    cr_expect(eq(str, end.text, (char *)"elsewhere"));
    cr_expect(eq(str, end.leader, (char *)"c:5555"));
    rig_close(&rig);
}

Test(server_stream, a_wrong_consume_request_is_13)
{
    struct rig rig = rig_open();
    struct raw_end end =
        raw_unary(rig.client, "/fila.v1.FilaService/Consume", "\x0a\x02\xff\xff", 4, SOON);
    cr_expect(eq(int, end.code, 13));
    raw_end_free(&end);
    rig_close(&rig);
}

Test(server_stream, a_stop_ends_streams_with_14)
{
    struct rig rig = rig_open();
    struct raw_call *streams[20];
    for (size_t i = 0; i < 20; i++) {
        streams[i] = open_stream(&rig, "q", i + 1);
    }
    fake_push(rig.fake, "q", 10000, 1000);
    check_next(streams[0], 0, 1000);
    fb_server_stop(rig.server);
    fb_server_stop(rig.server); /* may be repeated */
    for (size_t i = 0; i < 20; i++) {
        check_finish(streams[i], 14, NULL);
    }
    cr_expect(fake_wait_consumers(rig.fake, 0));
    cr_expect(fake_wait_outstanding(rig.fake, 0));
    rig_close(&rig);
}
