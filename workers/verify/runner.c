/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "runner.h"

#include "base/clock.h"
#include "executor/outbox.h"
#include "wire/message.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define BINARY_LEN  ((size_t)64 * 1024)
#define STUCK_AFTER FILA_S

static const char JSON[] = "{\"id\": 7, \"name\": \"Zo\xc3\xab\", \"tags\": [\"a\", \"b\"]}\n";

/* ---- Life ---- */

static void wake(void *user)
{
    (void)!write(*(int *)user, &(uint64_t){1}, sizeof(uint64_t));
}

struct fw_verify_runner *fw_verify_runner_new(
    struct fw_verify_page *page,
    const struct fw_verify_options *options)
{
    struct fw_plugin *plugin = fw_verify_open(page, options);
    if (!plugin) {
        return NULL;
    }
    struct fw_verify_runner *r = calloc(1, sizeof *r);
    if (!r) {
        fw_plugin_free(plugin);
        page->stop = true;
        return NULL;
    }
    r->page = page;
    r->options = options;
    r->plugin = plugin;
    r->woken = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->done = (struct fw_done_list){.wake = wake, .user = &r->woken};
    fw_verify_wrap(r);
    return r;
}

/* The child ends soon: what a lost thread may still use stays. */
void fw_verify_runner_free(struct fw_verify_runner *r)
{
    if (r && !r->executor) {
        (void)close(r->woken);
        fw_plugin_free(r->plugin);
        free(r);
    }
}

bool fw_verify_runner_start(struct fw_verify_runner *r, unsigned threads)
{
    fila_error error = FILA_ERROR_INIT;
    const struct fw_executor_options options = {
        .queue = "verify",
        .plugin = r->plugin,
        .concurrency = threads,
        .done = &r->done,
        .stuck_after = STUCK_AFTER,
    };
    r->threads = threads;
    fw_verify_stage(r->page, "init, on %u threads", threads);
    if (fw_executor_start(&options, &r->executor, &error)) {
        fw_verify_note(r->page, FW_VERIFY_INIT_FAILS, "%s", error.text);
        r->page->stop = true;
        return false;
    }
    return true;
}

bool fw_verify_runner_stop(struct fw_verify_runner *r)
{
    fw_verify_stage(r->page, "close");
    if (!fw_executor_stop(r->executor, fila_now() + r->options->limit)) {
        return false;
    }
    r->executor = NULL;
    return true;
}

/* ---- Letters ---- */

const char *fw_verify_kind_name(enum fw_verify_kind kind)
{
    static const char *const NAMES[] = {
        "an empty message", "a message of one byte", "a JSON message", "64 KiB of any bytes",
        "the message given"};
    return NAMES[kind];
}

bool fw_verify_kind_exists(const struct fw_verify_runner *r, enum fw_verify_kind kind)
{
    return kind != FW_VERIFY_OWN || r->options->message.data;
}

enum fw_verify_kind fw_verify_kind_of(const struct fw_verify_runner *r, unsigned number)
{
    unsigned kinds = r->options->message.data ? FW_VERIFY_KINDS : FW_VERIFY_OWN;
    return (enum fw_verify_kind)(number % kinds);
}

static size_t kind_len(const struct fw_verify_runner *r, enum fw_verify_kind kind)
{
    switch (kind) {
    case FW_VERIFY_BYTE:
        return 1;
    case FW_VERIFY_JSON:
        return sizeof JSON - 1;
    case FW_VERIFY_BINARY:
        return BINARY_LEN;
    case FW_VERIFY_OWN:
        return r->options->message.len;
    default:
        return 0;
    }
}

static void fill(const struct fw_verify_runner *r, enum fw_verify_kind kind, char *at, size_t len)
{
    uint32_t state = 1;
    switch (kind) {
    case FW_VERIFY_JSON:
        memcpy(at, JSON, len);
        break;
    case FW_VERIFY_OWN:
        memcpy(at, r->options->message.data, len);
        break;
    default:
        for (size_t i = 0; i < len; i++) { /* every byte occurs, zero first but one */
            state = state * 1664525u + 1013904223u;
            at[i] = (char)(state >> 24);
        }
        break;
    }
}

static bool make_room(struct fw_verify_letter *letter, enum fw_verify_kind kind)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t len = kind_len(letter->runner, kind);
    size_t used = (len + page) / page * page;
    letter->room_len = used + page;
    letter->guard_len = page;
    letter->room =
        mmap(NULL, letter->room_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (letter->room == MAP_FAILED) {
        return false;
    }
    char *payload = (char *)letter->room + used - len;
    fill(letter->runner, kind, payload, len);
    letter->payload = (fila_view){payload, len};
    return !mprotect(letter->room, used, PROT_READ) &&
           !mprotect((char *)letter->room + used, page, PROT_NONE);
}

