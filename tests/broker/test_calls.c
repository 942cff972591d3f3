/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Every row of contract A2 that a single node without API keys can show, through fb_call: the code,
 * and the text where clients see a given one.
 */
#include "base/error.h"
#include "service_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>

#define UNKNOWN_ID "01890a5d-ac96-774b-bcce-b302099a8057"

struct row {
    const char *name;
    fila_request request;
    fila_status status;
    int wire_code;
    const char *text; /* NULL: any but none */
};

#define ENQUEUE(q)                                                   \
    {                                                                \
        .call = FILA_CALL_ENQUEUE, .as.enqueue = {.queue = VIEW(q) } \
    }
#define SETTLE(c, q, id)                                                      \
    {                                                                         \
        .call = (c), .as.settle = {.queue = VIEW(q), .message_id = VIEW(id) } \
    }
#define CREATE(n, vt)                                        \
    {                                                        \
        .call = FILA_CALL_CREATE_QUEUE, .as.create_queue = { \
            .name = VIEW(n),                                 \
            .visibility_timeout_ms = (vt)                    \
        }                                                    \
    }
#define ON_QUEUE(c, q)                               \
    {                                                \
        .call = (c), .as.queue = {.queue = VIEW(q) } \
    }
#define CONFIG(c, k, v)                                               \
    {                                                                 \
        .call = (c), .as.config = {.key = VIEW(k), .value = VIEW(v) } \
    }
#define REDRIVE(q)                                                       \
    {                                                                    \
        .call = FILA_CALL_REDRIVE, .as.redrive = {.dlq_queue = VIEW(q) } \
    }

#define NO_QUEUE    FILA_INVALID_ARGUMENT, 3, "the queue name is empty"
#define NO_LEASE(q) FILA_MESSAGE_NOT_FOUND, 5, "message " UNKNOWN_ID " has no lease in queue " q

