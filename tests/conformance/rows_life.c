/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The life of a message: contract B1 to B11, B15 to B17. Rows that wait for leases have a broker of
 * their own, because any command postpones what they wait for (B5).
 */
#include "conformance/conformance.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    VT = 1000 /* ms: the shortest there is */
};

/* ---- B1: ids ---- */

static void id_format(struct world *w)
{
    char id[FILA_ID_SIZE];
    char hex[16] = "";
    create(w, NULL, 0);
    int64_t before = fila_wall_ms();
    enqueue(w, NULL, "x", id);
    int64_t after = fila_wall_ms();
    expect_number("length of an id", (int64_t)strlen(id), 36);
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? id[i] != '-' : !isdigit((unsigned char)id[i]) && (id[i] < 'a' || id[i] > 'f')) {
            differs("a lower-case hyphenated UUID", "%s", id);
        }
    }
    if (id[14] != '7' || !strchr("89ab", id[19])) {
        differs("version 7, variant 1", "%s", id);
    }
    (void)snprintf(hex, sizeof hex, "%.8s%.4s", id, id + 9);
    expect_between("its time", (int64_t)strtoull(hex, NULL, 16), before, after);
}

/* Acks the next message by its id in another form. */
static void ack_as(
    struct world *w,
    fila_consumer *stream,
    const char *form,
    bool upper,
    bool dashes)
{
    char id[FILA_ID_SIZE];
    char plain[FILA_ID_SIZE];
    char text[100];
    size_t len = 0;
    enqueue(w, NULL, "x", NULL);
    expect_next(stream, "x", 0, id);
    for (const char *c = id; *c; c++) {
        if (dashes || *c != '-') {
            plain[len++] = (char)(upper ? toupper((unsigned char)*c) : *c);
        }
    }
    plain[len] = '\0';
    (void)snprintf(text, sizeof text, "%s%s%s", form, plain, form[0] == '{' ? "}" : "");
    expect_ack(w, NULL, fila_view_of(text), 0);
}

static void id_forms(struct world *w)
{
    create(w, NULL, 0);
    fila_consumer *stream = open_stream(w, NULL);
    ack_as(w, stream, "", false, false);
    ack_as(w, stream, "", true, true);
    ack_as(w, stream, "{", true, true);
    ack_as(w, stream, "urn:uuid:", false, true);
}

/* ---- B2: states ---- */

static void expect_stats(struct world *w, const char *queue, uint64_t depth, uint64_t in_flight)
{
    fila_queue_stats now = stats(w, queue);
    expect_number("depth", (int64_t)now.depth, (int64_t)depth);
    expect_number("in_flight", (int64_t)now.in_flight, (int64_t)in_flight);
}

static void states(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, 0);
    enqueue(w, NULL, "x", NULL);
    expect_stats(w, NULL, 1, 0);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "x", 0, id);
    expect_stats(w, NULL, 1, 1);
    expect_nack(w, NULL, fila_view_of(id), 0);
    expect_next(stream, "x", 1, id);
    close_stream(w, stream);
    expect_nack(w, NULL, fila_view_of(id), 0);
    int64_t give_up = fila_now() + SOON * FILA_MS; /* the stream's end may come behind the nack */
    while (stats(w, NULL).active_consumers && fila_now() < give_up) {
        rest(20);
    }
    expect_number("depth after a nack", (int64_t)stats(w, NULL).depth, 1);
    stream = open_stream(w, NULL);
    if (stats(w, NULL).in_flight == 0) {
        expect_next(stream, "x", 2, id);
    }
    (void)ack(w, NULL, fila_view_of(id));
    expect_stats(w, NULL, 0, 0);
}

/* ---- B3: durability ---- */

static void expect_throttle(struct world *w, const char *name, double rate, double burst)
{
    struct answer answer =
        ask(w, &(fila_request){.call = FILA_CALL_GET_STATS, .as.queue.queue = fila_view_of(w->q)});
    bool found = false;
    expect_number("GetStats", answer.code, 0);
    for (size_t i = 0; i < answer.reply->as.stats.throttle_count; i++) {
        const fila_throttle_stats *at = &answer.reply->as.stats.throttles[i];
        found |= at->key.len == strlen(name) && !memcmp(at->key.data, name, at->key.len) &&
                 at->rate_per_second == rate && at->burst == burst;
    }
    expect_number("the throttle is there", found, 1);
    answer_free(&answer);
}

