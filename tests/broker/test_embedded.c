/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The in-process transport, by the promises of core/src/transport.h. The rig is the gRPC
 * transport's: both are driven alike.
 */
#include "fila/broker.h"
#include "grpc/rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define UNKNOWN_ID "01890a5d-ac96-774b-bcce-b302099a8057"
#define LONG       20000 /* ms: longer than any test waits when all is well */

struct fixture {
    fila_broker *broker;
    struct fila_transport *t;
};

static struct fila_transport *connect_to(fila_broker *broker)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    struct fila_transport *t = NULL;
    fila_error error;
    options.url = "embedded:";
    options.broker = broker;
    cr_assert(eq(int, fila_embedded_transport.open(&options, &t, &error), FILA_OK));
    return t;
}

static void create(struct fila_transport *t, const char *queue)
{
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    struct ask ask = {0};
    request.as.create_queue.name = fila_view_of(queue);
    ask_call(t, &ask, &request, LONG);
    cr_assert(rig_until(t, &ask.done, 1, LONG));
    cr_assert(eq(int, ask.unary.error.code, FILA_OK), "%s", ask.unary.error.text);
    fila_reply_free(ask.reply);
}

/* A broker with the queue "orders", and a transport to it. */
static struct fixture set_up(void)
{
    struct fixture f = {NULL, NULL};
    fila_error error;
    cr_assert(eq(int, fila_broker_open(NULL, &f.broker, &error), FILA_OK));
    f.t = connect_to(f.broker);
    create(f.t, "orders");
    return f;
}

static void tear_down(struct fixture *f)
{
    rig_close(f->t);
    fila_broker_free(f->broker);
}

static void publish(struct fila_transport *t, const char *payload)
{
    struct ask ask = {0};
    ask_publish(t, &ask, "orders", fila_view_of(payload), LONG);
    cr_assert(rig_until(t, &ask.done, 1, LONG));
    cr_assert(eq(int, ask.publish.error.code, FILA_OK), "%s", ask.publish.error.text);
    cr_assert(eq(sz, strlen(ask.publish.id), 36));
}

static void add_fault(struct fixture *f, fila_fault fault)
{
    fila_error error;
    fault.size = sizeof fault;
    fault.nth = 1;
    fault.count = 1;
    cr_assert(eq(int, fila_broker_add_fault(f->broker, &fault, &error), FILA_OK));
}

static struct watch *watch_new(void)
{
    struct watch *w = calloc(1, sizeof *w);
    cr_assert(ne(ptr, w, NULL));
    return w;
}

/* ---- Opening ---- */

Test(embedded, needs_a_broker)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    struct fila_transport *t = NULL;
    fila_error error;
    options.url = "embedded:";
    cr_expect(eq(int, fila_embedded_transport.open(&options, &t, &error), FILA_INVALID_ARGUMENT));
    cr_expect(eq(
        str, error.text, "the URL \"embedded:\" needs a broker of this program in options.broker"));
}

Test(embedded, says_what_it_can)
{
    struct fixture f = set_up();
    cr_expect(eq(int, f.t->caps.pipe_slots, 130));
    cr_expect(eq(int, f.t->caps.pipe_bytes, 0));
    cr_expect(eq(int, f.t->caps.settle_batch, 1));
    cr_expect(eq(int, f.t->caps.in_flight, 64));
    cr_expect(eq(int, f.t->caps.max_message, 4194304));
    cr_expect(not(f.t->caps.credit_exact || f.t->caps.can_extend || f.t->caps.can_delay_nack));
    tear_down(&f);
}

Test(embedded, may_be_freed_without_a_run)
{
    struct fixture f = set_up();
    struct fila_transport *t = connect_to(f.broker);
    struct watch *w = watch_new();
    watch_open(t, w, 1);
    t->ops->free(t);
    cr_expect(eq(int, w->ended, 1));
    watch_free(w);
    tear_down(&f);
}

/* ---- Streams ---- */

