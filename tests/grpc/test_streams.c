/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Consume streams over the gRPC transport, against the scripted server.
 */
#include "rig.h"
#include "stub.h"

#include <criterion/criterion.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(streams, .timeout = 60);

struct setup {
    struct stub *stub;
    struct fila_transport *t;
    struct watch *w;
};

static struct setup begin(const struct stub_stream *script)
{
    struct setup s = {.stub = stub_start("127.0.0.1:0"), .w = calloc(1, sizeof(struct watch))};
    fila_client_options options = rig_options(stub_port(s.stub));
    stub_stream(s.stub, script);
    s.t = rig_open(&options);
    return s;
}

static void finish(struct setup *s)
{
    rig_close(s->t);
    watch_free(s->w);
    stub_stop(s->stub);
}

/* ---- Credits ---- */

Test(streams, hands_out_a_message_for_each_credit_and_no_more)
{
    fila_view message = stub_message("id-1", "orders", 1024, 2);
    struct setup s = begin(&(struct stub_stream){.messages = &message, .count = 1, .rounds = 100});
    struct watch *w = s.w;
    watch_open(s.t, w, 0);
    cr_assert(rig_until(s.t, &w->opened, 1, 5000));
    rig_for(s.t, 100);
    cr_assert_eq(w->messages, 0, "nothing is read before a grant");
    s.t->ops->grant(w->stream, 3);
    cr_assert(rig_until(s.t, &w->messages, 3, 5000));
    rig_for(s.t, 100);
    cr_assert_eq(w->messages, 3);
    s.t->ops->grant(w->stream, 1);
    s.t->ops->grant(w->stream, 1);
    cr_assert(rig_until(s.t, &w->messages, 5, 5000));
    rig_for(s.t, 100);
    cr_assert_eq(w->messages, 5);
    cr_expect_eq(w->opened, 1);
    cr_expect_eq(fila_message_payload(w->kept[4]).len, 1024);
    cr_expect_eq(w->reads[4].wire_size, message.len + 5);
    cr_expect_eq(w->reads[4].lease_end, 0);

    s.t->ops->cancel_stream(w->stream);
    s.t->ops->cancel_stream(w->stream);
    s.t->ops->grant(w->stream, 5);
    cr_assert_eq(w->ended, 0, "never inline");
    cr_assert(rig_until(s.t, &w->ended, 1, 5000));
    cr_expect_eq(w->why.code, FILA_CANCELLED);
    cr_expect_eq(w->messages, 5);
    cr_assert(stub_wait_cancelled(s.stub, 1, 5000));
    finish(&s);
    stub_message_free(message);
}

Test(streams, the_window_bounds_what_the_server_gets_rid_of)
{
    fila_view message = stub_message("id-1", "orders", 1024, 0);
    struct setup s = begin(&(struct stub_stream){.messages = &message, .count = 1, .rounds = 3000});
    static struct watch narrow;
    watch_open(s.t, s.w, 0);
    rig_for(s.t, 300);
    unsigned sent = stub_sent(s.stub);
    cr_expect(sent > 40 && sent < 130, "64 KiB window: %u messages left the server", sent);

    s.t->ops->cancel_stream(s.w->stream);
    cr_assert(rig_until(s.t, &s.w->ended, 1, 5000));
    sent = stub_sent(s.stub);
    narrow.window = 4096;
    watch_open(s.t, &narrow, 0);
    rig_for(s.t, 300);
    unsigned more = stub_sent(s.stub) - sent;
    cr_expect(more >= 1 && more < 12, "4 KiB window: %u messages left the server", more);
    s.t->ops->cancel_stream(narrow.stream);
    cr_assert(rig_until(s.t, &narrow.ended, 1, 5000));
    finish(&s);
    stub_message_free(message);
}

/* ---- What comes ---- */

