/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/outbox.h"
#include "executor/run.h"
#include "log/log.h"
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_AT_ONCE  64
#define PACKETS_AT_ONCE 16              /* of one child, before others have their turn */
#define NOTICE_AFTER    (200 * FILA_MS) /* a file's change: it may be one of several */
#define PACKETS_LEFT    4096            /* of one that has ended: more than its socket holds */
#define PROBLEMS_MOST   256             /* that a plugin may have with its options */
#define LOG_TEXT        8192            /* of one line that it logs */
#define EOF_GRACE       FILA_S
#define ABANDON_AFTER   (5 * FILA_S) /* of a killed process that does not end */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void lock(struct fw_process *process)
{
    (void)pthread_mutex_lock(&process->locked.mutex);
}

static void unlock(struct fw_process *process)
{
    (void)pthread_mutex_unlock(&process->locked.mutex);
}

/* ---- What a child says ---- */

static void copy_view(char *to, size_t size, fila_view from)
{
    (void)snprintf(to, size, "%.*s", (int)from.len, from.data);
}

static void on_problem(struct fw_child *child, const struct fw_packet *packet)
{
    struct fw_process *process = child->process;
    char file[PATH_MAX];
    char key[128];
    char text[1024];
    copy_view(file, sizeof file, packet->problem.file);
    copy_view(key, sizeof key, packet->problem.key);
    copy_view(text, sizeof text, packet->problem.text);
    const struct fw_diagnostic problem = {
        .is_error = true,
        .file = file,
        .line = packet->problem.line,
        .key = key,
        .text = text,
        .source = "",
    };
    if (!child->fault[0]) {
        (void)snprintf(
            child->fault, sizeof child->fault, "its options are wrong: %.127s: %.350s", key, text);
    }
    if (!process->is_up && process->problem) {
        process->problem(process->problem_user, &problem);
    }
}

static bool may_log(uint32_t event)
{
    return event == FW_EVENT_HANDLER_LOG || event == FW_EVENT_HANDLER_DEBUG ||
           event == FW_EVENT_HANDLER_WARN || event == FW_EVENT_HANDLER_ERROR ||
           event == FW_EVENT_HANDLER_VERDICT || event == FW_EVENT_HANDLER_TIMEOUT;
}

static void on_log(struct fw_child *child, const struct fw_packet *packet)
{
    enum fw_event event = (enum fw_event)packet->log.event;
    if (!may_log(packet->log.event)) {
        fw_life_rubbish(child, "it logged an event that is none of a handler's");
        return;
    }
    if (!fw_log_enabled(fw_event_level(event))) {
        return;
    }
    lock(child->process);
    const struct fw_job *job = child->locked.job; /* ours until its verdict */
    unlock(child->process);
    struct fw_field fields[5] = {
        fw_str("queue", child->process->queue), fw_str("handler", child->process->handler),
        fw_int("pid", child->pid)};
    size_t count = 3;
    if (job) {
        fields[count++] = fw_text("message_id", fila_message_id(job->message));
        fields[count++] = fw_int("attempt", job->attempt);
    }
    char text[LOG_TEXT];
    size_t len = packet->log.text.len < sizeof text ? packet->log.text.len : sizeof text;
    memcpy(text, packet->log.text.data, len);
    fw_output_clean(text, len);
    fw_log(event, fields, count, "%.*s", (int)len, text);
}

static char *reason_of(const struct fw_packet *packet)
{
    char text[FW_REASON_SIZE];
    copy_view(text, sizeof text, packet->result.reason);
    return fw_reason_copy(text);
}

static void finish(struct fw_child *child, struct fw_job *job, const struct fw_packet *packet)
{
    job->verdict = (struct fw_verdict){
        .kind = (enum fw_verdict_kind)packet->result.verdict,
        .cause = (enum fw_cause)packet->result.cause,
        .delay = packet->result.delay,
        .started = child->locked.started,
        .ended = fila_now(),
    };
    job->reason = packet->result.reason.data ? reason_of(packet) : NULL;
}

