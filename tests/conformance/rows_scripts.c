/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What queue scripts decide: contract B7 to B9, B13, and what C says of them.
 */
#include "conformance/conformance.h"

#include <stdio.h>
#include <stdlib.h>

static struct answer create_scripted(
    struct world *w,
    const char *queue,
    const char *on_enqueue,
    const char *on_failure,
    uint64_t visibility_timeout_ms)
{
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue = {
            .name = fila_view_of(queue ? queue : w->q),
            .on_enqueue_script = fila_view_of(on_enqueue),
            .on_failure_script = fila_view_of(on_failure),
            .visibility_timeout_ms = visibility_timeout_ms}};
    return ask(w, &request);
}

static void must_create(
    struct world *w,
    const char *on_enqueue,
    const char *on_failure,
    uint64_t visibility_timeout_ms)
{
    struct answer answer = create_scripted(w, NULL, on_enqueue, on_failure, visibility_timeout_ms);
    if (answer.code) {
        differs("CreateQueue with scripts: 0", "%d %s", answer.code, answer.text);
    }
    answer_free(&answer);
}

static void enqueue_with(struct world *w, const char *key, const char *value, const char *payload)
{
    fila_header header = {fila_view_of(key), fila_view_of(value)};
    fila_error error = FILA_ERROR_INIT;
    if (fila_enqueue(
            w->client, fila_view_of(w->q), &header, 1, fila_view_of(payload), NULL, &error)) {
        differs("Enqueue: 0", "%d %s", error.wire_code, error.text);
    }
}

static void expect_plan(
    const fila_message *message,
    const char *key,
    uint32_t weight,
    const char *throttles)
{
    char got[200] = "";
    size_t len = 0;
    size_t cursor = 0;
    fila_view throttle;
    while (fila_message_next_throttle_key(message, &cursor, &throttle)) {
        len += (size_t)snprintf(
            got + len, sizeof got - len, "%s%.*s", len ? "," : "", (int)throttle.len,
            throttle.data);
    }
    expect_view("fairness_key", fila_message_fairness_key(message), key);
    expect_number("weight", fila_message_weight(message), weight);
    expect_view("throttle_keys", fila_view_of(got), throttles);
}

/* ---- A2 and C: scripts at creation ---- */

static void expect_create(struct world *w, const char *on_enqueue, const char *on_failure, int code)
{
    struct answer answer = create_scripted(w, NULL, on_enqueue, on_failure, 0);
    expect_number("the code of CreateQueue", answer.code, code);
    answer_free(&answer);
}

static void syntax_of_on_enqueue(struct world *w)
{
    expect_create(w, "function on_enqueue(", "", 3);
}

static void syntax_of_on_failure(struct world *w)
{
    expect_create(w, "", "return return", 3);
}

static void exists_before_syntax(struct world *w)
{
    create(w, NULL, 0);
    expect_create(w, "function on_enqueue(", "", 6);
}

static void only_syntax_is_checked(struct world *w)
{
    expect_create(w, "error('run at creation')", "error('run at creation')", 0);
}

/* A server keeps the on_enqueue that it had compiled before on_failure failed. */
static void left_over_script(struct world *w)
{
    expect_create(w, "function on_enqueue(msg) return {fairness_key = 'left'} end", "x x", 3);
    expect_create(w, "", "", 0);
    enqueue(w, NULL, "x", NULL);
    fila_message *message = next(open_stream(w, NULL));
    expect_view("fairness_key", fila_message_fairness_key(message), "left");
    fila_message_free(message);
}

static void settings_in_scripts(struct world *w)
{
    must_create(
        w,
        "function on_enqueue(msg) local v = fila.get('row.script') "
        "return {fairness_key = v == nil and 'nil' or v} end",
        "", 0);
    fila_consumer *stream = open_stream(w, NULL);
    static const char *const values[] = {"", "one", "two", ""};
    for (size_t i = 0; i < 4; i++) {
        set_config(w, "row.script", values[i]);
        enqueue(w, NULL, "x", NULL);
        fila_message *message = next(stream);
        expect_view(
            "fairness_key", fila_message_fairness_key(message), values[i][0] ? values[i] : "nil");
        fila_message_free(message);
    }
}

