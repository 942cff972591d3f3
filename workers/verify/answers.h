/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a handler answers to each kind of message when it is alone, to see whether that is another
 * when many run at once. Internal to workers/verify; one thread.
 */
#ifndef FW_VERIFY_ANSWERS_H
#define FW_VERIFY_ANSWERS_H

#include "runner.h"

#define FW_VERIFY_REASON_KEPT 256

struct fw_verify_answers {
    struct {
        unsigned times; /* that it was asked */
        bool varies;    /* it was not always the same */
        enum fw_verdict_kind verdict;
        unsigned published;
        char reason[FW_VERIFY_REASON_KEPT];
    } of[FW_VERIFY_KINDS];
};

/* Notes the answer to a letter that came back alone. */
void fw_verify_answers_learn(
    struct fw_verify_answers *answers,
    enum fw_verify_kind kind,
    const struct fw_verify_letter *letter);

/* Looks at the answer to one that ran beside others. */
void fw_verify_answers_compare(
    const struct fw_verify_answers *answers,
    enum fw_verify_kind kind,
    const struct fw_verify_letter *letter);

#endif
