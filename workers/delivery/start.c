/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#define LONGEST_INTERVAL (INT64_C(365) * 24 * 3600 * FILA_S) /* between starts */

enum {
    RATE_CATCH_UP_MS = 100 /* how much lateness of a timer the rate makes up for */
};

static struct fw_held *of_node(struct fw_tree_node *node)
{
    return node == NULL ? NULL : FW_OWNER(node, struct fw_held, node);
}

bool fw_fits(const struct fw_delivery *e, const struct fw_held *h)
{
    int64_t end = fw_certain(e, h) ? fw_early_end(e, h) : fw_late_end(e, h);
    return e->now + e->need <= end - e->margin;
}

/* How long before its earliest end a message cannot start any more. */
static int64_t too_late(const struct fw_delivery *e)
{
    return e->margin + e->need - 1;
}

/* How long before its earliest end a certain one is given back: with `expire` as soon as it cannot
 * start any more. */
static int64_t notice_time(const struct fw_delivery *e)
{
    return e->config.surplus == FW_SURPLUS_EXPIRE ? too_late(e) : e->margin;
}

/* How long before its earliest end a ready one is looked at again: with lanes when it cannot start
 * any more, so that the next of its lane can. */
static int64_t look_time(const struct fw_delivery *e)
{
    return e->config.lanes ? too_late(e) : notice_time(e);
}

int64_t fw_last_call(const struct fw_delivery *e, const struct fw_held *h)
{
    if (fw_certain(e, h)) {
        return fw_early_end(e, h) - (h->failed ? e->margin : notice_time(e));
    }
    return fw_late_end(e, h) - e->margin - e->need;
}

/* One that waited behind its lane counts as read ahead only if that breaks no bound. */
static bool has_room(const struct fw_delivery *e)
{
    return e->accounts[FW_ACCOUNT_PREFETCH] + e->credits < e->config.prefetch;
}

void fw_make_ready(struct fw_delivery *e, struct fw_held *h)
{
    bool certain = fw_certain(e, h);
    if (!certain && e->config.unsure_lease == FW_UNSURE_SKIP) {
        fw_lose(e, h);
        return;
    }
    if (!fw_lane_enter(e, h)) {
        return;
    }
    if (h->id->suspect) {
        fw_suspect_ready(e, h);
        return;
    }
    fw_move(e, h, FW_READY);
    if (!h->waited && (h->account != FW_ACCOUNT_WAITING || has_room(e))) {
        fw_account(e, h, FW_ACCOUNT_PREFETCH);
    }
    h->unsure = !certain;
    h->node.key = certain ? h->window.early : h->window.late;
    fw_tree_add(certain ? &e->certain : &e->unsure, &h->node);
}

void fw_lose(struct fw_delivery *e, struct fw_held *h)
{
    fw_finish(e, h, h->runs > 0 ? FW_LEASE_LOST : FW_LEFT);
}

void fw_give_back(struct fw_delivery *e, struct fw_held *h)
{
    if (h->runs == 0) {
        fw_starved(e);
    }
    if (!fw_certain(e, h)) {
        fw_lose(e, h);
    } else if (e->config.surplus == FW_SURPLUS_EXPIRE && !h->failed) {
        fw_finish(e, h, FW_LEFT);
    } else {
        bool tried = h->runs > 0 && !h->refused;
        fw_settle(e, h, FW_COMMAND_NACK, tried ? FW_RETRIED : FW_RETURNED);
    }
}

void fw_time_over(struct fw_delivery *e, struct fw_held *h)
{
    if (fw_certain(e, h) || !fw_fits(e, h)) {
        fw_give_back(e, h);
    } else if (h->state == FW_ASIDE) { /* its lease may last longer: rule 2 */
        fw_make_ready(e, h);
    } else {
        fw_heap_set(&e->timers, &h->timer, fw_max(fw_last_call(e, h), e->now + 1));
    }
}

/* It cannot start any more and will be returned: its place in the order is lost, so its lane does
 * not wait for it. */
static void step_aside(struct fw_delivery *e, struct fw_held *h)
{
    fw_move(e, h, FW_ASIDE);
    fw_account(e, h, FW_ACCOUNT_WAITING);
    e->aside++;
    fw_heap_set(&e->timers, &h->timer, fw_last_call(e, h));
    fw_hold(e, h);
}