struct fw_verify_letter *fw_verify_letter_new(struct fw_verify_runner *r, enum fw_verify_kind kind)
{
    static const fila_header HEADERS[] = {
        {{"content-type", 12}, {"application/json", 16}},
        {{"x-empty", 7}, {"", 0}},
        {{"x-unicode", 9}, {"na\xc3\xafve \xe2\x82\xac", 10}},
        {{"traceparent", 11}, {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 55}},
    };
    struct fw_verify_letter *letter = calloc(1, sizeof *letter);
    if (!letter) {
        return NULL;
    }
    letter->runner = r;
    letter->job.attempt = 1;
    letter->job.user = letter;
    if (!make_room(letter, kind)) {
        free(letter);
        return NULL;
    }
    struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("verify"),
        .fairness_key = fila_view_of("default"),
        .payload = letter->payload,
        .headers = kind == FW_VERIFY_EMPTY ? NULL : HEADERS,
        .header_count = kind == FW_VERIFY_EMPTY ? 0 : sizeof HEADERS / sizeof HEADERS[0],
    };
    letter->job.message = fila_message_make(&fields, NULL, NULL);
    if (!letter->job.message) {
        (void)munmap(letter->room, letter->room_len);
        free(letter);
        return NULL;
    }
    return letter;
}

void fw_verify_letter_free(struct fw_verify_letter *letter)
{
    if (!letter->done ||
        (letter->runner->executor && fw_executor_stuck(letter->runner->executor))) {
        return; /* its handler still has it */
    }
    fw_job_free_message(&letter->job);
    fw_outgoing_free(letter->job.outbox);
    free(letter->job.reason);
    (void)munmap(letter->room, letter->room_len);
    free(letter);
}

/* ---- On the way ---- */

void fw_verify_submit(struct fw_verify_runner *r, struct fw_verify_letter *letter, int64_t timeout)
{
    letter->job.deadline = fila_now() + timeout;
    letter->job.next = NULL;
    fw_executor_submit(r->executor, &letter->job);
}

static void take(struct fw_verify_runner *r)
{
    for (struct fw_job *job = fw_done_take(&r->done); job; job = job->next) {
        ((struct fw_verify_letter *)job->user)->done = true;
    }
}

static void wait_a_little(struct fw_verify_runner *r, int ms)
{
    struct pollfd fd = {.fd = r->woken, .events = POLLIN};
    if (fw_done_sleep_begin(&r->done)) {
        (void)poll(&fd, 1, ms);
    }
    fw_done_sleep_end(&r->done);
    (void)!read(r->woken, &(uint64_t){0}, sizeof(uint64_t));
}

void fw_verify_cancel(struct fw_verify_runner *r, struct fw_verify_letter *letter)
{
    while (!atomic_load(&letter->entered) && !letter->done) {
        wait_a_little(r, 1);
        take(r);
    }
    letter->cancelled_at = fila_now();
    if (!letter->done) {
        fw_executor_cancel(r->executor, &letter->job);
    }
}

/* A deferred one that nobody completes, or only later. */
static void await_late_complete(struct fw_verify_runner *r)
{
    int64_t until = fila_now() + FILA_S;
    while (fw_executor_stuck(r->executor) && fila_now() < until) {
        (void)poll(NULL, 0, 5);
    }
}

bool fw_verify_await(struct fw_verify_runner *r, struct fw_verify_letter *letter)
{
    take(r);
    while (!letter->done) {
        wait_a_little(r, 100);
        take(r);
    }
    if (letter->job.verdict.cause != FW_CAUSE_TIMEOUT || !fw_executor_stuck(r->executor)) {
        return true;
    }
    if (atomic_load(&letter->returned)) {
        await_late_complete(r);
        if (fw_executor_stuck(r->executor)) {
            fw_verify_note(
                r->page, FW_VERIFY_DEFER_NEVER,
                "handle returned FILA_DEFER, and complete was not called by a second after the "
                "deadline");
            return false;
        }
        return true;
    }
    fw_verify_note(
        r->page, FW_VERIFY_HANGS, "%.119s: no return by a second after the deadline",
        r->page->stage);
    r->page->stop = true;
    return false;
}

void fw_verify_judge(
    struct fw_verify_runner *r,
    const struct fw_verify_letter *letter,
    const char *name)
{
    int64_t returned = atomic_load(&letter->returned);
    if (returned > letter->job.deadline) {
        fw_verify_note(
            r->page, FW_VERIFY_LATE, "%s: it returns %lld ms after its deadline", name,
            (long long)((returned - letter->job.deadline) / FILA_MS));
        r->page->stop = true; /* time and threads make no sense then */
    }
}
