/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "config/cgroup.h"
#include "executor/run.h"
#include "log/log.h"
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CLOSE_TIMEOUT   (5 * FILA_S)
#define LONGEST_BACKOFF (30 * FILA_S)
#define FAILURES_WITHIN (60 * FILA_S)
#define LET_GO_WITHIN   FILA_S /* how long a killed process may take to be gone */
#define MOST_STARTING   8u
#define OOM_WITHIN      (5 * FILA_S) /* kills that are counted together may be seen one by one */

/* ---- Small changes of state ---- */

static void lock(struct fw_process *process)
{
    (void)pthread_mutex_lock(&process->locked.mutex);
}

static void unlock(struct fw_process *process)
{
    (void)pthread_mutex_unlock(&process->locked.mutex);
}

void fw_child_unlist(struct fw_child *child)
{
    for (struct fw_child **at = &child->process->locked.idle; *at; at = &(*at)->locked.next_idle) {
        if (*at == child) {
            *at = child->locked.next_idle;
            return;
        }
    }
}

void fw_life_close(struct fw_child *child)
{
    struct fw_process *process = child->process;
    int64_t now = fila_now();
    fw_child_set_state(child, FW_CHILD_CLOSING);
    child->act_at = now + CLOSE_TIMEOUT;
    if (process->locked.stopping && process->locked.stop_deadline < child->act_at) {
        int64_t least = now + FILA_S;
        child->act_at = process->locked.stop_deadline > least ? process->locked.stop_deadline
                                                              : least;
    }
    process->look_again = true;
    (void)fw_child_send(child, &(struct fw_packet){.type = FW_PACKET_CLOSE});
}

void fw_life_kill(struct fw_child *child)
{
    struct fw_process *process = child->process;
    fw_child_signal(child, SIGKILL);
    lock(process);
    fw_child_unlist(child);
    if (child->locked.state == FW_CHILD_STARTING) {
        process->starting--;
    }
    fw_child_set_state(child, FW_CHILD_DYING);
    unlock(process);
    child->act_at = fila_now() + LET_GO_WITHIN;
    process->look_again = true;
}

void fw_life_rubbish(struct fw_child *child, const char *fault)
{
    if (!child->rubbish) {
        child->rubbish = true;
        (void)snprintf(child->fault, sizeof child->fault, "%s", fault);
        fw_life_kill(child);
    }
}

static bool wants_recycling(struct fw_child *child)
{
    const struct fw_process *process = child->process;
    if (process->recycle_messages && child->messages >= process->recycle_messages) {
        return true;
    }
    return process->recycle_rss && child->messages % 8 == 0 &&
           fw_child_rss(child) > process->recycle_rss;
}

int64_t fw_life_backoff(int64_t first, uint32_t deaths)
{
    int64_t wait = first;
    for (uint32_t i = 0; i < deaths && wait < LONGEST_BACKOFF; i++) {
        wait *= 2;
    }
    return wait < LONGEST_BACKOFF ? wait : LONGEST_BACKOFF;
}

/* One that has handled messages shows that children can: the next need not wait. */
static void vacate(struct fw_child *child, bool at_once)
{
    struct fw_slot *slot = child->slot;
    if (!slot || slot->child != child) {
        return;
    }
    slot->child = NULL;
    slot->start_at = at_once || child->messages
                         ? 0
                         : fila_now() +
                               fw_life_backoff(child->process->first_backoff, slot->deaths++);
}

bool fw_life_replace(struct fw_child *child)
{
    struct fw_process *process = child->process;
    if (process->late >= process->concurrency) {
        return false;
    }
    process->late++;
    vacate(child, false);
    child->lost = child->slot;
    child->slot = NULL;
    process->look_again = true;
    return true;
}

static void forget_lateness(struct fw_child *child)
{
    if (child->lost) {
        child->lost = NULL;
        child->process->late--;
    }
}

/* It has returned after all: back to its place, unless another has begun to take it. */
static void return_late(struct fw_child *child)
{
    struct fw_slot *slot = child->lost;
    if (!slot) {
        return;
    }
    forget_lateness(child);
    if (slot->child || slot->successor || child->retire) {
        child->retire = true;
        return;
    }
    slot->child = child;
    slot->deaths = 0;
    child->slot = slot;
}