Test(embedded, reads_what_was_granted_and_no_more)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    for (int i = 0; i < 5; i++) {
        publish(f.t, "hello");
    }
    watch_open(f.t, w, 0);
    cr_expect(eq(int, w->opened, 0), "nothing inline");
    cr_assert(rig_until(f.t, &w->opened, 1, LONG));
    rig_for(f.t, 50);
    cr_expect(eq(int, w->messages, 0));
    f.t->ops->grant(w->stream, 2);
    cr_expect(eq(int, w->messages, 0), "nothing inline");
    cr_assert(rig_until(f.t, &w->messages, 2, LONG));
    rig_for(f.t, 50);
    cr_expect(eq(int, w->messages, 2));
    f.t->ops->grant(w->stream, UINT32_MAX);
    f.t->ops->grant(w->stream, UINT32_MAX);
    cr_assert(rig_until(f.t, &w->messages, 5, LONG));
    cr_expect(eq(int, w->opened, 1));
    tear_down(&f);
    cr_expect(eq(int, w->ended, 1));
    cr_expect(eq(int, w->why.code, FILA_CLOSED));
    watch_free(w);
}

static void note_done(struct fila_publish *item)
{
    unsigned *done = item->user;
    ++*done;
}

Test(embedded, a_message_says_all_and_outlives_the_broker)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    unsigned done = 0;
    fila_header headers[] = {{fila_view_of("a"), fila_view_of("1")}};
    struct fila_publish item = {
        .queue = fila_view_of("orders"),
        .headers = headers,
        .header_count = 1,
        .payload = {"pay\0load", 8},
        .deadline = fila_now() + LONG * FILA_MS,
        .done = note_done,
        .user = &done,
    };
    fila_view value;
    fila_message *message;
    watch_open(f.t, w, 10);
    f.t->ops->publish(f.t, &item);
    cr_assert(rig_until(f.t, &w->messages, 1, LONG));
    cr_assert(eq(int, done, 1));
    tear_down(&f);
    message = w->kept[0];
    cr_expect(eq(int, memcmp(fila_message_id(message).data, item.id, 36), 0));
    cr_expect(eq(int, memcmp(fila_message_queue(message).data, "orders", 6), 0));
    cr_expect(eq(sz, fila_message_payload(message).len, 8));
    cr_expect(eq(int, memcmp(fila_message_payload(message).data, "pay\0load", 8), 0));
    cr_expect(eq(int, memcmp(fila_message_fairness_key(message).data, "default", 7), 0));
    cr_expect(eq(int, fila_message_weight(message), 1));
    cr_expect(eq(int, fila_message_attempt_count(message), 0));
    cr_expect(gt(i64, fila_message_enqueued_ms(message), 1600000000000));
    cr_assert(fila_message_header(message, fila_view_of("a"), &value));
    cr_expect(eq(chr, value.data[0], '1'));
    watch_free(w);
}

/* Waits, then publishes. On a busy machine the message may then wait for us, which the transport
 * rightly says: try again. */
static bool read_promptly(struct fixture *f, struct fila_transport *producer, struct watch *w)
{
    unsigned before = w->messages;
    int64_t waiting = fila_now();
    int64_t published;
    const struct fila_read *read = &w->reads[before];
    rig_for(f->t, 60);
    published = fila_now();
    publish(producer, "x");
    cr_assert(rig_until(f->t, &w->messages, before + 1, LONG));
    cr_expect(ge(i64, read->read_at, published));
    cr_expect(ge(i64, read->lease_end, published + 30 * FILA_S));
    cr_expect(le(i64, read->lease_end, read->read_at + 30 * FILA_S));
    cr_expect(gt(int, read->wire_size, 36 + 5));
    if (read->read_at - published >= 10 * FILA_MS) {
        return false;
    }
    cr_expect(le(i64, read->waiting_since, waiting));
    return true;
}

Test(embedded, times_of_a_message_that_was_waited_for)
{
    struct fixture f = set_up();
    struct fila_transport *producer = connect_to(f.broker);
    struct watch *w = watch_new();
    int tries = 0;
    watch_open(f.t, w, UINT32_MAX);
    rig_for(f.t, 1);
    while (!read_promptly(&f, producer, w)) {
        cr_assert(lt(int, tries++, 100));
    }
    rig_close(producer);
    tear_down(&f);
    watch_free(w);
}

