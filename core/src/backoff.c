/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fila/client.h"

#include <sys/random.h>
#include <time.h>

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        struct timespec t;
        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        seed = (uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec << 30;
    }
    return seed;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void fila_backoff_init(
    fila_backoff *backoff,
    uint32_t first_ms,
    uint32_t max_ms,
    uint32_t jitter_percent,
    uint64_t seed)
{
    backoff->first_ms = first_ms;
    backoff->max_ms = max_ms > first_ms ? max_ms : first_ms;
    backoff->jitter_percent = jitter_percent < 100 ? jitter_percent : 100;
    backoff->next_ms = first_ms;
    backoff->random = seed ? seed : random_seed();
}

uint32_t fila_backoff_next(fila_backoff *backoff)
{
    uint64_t base = backoff->next_ms;
    uint64_t jitter = base * backoff->jitter_percent / 100;
    uint64_t pause = base - (jitter ? next_random(&backoff->random) % (jitter + 1) : 0);
    uint64_t doubled = base ? base * 2 : 1;
    backoff->next_ms = (uint32_t)(doubled < backoff->max_ms ? doubled : backoff->max_ms);
    return (uint32_t)pause;
}

void fila_backoff_reset(fila_backoff *backoff)
{
    backoff->next_ms = backoff->first_ms;
}
