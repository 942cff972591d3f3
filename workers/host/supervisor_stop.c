/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "supervisor.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LEAST_GRACE (100 * FILA_MS) /* for threads that only have to end */
#define HURRY       (2 * FILA_S)    /* a second TERM: this long for returning what is held */

void fw_host_drain(struct fw_host *h, const char *why)
{
    bool first = !h->draining;
    int64_t timeout = first ? h->config->config->drain_timeout : HURRY;
    int64_t deadline = fila_now() + timeout;
    h->draining = true;
    if (first || deadline < h->drain_deadline) { /* never later than it was */
        h->drain_deadline = deadline;
    }
    /* Before the log tells it, whose reader may ask /readyz at once. */
    atomic_store(&h->published.drain_deadline, h->drain_deadline);
    if (first) {
        FW_LOG(
            FW_EVENT_DRAIN_START, "stopping", fw_str("why", why),
            fw_int("drain_timeout_ms", timeout / FILA_MS));
    } else {
        FW_LOG(FW_EVENT_DRAIN_HURRY, "returning everything, then exiting", fw_str("why", why));
    }
    fw_io_drain(h->io, NULL, h->drain_deadline);
    for (struct fw_served *s = h->served; s; s = s->next) {
        s->state = FW_SERVED_DRAINING;
    }
}

void fw_host_stop_with(struct fw_host *h, int exit_status, const char *why)
{
    if (!h->exit_status) {
        h->exit_status = exit_status;
    }
    if (!h->draining) {
        fw_host_drain(h, why);
    }
}

static struct fw_served *take_served(struct fw_host *h, const struct fw_queue *queue)
{
    struct fw_served **at = &h->served;
    while (*at && (*at)->queue != queue) {
        at = &(*at)->next;
    }
    struct fw_served *found = *at;
    if (found) {
        *at = found->next;
    }
    return found;
}

/* All that a stop had to cut off have the same grace. */
static int64_t stuck_deadline(const struct fw_host *h)
{
    int64_t now = fila_now();
    int64_t together = h->drain_deadline + FW_HOST_STUCK_GRACE;
    if (!h->draining) {
        return now + FW_HOST_STUCK_GRACE;
    }
    return together > now + LEAST_GRACE ? together : now + LEAST_GRACE;
}

/* What a reload had to cut off is no part of how the stop ended. */
static void retire(struct fw_host *h, struct fw_served *served)
{
    struct fw_account before = h->account;
    fw_served_retire(served, h->io, &h->account, stuck_deadline(h));
    if (!h->draining) {
        h->account.cut_off = before.cut_off;
        h->account.stuck = before.stuck;
        h->account.not_returned = before.not_returned;
    }
}

void fw_host_retire_drained(struct fw_host *h)
{
    (void)pthread_mutex_lock(&h->locked.lock);
    struct fw_queue *queue = h->locked.drained;
    h->locked.drained = NULL;
    (void)pthread_mutex_unlock(&h->locked.lock);
    while (queue) {
        struct fw_queue *next = *fw_queue_link(queue);
        struct fw_served *served = take_served(h, queue);
        if (served) {
            retire(h, served);
        }
        queue = next;
    }
}

int fw_host_final_status(const struct fw_host *h)
{
    if (h->exit_status) {
        return h->exit_status;
    }
    if (!h->account.cut_off && !h->account.stuck) {
        return FW_EXIT_OK;
    }
    return h->account.not_returned ? FW_EXIT_LATE_LEFT : FW_EXIT_LATE;
}

/* The account, in one line: also where Kubernetes shows why a container ended. */
void fw_host_last_words(const struct fw_host *h, int status)
{
    const struct fw_account *a = &h->account;
    char line[512];
    int n = snprintf(
        line, sizeof line, "fila-worker ended with %d: received=%" PRIu64, status, a->received);
    for (int i = 0; i < FW_OUTCOME_COUNT && n > 0 && (size_t)n < sizeof line; i++) {
        n += snprintf(
            line + n, sizeof line - (size_t)n, " %s=%" PRIu64, fw_outcome_name((enum fw_outcome)i),
            a->finished[i]);
    }
    fw_log_flush(); /* what was folded comes before the last line */
    FW_LOG(
        FW_EVENT_WORKER_STOP, line, fw_int("exit_status", status),
        fw_int("received", (int64_t)a->received), fw_int("acked", (int64_t)a->finished[FW_ACKED]),
        fw_int("retried", (int64_t)a->finished[FW_RETRIED]),
        fw_int("dead_lettered", (int64_t)a->finished[FW_DEAD_LETTERED]),
        fw_int("dropped", (int64_t)a->finished[FW_DROPPED]),
        fw_int("returned", (int64_t)a->finished[FW_RETURNED]),
        fw_int("left", (int64_t)a->finished[FW_LEFT]),
        fw_int("lease_lost", (int64_t)a->finished[FW_LEASE_LOST]),
        fw_int("duplicate", (int64_t)a->finished[FW_DUPLICATE]));
    int fd = open("/dev/termination-log", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t written = write(fd, line, strlen(line));
        (void)written;
        (void)close(fd);
    }
}
