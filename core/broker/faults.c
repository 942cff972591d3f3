/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "broker.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define MILLION 1000000u

static bool names(const struct fb_fault *fault, fila_view queue)
{
    const char *name = fault->what.queue;
    return !name || (strlen(name) == queue.len && memcmp(name, queue.data, queue.len) == 0);
}

uint64_t fb_fault_random(uint64_t seed, uint64_t nth, uint64_t below)
{
    uint64_t n = seed + nth * UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return (n ^ n >> 31) % below;
}

/* Whether its `uses`th use meets the fault. */
static bool fires(const struct fb_fault *fault)
{
    const fila_fault *what = &fault->what;
    if (fault->uses < what->nth || (what->count && fault->uses - what->nth >= what->count)) {
        return false;
    }
    return what->chance == 0 || what->kind == FILA_FAULT_LATE ||
           fb_fault_random(what->seed, fault->uses, MILLION) < what->chance;
}

static bool spent(const struct fb_fault *fault)
{
    return fault->what.count != 0 && fault->uses >= fault->what.nth &&
           fault->uses - fault->what.nth + 1 >= fault->what.count;
}

void fb_crash(void)
{
    for (;;) {
        (void)kill(getpid(), SIGKILL);
    }
}

/* With the lock, and in a server its turn: so nothing moves. In short steps, for a broker that
 * closes. */
static void stall(const fila_broker *broker, uint32_t ms)
{
    const struct timespec step = {0, FILA_MS};
    int64_t until = fila_now() + (int64_t)ms * FILA_MS;
    while (fila_now() < until && !atomic_load(&broker->closing)) {
        (void)nanosleep(&step, NULL);
    }
}

fila_view fb_queue_of(const fila_request *request)
{
    switch (request->call) {
    case FILA_CALL_ENQUEUE:
        return request->as.enqueue.queue;
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
        return request->as.settle.queue;
    case FILA_CALL_CREATE_QUEUE:
        return request->as.create_queue.name;
    case FILA_CALL_CONSUME:
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_GET_STATS:
        return request->as.queue.queue;
    case FILA_CALL_REDRIVE:
        return request->as.redrive.dlq_queue;
    default:
        return fila_view_of("");
    }
}

/* Of the faults of connections, or of all others. */
static fila_fault meet(fila_broker *broker, fila_call call, fila_view queue, bool of_connections)
{
    fila_fault met = {.size = sizeof met};
    struct fb_fault *fault;
    struct fb_fault *after;
    DL_FOREACH_SAFE(broker->faults, fault, after)
    {
        if ((fault->what.call != call && fault->what.call != FILA_ANY_CALL) ||
            (fault->what.kind == FILA_FAULT_HALF_OPEN) != of_connections || !names(fault, queue)) {
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

fila_fault fb_faults_use(fila_broker *broker, fila_call call, fila_view queue)
{
    fila_fault met = meet(broker, call, queue, false);
    if (met.kind == FILA_FAULT_CRASH) {
        fb_crash();
    }
    if (met.kind == FILA_FAULT_STALL) {
        stall(broker, met.delay_ms);
    }
    return met;
}

bool fb_meets_half_open(
    fila_broker *broker,
    const fila_request *request,
    struct fb_half_open *ret_how)
{
    if (!atomic_load_explicit(&broker->has_half_open, memory_order_relaxed)) {
        return false;
    }
    (void)pthread_mutex_lock(&broker->lock);
    fila_fault met = meet(broker, request->call, fb_queue_of(request), true);
    (void)pthread_mutex_unlock(&broker->lock);
    *ret_how = (struct fb_half_open){met.delay_ms, met.after_messages};
    return met.kind == FILA_FAULT_HALF_OPEN;
}

static void free_list(struct fb_fault *list)
{
    struct fb_fault *fault;
    struct fb_fault *after;
    DL_FOREACH_SAFE(list, fault, after)
    {
        free(fault);
    }
}

void fb_faults_clear(fila_broker *broker)
{
    free_list(broker->faults);
    broker->faults = NULL;
    atomic_store(&broker->has_half_open, false);
}

static fila_status check(const fila_fault *fault, fila_error *reterr)
{
    bool answers = fault->kind == FILA_FAULT_ERROR || fault->kind == FILA_FAULT_LOSE_REPLY;
    bool of_streams = fault->kind == FILA_FAULT_CUT || fault->kind == FILA_FAULT_FREEZE ||
                      fault->kind == FILA_FAULT_LATE;
    if (fault->kind < FILA_FAULT_ERROR || fault->kind > FILA_FAULT_HALF_OPEN) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "no fault kind %d", (int)fault->kind);
    }
    if ((unsigned)fault->call >= FILA_CALL_COUNT && fault->call != FILA_ANY_CALL) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "no call %d", (int)fault->call);
    }
    if (fault->nth == 0) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "nth is 0: the next use is 1");
    }
    if (of_streams && fault->call != FILA_CALL_CONSUME) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "only Consume can be cut, frozen or late, not %s",
            fault->call == FILA_ANY_CALL ? "any call" : fila_call_name(fault->call));
    }
    if (fault->wire_code < 0 || fault->wire_code > 16 || (answers && fault->wire_code == 0)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "wire_code is %d: must be %d to 16", fault->wire_code,
            answers ? 1 : 0);
    }
    if (fault->chance > MILLION) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "chance is %u: must be at most %u", fault->chance,
            MILLION);
    }
    return FILA_OK;
}

