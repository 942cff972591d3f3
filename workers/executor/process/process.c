/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "process.h"

#include "base/error.h"
#include "config/arena.h"
#include "config/cgroup.h"
#include "config/config.h"
#include "executor/pool.h"
#include "plugin/counters.h"
#include "plugin/environment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PROBE_TIMEOUT (30 * FILA_S)
#define START_TIMEOUT (60 * FILA_S)
#define LOOK_EVERY    (50 * FILA_MS)
#define FIRST_BACKOFF (100 * FILA_MS)

const char *fw_child_end_name(enum fw_child_end end)
{
    static const char *const NAMES[FW_CHILD_END_COUNT] = {
        [FW_CHILD_END_STOP] = "stop",       [FW_CHILD_END_RECYCLE] = "recycle",
        [FW_CHILD_END_TIMEOUT] = "timeout", [FW_CHILD_END_CRASH] = "crash",
        [FW_CHILD_END_OOM] = "oom",         [FW_CHILD_END_RUBBISH] = "rubbish",
    };
    return (unsigned)end < FW_CHILD_END_COUNT ? NAMES[end] : "unknown";
}

static struct fw_process *process_of(struct fw_executor *executor)
{
    return (struct fw_process *)executor; /* its first member */
}

/* ---- Work ---- */

