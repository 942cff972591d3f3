/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The gRPC transport against the embedded broker's own server: messages there and back, faults of
 * its script, and its end.
 */
#include "fila/broker.h"
#include "rig.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

TestSuite(broker, .timeout = 60);

#define ID "0192f0c1-0000-7000-8000-000000000001"

struct setup {
    fila_broker *broker;
    struct fila_transport *t;
};

static struct setup begin(void)
{
    struct setup s = {0};
    struct ask a = {0};
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_error error = FILA_ERROR_INIT;
    options.listen = "127.0.0.1:0";
    cr_assert_eq(fila_broker_open(&options, &s.broker, &error), FILA_OK, "%s", error.text);
    fila_client_options client = rig_options(fila_broker_port(s.broker));
    s.t = rig_open(&client);
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    request.as.create_queue.name = fila_view_of("orders");
    ask_call(s.t, &a, &request, 5000);
    cr_assert(rig_until(s.t, &a.done, 1, 10000));
    cr_assert_eq(a.unary.error.code, FILA_OK, "%s", a.unary.error.text);
    fila_reply_free(a.reply);
    return s;
}

static void finish(struct setup *s)
{
    rig_close(s->t);
    fila_broker_free(s->broker);
}

static fila_status publish(struct setup *s, fila_view payload, char ret_id[FILA_ID_SIZE])
{
    struct ask a = {0};
    ask_publish(s->t, &a, "orders", payload, 10000);
    cr_assert(rig_until(s->t, &a.done, 1, 10000));
    memcpy(ret_id, a.publish.id, FILA_ID_SIZE);
    return a.publish.error.code;
}

static enum fila_settle_result settle(struct setup *s, enum fila_settle_kind kind, const char *id)
{
    struct ask a = {0};
    ask_settle(s->t, &a, kind, id, 10000);
    cr_assert(rig_until(s->t, &a.done, 1, 10000));
    return a.settle.result;
}

static bool is(fila_view view, const char *text)
{
    return view.len == strlen(text) && memcmp(view.data, text, view.len) == 0;
}

Test(broker, a_messages_life)
{
    struct setup s = begin();
    struct watch *w = calloc(1, sizeof *w);
    char id[FILA_ID_SIZE];
    watch_open(s.t, w, 1);
    cr_assert_eq(publish(&s, fila_view_of("hello"), id), FILA_OK);
    cr_assert(rig_until(s.t, &w->messages, 1, 5000));
    cr_expect_eq(w->opened, 1);
    cr_expect(is(fila_message_id(w->kept[0]), id));
    cr_expect(is(fila_message_queue(w->kept[0]), "orders"));
    cr_expect(is(fila_message_payload(w->kept[0]), "hello"));
    cr_expect_eq(fila_message_attempt_count(w->kept[0]), 0);

    cr_expect_eq(settle(&s, FILA_SETTLE_NACK, id), FILA_SETTLE_OK);
    s.t->ops->grant(w->stream, 1);
    cr_assert(rig_until(s.t, &w->messages, 2, 5000));
    cr_expect(is(fila_message_id(w->kept[1]), id));
    cr_expect_eq(fila_message_attempt_count(w->kept[1]), 1);

    cr_expect_eq(settle(&s, FILA_SETTLE_ACK, id), FILA_SETTLE_OK);
    cr_expect_eq(settle(&s, FILA_SETTLE_ACK, id), FILA_SETTLE_GONE);
    cr_expect_eq(settle(&s, FILA_SETTLE_ACK, "no uuid"), FILA_SETTLE_DENIED);
    cr_expect_eq(settle(&s, FILA_SETTLE_NACK, ID), FILA_SETTLE_GONE);
    finish(&s);
    cr_expect_eq(w->why.code, FILA_CLOSED);
    watch_free(w);
}

Test(broker, payloads_of_all_sizes)
{
    static const size_t sizes[] = {0, 1, 1024, 65536, 1u << 20, (4u << 20) - 40};

    enum {
        COUNT = sizeof sizes / sizeof *sizes
    };
    struct setup s = begin();
    struct watch *w = calloc(1, sizeof *w);
    char id[FILA_ID_SIZE];
    char *payload = malloc(4u << 20);
    for (size_t i = 0; i < 4u << 20; i++) {
        payload[i] = (char)(i * 31 >> 3);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        cr_assert_eq(publish(&s, (fila_view){payload, sizes[i]}, id), FILA_OK);
    }
    cr_expect_eq(publish(&s, (fila_view){payload, 4u << 20}, id), FILA_TOO_LARGE);
    watch_open(s.t, w, COUNT);
    cr_assert(rig_until(s.t, &w->messages, COUNT, 20000));
    for (unsigned i = 0; i < COUNT; i++) {
        fila_view got = fila_message_payload(w->kept[i]);
        cr_assert_eq(got.len, sizes[i]);
        cr_expect_eq(memcmp(got.data ? got.data : "", payload, got.len), 0);
    }
    finish(&s);
    watch_free(w);
    free(payload);
}

