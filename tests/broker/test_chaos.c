/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Faults as text: what is understood, where what is not goes wrong, that a seed replays them, and
 * the kinds that only came with it.
 */
#include "broker/broker.h"
#include "service_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT(text) ((char *)(uintptr_t)(text))

static const fila_request ENQUEUE = {.call = FILA_CALL_ENQUEUE, .as.enqueue = {.queue = VIEW("q")}};
static const fila_request STATS = {.call = FILA_CALL_GET_STATS, .as.queue = {.queue = VIEW("q")}};

/* ---- The text ---- */

/* Each rule as "call/queue kind code delay+jitter after nth x count chance", with | between them.
 */
static const char *explain(const char *spec)
{
    static char text[1024];
    struct fb_chaos_rule rule;
    fila_error error = FILA_ERROR_INIT;
    uint64_t seed = 0;
    size_t at = 0;
    size_t len = 0;
    text[0] = '\0';
    while (fb_chaos_next(spec, &at, &rule, &seed, &error)) {
        const fila_fault *f = &rule.fault;
        len += (size_t)snprintf(
            text + len, sizeof text - len, "%s%d/%.*s %d %d %u+%u %u %ux%u %u", len ? "|" : "",
            (int)f->call, (int)rule.queue.len, rule.queue.len ? rule.queue.data : "", (int)f->kind,
            f->wire_code, f->delay_ms, f->jitter_ms, f->after_messages, f->nth, f->count,
            f->chance);
    }
    if (error.code != FILA_OK) {
        (void)snprintf(text, sizeof text, "%zu %s", at, error.text);
    } else if (seed) {
        (void)snprintf(text + len, sizeof text - len, " seed %llu", (unsigned long long)seed);
    }
    return text;
}

