/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The one clock of the project: CLOCK_BOOTTIME in nanoseconds, because leases age through a
 * suspend. Engines never call it: time comes in with their events. Thread: any.
 */
#ifndef FILA_BASE_CLOCK_H
#define FILA_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define FILA_US    INT64_C(1000)
#define FILA_MS    INT64_C(1000000)
#define FILA_S     INT64_C(1000000000)
#define FILA_NEVER INT64_MAX

static inline int64_t fila_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * FILA_S + t.tv_nsec;
}

/* Milliseconds since 1970, for ids and logs only. */
static inline int64_t fila_wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / FILA_MS;
}

#endif
