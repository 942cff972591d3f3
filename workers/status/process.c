/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/process.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Of what follows the name in /proc/self/stat, counted from 1 with the state. */
enum {
    STAT_THREADS = 18,
    STAT_START = 20,
    STAT_VIRTUAL = 21,
    STAT_RESIDENT = 22
};

static void read_stat(struct fw_process_figures *figures)
{
    char line[1024];
    uint64_t fields[STAT_RESIDENT + 1] = {0};
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    line[n > 0 ? n : 0] = '\0';
    char *at = strrchr(line, ')');
    if (!at || at[1] == '\0') {
        return;
    }
    char *save = NULL;
    char *word = strtok_r(at + 1, " ", &save);
    for (int i = 1; word && i <= STAT_RESIDENT; i++, word = strtok_r(NULL, " ", &save)) {
        fields[i] = strtoull(word, NULL, 10);
    }
    figures->threads = fields[STAT_THREADS];
    figures->virtual_bytes = fields[STAT_VIRTUAL];
    figures->resident_bytes = fields[STAT_RESIDENT] * (uint64_t)sysconf(_SC_PAGESIZE);
    double age = (double)fila_now() / FILA_S -
                 (double)fields[STAT_START] / (double)sysconf(_SC_CLK_TCK);
    figures->started = (double)fila_wall_ms() / 1000 - age;
}

static uint64_t count_fds(void)
{
    uint64_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) {
        return 0;
    }
    while (readdir(folder)) { /* NOLINT(concurrency-mt-unsafe): a folder stream of its own */
        count++;
    }
    (void)closedir(folder);
    return count > 3 ? count - 3 : 0; /* less ".", ".." and the folder itself */
}

void fw_process_read(struct fw_process_figures *ret_figures)
{
    struct fw_process_figures figures = {0};
    struct rlimit limit;
    struct timespec cpu;
    read_stat(&figures);
    figures.open_fds = count_fds();
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        figures.max_fds = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
    }
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
        figures.cpu_ns = (int64_t)cpu.tv_sec * FILA_S + cpu.tv_nsec;
    }
    *ret_figures = figures;
}
