/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A look at an engine for those who watch it: its breaker, the lease that it reckons with, and the
 * messages that it holds. Reading only; cost: the messages listed. Thread: the engine's owner.
 */
#ifndef FW_DELIVERY_LOOK_H
#define FW_DELIVERY_LOOK_H

#include "delivery/delivery.h"

enum fw_held_phase {
    FW_HELD_READY,
    FW_HELD_BEHIND, /* another message of its key runs */
    FW_HELD_WAITING,
    FW_HELD_RUNNING,
    FW_HELD_PUBLISHING, /* its dead-letter copy is under way */
    FW_HELD_SETTLING,
    FW_HELD_PHASE_COUNT
};

/* Lower-case words such as "waiting"; never NULL. */
const char *fw_held_phase_name(enum fw_held_phase phase);

struct fw_delivery_look {
    int64_t
        visibility_timeout; /* in effect: shorter than configured when that was seen (rule 10) */
    int64_t margin;
    int64_t breaker_since; /* 0 = closed */
    int64_t breaker_trial_at;
    bool breaker_trial; /* one is under way */
    bool withdrawn;     /* what was held was given back, streams are closed until things go on */
    uint32_t unavailable_in_a_row;
    int64_t paused_since; /* 0 = not paused */
    bool overleased;      /* within two visibility timeouts (rule 8) */
};

struct fw_delivery_look fw_delivery_look(const struct fw_delivery *engine);

struct fw_held_look {
    void *user;
    enum fw_held_phase phase;
    uint32_t tries;
    uint32_t attempt_count;
    uint32_t size;
    int64_t read_at;
    int64_t lease_end; /* earliest */
    int64_t due;       /* WAITING: when it goes on; else 0 */
};

/* Up to `limit` of the held ones, the oldest first; how many were written. */
uint32_t fw_delivery_held(
    const struct fw_delivery *engine,
    struct fw_held_look *ret_list,
    uint32_t limit);

#endif
