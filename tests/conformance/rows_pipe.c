/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What is leased when (contract A5), several consumers and their ends (A6).
 */
#include "conformance/conformance.h"
#include "server/h2_socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Puts in `count` messages of `size` bytes, each begun by its number; fewer than the broker holds
 * answers for. */
struct filling {
    _Atomic int done;
    _Atomic int failed;
};

static void on_filled(void *user, const fila_reply *reply, const fila_error *error)
{
    struct filling *filling = user;
    (void)reply;
    filling->failed += error != NULL;
    filling->done++;
}

static void fill(struct world *w, int count, size_t size)
{
    struct filling filling = {0};
    char *payload = calloc(1, size + 16);
    if (!payload) {
        abort();
    }
    for (int i = 0; i < count; i++) {
        fila_request request = {
            .call = FILA_CALL_ENQUEUE,
            .timeout_ms = 4 * SOON,
            .as.enqueue = {.queue = fila_view_of(w->q), .payload = {payload, size}}};
        fila_error error;
        int digits = snprintf(payload, 16, "%d", i);
        payload[digits] = ' ';
        if (fila_call_start(w->client, &request, on_filled, &filling, &error)) {
            differs("a started Enqueue", "%s", error.text);
        }
    }
    while (filling.done < count) {
        rest(5);
    }
    free(payload);
    expect_number("failed Enqueues", filling.failed, 0);
}

static int number_of(const fila_message *message)
{
    fila_view payload = fila_message_payload(message); /* not terminated */
    int number = 0;
    for (size_t i = 0; i < payload.len && payload.data[i] >= '0' && payload.data[i] <= '9'; i++) {
        number = number * 10 + (payload.data[i] - '0');
    }
    return number;
}

/* The number in flight once it has not grown for a second; the broker is idle in between. */
static int64_t settled_in_flight(struct world *w)
{
    int64_t last = -1;
    int64_t now = (int64_t)stats(w, NULL).in_flight;
    for (int same = 0; same < 3; same = now == last ? same + 1 : 0) {
        rest(300);
        last = now;
        now = (int64_t)stats(w, NULL).in_flight;
    }
    return now;
}

static void cancel(struct raw_call *call)
{
    raw_cancel(call);
    struct raw_end end = raw_finish(call);
    raw_end_free(&end);
}

/* ---- A5 ---- */

static void lease_first(struct world *w)
{
    create(w, NULL, 0);
    enqueue(w, NULL, "unread", NULL);
    (void)open_stream(w, NULL); /* never read */
    wait_in_flight(w, NULL, 1);
}

static void pipe_of_a_stalled_stream(struct world *w)
{
    create(w, NULL, 0);
    fill(w, 400, 10);
    (void)open_stream(w, NULL);
    expect_between("leased to a stream that never reads", settled_in_flight(w), 129, 400);
}

/* What the contract's table calls: window, payload, and the range that was seen. */
struct unread {
    int window; /* 0: gRPC's own, which grows */
    int messages;
    size_t payload;
    int64_t least;
    int64_t most;
};

static void unread(struct world *w)
{
    const struct unread *row = w->row->data;
    struct raw_client *client = raw_open_window(w->port, row->window);
    create(w, NULL, 0);
    fill(w, row->messages, row->payload);
    struct raw_call *call = raw_consume(client, w->q);
    fila_message *message = raw_next(call, SOON, NULL); /* one is read */
    if (!message) {
        differs("a message", "none");
    }
    fila_message_free(message);
    expect_between("leased and unread", settled_in_flight(w) - 1, row->least, row->most);
    cancel(call);
    raw_close(client);
}

static const struct unread SMALL_100 = {16384, 600, 100, 190, 320};
static const struct unread SMALL_1K = {16384, 400, 1024, 130, 165};
static const struct unread SMALL_64K = {16384, 200, 65536, 129, 135};
static const struct unread TINY_100 = {1024, 400, 100, 130, 190};
static const struct unread TINY_64K = {1024, 200, 65536, 129, 135};
static const struct unread DEFAULT_1K = {0, 6000, 1024, 3400, 5000};

static void acks_beside_a_stalled_stream(struct world *w)
{
    struct raw_client *client = world_raw(w);
    create(w, NULL, 0);
    fill(w, 2000, 1024);
    struct raw_call *stalled = raw_consume(client, w->q);
    if (!raw_headers(stalled, SOON)) {
        differs("response headers", "none");
    }
    for (int i = 0; i < 50; i++) {
        fila_request request = {
            .call = FILA_CALL_ENQUEUE, .as.enqueue.queue = fila_view_of(w->q), .timeout_ms = SOON};
        struct raw_end end = raw_request(client, &request);
        expect_number("a call beside a stalled stream", end.code, 0);
        raw_end_free(&end);
    }
    cancel(stalled);
    raw_close(client);
}

