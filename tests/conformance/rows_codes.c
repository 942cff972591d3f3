/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Contract A2: the status of each call, in the order of its checks, and the texts. The rows of one
 * broker share what prepare() makes: the queue "kept" with its DLQ, and "orphan.dlq" without
 * parent.
 */
#include "conformance/conformance.h"

#include <stdlib.h>

#define NO_LEASE "01890a5d-ac96-774b-bcce-b302099a8057"

struct code {
    fila_request request;
    int code;
    const char *text; /* NULL: any */
};

static void prepare(struct world *w)
{
    static const char *const queues[] = {"kept", "orphan.dlq"};
    for (size_t i = 0; i < sizeof queues / sizeof queues[0]; i++) {
        fila_request request = {
            .call = FILA_CALL_CREATE_QUEUE, .as.create_queue.name = fila_view_of(queues[i])};
        struct answer answer = ask(w, &request);
        if (answer.code != 0 && answer.code != 6) {
            differs("CreateQueue: 0 or 6", "%d %s", answer.code, answer.text);
        }
        answer_free(&answer);
    }
}

static void check_code(struct world *w)
{
    const struct code *expected = w->row->data;
    prepare(w);
    expect_answer(w, &expected->request, expected->code, expected->text);
}

/* A refused Consume ends its stream with the status. */
static void check_consume(struct world *w)
{
    fila_error error = FILA_ERROR_INIT;
    fila_message *message = NULL;
    fila_consumer *stream = NULL;
    fila_status status =
        fila_consumer_open(w->client, fila_view_of(""), NULL, NULL, &stream, &error);
    if (status == FILA_OK) {
        status = fila_consumer_next(stream, SOON, &message, &error);
        fila_consumer_free(stream);
    }
    if (status == FILA_OK || error.wire_code != 3) {
        differs("Consume of \"\": 3", "%d %s", error.wire_code, error.text);
    }
}

static const struct code ENQUEUE_EMPTY = {{.call = FILA_CALL_ENQUEUE}, 3, NULL};
static const struct code ENQUEUE_MISSING = {
    {.call = FILA_CALL_ENQUEUE, .as.enqueue.queue = VIEW("none")},
    5,
    "none"};
static const struct code ENQUEUE_OK = {
    {.call = FILA_CALL_ENQUEUE, .as.enqueue.queue = VIEW("kept")},
    0,
    NULL};

#define SETTLE(CALL, QUEUE, ID)                                          \
    {                                                                    \
        .call = (CALL), .as.settle = { VIEW(QUEUE), VIEW(ID), VIEW("") } \
    }
#define SETTLE_CODES(NAME, CALL)                                                          \
    static const struct code NAME##_EMPTY = {SETTLE(CALL, "", NO_LEASE), 3, NULL};        \
    static const struct code NAME##_EMPTY_BOTH = {SETTLE(CALL, "", ""), 3, NULL};         \
    static const struct code NAME##_NO_ID = {SETTLE(CALL, "kept", ""), 3, NULL};          \
    static const struct code NAME##_NO_UUID = {SETTLE(CALL, "kept", "42"), 3, NULL};      \
    static const struct code NAME##_UUID_FIRST = {SETTLE(CALL, "none", "42"), 3, NULL};   \
    static const struct code NAME##_NO_LEASE = {SETTLE(CALL, "kept", NO_LEASE), 5, NULL}; \
    static const struct code NAME##_NO_QUEUE = {SETTLE(CALL, "none", NO_LEASE), 5, NULL}
SETTLE_CODES(ACK, FILA_CALL_ACK);
SETTLE_CODES(NACK, FILA_CALL_NACK);

#define CREATE(NAME, VT)                                     \
    {                                                        \
        .call = FILA_CALL_CREATE_QUEUE, .as.create_queue = { \
            .name = VIEW(NAME),                              \
            .visibility_timeout_ms = (VT)                    \
        }                                                    \
    }
