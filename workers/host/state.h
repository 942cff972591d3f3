/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The state folder of a worker (state_dir): its lock, the journal, the crash record; and what of
 * them is worth a log line. All NULL when state_dir is empty.
 *
 * Safety. fw_state_open and _close: supervisor, before and after the I/O thread. The crash record
 * and fw_journal_put are the I/O thread's between them.
 */
#ifndef FW_HOST_STATE_H
#define FW_HOST_STATE_H

#include "journal/crash.h"
#include "journal/journal.h"

struct fw_state {
    int lock; /* -1 = none */
    struct fw_journal *journal;
    struct fw_crash *crash;
};

/* False: the folder cannot be used, and the log says why (another worker has it, it cannot be
 * written). A full disk is no reason: then it goes without. */
bool fw_state_open(const char *dir, struct fw_state *ret_state);
void fw_state_close(struct fw_state *state); /* in good order; may be repeated */

#endif
