/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Counters of a plugin's own (services->counter): a small set per bound handler, shown on /metrics
 * as fila_worker_handler_counter_total{queue,handler,name}.
 *
 * Properties. A counter never goes away and never goes down while its handler is bound; adding to a
 * known one takes no lock. Thread: any, all functions, at once.
 */
#ifndef FW_COUNTERS_H
#define FW_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

struct fw_counters;

struct fw_counters *fw_counters_new(void);           /* NULL without memory */
void fw_counters_free(struct fw_counters *counters); /* takes NULL; nobody may use it any more */

/* False: there are no counters (NULL), the name is none of plugin.h's rules, or there are
 * FILA_COUNTERS_MAX others. */
bool fw_counters_add(struct fw_counters *counters, const char *name, uint64_t delta);

/* Calls `each` with every counter, in the order in which they came up. `name` lives as long as the
 * counters. */
void fw_counters_each(
    const struct fw_counters *counters,
    void (*each)(void *user, const char *name, uint64_t value),
    void *user);

#endif