/* Those past their earliest end, those that are given back now, and those that hold up a lane. */
static void return_certain(struct fw_delivery *e)
{
    for (;;) {
        struct fw_held *h = of_node(fw_tree_first(&e->certain));
        if (h == NULL || fw_early_end(e, h) - look_time(e) > e->now) {
            return;
        }
        if (!fw_certain(e, h)) {
            fw_make_ready(e, h);
        } else if (e->now >= fw_early_end(e, h) - notice_time(e)) {
            fw_give_back(e, h);
        } else {
            step_aside(e, h);
        }
    }
}

void fw_return_overdue(struct fw_delivery *e)
{
    return_certain(e);
    for (;;) {
        struct fw_held *h = of_node(fw_tree_first(&e->unsure));
        if (h == NULL || fw_fits(e, h)) {
            return;
        }
        fw_finish(e, h, FW_LEASE_LOST);
    }
}

static struct fw_held *pick(const struct fw_delivery *e)
{
    struct fw_tree_node *node = fw_tree_from(&e->certain, e->now + e->need + e->margin - e->vt);
    return of_node(node != NULL ? node : fw_tree_first(&e->unsure));
}

bool fw_rate_allows(const struct fw_delivery *e)
{
    return !(e->config.rate > 0) || e->now >= e->next_start;
}

int64_t fw_rate_interval(const struct fw_delivery *e)
{
    double interval = (double)FILA_S / e->config.rate;
    return interval < (double)LONGEST_INTERVAL ? (int64_t)interval : LONGEST_INTERVAL;
}

static void count_start(struct fw_delivery *e)
{
    if (e->config.rate > 0) {
        int64_t late = e->now - RATE_CATCH_UP_MS * FILA_MS;
        e->next_start = fw_max(e->next_start, late) + fw_rate_interval(e);
    }
}

void fw_run(struct fw_delivery *e, struct fw_held *h, bool alone)
{
    int64_t end = (fw_certain(e, h) ? fw_early_end(e, h) : fw_late_end(e, h)) - e->margin;
    int64_t deadline = fw_min(e->now + e->config.timeout, end);
    fw_move(e, h, FW_RUNNING);
    e->running++;
    fw_shared_started(e);
    e->starved_since = 0;
    h->runs++;
    h->lease_bound = end < e->now + e->config.timeout;
    if (e->breaker.open) {
        e->breaker.trial = h;
    }
    fw_emit(
        e, &(struct fw_command){
               .kind = FW_COMMAND_RUN,
               .user = h->user,
               .deadline = deadline,
               .lease_end = fw_early_end(e, h),
               .attempt = h->id->tries + 1,
               .alone = alone});
    count_start(e);
}

/* As far as this engine goes. */
static bool own_slot_free(const struct fw_delivery *e)
{
    return e->running < e->config.concurrency && fw_rate_allows(e) && fw_may_start(e);
}

bool fw_slot_free(const struct fw_delivery *e)
{
    return own_slot_free(e) && fw_shared_allows(e);
}

bool fw_startable(const struct fw_delivery *e)
{
    return fw_slot_free(e) && pick(e) != NULL;
}

void fw_start(struct fw_delivery *e)
{
    do {
        struct fw_held *h = NULL;
        while (fw_slot_free(e) && (h = pick(e)) != NULL) {
            fw_run(e, h, false);
        }
        if (e->shared->limit == 0 && e->shared->alone == NULL && !e->blocked) {
            return;
        }
        fw_shared_wait(e, own_slot_free(e) && pick(e) != NULL);
    } while (fw_startable(e)); /* in the queue it may be the first */
}

int64_t fw_start_wake(const struct fw_delivery *e)
{
    int64_t wake = FILA_NEVER;
    const struct fw_held *certain = of_node(fw_tree_first(&e->certain));
    const struct fw_held *unsure = of_node(fw_tree_first(&e->unsure));
    if (certain != NULL) {
        wake = fw_early_end(e, certain) - look_time(e);
    }
    if (unsure != NULL) {
        wake = fw_min(wake, fw_late_end(e, unsure) - e->margin - e->need + 1);
    }
    if (wake != FILA_NEVER && !fw_rate_allows(e)) {
        wake = fw_min(wake, e->next_start);
    }
    return e->blocked && fw_startable(e) ? e->now : wake;
}
