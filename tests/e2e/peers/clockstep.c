/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * For LD_PRELOAD: shifts the wall clock of one process by the seconds that the file $CLOCKSTEP_FILE
 * holds, looked up at every question, so that a test can step it while the process runs. With
 * $CLOCKSTEP_SLEEP also the clock that goes on while a machine sleeps.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long shift(void)
{
    char text[32] = {0};
    const char *path = getenv("CLOCKSTEP_FILE"); /* NOLINT(concurrency-mt-unsafe): never set */
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int result = (int)syscall(SYS_clock_gettime, clock, ret);
    bool sleeps = clock == CLOCK_BOOTTIME &&
                  getenv("CLOCKSTEP_SLEEP"); /* NOLINT(concurrency-mt-unsafe): never set */
    if (result == 0 && (clock == CLOCK_REALTIME || sleeps)) {
        ret->tv_sec += shift();
    }
    return result;
}
