/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "log.h"

#include "base/clock.h"
#include "fold.h"
#include "format.h"
#include "writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_SIZE 2048
/* How long an end waits for whoever reads standard error. */
#define READER_PATIENCE (2 * FILA_S)

struct event_row {
    const char *id;
    enum fw_log_level level;
    const char *meaning;
    const char *remedy;
};

#define EVENT_ROW(name, id, level, meaning, remedy) \
    [FW_EVENT_##name] = {id, FW_LOG_##level, meaning, remedy},
static const struct event_row EVENTS[FW_EVENT_COUNT] = {FW_EVENTS(EVENT_ROW)};
#undef EVENT_ROW

/* The one log of the process. Level and format change rarely and are read without the lock. */
static struct {
    atomic_int level;
    atomic_int format;
    atomic_bool colour;
    atomic_bool at_exit;
    atomic_bool line_open; /* the last write ended inside a line */
    atomic_uint_fast64_t lost;
    pthread_mutex_t lock;
    fw_log_sink *sink; /* NULL: standard error */
    void *sink_user;

    struct {
        struct fw_fold fold;
        void (*wake)(void *user);
        void *user;
    } locked;
} logger = {.level = FW_LOG_INFO, .format = FW_LOG_TEXT, .lock = PTHREAD_MUTEX_INITIALIZER};

static const struct event_row *row_of(enum fw_event event)
{
    return &EVENTS[(unsigned)event < FW_EVENT_COUNT ? event : FW_EVENT_INTERNAL];
}

const char *fw_event_id(enum fw_event event)
{
    return row_of(event)->id;
}

enum fw_log_level fw_event_level(enum fw_event event)
{
    return row_of(event)->level;
}

const char *fw_event_meaning(enum fw_event event)
{
    return row_of(event)->meaning;
}

const char *fw_event_remedy(enum fw_event event)
{
    return row_of(event)->remedy;
}

static bool wants_colour(bool is_terminal)
{
    const char *no_colour = getenv("NO_COLOR"); /* NOLINT(concurrency-mt-unsafe): at start */
    const char *terminal = getenv("TERM");      /* NOLINT(concurrency-mt-unsafe): at start */
    return is_terminal && !(no_colour && *no_colour) && !(terminal && !strcmp(terminal, "dumb"));
}

void fw_log_init(enum fw_log_level level, enum fw_log_format format)
{
    bool is_terminal = isatty(STDERR_FILENO) == 1;
    if (format == FW_LOG_AUTO) {
        format = is_terminal ? FW_LOG_TEXT : FW_LOG_JSON;
    }
    atomic_store(&logger.level, level);
    atomic_store(&logger.format, format);
    atomic_store(&logger.colour, wants_colour(is_terminal));
    if (!atomic_exchange(&logger.at_exit, true)) {
        (void)atexit(fw_log_flush);
    }
}

void fw_log_set_level(enum fw_log_level level)
{
    atomic_store(&logger.level, level);
}

bool fw_log_enabled(enum fw_log_level level)
{
    return (int)level >= atomic_load_explicit(&logger.level, memory_order_relaxed) &&
           level != FW_LOG_OFF;
}

/* Without the writer's thread. A blocking standard error takes a line at once; one that does not
 * block and is full loses it, which the next line that goes through says. */
static bool write_bytes(const char *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(STDERR_FILENO, data + done, len - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            if (done > 0) {
                atomic_store(&logger.line_open, true);
            }
            return false;
        }
    }
    return true;
}

static bool write_line(const struct fw_log_line *line)
{
    char buffer[1 + FW_LOG_LINE_SIZE];
    bool is_text = atomic_load(&logger.format) == FW_LOG_TEXT;
    size_t len = is_text ? fw_log_as_text(line, atomic_load(&logger.colour), buffer + 1)
                         : fw_log_as_json(line, buffer + 1);
    if (fw_writer_runs()) {
        return fw_writer_put(buffer + 1, len);
    }
    buffer[0] = '\n';
    bool closes = atomic_load(&logger.line_open) && atomic_exchange(&logger.line_open, false);
    return write_bytes(closes ? buffer : buffer + 1, closes ? len + 1 : len);
}

static void write_or_count(const struct fw_log_line *line, uint64_t lines)
{
    if (!write_line(line)) {
        atomic_fetch_add(&logger.lost, lines);
    }
}

