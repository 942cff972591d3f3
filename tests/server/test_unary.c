/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Unary calls through the gRPC server: every method, every way in which a request can be wrong, and
 * answers that come late, never, or after the client has left.
 */
#include "base/error.h"
#include "server/rig.h"
#include "wire/codec.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdlib.h>

static const char ENQUEUE[] = "/fila.v1.FilaService/Enqueue";
static const char ID[] = "01890a5d-ac96-774b-bcce-b302099a8057";

static void check_end(struct raw_end end, int code, const char *text)
{
    cr_expect(eq(int, end.code, code), "%s", end.text);
    cr_expect(eq(str, end.text, (char *)text));
    raw_end_free(&end);
}

Test(server_unary, enqueue_answers_with_the_id)
{
    struct rig rig = rig_open();
    fila_request request = rig_enqueue("q", "hello", 5);
    struct raw_end end = raw_request(rig.client, &request);
    struct fila_scratch scratch = {0};
    fila_reply reply;
    fila_error error;
    cr_assert(eq(int, end.code, 0), "%s", end.text);
    cr_assert(eq(
        int, fila_reply_read(FILA_CALL_ENQUEUE, end.bytes, end.len, &scratch, &reply, &error), 0));
    cr_expect(eq(sz, reply.as.enqueue.message_id.len, 36));
    cr_expect(eq(int, memcmp(reply.as.enqueue.message_id.data, ID, 36), 0));
    fila_scratch_free(&scratch);
    raw_end_free(&end);
    rig_close(&rig);
}

Test(server_unary, every_method_is_served)
{
    struct rig rig = rig_open();
    for (int call = 0; call < FILA_CALL_COUNT; call++) {
        if (call != FILA_CALL_CONSUME) {
            fila_request request = {.call = (fila_call)call};
            struct raw_end end = raw_request(rig.client, &request);
            cr_expect(eq(int, end.code, 0), "%s: %s", fila_call_name((fila_call)call), end.text);
            cr_expect(ne(ptr, end.bytes, NULL), "%s", fila_call_name((fila_call)call));
            raw_end_free(&end);
        }
    }
    cr_expect(eq(sz, fake_calls(rig.fake), FILA_CALL_COUNT - 1));
    rig_close(&rig);
}

Test(server_unary, unknown_methods_are_12)
{
    static const char *const paths[] = {
        "/fila.v1.FilaService/Peek", "/grpc.health.v1.Health/Check", "/",
        "/fila.v1.FilaService/Enqueue/"};
    struct rig rig = rig_open();
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        check_end(raw_unary(rig.client, paths[i], "", 0, 20000), 12, "no such method");
    }
    rig_close(&rig);
}

Test(server_unary, rubbish_is_13)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11}, /* no varint ends */
        {"\x0a\x05"
         "ab",
         4},                                     /* a string longer than the rest */
        {"\x0b", 1},                             /* a group */
        {"\x0a\x02\xc3\x28", 4},                 /* no UTF-8 */
        {"\x0a\x03\xed\xa0\x80", 5},             /* a surrogate */
        {"\x12\x06\x0a\x02\xc0\x80\x12\x00", 8}, /* in a header's key */
    };
    struct rig rig = rig_open();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct raw_end end = raw_unary(rig.client, ENQUEUE, rows[i].bytes, rows[i].len, 20000);
        cr_expect(eq(int, end.code, 13), "row %zu: %s", i, end.text);
        cr_expect(ne(chr, end.text[0], 0), "row %zu", i);
        raw_end_free(&end);
    }
    cr_expect(eq(sz, fake_calls(rig.fake), 0));
    rig_close(&rig);
}

/* An Enqueue of `size` encoded bytes. */
static struct raw_end enqueue_of_size(struct raw_client *client, size_t size)
{
    fila_request request = rig_enqueue("q", NULL, 0);
    char *payload = calloc(1, size);
    request.as.enqueue.payload = (fila_view){payload, size - 8};
    request.as.enqueue.payload.len = size - (fila_request_size(&request) - (size - 8));
    cr_assert(eq(sz, fila_request_size(&request), size));
    struct raw_end end = raw_request(client, &request);
    free(payload);
    return end;
}

Test(server_unary, exactly_4_mib_is_accepted)
{
    struct rig rig = rig_open();
    check_end(enqueue_of_size(rig.client, 4194304), 0, "");
    rig_close(&rig);
}

Test(server_unary, one_byte_over_4_mib_is_11)
{
    struct rig rig = rig_open();
    check_end(
        enqueue_of_size(rig.client, 4194305), 11, "request of 4194305 bytes, the limit is 4194304");
    check_end(enqueue_of_size(rig.client, 1000), 0, "");
    cr_expect(eq(sz, fake_calls(rig.fake), 1));
    rig_close(&rig);
}

Test(server_unary, compressed_requests_are_12)
{
    struct rig rig = rig_open();
    struct raw_client *gzip = raw_open_gzip(fb_server_port(rig.server));
    char payload[4096] = {0}; /* worth compressing */
    fila_request request = rig_enqueue("q", payload, sizeof payload);
    check_end(raw_request(gzip, &request), 12, "compressed requests are not supported");
    cr_expect(eq(sz, fake_calls(rig.fake), 0));
    raw_close(gzip);
    rig_close(&rig);
}