static const struct code CREATE_EMPTY = {CREATE("", 0), 3, NULL};
static const struct code CREATE_VT_1 = {CREATE("vt-1", 1), 3, NULL};
static const struct code CREATE_VT_999 = {CREATE("vt-999", 999), 3, NULL};
static const struct code CREATE_VT_1000 = {CREATE("vt-1000", 1000), 0, NULL};
static const struct code CREATE_VT_0 = {CREATE("vt-0", 0), 0, NULL};
static const struct code CREATE_VT_BIG = {CREATE("vt-big", UINT64_C(1) << 53), 0, NULL};
static const struct code CREATE_EXISTS = {CREATE("kept", 0), 6, "kept"};
static const struct code CREATE_EXISTS_VT = {CREATE("kept", 999), 3, NULL};
static const struct code CREATE_DLQ_EXISTS = {CREATE("kept.dlq", 0), 6, "kept.dlq"};

#define QUEUE_CALL(CALL, QUEUE)                       \
    {                                                 \
        .call = (CALL), .as.queue.queue = VIEW(QUEUE) \
    }
static const struct code DELETE_EMPTY = {QUEUE_CALL(FILA_CALL_DELETE_QUEUE, ""), 3, NULL};
static const struct code DELETE_MISSING = {QUEUE_CALL(FILA_CALL_DELETE_QUEUE, "none"), 5, "none"};
static const struct code STATS_EMPTY = {QUEUE_CALL(FILA_CALL_GET_STATS, ""), 3, NULL};
static const struct code STATS_MISSING = {QUEUE_CALL(FILA_CALL_GET_STATS, "none"), 5, "none"};
static const struct code STATS_OK = {QUEUE_CALL(FILA_CALL_GET_STATS, "kept"), 0, NULL};

#define REDRIVE(QUEUE)                                                 \
    {                                                                  \
        .call = FILA_CALL_REDRIVE, .as.redrive.dlq_queue = VIEW(QUEUE) \
    }
static const struct code REDRIVE_EMPTY = {REDRIVE(""), 3, NULL};
static const struct code REDRIVE_MISSING = {REDRIVE("none.dlq"), 5, "none.dlq"};
static const struct code REDRIVE_MISSING_FIRST = {REDRIVE("none"), 5, "none"};
static const struct code REDRIVE_NO_DLQ = {REDRIVE("kept"), 3, "kept"};
static const struct code REDRIVE_ORPHAN = {REDRIVE("orphan.dlq"), 9, "orphan"};
static const struct code REDRIVE_OK = {REDRIVE("kept.dlq"), 0, NULL};

static const struct code LIST_QUEUES_OK = {{.call = FILA_CALL_LIST_QUEUES}, 0, NULL};

/* ---- Lengths of keys and values ---- */

struct length {
    fila_call call;
    size_t key;
    size_t value;
    int code;
};

static void check_length(struct world *w)
{
    const struct length *row = w->row->data;
    char *text = malloc(row->key + row->value + 1);
    if (!text) {
        abort();
    }
    memset(text, 'k', row->key + row->value);
    fila_request request = {
        .call = row->call, .as.config = {{text, row->key}, {text + row->key, row->value}}};
    expect_answer(w, &request, row->code, NULL);
    free(text);
}

#define LENGTH(NAME, CALL, KEY, VALUE, CODE) \
    static const struct length NAME = {(CALL), (KEY), (VALUE), (CODE)}
LENGTH(SET_EMPTY, FILA_CALL_SET_CONFIG, 0, 1, 3);
LENGTH(SET_256, FILA_CALL_SET_CONFIG, 256, 1, 0);
LENGTH(SET_257, FILA_CALL_SET_CONFIG, 257, 1, 3);
LENGTH(SET_1024, FILA_CALL_SET_CONFIG, 200, 1024, 0);
LENGTH(SET_1025, FILA_CALL_SET_CONFIG, 200, 1025, 3);
LENGTH(GET_EMPTY, FILA_CALL_GET_CONFIG, 0, 0, 3);
LENGTH(GET_256, FILA_CALL_GET_CONFIG, 256, 0, 0);
LENGTH(GET_257, FILA_CALL_GET_CONFIG, 257, 0, 3);
LENGTH(LIST_EMPTY, FILA_CALL_LIST_CONFIG, 0, 0, 0);
LENGTH(LIST_256, FILA_CALL_LIST_CONFIG, 256, 0, 0);
LENGTH(LIST_257, FILA_CALL_LIST_CONFIG, 257, 0, 3);

