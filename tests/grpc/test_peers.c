/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The gRPC transport against what is no broker, or none any more: wrong ports, frozen and killed
 * servers, and one that comes back.
 */
#include "peer.h"
#include "rig.h"
#include "stub.h"

#include <criterion/criterion.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(peers, .timeout = 60);

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* ---- Wrong ports ---- */

static void expect_no_connection(const char *url, const char *cause, int within_ms)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    char text[FILA_ERROR_TEXT];
    options.url = url;
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    struct ask a = {0};
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    int64_t since = fila_now();
    watch_open(t, w, 1);
    ask_call(t, &a, &request, 20000);
    cr_assert(rig_until(t, &w->ended, 1, 20000));
    cr_assert(rig_until(t, &a.done, 1, 20000));
    cr_expect(
        (fila_now() - since) / FILA_MS < within_ms, "%lld ms",
        (long long)((fila_now() - since) / FILA_MS));
    (void)snprintf(text, sizeof text, "no connection to %s: %s", url + strlen("grpc://"), cause);
    cr_expect_eq(w->why.code, FILA_BROKER_UNAVAILABLE);
    cr_expect_str_eq(w->why.text, text);
    cr_expect_not(w->why.outcome_unknown);
    cr_expect_eq(w->opened, 0);
    cr_expect_eq(a.unary.error.code, FILA_BROKER_UNAVAILABLE);
    cr_expect_str_eq(a.unary.error.text, text);
    cr_expect_not(a.unary.error.outcome_unknown);
    rig_close(t);
    watch_free(w);
}

static void expect_of_peer(enum peer_kind kind, const char *cause, int within_ms)
{
    int port = 0;
    char url[64];
    struct peer *peer = peer_start(kind, &port);
    (void)snprintf(url, sizeof url, "grpc://127.0.0.1:%d", port);
    expect_no_connection(url, cause, within_ms);
    peer_stop(peer);
}

Test(peers, nobody_listens)
{
    char url[64];
    (void)snprintf(url, sizeof url, "grpc://127.0.0.1:%d", peer_free_port());
    expect_no_connection(url, "Connection refused", 2000);
    (void)snprintf(url, sizeof url, "grpc://localhost:%d", peer_free_port());
    expect_no_connection(url, "Connection refused", 5000);
}

Test(peers, a_socket_that_is_not_there)
{
    expect_no_connection("grpc://unix:/nonexistent/fila.sock", "No such file or directory", 2000);
}

Test(peers, a_name_that_is_not_there)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    options.url = "grpc://no-such-host.invalid:5555";
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    watch_open(t, w, 1);
    cr_assert(rig_until(t, &w->ended, 1, 30000));
    cr_expect_eq(w->why.code, FILA_BROKER_UNAVAILABLE);
    cr_expect(
        has(w->why.text,
            "no connection to no-such-host.invalid:5555: the name cannot be resolved ("),
        "%s", w->why.text);
    rig_close(t);
    watch_free(w);
}

Test(peers, an_http1_server)
{
    expect_of_peer(
        PEER_HTTP1, "it does not speak HTTP/2: an HTTP/1 server, or no Fila broker", 2000);
}

Test(peers, a_mail_server)
{
    expect_of_peer(
        PEER_BANNER, "it does not speak HTTP/2: an HTTP/1 server, or no Fila broker", 2000);
}

Test(peers, a_tls_port)
{
    expect_of_peer(PEER_TLS, "it hung up before HTTP/2 began: a TLS port, or no Fila broker", 2000);
}

Test(peers, one_that_hangs_up)
{
    expect_of_peer(
        PEER_HANGUP, "it hung up before HTTP/2 began: a TLS port, or no Fila broker", 2000);
}

/* As a Fila server in SIGTERM does to new connections (contract A4.7). */
Test(peers, one_that_never_answers)
{
    expect_of_peer(
        PEER_SILENT,
        "it accepts connections but does not answer: frozen, stopping, or no Fila broker", 7000);
}

