/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One process at a time in a state folder. The lock is the kernel's: it ends with the process,
 * however that ends. Thread: any.
 */
#ifndef FW_JOURNAL_LOCK_H
#define FW_JOURNAL_LOCK_H

#include "fila/client.h"

/* Makes the folder if only its last part is missing (mode 0700), and takes `DIR/lock`. Close
 * *ret_fd to let go. FILA_DENIED: another process has it (the text names it);
 * FILA_INVALID_ARGUMENT: it cannot be made or written. */
FILA_NODISCARD fila_status fw_state_lock(const char *dir, int *ret_fd, fila_error *reterr);

#endif