Test(embedded, times_of_a_message_that_had_to_wait_for_us)
{
    struct fixture f = set_up();
    struct fila_transport *producer = connect_to(f.broker);
    struct watch *w = watch_new();
    watch_open(f.t, w, 10);
    rig_for(f.t, 20);
    publish(producer, "x");
    rig_for(producer, 40); /* nobody looks */
    cr_assert(rig_until(f.t, &w->messages, 1, LONG));
    cr_expect(eq(i64, w->reads[0].waiting_since, w->reads[0].read_at));
    rig_close(producer);
    tear_down(&f);
    watch_free(w);
}

Test(embedded, times_of_a_backlog)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    publish(f.t, "a");
    publish(f.t, "b");
    watch_open(f.t, w, 1);
    cr_assert(rig_until(f.t, &w->messages, 1, LONG));
    rig_for(f.t, 50);
    f.t->ops->grant(w->stream, 1);
    cr_assert(rig_until(f.t, &w->messages, 2, LONG));
    cr_expect(ge(i64, w->reads[1].waiting_since, w->reads[0].read_at + 40 * FILA_MS));
    cr_expect(le(i64, w->reads[1].waiting_since, w->reads[1].read_at));
    cr_expect(
        lt(i64, w->reads[1].lease_end - 30 * FILA_S, w->reads[1].read_at - 40 * FILA_MS),
        "its lease began before");
    tear_down(&f);
    watch_free(w);
}

Test(embedded, a_stopped_stream_ends_once)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    watch_open(f.t, w, 1);
    publish(f.t, "a");
    publish(f.t, "b");
    cr_assert(rig_until(f.t, &w->messages, 1, LONG));
    f.t->ops->stop_stream(w->stream);
    f.t->ops->cancel_stream(w->stream);
    f.t->ops->grant(w->stream, 5);
    cr_expect(eq(int, w->ended, 0), "nothing inline");
    cr_assert(rig_until(f.t, &w->ended, 1, LONG));
    cr_expect(eq(int, w->why.code, FILA_CANCELLED));
    cr_expect(eq(int, w->messages, 1), "the other is left to its lease");
    rig_for(f.t, 20);
    cr_expect(eq(int, w->ended, 1));
    tear_down(&f);
    watch_free(w);
}

/* Stops its stream in its first message. */
struct stopper {
    struct fila_transport *t;
    struct fila_stream *stream;
    unsigned messages;
    unsigned ended;
};

static void stop_at_once(void *user, fila_message *message, const struct fila_read *read)
{
    struct stopper *stopper = user;
    (void)read;
    stopper->messages++;
    fila_message_free(message);
    stopper->t->ops->cancel_stream(stopper->stream);
}

static void ignore_opened(void *user, int64_t now)
{
    (void)user;
    (void)now;
}

static void count_end(void *user, const fila_error *why)
{
    struct stopper *stopper = user;
    stopper->ended += why->code == FILA_CANCELLED;
}

Test(embedded, a_stream_may_be_cancelled_by_its_own_message)
{
    static const struct fila_stream_events events = {ignore_opened, stop_at_once, count_end};
    struct fixture f = set_up();
    struct stopper stopper = {.t = f.t};
    struct fila_stream_params params = {
        .queue = fila_view_of("orders"), .events = &events, .user = &stopper};
    fila_error error;
    for (int i = 0; i < 10; i++) {
        publish(f.t, "x");
    }
    cr_assert(eq(int, f.t->ops->open_stream(f.t, &params, &stopper.stream, &error), FILA_OK));
    f.t->ops->grant(stopper.stream, 10);
    cr_assert(rig_until(f.t, &stopper.ended, 1, LONG));
    cr_expect(eq(int, stopper.messages, 1));
    tear_down(&f);
}

Test(embedded, a_refused_consume_ends_the_stream)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    add_fault(
        &f, (fila_fault){.kind = FILA_FAULT_ERROR, .call = FILA_CALL_CONSUME, .wire_code = 7});
    watch_open(f.t, w, 1);
    cr_assert(rig_until(f.t, &w->ended, 1, LONG));
    cr_expect(eq(int, w->opened, 0));
    cr_expect(eq(int, w->why.code, FILA_DENIED));
    cr_expect(eq(int, w->why.wire_code, 7));
    tear_down(&f);
    watch_free(w);
}