/* A reader that pauses for longer than the leases gets copies of what it holds already, and the ack
 * of a stale copy counts. */
static void stale_copies(struct world *w)
{
    enum {
        MESSAGES = 60
    };

    int seen[MESSAGES] = {0};
    uint32_t attempts = 0;
    int deliveries = 0;
    char first[FILA_ID_SIZE] = "";
    create(w, NULL, 1000);
    fill(w, MESSAGES, 10);
    fila_consumer *stream = open_stream(w, NULL);
    fila_message *message = next(stream);
    (void)snprintf(
        first, sizeof first, "%.*s", (int)fila_message_id(message).len,
        fila_message_id(message).data);
    fila_message_free(message);
    rest(1800);
    while ((message = next_within(stream, QUIET))) {
        deliveries++;
        seen[number_of(message) % MESSAGES]++;
        attempts |= 1u << fila_message_attempt_count(message);
        fila_message_free(message);
    }
    expect_between(
        "deliveries of 60 messages, a copy of each at least", deliveries, 2 * MESSAGES - 2,
        20 * MESSAGES);
    expect_number("attempts 0 and 1 among them", attempts & 3, 3);
    for (int i = 1; i < MESSAGES; i++) {
        expect_between("copies of one message", seen[i], 2, 20);
    }
    expect_ack(w, NULL, fila_view_of(first), 0);
}

static void order_behind_a_full_stream(struct world *w)
{
    enum {
        MESSAGES = 300
    };

    char payload[16];
    create(w, NULL, 600000); /* no lease ends on a machine that takes long for the enqueues */
    fila_consumer *stream = open_stream(w, NULL);
    for (int i = 0; i < MESSAGES; i++) { /* one by one: calls at once arrive in any order */
        (void)snprintf(payload, sizeof payload, "%d", i);
        enqueue(w, NULL, payload, NULL);
    }
    for (int i = 0; i < MESSAGES; i++) {
        fila_message *message = next(stream);
        expect_number("the next message", number_of(message), i);
        fila_message_free(message);
    }
}

/* ---- A6 ---- */

static void equal_shares(struct world *w)
{
    fila_consumer *streams[3];
    create(w, NULL, 0);
    for (int i = 0; i < 3; i++) {
        streams[i] = open_stream(w, NULL);
    }
    while (stats(w, NULL).active_consumers < 3) {
        rest(20);
    }
    fill(w, 30, 10);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 10; j++) {
            fila_message_free(next(streams[i]));
        }
        expect_quiet(streams[i], 50);
    }
}

static void a_share_waits_for_the_slow(struct world *w)
{
    fila_consumer *fast;
    int count = 0;
    fila_message *message;
    create(w, NULL, 0);
    fast = open_stream(w, NULL);
    (void)open_stream(w, NULL); /* reads nothing */
    while (stats(w, NULL).active_consumers < 2) {
        rest(20);
    }
    fill(w, 100, 10);
    while ((message = next_within(fast, QUIET))) {
        expect_ack(w, NULL, fila_message_id(message), 0);
        fila_message_free(message);
        count++;
    }
    expect_number("messages of 100 that the fast stream got", count, 50);
    expect_number("in flight at the slow one", (int64_t)stats(w, NULL).in_flight, 50);
}

static void late_stream(struct world *w)
{
    create(w, NULL, 0);
    fill(w, 100, 10);
    fila_consumer *early = open_stream(w, NULL);
    wait_in_flight(w, NULL, 100);
    fila_consumer *late = open_stream(w, NULL);
    expect_quiet(late, QUIET);
    fila_message_free(next(early));
}

static void disconnect(struct world *w)
{
    create(w, NULL, 1000);
    fill(w, 20, 10);
    fila_consumer *stream = open_stream(w, NULL);
    fila_message_free(next(stream));
    wait_in_flight(w, NULL, 20);
    close_stream(w, stream);
    int64_t give_up = fila_now() + SOON * FILA_MS;
    while (stats(w, NULL).active_consumers) {
        if (fila_now() > give_up) {
            differs("active_consumers drops", "it does not");
        }
        rest(20);
    }
    expect_number("in flight after the end of the stream", (int64_t)stats(w, NULL).in_flight, 20);
    stream = open_stream(w, NULL);
    for (int i = 0; i < 20; i++) {
        fila_message *message = next(stream);
        expect_number("attempt_count", fila_message_attempt_count(message), 1);
        fila_message_free(message);
    }
}

