/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/counters.h"

#include "base/clock.h"

#define HALF_MS (FILA_MS / 2)
#define HOUR    (3600 * FILA_S)

const struct fw_histogram_edges FW_EDGES_RUN = {
    16,
    {HALF_MS, FILA_MS, 5 * FILA_MS, 10 * FILA_MS, 25 * FILA_MS, 50 * FILA_MS, 100 * FILA_MS,
     250 * FILA_MS, 500 * FILA_MS, FILA_S, 5 * FILA_S / 2, 5 * FILA_S, 10 * FILA_S, 30 * FILA_S,
     60 * FILA_S, 300 * FILA_S}};

const struct fw_histogram_edges FW_EDGES_SETTLE = {
    12,
    {HALF_MS, FILA_MS, 5 * FILA_MS / 2, 5 * FILA_MS, 10 * FILA_MS, 25 * FILA_MS, 50 * FILA_MS,
     100 * FILA_MS, 250 * FILA_MS, FILA_S, 5 * FILA_S / 2, 10 * FILA_S}};

const struct fw_histogram_edges FW_EDGES_AGE = {
    14,
    {10 * FILA_MS, 50 * FILA_MS, 100 * FILA_MS, 500 * FILA_MS, FILA_S, 5 * FILA_S, 10 * FILA_S,
     30 * FILA_S, 60 * FILA_S, 300 * FILA_S, 900 * FILA_S, HOUR, 6 * HOUR, 24 * HOUR}};

const struct fw_histogram_edges FW_EDGES_LEASE = {
    15,
    {0, FILA_S / 2, FILA_S, 5 * FILA_S / 2, 5 * FILA_S, 10 * FILA_S, 15 * FILA_S, 20 * FILA_S,
     25 * FILA_S, 30 * FILA_S, 60 * FILA_S, 120 * FILA_S, 300 * FILA_S, 600 * FILA_S, HOUR}};

uint64_t fw_histogram_count(const struct fw_histogram *histogram)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i <= FW_HISTOGRAM_EDGES; i++) {
        count += histogram->counts[i];
    }
    return count;
}

const char *fw_settle_call_name(enum fw_settle_call call)
{
    static const char *const NAMES[FW_CALL_COUNT] = {"ack", "nack", "publish"};
    return NAMES[call];
}

static void add(struct fw_histogram *sum, const struct fw_histogram *part)
{
    for (uint32_t i = 0; i <= FW_HISTOGRAM_EDGES; i++) {
        sum->counts[i] += part->counts[i];
    }
    sum->sum += part->sum;
}

void fw_queue_counters_add(struct fw_queue_counters *sum, const struct fw_queue_counters *part)
{
    add(&sum->handler_duration, &part->handler_duration);
    add(&sum->queue_wait, &part->queue_wait);
    add(&sum->message_age, &part->message_age);
    add(&sum->lease_at_start, &part->lease_at_start);
    add(&sum->settle_duration, &part->settle_duration);
    for (int call = 0; call < FW_CALL_COUNT; call++) {
        for (int code = 0; code < FILA_STATUS_COUNT; code++) {
            sum->settle_errors[call][code] += part->settle_errors[call][code];
        }
    }
    sum->reconnects += part->reconnects;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* xxxxxxxx-xxxx-7xxx-...: the first 48 bits. */
int64_t fw_id_time_ms(fila_view id)
{
    int64_t ms = 0;
    if (id.len != 36 || id.data[8] != '-' || id.data[13] != '-' || id.data[14] != '7') {
        return 0;
    }
    for (int i = 0; i < 13; i++) {
        if (i == 8) {
            continue;
        }
        int d = digit(id.data[i]);
        if (d < 0) {
            return 0;
        }
        ms = ms << 4 | d;
    }
    return ms;
}
