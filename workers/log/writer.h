/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The thread that writes the log, so that a standard error which nobody reads does not hold up
 * those who log: lines go into a ring of fixed size; what finds no room is not written, and counted
 * by the caller.
 *
 * Properties. Lines stay whole and in order. A put never waits for the reader. Operation. Without
 * the thread (programs that never start it, tests) the log writes by itself. Safety. Any thread,
 * except start: once, before other threads log.
 */
#ifndef FW_LOG_WRITER_H
#define FW_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FW_WRITER_SIZE (1u << 20)

/* False: it cannot be started, and the log goes on without. */
bool fw_writer_start(void);
/* Ends the thread after what it has, waiting at most until `deadline` (CLOCK_BOOTTIME ns) for its
 * reader: then it is left behind. */
void fw_writer_stop(int64_t deadline);
bool fw_writer_runs(void);
/* False: no room. */
bool fw_writer_put(const char *line, size_t len);
/* Waits until all is written, at most until `deadline`; not at all once somebody has waited in
 * vain. */
void fw_writer_flush(int64_t deadline);

#endif