static void durable(struct world *w, int signal_number, bool clean)
{
    char acked[FILA_ID_SIZE];
    char leased[FILA_ID_SIZE];
    char expired[FILA_ID_SIZE];
    create(w, NULL, 4000);
    create(w, named(w, "-short"), 1000);
    set_config(w, "kept.key", "kept");
    set_config(w, "throttle.kept", "1,2");
    enqueue(w, NULL, "acked", NULL);
    enqueue(w, NULL, "leased", NULL);
    enqueue(w, named(w, "-short"), "expired", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "acked", 0, acked);
    expect_next(stream, "leased", 0, leased);
    int64_t leased_at = fila_now();
    expect_next(open_stream(w, named(w, "-short")), "expired", 0, expired);
    expect_ack(w, NULL, fila_view_of(acked), 0);
    world_tidy(w);
    while (stats(w, NULL).active_consumers) {
        rest(10);
    }
    enqueue(w, NULL, "pending", NULL);
    process_signal(w, signal_number);
    int status = process_wait(w, SOON);
    if (clean) {
        expect_number("exit status", status, 0);
    }
    rest(1200);
    process_restart(w);
    fila_client_free(w->client);
    w->client = world_client(w, NULL, 0);
    struct answer answer =
        ask(w, &(fila_request){.call = FILA_CALL_GET_CONFIG, .as.config.key = VIEW("kept.key")});
    expect_number("GetConfig", answer.code, 0);
    expect_view("a setting", answer.reply->as.get_config.value, "kept");
    answer_free(&answer);
    expect_throttle(w, "kept", 1, 2);
    stream = open_stream(w, NULL);
    fila_consumer *other = open_stream(w, named(w, "-short"));
    expect_next(other, "expired", 1, NULL);
    expect_next(stream, "pending", 0, NULL);
    expect_ack(w, NULL, fila_view_of(acked), 5);
    expect_next(stream, "leased", 1, NULL);
    expect_between(
        "ms from lease to redelivery", (fila_now() - leased_at) / FILA_MS, 3900, 4000 + SOON);
}

static void durable_kill(struct world *w)
{
    durable(w, SIGKILL, false);
}

static void durable_term(struct world *w)
{
    durable(w, SIGTERM, true);
}

/* ---- B4, B5: leases and their end ---- */

static void lease_length(struct world *w)
{
    create(w, NULL, VT);
    fila_consumer *stream = open_stream(w, NULL);
    enqueue(w, NULL, "x", NULL);
    /* The lease may begin before the enqueue's answer is here. */
    int64_t from = fila_now();
    expect_next(stream, "x", 0, NULL);
    expect_next(stream, "x", 1, NULL);
    expect_between(
        "ms from lease to redelivery", (fila_now() - from) / FILA_MS, VT - 200, VT + SOON);
}

static void expiry_goes_to_the_tail(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, VT);
    enqueue(w, NULL, "first", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "first", 0, id);
    close_stream(w, stream);
    while (stats(w, NULL).active_consumers) {
        rest(10);
    }
    enqueue(w, NULL, "second", NULL);
    rest(VT + 500);
    stream = open_stream(w, NULL);
    expect_next(stream, "second", 0, NULL);
    expect_next(stream, "first", 1, NULL);
}

/* Commands on another queue, one each 30 ms, for `ms`: the broker's idle timeout is a second here,
 * so that a busy machine leaves no gap of that length. */
static void traffic(struct world *w, int ms)
{
    int64_t until = fila_now() + ms * FILA_MS;
    while (fila_now() < until) {
        (void)stats(w, named(w, "-other"));
        rest(30);
    }
}

static void traffic_postpones(struct world *w)
{
    create(w, named(w, "-other"), 0);
    create(w, NULL, VT);
    fila_consumer *stream = open_stream(w, NULL);
    enqueue(w, NULL, "x", NULL);
    expect_next(stream, "x", 0, NULL);
    traffic(w, 3 * VT);
    fila_message *message = next_within(stream, 0);
    if (message) {
        differs(
            "no expiry while commands come", "the message at attempt %u",
            fila_message_attempt_count(message));
    }
    expect_next(stream, "x", 1, NULL); /* now it is idle */
}

/* ---- B6, B7: attempts and nacks ---- */

static void attempts(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, VT);
    enqueue(w, NULL, "x", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "x", 0, id);
    expect_nack(w, NULL, fila_view_of(id), 0);
    expect_next(stream, "x", 1, id);
    expect_next(stream, "x", 2, id); /* after its timeout */
    close_stream(w, stream);
    expect_nack(w, NULL, fila_view_of(id), 0);
    expect_next(open_stream(w, NULL), "x", 3, NULL);
}

static void nack_loop(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, 0);
    enqueue(w, NULL, "x", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    for (uint32_t attempt = 0; attempt < 200; attempt++) {
        expect_next(stream, "x", attempt, id);
        expect_nack(w, NULL, fila_view_of(id), 0);
    }
}

