/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A tap: messages as they end, sampled, for somebody who watches. The I/O thread offers each one
 * while a tap is on; at most so many a second are copied, the rest is counted. When nobody reads
 * fast enough the tap drops, never the worker.
 *
 * Thread: fw_tap_offer: I/O; fw_tap_take: the watcher's; new and free: the watcher's, while the I/O
 * thread does not have it.
 */
#ifndef FW_CTL_TAP_H
#define FW_CTL_TAP_H

#include "delivery/delivery.h"
#include "fila/client.h"

/* Of a payload, in bytes: what is longer is cut, and its size says so. */
#define FW_TAP_PAYLOAD 4096

struct fw_tap;

struct fw_tap_options {
    const char *queue; /* "" = all; copied */
    uint32_t per_second;
    bool payload; /* payloads and headers too */
};

/* A message that has ended. */
struct fw_tapped {
    const char *queue;
    const fila_message *message;
    enum fw_outcome outcome;
    enum fw_cause cause;
    uint32_t attempt;
    int64_t ran_ns;
    const char *reason; /* or NULL */
};

struct fw_tap *fw_tap_new(const struct fw_tap_options *options); /* NULL without memory */
void fw_tap_free(struct fw_tap *tap);

void fw_tap_offer(struct fw_tap *tap, int64_t now, const struct fw_tapped *tapped);

/* The next one as JSON in one line, malloc'ed; NULL = none has come within
 * `patience_ms`. */
char *fw_tap_take(struct fw_tap *tap, int patience_ms);

#endif
