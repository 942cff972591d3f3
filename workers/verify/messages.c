/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Messages through the handler: each in turn, cut short, and many at once.
 */
#include "answers.h"
#include "base/clock.h"
#include "leak.h"
#include "runner.h"
#include "state.h"

#include <poll.h>
#include <stdio.h>

#define ROUNDS        64u /* of all kinds of messages */
#define LEAK_LIMIT    ((uint64_t)256 << 20)
#define DEFERRED_KEPT 1100u
#define AT_ONCE       4u
#define EACH          48u
#define ALONE         4u /* messages of each kind */
#define SHORT_TIME    (100 * FILA_MS)
#define GRACE         (1500 * FILA_MS) /* after a deadline */
#define CANCEL_TIME   (3 * FILA_S)

/* ---- One after the other ---- */

/* False: go no further. */
static bool one(struct fw_verify_runner *r, enum fw_verify_kind kind, bool first)
{
    struct fw_verify_letter *letter = fw_verify_letter_new(r, kind);
    if (!letter) {
        return false;
    }
    const char *name = fw_verify_kind_name(kind);
    fw_verify_stage(r->page, "handle, with %s%s", name, first ? "" : ", again");
    fw_verify_submit(r, letter, r->options->timeout);
    bool on = fw_verify_await(r, letter);
    fw_verify_judge(r, letter, name);
    fw_verify_letter_free(letter);
    return on;
}

static bool each_kind(struct fw_verify_runner *r, bool first)
{
    for (int kind = 0; kind < FW_VERIFY_KINDS; kind++) {
        if (!fw_verify_kind_exists(r, (enum fw_verify_kind)kind)) {
            continue;
        }
        if (!one(r, (enum fw_verify_kind)kind, first)) {
            return false;
        }
    }
    return true;
}

/* The host keeps the first thousand deferred deliveries for later use: those are no leak. */
static bool warm_up(struct fw_verify_runner *r)
{
    int64_t until = fila_now() + r->options->limit / 2;
    while (atomic_load(&r->deferred) && atomic_load(&r->deferred) < DEFERRED_KEPT) {
        if (fila_now() > until || !each_kind(r, false)) {
            return false;
        }
    }
    return true;
}

static unsigned repeat(struct fw_verify_runner *r)
{
    struct fw_verify_leak leak = {.name = "a round of messages"};
    uint64_t before = fw_verify_allocated();
    int64_t until = fila_now() + r->options->limit / 2;
    unsigned rounds = ROUNDS;
    unsigned done = 0;
    fw_verify_leak_begin(&leak);
    while (done < rounds && each_kind(r, false)) {
        fw_verify_leak_step(&leak);
        done++;
        if (fila_now() > until) { /* too slow for leaks to be told */
            break;
        }
        if (fw_verify_allocated() > before + LEAK_LIMIT) {
            fw_verify_note(
                r->page, FW_VERIFY_LEAK, "messages: more than 256 MiB after %u rounds", done);
            break;
        }
    }
    fw_verify_leak_end(&leak, r->page);
    return done;
}

void fw_verify_messages(struct fw_verify_page *page, const struct fw_verify_options *options)
{
    struct fw_verify_state before;
    struct fw_verify_runner *r = fw_verify_runner_new(page, options);
    if (!r) {
        return;
    }
    unsigned rounds = 0;
    fw_verify_state_take(&before);
    if (fw_verify_runner_start(r, 1)) {
        rounds = each_kind(r, true) && warm_up(r) ? 1 + repeat(r) : 0;
        if (fw_verify_runner_stop(r)) {
            fw_verify_state_compare(page, &before, "messages");
        }
    }
    (void)snprintf(page->note, sizeof page->note, "%u rounds of each kind of message", rounds);
    fw_verify_runner_free(r);
}

/* ---- Cut short ---- */

/* False: it is late. */
static bool judge_cancelled(struct fw_verify_runner *r, const struct fw_verify_letter *letter)
{
    int64_t took = atomic_load(&letter->returned) - letter->cancelled_at;
    bool late = atomic_load(&letter->returned) && took > CANCEL_TIME;
    if (late) {
        fw_verify_note(
            r->page, FW_VERIFY_CANCEL_LATE, "it goes on for %lld ms after it was cancelled",
            (long long)(took / FILA_MS));
    }
    return !late;
}

/* Told to stop as soon as it has begun. */
static bool cancel_one(struct fw_verify_runner *r, enum fw_verify_kind kind)
{
    struct fw_verify_letter *letter = fw_verify_letter_new(r, kind);
    if (!letter) {
        return false;
    }
    fw_verify_stage(r->page, "handle, cancelled at once, with %s", fw_verify_kind_name(kind));
    fw_verify_submit(r, letter, r->options->timeout);
    fw_verify_cancel(r, letter);
    bool on = fw_verify_await(r, letter);
    on = judge_cancelled(r, letter) && on;
    fw_verify_letter_free(letter);
    return on;
}