static void nack_goes_to_the_tail(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, 0);
    enqueue(w, NULL, "first", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "first", 0, id);
    close_stream(w, stream);
    while (stats(w, NULL).active_consumers) {
        rest(10);
    }
    enqueue(w, NULL, "second", NULL);
    expect_nack(w, NULL, fila_view_of(id), 0);
    stream = open_stream(w, NULL);
    expect_next(stream, "second", 0, NULL);
    expect_next(stream, "first", 1, NULL);
}

/* ---- B10: order ---- */

static void first_in_first_out(struct world *w)
{
    char payload[16];
    create(w, NULL, 0);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        enqueue(w, NULL, payload, NULL);
    }
    fila_consumer *stream = open_stream(w, NULL);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        expect_next(stream, payload, 0, NULL);
    }
}

static void order_after_a_restart(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, NULL, 30000);
    enqueue(w, NULL, "old", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "old", 0, id);
    close_stream(w, stream);
    while (stats(w, NULL).active_consumers) {
        rest(10);
    }
    enqueue(w, NULL, "new", NULL);
    expect_nack(w, NULL, fila_view_of(id), 0);
    process_signal(w, SIGKILL);
    (void)process_wait(w, SOON);
    process_restart(w);
    fila_client_free(w->client);
    w->client = world_client(w, NULL, 0);
    stream = open_stream(w, NULL);
    expect_next(stream, "old", 1, NULL);
    expect_next(stream, "new", 0, NULL);
}

/* ---- B11: no fencing ---- */

static void anyone_may_ack(struct world *w)
{
    char id[FILA_ID_SIZE];
    fila_client *other = world_client(w, NULL, 0);
    fila_error error = FILA_ERROR_INIT;
    create(w, NULL, 0);
    enqueue(w, NULL, "1", NULL);
    enqueue(w, NULL, "2", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "1", 0, id);
    expect_number(
        "an ack of another client", fila_ack(other, fila_view_of(w->q), fila_view_of(id), &error),
        0);
    expect_next(stream, "2", 0, id);
    close_stream(w, stream);
    expect_ack(w, NULL, fila_view_of(id), 0);
    fila_client_free(other);
}

static void not_found(struct world *w)
{
    char pending[FILA_ID_SIZE];
    char id[FILA_ID_SIZE];
    create(w, NULL, 0);
    create(w, named(w, "-other"), 0);
    enqueue(w, named(w, "-other"), "never leased", pending);
    expect_ack(w, named(w, "-other"), fila_view_of(pending), 5);
    expect_nack(w, named(w, "-other"), fila_view_of(pending), 5);
    enqueue(w, NULL, "x", NULL);
    expect_next(open_stream(w, NULL), "x", 0, id);
    expect_ack(w, named(w, "-other"), fila_view_of(id), 5);
    expect_nack(w, named(w, "-other"), fila_view_of(id), 5);
    expect_ack(w, NULL, fila_view_of(id), 0);
    expect_ack(w, NULL, fila_view_of(id), 5);
    expect_nack(w, NULL, fila_view_of(id), 5);
}

static void expired_unreclaimed(struct world *w)
{
    char id[FILA_ID_SIZE];
    create(w, named(w, "-other"), 0);
    create(w, NULL, VT);
    enqueue(w, NULL, "x", NULL);
    expect_next(open_stream(w, NULL), "x", 0, id);
    traffic(w, VT + 500);
    expect_number("in_flight", (int64_t)stats(w, NULL).in_flight, 1);
    expect_ack(w, NULL, fila_view_of(id), 0);
}

/* Leases the message to a stream that is then closed, and waits until it has expired. */
static void let_expire(struct world *w, char id[FILA_ID_SIZE])
{
    create(w, NULL, VT);
    enqueue(w, NULL, "x", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "x", 0, id);
    close_stream(w, stream);
    rest(VT + 500);
}

static void reclaimed(struct world *w)
{
    char id[FILA_ID_SIZE];
    let_expire(w, id);
    expect_ack(w, NULL, fila_view_of(id), 5);
    expect_nack(w, NULL, fila_view_of(id), 5);
}

static void old_ack_deletes(struct world *w)
{
    char id[FILA_ID_SIZE];
    let_expire(w, id);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "x", 1, NULL);
    expect_ack(w, NULL, fila_view_of(id), 0); /* by the old holder */
    expect_ack(w, NULL, fila_view_of(id), 5); /* by the new one */
    expect_quiet(stream, VT + 500);
}

static void old_nack_hands_out(struct world *w)
{
    char id[FILA_ID_SIZE];
    let_expire(w, id);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "x", 1, NULL);
    expect_nack(w, NULL, fila_view_of(id), 0);
    expect_next(stream, "x", 2, NULL);
}

/* ---- B17 ---- */