/* Each quick stream takes a pipe full away for a visibility timeout. */
static void quick_cycles(struct world *w)
{
    struct raw_client *client = raw_open_window(w->port, 16384);
    create(w, NULL, 0);
    fill(w, 2500, 1024);
    for (int i = 0; i < 10; i++) {
        struct raw_call *call = raw_consume(client, w->q);
        fila_message *message = raw_next(call, SOON, NULL);
        if (!message) {
            differs("a message", "none");
        }
        fila_message_free(message);
        cancel(call);
    }
    expect_between("stranded by 10 quick streams", settled_in_flight(w), 281, 1700);
    raw_close(client);
}

/* A peer that is gone without a word stays a consumer: it answers nothing here, not even pings. */
static void half_open(struct world *w)
{
    char body[64];
    create(w, NULL, 0);
    int fd = h2_connect(w->port);
    int len = snprintf(body, sizeof body, "\x0a%c%s", (char)strlen(w->q), w->q);
    if (!h2_request(fd, 1, "/fila.v1.FilaService/Consume", body, (size_t)len)) {
        differs("a request is taken", "not");
    }
    while (stats(w, NULL).active_consumers < 1) {
        rest(20);
    }
    rest(1500);
    expect_number("active_consumers", stats(w, NULL).active_consumers, 1);
    (void)close(fd);
}

#define UNSEEN(ID, WHY)         \
    {                           \
        .id = ID, .unseen = WHY \
    }
#define UNREAD(ID, WHAT, DATA)                                                              \
    {                                                                                       \
        .id = ID, .what = WHAT, .run = unread, .data = &(DATA), .flags = ROW_WIRE | ROW_OWN \
    }

static const struct row ROWS[] = {
    {.id = "A5.lease-first", .what = "a message is leased before it is read", .run = lease_first},
    {.id = "A5.pipe",
     .what = "a stalled stream holds at least 129",
     .run = pipe_of_a_stalled_stream,
     .flags = ROW_OWN},
    UNREAD("A5.unread.1-KiB", "3,940-3,970 at a default window", DEFAULT_1K),
    UNREAD("A5.small-window.100-B", "190-320 at 16 KiB", SMALL_100),
    UNREAD("A5.small-window.1-KiB", "140-165 at 16 KiB", SMALL_1K),
    UNREAD("A5.small-window.64-KiB", "130 at 16 KiB", SMALL_64K),
    UNREAD("A5.small-window.1-KiB-and-100-B", "134-174 at 1 KiB", TINY_100),
    UNREAD("A5.small-window.1-KiB-and-64-KiB", "130 at 1 KiB", TINY_64K),
    {.id = "A5.unary",
     .what = "a stalled stream does not hold up calls",
     .run = acks_beside_a_stalled_stream,
     .flags = ROW_WIRE},
    {.id = "A5.stale",
     .what = "stale copies on the same stream; their acks count",
     .run = stale_copies,
     .flags = ROW_OWN},
    {.id = "A5.full",
     .what = "order holds behind a full stream",
     .run = order_behind_a_full_stream},
    UNSEEN("A5.no-credit", "there is no field to ask for less with"),
    {.id = "A6.rotation.equal", .what = "three streams get a third each", .run = equal_shares},
    {.id = "A6.rotation.slow",
     .what = "a slow stream's half waits for it",
     .run = a_share_waits_for_the_slow},
    {.id = "A6.rotation.late",
     .what = "a stream behind the first gets nothing of the backlog",
     .run = late_stream},
    {.id = "A6.disconnect.leases",
     .what = "leases stay, and come back after the timeout",
     .run = disconnect,
     .flags = ROW_OWN},
    {.id = "A6.disconnect.cycles",
     .what = "281-535 stranded by ten quick cycles",
     .run = quick_cycles,
     .flags = ROW_WIRE | ROW_OWN},
    UNSEEN(
        "A6.unregister",
        "a race of the server's inside: a full command channel at the moment of a disconnect"),
    {.id = "A6.half-open",
     .what = "a silent peer stays counted, unasked",
     .run = half_open,
     .flags = ROW_WIRE | ROW_OWN},
};

const struct rows ROWS_PIPE = {ROWS, sizeof ROWS / sizeof ROWS[0]};