/* ---- B8: on_enqueue ---- */

static void plan_of_a_script(struct world *w)
{
    must_create(
        w,
        "function on_enqueue(msg) return {fairness_key = msg.headers.tenant .. msg.payload_size .. "
        "msg.queue, weight = 7, throttle_keys = {'a', 'b'}} end",
        "", 0);
    enqueue_with(w, "tenant", "acme", "hello");
    fila_message *message = next(open_stream(w, NULL));
    char key[100];
    (void)snprintf(key, sizeof key, "acme5%s", w->q);
    expect_plan(message, key, 7, "a,b");
    fila_message_free(message);
}

static void wrong_types(struct world *w)
{
    static const struct {
        const char *result;
        const char *key;
        uint32_t weight;
        const char *throttles;
    } rows[] = {
        {"{fairness_key = {}, weight = 5, throttle_keys = {'t'}}", "default", 5, "t"},
        {"{fairness_key = 'k', weight = 'heavy', throttle_keys = {'t'}}", "k", 1, "t"},
        {"{fairness_key = 'k', weight = 5, throttle_keys = true}", "k", 5, ""},
        {"{}", "default", 1, ""},
        {"42", "default", 1, ""},
        {"nil", "default", 1, ""},
        {"error('no plan')", "default", 1, ""},
        {"{fairness_key = 'k', weight = 0}", "k", 0, ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char script[200];
        char suffix[16];
        (void)snprintf(
            script, sizeof script, "function on_enqueue(msg) return %s end", rows[i].result);
        (void)snprintf(suffix, sizeof suffix, "-%zu", i);
        const char *queue = named(w, suffix);
        struct answer answer = create_scripted(w, queue, script, "", 0);
        expect_number("CreateQueue", answer.code, 0);
        answer_free(&answer);
        enqueue(w, queue, "x", NULL);
        fila_message *message = next(open_stream(w, queue));
        expect_plan(message, rows[i].key, rows[i].weight, rows[i].throttles);
        fila_message_free(message);
    }
}

#define BY_HEADERS                                                                                \
    "function on_enqueue(msg) return {fairness_key = msg.headers.key, weight = (msg.headers.key " \
    "== 'A') and 3 or 1} end"

static void turns_by_weight(struct world *w)
{
    char order[17] = "";
    must_create(w, BY_HEADERS, "", 0);
    for (int i = 0; i < 8; i++) {
        enqueue_with(w, "key", "A", "A");
    }
    for (int i = 0; i < 4; i++) {
        enqueue_with(w, "key", "B", "B");
    }
    fila_consumer *stream = open_stream(w, NULL);
    for (int i = 0; i < 12; i++) {
        fila_message *message = next(stream);
        order[i] = fila_message_payload(message).data[0];
        fila_message_free(message);
    }
    expect_view(
        "the order of 8 A of weight 3 and 4 B of weight 1", fila_view_of(order), "AAABAAABAABB");
}

#define BY_WEIGHT                                                                          \
    "function on_enqueue(msg) return {fairness_key = msg.headers.key:sub(1, 1), weight = " \
    "tonumber(msg.headers.key:sub(2))} end"

static void expect_weight(struct world *w, int64_t weight, uint64_t pending)
{
    struct answer answer =
        ask(w, &(fila_request){.call = FILA_CALL_GET_STATS, .as.queue.queue = fila_view_of(w->q)});
    expect_number("GetStats", answer.code, 0);
    expect_number("keys", (int64_t)answer.reply->as.stats.key_count, 1);
    expect_number("weight", answer.reply->as.stats.keys[0].weight, weight);
    expect_number(
        "pending", (int64_t)answer.reply->as.stats.keys[0].pending_count, (int64_t)pending);
    answer_free(&answer);
}

static void latest_weight(struct world *w)
{
    must_create(w, BY_WEIGHT, "", 0);
    enqueue_with(w, "key", "A3", "first");
    expect_weight(w, 3, 1);
    enqueue_with(w, "key", "A5", "second");
    expect_weight(w, 5, 2);
}

static void weight_0(struct world *w)
{
    char order[7] = "";
    must_create(w, BY_WEIGHT, "", 0);
    for (int i = 0; i < 3; i++) {
        enqueue_with(w, "key", "A0", "A");
    }
    for (int i = 0; i < 3; i++) {
        enqueue_with(w, "key", "B1", "B");
    }
    fila_consumer *stream = open_stream(w, NULL);
    for (int i = 0; i < 6; i++) {
        fila_message *message = next(stream);
        order[i] = fila_message_payload(message).data[0];
        if (order[i] == 'A') {
            expect_number("the weight told", fila_message_weight(message), 0);
        }
        fila_message_free(message);
    }
    expect_view("the order of 3 A of weight 0 and 3 B of weight 1", fila_view_of(order), "ABABAB");
}

/* ---- B9: throttles ---- */

static double tokens(struct world *w, const char *queue, const char *name)
{
    struct answer answer =
        ask(w, &(fila_request){.call = FILA_CALL_GET_STATS, .as.queue.queue = fila_view_of(queue)});
    double found = -1;
    expect_number("GetStats", answer.code, 0);
    for (size_t i = 0; i < answer.reply->as.stats.throttle_count; i++) {
        const fila_throttle_stats *at = &answer.reply->as.stats.throttles[i];
        found = at->key.len == strlen(name) && !memcmp(at->key.data, name, at->key.len) ? at->tokens
                                                                                        : found;
    }
    answer_free(&answer);
    return found;
}

/* Two queues share two buckets that are never filled again, and name one of them twice. */
static void shared_tokens(struct world *w)
{
    static const char script[] =
        "function on_enqueue(msg) return {throttle_keys = {'large', 'small', 'large'}} end";
    char id[FILA_ID_SIZE];
    set_config(w, "throttle.large", "0,9");
    set_config(w, "throttle.small", "0,2");
    must_create(w, script, "", 0);
    fila_request other = {
        .call = FILA_CALL_CREATE_QUEUE,
        .as.create_queue = {
            .name = fila_view_of(named(w, "-other")), .on_enqueue_script = fila_view_of(script)}};
    expect_answer(w, &other, 0, NULL);
    for (int i = 0; i < 2; i++) {
        enqueue(w, NULL, "here", NULL);
    }
    enqueue(w, named(w, "-other"), "there", NULL);
    expect_number("tokens before any delivery", (int64_t)tokens(w, w->q, "large"), 9);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "here", 0, id);
    expect_next(stream, "here", 0, id);
    expect_number("tokens after two", (int64_t)tokens(w, w->q, "large"), 7);
    fila_consumer *far = open_stream(w, named(w, "-other"));
    expect_quiet(far, QUIET);
    expect_number(
        "tokens in the other's stats", (int64_t)tokens(w, named(w, "-other"), "large"), 7);
    set_config(w, "throttle.small", "");
    expect_next(far, "there", 0, id);
    expect_number("tokens after three", (int64_t)tokens(w, w->q, "large"), 6);
    set_config(w, "throttle.large", "");
}

