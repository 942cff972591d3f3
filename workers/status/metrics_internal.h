/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the page's writer (metrics.c) and the list of families (metrics_list.c) share.
 */
#ifndef FW_STATUS_METRICS_INTERNAL_H
#define FW_STATUS_METRICS_INTERNAL_H

#include "status/metrics.h"
#include "status/writer.h"

/* One page being written. */
struct fw_page {
    struct fw_writer out;
    const struct fw_snapshot *snapshot;
    const struct fw_process_figures *process;
    /* The snapshot's queues, each pair of queue and handler once. */
    const struct fw_queue_status *queues;
    uint32_t queue_count;
    const char **labels; /* `queue="...",handler="..."` of each, escaped */
    struct fw_arena memory;
    const char *name; /* of the family being written */
};

/* Of what a family has samples. */
enum fw_family_of {
    FW_OF_WORKER,
    FW_OF_QUEUE, /* counters: of those that are gone too */
    FW_OF_SERVED
};

/* A family of samples that share a name. `write`: of the worker (`q` NULL, `labels` ""), or of one
 * queue. */
struct fw_family {
    const char *name; /* without the prefix, unless it begins with "process_" */
    const char *type;
    const char *help;
    enum fw_family_of of;
    void (*write)(struct fw_page *page, const struct fw_queue_status *q, const char *labels);
};

extern const struct fw_family fw_families[];
extern const size_t fw_family_count;

/* One line: name, labels ("" = none), number. */
void fw_sample(struct fw_page *page, const char *labels, uint64_t number);
void fw_sample_seconds(struct fw_page *page, const char *labels, int64_t ns);
/* The same with one label more. */
void fw_sample_with(
    struct fw_page *page,
    const char *labels,
    const char *key,
    const char *value,
    uint64_t number);
void fw_sample_histogram(
    struct fw_page *page,
    const char *labels,
    const struct fw_histogram *histogram,
    const struct fw_histogram_edges *edges);
/* Appends `key="value"` with what must be escaped. */
void fw_write_label(struct fw_writer *out, const char *key, const char *value);

#endif
