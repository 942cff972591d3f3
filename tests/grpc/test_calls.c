/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Unary calls over the gRPC transport, against the scripted server: what each answer means, how
 * many are on the wire at once and in which order, and what becomes of those that are never
 * answered.
 */
#include "peer.h"
#include "rig.h"
#include "stub.h"
#include "wire/codec.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

TestSuite(calls, .timeout = 60);

#define ID "0192f0c1-0000-7000-8000-000000000001"

struct setup {
    struct stub *stub;
    struct fila_transport *t;
};

static struct setup begin(void)
{
    struct setup s = {.stub = stub_start("127.0.0.1:0")};
    fila_client_options options = rig_options(stub_port(s.stub));
    s.t = rig_open(&options);
    return s;
}

static void finish(struct setup *s)
{
    rig_close(s->t);
    stub_stop(s->stub);
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* ---- What answers mean ---- */

Test(calls, every_answer_to_an_ack_and_a_nack)
{
    static const struct {
        int wire;
        fila_status code;
        enum fila_settle_result result;
    } rows[] = {
        {0, FILA_OK, FILA_SETTLE_OK},
        {1, FILA_TIMEOUT, FILA_SETTLE_UNKNOWN}, /* contract A2: the server's own timer */
        {2, FILA_INTERNAL, FILA_SETTLE_UNKNOWN},
        {3, FILA_INVALID_ARGUMENT, FILA_SETTLE_DENIED},
        {4, FILA_TIMEOUT, FILA_SETTLE_UNKNOWN},
        {5, FILA_MESSAGE_NOT_FOUND, FILA_SETTLE_GONE},
        {6, FILA_QUEUE_EXISTS, FILA_SETTLE_UNKNOWN},
        {7, FILA_DENIED, FILA_SETTLE_DENIED},
        {8, FILA_OVERLOADED, FILA_SETTLE_RETRY},
        {9, FILA_PARENT_NOT_FOUND, FILA_SETTLE_UNKNOWN},
        {10, FILA_INTERNAL, FILA_SETTLE_UNKNOWN},
        {11, FILA_TOO_LARGE, FILA_SETTLE_DENIED},
        {12, FILA_UNIMPLEMENTED, FILA_SETTLE_DENIED},
        {13, FILA_INTERNAL, FILA_SETTLE_UNKNOWN},
        {14, FILA_BROKER_UNAVAILABLE, FILA_SETTLE_UNKNOWN},
        {15, FILA_INTERNAL, FILA_SETTLE_UNKNOWN},
        {16, FILA_UNAUTHENTICATED, FILA_SETTLE_DENIED},
    };
    struct setup s = begin();
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        size_t row = i / 2;
        bool ack = i % 2 == 0;
        struct ask a = {0};
        char text[32];
        (void)snprintf(text, sizeof text, "text %d", rows[row].wire);
        stub_answer(
            s.stub, ack ? FILA_CALL_ACK : FILA_CALL_NACK,
            &(struct stub_answer){.status = rows[row].wire, .text = text});
        ask_settle(s.t, &a, ack ? FILA_SETTLE_ACK : FILA_SETTLE_NACK, ID, 10000);
        cr_assert_eq(a.done, 0, "never inline");
        cr_assert(rig_until(s.t, &a.done, 1, 10000));
        cr_expect_eq(a.settle.result, rows[row].result, "%d", rows[row].wire);
        cr_expect_eq(a.settle.error.code, rows[row].code, "%d", rows[row].wire);
        if (rows[row].wire) {
            cr_expect_eq(a.settle.error.wire_code, rows[row].wire);
            cr_expect_str_eq(a.settle.error.text, text);
        }
    }
    finish(&s);
}

Test(calls, a_reject_is_a_nack_with_its_reason)
{
    struct setup s = begin();
    struct ask a = {0};
    struct fila_scratch scratch = {0};
    fila_request request;
    ask_settle(s.t, &a, FILA_SETTLE_REJECT, ID, 10000);
    cr_assert(rig_until(s.t, &a.done, 1, 10000));
    fila_view bytes = stub_request(s.stub, FILA_CALL_NACK);
    cr_assert_eq(
        fila_request_read(
            FILA_CALL_NACK, (const uint8_t *)bytes.data, bytes.len, &scratch, &request, NULL),
        FILA_OK);
    cr_expect(!strncmp(request.as.settle.queue.data, "orders", 6));
    cr_expect(!strncmp(request.as.settle.message_id.data, ID, 36));
    cr_expect(!strncmp(request.as.settle.error.data, "because", 7));
    fila_scratch_free(&scratch);
    finish(&s);
}