Test(chaos, what_is_understood)
{
    static const struct {
        const char *spec;
        const char *rules;
    } rows[] = {
        {"", ""},
        {" ; ;; ", ""},
        {"ack:error=13", "2/ 1 13 0+0 0 1x0 0"},
        {"ack:error=unavailable", "2/ 1 14 0+0 0 1x0 0"},
        {"ack:lose", "2/ 2 14 0+0 0 1x0 0"},
        {"ack:lose=deadline-exceeded", "2/ 2 4 0+0 0 1x0 0"},
        {"enqueue/orders:delay=200ms", "0/orders 3 0 200+0 0 1x0 0"},
        {"enqueue/a b@c,d=e/f:delay=1min", "0/a b@c,d=e/f 3 0 60000+0 0 1x0 0"},
        {"nack:hang@3", "3/ 4 0 0+0 0 3x1 0"},
        {"nack:hang@3-", "3/ 4 0 0+0 0 3x0 0"},
        {"nack:hang@3-5", "3/ 4 0 0+0 0 3x3 0"},
        {"nack:hang@10%", "3/ 4 0 0+0 0 1x0 100000"},
        {"nack:hang@0.25%@7-", "3/ 4 0 0+0 0 7x0 2500"},
        {"nack:hang@7-8@100%", "3/ 4 0 0+0 0 7x2 1000000"},
        {"consume:cut", "1/ 5 14 0+0 0 1x0 0"},
        {"consume:cut=0,after=10", "1/ 5 0 0+0 10 1x0 0"},
        {"consume:cut=ok,after=10@2", "1/ 5 0 0+0 10 2x1 0"},
        {"consume/q:freeze,after=3", "1/q 6 0 0+0 3 1x0 0"},
        {"consume:late=1s", "1/ 7 0 1000+0 0 1x0 0"},
        {"consume:late=0s..2s@50%", "1/ 7 0 0+2000 0 1x0 500000"},
        {"any:stall=5s@100", "255/ 8 0 5000+0 0 100x1 0"},
        {"any:crash@100", "255/ 9 0 0+0 0 100x1 0"},
        {"enqueue:crash-after@100", "0/ 10 0 0+0 0 100x1 0"},
        {"ack/q:half-open@3", "2/q 11 0 0+0 0 3x1 0"},
        {"any:half-open=20s@1%", "255/ 11 0 20000+0 0 1x0 10000"},
        {"consume:half-open=5s,after=10", "1/ 11 0 5000+0 10 1x0 0"},
        {"create-queue:error=8;delete-queue:error=8;set-config:error=8;get-config:error=8",
         "4/ 1 8 0+0 0 1x0 0|5/ 1 8 0+0 0 1x0 0|6/ 1 8 0+0 0 1x0 0|7/ 1 8 0+0 0 1x0 0"},
        {"list-config:error=8;stats:error=8;redrive:error=8;list-queues:error=8",
         "8/ 1 8 0+0 0 1x0 0|9/ 1 8 0+0 0 1x0 0|10/ 1 8 0+0 0 1x0 0|11/ 1 8 0+0 0 1x0 0"},
        {" ack : error = 13 @ 2 - 4 @ 5% ; \n consume : freeze , after = 1 ;",
         "2/ 1 13 0+0 0 2x3 50000|1/ 6 0 0+0 1 1x0 0"},
        {"seed=7;ack:hang", "2/ 4 0 0+0 0 1x0 0 seed 7"},
        {"ack:hang; seed = 18446744073709551615", "2/ 4 0 0+0 0 1x0 0 seed 18446744073709551615"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect(eq(str, TEXT(explain(rows[i].spec)), TEXT(rows[i].rules)), "%s", rows[i].spec);
        cr_expect(eq(int, fila_chaos_check(rows[i].spec, NULL, NULL), FILA_OK));
    }
}

Test(chaos, what_is_not_is_pointed_at)
{
#define CALLS_ARE                                                                           \
    "there are: any, enqueue, consume, ack, nack, create-queue, delete-queue, set-config, " \
    "get-config, list-config, stats, redrive, list-queues"
#define FAULTS_ARE \
    "there are: error, lose, delay, hang, stall, crash, crash-after, half-open, cut, freeze, late"

    static const struct {
        const char *spec;
        const char *problem; /* offset, text */
    } rows[] = {
        {"akc:error=14", "0 at character 1: no such call; " CALLS_ARE},
        {"ack:error=14; x", "14 at character 15: no such call; " CALLS_ARE},
        {"ack", "3 at character 4: a : and a fault are missing, as in ack:error=unavailable"},
        {"ack error=14",
         "4 at character 5: a : and a fault are missing, as in ack:error=unavailable"},
        {"ack/:hang", "4 at character 5: the name of a queue is missing"},
        {"ack:", "4 at character 5: no such fault; " FAULTS_ARE},
        {"ack:eror=14", "4 at character 5: no such fault; " FAULTS_ARE},
        {"ack:error", "9 at character 10: error needs a code, as in error=unavailable"},
        {"ack:error=", NULL},
        {"ack:error=17", "10 at character 11: at most 16"},
        {"ack:error=0", "10 at character 11: 0 is no error"},
        {"ack:lose=ok", "9 at character 10: 0 is no error"},
        {"ack:error=unavailble", NULL},
        {"ack:hang=5", "8 at character 9: hang takes no value"},
        {"ack:delay", "9 at character 10: delay needs a time, as in delay=200ms"},
        {"ack:delay=200", "13 at character 14: no unit of time; there are: ms, s, min"},
        {"ack:delay=200h", "13 at character 14: no unit of time; there are: ms, s, min"},
        {"ack:delay=x", "10 at character 11: a time is missing, such as 200ms, 5s or 1min"},
        {"ack:delay=61min", "10 at character 11: at most 60min"},
        {"ack:delay=99999999999999999999s", "10 at character 11: at most 3600000"},
        {"ack:cut", "4 at character 5: only consume has cut"},
        {"any:freeze", "4 at character 5: only consume has freeze"},
        {"any:late=1s", "4 at character 5: only consume has late"},
        {"consume:late=2s..1s", "13 at character 14: the range ends before it begins"},
        {"consume:late=2s..", "17 at character 18: a time is missing, such as 200ms, 5s or 1min"},
        {"consume:hang,after=1",
         "12 at character 13: only cut, freeze and half-open of consume take after="},
        {"ack:half-open,after=1",
         "13 at character 14: only cut, freeze and half-open of consume take after="},
        {"ack:half-open=forever",
         "14 at character 15: a time is missing, such as 200ms, 5s or 1min"},
        {"consume:cut,for=1", "12 at character 13: no such option; there are: after"},
        {"consume:cut,after",
         "17 at character 18: after needs a number of messages, as in after=10"},
        {"consume:cut,after=x", "18 at character 19: a number is missing"},
        {"ack:hang@",
         "9 at character 10: a number of uses is missing, as in @3, @3-, @3-9 or @10%"},
        {"ack:hang@0", "9 at character 10: uses count from 1"},
        {"ack:hang@5-3", "9 at character 10: the range ends before it begins"},
        {"ack:hang@3@4", "11 at character 12: uses are given twice"},
        {"ack:hang@3%@4%", "12 at character 13: a share is given twice"},
        {"ack:hang@0%", "9 at character 10: a share must be from 0.0001% to 100%"},
        {"ack:hang@101%", "9 at character 10: a share must be from 0.0001% to 100%"},
        {"ack:hang@0.5", "12 at character 13: a % is missing"},
        {"ack:hang nack:hang", "9 at character 10: a rule ends here: write ; and the next one"},
        {"seed", "4 at character 5: seed needs a number, as in seed=7"},
        {"seed=", "5 at character 6: a number is missing"},
        {"seed=0", "0 at character 1: a seed is at least 1"},
        {"seed=7 ack:hang", "7 at character 8: a rule ends here: write ; and the next one"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *got = explain(rows[i].spec);
        size_t at = SIZE_MAX;
        if (rows[i].problem) {
            cr_expect(eq(str, TEXT(got), TEXT(rows[i].problem)), "%s", rows[i].spec);
        } else {
            cr_expect(
                ne(ptr, TEXT(strstr(got, "no code: 0 to 16, or its name; there are: ok, ")), NULL),
                "%s: %s", rows[i].spec, got);
        }
        cr_expect(eq(int, fila_chaos_check(rows[i].spec, &at, NULL), FILA_INVALID_ARGUMENT));
        cr_expect(le(sz, at, strlen(rows[i].spec)));
    }
}

/* ---- What it does ---- */

static fila_broker *with_chaos(const char *spec)
{
    fila_broker *broker = broker_open(20, 100);
    fila_error error;
    must_create(broker, "q", 0);
    cr_assert(
        eq(int, fila_broker_add_chaos(broker, spec, NULL, &error), FILA_OK), "%s", error.text);
    return broker;
}

/* The answers to 64 enqueues as digits of their codes, mixed with calls that no rule names. */
static const char *answers(const char *spec)
{
    static char text[65];
    fila_broker *broker = with_chaos(spec);
    fila_error error;
    for (int i = 0; i < 64; i++) {
        (void)ask_call(broker, &ENQUEUE, &error);
        text[i] = error.code == FILA_OK ? '.' : (char)('a' + error.wire_code);
        if (i % 3 == 0) {
            (void)ask_call(broker, &STATS, &error);
        }
    }
    text[64] = '\0';
    fila_broker_free(broker);
    return text;
}

Test(chaos, a_seed_replays_the_same_faults)
{
    char first[65];
    char other[65];
    uint64_t seed = 0;
    fila_error error;
    char spec[128];
    fila_broker *broker;
    size_t hits = 0;
    memcpy(first, answers("seed=7; enqueue:error=13@20%; enqueue:lose=14@10%"), 65);
    cr_expect(eq(str, TEXT(answers("seed=7; enqueue:error=13@20%; enqueue:lose=14@10%")), first));
    memcpy(other, answers("seed=8; enqueue:error=13@20%; enqueue:lose=14@10%"), 65);
    cr_expect(ne(str, other, first));
    for (size_t i = 0; i < 64; i++) {
        hits += first[i] == 'a' + 13;
    }
    cr_expect(hits >= 4 && hits <= 28, "%zu of 64 at 20%%: %s", hits, first);
    /* a seed that was chosen replays too */
    broker = broker_open(100, 100);
    cr_assert(eq(int, fila_broker_add_chaos(broker, "enqueue:hang@1%", &seed, &error), FILA_OK));
    cr_expect(seed > 0 && seed <= UINT32_MAX);
    fila_broker_free(broker);
    (void)snprintf(spec, sizeof spec, "enqueue:error=13@20%%;seed=%llu", (unsigned long long)seed);
    memcpy(first, answers(spec), 65);
    cr_expect(eq(str, TEXT(answers(spec)), first));
}

Test(chaos, nothing_is_added_of_what_has_an_error)
{
    fila_broker *broker = broker_open(100, 100);
    fila_error error;
    must_create(broker, "q", 0);
    cr_expect(
        eq(int, fila_broker_add_chaos(broker, "enqueue:error=13; ack:eror", NULL, &error),
           FILA_INVALID_ARGUMENT));
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OK));
    fila_broker_free(broker);
}

