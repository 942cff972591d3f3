/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <stdlib.h>
#include <utlist.h>

struct fw_shared *fw_shared_new(uint32_t max_running)
{
    struct fw_shared *shared = calloc(1, sizeof(*shared));
    if (shared != NULL) {
        shared->limit = max_running;
    }
    return shared;
}

void fw_shared_free(struct fw_shared *shared)
{
    free(shared);
}

void fw_shared_limit(struct fw_shared *shared, uint32_t max_running)
{
    shared->limit = max_running;
}

uint32_t fw_shared_running(const struct fw_shared *shared)
{
    return shared->running;
}

/* Without waiting ones the first to come starts; with them, the one whose turn it is. */
bool fw_shared_allows(const struct fw_delivery *e)
{
    const struct fw_shared *shared = e->shared;
    if (shared->alone != NULL) {
        return false;
    }
    return shared->limit == 0 ||
           (shared->running < shared->limit && (shared->queue == NULL || shared->queue == e));
}

static void leave_queue(struct fw_delivery *e)
{
    if (e->queued) {
        e->queued = false;
        DL_DELETE2(e->shared->queue, e, queue_prev, queue_next);
    }
}

/* Among equals, who came first. */
static int by_last_start(const struct fw_delivery *a, const struct fw_delivery *b)
{
    return a->last_start <= b->last_start ? -1 : 1;
}

void fw_shared_wait(struct fw_delivery *e, bool has_work)
{
    e->blocked = has_work && !fw_shared_allows(e);
    if (!e->blocked || e->shared->limit == 0) {
        leave_queue(e);
    } else if (!e->queued) {
        e->queued = true;
        DL_INSERT_INORDER2(e->shared->queue, e, by_last_start, queue_prev, queue_next);
    }
}

/* Its turn is over: others that wait are before it. */
void fw_shared_started(struct fw_delivery *e)
{
    e->shared->running++;
    e->last_start = ++e->shared->starts;
    leave_queue(e);
}

void fw_alone_end(struct fw_shared *shared, int64_t now)
{
    shared->alone_next = now + (now - shared->alone_since);
    shared->alone = NULL;
    shared->alone_run = NULL;
}

void fw_shared_ended(struct fw_delivery *e, const struct fw_held *h)
{
    struct fw_shared *shared = e->shared;
    shared->running--;
    if (shared->alone_run == h) {
        fw_alone_end(shared, e->now);
    }
}

void fw_shared_leave(struct fw_delivery *e)
{
    struct fw_shared *shared = e->shared;
    if (shared == NULL) {
        return;
    }
    leave_queue(e);
    shared->running -= e->running;
    if (shared->alone == e) {
        fw_alone_end(shared, e->now);
    }
    e->own_shared = (struct fw_shared){.running = e->running};
    e->shared = &e->own_shared;
}
