/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The program's log: one event a line on standard error, as text or JSON (conventions.md, Logs).
 * Every line has a stable event id from events.h, which also holds its meaning and remedy.
 *
 * The first of several equal lines (fold.h says what equal is) is written, the others within the
 * next second are counted: "repeated 17 times: ...". Call fw_log_tick when fw_log_wait_ms says so
 * (or about once a second), so that the count does not wait for the next line.
 *
 * Thread: any, after fw_log_init; a line is one write(2), or one copy (fw_log_start_thread).
 * Nothing is allocated.
 */
#ifndef FW_LOG_H
#define FW_LOG_H

#include "events.h"
#include "fila/client.h"

#include <stdint.h>

enum fw_log_level {
    FW_LOG_DEBUG,
    FW_LOG_INFO,
    FW_LOG_WARN,
    FW_LOG_ERROR,
    FW_LOG_OFF
};

enum fw_log_format {
    FW_LOG_AUTO,
    FW_LOG_TEXT,
    FW_LOG_JSON
}; /* auto: text on a terminal, else JSON */

enum fw_field_kind {
    FW_FIELD_TEXT,
    FW_FIELD_INT,
    FW_FIELD_REAL
};

struct fw_field {
    const char *name; /* static; as in conventions.md: queue, handler, message_id, attempt, outcome,
                         duration_ms, ... */
    enum fw_field_kind kind;
    fila_view text; /* any bytes: made valid UTF-8 and escaped; data NULL: the field is left out */
    int64_t integer;
    double real;
};

static inline struct fw_field fw_text(const char *name, fila_view value)
{
    struct fw_field f = {name, FW_FIELD_TEXT, value, 0, 0.0};
    return f;
}

static inline struct fw_field fw_str(const char *name, const char *value)
{
    return fw_text(name, fila_view_of(value));
}

static inline struct fw_field fw_int(const char *name, int64_t value)
{
    struct fw_field f = {name, FW_FIELD_INT, {NULL, 0}, value, 0.0};
    return f;
}

static inline struct fw_field fw_real(const char *name, double value)
{
    struct fw_field f = {name, FW_FIELD_REAL, {NULL, 0}, 0, value};
    return f;
}

/* Colours a text log on a terminal unless $NO_COLOR is set and not empty, or $TERM is "dumb". */
void fw_log_init(enum fw_log_level level, enum fw_log_format format);
void fw_log_set_level(enum fw_log_level level); /* any thread */
bool fw_log_enabled(enum fw_log_level level);

/* Logs `event` at its own level with `count` fields and a message in plain words. */
FILA_PRINTF(4, 5)
void fw_log(
    enum fw_event event,
    const struct fw_field *fields,
    size_t count,
    const char *format,
    ...);

/* FW_LOG(FW_EVENT_STREAM_OPEN, "the stream is open", fw_str("queue", q), fw_int("n", 1)); at least
 * one field. The fields are not even evaluated when the event's level is off. */
#define FW_LOG(event, text, ...)                                                               \
    (fw_log_enabled(fw_event_level(event))                                                     \
         ? fw_log(                                                                             \
               event, (const struct fw_field[]){__VA_ARGS__},                                  \
               sizeof((const struct fw_field[]){__VA_ARGS__}) / sizeof(struct fw_field), "%s", \
               text)                                                                           \
         : (void)0)

/* From here on a thread of its own writes the lines, so that nobody waits for whoever reads
 * standard error: when it is over 1 MiB behind, lines are lost, and counted (LOG-LOST). Call start
 * before other threads log, stop after they have ended; stop waits for the reader at most 2 s. */
void fw_log_start_thread(void);
void fw_log_stop_thread(void);

/* Writes the counts of folded lines: those that are due; all of them (also done at exit). */
void fw_log_tick(void);
void fw_log_flush(void);
/* Milliseconds until fw_log_tick has something to do, -1 = nothing waits. */
int fw_log_wait_ms(void);
/* `wake` is called when the first count begins to wait, so that nobody has to look every second for
 * nothing. On the thread that logs, under the log's lock: it may only wake. NULL ends it, and no
 * call is under way then. */
void fw_log_on_wait(void (*wake)(void *user), void *user);

/* From here on lines go to `sink` instead of standard error, unfolded, fields and all; on the
 * thread that logs. For a process that logs by way of another one. Before other threads log. */
typedef void fw_log_sink(
    void *user,
    enum fw_event event,
    const struct fw_field *fields,
    size_t count,
    const char *text);
void fw_log_to(fw_log_sink *sink, void *user);

const char *fw_event_id(enum fw_event event); /* "STREAM-OPEN" */
enum fw_log_level fw_event_level(enum fw_event event);
const char *fw_event_meaning(enum fw_event event); /* one sentence */
const char *fw_event_remedy(enum fw_event event);  /* what to do about it, or "None." */

#endif