Test(server_unary, an_error_keeps_its_code_and_text)
{
    static const int codes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    struct rig rig = rig_open();
    fila_request request = rig_enqueue("fail", "", 0);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        fila_error error;
        (void)fila_fail_wire(
            &error, FILA_CALL_ENQUEUE, codes[i], fila_view_of("caf\xc3\xa9 100% \n x"));
        fake_fail_with(rig.fake, &error);
        check_end(raw_request(rig.client, &request), codes[i], "caf\xc3\xa9 100% \n x");
    }
    rig_close(&rig);
}

Test(server_unary, an_error_without_a_wire_code_gets_that_of_its_kind)
{
    struct rig rig = rig_open();
    fila_request request = rig_enqueue("fail", "", 0);
    fila_error error;
    (void)fila_fail(&error, FILA_QUEUE_NOT_FOUND, "fail");
    fake_fail_with(rig.fake, &error);
    check_end(raw_request(rig.client, &request), 5, "fail");
    rig_close(&rig);
}

Test(server_unary, a_leader_is_named_in_the_trailers)
{
    struct rig rig = rig_open();
    fila_request request = rig_enqueue("fail", "", 0);
    fila_error error;
    (void)fila_fail(&error, FILA_NOT_LEADER, "not the leader");
    strcpy(error.leader, "10.0.0.1:5555");
    fake_fail_with(rig.fake, &error);
    struct raw_end end = raw_request(rig.client, &request);
    cr_expect(eq(int, end.code, 14));
    cr_expect(eq(str, end.leader, (char *)"10.0.0.1:5555"));
    error.leader[0] = '\0';
    fake_fail_with(rig.fake, &error);
    end = raw_request(rig.client, &request);
    cr_expect(eq(int, end.code, 14));
    cr_expect(eq(str, end.leader, (char *)""));
    rig_close(&rig);
}

Test(server_unary, answers_of_another_thread_arrive)
{
    enum {
        CALLS = 500
    };
    struct rig rig = rig_open();
    struct raw_call *calls[CALLS];
    fila_request request = rig_enqueue("late", "x", 1);
    for (int i = 0; i < CALLS; i++) {
        calls[i] = raw_start_request(rig.client, &request);
    }
    for (int i = 0; i < CALLS; i++) {
        check_end(raw_finish(calls[i]), 0, "");
    }
    cr_expect(eq(sz, fake_calls(rig.fake), CALLS));
    rig_close(&rig);
}

Test(server_unary, a_held_call_runs_into_the_clients_deadline)
{
    struct rig rig = rig_open();
    fila_request request = rig_enqueue("held", "x", 1);
    request.timeout_ms = 200;
    struct raw_end end = raw_request(rig.client, &request);
    cr_expect(eq(int, end.code, 4));
    cr_expect(eq(sz, fake_held(rig.fake), 1));
    request = rig_enqueue("q", "x", 1);
    check_end(raw_request(rig.client, &request), 0, ""); /* nobody else waits */
    fake_answer_held(rig.fake, FILA_OK);                 /* to nobody, and nothing breaks */
    check_end(raw_request(rig.client, &request), 0, "");
    rig_close(&rig);
}

Test(server_unary, a_cancelled_call_may_be_answered)
{
    struct rig rig = rig_open();
    fila_request request = rig_enqueue("held", "x", 1);
    struct raw_call *call = raw_start_request(rig.client, &request);
    cr_assert(fake_wait_held(rig.fake, 1));
    raw_cancel(call);
    struct raw_end end = raw_finish(call);
    cr_expect(eq(int, end.code, 1));
    fake_answer_held(rig.fake, FILA_BROKER_UNAVAILABLE);
    rig_close(&rig);
}

Test(server_unary, held_calls_are_answered_at_the_end)
{
    enum {
        CALLS = 50
    };
    struct rig rig = rig_open();
    struct raw_call *calls[CALLS];
    fila_request request = rig_enqueue("held", "x", 1);
    for (int i = 0; i < CALLS; i++) {
        calls[i] = raw_start_request(rig.client, &request);
    }
    cr_assert(fake_wait_held(rig.fake, CALLS));
    fake_answer_held(rig.fake, FILA_BROKER_UNAVAILABLE);
    for (int i = 0; i < CALLS; i++) {
        check_end(raw_finish(calls[i]), 14, "closed");
    }
    rig_close(&rig);
}

/* More calls than the server holds, and than its settings let a client have open: those over the
 * limit are refused, and make room for the rest. */
Test(server_unary, too_many_waiting_calls_are_8)
{
    enum {
        LIMIT = 10000,
        ALL = 12000
    };

    struct rig rig = rig_open();
    struct raw_client *other = raw_open_port(fb_server_port(rig.server));
    struct raw_call **calls = calloc(ALL, sizeof *calls);
    fila_request held = rig_enqueue("held", "x", 1);
    fila_request request = rig_enqueue("q", "x", 1);
    for (int i = 0; i < ALL; i++) {
        calls[i] = raw_start_request(rig.client, &held);
    }
    for (int i = LIMIT; i < ALL; i++) {
        check_end(
            raw_finish(calls[i]), 8, "this connection has its share of the calls that can be open");
    }
    cr_expect(eq(sz, fake_held(rig.fake), LIMIT));
    request = rig_enqueue("q", "x", 1);
    struct raw_end end = raw_request(other, &request); /* another's share is its own */
    cr_expect(eq(int, end.code, 0), "%s", end.text);
    raw_end_free(&end);
    fake_answer_held(rig.fake, FILA_OK);
    for (int i = 0; i < LIMIT; i++) {
        check_end(raw_finish(calls[i]), 0, "");
    }
    free(calls);
    raw_close(other);
    rig_close(&rig);
}