Test(chaos, any_counts_all_calls)
{
    fila_broker *broker = with_chaos("any:error=8@3");
    fila_error error;
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OK));
    cr_expect(eq(int, ask_call(broker, &STATS, &error), FILA_OK));
    cr_expect(eq(int, ask_call(broker, &ENQUEUE, &error), FILA_OVERLOADED));
    cr_expect(eq(int, ask_call(broker, &STATS, &error), FILA_OK));
    fila_broker_free(broker);
}

Test(chaos, from_the_first_call_on)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    fila_error error;
    options.chaos = "any:error=internal@1";
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK));
    cr_expect(eq(int, ask_call(broker, &STATS, &error), FILA_INTERNAL));
    cr_expect(eq(int, ask_call(broker, &STATS, &error), FILA_QUEUE_NOT_FOUND));
    fila_broker_free(broker);
    options.chaos = "any";
    cr_expect(eq(int, fila_broker_open(&options, &broker, &error), FILA_INVALID_ARGUMENT));
    cr_expect(
        eq(str, error.text,
           "at character 4: a : and a fault are missing, as in ack:error=unavailable"));
}

/* Takes `count` messages as they come, each a letter; `ret_first` gets how long the first took. */
static void take_letters(struct reader *reader, char *text, size_t count)
{
    size_t taken = 0;
    for (uint32_t told = 1; taken < count; told++) {
        const char *message;
        cr_assert(reader_wait(reader, told, 20000), "%zu of %zu", taken, count);
        while (*(message = reader_take(reader))) {
            text[taken++] = *message;
        }
    }
    text[taken] = '\0';
}

