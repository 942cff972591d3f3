/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a queue counts for its metrics beside what its engine counts: histograms and errors.
 *
 * Properties. Plain integers, owned by the I/O thread; no lock, no atomic, no allocation. Others
 * see them as a copy in a snapshot (snapshot.h), which the I/O thread makes between two events: so
 * all figures of a queue are of one instant.
 *
 * Thread: the owner's.
 */
#ifndef FW_STATUS_COUNTERS_H
#define FW_STATUS_COUNTERS_H

#include "fila/client.h"

#include <stdint.h>

/* Upper edges, ascending, at most so many; one more bucket takes the rest. */
#define FW_HISTOGRAM_EDGES 16

struct fw_histogram_edges {
    uint32_t count;
    int64_t ns[FW_HISTOGRAM_EDGES];
};

struct fw_histogram {
    uint64_t counts[FW_HISTOGRAM_EDGES + 1]; /* each its own, not cumulative */
    int64_t sum;                             /* ns */
};

extern const struct fw_histogram_edges FW_EDGES_RUN;    /* handlers, waiting: 1 ms to 5 min */
extern const struct fw_histogram_edges FW_EDGES_SETTLE; /* a broker's answers: 0.5 ms to 10 s */
extern const struct fw_histogram_edges FW_EDGES_AGE;    /* enqueue to read: 10 ms to a day */
extern const struct fw_histogram_edges FW_EDGES_LEASE;  /* what is left of a lease: 0 to an hour */

static inline void fw_histogram_add(
    struct fw_histogram *histogram,
    const struct fw_histogram_edges *edges,
    int64_t ns)
{
    uint32_t i = 0;
    while (i < edges->count && ns > edges->ns[i]) {
        i++;
    }
    histogram->counts[i]++;
    histogram->sum += ns;
}

uint64_t fw_histogram_count(const struct fw_histogram *histogram);

/* Calls to the broker whose errors are counted apart. */
enum fw_settle_call {
    FW_CALL_ACK,
    FW_CALL_NACK,
    FW_CALL_PUBLISH, /* the dead-letter copy */
    FW_CALL_COUNT
};

const char *fw_settle_call_name(enum fw_settle_call call);

struct fw_queue_counters {
    struct fw_histogram handler_duration; /* FW_EDGES_RUN */
    struct fw_histogram queue_wait;       /* FW_EDGES_RUN: read to first start */
    struct fw_histogram message_age;      /* FW_EDGES_AGE */
    struct fw_histogram lease_at_start;   /* FW_EDGES_LEASE */
    struct fw_histogram settle_duration;  /* FW_EDGES_SETTLE: confirmed acks and nacks */
    uint64_t settle_errors[FW_CALL_COUNT][FILA_STATUS_COUNT];
    uint64_t reconnects; /* streams that ended and were to be opened again */
};

/* Adds what a queue that is gone had counted. */
void fw_queue_counters_add(struct fw_queue_counters *sum, const struct fw_queue_counters *part);

/* The milliseconds since 1970 in an id that is a UUIDv7 in text form; 0 when it is none. */
int64_t fw_id_time_ms(fila_view id);

#endif
