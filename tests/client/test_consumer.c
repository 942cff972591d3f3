/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila_client over a transport that does only what it is told: consume streams.
 */
#include "client/fake_transport.h"
#include "client/seen.h"
#include "src/client_impl.h"

#include <criterion/criterion.h>

#include <semaphore.h>
#include <stdlib.h>

#define V(text) ((fila_view){(text), sizeof(text) - 1})

TestSuite(consumer, .timeout = 20);

static struct fake *fake;
static fila_client *client;
static fila_consumer *consumer;
static struct seen seen;

static void setup(void)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fake = fake_new(false);
    seen_init(&seen);
    cr_assert_eq(fc_open_over(fake_transport(fake), &options, &client, NULL), FILA_OK);
}

static void teardown(void)
{
    fila_consumer_free(consumer);
    fila_client_free(client);
    cr_expect_eq(fake_transports_alive(), 0);
    cr_expect_eq(fake_messages_alive(), 0);
}

static void open_with_events(void)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(
        fila_consumer_open(client, V("orders"), &SEEN_EVENTS, &seen, &consumer, &error), FILA_OK,
        "%s", error.text);
}

static void open_without_events(void)
{
    cr_assert_eq(fila_consumer_open(client, V("orders"), NULL, NULL, &consumer, NULL), FILA_OK);
}

static void expect_next(const char *id)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fila_consumer_next(consumer, -1, &message, &error), FILA_OK, "%s", error.text);
    cr_expect(!memcmp(fila_message_id(message).data, id, strlen(id) + 1));
    fila_message_free(message);
}

static void expect_next_fails(int timeout_ms, fila_status code, const char *text)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_expect_eq(fila_consumer_next(consumer, timeout_ms, &message, &error), code);
    cr_expect_str_eq(error.text, text);
    cr_expect_eq(error.code, code);
    cr_expect_eq(message, NULL);
}

/* ---- With events ---- */

Test(consumer, messages_and_the_end, .init = setup, .fini = teardown)
{
    open_with_events();
    cr_expect_str_eq(fake_wait_stream(fake, 0), "orders");
    cr_expect_eq(fake_credits(fake, 0), 0, "nothing is read before it is granted");
    fila_consumer_grant(consumer, 3);
    fila_consumer_grant(consumer, 4);
    fake_wait_credits(fake, 0, 7);
    fake_deliver(fake, 0, "m-1");
    fake_deliver(fake, 0, "m-2");
    seen_wait_messages(&seen, 2);
    cr_expect_str_eq(seen.ids[0], "m-1");
    cr_expect_str_eq(seen.ids[1], "m-2");
    cr_expect(pthread_equal(seen.thread, client->thread));
    cr_expect_eq(seen.ends, 0);
    fake_end(fake, 0, FILA_OK, "");
    seen_wait_end(&seen);
    cr_expect_eq(seen.end.code, FILA_OK);
    fila_consumer_grant(consumer, 1); /* after the end: nothing */
    fila_consumer_close(consumer);
    cr_expect_eq(fake_credits(fake, 0), 7);
}

Test(consumer, an_end_with_an_error, .init = setup, .fini = teardown)
{
    open_with_events();
    fake_deliver(fake, 0, "m-1");
    fake_end(fake, 0, FILA_NOT_LEADER, "try another");
    seen_wait_end(&seen);
    cr_expect_eq(seen.messages, 1, "what came before the end");
    cr_expect_eq(seen.end.code, FILA_NOT_LEADER);
    cr_expect_str_eq(seen.end.text, "try another");
}

Test(consumer, close_is_answered_with_cancelled, .init = setup, .fini = teardown)
{
    open_with_events();
    fake_wait_stream(fake, 0);
    fila_consumer_close(consumer);
    fila_consumer_close(consumer);
    seen_wait_end(&seen);
    cr_expect_eq(seen.ends, 1);
    cr_expect_eq(seen.end.code, FILA_CANCELLED);
}