/* It can have answered before the thread that sent to it is back from the call. Its buffer and
 * `sending` are that thread's until then: a moment, since the packet is out. */
static void await_sender(struct fw_child *child)
{
    while (atomic_load(&child->sending)) {
        (void)sched_yield();
    }
}

void fw_life_free(struct fw_child *child)
{
    struct fw_process *process = child->process;
    await_sender(child);
    return_late(child);
    child->recycled = !child->retire && child->messages > 0 && wants_recycling(child);
    lock(process);
    if (child->retire || child->recycled || process->locked.stopping) {
        fw_life_close(child);
    } else {
        fw_child_set_state(child, FW_CHILD_IDLE);
        child->locked.next_idle = process->locked.idle;
        process->locked.idle = child;
    }
    unlock(process);
    fw_process_dispatch(process);
}

/* Its place is another's now. */
static void retire(struct fw_child *child)
{
    struct fw_process *process = child->process;
    child->slot = NULL;
    child->retire = true;
    lock(process);
    if (child->locked.state == FW_CHILD_IDLE) {
        fw_child_unlist(child);
        fw_life_close(child);
    }
    unlock(process);
}

/* ---- Starts ---- */

static bool watch(struct fw_child *child)
{
    const int fds[] = {child->socket, child->pidfd, child->output.fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &child->sources[i]};
        if (epoll_ctl(child->process->epoll, EPOLL_CTL_ADD, fds[i], &event)) {
            return false;
        }
    }
    return true;
}

/* Five within a minute are enough: what fails is not going to pass. */
static void give_up(struct fw_process *process, const char *reason)
{
    lock(process);
    process->locked.stopped = true;
    (void)snprintf(process->locked.reason, sizeof process->locked.reason, "%s", reason);
    (void)pthread_cond_broadcast(&process->locked.changed);
    unlock(process);
    if (!process->is_up) {
        return; /* whoever starts us is told */
    }
    FW_LOG(
        FW_EVENT_CHILDREN_GIVEN_UP, "no child can be started: the queue stands still",
        fw_str("queue", process->queue), fw_str("handler", process->handler),
        fw_str("error", reason));
    if (process->on_stopped) {
        process->on_stopped(process->stopped_user);
    }
}

static void start_failed(struct fw_process *process, struct fw_slot *slot, const char *reason)
{
    int64_t now = fila_now();
    int64_t wait = fw_life_backoff(process->first_backoff, slot->deaths++);
    slot->start_at = now + wait;
    process->failed_starts[process->failed_start++ % FW_FAILED_STARTS] = now;
    int64_t oldest = process->failed_starts[process->failed_start % FW_FAILED_STARTS];
    bool enough = oldest && now - oldest < FAILURES_WITHIN;
    lock(process);
    bool over = process->locked.stopping || process->locked.stopped;
    unlock(process);
    if (over) {
        return;
    }
    if (process->is_up) {
        FW_LOG(
            FW_EVENT_CHILD_FAILED, "a child could not be started", fw_str("queue", process->queue),
            fw_str("handler", process->handler), fw_str("error", reason),
            fw_int("in_a_row", slot->deaths), fw_int("retry_in_ms", wait / FILA_MS));
    }
    if (enough || !process->is_up) {
        give_up(process, reason);
    }
}

static void roll_back(struct fw_process *process, const char *reason)
{
    lock(process);
    bool stopping = process->locked.stopping;
    unlock(process);
    if (!stopping) {
        FW_LOG(
            FW_EVENT_PLUGIN_KEPT, "the plugin's new file cannot be used; the old one stays",
            fw_str("queue", process->queue), fw_str("handler", process->handler),
            fw_str("error", reason));
    }
    fw_generation_release(process->refused);
    process->refused = process->fresh;
    process->fresh = NULL;
    process->candidate = NULL;
}

static void forget_start(struct fw_child *child, const char *reason)
{
    struct fw_process *process = child->process;
    if (child == process->candidate) {
        roll_back(process, reason);
    } else if (child->slot) {
        struct fw_slot *slot = child->slot;
        slot->successor = slot->successor == child ? NULL : slot->successor;
        slot->child = slot->child == child ? NULL : slot->child;
        start_failed(process, slot, reason);
    }
}

