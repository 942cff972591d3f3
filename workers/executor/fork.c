/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fork.h"

#include <pthread.h>
#include <stdatomic.h>

static struct {
    pthread_once_t once;
    atomic_bool forked;
} watch = {.once = PTHREAD_ONCE_INIT};

static void in_copy(void)
{
    atomic_store(&watch.forked, true);
}

static void begin(void)
{
    (void)pthread_atfork(NULL, NULL, in_copy);
}

void fw_fork_watch(void)
{
    (void)pthread_once(&watch.once, begin);
}

bool fw_is_fork(void)
{
    return atomic_load_explicit(&watch.forked, memory_order_relaxed);
}