Test(peers, one_that_breaks_off_in_mid_protocol)
{
    int port = 0;
    struct peer *peer = peer_start(PEER_BROKEN, &port);
    fila_client_options options = rig_options(port);
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    watch_open(t, w, 1);
    cr_assert(rig_until(t, &w->ended, 1, 20000));
    cr_expect(
        w->why.code == FILA_BROKER_UNAVAILABLE || w->why.code == FILA_INTERNAL, "%s", w->why.text);
    cr_expect_gt(strlen(w->why.text), 0);
    rig_close(t);
    watch_free(w);
    peer_stop(peer);
}

/* ---- Servers that go ---- */

struct server {
    pid_t pid;
    int port;
};

static struct server child(fila_view *message)
{
    struct server s = {0};
    s.pid = stub_fork(
        &(struct stub_stream){.messages = message, .count = 1, .rounds = 1000000}, &s.port);
    return s;
}

static void end_child(struct server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
}

Test(peers, a_frozen_server_is_noticed_by_keepalive_and_deadlines)
{
    fila_view message = stub_message("id-1", "orders", 100, 0);
    struct server s = child(&message);
    fila_client_options options = rig_options(s.port);
    options.keepalive_ms = 1000;
    options.keepalive_timeout_ms = 1000;
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    struct ask a = {0};
    watch_open(t, w, 20);
    cr_assert(rig_until(t, &w->messages, 20, 5000));
    kill(s.pid, SIGSTOP);
    int64_t since = fila_now();
    t->ops->grant(w->stream, 1000);
    ask_settle(t, &a, FILA_SETTLE_ACK, "id-1", 500);
    cr_assert(rig_until(t, &a.done, 1, 5000));
    int64_t took = fila_now() - since;
    cr_expect(took >= 500 * FILA_MS && took < 3 * FILA_S, "%lld", (long long)took);
    cr_expect_eq(a.settle.result, FILA_SETTLE_UNKNOWN);
    cr_expect_eq(a.settle.error.code, FILA_TIMEOUT);
    cr_assert(rig_until(t, &w->ended, 1, 10000));
    took = fila_now() - since;
    cr_expect(took < 4 * FILA_S, "%lld ms", (long long)(took / FILA_MS));
    cr_expect_eq(w->why.code, FILA_BROKER_UNAVAILABLE);
    cr_expect(has(w->why.text, "broke: keepalive watchdog timeout"), "%s", w->why.text);
    cr_expect(w->why.outcome_unknown);
    end_child(&s);
    rig_close(t);
    watch_free(w);
    stub_message_free(message);
}

Test(peers, a_killed_server_ends_the_stream_also_without_credits)
{
    fila_view message = stub_message("id-1", "orders", 1000, 0);
    struct server s = child(&message);
    fila_client_options options = rig_options(s.port);
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    struct ask a = {0};
    watch_open(t, w, 5);
    cr_assert(rig_until(t, &w->messages, 5, 5000));
    ask_settle(t, &a, FILA_SETTLE_ACK, "id-1", 5000);
    cr_assert(rig_until(t, &a.done, 1, 5000));
    cr_expect_eq(a.settle.result, FILA_SETTLE_OK);
    rig_for(t, 100);
    end_child(&s);
    cr_assert(rig_until(t, &w->ended, 1, 5000));
    cr_expect_eq(w->messages, 5);
    cr_expect_eq(w->why.code, FILA_BROKER_UNAVAILABLE);
    cr_expect(has(w->why.text, "the connection to 127.0.0.1:"), "%s", w->why.text);
    rig_close(t);
    watch_free(w);
    stub_message_free(message);
}