void fw_process_poke(struct fw_process *process)
{
    (void)!write(process->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* Something to be sent to a child that is the caller's until `sending` is cleared. */
struct errand {
    struct fw_child *child;
    struct fw_job *job;
    struct fw_job *refused;
    const char *why;
    uint64_t id;
    bool probe;
};

static struct fw_child *take_idle(struct fw_process *process)
{
    struct fw_child *child = process->locked.idle;
    process->locked.idle = child->locked.next_idle;
    child->locked.id++;
    child->locked.step = FW_STEP_NONE;
    child->locked.unsent = false;
    child->locked.started = fila_now();
    fw_child_set_state(child, FW_CHILD_BUSY);
    atomic_store(&child->sending, true);
    return child;
}

/* Under locked.mutex. False: nothing waits, or nobody is idle. */
static bool next_errand(struct fw_process *process, struct errand *ret_errand)
{
    struct fw_process_probe *probe = process->locked.probes;
    struct fw_job *job = process->locked.first;
    int64_t now = fila_now();
    *ret_errand = (struct errand){0};
    if (job && !probe) {
        bool cancelled = atomic_load(&job->cancelled);
        if (cancelled || now >= job->deadline || process->locked.stopped) {
            process->locked.first = job->next;
            ret_errand->refused = job;
            ret_errand->why = process->locked.stopped ? "no child can be started"
                              : cancelled             ? "cancelled before it was started"
                                                      : "no child was free in time";
            return true;
        }
    }
    if (!process->locked.idle || !(job || probe)) {
        return false;
    }
    struct fw_child *child = take_idle(process);
    *ret_errand = (struct errand){.child = child, .id = child->locked.id};
    if (probe) {
        process->locked.probes = probe->next;
        child->locked.probe = probe;
        child->locked.deadline = now + process->probe_timeout;
        ret_errand->probe = true;
    } else {
        process->locked.first = job->next;
        child->locked.job = job;
        child->locked.deadline = job->deadline;
        ret_errand->job = job;
    }
    return true;
}

/* It was not sent: back to where it was, or, if it is too large for any child, to its owner. The
 * child is no one else's before `sending` is cleared: the manager frees it then. */
static void take_back(struct fw_process *process, const struct errand *errand, enum fw_sent sent)
{
    struct fw_child *child = errand->child;
    struct fw_job *job = NULL;
    int64_t started = 0;
    (void)pthread_mutex_lock(&process->locked.mutex);
    if (child->locked.state == FW_CHILD_BUSY && child->locked.id == errand->id) {
        job = child->locked.job;
        started = child->locked.started;
        child->locked.job = NULL;
        if (sent == FW_SENT_TOO_LARGE) {
            child->locked.unsent = true;
        } else if (job) {
            fw_child_set_state(child, FW_CHILD_DYING);
            job->next = process->locked.first;
            process->locked.last = process->locked.first ? process->locked.last : job;
            process->locked.first = job;
            job = NULL;
        }
    }
    (void)pthread_mutex_unlock(&process->locked.mutex);
    if (job) {
        job->verdict = (struct fw_verdict){
            .kind = FW_RETRY,
            .cause = FW_CAUSE_RETRY,
            .started = started,
            .ended = fila_now(),
        };
        job->reason = strdup("the message is too large to be handed to a child, or there was no "
                             "memory for it");
        fw_done_push(process->done, job);
    }
}

static void carry_out(struct fw_process *process, const struct errand *errand)
{
    enum fw_sent sent = FW_SENT_DEAD;
    if (errand->probe) {
        struct fw_packet packet = {.type = FW_PACKET_PROBE, .id = errand->id};
        sent = fw_child_send(errand->child, &packet) ? FW_SENT : FW_SENT_DEAD;
    } else {
        sent = fw_child_send_job(errand->child, errand->job, errand->id);
    }
    if (sent != FW_SENT) {
        take_back(process, errand, sent);
    }
    atomic_store(&errand->child->sending, false);
    if (sent != FW_SENT) {
        fw_process_poke(process);
    }
}

void fw_process_dispatch(struct fw_process *process)
{
    for (;;) {
        struct errand errand;
        (void)pthread_mutex_lock(&process->locked.mutex);
        bool some = next_errand(process, &errand);
        (void)pthread_mutex_unlock(&process->locked.mutex);
        if (!some) {
            return;
        }
        if (errand.refused) {
            fw_job_refuse(process->done, errand.refused, errand.why);
        } else {
            carry_out(process, &errand);
        }
    }
}

static void process_submit(struct fw_executor *executor, struct fw_job *chain)
{
    struct fw_process *process = process_of(executor);
    int64_t earliest;
    struct fw_job *last = fw_chain_prepare(chain, &earliest);
    if (!last) {
        return;
    }
    (void)pthread_mutex_lock(&process->locked.mutex);
    if (process->locked.first) {
        process->locked.last->next = chain;
    } else {
        process->locked.first = chain;
    }
    process->locked.last = last;
    (void)pthread_mutex_unlock(&process->locked.mutex);
    fw_process_dispatch(process);
    if (earliest < atomic_load(&process->until)) {
        fw_process_poke(process);
    }
}

/* Under locked.mutex: takes a job that waits out of the queue. */
static bool unqueue(struct fw_process *process, struct fw_job *wanted)
{
    struct fw_job *before = NULL;
    for (struct fw_job *job = process->locked.first; job; before = job, job = job->next) {
        if (job != wanted) {
            continue;
        }
        if (before) {
            before->next = job->next;
        } else {
            process->locked.first = job->next;
        }
        process->locked.last = job->next ? process->locked.last : before;
        return true;
    }
    return false;
}

/* Which child has it is only known by looking: the list of children is the manager's. */
static void process_cancel(struct fw_executor *executor, struct fw_job *job)
{
    struct fw_process *process = process_of(executor);
    (void)pthread_mutex_lock(&process->locked.mutex);
    atomic_store(&job->cancelled, true);
    bool waited = unqueue(process, job);
    (void)pthread_mutex_unlock(&process->locked.mutex);
    if (waited) {
        fw_job_refuse(process->done, job, "cancelled before it was started");
    } else {
        fw_process_poke(process);
    }
}

static bool process_has_probe(const struct fw_executor *executor)
{
    return atomic_load(&((const struct fw_process *)executor)->has_probe);
}

static bool process_probe(
    struct fw_executor *executor,
    void (*answer)(void *user, bool healthy),
    void *user)
{
    struct fw_process *process = process_of(executor);
    struct fw_process_probe *probe = malloc(sizeof *probe);
    if (!probe) {
        return false;
    }
    *probe = (struct fw_process_probe){.answer = answer, .user = user};
    (void)pthread_mutex_lock(&process->locked.mutex);
    probe->next = process->locked.probes;
    process->locked.probes = probe;
    (void)pthread_mutex_unlock(&process->locked.mutex);
    fw_process_poke(process); /* the answer is not to come on this thread */
    return true;
}

static void process_state(struct fw_executor *executor, struct fw_executor_state *ret_state)
{
    struct fw_process *process = process_of(executor);
    (void)pthread_mutex_lock(&process->locked.mutex);
    const uint32_t *counts = process->locked.counts;
    ret_state->children_starting = counts[FW_CHILD_STARTING];
    ret_state->children_idle = counts[FW_CHILD_IDLE];
    ret_state->children_busy = counts[FW_CHILD_BUSY];
    ret_state->children_ending = counts[FW_CHILD_CLOSING] + counts[FW_CHILD_DYING];
    memcpy(ret_state->child_ends, process->locked.ends, sizeof process->locked.ends);
    ret_state->generation = process->locked.generation;
    ret_state->stopped = process->locked.stopped;
    memcpy(ret_state->handler_name, process->locked.name, sizeof ret_state->handler_name);
    memcpy(ret_state->handler_version, process->locked.version, sizeof ret_state->handler_version);
    memcpy(ret_state->build_id, process->locked.build_id, sizeof ret_state->build_id);
    if (process->locked.stopped) {
        (void)snprintf(ret_state->reason, sizeof ret_state->reason, "%s", process->locked.reason);
    }
    (void)pthread_mutex_unlock(&process->locked.mutex);
}

static const struct fw_counters *process_counters(const struct fw_executor *executor)
{
    return ((const struct fw_process *)executor)->counters;
}

/* A child has a place, and the places are made at the start. */
static bool process_grow(struct fw_executor *executor, uint32_t concurrency)
{
    return concurrency <= process_of(executor)->concurrency;
}

static void process_refresh(struct fw_executor *executor)
{
    struct fw_process *process = process_of(executor);
    atomic_store(&process->refresh, true);
    fw_process_poke(process);
}

/* ---- Start and stop ---- */

static void free_process(struct fw_process *process)
{
    fw_generation_release(process->generation);
    fw_generation_release(process->fresh);
    fw_generation_release(process->refused);
    if (process->epoll >= 0) {
        (void)close(process->epoll);
    }
    if (process->wake_fd >= 0) {
        (void)close(process->wake_fd);
    }
    if (process->folder >= 0) {
        (void)close(process->folder);
    }
    (void)pthread_cond_destroy(&process->locked.changed);
    (void)pthread_mutex_destroy(&process->locked.mutex);
    fw_counters_free(process->counters);
    fw_arena_free(&process->memory);
    free(process->slots);
    free(process);
}

static const struct fw_handler_option *copy_options(
    struct fw_arena *arena,
    const struct fw_handler_option *from,
    size_t count)
{
    struct fw_handler_option *options = fw_arena_alloc(arena, count + 1, sizeof *options);
    for (size_t i = 0; options && i < count; i++) {
        options[i] = from[i];
        options[i].name = fw_arena_copy(arena, from[i].name, strlen(from[i].name));
        options[i].file = from[i].file ? fw_arena_copy(arena, from[i].file, strlen(from[i].file))
                                       : "";
        const char **values = fw_arena_alloc(arena, from[i].count + 1, sizeof *values);
        for (size_t j = 0; values && j < from[i].count; j++) {
            values[j] = fw_arena_copy(arena, from[i].values[j], strlen(from[i].values[j]));
        }
        options[i].values = values;
    }
    return options;
}

static const char *copy_text(struct fw_arena *arena, const char *text, const char *fallback)
{
    text = text ? text : fallback;
    return fw_arena_copy(arena, text, strlen(text));
}

static int64_t or_default(int64_t value, int64_t fallback)
{
    return value > 0 ? value : fallback;
}

static void set_options(struct fw_process *process, const struct fw_executor_options *options)
{
    const struct fw_process_options *own = options->process;
    struct fw_arena *arena = &process->memory;
    process->queue = copy_text(arena, options->queue, "");
    process->handler = copy_text(arena, own->handler, "");
    process->program = copy_text(arena, own->program, "/proc/self/exe");
    process->environment =
        fw_child_environment(arena, own->secret_variables, own->secret_variable_count);
    process->options = copy_options(arena, own->options, own->option_count);
    process->option_count = own->option_count;
    process->done = options->done;
    process->concurrency = options->concurrency ? options->concurrency : 1;
    process->probe_timeout = or_default(options->probe_timeout, PROBE_TIMEOUT);
    process->grace = or_default(own->grace, FILA_S);
    process->start_timeout = or_default(options->start_timeout, START_TIMEOUT);
    process->first_backoff = or_default(own->first_backoff, FIRST_BACKOFF);
    process->recycle_messages = own->recycle_messages;
    process->recycle_rss = own->recycle_rss;
    process->problem = own->problem;
    process->on_stopped = own->stopped;
    process->problem_user = own->problem_user;
    process->stopped_user = own->stopped_user;
    process->on_ends = own->ends;
    process->ends_user = own->ends_user;
}

static bool watch_wakes(struct fw_process *process)
{
    process->wake_source = (struct fw_source){FW_SOURCE_WAKE, NULL};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &process->wake_source};
    process->epoll = epoll_create1(EPOLL_CLOEXEC);
    process->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return process->epoll >= 0 && process->wake_fd >= 0 &&
           !epoll_ctl(process->epoll, EPOLL_CTL_ADD, process->wake_fd, &event);
}

/* A replacement that nobody is told of is found at the next reload, or start of a child. */
static void watch_folder(struct fw_process *process)
{
    process->folder_source = (struct fw_source){FW_SOURCE_FOLDER, NULL};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &process->folder_source};
    process->folder = fw_generation_watch(process->generation);
    if (process->folder >= 0) {
        (void)epoll_ctl(process->epoll, EPOLL_CTL_ADD, process->folder, &event);
    }
}