Test(broker, headers_and_admin_calls)
{
    struct setup s = begin();
    struct ask a = {0}, b = {0};
    struct watch *w = calloc(1, sizeof *w);
    fila_header headers[2] = {
        {fila_view_of("a"), fila_view_of("1")}, {fila_view_of("b"), fila_view_of("2")}};
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    request.as.enqueue.queue = fila_view_of("orders");
    request.as.enqueue.headers = headers;
    request.as.enqueue.header_count = 2;
    ask_call(s.t, &a, &request, 5000);
    cr_assert(rig_until(s.t, &a.done, 1, 5000));
    cr_assert_eq(a.unary.error.code, FILA_OK, "%s", a.unary.error.text);
    cr_expect_eq(a.reply->as.enqueue.message_id.len, 36);
    watch_open(s.t, w, 1);
    cr_assert(rig_until(s.t, &w->messages, 1, 5000));
    fila_view value;
    cr_expect(fila_message_header(w->kept[0], fila_view_of("b"), &value) && is(value, "2"));

    request = (fila_request){.call = FILA_CALL_GET_STATS};
    request.as.queue.queue = fila_view_of("orders");
    ask_call(s.t, &b, &request, 5000);
    cr_assert(rig_until(s.t, &b.done, 1, 5000));
    cr_assert_eq(b.unary.error.code, FILA_OK, "%s", b.unary.error.text);
    cr_expect_eq(b.reply->as.stats.depth, 1);
    cr_expect_eq(b.reply->as.stats.in_flight, 1);
    cr_expect_eq(b.reply->as.stats.active_consumers, 1);
    fila_reply_free(a.reply);
    fila_reply_free(b.reply);
    request.as.queue.queue = fila_view_of("none");
    ask_call(s.t, &b, &request, 5000);
    cr_assert(rig_until(s.t, &b.done, 2, 5000));
    cr_expect_eq(b.unary.error.code, FILA_QUEUE_NOT_FOUND);
    cr_expect_str_eq(b.unary.error.text, "none");
    finish(&s);
    watch_free(w);
}

static void fault(struct setup *s, fila_fault f)
{
    fila_error error = FILA_ERROR_INIT;
    f.size = sizeof f;
    f.nth = f.nth ? f.nth : 1;
    cr_assert_eq(fila_broker_add_fault(s->broker, &f, &error), FILA_OK, "%s", error.text);
}

Test(broker, scripted_faults)
{
    struct setup s = begin();
    struct watch *w = calloc(1, sizeof *w), *cut = calloc(1, sizeof *cut);
    struct ask a = {0};
    char id[FILA_ID_SIZE];
    fault(
        &s, (fila_fault){
                .kind = FILA_FAULT_ERROR, .call = FILA_CALL_ENQUEUE, .count = 1, .wire_code = 8});
    cr_expect_eq(publish(&s, fila_view_of("x"), id), FILA_OVERLOADED);
    cr_expect_eq(publish(&s, fila_view_of("x"), id), FILA_OK);
    watch_open(s.t, w, 5);
    cr_assert(rig_until(s.t, &w->messages, 1, 5000));
    fault(
        &s, (fila_fault){
                .kind = FILA_FAULT_LOSE_REPLY, .call = FILA_CALL_ACK, .count = 1, .wire_code = 14});
    cr_expect_eq(settle(&s, FILA_SETTLE_ACK, id), FILA_SETTLE_UNKNOWN);
    cr_expect_eq(settle(&s, FILA_SETTLE_ACK, id), FILA_SETTLE_GONE, "it was done");
    fault(&s, (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_ACK, .count = 1});
    ask_settle(s.t, &a, FILA_SETTLE_ACK, id, 300);
    cr_assert(rig_until(s.t, &a.done, 1, 5000));
    cr_expect_eq(a.settle.error.code, FILA_TIMEOUT);
    cr_expect_eq(a.settle.result, FILA_SETTLE_UNKNOWN);
    s.t->ops->cancel_stream(w->stream);
    cr_assert(rig_until(s.t, &w->ended, 1, 5000));

    fault(
        &s,
        (fila_fault){
            .kind = FILA_FAULT_CUT, .call = FILA_CALL_CONSUME, .count = 1, .after_messages = 2});
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(publish(&s, fila_view_of("x"), id), FILA_OK);
    }
    watch_open(s.t, cut, 5);
    cr_assert(rig_until(s.t, &cut->ended, 1, 5000));
    cr_expect_eq(cut->messages, 2);
    cr_expect_eq(cut->why.code, FILA_OK, "%s", cut->why.text);
    finish(&s);
    watch_free(w);
    watch_free(cut);
}

Test(broker, its_end_ends_the_stream)
{
    struct setup s = begin();
    struct watch *w = calloc(1, sizeof *w);
    struct ask a = {0};
    watch_open(s.t, w, 5);
    cr_assert(rig_until(s.t, &w->opened, 1, 5000));
    fila_broker_free(s.broker);
    s.broker = NULL;
    cr_assert(rig_until(s.t, &w->ended, 1, 5000));
    cr_expect_eq(w->why.code, FILA_BROKER_UNAVAILABLE, "%d %s", w->why.code, w->why.text);
    /* One may still meet the old connection's GOAWAY; the next finds nobody. */
    for (unsigned i = 0; i < 2 && a.settle.result != FILA_SETTLE_RETRY; i++) {
        ask_settle(s.t, &a, FILA_SETTLE_ACK, ID, 3000);
        cr_assert(rig_until(s.t, &a.done, i + 1, 5000));
    }
    cr_expect_eq(a.settle.result, FILA_SETTLE_RETRY, "%s", a.settle.error.text);
    finish(&s);
    watch_free(w);
}
