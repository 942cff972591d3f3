/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "run.h"

#include <stdlib.h>
#include <unistd.h>

#define REST_BEFORE_REUSE 1024

void fw_runs_init(struct fw_runs *runs, const char *queue, struct fw_done_list *done)
{
    *runs = (struct fw_runs){.queue = queue, .done = done};
    (void)pthread_mutex_init(&runs->mutex, NULL);
    fw_cond_init(&runs->none_deferred);
}

void fw_runs_fini(struct fw_runs *runs)
{
    while (runs->all) {
        struct fw_run *run = runs->all;
        runs->all = run->next;
        if (run->cancel_fd >= 0) {
            (void)close(run->cancel_fd);
        }
        free(run->reason);
        free(run->complete_reason);
        fw_outbox_fini(&run->outbox);
        free(run);
    }
    (void)pthread_cond_destroy(&runs->none_deferred);
    (void)pthread_mutex_destroy(&runs->mutex);
}

void fw_runs_put_spare(struct fw_run *run)
{
    struct fw_runs *runs = run->runs;
    run->link_next = NULL;
    if (runs->spare_last) {
        runs->spare_last->link_next = run;
    } else {
        runs->spare_first = run;
    }
    runs->spare_last = run;
    runs->spare_count++;
}

/* Under runs->mutex. */
static struct fw_run *take_spare(struct fw_runs *runs)
{
    struct fw_run *run = runs->spare_first;
    if (runs->spare_count < REST_BEFORE_REUSE) {
        return NULL;
    }
    runs->spare_first = run->link_next;
    if (!runs->spare_first) {
        runs->spare_last = NULL;
    }
    runs->spare_count--;
    return run;
}

struct fw_run *fw_run_take(struct fw_runs *runs)
{
    (void)pthread_mutex_lock(&runs->mutex);
    struct fw_run *run = take_spare(runs);
    if (!run && (run = calloc(1, sizeof *run))) {
        run->runs = runs;
        run->cancel_fd = -1;
        fw_outbox_init(&run->outbox);
        for (unsigned i = 0; i < FW_RUN_DELIVERIES; i++) {
            run->deliveries[i] = (fila_delivery){.size = sizeof(fila_delivery), .host = run};
        }
        run->next = runs->all;
        runs->all = run;
    }
    (void)pthread_mutex_unlock(&runs->mutex);
    return run;
}

void fw_runs_defer(struct fw_run *run)
{
    struct fw_runs *runs = run->runs;
    run->link_prev = NULL;
    run->link_next = runs->deferred;
    if (runs->deferred) {
        runs->deferred->link_prev = run;
    }
    runs->deferred = run;
    runs->deferred_count++;
}

void fw_runs_undefer(struct fw_run *run)
{
    struct fw_runs *runs = run->runs;
    if (run->link_prev) {
        run->link_prev->link_next = run->link_next;
    } else {
        runs->deferred = run->link_next;
    }
    if (run->link_next) {
        run->link_next->link_prev = run->link_prev;
    }
    if (--runs->deferred_count == 0) {
        (void)pthread_cond_broadcast(&runs->none_deferred);
    }
}