Test(embedded, a_cut_is_told_also_without_credits)
{
    static const struct {
        int wire_code;
        fila_status status;
    } rows[] = {{0, FILA_OK}, {14, FILA_BROKER_UNAVAILABLE}};

    for (size_t i = 0; i < 2; i++) {
        struct fixture f = set_up();
        struct watch *w = watch_new();
        add_fault(
            &f, (fila_fault){
                    .kind = FILA_FAULT_CUT,
                    .call = FILA_CALL_CONSUME,
                    .wire_code = rows[i].wire_code,
                    .after_messages = 2});
        publish(f.t, "a");
        publish(f.t, "b");
        publish(f.t, "c");
        watch_open(f.t, w, 2);
        cr_assert(rig_until(f.t, &w->ended, 1, LONG));
        cr_expect(eq(int, w->messages, 2));
        cr_expect(eq(int, w->why.code, rows[i].status));
        tear_down(&f);
        watch_free(w);
    }
}

Test(embedded, a_closed_broker_ends_its_streams)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    publish(f.t, "a");
    watch_open(f.t, w, 0);
    cr_assert(rig_until(f.t, &w->opened, 1, LONG));
    fila_broker_close(f.broker);
    cr_assert(rig_until(f.t, &w->ended, 1, LONG));
    cr_expect(eq(int, w->why.code, FILA_BROKER_UNAVAILABLE));
    cr_expect(eq(str, w->why.text, "the broker was closed"));
    tear_down(&f);
    watch_free(w);
}

Test(embedded, a_queue_name_that_is_not_utf8)
{
    struct fixture f = set_up();
    struct ask ask = {0};
    ask_publish(f.t, &ask, "\xff", fila_view_of(""), LONG);
    cr_assert(rig_until(f.t, &ask.done, 1, LONG));
    cr_expect(eq(int, ask.publish.error.wire_code, 13));
    tear_down(&f);
}

/* ---- Settling ---- */

static const char *first_id(struct watch *w, char id[64])
{
    fila_view view = fila_message_id(w->kept[0]);
    memcpy(id, view.data, view.len);
    id[view.len] = '\0';
    return id;
}

Test(embedded, acks_and_nacks)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    struct ask asks[4] = {0};
    char id[64];
    watch_open(f.t, w, 10);
    publish(f.t, "a");
    cr_assert(rig_until(f.t, &w->messages, 1, LONG));
    first_id(w, id);
    ask_settle(f.t, &asks[0], FILA_SETTLE_NACK, id, LONG);
    cr_expect(eq(int, asks[0].done, 0), "nothing inline");
    cr_assert(rig_until(f.t, &asks[0].done, 1, LONG));
    cr_expect(eq(int, asks[0].settle.result, FILA_SETTLE_OK));
    cr_assert(rig_until(f.t, &w->messages, 2, LONG));
    cr_expect(eq(int, fila_message_attempt_count(w->kept[1]), 1));
    ask_settle(f.t, &asks[1], FILA_SETTLE_REJECT, id, LONG);
    cr_assert(rig_until(f.t, &w->messages, 3, LONG));
    ask_settle(f.t, &asks[2], FILA_SETTLE_ACK, id, LONG);
    ask_settle(f.t, &asks[3], FILA_SETTLE_ACK, id, LONG);
    cr_assert(rig_until(f.t, &asks[3].done, 1, LONG));
    cr_expect(eq(int, asks[2].settle.result, FILA_SETTLE_OK));
    cr_expect(eq(int, asks[3].settle.result, FILA_SETTLE_GONE));
    cr_expect(eq(int, asks[3].settle.error.code, FILA_MESSAGE_NOT_FOUND));
    tear_down(&f);
    watch_free(w);
}

