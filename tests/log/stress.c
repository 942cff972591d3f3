/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Many threads log at once while others change the level and flush: every line comes whole, and the
 * account is exact: lines written + lines counted in summaries = lines logged. Also run under
 * ThreadSanitizer.
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
        lines += repeated ? strtol(repeated + 11, NULL, 10) : 1;
    }
    return lines;
}

int main(void)
{
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    FILE *file = tmpfile();
    if (!file || dup2(fileno(file), STDERR_FILENO) < 0) {
        perror("tmpfile");
        return 1;
    }
    fw_log_init(FW_LOG_INFO, FW_LOG_JSON);
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, log_many, names[i])) {
            return 1;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    fw_log_flush();
    rewind(file);
    long lines = account(file);
    (void)printf("%ld of %d lines accounted for\n", lines, THREADS * LINES);
    return lines != THREADS * LINES;
}
