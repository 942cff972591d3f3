/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <math.h>
#include <stdio.h>

#define LONGEST_TIME (INT64_C(3650) * 24 * 3600 * FILA_S)

enum {
    TEXT_SIZE = 32
};

struct fw_delivery_config fw_config_fill(const struct fw_delivery_config *config)
{
    struct fw_delivery_config full = *config;
    full.concurrency = full.concurrency > 0 ? full.concurrency : 1;
    full.streams = full.streams > 0 ? full.streams : 1;
    full.visibility_timeout = fw_max(full.visibility_timeout, FILA_MS);
    if (full.timeout <= 0) {
        full.timeout = full.visibility_timeout / 2;
    }
    if (full.prefetch == 0) {
        full.prefetch = full.concurrency > 2 ? 2 * full.concurrency : 4;
        full.prefetch = full.prefetch > full.streams ? full.prefetch : full.streams;
    }
    if (full.prefetch_bytes == 0) {
        full.prefetch_bytes = UINT64_C(64) << 20;
    }
    full.settle_in_flight = full.settle_in_flight > 0 ? full.settle_in_flight : FW_DEFAULT_SETTLE;
    full.breaker_failures = full.breaker_failures > 0 ? full.breaker_failures : UINT32_MAX;
    full.retry_first = fw_max(full.retry_first, FILA_MS);
    full.retry_max = fw_max(full.retry_max, full.retry_first);
    full.breaker_probe = fw_max(full.breaker_probe, FILA_MS);
    full.breaker_max = fw_max(full.breaker_max, full.breaker_probe);
    return full;
}

/* As config files write them: 90s, 1500ms. */
static const char *text_of(int64_t time, char text[TEXT_SIZE])
{
    if (time % FILA_S == 0) {
        (void)snprintf(text, TEXT_SIZE, "%llds", (long long)(time / FILA_S));
    } else {
        (void)snprintf(text, TEXT_SIZE, "%lldms", (long long)(time / FILA_MS));
    }
    return text;
}

int64_t fw_delivery_usable(int64_t vt)
{
    return vt - fw_margin_for(vt, 0) - fw_slack_for(vt, 0);
}

/* The least visibility timeout, in whole ms, that leaves more than `timeout`. */
static int64_t least_vt(int64_t timeout)
{
    int64_t low = timeout;
    int64_t high = 2 * timeout + FILA_S;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (fw_delivery_usable(middle) > timeout) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return (high + FILA_MS - 1) / FILA_MS * FILA_MS;
}

static bool timeout_problem(int64_t vt, int64_t timeout, char *ret_text, size_t size)
{
    char texts[6][TEXT_SIZE];
    int64_t margin = fw_margin_for(vt, 0);
    int64_t slack = fw_slack_for(vt, 0);
    if (timeout + margin + slack < vt) {
        return false;
    }
    (void)snprintf(
        ret_text, size,
        "timeout (%s) + margin (%s) + slack (%s) must be less than visibility_timeout (%s): "
        "at most timeout = \"%s\", or at least visibility_timeout = \"%s\" passes",
        text_of(timeout, texts[0]), text_of(margin, texts[1]), text_of(slack, texts[2]),
        text_of(vt, texts[3]), text_of((fw_delivery_usable(vt) - 1) / FILA_MS * FILA_MS, texts[4]),
        text_of(least_vt(timeout), texts[5]));
    return true;
}

/* A number that must lie within a range; false = it does. */
static bool out_of_range(
    const char *name,
    uint64_t value,
    uint64_t least,
    uint64_t most,
    char *ret_text,
    size_t size)
{
    if (value >= least && value <= most) {
        return false;
    }
    (void)snprintf(
        ret_text, size, "%s (%llu) must be from %llu to %llu", name, (unsigned long long)value,
        (unsigned long long)least, (unsigned long long)most);
    return true;
}

static bool time_problem(
    const char *name,
    int64_t value,
    int64_t least,
    int64_t most,
    char *ret_text,
    size_t size)
{
    char texts[3][TEXT_SIZE];
    if (value >= least && value <= most) {
        return false;
    }
    (void)snprintf(
        ret_text, size, "%s (%s) must be from %s to %s", name, text_of(value, texts[0]),
        text_of(least, texts[1]), text_of(most, texts[2]));
    return true;
}

static bool times_problem(const struct fw_delivery_config *c, char *ret_text, size_t size)
{
    return time_problem(
               "visibility_timeout", c->visibility_timeout, 100 * FILA_MS, LONGEST_TIME, ret_text,
               size) ||
           time_problem("timeout", c->timeout, 0, LONGEST_TIME, ret_text, size) ||
           time_problem("retry.first", c->retry_first, FILA_MS, LONGEST_TIME, ret_text, size) ||
           time_problem(
               "retry.max", c->retry_max, fw_max(c->retry_first, FILA_MS), LONGEST_TIME, ret_text,
               size) ||
           time_problem("breaker.probe", c->breaker_probe, FILA_MS, LONGEST_TIME, ret_text, size) ||
           time_problem(
               "breaker.max", c->breaker_max, fw_max(c->breaker_probe, FILA_MS), LONGEST_TIME,
               ret_text, size);
}

static bool numbers_problem(const struct fw_delivery_config *c, char *ret_text, size_t size)
{
    uint64_t least = c->concurrency > c->streams ? c->concurrency : c->streams;
    if (c->rate < 0 || !isfinite(c->rate) || c->rate > 1e9) {
        (void)snprintf(ret_text, size, "rate (%g) must be from 0 to 1e9", c->rate);
        return true;
    }
    return out_of_range("concurrency", c->concurrency, 1, 65536, ret_text, size) ||
           out_of_range("streams", c->streams, 1, 1024, ret_text, size) ||
           (c->prefetch != 0 && out_of_range(
                                    "prefetch, at least the larger of concurrency and streams,",
                                    c->prefetch, least, 1000000, ret_text, size)) ||
           out_of_range("settlements in flight", c->settle_in_flight, 0, 65536, ret_text, size);
}

bool fw_delivery_config_problem(
    const struct fw_delivery_config *config,
    char *ret_text,
    size_t size)
{
    if (times_problem(config, ret_text, size) || numbers_problem(config, ret_text, size)) {
        return true;
    }
    struct fw_delivery_config full = fw_config_fill(config);
    return timeout_problem(full.visibility_timeout, full.timeout, ret_text, size);
}
