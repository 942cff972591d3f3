/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Two estimates over a stream of durations: a quantile of the recent ones, and the longest within a
 * sliding period. Both err on the long side. Thread: the engine's.
 */
#ifndef FW_DELIVERY_ESTIMATE_H
#define FW_DELIVERY_ESTIMATE_H

#include <stdint.h>

#define FW_QUANTILE_BUCKETS 1280

/* A histogram of logarithmic buckets 3 % wide. The counts are halved each 1,024 durations, and each
 * minute, so that old ones fade. */
struct fw_quantile {
    uint32_t counts[FW_QUANTILE_BUCKETS];
    uint32_t total; /* in counts */
    uint32_t top;   /* the highest bucket in use */
    uint64_t seen;  /* durations added, ever */
    int64_t halved_at;
};

void fw_quantile_add(struct fw_quantile *quantile, int64_t now, int64_t duration);
/* The duration that `permille` of 1,000 do not exceed; 0 when none was added. */
int64_t fw_quantile_get(const struct fw_quantile *quantile, uint32_t permille);

#define FW_PEAK_PARTS 5

/* The longest duration of the last `period`, give or take a quarter more. */
struct fw_peak {
    int64_t longest[FW_PEAK_PARTS];
    int64_t began; /* the newest part */
    uint32_t part;
};

void fw_peak_add(struct fw_peak *peak, int64_t now, int64_t period, int64_t duration);
int64_t fw_peak_get(struct fw_peak *peak, int64_t now, int64_t period);

#endif