/* Whether an answer is to what was asked: 1; to something that is over: 0; to nothing: -1. */
static int is_answer(const struct fw_child *child, uint64_t id, bool asked)
{
    if (id == 0 || id > child->locked.id) {
        return -1;
    }
    return id == child->locked.id && asked ? 1 : 0;
}

static void on_result(struct fw_child *child, const struct fw_packet *packet)
{
    struct fw_process *process = child->process;
    struct fw_outgoing *outbox = NULL;
    if (!fw_publish_take(child, &outbox)) {
        fw_life_rubbish(child, "it published parts that do not fit");
        return;
    }
    lock(process);
    struct fw_job *job = child->locked.job;
    int answer = is_answer(child, packet->id, job != NULL);
    bool dying = child->locked.state != FW_CHILD_BUSY || child->locked.step >= FW_STEP_TERM;
    if (answer == 1) {
        finish(child, job, packet);
        child->locked.job = NULL;
        if (job->verdict.kind == FW_ACK) {
            job->outbox = outbox;
            outbox = NULL;
        }
    }
    unlock(process);
    fw_outgoing_free(outbox);
    if (answer < 0) {
        fw_life_rubbish(child, "it answered a message that it was never given");
    } else if (answer == 1) {
        child->messages++;
        if (child->slot) {
            child->slot->deaths = 0;
        }
        if (!dying) {
            fw_life_free(child);
        }
        fw_done_push(process->done, job);
    }
}

static void on_probed(struct fw_child *child, const struct fw_packet *packet)
{
    struct fw_process *process = child->process;
    lock(process);
    struct fw_process_probe *probe = child->locked.probe;
    int answer = is_answer(child, packet->id, probe != NULL);
    bool dying = child->locked.state != FW_CHILD_BUSY || child->locked.step >= FW_STEP_TERM;
    if (answer == 1) {
        child->locked.probe = NULL;
    }
    unlock(process);
    if (answer < 0) {
        fw_life_rubbish(child, "it answered a probe that it was never asked");
    } else if (answer == 1) {
        probe->answer(probe->user, packet->healthy);
        free(probe);
        if (!dying) {
            fw_life_free(child);
        }
    }
}

static void keep_names(const struct fw_child *child, const struct fw_packet *packet)
{
    struct fw_process *process = child->process;
    lock(process);
    if (child->generation == process->generation) {
        copy_view(process->locked.name, sizeof process->locked.name, packet->ready.name);
        copy_view(process->locked.version, sizeof process->locked.version, packet->ready.version);
        memcpy(
            process->locked.build_id, child->generation->build_id, sizeof process->locked.build_id);
    }
    unlock(process);
}

static void on_start_packet(struct fw_child *child, const struct fw_packet *packet)
{
    lock(child->process);
    bool starting = child->locked.state == FW_CHILD_STARTING;
    unlock(child->process);
    if (!starting) {
        fw_life_rubbish(child, "it reported its start twice");
    } else if (packet->type == FW_PACKET_READY) {
        atomic_store(&child->process->has_probe, packet->ready.has_probe);
        fw_life_ready(child);
        keep_names(child, packet);
    } else if (packet->type == FW_PACKET_PROBLEM && child->problems++ < PROBLEMS_MOST) {
        on_problem(child, packet);
    } else if (packet->type == FW_PACKET_PROBLEM) {
        fw_life_rubbish(child, "it reported more problems than a plugin can have options");
    } else if (!child->fault[0]) {
        copy_view(child->fault, sizeof child->fault, packet->text);
    }
}