static const struct row ROWS[] = {
    {"enqueue: no queue", ENQUEUE(""), NO_QUEUE},
    {"enqueue: missing queue", ENQUEUE("none"), FILA_QUEUE_NOT_FOUND, 5, "none"},
    {"enqueue: empty payload", ENQUEUE("q"), FILA_OK, 0, ""},

    {"ack: no queue", SETTLE(FILA_CALL_ACK, "", ""), NO_QUEUE},
    {"ack: no id", SETTLE(FILA_CALL_ACK, "q", ""), FILA_INVALID_ARGUMENT, 3,
     "the message id is empty"},
    {"ack: no UUID", SETTLE(FILA_CALL_ACK, "q", "x"), FILA_INVALID_ARGUMENT, 3,
     "the message id is no UUID"},
    {"ack: no lease", SETTLE(FILA_CALL_ACK, "q", UNKNOWN_ID), NO_LEASE("q")},
    {"ack: missing queue", SETTLE(FILA_CALL_ACK, "none", UNKNOWN_ID), NO_LEASE("none")},
    {"nack: no queue", SETTLE(FILA_CALL_NACK, "", ""), NO_QUEUE},
    {"nack: no id", SETTLE(FILA_CALL_NACK, "q", ""), FILA_INVALID_ARGUMENT, 3,
     "the message id is empty"},
    {"nack: no UUID", SETTLE(FILA_CALL_NACK, "q", "x"), FILA_INVALID_ARGUMENT, 3,
     "the message id is no UUID"},
    {"nack: no lease", SETTLE(FILA_CALL_NACK, "q", UNKNOWN_ID), NO_LEASE("q")},

    {"create: no name, before the timeout", CREATE("", 1), NO_QUEUE},
    {"create: timeout 1 ms", CREATE("new", 1), FILA_INVALID_ARGUMENT, 3, NULL},
    {"create: timeout 999 ms, before existence", CREATE("q", 999), FILA_INVALID_ARGUMENT, 3, NULL},
    {"create: exists", CREATE("q", 0), FILA_QUEUE_EXISTS, 6, "q"},
    {"create: exists as a DLQ", CREATE("q.dlq", 0), FILA_QUEUE_EXISTS, 6, "q.dlq"},
    {"create: default timeout", CREATE("new", 0), FILA_OK, 0, ""},
    {"create: least timeout", CREATE("new1", 1000), FILA_OK, 0, ""},
    {"create: 2^53 ms", CREATE("new2", UINT64_C(1) << 53), FILA_OK, 0, ""},
    {"create: any ms", CREATE("new3", UINT64_MAX), FILA_OK, 0, ""},
    {"create: odd names", CREATE("a/b\nc \xc3\xa9", 0), FILA_OK, 0, ""},

    {"delete: no queue", ON_QUEUE(FILA_CALL_DELETE_QUEUE, ""), NO_QUEUE},
    {"delete: missing", ON_QUEUE(FILA_CALL_DELETE_QUEUE, "none"), FILA_QUEUE_NOT_FOUND, 5, "none"},
    {"stats: no queue", ON_QUEUE(FILA_CALL_GET_STATS, ""), NO_QUEUE},
    {"stats: missing", ON_QUEUE(FILA_CALL_GET_STATS, "none"), FILA_QUEUE_NOT_FOUND, 5, "none"},
    {"stats", ON_QUEUE(FILA_CALL_GET_STATS, "q"), FILA_OK, 0, ""},

    {"set: no key", CONFIG(FILA_CALL_SET_CONFIG, "", "v"), FILA_INVALID_ARGUMENT, 3,
     "the config key is empty"},
    {"set: bad throttle", CONFIG(FILA_CALL_SET_CONFIG, "throttle.x", "fast"), FILA_INVALID_ARGUMENT,
     3, NULL},
    {"set", CONFIG(FILA_CALL_SET_CONFIG, "k", "v"), FILA_OK, 0, ""},
    {"get: no key", CONFIG(FILA_CALL_GET_CONFIG, "", ""), FILA_INVALID_ARGUMENT, 3,
     "the config key is empty"},
    {"get: a missing key is fine", CONFIG(FILA_CALL_GET_CONFIG, "none", ""), FILA_OK, 0, ""},
    {"list: no prefix is fine", CONFIG(FILA_CALL_LIST_CONFIG, "", ""), FILA_OK, 0, ""},

    {"redrive: no queue", REDRIVE(""), NO_QUEUE},
    {"redrive: missing", REDRIVE("none.dlq"), FILA_QUEUE_NOT_FOUND, 5, "none.dlq"},
    {"redrive: missing comes before the name", REDRIVE("none"), FILA_QUEUE_NOT_FOUND, 5, "none"},
    {"redrive: no DLQ", REDRIVE("q"), FILA_INVALID_ARGUMENT, 3, "q"},
    {"redrive: no parent", REDRIVE("alone.dlq"), FILA_PARENT_NOT_FOUND, 9, "alone"},
    {"redrive", REDRIVE("q.dlq"), FILA_OK, 0, ""},

    {"list queues", {.call = FILA_CALL_LIST_QUEUES}, FILA_OK, 0, ""},
    {"consume is no unary call", ON_QUEUE(FILA_CALL_CONSUME, "q"), FILA_UNIMPLEMENTED, 12, NULL},
    {"create key: as an older server",
     {.call = FILA_CALL_CREATE_API_KEY},
     FILA_UNIMPLEMENTED,
     12,
     NULL},
    {"list keys: as an older server",
     {.call = FILA_CALL_LIST_API_KEYS},
     FILA_UNIMPLEMENTED,
     12,
     NULL},
    {"set ACL: as an older server", {.call = FILA_CALL_SET_ACL}, FILA_UNIMPLEMENTED, 12, NULL},
    {"a call that does not exist", {.call = (fila_call)99}, FILA_INVALID_ARGUMENT, 3, NULL},
};

Test(A2, each_row)
{
    fila_broker *broker = broker_open(100, 100);
    must_create(broker, "q", 0);
    must_create(broker, "alone.dlq", 0);
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        const struct row *row = &ROWS[i];
        fila_error error;
        cr_expect(eq(int, ask_call(broker, &row->request, &error), row->status), "%s", row->name);
        cr_expect(eq(int, error.wire_code, row->wire_code), "%s: %s", row->name, error.text);
        if (row->text) {
            cr_expect(eq(str, error.text, (char *)(uintptr_t)row->text), "%s", row->name);
        } else {
            cr_expect(ne(chr, error.text[0], '\0'), "%s", row->name);
        }
    }
    fila_broker_free(broker);
}

/* ---- Lengths ---- */