Test(consumer, what_comes_after_close_is_dropped, .init = setup, .fini = teardown)
{
    fake_hold_cancel(fake);
    open_with_events();
    fake_wait_stream(fake, 0);
    fila_consumer_close(consumer);
    fake_wait_cancel(fake, 0);
    fake_deliver(fake, 0, "late");
    fake_end(fake, 0, FILA_CANCELLED, "cancelled");
    seen_wait_end(&seen);
    cr_expect_eq(seen.messages, 0);
}

Test(consumer, a_refused_stream_ends_by_callback, .init = setup, .fini = teardown)
{
    fake_refuse_streams(fake, FILA_NO_MEMORY);
    open_with_events();
    seen_wait_end(&seen);
    cr_expect_eq(seen.end.code, FILA_NO_MEMORY);
    cr_expect_str_eq(seen.end.text, "the fake refuses streams");
    cr_expect(pthread_equal(seen.thread, client->thread), "never inline");
}

Test(consumer, bad_queue_names_are_refused_at_once, .init = setup, .fini = teardown)
{
    static char name[65536];
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *none = NULL;
    memset(name, 'n', sizeof name);
    fila_view too_long = {name, sizeof name};
    cr_expect_eq(
        fila_consumer_open(client, too_long, &SEEN_EVENTS, &seen, &none, &error),
        FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(error.text, "a queue name of 65536 bytes, at most 65535 are possible");
    cr_expect_eq(
        fila_consumer_open(client, V("\xc0"), &SEEN_EVENTS, &seen, &none, &error),
        FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(error.text, "a queue name of 1 bytes is not UTF-8");
    cr_expect_eq(none, NULL);
    cr_expect_eq(seen.ends, 0);
}

Test(consumer, grants_saturate, .init = setup, .fini = teardown)
{
    open_with_events();
    fila_consumer_grant(consumer, UINT32_MAX);
    fake_wait_credits(fake, 0, 1);
    fila_consumer_grant(consumer, 5); /* counted in the fake modulo 2^32 */
    fake_deliver(fake, 0, "m");
    seen_wait_messages(&seen, 1);
}

/* ---- Freeing ---- */

struct slow_end {
    sem_t may_return;
    bool returned;
};

static void ignore_message(void *user, fila_message *message)
{
    (void)user;
    fila_message_free(message);
}

static void end_slowly(void *user, const fila_error *why)
{
    struct slow_end *slow = user;
    (void)why;
    while (sem_wait(&slow->may_return)) {
    }
    slow->returned = true;
}

static void *release_end(void *user)
{
    struct slow_end *slow = user;
    fake_wait_cancel(fake, 0);
    (void)sem_post(&slow->may_return);
    return NULL;
}

Test(consumer, free_waits_until_on_end_has_returned, .init = setup, .fini = teardown)
{
    static const fila_consumer_events events = {ignore_message, end_slowly};
    struct slow_end slow = {.returned = false};
    pthread_t thread;
    (void)sem_init(&slow.may_return, 0, 0);
    cr_assert_eq(fila_consumer_open(client, V("q"), &events, &slow, &consumer, NULL), FILA_OK);
    cr_assert(pthread_create(&thread, NULL, release_end, &slow) == 0);
    fila_consumer_free(consumer);
    consumer = NULL;
    cr_expect(slow.returned);
    (void)pthread_join(thread, NULL);
}

static void end_and_free(void *user, const fila_error *why)
{
    (void)user;
    fila_consumer_free(consumer);
    consumer = NULL;
    seen.end = *why;
    SEEN_EVENTS.on_end(&seen, why);
}

Test(consumer, may_be_freed_in_on_end, .init = setup, .fini = teardown)
{
    static const fila_consumer_events events = {ignore_message, end_and_free};
    cr_assert_eq(fila_consumer_open(client, V("q"), &events, NULL, &consumer, NULL), FILA_OK);
    fake_end(fake, 0, FILA_OK, "");
    seen_wait_end(&seen);
    cr_expect_eq(seen.end.code, FILA_OK);
}

Test(consumer, outlives_its_client)
{
    setup();
    open_without_events();
    fake_deliver(fake, 0, "m-1");
    expect_next("m-1");
    fila_client_free(client);
    expect_next_fails(-1, FILA_CANCELLED, "cancelled by this side");
    fila_consumer_grant(consumer, 1);
    fila_consumer_close(consumer);
    fila_consumer_free(consumer);
    cr_expect_eq(fake_transports_alive(), 0);
    cr_expect_eq(fake_messages_alive(), 0);
    fila_consumer_free(NULL);
}

Test(consumer, opening_on_a_closed_client, .init = setup, .fini = teardown)
{
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *none = NULL;
    fila_client_close(client);
    cr_expect_eq(
        fila_consumer_open(client, V("q"), &SEEN_EVENTS, &seen, &none, &error), FILA_CLOSED);
    cr_expect_eq(none, NULL);
    cr_expect_eq(seen.ends, 0, "no end without an opening");
}

/* ---- Without events ---- */

Test(consumer, next_grants_one_at_a_time, .init = setup, .fini = teardown)
{
    open_without_events();
    expect_next_fails(0, FILA_TIMEOUT, "no message within 0 ms");
    fake_wait_credits(fake, 0, 1);
    expect_next_fails(1, FILA_TIMEOUT, "no message within 1 ms");
    fake_deliver(fake, 0, "m-1");
    expect_next("m-1");
    cr_expect_eq(fake_credits(fake, 0), 1, "the credit of the first call was still there");
    expect_next_fails(0, FILA_TIMEOUT, "no message within 0 ms");
    fake_wait_credits(fake, 0, 2);
    fake_deliver(fake, 0, "m-2");
    expect_next("m-2");
    cr_expect_eq(fake_credits(fake, 0), 2);
}

Test(consumer, next_uses_what_was_granted, .init = setup, .fini = teardown)
{
    open_without_events();
    fila_consumer_grant(consumer, 3);
    fake_deliver(fake, 0, "m-1");
    fake_deliver(fake, 0, "m-2");
    expect_next("m-1");
    expect_next("m-2");
    expect_next_fails(0, FILA_TIMEOUT, "no message within 0 ms");
    cr_expect_eq(fake_credits(fake, 0), 3);
}

Test(consumer, next_after_an_end_in_good_order, .init = setup, .fini = teardown)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    open_without_events();
    fake_deliver(fake, 0, "m-1");
    fake_deliver(fake, 0, "m-2");
    fake_end(fake, 0, FILA_OK, "");
    expect_next("m-1");
    expect_next("m-2");
    cr_expect_eq(fila_consumer_next(consumer, -1, &message, &error), FILA_BROKER_UNAVAILABLE);
    cr_expect_str_eq(error.text, "the broker ended the stream in good order: open another");
    cr_expect(error.retryable && !error.outcome_unknown);
    expect_next_fails(
        0, FILA_BROKER_UNAVAILABLE, "the broker ended the stream in good order: open another");
}

Test(consumer, next_after_an_end_with_an_error, .init = setup, .fini = teardown)
{
    open_without_events();
    fake_end(fake, 0, FILA_UNAUTHENTICATED, "no such key");
    expect_next_fails(-1, FILA_UNAUTHENTICATED, "no such key");
}

static void *close_client(void *user)
{
    (void)user;
    fake_wait_credits(fake, 0, 1);
    fila_client_close(client);
    return NULL;
}

Test(consumer, next_is_woken_by_the_clients_end, .init = setup, .fini = teardown)
{
    pthread_t thread;
    open_without_events();
    cr_assert(pthread_create(&thread, NULL, close_client, NULL) == 0);
    expect_next_fails(-1, FILA_CANCELLED, "cancelled by this side");
    (void)pthread_join(thread, NULL);
}

Test(consumer, next_is_not_for_consumers_with_events, .init = setup, .fini = teardown)
{
    open_with_events();
    expect_next_fails(-1, FILA_INVALID_ARGUMENT, "this consumer has events");
}

Test(consumer, unread_messages_are_freed, .init = setup, .fini = teardown)
{
    open_without_events();
    fila_consumer_grant(consumer, 5);
    for (int i = 0; i < 5; i++) {
        fake_deliver(fake, 0, "m");
    }
    expect_next("m");
}
