/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Many threads log at once while others change the level and flush: every line comes whole, and the
 * account is exact: lines written + lines counted in summaries = lines logged. Also run under
 * ThreadSanitizer. Once more with the writer's thread, and a reader that does not read until all is
 * logged: then some are lost, and the account is as exact with those that LOG-LOST counts.
 */
#include "log/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 4
#define LINES   4000

static void *log_many(void *user)
{
    const char *name = user;
    for (int i = 0; i < LINES; i++) {
        if (i % 4 == 0) {
            FW_LOG(FW_EVENT_STREAM_END, "the same for all", fw_str("queue", "shared"));
        } else {
            FW_LOG(FW_EVENT_STREAM_END, "one", fw_str("thread", name), fw_int("n", i));
        }
        if (i % 100 == 0) {
            fw_log_set_level(i % 200 ? FW_LOG_DEBUG : FW_LOG_INFO);
            fw_log_tick();
        }
    }
    return NULL;
}

/* The lines that the text accounts for; exits on one that is not whole. */
static long account(FILE *file)
{
    long lines = 0;
    char line[8192];
    while (fgets(line, sizeof line, file)) {
        size_t len = strlen(line);
        const char *repeated = strstr(line, "\"repeated\":");
        if (len < 40 || strncmp(line, "{\"ts\":\"", 7) || strcmp(line + len - 2, "}\n") ||
            strstr(line + 1, "{\"ts\"")) {
            (void)printf("torn line: %s\n", line);
            exit(1);
        }
        const char *lost = strstr(line, "\"lines\":");
        lines += repeated ? strtol(repeated + 11, NULL, 10) : lost ? strtol(lost + 8, NULL, 10) : 1;
    }
    return lines;
}

static void log_from_threads(void)
{
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, log_many, names[i])) {
            exit(1);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

static void take_stderr(int fd)
{
    if (dup2(fd, STDERR_FILENO) < 0) {
        perror("dup2");
        exit(1);
    }
}

static int judge(const char *how, long lines)
{
    (void)printf("%s: %ld of %d lines accounted for\n", how, lines, THREADS * LINES);
    return lines != THREADS * LINES;
}

static int written_at_once(FILE *file)
{
    take_stderr(fileno(file));
    log_from_threads();
    fw_log_flush();
    rewind(file);
    return judge("written at once", account(file));
}

static void *count_lines(void *pipe_end)
{
    static long lines;
    lines = account(pipe_end);
    return &lines;
}

static int written_by_a_thread(void)
{
    int ends[2];
    pthread_t reader;
    void *lines = NULL;
    if (pipe(ends)) {
        return 1;
    }
    FILE *in = fdopen(ends[0], "r");
    take_stderr(ends[1]);
    (void)close(ends[1]);
    fw_log_start_thread();
    log_from_threads();
    if (!in || pthread_create(&reader, NULL, count_lines, in)) {
        return 1;
    }
    fw_log_flush();
    fw_log_stop_thread();
    (void)close(STDERR_FILENO);
    (void)pthread_join(reader, &lines);
    (void)fclose(in);
    return judge("written by a thread", *(long *)lines);
}

int main(void)
{
    FILE *file = tmpfile();
    if (!file) {
        perror("tmpfile");
        return 1;
    }
    fw_log_init(FW_LOG_INFO, FW_LOG_JSON);
    int failed = written_at_once(file);
    return failed | written_by_a_thread();
}
