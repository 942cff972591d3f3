/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The journal with its owner, askers and a failing disk at once; for ThreadSanitizer.
 */
#include "base/clock.h"
#include "journal/journal.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    TURNS = 3000,
    MESSAGES = 500
};

static struct fw_journal *journal;
static atomic_bool over;
static atomic_int news;

static void on_event(void *user, enum fw_journal_event event, int64_t value)
{
    (void)user;
    (void)event;
    (void)value;
    atomic_fetch_add(&news, 1);
}

static void *ask(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        size_t count;
        free(fw_journal_load(journal, fila_view_of("q"), &count));
        fw_journal_sync(journal);
        (void)fw_journal_stats(journal);
    }
    return NULL;
}

static void set_limit(rlim_t bytes)
{
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    (void)setrlimit(RLIMIT_FSIZE, &limit);
}

static void own(void)
{
    uint32_t tries[MESSAGES] = {0};
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < 10; i++) {
            char id[16];
            int message = (turn * 7 + i * 13) % MESSAGES;
            (void)snprintf(id, sizeof(id), "m%d", message);
            tries[message] = tries[message] == 6 ? 0 : tries[message] + 1;
            struct fw_journal_entry entry = {
                .served = fila_view_of("q"),
                .queue = fila_view_of("q"),
                .id = fila_view_of(id),
                .tries = tries[message],
            };
            fw_journal_put(journal, &entry);
        }
        fw_journal_commit(journal);
        if (turn % 500 == 250) {
            set_limit(1024);
            fw_journal_sync(journal);
        } else if (turn % 500 == 400) {
            set_limit(RLIM_INFINITY);
            fw_journal_sync(journal);
        }
    }
}

int main(void)
{
    char dir[] = "/tmp/fila-journal-stress-XXXXXX";
    struct fw_journal_report report;
    pthread_t asker;
    (void)signal(SIGXFSZ, SIG_IGN);
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    struct fw_journal_options options = {
        .dir = dir,
        .gather = FILA_US,
        .retry = FILA_MS,
        .least_file = 8192,
        .on_event = on_event,
    };
    if (fw_journal_open(&options, &journal, &report, NULL) != FILA_OK ||
        pthread_create(&asker, NULL, ask, NULL) != 0) {
        return 1;
    }
    own();
    fw_journal_sync(journal);
    for (int i = 0; fw_journal_stats(journal).down && i < 10000; i++) {
        (void)usleep(1000);
    }
    size_t before;
    free(fw_journal_load(journal, fila_view_of("q"), &before));
    atomic_store(&over, true);
    (void)pthread_join(asker, NULL);
    fw_journal_close(journal);
    bool opened = fw_journal_open(&options, &journal, &report, NULL) == FILA_OK;
    bool fine = opened && report.messages == before && report.cut_bytes == 0 && before > 0;
    fw_journal_close(opened ? journal : NULL);
    printf(
        "%zu messages kept, %u found again, %d events\n", before, report.messages,
        atomic_load(&news));
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/journal", dir);
    (void)unlink(path);
    (void)rmdir(dir);
    return fine ? 0 : 1;
}