Test(calls, a_publish_gives_the_id)
{
    struct setup s = begin();
    struct ask a = {0};
    ask_publish(s.t, &a, "orders", fila_view_of("payload"), 10000);
    cr_assert(rig_until(s.t, &a.done, 1, 10000));
    cr_expect_eq(a.publish.error.code, FILA_OK, "%s", a.publish.error.text);
    cr_expect_str_eq(a.publish.id, "stub-id");

    stub_answer(s.stub, FILA_CALL_ENQUEUE, &(struct stub_answer){.status = 5, .text = "orders"});
    ask_publish(s.t, &a, "orders", fila_view_of("payload"), 10000);
    cr_assert(rig_until(s.t, &a.done, 2, 10000));
    cr_expect_eq(a.publish.error.code, FILA_QUEUE_NOT_FOUND);
    cr_expect_str_eq(a.publish.error.text, "orders");
    finish(&s);
}

Test(calls, a_request_over_the_brokers_limit_is_not_sent)
{
    struct setup s = begin();
    struct ask a = {0};
    static char big[4 << 20];
    ask_publish(s.t, &a, "orders", (fila_view){big, sizeof big}, 10000);
    cr_assert_eq(a.done, 0, "never inline");
    cr_assert(rig_until(s.t, &a.done, 1, 10000));
    cr_expect_eq(a.publish.error.code, FILA_TOO_LARGE);
    cr_expect_not(a.publish.error.outcome_unknown);
    cr_expect_str_eq(
        a.publish.error.text, "a request of 4194317 bytes is over the broker's limit of 4194304");
    ask_publish(s.t, &a, "orders", (fila_view){big, sizeof big - 13}, 10000);
    cr_assert(rig_until(s.t, &a.done, 2, 10000));
    cr_expect_eq(a.publish.error.code, FILA_OK, "exactly 4 MiB: %s", a.publish.error.text);
    finish(&s);
}

Test(calls, replies_that_are_none)
{
    struct setup s = begin();
    fila_request request = {.call = FILA_CALL_GET_STATS};
    char long_id[100] = "\n\x60";
    struct ask a = {0}, b = {0}, c = {0}, d = {0};
    request.as.queue.queue = fila_view_of("orders");
    stub_answer(
        s.stub, FILA_CALL_GET_STATS, &(struct stub_answer){.reply = "\xff\xff", .reply_len = 2});
    ask_call(s.t, &a, &request, 10000);
    cr_assert(rig_until(s.t, &a.done, 1, 10000));
    cr_expect_eq(a.unary.error.code, FILA_PROTOCOL, "%s", a.unary.error.text);
    cr_expect_null(a.reply);

    stub_answer(s.stub, FILA_CALL_ACK, &(struct stub_answer){.no_reply = true});
    ask_settle(s.t, &b, FILA_SETTLE_ACK, ID, 10000);
    cr_assert(rig_until(s.t, &b.done, 1, 10000));
    cr_expect_eq(b.settle.error.code, FILA_PROTOCOL, "%s", b.settle.error.text);
    cr_expect_eq(b.settle.result, FILA_SETTLE_UNKNOWN);

    memset(long_id + 2, 'i', 96);
    stub_answer(
        s.stub, FILA_CALL_ENQUEUE, &(struct stub_answer){.reply = long_id, .reply_len = 98});
    ask_publish(s.t, &c, "orders", fila_view_of("x"), 10000);
    cr_assert(rig_until(s.t, &c.done, 1, 10000));
    cr_expect_eq(c.publish.error.code, FILA_PROTOCOL);
    cr_expect_str_eq(c.publish.error.text, "the broker gave an id of 96 bytes");

    stub_answer(
        s.stub, FILA_CALL_GET_STATS,
        &(struct stub_answer){.status = 13, .text = "two\nlines\x7f \xc3\xa9 \xc3"});
    ask_call(s.t, &d, &request, 10000);
    cr_assert(rig_until(s.t, &d.done, 1, 10000));
    cr_expect_eq(d.unary.error.code, FILA_INTERNAL);
    cr_expect_str_eq(d.unary.error.text, "two lines  \xc3\xa9 ?", "one line of UTF-8");
    finish(&s);
}