static struct fw_process *new_process(const struct fw_executor_options *options)
{
    struct fw_process *process = calloc(1, sizeof *process);
    if (!process) {
        return NULL;
    }
    process->epoll = process->wake_fd = process->folder = -1;
    (void)pthread_mutex_init(&process->locked.mutex, NULL);
    fw_cond_init(&process->locked.changed);
    set_options(process, options);
    process->parent = getpid();
    process->oom_kills = fw_oom_kills("");
    process->slots = calloc(process->concurrency, sizeof *process->slots);
    process->counters = fw_counters_new();
    atomic_init(&process->until, FILA_NEVER);
    if (!process->slots || !process->counters || process->memory.failed || !process->environment ||
        !process->options || !watch_wakes(process)) {
        free_process(process);
        return NULL;
    }
    return process;
}

/* Whether the start is over. */
static bool wait_for_start(struct fw_process *process, int64_t until)
{
    bool in_time = true;
    bool over = false;
    (void)pthread_mutex_lock(&process->locked.mutex);
    while (in_time &&
           !(over = process->locked.ready == process->concurrency || process->locked.stopped)) {
        in_time = fw_cond_wait_until(&process->locked.changed, &process->locked.mutex, until);
    }
    (void)pthread_mutex_unlock(&process->locked.mutex);
    return over;
}

