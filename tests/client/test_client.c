/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila_client over a transport that does only what it is told: calls.
 */
#include "base/clock.h"
#include "client/fake_transport.h"
#include "client/seen.h"
#include "src/client_impl.h"

#include <criterion/criterion.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define V(text) ((fila_view){(text), sizeof(text) - 1})

TestSuite(client, .timeout = 20);

static struct fake *fake;
static fila_client *client;
static struct seen seen;

static void setup_with(bool automatic)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fake = fake_new(automatic);
    seen_init(&seen);
    cr_assert_eq(fc_open_over(fake_transport(fake), &options, &client, NULL), FILA_OK);
}

static void setup(void)
{
    setup_with(false);
}

static void teardown(void)
{
    fila_client_free(client);
    seen_clear(&seen);
    cr_expect_eq(fake_transports_alive(), 0);
    cr_expect_eq(fake_messages_alive(), 0);
}

static bool is(fila_view view, const char *text)
{
    return view.len == strlen(text) && (!view.len || !memcmp(view.data, text, view.len));
}

static fila_request enqueue_of(const char *queue, const char *payload)
{
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    request.as.enqueue.queue = fila_view_of(queue);
    request.as.enqueue.payload = fila_view_of(payload);
    return request;
}

static void start(const fila_request *request)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(
        fila_call_start(client, request, seen_reply, &seen, &error), FILA_OK, "%s", error.text);
}

Test(client, answer_comes_once_on_the_clients_thread, .init = setup, .fini = teardown)
{
    fila_request request = enqueue_of("q", "p");
    fila_reply reply = {.call = FILA_CALL_ENQUEUE, .as.enqueue = {V("id-1")}};
    start(&request);
    fake_wait_call(fake, 0);
    cr_expect_eq(seen.replies + seen.errors, 0, "not before the answer");
    fake_answer(fake, 0, &reply);
    seen_wait_calls(&seen, 1);
    cr_expect_eq(seen.replies, 1);
    cr_expect(is(seen.reply->as.enqueue.message_id, "id-1"));
    cr_expect(!pthread_equal(seen.thread, pthread_self()));
    cr_expect(pthread_equal(seen.thread, client->thread));
}

Test(client, request_is_copied_before_start_returns, .init = setup, .fini = teardown)
{
    char queue[] = "orders";
    char key[] = "k";
    char value[] = "v";
    char payload[] = "pay";
    fila_header header = {{key, 1}, {value, 1}};
    fila_request request = enqueue_of(queue, payload);
    request.as.enqueue.headers = &header;
    request.as.enqueue.header_count = 1;
    start(&request);
    memset(queue, 'x', 6);
    memset(payload, 'x', 3);
    key[0] = value[0] = 'x';
    header.key.len = 0;
    const fila_request *got = fake_wait_call(fake, 0);
    cr_expect(is(got->as.enqueue.queue, "orders"));
    cr_expect(is(got->as.enqueue.payload, "pay"));
    cr_assert_eq(got->as.enqueue.header_count, 1);
    cr_expect(is(got->as.enqueue.headers[0].key, "k"));
    cr_expect(is(got->as.enqueue.headers[0].value, "v"));
}

Test(client, error_comes_as_the_transport_gave_it, .init = setup, .fini = teardown)
{
    fila_request request = enqueue_of("q", "p");
    start(&request);
    fake_fail(fake, 0, FILA_QUEUE_NOT_FOUND, "q");
    seen_wait_calls(&seen, 1);
    cr_expect_eq(seen.errors, 1);
    cr_expect_eq(seen.replies, 0);
    cr_expect_eq(seen.error.code, FILA_QUEUE_NOT_FOUND);
    cr_expect_str_eq(seen.error.text, "q");
}

Test(client, calls_of_one_thread_keep_their_order, .init = setup, .fini = teardown)
{
    char payload[8];
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(payload, sizeof payload, "%u", i);
        fila_request request = enqueue_of("q", payload);
        start(&request);
    }
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(payload, sizeof payload, "%u", i);
        cr_assert(is(fake_wait_call(fake, i)->as.enqueue.payload, payload));
    }
}

Test(client, deadline_is_the_requests_or_the_clients, .init = setup, .fini = teardown)
{
    fila_request request = enqueue_of("q", "p");
    int64_t before = fila_now();
    start(&request);
    request.timeout_ms = 70;
    start(&request);
    int64_t after = fila_now();
    int64_t first = fake_call_deadline(fake, 0);
    int64_t second = fake_call_deadline(fake, 1);
    cr_expect(first >= before + 5 * FILA_S && first <= after + 5 * FILA_S);
    cr_expect(second >= before + 70 * FILA_MS && second <= after + 70 * FILA_MS);
}