Test(streams, payloads_of_all_sizes)
{
    static const size_t sizes[] = {0, 1, 1000, 16384, 65536, 1u << 20, 4u << 20, (16u << 20) - 200};

    enum {
        COUNT = sizeof sizes / sizeof *sizes
    };

    fila_view messages[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        messages[i] = stub_message("id-1", "orders", sizes[i], 1);
    }
    struct setup s =
        begin(&(struct stub_stream){.messages = messages, .count = COUNT, .end = true});
    watch_open(s.t, s.w, 100);
    cr_assert(rig_until(s.t, &s.w->ended, 1, 30000));
    cr_assert_eq(s.w->messages, COUNT);
    cr_expect_eq(s.w->why.code, FILA_OK, "%s", s.w->why.text);
    for (size_t i = 0; i < COUNT; i++) {
        fila_view payload = fila_message_payload(s.w->kept[i]);
        cr_expect_eq(payload.len, sizes[i]);
        cr_expect_eq(s.w->reads[i].wire_size, messages[i].len + 5);
        for (size_t at = 0; at < payload.len; at += 511) {
            cr_assert_eq(payload.data[at], 'p');
        }
        stub_message_free(messages[i]);
    }
    finish(&s);
}

Test(streams, ten_thousand_headers)
{
    fila_view message = stub_message("id-1", "orders", 10, 10000);
    struct setup s = begin(&(struct stub_stream){.messages = &message, .count = 1});
    watch_open(s.t, s.w, 1);
    cr_assert(rig_until(s.t, &s.w->messages, 1, 10000));
    fila_header header;
    size_t cursor = 0, count = 0;
    while (fila_message_next_header(s.w->kept[0], &cursor, &header)) {
        count++;
    }
    cr_expect_eq(count, 10000);
    finish(&s);
    stub_message_free(message);
}

Test(streams, a_message_over_the_limit_ends_the_stream_and_says_its_size)
{
    fila_view messages[2] = {
        stub_message("small", "orders", 900, 0), stub_message("large", "orders", 1000, 0)};
    struct setup s = begin(&(struct stub_stream){.messages = messages, .count = 2, .rounds = 2});
    rig_close(s.t);
    fila_client_options options = rig_options(stub_port(s.stub));
    options.receive_limit = 1000;
    s.t = rig_open(&options);
    watch_open(s.t, s.w, 10);
    cr_assert(rig_until(s.t, &s.w->ended, 1, 10000));
    cr_expect_eq(s.w->messages, 1, "%u", s.w->messages);
    cr_expect_eq(s.w->why.code, FILA_TOO_LARGE);
    char text[100];
    (void)snprintf(
        text, sizeof text, "a message of %zu bytes is over the receive limit of 1000",
        messages[1].len);
    cr_expect_str_eq(s.w->why.text, text);
    cr_assert(stub_wait_cancelled(s.stub, 1, 5000));
    finish(&s);
    stub_message_free(messages[0]);
    stub_message_free(messages[1]);
}

Test(streams, empty_frames_cost_no_credit)
{
    fila_view messages[4] = {{"", 0}, {"", 0}, stub_message("id-1", "orders", 5, 0), {"", 0}};
    struct setup s =
        begin(&(struct stub_stream){.messages = messages, .count = 4, .rounds = 3, .end = true});
    watch_open(s.t, s.w, 3);
    cr_assert(rig_until(s.t, &s.w->messages, 3, 10000));
    s.t->ops->grant(s.w->stream, 1);
    cr_assert(rig_until(s.t, &s.w->ended, 1, 10000));
    cr_expect_eq(s.w->messages, 3);
    cr_expect_eq(s.w->why.code, FILA_OK);
    finish(&s);
    stub_message_free(messages[2]);
}

Test(streams, bytes_that_are_no_message)
{
    fila_view messages[2] = {stub_message("id-1", "orders", 5, 0), {"\x0a\xff", 2}};
    struct setup s = begin(&(struct stub_stream){.messages = messages, .count = 2});
    watch_open(s.t, s.w, 10);
    cr_assert(rig_until(s.t, &s.w->ended, 1, 10000));
    cr_expect_eq(s.w->messages, 1);
    cr_expect_eq(s.w->why.code, FILA_PROTOCOL, "%s", s.w->why.text);
    finish(&s);
    stub_message_free(messages[0]);
}

