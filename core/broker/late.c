/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "broker.h"

#include <stdlib.h>

#define ROOM    64
#define MILLION 1000000u

struct held {
    int64_t due;
    struct fq_delivery delivery;
};

struct fb_late {
    fila_fault fault;
    uint64_t messages; /* that went through it */
    uint32_t count;
    struct held held[ROOM];
};

struct fb_late *fb_late_new(const fila_fault *fault)
{
    struct fb_late *late = calloc(1, sizeof *late);
    if (late) {
        late->fault = *fault;
    }
    return late;
}

void fb_late_free(struct fb_late *late)
{
    for (uint32_t i = 0; late && i < late->count; i++) {
        fq_delivery_release(&late->held[i].delivery);
    }
    free(late);
}

/* How long the next message is held back. */
static int64_t pick_delay(struct fb_late *late)
{
    const fila_fault *fault = &late->fault;
    uint64_t nth = ++late->messages;
    if (fault->chance && fb_fault_random(fault->seed, 2 * nth, MILLION) >= fault->chance) {
        return 0;
    }
    return ((int64_t)fault->delay_ms +
            (int64_t)fb_fault_random(fault->seed, 2 * nth + 1, (uint64_t)fault->jitter_ms + 1)) *
           FILA_MS;
}

bool fb_late_take(
    struct fb_late *late,
    struct fq_consumer *slots,
    int64_t now,
    struct fq_delivery *ret_delivery,
    int64_t *ret_due)
{
    struct fq_delivery taken;
    uint32_t first = 0;
    while (late->count < ROOM && fq_take(slots, &taken)) {
        late->held[late->count++] = (struct held){now + pick_delay(late), taken};
    }
    for (uint32_t i = 1; i < late->count; i++) {
        first = late->held[i].due < late->held[first].due ? i : first;
    }
    *ret_due = late->count ? late->held[first].due : FILA_NEVER;
    if (*ret_due > now) {
        return false;
    }
    *ret_delivery = late->held[first].delivery;
    late->count--;
    for (uint32_t i = first; i < late->count; i++) { /* of equal times the first read comes first */
        late->held[i] = late->held[i + 1];
    }
    return true;
}
