/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the control socket asks of the host. Its threads call these; what concerns queues goes to
 * the I/O thread, what concerns the worker as a whole is left for the supervisor, who looks at it
 * when `host.ring` has woken him.
 */
#ifndef FW_HOST_ORDERS_H
#define FW_HOST_ORDERS_H

#include "ctl/ctl.h"
#include "io.h"

#include <pthread.h>
#include <stdatomic.h>

/* What the host does for orders. */
struct fw_orders_host {
    void (*ring)(void *user); /* wakes the supervisor */
    bool (*dump)(void *user); /* as fw_ctl_commands; any thread */
    void *user;
};

struct fw_orders {
    struct fw_ctl *ctl; /* NULL = no socket */
    struct fw_ctl_commands commands;
    struct fw_io *io;
    struct fw_orders_host host;
    atomic_bool drain_asked;
    atomic_bool reload_asked;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t reloaded; /* by CLOCK_MONOTONIC */
        uint64_t reloads;        /* that are over */
        char why[512];           /* the last one was refused; "" = it was not */
        bool over;               /* none will be any more */
    } locked;
};

/* Opens the socket of `config`; one that cannot be opened is logged (CTL-OFF) and done without.
 * Thread: supervisor. */
void fw_orders_start(
    struct fw_orders *orders,
    const struct fw_config *config,
    const struct fw_status_source *source,
    struct fw_io *io,
    const struct fw_orders_host *host);
/* A reload is over, whoever asked for it; `why` it was refused, NULL = it was not. Thread:
 * supervisor. */
void fw_orders_reloaded(struct fw_orders *orders, const char *why);
/* Thread: supervisor; before the I/O thread is stopped. Also of one that was never started. */
void fw_orders_stop(struct fw_orders *orders);

#endif