Test(streams, a_message_may_outlive_its_transport)
{
    fila_view messages[2] = {
        stub_message("one", "orders", 700, 2), stub_message("two", "orders", 200000, 0)};
    struct setup s = begin(&(struct stub_stream){.messages = messages, .count = 2});
    watch_open(s.t, s.w, 2);
    cr_assert(rig_until(s.t, &s.w->messages, 2, 10000));
    rig_close(s.t);
    stub_stop(s.stub);
    cr_expect_eq(fila_message_payload(s.w->kept[0]).data[699], 'p');
    cr_expect_eq(fila_message_payload(s.w->kept[1]).data[199999], 'p');
    watch_free(s.w);
    stub_message_free(messages[0]);
    stub_message_free(messages[1]);
}

/* ---- Ends ---- */

Test(streams, every_end)
{
    static const struct {
        int wire;
        bool no_headers;
        const char *leader;
        fila_status code;
        const char *told;
    } rows[] = {
        {0, false, NULL, FILA_OK, ""},
        {0, true, NULL, FILA_OK, ""},
        {1, false, NULL, FILA_TIMEOUT, ""},
        {3, true, NULL, FILA_INVALID_ARGUMENT, ""},
        {5, true, NULL, FILA_QUEUE_NOT_FOUND, ""},
        {7, true, NULL, FILA_DENIED, ""},
        {8, true, NULL, FILA_OVERLOADED, ""},
        {12, true, NULL, FILA_UNIMPLEMENTED, ""},
        {13, false, NULL, FILA_INTERNAL, ""},
        {14, true, NULL, FILA_BROKER_UNAVAILABLE, ""},
        {14, true, "node-2:5555", FILA_NOT_LEADER, "node-2:5555"},
        {14, false, "[fd00::2]:5555", FILA_NOT_LEADER, "[fd00::2]:5555"},
        {14, true, "0.0.0.0:5555", FILA_NOT_LEADER, ""},
        {14, true, "no address", FILA_NOT_LEADER, ""},
        {13, true, "node-2:5555", FILA_INTERNAL, ""},
        {16, true, NULL, FILA_UNAUTHENTICATED, ""},
    };
    struct setup s = begin(&(struct stub_stream){0});
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct watch *w = calloc(1, sizeof *w);
        stub_stream(
            s.stub, &(struct stub_stream){
                        .end = true,
                        .status = rows[i].wire,
                        .text = "because",
                        .leader = rows[i].leader,
                        .no_headers = rows[i].no_headers});
        watch_open(s.t, w, i % 2);
        cr_assert(rig_until(s.t, &w->ended, 1, 5000), "row %zu", i);
        cr_expect_eq(w->why.code, rows[i].code, "row %zu: %d", i, w->why.code);
        cr_expect_str_eq(w->why.leader, rows[i].told);
        cr_expect_eq(w->ended, 1);
        if (rows[i].no_headers) {
            cr_expect_eq(w->opened, 0, "row %zu: refused, so never opened", i);
        }
        if (rows[i].wire) {
            cr_expect_eq(w->why.wire_code, rows[i].wire);
            cr_expect_str_eq(w->why.text, "because");
        }
        watch_free(w);
    }
    finish(&s);
}

/* A proxy may pass on what its own gRPC said: that is an answer, not a missing connection. */
Test(streams, an_answer_that_sounds_like_no_connection)
{
    struct setup s = begin(&(struct stub_stream){
        .end = true,
        .status = 14,
        .text = "failed to connect to all addresses",
        .no_headers = true});
    watch_open(s.t, s.w, 1);
    cr_assert(rig_until(s.t, &s.w->ended, 1, 5000));
    cr_expect_eq(s.w->why.code, FILA_BROKER_UNAVAILABLE);
    cr_expect(s.w->why.outcome_unknown);
    cr_expect_str_eq(s.w->why.text, "failed to connect to all addresses");
    finish(&s);
}