static void retried_enqueue(struct world *w)
{
    char first[FILA_ID_SIZE];
    char second[FILA_ID_SIZE];
    create(w, NULL, 0);
    enqueue(w, NULL, "x", first);
    enqueue(w, NULL, "x", second);
    expect_number("equal ids", strcmp(first, second) == 0, 0);
    expect_number("depth", (int64_t)stats(w, NULL).depth, 2);
}

static void lost_reply(struct world *w)
{
    fila_fault fault = {
        .size = sizeof fault,
        .kind = FILA_FAULT_LOSE_REPLY,
        .call = FILA_CALL_ENQUEUE,
        .queue = w->q,
        .nth = 1,
        .count = 1,
        .wire_code = 14};
    fila_request request = {.call = FILA_CALL_ENQUEUE, .as.enqueue.queue = fila_view_of(w->q)};
    fila_error error;
    create(w, NULL, 0);
    if (fila_broker_add_fault(w->broker, &fault, &error)) {
        differs("a fault", "%s", error.text);
    }
    expect_answer(w, &request, 14, NULL);
    expect_answer(w, &request, 0, NULL);
    expect_number("depth", (int64_t)stats(w, NULL).depth, 2);
}

#define UNSEEN(ID, WHY)         \
    {                           \
        .id = ID, .unseen = WHY \
    }
#define SLOW                    \
    {                           \
        .idle_timeout_ms = 1000 \
    }

static const struct row ROWS[] = {
    {.id = "B1.format", .what = "a lower-case UUIDv7 of the enqueue's time", .run = id_format},
    {.id = "B1.forms", .what = "any form of an id settles", .run = id_forms},
    {.id = "B2", .what = "pending, leased, deleted", .run = states},
    {.id = "B3.kill",
     .what = "what kill -9 leaves",
     .run = durable_kill,
     .flags = ROW_PROCESS | ROW_DATA},
    {.id = "B3.term",
     .what = "what a clean stop leaves",
     .run = durable_term,
     .flags = ROW_PROCESS | ROW_DATA},
    {.id = "B4.length",
     .what = "a lease lasts the queue's timeout",
     .run = lease_length,
     .flags = ROW_OWN},
    {.id = "B4.least", .see = "A2.CreateQueue.timeout-999"},
    UNSEEN("B4.default", "30 s: broker_lifecycle shows it on the engine's clock"),
    {.id = "B5.idle", .see = "B4.length"},
    {.id = "B5.tail",
     .what = "an expired message goes to the tail, attempt + 1",
     .run = expiry_goes_to_the_tail,
     .flags = ROW_OWN},
    {.id = "B5.traffic",
     .what = "commands postpone expiry",
     .run = traffic_postpones,
     .wishes = SLOW},
    {.id = "B6",
     .what = "attempts count nacks and expiries, not deliveries",
     .run = attempts,
     .flags = ROW_OWN},
    {.id = "B7.loop", .what = "a nack redelivers at once, for ever", .run = nack_loop},
    {.id = "B7.tail", .what = "behind what is pending", .run = nack_goes_to_the_tail},
    {.id = "B8.default", .see = "A4.2"},
    {.id = "B9.values", .see = "C.config.throttle"},
    {.id = "B10.fifo", .what = "first in, first out", .run = first_in_first_out},
    {.id = "B10.restart",
     .what = "after a restart by the time of enqueue",
     .run = order_after_a_restart,
     .flags = ROW_PROCESS | ROW_DATA},
    {.id = "B11.anyone",
     .what = "any client may ack, also after the stream is gone",
     .run = anyone_may_ack},
    {.id = "B11.not-found", .what = "never leased, wrong queue, settled before", .run = not_found},
    {.id = "B11.expired",
     .what = "expired and not taken back: 0",
     .run = expired_unreclaimed,
     .wishes = SLOW},
    {.id = "B11.reclaimed",
     .what = "taken back and pending: 5",
     .run = reclaimed,
     .flags = ROW_OWN},
    {.id = "B11.old-ack",
     .what = "an old ack deletes under the new holder",
     .run = old_ack_deletes,
     .flags = ROW_OWN},
    {.id = "B11.old-nack",
     .what = "an old nack hands it out once more",
     .run = old_nack_hands_out,
     .flags = ROW_OWN},
    {.id = "B15", .see = "A4.2"},
    UNSEEN("B16", "the binary protocol's batches"),
    {.id = "B17.retry", .what = "no deduplication", .run = retried_enqueue},
    {.id = "B17.lost-reply",
     .what = "an enqueue whose answer is lost is in",
     .run = lost_reply,
     .flags = ROW_FAULT},
};

const struct rows ROWS_LIFE = {ROWS, sizeof ROWS / sizeof ROWS[0]};
