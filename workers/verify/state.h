/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What of a process a plugin must leave as it is. Internal to workers/verify; in a child.
 */
#ifndef FW_VERIFY_STATE_H
#define FW_VERIFY_STATE_H

#include "page.h"

#include <limits.h>

#define FW_VERIFY_DESCRIPTORS 128
#define FW_VERIFY_SIGNALS     65

struct fw_verify_state {
    sigset_t mask; /* of the thread that looks */
    struct sigaction actions[FW_VERIFY_SIGNALS];
    char locale[256];
    char folder[PATH_MAX];
    char umask[16];
    uint64_t environment;
    unsigned threads;
    unsigned descriptor_count;

    struct {
        int fd;
        char link[64];
    } descriptors[FW_VERIFY_DESCRIPTORS];
};

void fw_verify_state_take(struct fw_verify_state *state);
/* Notes what is different now; `after` says after what. Threads that are about to end are given a
 * second. */
void fw_verify_state_compare(
    struct fw_verify_page *page,
    const struct fw_verify_state *before,
    const char *after);
/* The mask and the locale of this thread alone. */
void fw_verify_thread_compare(struct fw_verify_page *page, const sigset_t *mask, const char *after);

/* Bytes that are allocated and not freed; 0 where that is not known (under a sanitizer). */
uint64_t fw_verify_allocated(void);

#endif