Test(streams, stop_hands_out_what_was_received_and_ends)
{
    fila_view message = stub_message("id-1", "orders", 100, 0);
    struct setup s = begin(&(struct stub_stream){.messages = &message, .count = 1, .rounds = 2000});
    watch_open(s.t, s.w, 10);
    cr_assert(rig_until(s.t, &s.w->messages, 10, 5000));
    s.t->ops->stop_stream(s.w->stream);
    s.t->ops->grant(s.w->stream, 100);
    cr_assert(rig_until(s.t, &s.w->ended, 1, 5000));
    cr_expect_eq(s.w->why.code, FILA_CANCELLED);
    cr_expect_eq(s.w->messages, 10);
    cr_assert(stub_wait_cancelled(s.stub, 1, 5000));
    finish(&s);
    stub_message_free(message);
}

Test(streams, many_at_once)
{
    enum {
        ALL = 12
    };

    fila_view message = stub_message("id-1", "orders", 500, 0);
    struct setup s =
        begin(&(struct stub_stream){.messages = &message, .count = 1, .rounds = 50, .end = true});
    struct watch *all[ALL];
    for (int i = 0; i < ALL; i++) {
        all[i] = calloc(1, sizeof **all);
        watch_open(s.t, all[i], 100);
    }
    for (int i = 0; i < ALL; i++) {
        cr_assert(rig_until(s.t, &all[i]->ended, 1, 20000));
        cr_expect_eq(all[i]->messages, 50);
        watch_free(all[i]);
    }
    finish(&s);
    stub_message_free(message);
}

/* ---- How long a receive had truly waited ---- */

/* Several, because a busy machine may take this thread away, and then it rightly claims nothing. */
Test(streams, a_receive_that_waited_says_since_when)
{
    enum {
        TRIES = 8
    };

    fila_view message = stub_message("id-1", "orders", 100, 0);
    struct setup s = begin(
        &(struct stub_stream){.messages = &message, .count = 1, .rounds = TRIES, .delay_ms = 300});
    int64_t since = fila_now();
    unsigned long_waits = 0;
    watch_open(s.t, s.w, TRIES);
    for (unsigned i = 0; i < TRIES && !long_waits; i++) {
        cr_assert(rig_until(s.t, &s.w->messages, i + 1, 5000));
        struct fila_read read = s.w->reads[i];
        cr_expect(read.waiting_since >= since && read.read_at >= read.waiting_since);
        cr_expect(read.read_at <= fila_now());
        long_waits += read.read_at - read.waiting_since >= 250 * FILA_MS;
        since = read.read_at;
    }
    cr_expect_eq(long_waits, 1);
    finish(&s);
    stub_message_free(message);
}

Test(streams, a_receive_nobody_watched_does_not_count_as_waiting)
{
    fila_view message = stub_message("id-1", "orders", 100, 0);
    struct setup s =
        begin(&(struct stub_stream){.messages = &message, .count = 1, .delay_ms = 300});
    watch_open(s.t, s.w, 1);
    cr_assert(rig_until(s.t, &s.w->opened, 1, 5000));
    usleep(600 * 1000); /* the owner is busy elsewhere while the message comes */
    cr_assert(rig_until(s.t, &s.w->messages, 1, 5000));
    cr_expect_eq(s.w->reads[0].waiting_since, s.w->reads[0].read_at);
    finish(&s);
    stub_message_free(message);
}

Test(streams, a_process_that_was_stopped_does_not_count_it_as_waiting)
{
    int port = 0;
    fila_view message = stub_message("id-1", "orders", 100, 0);
    pid_t server =
        stub_fork(&(struct stub_stream){.messages = &message, .count = 1, .delay_ms = 1000}, &port);
    pid_t self = getpid();
    pid_t stopper = fork();
    if (stopper == 0) {
        usleep(500 * 1000);
        kill(self, SIGSTOP);
        usleep(1500 * 1000);
        kill(self, SIGCONT);
        _exit(0);
    }
    fila_client_options options = rig_options(port);
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    watch_open(t, w, 1);
    cr_assert(rig_until(t, &w->messages, 1, 20000));
    cr_expect_eq(
        w->reads[0].waiting_since, w->reads[0].read_at, "%lld ms",
        (long long)((w->reads[0].read_at - w->reads[0].waiting_since) / FILA_MS));
    rig_close(t);
    watch_free(w);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    waitpid(stopper, NULL, 0);
    stub_message_free(message);
}