static bool cut_one(struct fw_verify_runner *r, enum fw_verify_kind kind, bool *ret_reached)
{
    struct fw_verify_letter *letter = fw_verify_letter_new(r, kind);
    if (!letter) {
        return false;
    }
    const char *name = fw_verify_kind_name(kind);
    fw_verify_stage(r->page, "handle, with a deadline of 100 ms, with %s", name);
    fw_verify_submit(r, letter, SHORT_TIME);
    bool on = fw_verify_await(r, letter);
    int64_t returned = atomic_load(&letter->returned);
    *ret_reached = *ret_reached || returned > letter->job.deadline || !on;
    if (returned > letter->job.deadline + GRACE) {
        fw_verify_note(
            r->page, FW_VERIFY_LATE, "%s: it returns %lld ms after its deadline", name,
            (long long)((returned - letter->job.deadline) / FILA_MS));
    }
    fw_verify_letter_free(letter);
    return on;
}

void fw_verify_time(struct fw_verify_page *page, const struct fw_verify_options *options)
{
    bool reached = false;
    bool on = true;
    struct fw_verify_runner *r = fw_verify_runner_new(page, options);
    if (r && fw_verify_runner_start(r, 1)) {
        for (int kind = 0; on && kind < FW_VERIFY_KINDS; kind++) {
            if (fw_verify_kind_exists(r, (enum fw_verify_kind)kind)) {
                on = cut_one(r, (enum fw_verify_kind)kind, &reached) &&
                     cancel_one(r, (enum fw_verify_kind)kind);
            }
        }
        (void)fw_verify_runner_stop(r);
    }
    (void)snprintf(
        page->note, sizeof page->note, "%s",
        reached ? "deadline and cancellation were reached"
                : "each message was done before its deadline of 100 ms");
    fw_verify_runner_free(r);
}

/* ---- At once ---- */

/* What it says when it is alone. False: go no further. */
static bool learn(struct fw_verify_runner *r, struct fw_verify_answers *answers)
{
    int64_t until = fila_now() + r->options->limit / 2;
    for (unsigned i = 0; i < ALONE * FW_VERIFY_KINDS && fila_now() < until; i++) {
        enum fw_verify_kind kind = fw_verify_kind_of(r, i);
        struct fw_verify_letter *letter = fw_verify_letter_new(r, kind);
        if (!letter) {
            return false;
        }
        fw_verify_stage(
            r->page, "handle, with %s, on one of several threads", fw_verify_kind_name(kind));
        fw_verify_submit(r, letter, r->options->timeout);
        bool on = fw_verify_await(r, letter);
        if (on) {
            fw_verify_answers_learn(answers, kind, letter);
        }
        fw_verify_letter_free(letter);
        if (!on) {
            return false;
        }
    }
    return true;
}

/* How many went through. */
static unsigned run_at_once(struct fw_verify_runner *r, const struct fw_verify_answers *answers)
{
    struct fw_verify_letter *letters[AT_ONCE * EACH] = {NULL};
    unsigned count = 0;
    bool on = true;
    fw_verify_stage(r->page, "handle, on %u threads at once", AT_ONCE);
    for (; count < AT_ONCE * EACH; count++) {
        letters[count] = fw_verify_letter_new(r, fw_verify_kind_of(r, count));
        if (!letters[count]) {
            break;
        }
        fw_verify_submit(r, letters[count], r->options->limit / 2);
    }
    for (unsigned i = 0; on && i < count; i++) {
        on = fw_verify_await(r, letters[i]);
        if (on) {
            fw_verify_answers_compare(answers, fw_verify_kind_of(r, i), letters[i]);
        }
        fw_verify_progress(r->page);
    }
    if (on) {
        (void)fw_verify_runner_stop(r);
    }
    for (unsigned i = 0; on && i < count; i++) {
        fw_verify_letter_free(letters[i]);
    }
    return count;
}

void fw_verify_threads(struct fw_verify_page *page, const struct fw_verify_options *options)
{
    struct fw_verify_answers answers = {0};
    struct fw_verify_runner *r = fw_verify_runner_new(page, options);
    if (r && fw_verify_runner_start(r, AT_ONCE) && learn(r, &answers)) {
        unsigned count = run_at_once(r, &answers);
        bool shared = (r->plugin->table.flags & FILA_PLUGIN_THREAD_SAFE) != 0;
        (void)snprintf(
            page->note, sizeof page->note, "%u messages on %u threads, %s", count, AT_ONCE,
            shared ? "in one instance" : "an instance each");
    }
    fw_verify_runner_free(r);
}