Test(embedded, what_a_settlement_can_end_with)
{
    static const struct {
        const char *id;
        fila_fault_kind fault;
        int wire_code;
        int deadline_ms;
        enum fila_settle_result result;
        fila_status status;
    } rows[] = {
        {UNKNOWN_ID, 0, 0, LONG, FILA_SETTLE_GONE, FILA_MESSAGE_NOT_FOUND},
        {"no uuid", 0, 0, LONG, FILA_SETTLE_DENIED, FILA_INVALID_ARGUMENT},
        {UNKNOWN_ID, FILA_FAULT_ERROR, 7, LONG, FILA_SETTLE_DENIED, FILA_DENIED},
        {UNKNOWN_ID, FILA_FAULT_ERROR, 16, LONG, FILA_SETTLE_DENIED, FILA_UNAUTHENTICATED},
        {UNKNOWN_ID, FILA_FAULT_ERROR, 8, LONG, FILA_SETTLE_RETRY, FILA_OVERLOADED},
        {UNKNOWN_ID, FILA_FAULT_ERROR, 14, LONG, FILA_SETTLE_UNKNOWN, FILA_BROKER_UNAVAILABLE},
        {UNKNOWN_ID, FILA_FAULT_ERROR, 13, LONG, FILA_SETTLE_UNKNOWN, FILA_INTERNAL},
        {UNKNOWN_ID, FILA_FAULT_ERROR, 1, LONG, FILA_SETTLE_UNKNOWN, FILA_TIMEOUT},
        {UNKNOWN_ID, FILA_FAULT_HANG, 0, 60, FILA_SETTLE_UNKNOWN, FILA_TIMEOUT},
        {UNKNOWN_ID, FILA_FAULT_DELAY, 0, 60, FILA_SETTLE_UNKNOWN, FILA_TIMEOUT},
        {UNKNOWN_ID, 0, 0, -1, FILA_SETTLE_RETRY, FILA_TIMEOUT},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f = set_up();
        struct ask ask = {0};
        int64_t began = fila_now();
        if (rows[i].fault) {
            add_fault(
                &f, (fila_fault){
                        .kind = rows[i].fault,
                        .call = FILA_CALL_ACK,
                        .wire_code = rows[i].wire_code,
                        .delay_ms = 150});
        }
        ask_settle(f.t, &ask, FILA_SETTLE_ACK, rows[i].id, rows[i].deadline_ms);
        cr_assert(rig_until(f.t, &ask.done, 1, LONG), "row %zu", i);
        cr_expect(eq(int, ask.settle.result, rows[i].result), "row %zu", i);
        cr_expect(eq(int, ask.settle.error.code, rows[i].status), "row %zu", i);
        if (rows[i].deadline_ms == 60) {
            cr_expect(ge(i64, fila_now() - began, 60 * FILA_MS), "row %zu", i);
            rig_for(f.t, 150); /* the late answer is dropped */
        }
        cr_expect(eq(int, ask.done, 1), "row %zu", i);
        tear_down(&f);
    }
}

/* ---- Other calls ---- */

Test(embedded, replies_are_whole)
{
    struct fixture f = set_up();
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    struct ask ask = {0};
    ask_call(f.t, &ask, &request, LONG);
    cr_expect(eq(int, ask.done, 0), "nothing inline");
    cr_assert(rig_until(f.t, &ask.done, 1, LONG));
    cr_assert(ne(ptr, ask.reply, NULL));
    cr_assert(eq(sz, ask.reply->as.list_queues.count, 2));
    cr_expect(eq(int, memcmp(ask.reply->as.list_queues.queues[1].name.data, "orders.dlq", 10), 0));
    fila_reply_free(ask.reply);
    tear_down(&f);
}

Test(embedded, publish_errors)
{
    char *large = calloc(1, 4194305);
    struct fixture f = set_up();
    struct ask asks[3] = {0};
    ask_publish(f.t, &asks[0], "none", fila_view_of(""), LONG);
    ask_publish(f.t, &asks[1], "orders", (fila_view){large, 4194305}, LONG);
    ask_publish(f.t, &asks[2], "orders", (fila_view){large, 4194304 - 8 - 5}, LONG);
    cr_assert(rig_until(f.t, &asks[2].done, 1, LONG));
    cr_expect(eq(int, asks[0].publish.error.code, FILA_QUEUE_NOT_FOUND));
    cr_expect(eq(str, asks[0].publish.error.text, "none"));
    cr_expect(eq(int, asks[1].publish.error.code, FILA_TOO_LARGE));
    cr_expect(eq(int, asks[2].publish.error.code, FILA_OK), "exactly 4 MiB is accepted");
    tear_down(&f);
    free(large);
}