Test(calls, a_reply_over_the_receive_limit)
{
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_client_options options = rig_options(stub_port(stub));
    options.receive_limit = 64;
    struct fila_transport *t = rig_open(&options);
    fila_request request = {.call = FILA_CALL_GET_CONFIG};
    char big[100] = "\n\x60";
    struct ask a = {0};
    stub_answer(stub, FILA_CALL_GET_CONFIG, &(struct stub_answer){.reply = big, .reply_len = 98});
    request.as.config.key = fila_view_of("k");
    ask_call(t, &a, &request, 10000);
    cr_assert(rig_until(t, &a.done, 1, 10000));
    cr_expect_eq(a.unary.error.code, FILA_TOO_LARGE);
    cr_expect_str_eq(a.unary.error.text, "a reply of 98 bytes is over the receive limit of 64");
    rig_close(t);
    stub_stop(stub);
}

Test(calls, the_api_key_goes_with_every_call)
{
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_client_options options = rig_options(stub_port(stub));
    char key[] = "top-secret";
    options.api_key = key;
    struct fila_transport *t = rig_open(&options);
    memset(key, 'x', sizeof key - 1); /* it was copied */
    struct ask a = {0};
    struct watch *w = calloc(1, sizeof *w);
    for (unsigned i = 0; i < 3; i++) {
        ask_settle(t, &a, FILA_SETTLE_ACK, ID, 10000);
        cr_assert(rig_until(t, &a.done, i + 1, 10000));
        cr_expect_str_eq(stub_key(stub), "Bearer top-secret");
    }
    stub_stream(stub, &(struct stub_stream){.end = true, .status = 16, .text = "no"});
    watch_open(t, w, 1);
    cr_assert(rig_until(t, &w->ended, 1, 10000));
    cr_expect_eq(w->why.code, FILA_UNAUTHENTICATED);
    cr_expect_str_eq(stub_key(stub), "Bearer top-secret");
    rig_close(t);
    watch_free(w);
    stub_stop(stub);
}

/* ---- How many, and in which order ---- */

static void count_done(struct fila_settle *item)
{
    unsigned *done = item->user;
    (*done)++;
}

Test(calls, only_so_many_are_on_the_wire)
{
    enum {
        ALL = 40
    };

    static char ids[ALL][8];
    static struct fila_settle items[ALL];
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_client_options options = rig_options(stub_port(stub));
    options.calls_in_flight = 8;
    struct fila_transport *t = rig_open(&options);
    unsigned done = 0;
    cr_assert_eq(t->caps.in_flight, 8);
    stub_answer(stub, FILA_CALL_ACK, &(struct stub_answer){.hang = true});
    for (int i = 0; i < ALL; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "id-%d", i);
        items[i] = (struct fila_settle){.kind = FILA_SETTLE_ACK, .done = count_done, .user = &done};
        items[i].queue = fila_view_of("orders");
        items[i].receipt = fila_view_of(ids[i]);
        items[i].deadline = fila_now() + (i < 8 ? 400 * FILA_MS : 20 * FILA_S);
        items[i].next = i + 1 < ALL ? &items[i + 1] : NULL;
    }
    t->ops->settle(t, items);
    memset(ids, 'x', sizeof ids); /* all views were read */
    rig_for(t, 200);
    cr_expect_eq(stub_calls(stub, FILA_CALL_ACK), 8);
    stub_answer(stub, FILA_CALL_ACK, &(struct stub_answer){0});
    cr_assert(rig_until(t, &done, ALL, 10000));
    cr_expect_eq(stub_calls(stub, FILA_CALL_ACK), ALL);
    for (int i = 0; i < ALL; i++) {
        cr_expect_eq(items[i].result, i < 8 ? FILA_SETTLE_UNKNOWN : FILA_SETTLE_OK, "%d", i);
    }
    cr_expect_eq(items[0].error.code, FILA_TIMEOUT);
    cr_expect(items[0].error.outcome_unknown);
    rig_close(t);
    stub_stop(stub);
}

static struct ask *order[64];
static unsigned finished;

static void note_settle(struct fila_settle *item)
{
    order[finished++] = item->user;
}

static void note_publish(struct fila_publish *item)
{
    order[finished++] = item->user;
}

