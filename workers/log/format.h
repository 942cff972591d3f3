/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One log line as text or JSON, into a buffer. Pure: no clock, no I/O, no allocation; log.c calls
 * it, tests compare its output byte for byte. Thread: any.
 *
 * Whatever the bytes of a value are, the line is valid UTF-8 without control characters (and
 * without characters that turn the reading direction), a JSON line is valid JSON, and it ends with
 * its only newline. What does not fit is cut at a character, and the line says that it was.
 */
#ifndef FW_LOG_FORMAT_H
#define FW_LOG_FORMAT_H

#include "log.h"

/* Longest line with its newline: PIPE_BUF, so that lines of several processes that share a pipe
 * stay whole. */
#define FW_LOG_LINE_SIZE 4096

struct fw_log_line {
    int64_t wall_ms; /* since 1970 */
    enum fw_event event;
    fila_view text;
    bool text_is_cut; /* the caller had no room for all of it */
    const struct fw_field *fields;
    size_t field_count;
};

/* Both return the length, at most FW_LOG_LINE_SIZE; not zero-terminated. */
size_t fw_log_as_text(const struct fw_log_line *line, bool colour, char buffer[FW_LOG_LINE_SIZE]);
size_t fw_log_as_json(const struct fw_log_line *line, char buffer[FW_LOG_LINE_SIZE]);

#endif