static void put_letters(fila_broker *broker, const char *letters)
{
    for (; *letters; letters++) {
        char text[2] = {*letters, '\0'};
        must_enqueue(broker, "q", text);
    }
}

Test(chaos, late_messages_come_late_and_in_order)
{
    fila_broker *broker = with_chaos("consume:late=150ms");
    struct reader *reader = reader_open(broker, "q");
    int64_t began = fila_now();
    char got[16];
    put_letters(broker, "abcdef");
    cr_expect(eq(str, TEXT(reader_take(reader)), ""));
    take_letters(reader, got, 6);
    cr_expect(eq(str, got, "abcdef"));
    cr_expect(ge(i64, fila_now() - began, 150 * FILA_MS));
    reader_close(reader);
    fila_broker_free(broker);
}

Test(chaos, a_random_part_reorders)
{
    fila_broker *broker = with_chaos("seed=3;consume:late=0s..200ms");
    struct reader *reader = reader_open(broker, "q");
    char got[32];
    size_t sum = 0;
    put_letters(broker, "abcdefghijklmnopqrst");
    take_letters(reader, got, 20);
    cr_expect(ne(str, got, "abcdefghijklmnopqrst"));
    for (size_t i = 0; i < 20; i++) {
        sum += (size_t)1 << (got[i] - 'a');
    }
    cr_expect(eq(sz, sum, (1u << 20) - 1), "each once: %s", got);
    reader_close(reader);
    fila_broker_free(broker);
}

