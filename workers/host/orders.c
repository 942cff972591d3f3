/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "orders.h"

#include "base/clock.h"
#include "config/table.h"

#include <stdio.h>

#define PATIENCE    (5 * FILA_S)
#define RELOAD_ENDS 60 /* seconds: a reload may load slow handlers */

/* ---- On the control socket's threads ---- */

/* The name that may have been meant; NULL = none is near. */
static const struct fw_queue_status *nearest(const struct fw_snapshot *s, const char *name)
{
    const struct fw_queue_status *found = NULL;
    for (uint32_t i = 0; i < s->queue_count; i++) {
        const struct fw_queue_status *q = &s->queues[i];
        if (!q->gone && fw_is_near(name, q->queue) &&
            (!found || fw_distance(name, q->queue) < fw_distance(name, found->queue))) {
            found = q;
        }
    }
    return found;
}

static void say_unknown(struct fw_orders *o, const char *queue, char *ret_why, size_t size)
{
    const struct fw_status_source *source = o->commands.source;
    struct fw_snapshot *s = source->take(source->user, 0, PATIENCE);
    const struct fw_queue_status *near = s ? nearest(s, queue) : NULL;
    int n = snprintf(ret_why, size, "this worker has no queue \"%.200s\"", queue);
    if (n > 0 && (size_t)n < size && near) {
        (void)snprintf(ret_why + n, size - (size_t)n, "; \"%.200s\" perhaps?", near->queue);
    }
    fw_snapshot_free(s);
}

static bool order(void *user, const struct fw_ctl_request *request, char *ret_why, size_t size)
{
    struct fw_orders *o = user;
    struct fw_order what = {
        .kind = request->verb == FW_CTL_PAUSE    ? FW_ORDER_PAUSE
                : request->verb == FW_CTL_RESUME ? FW_ORDER_RESUME
                                                 : FW_ORDER_ADJUST,
        .queue = request->queue[0] ? request->queue : NULL,
        .rate = request->has_rate ? request->rate : -1,
        .concurrency = request->concurrency,
    };
    switch (fw_io_order(o->io, &what, PATIENCE)) {
    case FW_OBEYED:
        return true;
    case FW_NO_SUCH_QUEUE:
        say_unknown(o, request->queue, ret_why, size);
        return false;
    case FW_OVER_CHILDREN:
        (void)snprintf(
            ret_why, size,
            "isolation is \"process\", whose children are counted at the start: set "
            "concurrency = %u in the config, and reload",
            (unsigned)request->concurrency);
        return false;
    case FW_NO_ANSWER:
        break;
    }
    (void)snprintf(ret_why, size, "the I/O thread does not answer");
    return false;
}

static void drain(void *user)
{
    struct fw_orders *o = user;
    atomic_store(&o->drain_asked, true);
    o->host.ring(o->host.user);
}

static bool reload(void *user, char *ret_why, size_t size)
{
    struct fw_orders *o = user;
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RELOAD_ENDS;
    (void)pthread_mutex_lock(&o->locked.lock);
    uint64_t before = o->locked.reloads;
    atomic_store(&o->reload_asked, true);
    o->host.ring(o->host.user);
    int error = 0;
    while (o->locked.reloads == before && !o->locked.over && error == 0) {
        error = pthread_cond_timedwait(&o->locked.reloaded, &o->locked.lock, &until);
    }
    bool over = o->locked.reloads != before;
    bool refused = o->locked.why[0] != '\0';
    if (over) {
        (void)snprintf(
            ret_why, size, "the new config was refused, the old one stays in force: %s",
            o->locked.why);
    } else {
        (void)snprintf(ret_why, size, "the reload is not over after a minute: see the log");
    }
    (void)pthread_mutex_unlock(&o->locked.lock);
    return over && !refused;
}

static bool dump(void *user)
{
    struct fw_orders *o = user;
    return o->host.dump(o->host.user);
}

static bool set_tap(void *user, struct fw_tap *tap)
{
    struct fw_orders *o = user;
    const struct fw_order what = {.kind = FW_ORDER_TAP, .tap = tap};
    return fw_io_order(o->io, &what, PATIENCE) == FW_OBEYED;
}

/* ---- Supervisor ---- */

void fw_orders_start(
    struct fw_orders *o,
    const struct fw_config *config,
    const struct fw_status_source *source,
    struct fw_io *io,
    const struct fw_orders_host *host)
{
    char path[FW_CTL_PATH_SIZE];
    fila_error error = FILA_ERROR_INIT;
    pthread_condattr_t attributes;
    o->io = io;
    o->host = *host;
    (void)pthread_mutex_init(&o->locked.lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&o->locked.reloaded, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    o->commands = (struct fw_ctl_commands){source, order, drain, reload, dump, set_tap, o};
    if (!fw_ctl_path(config, path)) {
        FW_LOG(
            FW_EVENT_CTL_OFF, "the path of the control socket is too long",
            fw_str("socket", config->ctl_socket));
        return;
    }
    if (path[0] && fw_ctl_start(path, &o->commands, &o->ctl, &error) != FILA_OK) {
        FW_LOG(
            FW_EVENT_CTL_OFF, "there is no control socket", fw_str("socket", path),
            fw_str("error", error.text));
    }
}

void fw_orders_reloaded(struct fw_orders *o, const char *why)
{
    if (!o->io) {
        return;
    }
    (void)pthread_mutex_lock(&o->locked.lock);
    o->locked.reloads++;
    (void)snprintf(o->locked.why, sizeof o->locked.why, "%s", why ? why : "");
    (void)pthread_cond_broadcast(&o->locked.reloaded);
    (void)pthread_mutex_unlock(&o->locked.lock);
}

void fw_orders_stop(struct fw_orders *o)
{
    if (!o->io) {
        return;
    }
    (void)pthread_mutex_lock(&o->locked.lock);
    o->locked.over = true;
    (void)pthread_cond_broadcast(&o->locked.reloaded);
    (void)pthread_mutex_unlock(&o->locked.lock);
    fw_ctl_stop(o->ctl);
    (void)pthread_cond_destroy(&o->locked.reloaded);
    (void)pthread_mutex_destroy(&o->locked.lock);
    o->io = NULL;
}