static void get_missing_key(struct world *w)
{
    fila_request request = {.call = FILA_CALL_GET_CONFIG, .as.config.key = VIEW("no.such.key")};
    struct answer answer = ask(w, &request);
    if (answer.code) {
        differs("GetConfig of a missing key: 0 and \"\"", "%d %s", answer.code, answer.text);
    }
    expect_view("the value of a missing key", answer.reply->as.get_config.value, "");
    answer_free(&answer);
}

/* ---- Throttles ---- */

static void bad_throttles(struct world *w)
{
    static const char *const values[] = {"x",    "1",     "1,",    ",1",    "1,2,3", "-1,1",
                                         "1,-1", "nan,1", "1,nan", "inf,1", "1,inf", "1;1"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        fila_request request = {
            .call = FILA_CALL_SET_CONFIG,
            .as.config = {VIEW("throttle.bad"), fila_view_of(values[i])}};
        struct answer answer = ask(w, &request);
        if (answer.code != 3) {
            differs("a bad throttle: 3", "%d for \"%s\"", answer.code, values[i]);
        }
        answer_free(&answer);
    }
}

static void good_throttles(struct world *w)
{
    static const char *const values[] = {"1,1", " 2.5 , 1e3 ", "0,0", "10,0.5", ""};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        set_config(w, "throttle.good", values[i]);
    }
}

/* ---- Texts ---- */

static void settle_text(struct world *w)
{
    static const fila_request calls[] = {
        SETTLE(FILA_CALL_ACK, "kept", NO_LEASE), SETTLE(FILA_CALL_NACK, "kept", NO_LEASE)};
    prepare(w);
    for (size_t i = 0; i < 2; i++) {
        struct answer answer = ask(w, &calls[i]);
        if (!strstr(answer.text, NO_LEASE) || !strstr(answer.text, "kept")) {
            differs("a sentence with message id and queue", "%d %s", answer.code, answer.text);
        }
        answer_free(&answer);
    }
}

/* ---- Overload ---- */

struct tally {
    _Atomic int ok;
    _Atomic int refused;
    _Atomic int other;
    _Atomic int done;
};

static void count_answer(void *user, const fila_reply *reply, const fila_error *error)
{
    struct tally *tally = user;
    (void)reply;
    (void)(error ? error->wire_code == 8 ? tally->refused++ : tally->other++ : tally->ok++);
    tally->done++;
}

static void flood(struct world *w, struct tally *tally, int count)
{
    fila_request request = {
        .call = FILA_CALL_ENQUEUE, .as.enqueue.queue = fila_view_of(w->q), .timeout_ms = SOON};
    for (int i = 0; i < count; i++) {
        fila_error error;
        if (fila_call_start(w->client, &request, count_answer, tally, &error)) {
            differs("a started call", "%s", error.text);
        }
    }
}

static void wait_done(struct tally *tally, int count)
{
    int64_t give_up = fila_now() + 2 * SOON * FILA_MS;
    while (tally->done < count) {
        if (fila_now() > give_up) {
            differs("an answer to each call", "%d of %d", tally->done, count);
        }
        rest(5);
    }
}

static void overload(struct world *w)
{
    struct tally tally = {0};
    create(w, NULL, 0);
    flood(w, &tally, 200);
    wait_done(&tally, 200);
    expect_number("answers that are neither 0 nor 8", tally.other, 0);
    expect_between("calls that were served", tally.ok, 1, 200);
    expect_number("depth", (int64_t)stats(w, NULL).depth, tally.ok);
}

/* While one call waits for its answer, a broker with room for one refuses the others, unseen. */
static void overload_scripted(struct world *w)
{
    struct tally slow = {0};
    struct tally fast = {0};
    fila_fault fault = {
        .size = sizeof fault,
        .kind = FILA_FAULT_DELAY,
        .call = FILA_CALL_ENQUEUE,
        .nth = 1,
        .count = 1,
        .delay_ms = 3000};
    fila_error error;
    create(w, NULL, 0);
    if (fila_broker_add_fault(w->broker, &fault, &error)) {
        differs("a fault", "%s", error.text);
    }
    flood(w, &slow, 1);
    rest(200);
    flood(w, &fast, 20);
    wait_done(&fast, 20);
    expect_number("refused with 8", fast.refused, 20);
    wait_done(&slow, 1);
    expect_number("the slow one", slow.ok, 1);
    expect_number("depth", (int64_t)stats(w, NULL).depth, 1);
}