static fila_status call_with(fila_broker *broker, fila_call call, size_t key, size_t value)
{
    char *bytes = malloc(70000);
    fila_request request = {.call = call};
    fila_error error;
    fila_status status;
    memset(bytes, 'k', 70000);
    switch (call) {
    case FILA_CALL_ENQUEUE:
        request.as.enqueue.queue = (fila_view){bytes, key};
        break;
    case FILA_CALL_CREATE_QUEUE:
        request.as.create_queue.name = (fila_view){bytes, key};
        break;
    default:
        request.as.config.key = (fila_view){bytes, key};
        request.as.config.value = (fila_view){bytes, value};
        break;
    }
    status = ask_call(broker, &request, &error);
    cr_expect(lt(sz, strlen(error.text), FILA_ERROR_TEXT));
    free(bytes);
    return status;
}

Test(A2, lengths)
{
    static const struct {
        fila_call call;
        size_t key;
        size_t value;
        fila_status status;
    } rows[] = {
        {FILA_CALL_SET_CONFIG, 256, 1024, FILA_OK},
        {FILA_CALL_SET_CONFIG, 257, 1, FILA_INVALID_ARGUMENT},
        {FILA_CALL_SET_CONFIG, 1, 1025, FILA_INVALID_ARGUMENT},
        {FILA_CALL_GET_CONFIG, 256, 0, FILA_OK},
        {FILA_CALL_GET_CONFIG, 257, 0, FILA_INVALID_ARGUMENT},
        {FILA_CALL_LIST_CONFIG, 256, 0, FILA_OK},
        {FILA_CALL_LIST_CONFIG, 257, 0, FILA_INVALID_ARGUMENT},
        {FILA_CALL_CREATE_QUEUE, 1000, 0, FILA_OK},
        {FILA_CALL_ENQUEUE, 1000, 0, FILA_OK},
        {FILA_CALL_CREATE_QUEUE, 65535, 0, FILA_OK},
        {FILA_CALL_ENQUEUE, 65535, 0, FILA_OK},
        {FILA_CALL_CREATE_QUEUE, 65536, 0, FILA_INVALID_ARGUMENT}, /* would stop a real server */
        {FILA_CALL_ENQUEUE, 65536, 0, FILA_INVALID_ARGUMENT},
        {FILA_CALL_ENQUEUE, 2000, 0, FILA_QUEUE_NOT_FOUND}, /* its text is cut */
    };

    fila_broker *broker = broker_open(100, 100);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect(
            eq(int, call_with(broker, rows[i].call, rows[i].key, rows[i].value), rows[i].status),
            "%s %zu %zu", fila_call_name(rows[i].call), rows[i].key, rows[i].value);
    }
    fila_broker_free(broker);
}

Test(A2, a_long_name_is_cut_at_a_character)
{
    fila_broker *broker = broker_open(100, 100);
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    char name[301] = "x";
    fila_error error;
    for (size_t i = 1; i + 1 < sizeof name; i += 2) {
        memcpy(name + i, "\xc3\xa9", 2);
    }
    request.as.enqueue.queue = (fila_view){name, 299};
    cr_expect(eq(int, ask_call(broker, &request, &error), FILA_QUEUE_NOT_FOUND));
    cr_expect(eq(sz, strlen(error.text), 255));
    cr_expect(eq(int, memcmp(error.text, name, 255), 0));
    request.as.enqueue.queue.data = name + 1;
    request.as.enqueue.queue.len = 298;
    cr_expect(eq(int, ask_call(broker, &request, &error), FILA_QUEUE_NOT_FOUND));
    cr_expect(eq(sz, strlen(error.text), 254), "no half character");
    fila_broker_free(broker);
}

Test(A2, consume_checks_the_name_alone)
{
    static const struct fb_consumer_events events = {NULL};
    fila_broker *broker = broker_open(100, 100);
    struct fb_consumer *consumer = NULL;
    char *bytes = calloc(1, 65536);
    fila_view name = {bytes, 65536};
    fila_error error;
    cr_expect(
        eq(int, fb_consumer_open(broker, fila_view_of(""), &events, NULL, &consumer, &error),
           FILA_INVALID_ARGUMENT));
    cr_expect(eq(int, error.wire_code, 3));
    cr_expect(
        eq(int, fb_consumer_open(broker, name, &events, NULL, &consumer, &error),
           FILA_INVALID_ARGUMENT));
    cr_expect(
        eq(int, fb_consumer_open(broker, fila_view_of("none"), &events, NULL, &consumer, &error),
           FILA_OK));
    fb_consumer_close(consumer);
    fila_broker_free(broker);
    free(bytes);
}