/* NULL: it failed, and that was counted. */
static struct fw_child *start(
    struct fw_process *process,
    struct fw_generation *generation,
    struct fw_slot *slot)
{
    struct fw_child *child = NULL;
    char text[160];
    int error = fw_child_start(process, generation, &child);
    if (error) {
        (void)snprintf(text, sizeof text, "cannot start a process: %s", strerrordesc_np(error));
        if (slot) {
            start_failed(process, slot, text);
        } else {
            roll_back(process, text);
        }
        return NULL;
    }
    child->slot = slot;
    child->act_at = fila_now() + process->start_timeout;
    child->next = process->children;
    process->children = child;
    process->starting++;
    process->look_again = true; /* for its `act_at` */
    lock(process);
    process->locked.counts[FW_CHILD_STARTING]++;
    unlock(process);
    if (!watch(child)) {
        fw_life_rubbish(child, "it could not be watched: no more descriptors");
    }
    return child;
}

/* The file of what runs was replaced, and nobody has told us. */
static void notice_replacement(struct fw_process *process)
{
    if (!fw_generation_is_current(process->generation)) {
        atomic_store(&process->refresh, true);
    }
}

static bool may_start(const struct fw_process *process)
{
    uint32_t most = process->is_up || process->locked.ready ? MOST_STARTING : 1;
    return process->starting < most;
}

static int64_t maintain_slot(struct fw_process *process, struct fw_slot *slot, int64_t now)
{
    bool outdated = slot->child && slot->child->generation != process->generation;
    if (slot->successor || (slot->child && !outdated)) {
        return FILA_NEVER;
    }
    if (now < slot->start_at) {
        return slot->start_at;
    }
    if (!may_start(process)) {
        return FILA_NEVER; /* one that is ready, or fails, makes us look again */
    }
    struct fw_child *child = start(process, process->generation, slot);
    if (child && outdated) {
        slot->successor = child;
    } else if (child) {
        slot->child = child;
        notice_replacement(process);
    }
    return child ? FILA_NEVER : slot->start_at;
}

int64_t fw_life_maintain(struct fw_process *process, int64_t now)
{
    int64_t next = FILA_NEVER;
    lock(process);
    bool over = process->locked.stopping || process->locked.stopped;
    unlock(process);
    for (uint32_t i = 0; i < process->concurrency && !over; i++) {
        int64_t at = maintain_slot(process, &process->slots[i], now);
        next = at < next ? at : next;
    }
    return next;
}

/* ---- Ready ---- */

/* The new file works: it is the one from now on. Other places follow one by one (maintain_slot). */
static void commit(struct fw_child *child)
{
    struct fw_process *process = child->process;
    struct fw_slot *slot = &process->slots[0];
    fw_generation_release(process->generation);
    process->generation = process->fresh;
    process->fresh = NULL;
    process->candidate = NULL;
    child->slot = slot;
    if (slot->child) {
        retire(slot->child);
    }
    slot->child = child;
    lock(process);
    process->locked.generation = process->generation->number;
    unlock(process);
    FW_LOG_CHILD(
        child, FW_EVENT_PLUGIN_REPLACED, "the plugin's new file is in use",
        fw_str("path", process->generation->path),
        fw_str("build_id", process->generation->build_id),
        fw_int("generation", (int64_t)process->generation->number));
}

void fw_life_ready(struct fw_child *child)
{
    struct fw_process *process = child->process;
    struct fw_slot *slot = child->slot;
    process->starting--;
    process->look_again = true;
    child->was_ready = true;
    child->act_at = 0;
    if (child == process->candidate) {
        commit(child);
    } else if (slot && slot->successor == child) {
        slot->successor = NULL;
        if (slot->child) {
            retire(slot->child);
        }
        slot->child = child;
    }
    fw_life_free(child);
    lock(process);
    if (!process->is_up && ++process->locked.ready == process->concurrency) {
        process->is_up = true;
        (void)pthread_cond_broadcast(&process->locked.changed);
    }
    unlock(process);
}

/* ---- Ends ---- */

struct ending {
    enum fw_child_state state; /* it was in */
    struct fw_job *job;
    struct fw_process_probe *probe;
    uint64_t id;
    int64_t deadline;
    int64_t started;
    int code;   /* CLD_... */
    int status; /* of the exit, or the signal */
    bool oom;
};