/* ---- API keys ---- */

#define KEYS_LATER "API keys and ACLs: an issue of their own; this broker answers 12 as v0.1.0 does"

static void keys_are_unknown(struct world *w)
{
    static const fila_call calls[] = {
        FILA_CALL_CREATE_API_KEY, FILA_CALL_REVOKE_API_KEY, FILA_CALL_LIST_API_KEYS,
        FILA_CALL_SET_ACL, FILA_CALL_GET_ACL};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        fila_request request = {.call = calls[i]};
        struct answer answer = ask(w, &request);
        int code = answer.code;
        answer_free(&answer);
        if (w->target == TARGET_SERVER && code != 12) {
            return; /* a server of the later era has them; codes: with API keys */
        }
        expect_number(fila_call_name(calls[i]), code, 12);
    }
}

#define CODE(ID, WHAT, DATA)                                       \
    {                                                              \
        .id = ID, .what = WHAT, .run = check_code, .data = &(DATA) \
    }
#define BYTES(ID, WHAT, DATA)                                        \
    {                                                                \
        .id = ID, .what = WHAT, .run = check_length, .data = &(DATA) \
    }
#define UNSEEN(ID, WHY)         \
    {                           \
        .id = ID, .unseen = WHY \
    }

static const struct row ROWS[] = {
    UNSEEN("A2.all.auth", KEYS_LATER),
    {.id = "A2.all.capacity", .see = "A2.overload.scripted"},
    UNSEEN(
        "A2.all.gone",
        "a scheduler that died inside (13, then 14): the embedded broker has none that can"),
    CODE("A2.Enqueue.empty-queue", "3", ENQUEUE_EMPTY),
    CODE("A2.Enqueue.missing-queue", "5, the queue's name", ENQUEUE_MISSING),
    CODE("A2.Enqueue.ok", "0", ENQUEUE_OK),
    UNSEEN("A2.Enqueue.storage", "needs a storage failure: 13; the store's own tests make them"),
    {.id = "A2.Consume.empty-queue", .what = "3", .run = check_consume},
    {.id = "A2.Consume.missing-queue", .see = "A4.4.missing-queue"},
    CODE("A2.Ack.empty-queue", "3", ACK_EMPTY),
    CODE("A2.Ack.empty-queue-and-id", "3", ACK_EMPTY_BOTH),
    CODE("A2.Ack.empty-id", "3", ACK_NO_ID),
    CODE("A2.Ack.no-uuid", "3", ACK_NO_UUID),
    CODE("A2.Ack.no-uuid-in-missing-queue", "3: the id is looked at first", ACK_UUID_FIRST),
    CODE("A2.Ack.no-lease", "5", ACK_NO_LEASE),
    CODE("A2.Ack.missing-queue", "5", ACK_NO_QUEUE),
    UNSEEN(
        "A2.Ack.corrupt-lease",
        "needs a damaged record: 13; this broker has no such record apart from the message"),
    CODE("A2.Nack.empty-queue", "3", NACK_EMPTY),
    CODE("A2.Nack.empty-queue-and-id", "3", NACK_EMPTY_BOTH),
    CODE("A2.Nack.empty-id", "3", NACK_NO_ID),
    CODE("A2.Nack.no-uuid", "3", NACK_NO_UUID),
    CODE("A2.Nack.no-uuid-in-missing-queue", "3: the id is looked at first", NACK_UUID_FIRST),
    CODE("A2.Nack.no-lease", "5", NACK_NO_LEASE),
    CODE("A2.Nack.missing-queue", "5", NACK_NO_QUEUE),
    UNSEEN(
        "A2.Nack.message-gone",
        "needs a message lost under a live lease, which this broker cannot lose apart"),
    CODE("A2.CreateQueue.empty-name", "3", CREATE_EMPTY),
    CODE("A2.CreateQueue.timeout-1", "3", CREATE_VT_1),
    CODE("A2.CreateQueue.timeout-999", "3", CREATE_VT_999),
    CODE("A2.CreateQueue.timeout-1000", "0", CREATE_VT_1000),
    CODE("A2.CreateQueue.timeout-0", "0: the default", CREATE_VT_0),
    CODE("A2.CreateQueue.timeout-2^53", "0: no maximum", CREATE_VT_BIG),
    CODE("A2.CreateQueue.exists", "6, the queue's name", CREATE_EXISTS),
    CODE(
        "A2.CreateQueue.exists-timeout-999",
        "3: the timeout is looked at first",
        CREATE_EXISTS_VT),
    CODE("A2.CreateQueue.auto-dlq", "6: it was made with its parent", CREATE_DLQ_EXISTS),
    CODE("A2.DeleteQueue.empty-queue", "3", DELETE_EMPTY),
    CODE("A2.DeleteQueue.missing", "5, the queue's name", DELETE_MISSING),
    BYTES("A2.SetConfig.empty-key", "3", SET_EMPTY),
    BYTES("A2.SetConfig.key-256", "0", SET_256),
    BYTES("A2.SetConfig.key-257", "3", SET_257),
    BYTES("A2.SetConfig.value-1024", "0", SET_1024),
    BYTES("A2.SetConfig.value-1025", "3", SET_1025),
    {.id = "A2.SetConfig.bad-throttle", .what = "3", .run = bad_throttles},
    {.id = "A2.SetConfig.good-throttle", .what = "0", .run = good_throttles},
    BYTES("A2.GetConfig.empty-key", "3", GET_EMPTY),
    BYTES("A2.GetConfig.key-256", "0", GET_256),
    BYTES("A2.GetConfig.key-257", "3", GET_257),
    {.id = "A2.GetConfig.missing", .what = "0 and \"\"", .run = get_missing_key},
    BYTES("A2.ListConfig.empty-prefix", "0", LIST_EMPTY),
    BYTES("A2.ListConfig.prefix-256", "0", LIST_256),
    BYTES("A2.ListConfig.prefix-257", "3", LIST_257),
    CODE("A2.GetStats.empty-queue", "3", STATS_EMPTY),
    CODE("A2.GetStats.missing", "5, the queue's name", STATS_MISSING),
    CODE("A2.GetStats.ok", "0", STATS_OK),
    CODE("A2.Redrive.empty-queue", "3", REDRIVE_EMPTY),
    CODE("A2.Redrive.missing", "5, the given name", REDRIVE_MISSING),
    CODE("A2.Redrive.missing-and-no-dlq", "5: existence is looked at first", REDRIVE_MISSING_FIRST),
    CODE("A2.Redrive.no-dlq", "3, the given name", REDRIVE_NO_DLQ),
    CODE("A2.Redrive.no-parent", "9, the parent's name", REDRIVE_ORPHAN),
    CODE("A2.Redrive.ok", "0", REDRIVE_OK),
    CODE("A2.ListQueues.ok", "0", LIST_QUEUES_OK),
    {.id = "A2.CreateApiKey", .what = "12 from a server without API keys", .run = keys_are_unknown},
    {.id = "A2.RevokeApiKey", .see = "A2.CreateApiKey"},
    {.id = "A2.GetAcl", .see = "A2.CreateApiKey"},
    {.id = "A2.SetAcl", .see = "A2.CreateApiKey"},
    UNSEEN("A2.cluster", "a single node has no cluster errors"),
    {.id = "A2.texts.names", .see = "A2.Enqueue.missing-queue"},
    {.id = "A2.texts.parent", .see = "A2.Redrive.no-parent"},
    {.id = "A2.texts.settle", .what = "a sentence with id and queue", .run = settle_text},
    {.id = "A2.overload.flood",
     .what = "200 calls at a broker with room for one: 0 or 8",
     .run = overload,
     .wishes = {.command_capacity = 1}},
    {.id = "A2.overload.scripted",
     .what = "what finds no room is refused with 8, unseen",
     .run = overload_scripted,
     .flags = ROW_FAULT,
     .wishes = {.command_capacity = 1}},
};

const struct rows ROWS_CODES = {ROWS, sizeof ROWS / sizeof ROWS[0]};