/* "slow" is throttled, "plain" behind it in the same key waits with it, "other" does not. */
static void throttled_front(struct world *w)
{
    set_config(w, "throttle.pace", "2,1");
    must_create(
        w,
        "function on_enqueue(msg) return {fairness_key = msg.headers.key, "
        "throttle_keys = (msg.headers.slow and {'pace'} or {})} end",
        "", 0);
    static const char *const slow[] = {"slow 1", "slow 2", "slow 3"};
    for (int i = 0; i < 3; i++) {
        fila_header headers[] = {{VIEW("key"), VIEW("A")}, {VIEW("slow"), VIEW("1")}};
        fila_error error = FILA_ERROR_INIT;
        if (fila_enqueue(
                w->client, fila_view_of(w->q), headers, 2, fila_view_of(slow[i]), NULL, &error)) {
            differs("Enqueue: 0", "%s", error.text);
        }
    }
    enqueue_with(w, "key", "A", "plain");
    enqueue_with(w, "key", "B", "other");
    fila_consumer *stream = open_stream(w, NULL);
    int64_t from = fila_now();
    fila_message *first = next(stream);
    fila_message *second = next(stream);
    bool in_order = fila_message_payload(first).data[0] == 's';
    expect_view("one of the first two", fila_message_payload(in_order ? first : second), "slow 1");
    expect_view("the other", fila_message_payload(in_order ? second : first), "other");
    fila_message_free(first);
    fila_message_free(second);
    expect_next(stream, "slow 2", 0, NULL);
    expect_between("ms until the second", (fila_now() - from) / FILA_MS, 350, SOON);
    expect_next(stream, "slow 3", 0, NULL);
    expect_between("ms until the third", (fila_now() - from) / FILA_MS, 850, SOON);
    expect_next(stream, "plain", 0, NULL);
}