/* ---- What is refused at once ---- */

static char *long_text(size_t len)
{
    return memset(malloc(len), 'n', len);
}

struct refusal {
    fila_request request;
    const char *text;
};

Test(client, refused_before_anything_is_sent, .init = setup, .fini = teardown)
{
    char *text = long_text(65536);
    const fila_view fits = {text, 65535};
    const fila_view name = {text, 65536};
    const fila_view dlq = {text, 65532};
    const fila_view bad = V("\xff");
    const fila_header bad_key = {bad, {0}};
    const fila_header bad_value = {{0}, bad};
    const fila_acl_permission permission = {bad, {0}};
    const struct refusal rows[] = {
        {{FILA_CALL_ENQUEUE, 0, {.enqueue = {name, NULL, 0, {0}}}},
         "a queue name of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_ENQUEUE, 0, {.enqueue = {bad, NULL, 0, {0}}}},
         "a queue name of 1 bytes is not UTF-8"},
        {{FILA_CALL_ENQUEUE, 0, {.enqueue = {V("q"), &bad_key, 1, {0}}}},
         "a header's key of 1 bytes is not UTF-8"},
        {{FILA_CALL_ENQUEUE, 0, {.enqueue = {V("q"), &bad_value, 1, {0}}}},
         "a header's value of 1 bytes is not UTF-8"},
        {{FILA_CALL_ACK, 0, {.settle = {name, V("i"), {0}}}},
         "a queue name of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_ACK, 0, {.settle = {V("q"), name, {0}}}},
         "a message id of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_NACK, 0, {.settle = {V("q"), V("i"), bad}}},
         "a nack's error of 1 bytes is not UTF-8"},
        {{FILA_CALL_CREATE_QUEUE, 0, {.create_queue = {dlq, {0}, {0}, 0}}},
         "a queue name of 65532 bytes, at most 65531 are possible"},
        {{FILA_CALL_CREATE_QUEUE, 0, {.create_queue = {V("q"), bad, {0}, 0}}},
         "an on_enqueue script of 1 bytes is not UTF-8"},
        {{FILA_CALL_CREATE_QUEUE, 0, {.create_queue = {V("q"), {0}, bad, 0}}},
         "an on_failure script of 1 bytes is not UTF-8"},
        {{FILA_CALL_DELETE_QUEUE, 0, {.queue = {name}}},
         "a queue name of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_GET_STATS, 0, {.queue = {name}}},
         "a queue name of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_SET_CONFIG, 0, {.config = {name, V("v")}}},
         "a config key of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_SET_CONFIG, 0, {.config = {V("k"), bad}}},
         "a config value of 1 bytes is not UTF-8"},
        {{FILA_CALL_GET_CONFIG, 0, {.config = {name, {0}}}},
         "a config key of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_LIST_CONFIG, 0, {.config = {bad, {0}}}},
         "a config key of 1 bytes is not UTF-8"},
        {{FILA_CALL_REDRIVE, 0, {.redrive = {name, 0}}},
         "a queue name of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_CREATE_API_KEY, 0, {.create_api_key = {name, 0, false}}},
         "a key's name of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_REVOKE_API_KEY, 0, {.api_key = {name, NULL, 0}}},
         "a key id of 65536 bytes, at most 65535 are possible"},
        {{FILA_CALL_SET_ACL, 0, {.api_key = {V("i"), &permission, 1}}},
         "a permission's kind of 1 bytes is not UTF-8"},
        {{FILA_CALL_CONSUME, 0, {.queue = {V("q")}}},
         "Consume is a stream: open it with fila_consumer_open"},
        {{FILA_CALL_COUNT, 0, {.queue = {V("q")}}}, "there is no call 17"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fila_error error = FILA_ERROR_INIT;
        fila_status status = fila_call_start(client, &rows[i].request, seen_reply, &seen, &error);
        cr_expect_eq(status, FILA_INVALID_ARGUMENT, "row %zu: %s", i, rows[i].text);
        cr_expect_str_eq(error.text, rows[i].text, "row %zu", i);
        cr_expect(!error.retryable && !error.outcome_unknown);
    }
    fila_request good = {.call = FILA_CALL_ENQUEUE, .as.enqueue = {fits, NULL, 0, {0}}};
    start(&good);
    cr_expect_eq(fake_wait_call(fake, 0)->as.enqueue.queue.len, 65535, "the first that was sent");
    cr_expect_eq(seen.errors + seen.replies, 0);
    free(text);
}

Test(client, requests_over_4_mib_are_refused_to_the_byte, .init = setup, .fini = teardown)
{
    char *payload = long_text(4u << 20);
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {
        .call = FILA_CALL_ENQUEUE, .as.enqueue = {V("q"), NULL, 0, {payload, 0}}};
    request.as.enqueue.payload.len = (4u << 20) - 3 - 5; /* tag, length and q; tag and length */
    start(&request);
    cr_expect_eq(fake_wait_call(fake, 0)->as.enqueue.payload.len, (4u << 20) - 8);
    request.as.enqueue.payload.len++;
    fila_status status = fila_call_start(client, &request, seen_reply, &seen, &error);
    cr_expect_eq(status, FILA_TOO_LARGE);
    cr_expect_str_eq(error.text, "a request of 4194305 bytes, the broker takes at most 4194304");
    free(payload);
}

/* ---- Waiting forms ---- */

struct waiter {
    pthread_t thread;
    fila_request request;
    fila_status status;
    fila_reply *reply;
    fila_error error;
    bool no_reply;
};

static void *wait_main(void *user)
{
    struct waiter *w = user;
    w->status = fila_call_wait(client, &w->request, w->no_reply ? NULL : &w->reply, &w->error);
    return NULL;
}

Test(client, waiting_call_copies_the_answer, .init = setup, .fini = teardown)
{
    struct waiter w = {.request = {.call = FILA_CALL_LIST_QUEUES}};
    fila_queue_info queues[] = {{V("a"), 1, 2, 3, 0}, {V("b"), 0, 0, 0, 0}};
    fila_reply reply = {.call = FILA_CALL_LIST_QUEUES, .as.list_queues = {queues, 2, 0}};
    cr_assert(pthread_create(&w.thread, NULL, wait_main, &w) == 0);
    fake_answer(fake, 0, &reply);
    (void)pthread_join(w.thread, NULL);
    cr_assert_eq(w.status, FILA_OK);
    cr_assert_eq(w.reply->as.list_queues.count, 2);
    cr_expect(is(w.reply->as.list_queues.queues[0].name, "a"));
    cr_expect_eq(w.reply->as.list_queues.queues[0].in_flight, 2);
    fila_reply_free(w.reply);
}

Test(client, waiting_call_gives_the_error_and_writes_nothing_else, .init = setup, .fini = teardown)
{
    fila_reply untouched;
    struct waiter w = {.request = {.call = FILA_CALL_LIST_QUEUES}, .reply = &untouched};
    cr_assert(pthread_create(&w.thread, NULL, wait_main, &w) == 0);
    fake_fail(fake, 0, FILA_DENIED, "admin:* is missing");
    (void)pthread_join(w.thread, NULL);
    cr_expect_eq(w.status, FILA_DENIED);
    cr_expect_str_eq(w.error.text, "admin:* is missing");
    cr_expect_eq(w.reply, &untouched);
}

static void auto_setup(void)
{
    setup_with(true);
}

Test(client, short_forms, .init = auto_setup, .fini = teardown)
{
    char id[FILA_ID_SIZE] = "before";
    fila_error error = FILA_ERROR_INIT;
    fila_header header = {V("k"), V("v")};
    cr_expect_eq(fila_enqueue(client, V("q"), &header, 1, V("the-id"), id, &error), FILA_OK);
    cr_expect_str_eq(id, "the-id");
    cr_expect_eq(fila_enqueue(client, V("q"), NULL, 0, V("x"), NULL, &error), FILA_OK);
    cr_expect_eq(fila_ack(client, V("q"), V("i"), &error), FILA_OK);
    cr_expect_eq(fila_nack(client, V("q"), V("i"), V("why"), &error), FILA_OK);
    cr_expect(is(fake_wait_call(fake, 0)->as.enqueue.headers[0].value, "v"));
    cr_expect_eq(fake_wait_call(fake, 2)->call, FILA_CALL_ACK);
    cr_expect(is(fake_wait_call(fake, 2)->as.settle.message_id, "i"));
    cr_expect_eq(fake_wait_call(fake, 3)->call, FILA_CALL_NACK);
    cr_expect(is(fake_wait_call(fake, 3)->as.settle.error, "why"));
}

Test(client, an_id_that_does_not_fit_is_a_protocol_error, .init = auto_setup, .fini = teardown)
{
    char id[FILA_ID_SIZE] = "before";
    fila_error error = FILA_ERROR_INIT;
    char *longest = long_text(64);
    fila_view payload = {longest, 64};
    cr_expect_eq(fila_enqueue(client, V("q"), NULL, 0, payload, id, &error), FILA_PROTOCOL);
    cr_expect_str_eq(error.text, "the broker gave an id of 64 bytes");
    cr_expect_str_eq(id, "before");
    payload.len = 63;
    cr_expect_eq(fila_enqueue(client, V("q"), NULL, 0, payload, id, &error), FILA_OK);
    cr_expect_eq(strlen(id), 63);
    free(longest);
}

/* ---- Calls out of callbacks ---- */

struct chain {
    unsigned left;
    fila_status wait_status;
    fila_error wait_error;
    sem_t done;
};

static void chain_next(void *user, const fila_reply *reply, const fila_error *error)
{
    struct chain *chain = user;
    fila_request request = enqueue_of("q", "again");
    cr_assert(reply && !error);
    chain->wait_status = fila_call_wait(client, &request, NULL, &chain->wait_error);
    if (chain->left-- == 0) {
        (void)sem_post(&chain->done);
        return;
    }
    cr_assert_eq(fila_call_start(client, &request, chain_next, chain, NULL), FILA_OK);
}

Test(client, callbacks_may_start_calls_but_not_wait, .init = auto_setup, .fini = teardown)
{
    struct chain chain = {.left = 100};
    fila_request request = enqueue_of("q", "first");
    (void)sem_init(&chain.done, 0, 0);
    cr_assert_eq(fila_call_start(client, &request, chain_next, &chain, NULL), FILA_OK);
    while (sem_wait(&chain.done)) {
    }
    cr_expect_eq(chain.wait_status, FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(chain.wait_error.text, "a waiting call in a callback would wait for itself");
    cr_expect(is(fake_wait_call(fake, 100)->as.enqueue.payload, "again"));
}

/* ---- The end ---- */

Test(client, close_ends_calls_in_flight, .init = setup, .fini = teardown)
{
    fila_request request = enqueue_of("q", "p");
    fila_error error = FILA_ERROR_INIT;
    for (int i = 0; i < 10; i++) {
        start(&request);
    }
    fake_wait_call(fake, 9);
    fila_client_close(client);
    fila_client_close(client);
    seen_wait_calls(&seen, 10);
    cr_expect_eq(seen.errors, 10);
    cr_expect_eq(seen.error.code, FILA_CLOSED);
    cr_expect_eq(fila_call_start(client, &request, seen_reply, &seen, &error), FILA_CLOSED);
    cr_expect_str_eq(error.text, "the client was closed before this was sent");
    cr_expect(!error.outcome_unknown);
    cr_expect_eq(fila_ack(client, V("q"), V("i"), &error), FILA_CLOSED);
    cr_expect_eq(seen.errors, 10, "no callback without a start");
}

static void close_on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    fila_client_close(client);
    seen_reply(user, reply, error);
}

Test(client, close_from_a_callback, .init = auto_setup, .fini = teardown)
{
    fila_request request = enqueue_of("q", "p");
    cr_assert_eq(fila_call_start(client, &request, close_on_reply, &seen, NULL), FILA_OK);
    seen_wait_calls(&seen, 1);
    cr_expect_eq(fila_call_start(client, &request, seen_reply, &seen, NULL), FILA_CLOSED);
}

Test(client, free_returns_after_the_last_callback)
{
    setup();
    fila_request request = enqueue_of("q", "p");
    for (int i = 0; i < 100; i++) {
        start(&request);
    }
    fila_client_free(client);
    cr_expect_eq(seen.errors, 100);
    cr_expect_eq(seen.error.code, FILA_CLOSED);
    cr_expect_eq(fake_transports_alive(), 0);
    fila_client_free(NULL);
}

/* A thread that looked at `closing` just before the end, and posts just after it. */
Test(client, an_op_behind_the_end_is_refused)
{
    setup();
    fila_request request = enqueue_of("q", "p");
    fila_client_close(client);
    (void)pthread_join(client->thread, NULL);
    atomic_store(&client->closing, false);
    cr_expect_eq(fila_call_start(client, &request, seen_reply, &seen, NULL), FILA_CLOSED);
    cr_expect_eq(seen.errors + seen.replies, 0);
    client->transport->ops->free(client->transport); /* fila_client_free would join again */
    free(client);
}
