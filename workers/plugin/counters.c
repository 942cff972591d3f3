/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/counters.h"

#include "fila/plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct counter {
    char name[FILA_COUNTER_NAME_MAX + 1];
    _Atomic uint64_t value;
};

struct fw_counters {
    atomic_uint count; /* those below are complete, and their names do not change */
    pthread_mutex_t adding;
    struct counter items[FILA_COUNTERS_MAX];
};

struct fw_counters *fw_counters_new(void)
{
    struct fw_counters *counters = calloc(1, sizeof *counters);
    if (counters) {
        (void)pthread_mutex_init(&counters->adding, NULL);
    }
    return counters;
}

void fw_counters_free(struct fw_counters *counters)
{
    if (counters) {
        (void)pthread_mutex_destroy(&counters->adding);
        free(counters);
    }
}

static bool name_is_sound(const char *name)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    if (!name || name[0] < 'a' || name[0] > 'z') {
        return false;
    }
    size_t len = strspn(name, LETTERS);
    return !name[len] && len <= FILA_COUNTER_NAME_MAX;
}

static struct counter *find(struct fw_counters *counters, const char *name)
{
    unsigned count = atomic_load_explicit(&counters->count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        if (!strcmp(counters->items[i].name, name)) {
            return &counters->items[i];
        }
    }
    return NULL;
}

static struct counter *make(struct fw_counters *counters, const char *name)
{
    (void)pthread_mutex_lock(&counters->adding);
    struct counter *counter = find(counters, name); /* another thread's, meanwhile */
    unsigned count = atomic_load(&counters->count);
    if (!counter && count < FILA_COUNTERS_MAX) {
        counter = &counters->items[count];
        memcpy(counter->name, name, strlen(name) + 1);
        atomic_store_explicit(&counters->count, count + 1, memory_order_release);
    }
    (void)pthread_mutex_unlock(&counters->adding);
    return counter;
}

bool fw_counters_add(struct fw_counters *counters, const char *name, uint64_t delta)
{
    struct counter *counter = counters && name ? find(counters, name) : NULL;
    if (!counter && counters && name_is_sound(name)) {
        counter = make(counters, name);
    }
    if (counter) {
        (void)atomic_fetch_add_explicit(&counter->value, delta, memory_order_relaxed);
    }
    return counter != NULL;
}

void fw_counters_each(
    const struct fw_counters *counters,
    void (*each)(void *user, const char *name, uint64_t value),
    void *user)
{
    unsigned count = atomic_load_explicit(&counters->count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        each(
            user, counters->items[i].name,
            atomic_load_explicit(&counters->items[i].value, memory_order_relaxed));
    }
}