static void on_packet(struct fw_child *child, const struct fw_packet *packet)
{
    switch (packet->type) {
    case FW_PACKET_READY:
    case FW_PACKET_FAILED:
    case FW_PACKET_PROBLEM:
        on_start_packet(child, packet);
        break;
    case FW_PACKET_LOG:
        on_log(child, packet);
        break;
    case FW_PACKET_PUBLISH:
        fw_publish_part(child, packet);
        break;
    case FW_PACKET_COUNT:
        fw_publish_count(child, packet);
        break;
    case FW_PACKET_RESULT:
        on_result(child, packet);
        break;
    case FW_PACKET_PROBED:
        on_probed(child, packet);
        break;
    case FW_PACKET_CRASH:
        fw_reason_crash(child, packet);
        break;
    default:
        fw_life_rubbish(child, "it sent a packet that only the worker sends");
        break;
    }
}

enum received {
    RECEIVED,
    ANSWERED, /* nothing more is to be expected */
    NOTHING,
    CLOSED
};

static enum received receive(struct fw_child *child)
{
    uint8_t *bytes = child->process->packet;
    struct fw_packet packet;
    char why[160] = "it sent ";
    size_t said = strlen(why);
    ssize_t len =
        recv(child->socket, bytes, sizeof child->process->packet, MSG_DONTWAIT | MSG_TRUNC);
    if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
        return NOTHING;
    }
    if (len <= 0) {
        return CLOSED;
    }
    if (child->rubbish) {
        return RECEIVED; /* nothing that it says counts any more */
    }
    if ((size_t)len > FW_PACKET_SIZE) {
        fw_life_rubbish(child, "it sent a packet over the limit");
    } else if (!fw_packet_read(bytes, (size_t)len, &packet, why + said, sizeof why - said)) {
        fw_life_rubbish(child, why);
    } else {
        on_packet(child, &packet);
        bool answer = packet.type == FW_PACKET_RESULT || packet.type == FW_PACKET_PROBED;
        return answer ? ANSWERED : RECEIVED;
    }
    return RECEIVED;
}

/* It is about to end, or a plugin has closed what is not its own: then it is ended. */
static void on_closed(struct fw_child *child)
{
    struct fw_process *process = child->process;
    (void)epoll_ctl(process->epoll, EPOLL_CTL_DEL, child->socket, NULL);
    lock(process);
    fw_child_unlist(child);
    enum fw_child_state state = child->locked.state;
    if (state == FW_CHILD_IDLE || state == FW_CHILD_BUSY) {
        fw_child_set_state(child, FW_CHILD_DYING);
        child->act_at = fila_now() + EOF_GRACE;
        process->look_again = true;
    }
    unlock(process);
}

static void on_socket(struct fw_child *child)
{
    for (int i = 0; i < PACKETS_AT_ONCE; i++) {
        enum received received = receive(child);
        if (received == CLOSED) {
            on_closed(child);
        }
        if (received != RECEIVED) {
            return;
        }
    }
}

static void on_output(struct fw_child *child)
{
    if (child->output.fd >= 0 && !fw_output_read(child)) {
        fw_output_end(child);
    }
}

/* What it had said and written before its end comes first. */
static void on_exit_seen(struct fw_child *child)
{
    if (!child->exited) {
        child->exited = true;
        (void)epoll_ctl(child->process->epoll, EPOLL_CTL_DEL, child->pidfd, NULL);
        enum received received = RECEIVED;
        for (int i = 0; i < PACKETS_LEFT && (received == RECEIVED || received == ANSWERED); i++) {
            received = receive(child); /* what it started may have the socket, and go on sending */
        }
        on_output(child);
        if (child->output.fd >= 0) {
            fw_output_end(child); /* what it started may hold the pipe */
        }
    }
    if (!fw_life_ended(child)) {
        fw_process_poke(child->process);
    }
}

/* ---- What time demands ---- */

