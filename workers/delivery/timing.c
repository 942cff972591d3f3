/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

enum {
    LEAST_NEED = 16,  /* of a VT: as far as starving goes */
    RUNS_TO_KNOW = 20 /* before the handler's own times count (rule 1) */
};

int64_t fw_times(int64_t a, int64_t b)
{
    int64_t product;
    bool over = __builtin_mul_overflow(a, b, &product);
    return over ? FILA_NEVER / 4 : fw_min(product, FILA_NEVER / 4);
}

int64_t fw_margin_for(int64_t vt, int64_t settle_p99)
{
    int64_t least = fw_max(fw_min(FILA_S, vt / 10), vt / 20);
    return fw_min(vt / 4, fw_max(least, 2 * settle_p99));
}

int64_t fw_slack_for(int64_t vt, int64_t round_trip)
{
    return fw_max(fw_min(FILA_S, vt / 8), 4 * round_trip);
}

static int64_t round_trip_of(const struct fw_delivery *e)
{
    int64_t longest = 0;
    for (uint32_t i = 0; i < e->stream_count; i++) {
        longest = fw_max(longest, e->streams[i].pipe.round_trip);
    }
    return longest;
}

static int64_t need_of(const struct fw_delivery *e)
{
    int64_t need = e->config.timeout;
    if (e->run_times.seen >= RUNS_TO_KNOW) {
        need = fw_min(need, fw_quantile_get(&e->run_times, 950) / 4 * 5);
    }
    return fw_min(need, fw_min(e->vt / 2, e->need_limit));
}

void fw_starved(struct fw_delivery *e)
{
    if (e->running > 0 || !fw_slot_free(e)) {
        e->starved_since = 0;
    } else if (e->starved_since == 0) {
        e->starved_since = e->now;
    } else if (e->now - e->starved_since >= e->vt) {
        e->starved_since = e->now;
        e->need_limit = fw_max(fw_min(e->need, e->need_limit) / 2, e->vt / LEAST_NEED);
        e->need = need_of(e);
    }
}

void fw_needs_more(struct fw_delivery *e)
{
    e->need_limit = FILA_NEVER;
    e->need = need_of(e);
}

void fw_timing_update(struct fw_delivery *e)
{
    e->margin = fw_margin_for(e->vt, fw_quantile_get(&e->settle_times, 990));
    e->slack = fw_slack_for(e->vt, round_trip_of(e));
    e->need = need_of(e);
}

/* Quantiles are looked at often while there are few durations, then each 16th time. */
static bool look(const struct fw_quantile *quantile)
{
    return quantile->seen <= 64 || quantile->seen % 16 == 0;
}

void fw_settle_took(struct fw_delivery *e, int64_t took)
{
    fw_quantile_add(&e->settle_times, e->now, took);
    fw_peak_add(&e->answers, e->now, e->config.visibility_timeout, took);
    if (look(&e->settle_times)) {
        e->margin = fw_margin_for(e->vt, fw_quantile_get(&e->settle_times, 990));
    }
}

void fw_run_took(struct fw_delivery *e, int64_t took)
{
    e->mean_run = e->run_times.seen == 0 ? took : e->mean_run + (took - e->mean_run) / 16;
    fw_quantile_add(&e->run_times, e->now, took);
    if (look(&e->run_times)) {
        e->need = need_of(e);
    }
    if (e->run_times.seen == RUNS_TO_KNOW) {
        fw_check_split(e);
    }
}

void fw_came_through(struct fw_delivery *e)
{
    const struct fw_pace *last = &e->paces[(e->next_pace + FW_PACES - 1) % FW_PACES];
    if (e->now - last->at >= e->vt / 8) {
        e->paces[e->next_pace] = (struct fw_pace){.at = e->now, .through = e->through};
        e->next_pace = (e->next_pace + 1) % FW_PACES;
    }
    e->through++;
}

uint64_t fw_random(struct fw_delivery *e)
{
    uint64_t x = e->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

int64_t fw_random_up_to(struct fw_delivery *e, int64_t limit)
{
    return limit <= 0 ? 0 : (int64_t)(fw_random(e) % ((uint64_t)limit + 1));
}

/* Full doubling, without the jitter. */
static int64_t ceiling(const struct fw_delivery_config *config, uint32_t tries)
{
    int64_t wait = config->retry_first;
    for (uint32_t i = 1; i < tries && wait < config->retry_max; i++) {
        wait *= 2;
    }
    return fw_min(wait, config->retry_max);
}

int64_t fw_backoff(struct fw_delivery *e, uint32_t tries)
{
    int64_t wait = ceiling(&e->config, tries);
    return wait - fw_random_up_to(e, wait / 2);
}

int64_t fw_slowest_backoff(struct fw_delivery *e)
{
    return e->config.retry_max - fw_random_up_to(e, e->config.retry_max / 2);
}

int64_t fw_call_deadline(const struct fw_delivery *e)
{
    int64_t deadline = e->now + fw_min(5 * FILA_S, fw_max(FILA_S, e->vt / 4));
    return e->draining ? fw_min(deadline, e->drain_deadline) : deadline;
}

/* All of a message's tries, one after the other. */
static int64_t all_tries(const struct fw_delivery *e)
{
    int64_t sum = 0;
    for (uint32_t i = 1; i < e->config.retry_attempts; i++) {
        sum += ceiling(&e->config, i);
        if (ceiling(&e->config, i) == e->config.retry_max) { /* all others wait as long */
            sum += fw_times(e->config.retry_attempts - 1 - i, e->config.retry_max);
            break;
        }
    }
    return sum + fw_times(e->config.retry_attempts, e->need);
}

void fw_check_split(struct fw_delivery *e)
{
    bool counts = e->config.dead_letter == FW_DEAD_LETTER_WORKER ||
                  e->config.dead_letter == FW_DEAD_LETTER_DROP;
    if (e->split_told || !counts || e->config.retry_attempts < 2) {
        return;
    }
    int64_t sum = all_tries(e);
    if (sum > e->vt - e->margin) {
        int64_t vt = sum;
        while (vt - fw_margin_for(vt, 0) < sum) {
            vt += fw_max(sum / 64, FILA_MS);
        }
        e->split_told = true;
        fw_notice(e, FW_NOTICE_RETRY_SPLIT, NULL, vt);
    }
}