static struct ending take_ending(struct fw_child *child)
{
    struct fw_process *process = child->process;
    lock(process);
    struct ending ending = {
        .state = child->locked.state,
        .job = child->locked.job,
        .probe = child->locked.probe,
        .id = child->locked.id,
        .deadline = child->locked.deadline,
        .started = child->locked.started,
    };
    child->locked.job = NULL;
    child->locked.probe = NULL;
    fw_child_unlist(child);
    fw_child_set_state(child, FW_CHILD_DEAD);
    process->locked.counts[FW_CHILD_DEAD]--;
    unlock(process);
    if (ending.state == FW_CHILD_STARTING) {
        process->starting--;
    }
    return ending;
}

/* Whether one of the kernel's kills for lack of memory is left for a child that ended just now: the
 * count is of all that is in our cgroup. */
static bool look_at_kills(struct fw_process *process, bool claim)
{
    int64_t now = fila_now();
    int64_t kills = fw_oom_kills("");
    if (now >= process->oom_spare_until) {
        process->oom_spare = 0;
    }
    if (process->oom_kills >= 0 && kills > process->oom_kills) {
        process->oom_spare += kills - process->oom_kills;
        process->oom_spare_until = now + OOM_WITHIN;
    }
    process->oom_kills = kills;
    bool claimed = claim && process->oom_spare > 0;
    process->oom_spare -= claimed;
    return claimed;
}

/* What it started goes with it: the group is there as long as its leader is not waited for. */
static void reap(struct fw_child *child, struct ending *ending)
{
    siginfo_t info = {0};
    (void)waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOWAIT | WNOHANG);
    (void)kill(-child->pid, SIGKILL);
    info = (siginfo_t){0};
    if (!waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG) && info.si_pid) {
        ending->code = info.si_code;
        ending->status = info.si_status;
    }
    bool killed = ending->code != CLD_EXITED && ending->status == SIGKILL;
    ending->oom = look_at_kills(child->process, killed && !child->overdue && !child->rubbish);
}

static bool in_good_order(const struct fw_child *child, const struct ending *ending)
{
    return ending->state == FW_CHILD_CLOSING && !child->overdue && ending->code == CLD_EXITED &&
           ending->status == 0;
}

static enum fw_child_end kind_of(const struct fw_child *child, const struct ending *ending)
{
    if (in_good_order(child, ending)) {
        return child->recycled ? FW_CHILD_END_RECYCLE : FW_CHILD_END_STOP;
    }
    if (child->overdue) {
        return FW_CHILD_END_TIMEOUT;
    }
    return child->rubbish ? FW_CHILD_END_RUBBISH
           : ending->oom  ? FW_CHILD_END_OOM
                          : FW_CHILD_END_CRASH;
}

static void give_verdict(struct fw_child *child, const struct ending *ending, const char *reason)
{
    struct fw_job *job = ending->job;
    char text[FW_REASON_SIZE];
    if (child->overdue) {
        (void)snprintf(
            text, sizeof text, "no verdict by its deadline of %" PRId64 " ms: %s",
            (ending->deadline - ending->started) / FILA_MS, reason);
    } else {
        (void)snprintf(text, sizeof text, "%s", reason);
    }
    job->verdict = (struct fw_verdict){
        .kind = FW_RETRY,
        .cause = child->overdue ? FW_CAUSE_TIMEOUT : FW_CAUSE_CRASH,
        .started = ending->started,
        .ended = fila_now(),
    };
    job->reason = fw_reason_copy(text);
    fw_done_push(child->process->done, job);
}

/* It died of what it said, which was something else, before it had begun: another child gets it. */
static bool was_not_begun(const struct fw_child *child, const struct ending *ending)
{
    bool as_told = child->told_crash && ending->code != CLD_EXITED &&
                   ending->status == child->crash_signal;
    return ending->job && as_told && child->crash_id != ending->id && !child->overdue &&
           !child->rubbish;
}

static void put_back(struct fw_process *process, struct fw_job *job)
{
    lock(process);
    bool stopping = process->locked.stopping;
    if (!stopping) {
        job->next = process->locked.first;
        process->locked.last = process->locked.first ? process->locked.last : job;
        process->locked.first = job;
    }
    unlock(process);
    if (stopping) {
        fw_job_refuse(process->done, job, "the worker stopped before it was started");
    }
}