static void small_burst(struct world *w)
{
    set_config(w, "throttle.never", "100,0.5");
    must_create(
        w, "function on_enqueue(msg) return {throttle_keys = {'never', 'unset'}} end", "", 0);
    enqueue(w, NULL, "x", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_quiet(stream, 700);
    set_config(w, "throttle.never", "100,1");
    expect_next(stream, "x", 0, NULL);
}

/* ---- B7, B13: on_failure ---- */

static void dead_letter(struct world *w)
{
    char id[FILA_ID_SIZE];
    fila_view value = {0};
    must_create(
        w, "function on_enqueue(msg) return {fairness_key = 'key', throttle_keys = {'t'}} end",
        "function on_failure(msg) return {action = msg.attempts >= 3 and 'dlq' or 'retry', "
        "delay_ms = 60000} end",
        0);
    fila_consumer *stream = open_stream(w, NULL);
    fila_consumer *dead = open_stream(w, named(w, ".dlq"));
    enqueue_with(w, "tenant", "acme", "x");
    for (uint32_t attempt = 0; attempt < 3; attempt++) {
        expect_next(stream, "x", attempt, id);
        expect_nack(w, NULL, fila_view_of(id), 0);
    }
    fila_message *message = next(dead);
    expect_view("the dead letter's id", fila_message_id(message), id);
    expect_number("attempt_count", fila_message_attempt_count(message), 3);
    expect_view("queue_id", fila_message_queue(message), named(w, ".dlq"));
    expect_plan(message, "key", 1, "t");
    (void)fila_message_header(message, fila_view_of("tenant"), &value);
    expect_view("its header", value, "acme");
    fila_message_free(message);
    expect_ack(w, NULL, fila_view_of(id), 5);
    expect_ack(w, named(w, ".dlq"), fila_view_of(id), 0);
}

static void what_on_failure_sees(struct world *w)
{
    char id[FILA_ID_SIZE];
    char script[512];
    (void)snprintf(
        script, sizeof script,
        "function on_failure(msg) local good = msg.headers.tenant == 'acme' and #msg.id == 36 and "
        "msg.attempts == 1 and msg.queue == '%s' and msg.error == 'no' "
        "return {action = good and 'dlq' or 'retry'} end",
        w->q);
    must_create(w, "", script, 0);
    fila_consumer *dead = open_stream(w, named(w, ".dlq"));
    enqueue_with(w, "tenant", "acme", "x");
    expect_next(open_stream(w, NULL), "x", 0, id);
    expect_nack(w, NULL, fila_view_of(id), 0);
    expect_next(dead, "x", 1, NULL);
}

static void anything_else_is_a_retry(struct world *w)
{
    static const char *const results[] = {"{}",           "nil",   "{action = 'drop'}",
                                          "{action = 3}", "'dlq'", "error('no')"};
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        char id[FILA_ID_SIZE];
        char script[120];
        char suffix[16];
        (void)snprintf(script, sizeof script, "function on_failure(msg) return %s end", results[i]);
        (void)snprintf(suffix, sizeof suffix, "-%zu", i);
        const char *queue = named(w, suffix);
        struct answer answer = create_scripted(w, queue, "", script, 0);
        expect_number("CreateQueue", answer.code, 0);
        answer_free(&answer);
        enqueue(w, queue, "x", NULL);
        fila_consumer *stream = open_stream(w, queue);
        expect_next(stream, "x", 0, id);
        expect_nack(w, queue, fila_view_of(id), 0);
        expect_next(stream, "x", 1, NULL);
        close_stream(w, stream);
    }
}

#define ALWAYS_DEAD "function on_failure(msg) return {action = 'dlq'} end"