/* NULL without memory. `queue` NULL: any. */
static struct fb_fault *fault_new(const fila_fault *what, const fila_view *queue)
{
    struct fb_fault *fault = calloc(1, sizeof *fault + (queue ? queue->len : 0) + 1);
    if (fault) {
        fault->what = *what;
        fault->what.queue = NULL;
    }
    if (fault && queue) {
        memcpy(fault->name, queue->data, queue->len);
        fault->what.queue = fault->name;
    }
    return fault;
}

static void append(fila_broker *broker, struct fb_fault *faults)
{
    const struct fb_fault *fault;
    (void)pthread_mutex_lock(&broker->lock);
    DL_FOREACH(faults, fault)
    {
        if (fault->what.kind == FILA_FAULT_HALF_OPEN) {
            atomic_store(&broker->has_half_open, true);
        }
    }
    DL_CONCAT(broker->faults, faults);
    (void)pthread_mutex_unlock(&broker->lock);
}

fila_status fila_broker_add_fault(fila_broker *broker, const fila_fault *given, fila_error *reterr)
{
    const size_t first_size = offsetof(fila_fault, jitter_ms); /* before there was chance */
    fila_fault fault = {.size = sizeof fault};
    fila_view queue;
    struct fb_fault *added;
    struct fb_fault *list = NULL;
    fila_status status;
    if (given->size < first_size || given->size > sizeof fault) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "fault size is %zu: must be %zu", given->size,
            sizeof fault);
    }
    memcpy(&fault, given, given->size);
    status = check(&fault, reterr);
    if (status != FILA_OK) {
        return status;
    }
    queue = fila_view_of(fault.queue);
    added = fault_new(&fault, fault.queue ? &queue : NULL);
    if (!added) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a fault");
    }
    DL_APPEND(list, added);
    append(broker, list);
    return FILA_OK;
}

/* ---- As text ---- */

/* Each rule has randomness of its own. */
static void give_seeds(struct fb_fault *list, uint64_t seed)
{
    struct fb_fault *fault;
    uint64_t nth = 0;
    DL_FOREACH(list, fault)
    {
        fault->what.seed = fb_fault_random(seed, ++nth, UINT64_MAX);
    }
}

static fila_status parse(
    const char *spec,
    struct fb_fault **ret_list,
    size_t *at,
    uint64_t *seed,
    fila_error *reterr)
{
    struct fb_chaos_rule rule;
    struct fb_fault *list = NULL;
    fila_status status = FILA_OK;
    fila_error error = FILA_ERROR_INIT;
    while (status == FILA_OK && fb_chaos_next(spec, at, &rule, seed, &error)) {
        struct fb_fault *fault;
        status = check(&rule.fault, &error);
        fault = status == FILA_OK ? fault_new(&rule.fault, rule.queue.len ? &rule.queue : NULL)
                                  : NULL;
        if (fault) {
            DL_APPEND(list, fault);
        } else if (status == FILA_OK) {
            status = fila_fail(&error, FILA_NO_MEMORY, "no memory for a fault");
        }
    }
    if (error.code != FILA_OK) {
        free_list(list);
        if (reterr) {
            *reterr = error;
        }
        return error.code;
    }
    *ret_list = list;
    return FILA_OK;
}

fila_status fila_chaos_check(const char *spec, size_t *ret_at, fila_error *reterr)
{
    struct fb_fault *list = NULL;
    uint64_t seed = 0;
    size_t at = 0;
    fila_status status = parse(spec, &list, &at, &seed, reterr);
    if (status == FILA_OK) {
        free_list(list);
    } else if (ret_at) {
        *ret_at = at;
    }
    return status;
}

fila_status fila_broker_add_chaos(
    fila_broker *broker,
    const char *spec,
    uint64_t *ret_seed,
    fila_error *reterr)
{
    struct fb_fault *list = NULL;
    uint64_t seed = 0;
    size_t at = 0;
    fila_status status = parse(spec, &list, &at, &seed, reterr);
    if (status != FILA_OK) {
        return status;
    }
    seed = seed ? seed : fb_make_seed(0) % UINT32_MAX + 1; /* one that is easily typed again */
    give_seeds(list, seed);
    if (list) {
        append(broker, list);
    }
    if (ret_seed) {
        *ret_seed = seed;
    }
    return FILA_OK;
}

void fila_broker_clear_faults(fila_broker *broker)
{
    (void)pthread_mutex_lock(&broker->lock);
    fb_faults_clear(broker);
    (void)pthread_mutex_unlock(&broker->lock);
}

size_t fila_broker_faults_left(fila_broker *broker)
{
    struct fb_fault *fault;
    size_t left = 0;
    (void)pthread_mutex_lock(&broker->lock);
    DL_COUNT(broker->faults, fault, left);
    (void)pthread_mutex_unlock(&broker->lock);
    return left;
}
