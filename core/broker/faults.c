/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "broker.h"

#include <stdlib.h>
#include <utlist.h>

static bool names(const struct fb_fault *fault, fila_view queue)
{
    const char *name = fault->what.queue;
    return !name || (strlen(name) == queue.len && memcmp(name, queue.data, queue.len) == 0);
}

/* Whether its `uses`th use meets the fault. */
static bool fires(const struct fb_fault *fault)
{
    return fault->uses >= fault->what.nth &&
           (fault->what.count == 0 || fault->uses - fault->what.nth < fault->what.count);
}

static bool spent(const struct fb_fault *fault)
{
    return fault->what.count != 0 && fault->uses >= fault->what.nth &&
           fault->uses - fault->what.nth + 1 >= fault->what.count;
}

fila_fault fb_faults_use(fila_broker *broker, fila_call call, fila_view queue)
{
    fila_fault met = {.size = sizeof met};
    struct fb_fault *fault;
    struct fb_fault *after;
    DL_FOREACH_SAFE(broker->faults, fault, after)
    {
        if (fault->what.call != call || !names(fault, queue)) {
            continue;
        }
        fault->uses += fault->uses < UINT32_MAX;
        if (met.kind == 0 && fires(fault)) {
            met = fault->what;
            met.queue = NULL;
        }
        if (spent(fault)) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is in there */
            DL_DELETE(broker->faults, fault);
            free(fault);
        }
    }
    return met;
}

void fb_faults_clear(fila_broker *broker)
{
    struct fb_fault *fault;
    struct fb_fault *after;
    DL_FOREACH_SAFE(broker->faults, fault, after)
    {
        free(fault);
    }
    broker->faults = NULL;
}

static fila_status check(const fila_fault *fault, fila_error *reterr)
{
    bool answers = fault->kind == FILA_FAULT_ERROR || fault->kind == FILA_FAULT_LOSE_REPLY;
    bool of_streams = fault->kind == FILA_FAULT_CUT || fault->kind == FILA_FAULT_FREEZE;
    if (fault->size != sizeof *fault) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "fault size is %zu: must be %zu", fault->size,
            sizeof *fault);
    }
    if (fault->kind < FILA_FAULT_ERROR || fault->kind > FILA_FAULT_FREEZE) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "no fault kind %d", (int)fault->kind);
    }
    if ((unsigned)fault->call >= FILA_CALL_COUNT) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "no call %d", (int)fault->call);
    }
    if (fault->nth == 0) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "nth is 0: the next use is 1");
    }
    if (of_streams && fault->call != FILA_CALL_CONSUME) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "only Consume can be cut or frozen, not %s",
            fila_call_name(fault->call));
    }
    if (fault->wire_code < 0 || fault->wire_code > 16 || (answers && fault->wire_code == 0)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "wire_code is %d: must be %d to 16", fault->wire_code,
            answers ? 1 : 0);
    }
    return FILA_OK;
}

fila_status fila_broker_add_fault(fila_broker *broker, const fila_fault *fault, fila_error *reterr)
{
    size_t len = fault->queue ? strlen(fault->queue) : 0;
    struct fb_fault *added;
    fila_status status = check(fault, reterr);
    if (status != FILA_OK) {
        return status;
    }
    added = calloc(1, sizeof *added + len + 1);
    if (!added) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a fault");
    }
    added->what = *fault;
    if (fault->queue) {
        memcpy(added->name, fault->queue, len);
        added->what.queue = added->name;
    }
    (void)pthread_mutex_lock(&broker->lock);
    DL_APPEND(broker->faults, added);
    (void)pthread_mutex_unlock(&broker->lock);
    return FILA_OK;
}

void fila_broker_clear_faults(fila_broker *broker)
{
    (void)pthread_mutex_lock(&broker->lock);
    fb_faults_clear(broker);
    (void)pthread_mutex_unlock(&broker->lock);
}