static void without_its_dlq(struct world *w)
{
    char id[FILA_ID_SIZE];
    must_create(w, "", ALWAYS_DEAD, 0);
    delete_queue(w, named(w, ".dlq"));
    enqueue(w, NULL, "x", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "x", 0, id);
    expect_nack(w, NULL, fila_view_of(id), 0);
    expect_next(stream, "x", 1, NULL);
}

static void not_at_expiry(struct world *w)
{
    must_create(w, "", ALWAYS_DEAD, 1000);
    enqueue(w, NULL, "x", NULL);
    fila_consumer *stream = open_stream(w, NULL);
    expect_next(stream, "x", 0, NULL);
    expect_next(stream, "x", 1, NULL);
    expect_number("dead letters", (int64_t)stats(w, named(w, ".dlq")).depth, 0);
}

/* A plain Enqueue to the DLQ does not run its parent's script. */
static void no_script_for_the_dlq(struct world *w)
{
    must_create(w, "function on_enqueue(msg) return {fairness_key = 'parent'} end", "", 0);
    enqueue(w, named(w, ".dlq"), "x", NULL);
    fila_message *message = next(open_stream(w, named(w, ".dlq")));
    expect_plan(message, "default", 1, "");
    fila_message_free(message);
}

#define SCRIPT(ID, WHAT, RUN)                                   \
    {                                                           \
        .id = ID, .what = WHAT, .run = RUN, .flags = ROW_SCRIPT \
    }

static const struct row ROWS[] = {
    SCRIPT("A2.CreateQueue.on_enqueue-syntax", "3", syntax_of_on_enqueue),
    SCRIPT("A2.CreateQueue.on_failure-syntax", "3", syntax_of_on_failure),
    SCRIPT(
        "A2.CreateQueue.exists-and-syntax",
        "6: existence is looked at first",
        exists_before_syntax),
    SCRIPT("B7.script", "dlq at the third nack; the delay is ignored", dead_letter),
    SCRIPT("B7.message", "what on_failure is told", what_on_failure_sees),
    SCRIPT("B7.otherwise", "any other result, or an error, is a retry", anything_else_is_a_retry),
    {.id = "B5.no-script",
     .what = "on_failure is not run at expiry",
     .run = not_at_expiry,
     .flags = ROW_SCRIPT | ROW_OWN},
    SCRIPT("B8.script", "fairness key, weight, throttle keys", plan_of_a_script),
    SCRIPT("B8.types", "wrong types fall back one by one, an error to all defaults", wrong_types),
    SCRIPT("B8.turns", "a key has its weight in messages a turn (v0.1.0: one)", turns_by_weight),
    SCRIPT("B8.weight-0", "told as 0, counts as 1", weight_0),
    SCRIPT("B8.latest-weight", "the latest message's weight is the key's", latest_weight),
    {.id = "B8.joins",
     .unseen =
         "a client cannot tell where a round begins; the engine's tests can (broker_fairness)"},
    {.id = "B9.tokens",
     .what = "one of each bucket of all queues, for a delivery alone",
     .run = shared_tokens,
     .flags = ROW_SCRIPT | ROW_OWN},
    {.id = "B9.pace",
     .what = "a throttled front blocks its key and no other",
     .run = throttled_front,
     .flags = ROW_SCRIPT | ROW_OWN},
    {.id = "B9.burst",
     .what = "a burst below 1 never delivers; a change applies at once",
     .run = small_burst,
     .flags = ROW_SCRIPT | ROW_OWN},
    SCRIPT("B13.fallback", "without its DLQ a queue retries", without_its_dlq),
    SCRIPT("B13.no-script", "the parent's script is not run for its DLQ", no_script_for_the_dlq),
    {.id = "B13.move", .see = "B7.script"},
    SCRIPT("C.create.not-run", "scripts are compiled, not run", only_syntax_is_checked),
    {.id = "C.create.left-over",
     .what = "a refused creation leaves its on_enqueue behind",
     .run = left_over_script,
     .flags = ROW_SCRIPT,
     .deviates =
         "a queue that could not be created leaves none of its scripts behind (fila/broker.h)"},
    SCRIPT(
        "C.config.scripts",
        "fila.get sees a changed value at the next run",
        settings_in_scripts),
};

const struct rows ROWS_SCRIPTS = {ROWS, sizeof ROWS / sizeof ROWS[0]};