Test(peers, an_ack_whose_connection_breaks_is_unknown)
{
    fila_view message = stub_message("id-1", "orders", 1000, 0);
    struct server s = child(&message);
    fila_client_options options = rig_options(s.port);
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    struct ask a = {0};
    watch_open(t, w, 1);
    cr_assert(rig_until(t, &w->messages, 1, 5000));
    kill(s.pid, SIGSTOP);
    ask_settle(t, &a, FILA_SETTLE_ACK, "id-1", 5000);
    rig_for(t, 100);
    end_child(&s);
    cr_assert(rig_until(t, &a.done, 1, 5000));
    cr_expect_eq(a.settle.error.code, FILA_BROKER_UNAVAILABLE, "%s", a.settle.error.text);
    cr_expect(a.settle.error.outcome_unknown);
    cr_expect_eq(a.settle.result, FILA_SETTLE_UNKNOWN);
    rig_close(t);
    watch_free(w);
    stub_message_free(message);
}

Test(peers, a_server_that_comes_back_on_its_port)
{
    fila_view message = stub_message("id-1", "orders", 1000, 0);
    struct server s = child(&message);
    fila_client_options options = rig_options(s.port);
    options.reconnect_max_ms = 400;
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    watch_open(t, w, 1);
    cr_assert(rig_until(t, &w->messages, 1, 5000));
    end_child(&s);
    cr_assert(rig_until(t, &w->ended, 1, 5000));
    watch_free(w);
    /* While it is down each attempt ends soon; the first may still meet what is left of the old
     * connection. */
    unsigned refused = 0;
    for (int i = 0; refused < 3 && i < 20; i++) {
        w = calloc(1, sizeof *w);
        watch_open(t, w, 1);
        cr_assert(rig_until(t, &w->ended, 1, 2000));
        cr_expect_eq(w->why.code, FILA_BROKER_UNAVAILABLE);
        refused += has(w->why.text, "Connection refused");
        watch_free(w);
    }
    cr_expect_eq(refused, 3);
    char address[64];
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", s.port);
    struct stub *stub = stub_start(address);
    stub_stream(stub, &(struct stub_stream){.messages = &message, .count = 1});
    struct ask a = {0};
    int64_t since = fila_now();
    unsigned got = 0;
    while (!got && fila_now() - since < 5 * FILA_S) {
        w = calloc(1, sizeof *w);
        watch_open(t, w, 1);
        while (!w->messages && !w->ended) {
            t->ops->run(t, fila_now() + FILA_S);
        }
        got = w->messages;
        if (got) {
            t->ops->cancel_stream(w->stream);
            cr_assert(rig_until(t, &w->ended, 1, 5000));
        } else {
            rig_for(t, 50);
        }
        watch_free(w);
    }
    cr_expect_eq(got, 1);
    cr_expect(
        fila_now() - since < 2 * FILA_S, "%lld ms", (long long)((fila_now() - since) / FILA_MS));
    ask_settle(t, &a, FILA_SETTLE_ACK, "id-1", 5000);
    cr_assert(rig_until(t, &a.done, 1, 5000));
    cr_expect_eq(a.settle.result, FILA_SETTLE_OK);
    rig_close(t);
    stub_stop(stub);
    stub_message_free(message);
}

Test(peers, over_a_unix_socket)
{
    char path[64], address[80], url[80];
    (void)snprintf(path, sizeof path, "/tmp/fila-grpc-%d.sock", (int)getpid());
    (void)snprintf(address, sizeof address, "unix:%s", path);
    (void)snprintf(url, sizeof url, "grpc://unix:%s", path);
    fila_view message = stub_message("id-1", "orders", 1000, 0);
    struct stub *stub = stub_start(address);
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    stub_stream(stub, &(struct stub_stream){.messages = &message, .count = 1, .rounds = 10});
    options.url = url;
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    struct ask a = {0};
    watch_open(t, w, 10);
    cr_assert(rig_until(t, &w->messages, 10, 5000));
    ask_settle(t, &a, FILA_SETTLE_ACK, "id-1", 5000);
    cr_assert(rig_until(t, &a.done, 1, 5000));
    cr_expect_eq(a.settle.result, FILA_SETTLE_OK);
    rig_close(t);
    watch_free(w);
    stub_stop(stub);
    unlink(path);
    stub_message_free(message);
}
