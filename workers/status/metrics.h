/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The metrics page: a snapshot in Prometheus' text format. Names, labels and units as
 * conventions.md lists them; the list of all families is in metrics_list.c, from which the page is
 * written. Pure. Thread: any.
 */
#ifndef FW_STATUS_METRICS_H
#define FW_STATUS_METRICS_H

#include "status/process.h"
#include "status/snapshot.h"

/* The media type of the page. */
#define FW_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* malloc'ed, with its length; NULL without memory. */
char *fw_metrics_page(
    const struct fw_snapshot *snapshot,
    const struct fw_process_figures *process,
    size_t *ret_len);

#endif
