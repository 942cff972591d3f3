/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the page's writer (metrics.c) and the list of families (metrics_list.c) share.
 *
 * A page of 200 queues is 26,000 lines: each is written with one check for room, from texts whose
 * length is known (the family's name, a queue's labels, the edges of a histogram: made once).
 */
#ifndef FW_STATUS_METRICS_INTERNAL_H
#define FW_STATUS_METRICS_INTERNAL_H

#include "status/metrics.h"
#include "status/writer.h"

/* `,le="0.005"} ` for each edge of a histogram, and for what is beyond. */
struct fw_edge_texts {
    const struct fw_histogram_edges *of;
    char text[FW_HISTOGRAM_EDGES + 1][40];
    size_t len[FW_HISTOGRAM_EDGES + 1];
};

/* One page being written. */
struct fw_page {
    struct fw_writer out;
    const struct fw_snapshot *snapshot;
    const struct fw_process_figures *process;
    /* The snapshot's queues, each pair of queue and handler once. */
    const struct fw_queue_status **queues;
    uint32_t queue_count;
    fila_view *labels; /* `queue="...",handler="..."` of each, escaped */
    struct fw_arena memory;
    fila_view name; /* of the family being written */
    struct fw_edge_texts edges;
};

/* Of what a family has samples. */
enum fw_family_of {
    FW_OF_WORKER,
    FW_OF_QUEUE, /* counters: of those that are gone too */
    FW_OF_SERVED
};

/* A family of samples that share a name. `write`: of the worker (`q` NULL, `labels` empty), or of
 * one queue. */
struct fw_family {
    const char *name; /* without the prefix, unless it begins with "process_" */
    const char *type;
    const char *help;
    enum fw_family_of of;
    void (*write)(struct fw_page *page, const struct fw_queue_status *q, fila_view labels);
};

extern const struct fw_family fw_families[];
extern const size_t fw_family_count;

/* One line: name, labels (empty = none), number. */
void fw_sample(struct fw_page *page, fila_view labels, uint64_t number);
void fw_sample_seconds(struct fw_page *page, fila_view labels, int64_t ns);

/* A label: a key and a value as it is, escaped when it is written. */
struct fw_label {
    const char *key;
    const char *value;
};

/* The same with one label more, and with two. */
void fw_sample_with(
    struct fw_page *page,
    fila_view labels,
    const char *key,
    const char *value,
    uint64_t number);
void fw_sample_with_two(
    struct fw_page *page,
    fila_view labels,
    const struct fw_label *first,
    const struct fw_label *second,
    uint64_t number);
void fw_sample_histogram(
    struct fw_page *page,
    fila_view labels,
    const struct fw_histogram *histogram,
    const struct fw_histogram_edges *edges);

#endif
