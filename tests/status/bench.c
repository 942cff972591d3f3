/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What /metrics costs with 200 queues, all series of which are in use: milliseconds of CPU a page.
 * Fails above 50 ms, a bound for sanitizers and slow machines; the figure to reach is 5 ms.
 */
#include "base/clock.h"
#include "rig.h"
#include "status/metrics.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    QUEUES = 200,
    TIMES = 20
};

static int64_t cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * FILA_S + t.tv_nsec;
}

int main(void)
{
    struct fw_snapshot *s = rig_snapshot(QUEUES);
    struct fw_process_figures process;
    size_t len = 0;
    int64_t before = cpu();
    for (int i = 0; i < TIMES; i++) {
        fw_process_read(&process);
        char *page = fw_metrics_page(s, &process, &len);
        if (!page) {
            return 1;
        }
        free(page);
    }
    double ms = (double)(cpu() - before) / TIMES / (double)FILA_MS;
    (void)printf("%d queues: %.2f ms, %zu bytes\n", QUEUES, ms, len);
    fw_snapshot_free(s);
    return ms > 50;
}