Test(embedded, a_delayed_answer_arrives)
{
    struct fixture f = set_up();
    struct ask ask = {0};
    add_fault(
        &f, (fila_fault){.kind = FILA_FAULT_DELAY, .call = FILA_CALL_ENQUEUE, .delay_ms = 80});
    ask_publish(f.t, &ask, "orders", fila_view_of("x"), LONG);
    rig_for(f.t, 20);
    cr_expect(eq(int, ask.done, 0));
    cr_assert(rig_until(f.t, &ask.done, 1, LONG));
    cr_expect(eq(int, ask.publish.error.code, FILA_OK));
    cr_expect(eq(sz, strlen(ask.publish.id), 36));
    tear_down(&f);
}

/* ---- Running ---- */

Test(embedded, a_run_ends_at_its_time)
{
    struct fixture f = set_up();
    int64_t began = fila_now();
    cr_expect(f.t->ops->run(f.t, began + 50 * FILA_MS));
    cr_expect(ge(i64, fila_now() - began, 50 * FILA_MS));
    tear_down(&f);
}

static void *wake_soon(void *arg)
{
    struct timespec soon = {0, 30000000};
    (void)nanosleep(&soon, NULL);
    fila_transport_wake(arg);
    return NULL;
}

Test(embedded, a_run_ends_when_woken)
{
    struct fixture f = set_up();
    pthread_t thread;
    int64_t began = fila_now();
    cr_assert(eq(int, pthread_create(&thread, NULL, wake_soon, f.t), 0));
    cr_expect(f.t->ops->run(f.t, began + 60 * FILA_S));
    cr_expect(lt(i64, fila_now() - began, 30 * FILA_S));
    pthread_join(thread, NULL);
    fila_transport_wake(f.t); /* the next run is spared its wait, too */
    began = fila_now();
    cr_expect(f.t->ops->run(f.t, began + 60 * FILA_S));
    cr_expect(lt(i64, fila_now() - began, 30 * FILA_S));
    tear_down(&f);
}

Test(embedded, shutdown_ends_everything_once)
{
    struct fixture f = set_up();
    struct watch *w = watch_new();
    struct ask hung = {0};
    struct ask late = {0};
    watch_open(f.t, w, 5);
    add_fault(&f, (fila_fault){.kind = FILA_FAULT_HANG, .call = FILA_CALL_ENQUEUE});
    ask_publish(f.t, &hung, "orders", fila_view_of("x"), LONG);
    cr_assert(rig_until(f.t, &w->opened, 1, LONG));
    f.t->ops->shutdown(f.t);
    f.t->ops->shutdown(f.t);
    ask_publish(f.t, &late, "orders", fila_view_of("x"), LONG);
    cr_expect(eq(int, hung.done + late.done + w->ended, 0), "nothing inline");
    while (f.t->ops->run(f.t, FILA_NEVER)) {
    }
    cr_expect(eq(int, hung.done, 1));
    cr_expect(eq(int, hung.publish.error.code, FILA_CLOSED));
    cr_expect(hung.publish.error.outcome_unknown);
    cr_expect(eq(int, late.done, 1));
    cr_expect(eq(int, late.publish.error.code, FILA_CLOSED));
    cr_expect(not(late.publish.error.outcome_unknown));
    cr_expect(eq(int, w->ended, 1));
    cr_expect(eq(int, w->why.code, FILA_CLOSED));
    f.t->ops->free(f.t);
    fila_broker_free(f.broker); /* which answers what hung */
    watch_free(w);
}

Test(embedded, transports_share_a_broker)
{
    struct fixture f = set_up();
    struct fila_transport *other = connect_to(f.broker);
    struct watch *w = watch_new();
    struct ask ask = {0};
    char id[64];
    watch_open(f.t, w, 1);
    publish(other, "from the other");
    cr_assert(rig_until(f.t, &w->messages, 1, LONG));
    ask_settle(other, &ask, FILA_SETTLE_ACK, first_id(w, id), LONG);
    cr_assert(rig_until(other, &ask.done, 1, LONG));
    cr_expect(eq(int, ask.settle.result, FILA_SETTLE_OK), "anyone may ack");
    rig_close(other);
    tear_down(&f);
    watch_free(w);
}