Test(calls, acks_go_before_nacks_and_both_before_the_rest_yet_nothing_starves)
{
    enum {
        EACH = 16
    };
    static struct ask first, publishes[EACH], nacks[EACH], acks[EACH];
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_client_options options = rig_options(stub_port(stub));
    options.calls_in_flight = 1;
    struct fila_transport *t = rig_open(&options);
    ask_settle(t, &first, FILA_SETTLE_ACK, ID, 20000); /* takes the one place */
    for (int i = 0; i < EACH; i++) {
        ask_publish(t, &publishes[i], "orders", fila_view_of("x"), 20000);
        publishes[i].publish.done = note_publish;
        ask_settle(t, &nacks[i], FILA_SETTLE_NACK, ID, 20000);
        nacks[i].settle.done = note_settle;
    }
    for (int i = 0; i < EACH; i++) {
        ask_settle(t, &acks[i], FILA_SETTLE_ACK, ID, 20000);
        acks[i].settle.done = note_settle;
    }
    cr_assert(rig_until(t, &finished, 3 * EACH, 20000));
    unsigned at[3] = {0}, others_early = 0;
    for (unsigned i = 0; i < 3 * EACH; i++) {
        struct ask *a = order[i];
        int class = a >= acks && a < acks + EACH ? 0 : a >= nacks && a < nacks + EACH ? 1 : 2;
        struct ask *expected = (class == 0 ? acks : class == 1 ? nacks : publishes) + at[class]++;
        cr_expect_eq(a, expected, "in order of their own");
        others_early += class != 0 && at[0] < EACH;
        cr_expect(i != 7 || class == 2, "the 8th turn is the others'");
    }
    cr_expect_eq(others_early, EACH / 8);
    rig_close(t);
    stub_stop(stub);
}

/* ---- Those that are never answered ---- */

Test(calls, a_deadline_ends_what_is_not_answered)
{
    struct setup s = begin();
    struct ask a = {0}, b = {0}, c = {0};
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    stub_answer(s.stub, FILA_CALL_ACK, &(struct stub_answer){.hang = true});
    stub_answer(s.stub, FILA_CALL_ENQUEUE, &(struct stub_answer){.hang = true});
    stub_answer(s.stub, FILA_CALL_LIST_QUEUES, &(struct stub_answer){.hang = true});
    int64_t since = fila_now();
    ask_settle(s.t, &a, FILA_SETTLE_ACK, ID, 300);
    ask_publish(s.t, &b, "orders", fila_view_of("x"), 400);
    ask_call(s.t, &c, &request, 500);
    cr_assert(rig_until(s.t, &a.done, 1, 5000));
    int64_t took = fila_now() - since;
    cr_expect(took >= 300 * FILA_MS && took < 2 * FILA_S, "%lld", (long long)took);
    cr_expect_eq(a.settle.error.code, FILA_TIMEOUT);
    cr_expect(has(a.settle.error.text, "no answer from 127.0.0.1:"), "%s", a.settle.error.text);
    cr_expect_eq(a.settle.result, FILA_SETTLE_UNKNOWN);
    cr_assert(rig_until(s.t, &b.done, 1, 5000));
    cr_expect_eq(b.publish.error.code, FILA_TIMEOUT);
    cr_expect(b.publish.error.outcome_unknown);
    cr_assert(rig_until(s.t, &c.done, 1, 5000));
    cr_expect_eq(c.unary.error.code, FILA_TIMEOUT);
    cr_expect(c.unary.error.retryable);
    finish(&s);
}

Test(calls, what_waited_past_its_deadline_was_never_sent)
{
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_client_options options = rig_options(stub_port(stub));
    options.calls_in_flight = 1;
    struct fila_transport *t = rig_open(&options);
    struct ask blocker = {0}, nack = {0}, publish = {0}, late = {0};
    stub_answer(stub, FILA_CALL_ACK, &(struct stub_answer){.hang = true});
    ask_settle(t, &blocker, FILA_SETTLE_ACK, ID, 1000);
    ask_settle(t, &nack, FILA_SETTLE_NACK, ID, 200);
    ask_publish(t, &publish, "orders", fila_view_of("x"), 200);
    ask_settle(t, &late, FILA_SETTLE_NACK, ID, -1);
    cr_expect_eq(late.done, 0, "never inline");
    cr_assert(rig_until(t, &late.done, 1, 5000));
    cr_expect_eq(late.settle.result, FILA_SETTLE_RETRY);
    cr_expect_str_eq(late.settle.error.text, "not sent: its deadline had passed");
    cr_assert(rig_until(t, &publish.done, 1, 5000));
    cr_assert(rig_until(t, &nack.done, 1, 5000));
    cr_expect_eq(nack.settle.result, FILA_SETTLE_RETRY);
    cr_expect_eq(nack.settle.error.code, FILA_TIMEOUT);
    cr_expect(
        has(nack.settle.error.text, "1 calls were in flight to 127.0.0.1:"), "%s",
        nack.settle.error.text);
    cr_expect_eq(publish.publish.error.code, FILA_TIMEOUT);
    cr_expect_not(publish.publish.error.outcome_unknown);
    cr_assert(rig_until(t, &blocker.done, 1, 5000));
    cr_expect_eq(stub_calls(stub, FILA_CALL_NACK), 0);
    cr_expect_eq(stub_calls(stub, FILA_CALL_ENQUEUE), 0);
    rig_close(t);
    stub_stop(stub);
}

