/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/testlog.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LINE_SIZE 8192

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int counts[FW_EVENT_COUNT];
static char lines[FW_EVENT_COUNT][LINE_SIZE];

bool fw_log_enabled(enum fw_log_level level)
{
    (void)level;
    return true;
}

enum fw_log_level fw_event_level(enum fw_event event)
{
    (void)event;
    return FW_LOG_ERROR;
}

void fw_log(
    enum fw_event event,
    const struct fw_field *fields,
    size_t count,
    const char *format,
    ...)
{
    va_list args;
    va_start(args, format);
    (void)pthread_mutex_lock(&mutex);
    char *line = lines[event];
    int len = vsnprintf(line, LINE_SIZE / 2, format, args);
    len = len < LINE_SIZE / 2 ? len : LINE_SIZE / 2 - 1;
    for (size_t i = 0; i < count; i++) {
        size_t room = LINE_SIZE - (size_t)len;
        int more =
            fields[i].kind == FW_FIELD_TEXT
                ? snprintf(
                      line + len, room, " %s=%.*s", fields[i].name, (int)fields[i].text.len,
                      fields[i].text.data)
                : snprintf(line + len, room, " %s=%" PRId64, fields[i].name, fields[i].integer);
        len += more < (int)room ? more : (int)room - 1;
    }
    counts[event]++;
    if (getenv("TESTLOG")) {
        (void)fprintf(stderr, "%d: %s\n", (int)event, line);
    }
    (void)pthread_mutex_unlock(&mutex);
    va_end(args);
}

int testlog_count(enum fw_event event)
{
    (void)pthread_mutex_lock(&mutex);
    int count = counts[event];
    (void)pthread_mutex_unlock(&mutex);
    return count;
}

const char *testlog_last(enum fw_event event)
{
    return lines[event];
}
