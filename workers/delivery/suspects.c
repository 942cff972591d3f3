/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Rule 15. A suspect waits apart until it may run alone. Its engine first wishes for that: nothing
 * new starts, in no engine of the process. When nothing runs any more, the suspect does. The wish
 * ends after VT / 4, the run when it is over or over its deadline; then the others have as long a
 * turn as they were kept waiting.
 */
#include "delivery/internal.h"

#include <utlist.h>

void fw_suspect_ready(struct fw_delivery *e, struct fw_held *h)
{
    fw_move(e, h, FW_SUSPECT);
    if (h->account == FW_ACCOUNT_NONE) {
        fw_account(e, h, FW_ACCOUNT_PREFETCH);
    }
    DL_APPEND(e->suspects, h);
    e->suspect_count++;
    fw_heap_set(&e->timers, &h->timer, fw_max(fw_last_call(e, h), e->now + 1));
}

/* The first that would be started if nothing else ran. */
static struct fw_held *candidate(const struct fw_delivery *e)
{
    struct fw_held *h;
    if (e->suspects == NULL || !fw_rate_allows(e) || !fw_may_start(e)) {
        return NULL;
    }
    DL_FOREACH(e->suspects, h)
    {
        if (fw_fits(e, h)) {
            return h;
        }
    }
    return NULL;
}

static void wish(struct fw_delivery *e)
{
    struct fw_shared *shared = e->shared;
    shared->alone = e;
    shared->alone_since = e->now;
    shared->alone_until = e->now + e->vt / 4;
}

static void run_alone(struct fw_delivery *e, struct fw_held *h)
{
    struct fw_shared *shared = e->shared;
    fw_run(e, h, true);
    shared->alone_run = h;
    shared->alone_until = e->now + e->config.timeout + e->margin;
}

/* It does not stop when it should: the others cannot wait for it. */
static void end_alone_run(struct fw_delivery *e)
{
    struct fw_shared *shared = e->shared;
    fw_emit(e, &(struct fw_command){.kind = FW_COMMAND_COMPANY, .user = shared->alone_run->user});
    fw_alone_end(shared, e->now);
}

void fw_suspects_step(struct fw_delivery *e)
{
    struct fw_shared *shared = e->shared;
    struct fw_held *h = candidate(e);
    if (shared->alone == NULL && h != NULL && e->now >= shared->alone_next) {
        wish(e);
    }
    if (shared->alone != e) {
        return;
    }
    if (shared->alone_run != NULL) {
        if (e->now >= shared->alone_until) {
            end_alone_run(e);
        }
    } else if (h == NULL || e->now >= shared->alone_until) {
        fw_alone_end(shared, e->now);
    } else if (shared->running == 0) {
        run_alone(e, h);
    }
}

int64_t fw_suspects_wake(const struct fw_delivery *e)
{
    const struct fw_shared *shared = e->shared;
    if (shared->alone == e) {
        bool now = shared->alone_run == NULL && shared->running == 0;
        return now ? e->now : shared->alone_until;
    }
    if (e->suspects == NULL || shared->alone != NULL) {
        return FILA_NEVER;
    }
    if (candidate(e) != NULL) {
        return fw_max(shared->alone_next, e->now);
    }
    return fw_may_start(e) && !fw_rate_allows(e) ? e->next_start : FILA_NEVER;
}