/* ---- Replies ---- */

Test(C, replies_carry_what_was_asked)
{
    fila_broker *broker = broker_open(100, 100);
    fila_request create = {.call = FILA_CALL_CREATE_QUEUE, .as.create_queue = {.name = VIEW("q")}};
    fila_request set = CONFIG(FILA_CALL_SET_CONFIG, "k", "value");
    fila_request get = CONFIG(FILA_CALL_GET_CONFIG, "k", "");
    fila_request enqueue = ENQUEUE("q");
    struct ask ask;
    ask_start(&ask, broker, &create);
    cr_assert(ask_wait(&ask, 1000) && ask.reply);
    cr_expect(eq(sz, ask.reply->as.create_queue.queue_id.len, 1), "the id is the name");
    ask_free(&ask);
    ask_start(&ask, broker, &set);
    ask_free(&ask);
    ask_start(&ask, broker, &get);
    cr_assert(ask.done && ask.reply);
    cr_expect(eq(sz, ask.reply->as.get_config.value.len, 5));
    ask_free(&ask);
    ask_start(&ask, broker, &enqueue);
    cr_assert(ask.done && ask.reply, "a call is answered inline");
    cr_expect(eq(sz, ask.reply->as.enqueue.message_id.len, 36));
    ask_free(&ask);
    fila_broker_free(broker);
}

/* ---- Opening ---- */

Test(open, options_are_checked)
{
    static const struct {
        size_t size; /* 0 = as it is */
        uint32_t quantum;
        uint32_t idle_timeout_ms;
        uint32_t command_capacity;
        const char *text;
    } rows[] = {
        {1, 1, 1, 1, NULL},
        {0, 0, 100, 10000, "quantum is 0: must be at least 1"},
        {0, 1, 0, 10000, "idle_timeout_ms is 0: must be at least 1"},
        {0, 1, 100, 0, "command_capacity is 0: must be at least 1"},
        {sizeof(fila_broker_options) + 8, 1, 1, 1, NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
        fila_broker *broker;
        fila_error error;
        options.size = rows[i].size ? rows[i].size : options.size;
        options.quantum = rows[i].quantum;
        options.idle_timeout_ms = rows[i].idle_timeout_ms;
        options.command_capacity = rows[i].command_capacity;
        cr_expect(eq(int, fila_broker_open(&options, &broker, &error), FILA_INVALID_ARGUMENT));
        if (rows[i].text) {
            cr_expect(eq(str, error.text, (char *)(uintptr_t)rows[i].text));
        }
    }
}

Test(open, defaults_do)
{
    fila_broker *broker;
    fila_error error;
    cr_assert(eq(int, fila_broker_open(NULL, &broker, &error), FILA_OK));
    cr_expect(eq(int, fila_broker_port(broker), 0));
    fila_broker_close(broker);
    fila_broker_close(broker);
    fila_broker_free(broker);
    fila_broker_free(NULL);
}

Test(open, options_of_a_program_that_knows_no_path)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker;
    fila_error error;
    options.size = offsetof(fila_broker_options, path);
    options.path = "/proc/not/looked/at";
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK), "%s", error.text);
    fila_broker_free(broker);
}

Test(open, an_address_that_cannot_be_listened_on)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker;
    fila_error error;
    options.listen = "192.0.2.1:1";
    cr_expect(eq(int, fila_broker_open(&options, &broker, &error), FILA_BROKER_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(error.text, "192.0.2.1:1"), NULL), "%s", error.text);
}

Test(open, the_port_is_told)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker;
    fila_error error;
    options.listen = "127.0.0.1:0";
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK), "%s", error.text);
    cr_expect(gt(int, fila_broker_port(broker), 0));
    fila_broker_free(broker);
}

Test(open, equal_seeds_give_equal_ids)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    char tails[2][20];
    options.seed = 42;
    for (int i = 0; i < 2; i++) {
        fila_request enqueue = ENQUEUE("q");
        fila_broker *broker;
        fila_error error;
        struct ask ask;
        cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK));
        must_create(broker, "q", 0);
        ask_start(&ask, broker, &enqueue);
        (void)snprintf(
            tails[i], sizeof tails[i], "%.17s", ask.reply->as.enqueue.message_id.data + 19);
        ask_free(&ask);
        fila_broker_free(broker);
    }
    cr_expect(eq(str, tails[0], tails[1]), "apart from their time");
}
