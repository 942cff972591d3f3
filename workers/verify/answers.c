/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "answers.h"

#include "executor/outbox.h"

#include <string.h>

#define SMALLEST 3u /* answers that are all the same tell something */

static const char *verdict_name(enum fw_verdict_kind kind)
{
    static const char *const NAMES[] = {"ack", "retry", "reject", "unavailable"};
    return NAMES[kind];
}

static unsigned count_published(const struct fw_verify_letter *letter)
{
    unsigned count = 0;
    for (const struct fw_outgoing *o = letter->job.outbox; o; o = o->next) {
        count++;
    }
    return count;
}

/* Of the same length as what is kept. */
static bool same_reason(const char *kept, const struct fw_verify_letter *letter)
{
    const char *reason = letter->job.reason ? letter->job.reason : "";
    return !strncmp(kept, reason, FW_VERIFY_REASON_KEPT - 1);
}

void fw_verify_answers_learn(
    struct fw_verify_answers *answers,
    enum fw_verify_kind kind,
    const struct fw_verify_letter *letter)
{
    enum fw_verdict_kind verdict = letter->job.verdict.kind;
    unsigned published = count_published(letter);
    if (!answers->of[kind].times++) {
        const char *reason = letter->job.reason ? letter->job.reason : "";
        answers->of[kind].verdict = verdict;
        answers->of[kind].published = published;
        (void)strncpy(answers->of[kind].reason, reason, FW_VERIFY_REASON_KEPT - 1);
    } else if (
        answers->of[kind].verdict != verdict || answers->of[kind].published != published ||
        !same_reason(answers->of[kind].reason, letter)) {
        answers->of[kind].varies = true;
    }
}

static bool is_sure(const struct fw_verify_answers *answers, unsigned kind)
{
    return answers->of[kind].times >= SMALLEST && !answers->of[kind].varies;
}

/* The other kind of message whose reason this one was given, or -1. */
static int find_mixed(
    const struct fw_verify_answers *answers,
    enum fw_verify_kind kind,
    const struct fw_verify_letter *letter)
{
    if (same_reason(answers->of[kind].reason, letter)) {
        return -1;
    }
    for (unsigned other = 0; other < FW_VERIFY_KINDS; other++) {
        if (other != kind && is_sure(answers, other) && *answers->of[other].reason &&
            same_reason(answers->of[other].reason, letter)) {
            return (int)other;
        }
    }
    return -1;
}

void fw_verify_answers_compare(
    const struct fw_verify_answers *answers,
    enum fw_verify_kind kind,
    const struct fw_verify_letter *letter)
{
    struct fw_verify_page *page = letter->runner->page;
    const struct fw_verdict *verdict = &letter->job.verdict;
    /* What had no turn, was late, or lacked its dependency says nothing of the handler. */
    if (!is_sure(answers, kind) || !verdict->started || verdict->cause == FW_CAUSE_TIMEOUT ||
        verdict->kind == FW_UNAVAILABLE) {
        return;
    }
    const char *name = fw_verify_kind_name(kind);
    int mixed = find_mixed(answers, kind, letter);
    if (mixed >= 0) {
        fw_verify_note(
            page, FW_VERIFY_MIXED, "beside others, %s is given the reason of %s: %.120s", name,
            fw_verify_kind_name((enum fw_verify_kind)mixed), answers->of[mixed].reason);
    } else if (verdict->kind != answers->of[kind].verdict) {
        fw_verify_note(
            page, FW_VERIFY_UNSTEADY, "%s: alone always %s, beside others also %s", name,
            verdict_name(answers->of[kind].verdict), verdict_name(verdict->kind));
    } else if (count_published(letter) != answers->of[kind].published) {
        fw_verify_note(
            page, FW_VERIFY_UNSTEADY, "%s: alone it publishes %u, beside others also %u", name,
            answers->of[kind].published, count_published(letter));
    }
}