/* All that were asked for, or the first that fails. */
static fila_status await_start(
    struct fw_process *process,
    const struct fw_executor_options *options,
    fila_error *reterr)
{
    while (!wait_for_start(process, options->go_on ? fila_now() + LOOK_EVERY : FILA_NEVER)) {
        if (options->go_on && !options->go_on(options->user)) {
            return fila_fail(
                reterr, FILA_CANCELLED, "handler %s: stopped before it was ready",
                process->handler);
        }
    }
    (void)pthread_mutex_lock(&process->locked.mutex);
    fila_status status = FILA_OK;
    if (process->locked.stopped) {
        status = fila_fail(reterr, FILA_INVALID_ARGUMENT, "%s", process->locked.reason);
    }
    (void)pthread_mutex_unlock(&process->locked.mutex);
    return status;
}

static bool process_stop(struct fw_executor *executor, int64_t deadline)
{
    struct fw_process *process = process_of(executor);
    (void)pthread_mutex_lock(&process->locked.mutex);
    struct fw_job *job = process->locked.first;
    struct fw_process_probe *probe = process->locked.probes;
    process->locked.first = NULL;
    process->locked.probes = NULL;
    process->locked.stopping = true;
    process->locked.stop_deadline = deadline;
    (void)pthread_mutex_unlock(&process->locked.mutex);
    for (struct fw_job *next = NULL; job; job = next) {
        next = job->next;
        fw_job_refuse(process->done, job, "the worker stopped before it was started");
    }
    for (struct fw_process_probe *next = NULL; probe; probe = next) {
        next = probe->next;
        probe->answer(probe->user, false);
        free(probe);
    }
    fw_process_poke(process);
    (void)pthread_join(process->thread, NULL);
    if (process->on_ends) {
        process->on_ends(process->ends_user, process->locked.ends);
    }
    free_process(process);
    return true;
}

static const struct fw_executor_ops PROCESS_OPS = {
    .submit = process_submit,
    .cancel = process_cancel,
    .has_probe = process_has_probe,
    .probe = process_probe,
    .state = process_state,
    .counters = process_counters,
    .refresh = process_refresh,
    .grow = process_grow,
    .stop = process_stop,
};

fila_status fw_process_start(
    const struct fw_executor_options *options,
    struct fw_executor **ret_executor,
    fila_error *reterr)
{
    struct fw_process *process = new_process(options);
    if (!process) {
        return fila_fail(reterr, FILA_NO_MEMORY, "out of memory or descriptors");
    }
    process->base.ops = &PROCESS_OPS;
    fila_status status = fw_generation_new(process->handler, 1, &process->generation, reterr);
    if (status) {
        free_process(process);
        return status;
    }
    process->generations = process->locked.generation = 1;
    watch_folder(process);
    int error = fw_pool_thread(&process->thread, fw_manager_main, process);
    if (error) {
        free_process(process);
        return fila_fail(reterr, FILA_NO_MEMORY, "cannot start a thread: errno %d", error);
    }
    (void)pthread_setname_np(process->thread, "fw-children");
    status = await_start(process, options, reterr);
    if (status) {
        (void)process_stop(&process->base, fila_now());
        return status;
    }
    *ret_executor = &process->base;
    return FILA_OK;
}