static void log_end(
    const struct fw_child *child,
    const struct ending *ending,
    enum fw_child_end end,
    const char *reason)
{
    static const struct {
        enum fw_event event;
        const char *text;
    } ROWS[FW_CHILD_END_COUNT] = {
        [FW_CHILD_END_STOP] = {FW_EVENT_CHILD_RECYCLED, "a child has ended"},
        [FW_CHILD_END_RECYCLE] = {FW_EVENT_CHILD_RECYCLED, "a child was recycled"},
        [FW_CHILD_END_TIMEOUT] = {FW_EVENT_CHILD_KILLED, "a child did not return in time"},
        [FW_CHILD_END_CRASH] = {FW_EVENT_CHILD_CRASHED, "a child ended by itself"},
        [FW_CHILD_END_OOM] = {FW_EVENT_CHILD_CRASHED, "a child was killed: out of memory"},
        [FW_CHILD_END_RUBBISH] = {FW_EVENT_CHILD_RUBBISH, "a child made no sense"},
    };

    fila_view id = {NULL, 0};
    if (ending->job) {
        id = fila_message_id(ending->job->message);
    }
    if (end != FW_CHILD_END_STOP) {
        FW_LOG_CHILD(
            child, ROWS[end].event, ROWS[end].text, fw_str("cause", fw_child_end_name(end)),
            fw_text("message_id", id), fw_int("messages", child->messages),
            fw_str("error", reason));
    }
}

static void unlink_child(struct fw_child *child)
{
    struct fw_process *process = child->process;
    struct fw_child **at = &process->children;
    forget_lateness(child);
    while (*at != child) {
        at = &(*at)->next;
    }
    *at = child->next;
    child->next = process->graveyard;
    child->dead = true;
    process->graveyard = child;
    process->look_again = true;
}

static void conclude(struct fw_child *child, struct ending *ending)
{
    struct fw_process *process = child->process;
    enum fw_child_end end = kind_of(child, ending);
    char reason[FW_REASON_SIZE - 64];
    fw_reason_end(child, ending->code, ending->status, ending->oom, reason, sizeof reason);
    bool starting = ending->state == FW_CHILD_STARTING ||
                    (ending->state == FW_CHILD_DYING && !child->was_ready);
    if (starting) {
        bool told = child->fault[0] && !child->rubbish;
        forget_start(child, told ? child->fault : reason);
    } else {
        log_end(child, ending, end, reason);
        vacate(child, in_good_order(child, ending));
    }
    lock(process);
    process->locked.ends[end]++;
    unlock(process);
    bool again = was_not_begun(child, ending);
    if (again) {
        put_back(process, ending->job);
    } else if (ending->job) {
        give_verdict(child, ending, reason);
    }
    if (ending->probe) {
        ending->probe->answer(ending->probe->user, false);
        free(ending->probe);
    }
    unlink_child(child);
    if (again) {
        fw_process_dispatch(process);
    }
}

bool fw_life_ended(struct fw_child *child)
{
    lock(child->process);
    fw_child_unlist(child); /* nobody begins to send to it from here on */
    unlock(child->process);
    if (atomic_load(&child->sending)) {
        return false;
    }
    struct ending ending = take_ending(child);
    reap(child, &ending);
    conclude(child, &ending);
    return true;
}

void fw_life_abandon(struct fw_child *child)
{
    struct ending ending = take_ending(child);
    ending.code = CLD_KILLED;
    ending.status = SIGKILL;
    conclude(child, &ending);
}

/* ---- A new file ---- */

static bool same_file(const struct fw_generation *a, const struct fw_generation *b)
{
    return a && a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->mtime_ns == b->mtime_ns;
}

void fw_life_refresh(struct fw_process *process)
{
    fila_error error = FILA_ERROR_INIT;
    if (process->fresh || !process->is_up || fw_generation_is_current(process->generation)) {
        return;
    }
    if (fw_generation_new(process->handler, process->generations + 1, &process->fresh, &error)) {
        roll_back(process, error.text);
        return;
    }
    if (same_file(process->refused, process->fresh) ||
        same_file(process->generation, process->fresh)) {
        fw_generation_release(process->fresh);
        process->fresh = NULL;
        return;
    }
    process->generations++;
    process->candidate = start(process, process->fresh, NULL);
}