static void write_lost(int64_t wall_ms)
{
    uint64_t lost = atomic_exchange(&logger.lost, 0);
    if (lost > 0) {
        const struct fw_field field = fw_int("lines", (int64_t)lost);
        write_or_count(
            &(struct fw_log_line){
                wall_ms, FW_EVENT_LOG_LOST, fila_view_of("log lines were lost"), false, &field, 1},
            lost);
    }
}

static void write_summary(const struct fw_fold_entry *entry, int64_t wall_ms)
{
    char text[FW_FOLD_TEXT_SIZE + 48];
    int len = snprintf(
        text, sizeof text, "repeated %u time%s: %.*s", (unsigned)entry->repeats,
        entry->repeats == 1 ? "" : "s", (int)entry->text_len, entry->text);
    const struct fw_field fields[] = {
        fw_int("repeated", (int64_t)entry->repeats),
        fw_text("queue", (fila_view){entry->queue, entry->queue_len})};
    write_or_count(
        &(struct fw_log_line){
            wall_ms, entry->event, {text, (size_t)len}, false, fields, entry->queue_len ? 2 : 1},
        entry->repeats);
}

/* Writes the summaries that are due at `now`; the lock is not held while writing. */
static void write_due(int64_t now, int64_t wall_ms)
{
    for (;;) {
        struct fw_fold_entry summary;
        (void)pthread_mutex_lock(&logger.lock);
        bool is_due = fw_fold_take(&logger.locked.fold, now, &summary);
        (void)pthread_mutex_unlock(&logger.lock);
        if (!is_due) {
            return;
        }
        write_summary(&summary, wall_ms);
    }
}

void fw_log_to(fw_log_sink *sink, void *user)
{
    logger.sink = sink;
    logger.sink_user = user;
}

void fw_log_flush(void)
{
    write_due(INT64_MAX, fila_wall_ms());
    fw_writer_flush(fila_now() + READER_PATIENCE);
    if (atomic_load(&logger.lost) > 0) {
        write_lost(fila_wall_ms());
    }
}

void fw_log_start_thread(void)
{
    (void)fw_writer_start();
}

void fw_log_stop_thread(void)
{
    fw_writer_stop(fila_now() + READER_PATIENCE);
}

void fw_log_tick(void)
{
    write_due(fila_now(), fila_wall_ms());
}

int fw_log_wait_ms(void)
{
    (void)pthread_mutex_lock(&logger.lock);
    int64_t due = logger.locked.fold.due;
    (void)pthread_mutex_unlock(&logger.lock);
    int64_t left = due - fila_now();
    return due == 0 ? -1 : left <= 0 ? 0 : (int)(left / FILA_MS) + 1;
}

void fw_log_on_wait(void (*wake)(void *user), void *user)
{
    (void)pthread_mutex_lock(&logger.lock);
    logger.locked.wake = wake;
    logger.locked.user = user;
    (void)pthread_mutex_unlock(&logger.lock);
}

void fw_log(
    enum fw_event event,
    const struct fw_field *fields,
    size_t count,
    const char *format,
    ...)
{
    if (!fw_log_enabled(fw_event_level(event))) {
        return;
    }
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the analyzer loses va_start's effect */
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (logger.sink) {
        logger.sink(logger.sink_user, event, fields, count, len < 0 ? "" : text);
        return;
    }
    size_t kept = len < 0 ? 0 : (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
    struct fw_log_line line = {fila_wall_ms(), event, {text, kept}, len > 0 && kept < (size_t)len,
                               fields,         count};
    int64_t now = fila_now();
    struct fw_fold_entry summary;
    write_due(now, line.wall_ms);
    (void)pthread_mutex_lock(&logger.lock);
    bool waited = logger.locked.fold.due != 0;
    bool admitted = fw_fold_admit(&logger.locked.fold, now, &line, &summary);
    if (!waited && logger.locked.fold.due != 0 && logger.locked.wake) {
        logger.locked.wake(logger.locked.user);
    }
    (void)pthread_mutex_unlock(&logger.lock);
    if (!admitted) {
        return;
    }
    if (summary.repeats > 0) {
        write_summary(&summary, line.wall_ms);
    }
    if (atomic_load_explicit(&logger.lost, memory_order_relaxed) > 0) {
        write_lost(line.wall_ms);
    }
    write_or_count(&line, 1);
}