Test(calls, without_a_connection_nothing_was_sent)
{
    fila_client_options options = rig_options(peer_free_port());
    struct fila_transport *t = rig_open(&options);
    struct ask a = {0}, b = {0};
    ask_settle(t, &a, FILA_SETTLE_ACK, ID, 5000);
    ask_publish(t, &b, "orders", fila_view_of("x"), 5000);
    cr_assert(rig_until(t, &a.done, 1, 5000));
    cr_assert(rig_until(t, &b.done, 1, 5000));
    cr_expect_eq(a.settle.result, FILA_SETTLE_RETRY);
    cr_expect_eq(a.settle.error.code, FILA_BROKER_UNAVAILABLE);
    cr_expect_not(a.settle.error.outcome_unknown);
    cr_expect(has(a.settle.error.text, ": Connection refused"), "%s", a.settle.error.text);
    cr_expect_not(b.publish.error.outcome_unknown);
    rig_close(t);
}

/* ---- The end ---- */

Test(calls, shutdown_ends_everything)
{
    enum {
        ALL = 20
    };
    static struct ask asks[ALL];
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_client_options options = rig_options(stub_port(stub));
    options.calls_in_flight = 4;
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    struct ask after = {0};
    fila_view message = stub_message("id", "orders", 100, 0);
    stub_stream(stub, &(struct stub_stream){.messages = &message, .count = 1, .rounds = 10});
    stub_answer(stub, FILA_CALL_ACK, &(struct stub_answer){.hang = true});
    watch_open(t, w, 20);
    cr_assert(rig_until(t, &w->messages, 10, 5000));
    for (int i = 0; i < ALL; i++) {
        ask_settle(t, &asks[i], FILA_SETTLE_ACK, ID, 20000);
    }
    rig_for(t, 100);
    cr_assert_eq(stub_calls(stub, FILA_CALL_ACK), 4);
    int64_t since = fila_now();
    t->ops->shutdown(t);
    t->ops->shutdown(t);
    ask_settle(t, &after, FILA_SETTLE_ACK, ID, 20000);
    struct fila_stream_params params = {.queue = fila_view_of("orders")};
    struct fila_stream *none = NULL;
    cr_expect_eq(t->ops->open_stream(t, &params, &none, NULL), FILA_CLOSED);
    while (t->ops->run(t, fila_now() + 5 * FILA_S)) {
    }
    cr_expect(fila_now() - since < FILA_S);
    cr_expect_eq(w->ended, 1);
    cr_expect_eq(w->why.code, FILA_CLOSED);
    unsigned unknown = 0;
    for (int i = 0; i < ALL; i++) {
        cr_expect_eq(asks[i].done, 1);
        cr_expect_eq(asks[i].settle.error.code, FILA_CLOSED, "%s", asks[i].settle.error.text);
        unknown += asks[i].settle.result == FILA_SETTLE_UNKNOWN;
        cr_expect(
            asks[i].settle.result == FILA_SETTLE_UNKNOWN ||
            asks[i].settle.result == FILA_SETTLE_RETRY);
    }
    cr_expect_eq(unknown, 4, "those on the wire");
    cr_expect_eq(after.done, 1);
    cr_expect_eq(after.settle.result, FILA_SETTLE_RETRY);
    t->ops->free(t);
    watch_free(w);
    stub_stop(stub);
    stub_message_free(message);
}

Test(calls, freed_without_a_run)
{
    fila_client_options options = rig_options(peer_free_port());
    struct fila_transport *t = rig_open(&options);
    t->ops->free(t);
    t = rig_open(&options);
    t->ops->wake(t);
    t->ops->wake(t);
    t->ops->free(t);
}
