/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Memory that the worker writes and one child reads: a control block, and room for a body that is
 * too large for a packet. A sealed memfd, mapped once by each: its size is fixed, and the child
 * cannot map it for writing. A child runs one message at a time, so one body is all that is ever in
 * it, always at the same place: a ring would only spread it over more pages. Pages are there once
 * they were written.
 */
#ifndef FW_PROCESS_AREA_H
#define FW_PROCESS_AREA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FW_AREA_BODY 65536u                     /* where a body begins */
#define FW_AREA_ROOM ((size_t)64 * 1024 * 1024) /* and how long it may be */
#define FW_AREA_SIZE (FW_AREA_BODY + FW_AREA_ROOM)

struct fw_control {
    _Atomic uint64_t cancelled; /* the id of the run that is cancelled */
    _Atomic uint32_t log_level; /* what the worker logs */
};

struct fw_area {
    int fd; /* -1 = none */
    struct fw_control *control;
    uint8_t *body;
};

/* Worker: makes and seals one. An errno. */
int fw_area_new(struct fw_area *ret_area);
/* Child: maps `fd`, read-only. False: it cannot be. */
bool fw_area_map(int fd, struct fw_area *ret_area);
void fw_area_fini(struct fw_area *area);

#endif
