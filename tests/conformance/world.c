/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "conformance/conformance.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- Verdicts ---- */

/* Without the ends of libraries: what the row has open stays open. */
void differs(const char *expected, const char *got, ...)
{
    va_list values;
    va_start(values, got);
    CURRENT.outcome = OUTCOME_DIFFERS;
    (void)snprintf(CURRENT.expected, sizeof CURRENT.expected, "%s", expected);
    (void)vsnprintf(CURRENT.got, sizeof CURRENT.got, got, values);
    va_end(values);
    report(&CURRENT);
    _exit(1);
}

void expect_number(const char *what, int64_t got, int64_t expected)
{
    char text[200];
    if (got != expected) {
        (void)snprintf(text, sizeof text, "%s: %lld", what, (long long)expected);
        differs(text, "%lld", (long long)got);
    }
}

void expect_between(const char *what, int64_t got, int64_t least, int64_t most)
{
    char text[200];
    if (got < least || got > most) {
        (void)snprintf(
            text, sizeof text, "%s: %lld to %lld", what, (long long)least, (long long)most);
        differs(text, "%lld", (long long)got);
    }
}

void expect_view(const char *what, fila_view got, const char *expected)
{
    char text[400];
    size_t len = strlen(expected);
    if (got.len != len || (len && memcmp(got.data, expected, len) != 0)) {
        (void)snprintf(text, sizeof text, "%s: \"%s\"", what, expected);
        differs(text, "\"%.*s\"", (int)(got.len < 300 ? got.len : 300), got.data ? got.data : "");
    }
}

/* ---- Opening ---- */

static void open_here(struct world *w)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_error error;
    const struct wishes *wishes = &w->row->wishes;
    const char *folder =
        getenv("FILA_CONFORMANCE_DATA"); /* then each has a file of its own there */
    options.listen = w->target == TARGET_GRPC ? "127.0.0.1:0" : NULL;
    if (folder) {
        (void)snprintf(
            w->path, sizeof w->path, "%.200s/%.60s.%d.db", folder, w->row->id, (int)getpid());
        options.path = w->path;
        options.sync = FILA_SYNC_NORMAL;
    }
    if (wishes->command_capacity) {
        options.command_capacity = wishes->command_capacity;
    }
    if (wishes->quantum) {
        options.quantum = wishes->quantum;
    }
    if (wishes->idle_timeout_ms) {
        options.idle_timeout_ms = wishes->idle_timeout_ms;
    }
    if (fila_broker_open(&options, &w->broker, &error)) {
        differs("a broker", "%s", error.text);
    }
    w->port = fila_broker_port(w->broker);
    (void)snprintf(w->url, sizeof w->url, "embedded:");
    if (w->port) {
        (void)snprintf(w->url, sizeof w->url, "grpc://127.0.0.1:%u", w->port);
    }
}

static void open_process(struct world *w)
{
    char why[256] = "";
    char more[200];
    bool up = false;
    const struct wishes *wishes = &w->row->wishes;
    (void)snprintf(
        more, sizeof more,
        "[scheduler]\ncommand_channel_capacity = %u\nquantum = %u\nidle_timeout_ms = %u\n",
        wishes->command_capacity ? wishes->command_capacity : 10000,
        wishes->quantum ? wishes->quantum : 1000,
        wishes->idle_timeout_ms ? wishes->idle_timeout_ms : 100);
    for (int i = 0; i < 3 && !up; i++) { /* the free port may be lost to another program */
        up = w->target == TARGET_SERVER ? real_server_start(&w->server, more, why, sizeof why)
                                        : real_server_start_worker(
                                              &w->server, getenv("FILA_WORKER"),
                                              w->row->flags & ROW_DATA, why, sizeof why);
    }
    if (!up) {
        differs("a broker's process", "%s", why);
    }
    w->port = w->server.port;
    (void)snprintf(w->url, sizeof w->url, "%s", w->server.url);
}

void world_open(struct world *w, enum target target, const struct row *row)
{
    *w = (struct world){.target = target, .row = row, .q = row->id};
    if (target == TARGET_SERVER || row->flags & ROW_PROCESS) {
        open_process(w);
    } else {
        open_here(w);
    }
    w->client = world_client(w, NULL, 0);
}

fila_client *world_client(struct world *w, const char *api_key, uint32_t receive_limit)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_client *client = NULL;
    fila_error error;
    options.url = w->url;
    options.api_key = api_key;
    options.call_timeout_ms = SOON;
    options.broker = w->target == TARGET_EMBEDDED ? w->broker : NULL;
    if (receive_limit) {
        options.receive_limit = receive_limit;
    }
    if (fila_client_open(&options, &client, &error)) {
        differs("a client", "%s", error.text);
    }
    return client;
}

struct raw_client *world_raw(struct world *w)
{
    return raw_open_port(w->port);
}

/* ---- Closing ---- */

void world_tidy(struct world *w)
{
    while (w->stream_count) {
        fila_consumer_free(w->streams[--w->stream_count]);
    }
    if (w->broker) {
        fila_broker_clear_faults(w->broker);
    }
}

void world_close(struct world *w)
{
    fila_client_free(w->client);
    fila_broker_free(w->broker);
    if (!w->broker) {
        real_server_stop(&w->server);
    }
    if (w->path[0]) {
        (void)unlink(w->path);
    }
}

/* ---- Its process ---- */

void process_signal(struct world *w, int number)
{
    (void)kill(w->server.pid, number);
}

int process_wait(struct world *w, int ms)
{
    return real_server_wait(&w->server, ms);
}

void process_restart(struct world *w)
{
    char why[256] = "";
    if (!real_server_restart(&w->server, why, sizeof why)) {
        differs("the broker starts again on its data", "%s", why);
    }
}
