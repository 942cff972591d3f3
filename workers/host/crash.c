/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "crash.h"

#ifdef FILA_CRASH_POINTS
#    include <pthread.h>
#    include <signal.h>
#    include <stdatomic.h>
#    include <stdlib.h>
#    include <string.h>
#    include <unistd.h>

#    define NAME(name, text) text,
static const char *const NAMES[] = {FW_CRASH_POINTS(NAME)};
#    undef NAME

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum fw_crash_point wanted = FW_CRASH_COUNT;
static atomic_long left;

static void read_wish(void)
{
    const char *wish = getenv("FILA_CRASH_AT"); /* NOLINT(concurrency-mt-unsafe): never set */
    size_t len = wish ? strcspn(wish, ":") : 0;
    for (int i = 0; wish && i < FW_CRASH_COUNT; i++) {
        if (strlen(NAMES[i]) == len && strncmp(NAMES[i], wish, len) == 0) {
            wanted = (enum fw_crash_point)i;
            atomic_store(&left, wish[len] ? strtol(wish + len + 1, NULL, 10) : 1);
        }
    }
}

void fw_crash_point(enum fw_crash_point point)
{
    (void)pthread_once(&once, read_wish);
    if (point == wanted && atomic_fetch_sub(&left, 1) == 1) {
        (void)kill(getpid(), SIGKILL);
    }
}
#endif
