/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Filling a caller's fila_error. Thread: any.
 */
#ifndef FILA_BASE_ERROR_H
#define FILA_BASE_ERROR_H

#include "fila/client.h"

/* Sets all of *reterr (which may be NULL) and returns `code`, so that a failure is one line:
 * `return fila_fail(...)`. `retryable` and `outcome_unknown` follow from the code: OVERLOADED,
 * NOT_LEADER, UNAVAILABLE, TIMEOUT, INTERNAL are retryable; the last three are of unknown outcome.
 */
FILA_PRINTF(3, 4)
fila_status fila_fail(fila_error *reterr, fila_status code, const char *format, ...);

/* What gRPC status `wire_code` means as the answer to `call` (contract A2), with the broker's text.
 * Returns the code. A 1 that this side did not cause is a TIMEOUT (contract A2, end). */
fila_status fila_fail_wire(fila_error *reterr, fila_call call, int wire_code, fila_view text);

/* The reverse, for brokers: the gRPC status number of a fila_status. */
int fila_wire_code(fila_status status);

#endif
