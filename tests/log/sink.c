/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The log as the program uses it: through standard error, which each test replaces by a pipe.
 */
#include "log/format.h"
#include "log/log.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int reader = -1;

static void capture(void)
{
    int ends[2];
    cr_assert(eq(int, pipe(ends), 0));
    cr_assert(ge(int, dup2(ends[1], STDERR_FILENO), 0));
    (void)close(ends[1]);
    cr_assert(eq(int, fcntl(ends[0], F_SETFL, O_NONBLOCK), 0));
    reader = ends[0];
}

/* What one read(2) gives: on a pipe that holds one write, exactly that write. */
static char *taken(void)
{
    static char text[1 << 17];
    ssize_t n = read(reader, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

TestSuite(sink, .init = capture);

Test(sink, auto_is_json_where_there_is_no_terminal)
{
    fw_log_init(FW_LOG_INFO, FW_LOG_AUTO);
    FW_LOG(FW_EVENT_STREAM_OPEN, "open", fw_str("queue", "q"), fw_int("stream", 1));
    json_error_t error;
    json_t *json = json_loads(taken(), 0, &error);
    cr_assert(json != NULL, "%s", error.text);
    cr_expect(eq(str, (char *)json_string_value(json_object_get(json, "event")), "STREAM-OPEN"));
    const char *ts = json_string_value(json_object_get(json, "ts"));
    int parts[7] = {0};
    cr_expect(
        eq(int,
           sscanf(
               ts, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &parts[0], &parts[1], &parts[2], &parts[3],
               &parts[4], &parts[5], &parts[6]),
           7));
    cr_expect(eq(sz, strlen(ts), 24));
    cr_expect(ge(int, parts[0], 2024));
    json_decref(json);
}

static int evaluated;

static struct fw_field counting(void)
{
    evaluated++;
    return fw_int("n", 1);
}

Test(sink, levels)
{
    fw_log_init(FW_LOG_WARN, FW_LOG_TEXT);
    FW_LOG(FW_EVENT_STREAM_OPEN, "info", counting());
    cr_expect(eq(int, evaluated, 0), "a disabled line costs nothing");
    cr_expect(eq(str, taken(), ""));
    FW_LOG(FW_EVENT_STREAM_END, "warn", counting());
    cr_expect(strstr(taken(), "Z WARN  STREAM-END warn n=1\n") != NULL);
    fw_log_set_level(FW_LOG_DEBUG);
    fw_log(FW_EVENT_MESSAGE_DONE, NULL, 0, "%s in %d ms", "done", 5);
    cr_expect(strstr(taken(), "Z DEBUG MESSAGE-DONE done in 5 ms\n") != NULL);
    fw_log_set_level(FW_LOG_OFF);
    FW_LOG(FW_EVENT_INTERNAL, "error", counting());
    cr_expect(eq(str, taken(), ""));
    cr_expect(not(fw_log_enabled(FW_LOG_OFF)));
}

Test(sink, repeats_are_folded_and_the_flush_says_how_many)
{
    fw_log_init(FW_LOG_INFO, FW_LOG_TEXT);
    for (int i = 0; i < 18; i++) {
        FW_LOG(
            FW_EVENT_STREAM_END, "it ended", fw_str("queue", "orders"), fw_int("pause_ms", i),
            fw_str("error", "cut"));
    }
    cr_expect(
        strstr(taken(), "WARN  STREAM-END it ended queue=orders pause_ms=0 error=cut\n") != NULL);
    cr_expect(eq(str, taken(), ""));
    fw_log_flush();
    cr_expect(
        strstr(
            taken(), "WARN  STREAM-END repeated 17 times: it ended repeated=17 queue=orders\n") !=
        NULL);
    fw_log_flush();
    cr_expect(eq(str, taken(), ""));
}

Test(sink, a_line_longer_than_the_buffers_is_one_line)
{
    static char big[10000];
    memset(big, 'x', sizeof big - 1);
    fw_log_init(FW_LOG_INFO, FW_LOG_JSON);
    fw_log(FW_EVENT_HANDLER_LOG, NULL, 0, "%s", big);
    json_t *json = json_loads(taken(), 0, NULL);
    cr_assert(json != NULL);
    cr_expect(eq(int, json_is_true(json_object_get(json, "truncated")), 1));
    cr_expect(eq(sz, json_string_length(json_object_get(json, "msg")), 2047));
    json_decref(json);
}

/* A full pipe that does not block: lines are lost, none is torn, and the loss is told. */
Test(sink, a_full_pipe_loses_whole_lines_and_says_so)
{
    cr_assert(eq(int, fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK), 0));
    fw_log_init(FW_LOG_INFO, FW_LOG_TEXT);
    int sent = 0;
    for (int i = 0; i < 2000; i++) {
        FW_LOG(FW_EVENT_STREAM_OPEN, "a line that takes some room in the pipe", fw_int("n", i));
        sent++;
    }
    int lines = 0;
    for (char *text = taken(); *text; text = taken()) {
        for (const char *c = text; (c = strchr(c, '\n')); c++) {
            lines++;
        }
    }
    FW_LOG(FW_EVENT_STREAM_OPEN, "after", fw_int("n", -1));
    int lost = -1;
    const char *told = strstr(taken(), "LOG-LOST log lines were lost lines=");
    cr_assert(told != NULL);
    cr_assert(eq(int, sscanf(strstr(told, "lines="), "lines=%d", &lost), 1));
    cr_expect(gt(int, lost, 0));
    cr_expect(eq(int, lines + lost, sent));
}

Test(sink, no_colour_without_a_terminal)
{
    fw_log_init(FW_LOG_INFO, FW_LOG_TEXT);
    FW_LOG(FW_EVENT_INTERNAL, "x", fw_int("n", 1));
    cr_expect(strchr(taken(), '\033') == NULL);
}

/* On a terminal: coloured text, unless $NO_COLOR says otherwise. */
static char *on_a_terminal(void)
{
    static char text[4096];
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    cr_assert(ge(int, master, 0));
    cr_assert(eq(int, grantpt(master) | unlockpt(master), 0));
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    cr_assert(ge(int, slave, 0));
    cr_assert(ge(int, dup2(slave, STDERR_FILENO), 0));
    fw_log_init(FW_LOG_INFO, FW_LOG_AUTO);
    FW_LOG(FW_EVENT_INTERNAL, "x", fw_int("n", 1));
    ssize_t n = read(master, text, sizeof text - 1);
    cr_assert(gt(int, (int)n, 0));
    text[n] = '\0';
    return text;
}

Test(sink, coloured_on_a_terminal)
{
    (void)unsetenv("NO_COLOR");
    (void)setenv("TERM", "xterm", 1);
    cr_expect(strstr(on_a_terminal(), "\033[1;31mERROR INTERNAL\033[0m x") != NULL);
}

Test(sink, no_color_is_honoured)
{
    (void)setenv("NO_COLOR", "1", 1);
    cr_expect(strstr(on_a_terminal(), " ERROR INTERNAL x n=1") != NULL);
}