Test(chaos, what_is_not_late_overtakes)
{
    fila_broker *broker = with_chaos("seed=5;consume:late=60min@50%");
    struct reader *reader = reader_open(broker, "q");
    uint32_t told = 0;
    uint32_t prompt = 0;
    for (int i = 0; i < 20; i++) { /* one by one: each finds the late ones before it waiting */
        put_letters(broker, "x");
        if (reader->ready > told) {
            told = reader->ready;
            while (*reader_take(reader)) {
                prompt++;
            }
        }
    }
    cr_expect(prompt >= 4 && prompt <= 16, "%u of 20", prompt);
    reader_close(reader);
    fila_broker_free(broker);
}

Test(chaos, a_stall_holds_up_everything)
{
    fila_broker *broker = with_chaos("ack:stall=300ms@1");
    fila_request ack = settle_request(
        FILA_CALL_ACK, fila_view_of("q"), fila_view_of("0192aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"));
    fila_error error;
    int64_t began = fila_now();
    cr_expect(eq(int, ask_call(broker, &ack, &error), FILA_MESSAGE_NOT_FOUND));
    cr_expect(ge(i64, fila_now() - began, 300 * FILA_MS));
    fila_broker_free(broker);
}

static void *stall_long(void *arg)
{
    fila_error error;
    (void)ask_call(arg, &ENQUEUE, &error);
    return NULL;
}

Test(chaos, a_stall_ends_with_the_broker)
{
    fila_broker *broker = with_chaos("enqueue:stall=60min");
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, stall_long, broker), 0));
    while (pthread_mutex_trylock(&broker->lock) == 0) { /* until it stands still */
        (void)pthread_mutex_unlock(&broker->lock);
        (void)sched_yield();
    }
    fila_broker_close(broker);
    (void)pthread_join(thread, NULL);
    fila_broker_free(broker);
}

/* ---- Crashes: in a process of their own ---- */

/* Enqueues `count` messages to a broker with `spec` and the file `path`; how the process ended. */
static int enqueue_in_child(const char *spec, const char *path, int count)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
        fila_broker *broker = NULL;
        fila_request create = {
            .call = FILA_CALL_CREATE_QUEUE, .as.create_queue = {.name = VIEW("q")}};
        fila_error error;
        options.chaos = spec;
        options.path = path;
        if (fila_broker_open(&options, &broker, &error) != FILA_OK) {
            _exit(99);
        }
        (void)ask_call(broker, &create, &error);
        for (int i = 0; i < count; i++) {
            if (ask_call(broker, &ENQUEUE, &error) != FILA_OK) {
                _exit(98);
            }
        }
        fila_broker_free(broker);
        _exit(0);
    }
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    return status;
}

static bool was_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static uint64_t depth_in(const char *path)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    struct ask ask;
    fila_error error;
    uint64_t depth;
    options.path = path;
    cr_assert(eq(int, fila_broker_open(&options, &broker, &error), FILA_OK), "%s", error.text);
    ask_start(&ask, broker, &STATS);
    cr_assert(ask_wait(&ask, 20000) && ask.reply);
    depth = ask.reply->as.stats.depth;
    ask_free(&ask);
    fila_broker_free(broker);
    return depth;
}

Test(chaos, a_crash_comes_before_or_after_it_is_done)
{
    char folder[] = "/tmp/chaos-XXXXXX";
    char path[64];
    int status = enqueue_in_child("enqueue:crash@3", NULL, 5);
    cr_expect(was_killed(status), "%d", status);
    status = enqueue_in_child("enqueue:crash-after@3", NULL, 5);
    cr_expect(was_killed(status), "%d", status);
    status = enqueue_in_child("enqueue:crash@6", NULL, 5);
    cr_expect(eq(int, status, 0));
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    (void)snprintf(path, sizeof path, "%s/a", folder);
    status = enqueue_in_child("enqueue:crash@3", path, 5);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 99) {
        cr_skip("built without SQLite");
    }
    cr_expect(was_killed(status), "%d", status);
    cr_expect(eq(u64, depth_in(path), 2));
    (void)snprintf(path, sizeof path, "%s/b", folder);
    status = enqueue_in_child("enqueue:crash-after@3", path, 5);
    cr_expect(was_killed(status), "%d", status);
    cr_expect(eq(u64, depth_in(path), 3), "done and durable, and nobody was told");
}
