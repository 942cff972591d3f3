/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/estimate.h"

#include "base/clock.h"

enum {
    SUB = 32, /* buckets an octave */
    SUB_BITS = 5,
    UNIT_BITS = 10, /* the unit is 1,024 ns */
    FADE_AFTER = 1024
};

static uint32_t bucket_of(int64_t duration)
{
    uint64_t units = duration <= 0 ? 0 : (uint64_t)duration >> UNIT_BITS;
    if (units < SUB) {
        return (uint32_t)units;
    }
    uint32_t octave = 63U - (uint32_t)__builtin_clzll(units) - SUB_BITS;
    uint32_t bucket = (octave + 1) * SUB + (uint32_t)((units >> octave) - SUB);
    return bucket < FW_QUANTILE_BUCKETS ? bucket : FW_QUANTILE_BUCKETS - 1;
}

/* The upper edge of a bucket. */
static int64_t duration_of(uint32_t bucket)
{
    if (bucket < SUB) {
        return ((int64_t)bucket + 1) << UNIT_BITS;
    }
    uint32_t octave = bucket / SUB - 1;
    return (int64_t)(bucket % SUB + SUB + 1) << (octave + UNIT_BITS);
}

static void fade(struct fw_quantile *quantile)
{
    uint32_t top = quantile->top;
    quantile->total = 0;
    quantile->top = 0;
    for (uint32_t i = 0; i <= top; i++) {
        quantile->counts[i] /= 2;
        quantile->total += quantile->counts[i];
        if (quantile->counts[i] > 0) {
            quantile->top = i;
        }
    }
}

void fw_quantile_add(struct fw_quantile *quantile, int64_t now, int64_t duration)
{
    uint32_t bucket = bucket_of(duration);
    if (quantile->total >= FADE_AFTER ||
        (quantile->total > 0 && now - quantile->halved_at > 60 * FILA_S)) {
        fade(quantile);
        quantile->halved_at = now;
    }
    quantile->counts[bucket] += 2; /* so that the last one survives one halving */
    quantile->total += 2;
    quantile->seen++;
    if (bucket > quantile->top) {
        quantile->top = bucket;
    }
}

int64_t fw_quantile_get(const struct fw_quantile *quantile, uint32_t permille)
{
    uint64_t above = (uint64_t)quantile->total * (1000 - permille) / 1000;
    uint64_t sum = 0;
    if (quantile->total == 0) {
        return 0;
    }
    for (uint32_t i = quantile->top + 1; i-- > 0;) {
        sum += quantile->counts[i];
        if (sum > above) {
            return duration_of(i);
        }
    }
    return 0;
}

static void roll(struct fw_peak *peak, int64_t now, int64_t period)
{
    int64_t length = period / (FW_PEAK_PARTS - 1) + 1;
    if (now - peak->began < length) {
        return;
    }
    if (now - peak->began >= FW_PEAK_PARTS * length) {
        *peak = (struct fw_peak){.began = now};
        return;
    }
    while (now - peak->began >= length) {
        peak->began += length;
        peak->part = (peak->part + 1) % FW_PEAK_PARTS;
        peak->longest[peak->part] = 0;
    }
}

void fw_peak_add(struct fw_peak *peak, int64_t now, int64_t period, int64_t duration)
{
    roll(peak, now, period);
    if (duration > peak->longest[peak->part]) {
        peak->longest[peak->part] = duration;
    }
}

int64_t fw_peak_get(struct fw_peak *peak, int64_t now, int64_t period)
{
    int64_t longest = 0;
    roll(peak, now, period);
    for (int i = 0; i < FW_PEAK_PARTS; i++) {
        if (peak->longest[i] > longest) {
            longest = peak->longest[i];
        }
    }
    return longest;
}
