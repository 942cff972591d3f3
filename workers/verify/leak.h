/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Does memory grow with each step? What is allocated is read at the quarters of a run; a leak is
 * what grows by as much in each of the last three. Internal to workers/verify; one thread.
 */
#ifndef FW_VERIFY_LEAK_H
#define FW_VERIFY_LEAK_H

#include "page.h"

#define FW_VERIFY_LEAK_STEPS 100 /* at most */

struct fw_verify_leak {
    const char *name; /* of a step */
    unsigned done;
    uint64_t at[FW_VERIFY_LEAK_STEPS + 1]; /* allocated after that many */
};

void fw_verify_leak_begin(struct fw_verify_leak *leak);
void fw_verify_leak_step(struct fw_verify_leak *leak);
void fw_verify_leak_end(const struct fw_verify_leak *leak, struct fw_verify_page *page);

#endif