/* Under locked.mutex. A socket, since nothing that a child does to its end can make this wait. */
static void cancel(struct fw_child *child)
{
    uint64_t id = child->locked.id;
    child->locked.step = FW_STEP_CANCELLED;
    atomic_store(&child->area.control->cancelled, id);
    (void)send(child->cancel_fd, &id, sizeof id, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Under locked.mutex: pushes a busy one that is over its deadline a step on; when it is due again.
 */
static int64_t push(struct fw_child *child, int64_t now)
{
    const struct fw_process *process = child->process;
    int64_t deadline = child->locked.deadline;
    int64_t term_at = deadline + process->grace / 2;
    int64_t kill_at = deadline + process->grace;
    if (process->locked.stopping && process->locked.stop_deadline < kill_at) {
        kill_at = process->locked.stop_deadline;
        term_at = earlier(term_at, kill_at);
    }
    const struct fw_job *job = child->locked.job;
    bool cancelled = job && atomic_load(&job->cancelled);
    if (child->locked.step == FW_STEP_NONE && (now >= deadline || cancelled)) {
        cancel(child);
    }
    if (child->locked.step < FW_STEP_TERM && now >= term_at) {
        child->locked.step = FW_STEP_TERM;
        child->overdue = true;
        fw_child_signal(child, SIGTERM);
    }
    if (now >= kill_at) {
        child->locked.step = FW_STEP_KILL;
        child->overdue = true;
        return now; /* the caller kills it */
    }
    return child->locked.step >= FW_STEP_TERM ? kill_at
           : now >= deadline                  ? term_at
                                              : earlier(deadline, term_at);
}

static int64_t look_at_busy(struct fw_child *child, int64_t now)
{
    lock(child->process);
    int64_t next = push(child, now);
    bool kill = child->locked.step == FW_STEP_KILL;
    int64_t late_at = child->locked.deadline + child->process->grace / 4;
    unlock(child->process);
    if (kill) {
        fw_life_kill(child);
        return child->act_at;
    }
    if (!child->slot || (now >= late_at && fw_life_replace(child))) {
        return next;
    }
    return now < late_at ? earlier(next, late_at) : next;
}

static void look_at_late(struct fw_child *child, enum fw_child_state state)
{
    if (state == FW_CHILD_STARTING) {
        child->overdue = true;
        (void)snprintf(
            child->fault, sizeof child->fault,
            "the plugin's load or its init did not return within %" PRId64 " ms",
            child->process->start_timeout / FILA_MS);
        fw_life_kill(child);
    } else if (state == FW_CHILD_CLOSING) {
        child->overdue = true;
        fw_life_kill(child);
    } else if (!child->kill_tried) {
        child->kill_tried = true;
        if (!child->overdue && !child->rubbish) {
            fw_life_rubbish(child, "it closed its connection to the worker");
        }
        fw_child_signal(child, SIGKILL);
        child->act_at = fila_now() + ABANDON_AFTER;
    } else {
        fw_life_abandon(child);
    }
}

static int64_t look_at_child(struct fw_child *child, int64_t now)
{
    struct fw_process *process = child->process;
    lock(process);
    enum fw_child_state state = child->locked.state;
    bool stopping = process->locked.stopping;
    bool unsent = state == FW_CHILD_BUSY && child->locked.unsent;
    if (state == FW_CHILD_IDLE && stopping) {
        fw_child_unlist(child);
        fw_life_close(child);
        state = FW_CHILD_CLOSING;
    }
    unlock(process);
    if (child->exited) {
        on_exit_seen(child);
        return now + FILA_MS;
    }
    if (unsent) {
        fw_life_free(child);
        return now; /* it may have got the next one, or was told to end */
    }
    if (state == FW_CHILD_IDLE) {
        return FILA_NEVER;
    }
    if (state == FW_CHILD_BUSY) {
        return look_at_busy(child, now);
    }
    if (!child->act_at) {
        child->act_at = now + EOF_GRACE; /* whoever could not send to it has not said so */
    }
    if (state == FW_CHILD_STARTING && stopping) {
        child->overdue = true;
        fw_life_kill(child);
    } else if (now >= child->act_at) {
        look_at_late(child, state);
        return now; /* it may be gone: look again */
    }
    return child->act_at;
}

/* Jobs that no child was free for by their deadline; and probes when there will be none. */
static int64_t look_at_queue(struct fw_process *process, int64_t now)
{
    struct fw_job *late = NULL;
    struct fw_job *last = NULL;
    struct fw_process_probe *probe = NULL;
    int64_t next = FILA_NEVER;
    lock(process);
    bool stopped = process->locked.stopped;
    for (struct fw_job **at = &process->locked.first; *at;) {
        struct fw_job *job = *at;
        if (now < job->deadline && !stopped) {
            next = earlier(next, job->deadline);
            last = job;
            at = &job->next;
        } else {
            *at = job->next;
            job->next = late;
            late = job;
        }
    }
    process->locked.last = last;
    if (stopped) {
        probe = process->locked.probes;
        process->locked.probes = NULL;
    }
    unlock(process);
    for (struct fw_job *following = NULL; late; late = following) {
        following = late->next;
        fw_job_refuse(
            process->done, late, stopped ? "no child can be started" : "no child was free in time");
    }
    for (struct fw_process_probe *following = NULL; probe; probe = following) {
        following = probe->next;
        probe->answer(probe->user, false);
        free(probe);
    }
    return next;
}

static int64_t look(struct fw_process *process)
{
    int64_t now = fila_now();
    int64_t next = FILA_NEVER;
    for (struct fw_child *child = process->children, *following = NULL; child; child = following) {
        following = child->next;
        next = earlier(next, look_at_child(child, now));
    }
    bool due = process->notice_at && now >= process->notice_at;
    if (atomic_exchange(&process->refresh, false) || due) {
        process->notice_at = 0;
        fw_life_refresh(process);
    }
    next = earlier(next, process->notice_at ? process->notice_at : FILA_NEVER);
    next = earlier(next, fw_life_maintain(process, now));
    next = earlier(next, look_at_queue(process, now));
    fw_process_dispatch(process);
    return next;
}

/* ---- The loop ---- */

static void on_own_event(struct fw_process *process, enum fw_source_kind kind)
{
    uint64_t count;
    if (kind != FW_SOURCE_FOLDER) {
        (void)!read(process->wake_fd, &count, sizeof count);
        process->look_again = true;
    } else if (fw_generation_noticed(process->generation, process->folder)) {
        process->notice_at = fila_now() + NOTICE_AFTER;
        process->look_again = true;
    }
}

static void on_event(struct fw_process *process, const struct fw_source *source)
{
    struct fw_child *child = source->child;
    if (!child) {
        on_own_event(process, source->kind);
    } else if (child->dead) {
        return; /* it has ended in this batch */
    } else if (source->kind == FW_SOURCE_SOCKET) {
        on_socket(child);
    } else if (source->kind == FW_SOURCE_OUTPUT) {
        on_output(child);
    } else {
        on_exit_seen(child);
    }
}

static int patience(int64_t next)
{
    if (next == FILA_NEVER) {
        return -1;
    }
    int64_t left = next - fila_now();
    int64_t ms = left <= 0 ? 0 : (left + FILA_MS - 1) / FILA_MS;
    return ms < 60000 ? (int)ms : 60000;
}

static void bury(struct fw_process *process)
{
    while (process->graveyard) {
        struct fw_child *child = process->graveyard;
        process->graveyard = child->next;
        fw_child_free(child);
    }
}

static bool is_over(struct fw_process *process)
{
    lock(process);
    bool stopping = process->locked.stopping;
    unlock(process);
    return stopping && !process->children;
}

/* Looks when it is time, or something has changed; results alone change nothing. */
void *fw_manager_main(void *arg)
{
    struct fw_process *process = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    int64_t next = 0;
    for (;;) {
        if (process->look_again || (next != FILA_NEVER && fila_now() >= next)) {
            atomic_store(&process->until, FILA_NEVER);
            process->look_again = false;
            next = look(process);
            atomic_store(&process->until, next);
            bury(process);
            if (is_over(process)) {
                return NULL;
            }
        }
        int wait = process->look_again ? 0 : patience(next);
        int count = epoll_wait(process->epoll, events, EVENTS_AT_ONCE, wait);
        for (int i = 0; i < count; i++) {
            on_event(process, events[i].data.ptr);
        }
        bury(process);
    }
}
