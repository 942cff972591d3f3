/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Starting a command and looking after it. Its end is seen on a pidfd, so no SIGCHLD handler, no
 * reaping of other threads' children, and no waiting for the pipes: a child of the command that
 * lives on and holds them does not hold us.
 */
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK_SIZE       65536
#define CHUNKS_AT_ONCE   16 /* between two looks at the clock */
#define WITHOUT_PIDFD_MS 10

enum phase {
    PHASE_RUN,
    PHASE_TERM, /* SIGTERM was sent */
    PHASE_KILL  /* SIGKILL was sent */
};

struct child {
    const struct child_task *task;
    pid_t pid;
    int pidfd; /* -1: this kernel has none (before 5.3) */
    int error; /* our ends of the pipes; -1 = closed */
    int output;
    int cancel;
    int64_t kill_at;
    enum phase phase;
    bool late; /* SIGTERM was for the deadline, not a cancel */
    char chunk[CHUNK_SIZE];
};

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

/* The places 0 to 2 are the child's own: descriptors that go there must come from above. */
static int above_standard(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    (void)close(fd);
    return higher;
}

/* The payload as a file in memory: read as fast as the command likes, or not at all. */
static int payload_file(const fila_delivery *delivery)
{
    int fd = above_standard(memfd_create("fila-payload", MFD_CLOEXEC));
    size_t at = 0;
    while (fd >= 0 && at < delivery->payload_len) {
        ssize_t written = pwrite(fd, delivery->payload + at, delivery->payload_len - at, (off_t)at);
        if (written < 0 && errno != EINTR) {
            int error = errno;
            close_fd(&fd);
            errno = error;
        }
        at += written > 0 ? (size_t)written : 0;
    }
    return fd;
}

static int open_pipe(int *ret_read, int *ret_write)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        return errno;
    }
    *ret_read = above_standard(ends[0]);
    *ret_write = above_standard(ends[1]);
    if (*ret_read < 0 || *ret_write < 0 || fcntl(*ret_read, F_SETFL, O_NONBLOCK)) {
        return errno;
    }
    return 0;
}

/* ---- Start ---- */

struct inherited {
    int input;
    int output; /* -1: /dev/null */
    int error;
};

static int add_files(
    posix_spawn_file_actions_t *actions,
    const struct inherited *files,
    const char *directory)
{
    int error = posix_spawn_file_actions_adddup2(actions, files->input, STDIN_FILENO);
    if (!error) {
        error = files->output >= 0
                    ? posix_spawn_file_actions_adddup2(actions, files->output, STDOUT_FILENO)
                    : posix_spawn_file_actions_addopen(
                          actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    }
    if (!error) {
        error = posix_spawn_file_actions_adddup2(actions, files->error, STDERR_FILENO);
    }
    if (!error) {
        error = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
    }
    if (!error && *directory) {
        error = posix_spawn_file_actions_addchdir_np(actions, directory);
    }
    return error;
}

/* A group of its own, so that all of it can be ended; no blocked or ignored signals. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int error = posix_spawnattr_setflags(
        attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    error = error ? error : posix_spawnattr_setpgroup(attributes, 0);
    error = error ? error : posix_spawnattr_setsigmask(attributes, &none);
    return error ? error : posix_spawnattr_setsigdefault(attributes, &all);
}

static int spawn(const struct child_task *task, const struct inherited *files, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) {
        return error;
    }
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        error = add_files(&actions, files, task->command->directory);
        error = error ? error : set_attributes(&attributes);
        error = error ? error
                      : posix_spawn(
                            ret_pid, task->command->path, &actions, &attributes,
                            task->command->argv, task->environment);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

static int start(struct child *child)
{
    const struct child_task *task = child->task;
    struct inherited files = {-1, -1, -1};
    int error = 0;

    files.input = payload_file(task->delivery);
    if (files.input < 0) {
        error = errno;
    }
    error = error ? error : open_pipe(&child->error, &files.error);
    if (!error && task->log_output) {
        error = open_pipe(&child->output, &files.output);
    }
    error = error ? error : spawn(task, &files, &child->pid);
    close_fd(&files.input);
    close_fd(&files.output);
    close_fd(&files.error);
    if (error) {
        close_fd(&child->error);
        close_fd(&child->output);
        return error;
    }
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    return 0;
}

/* ---- While it runs ---- */

/* Reads what is there, a bounded part of it. */
static void read_some(struct child *child, int *fd)
{
    for (int i = 0; i < CHUNKS_AT_ONCE && *fd >= 0; i++) {
        ssize_t len = read(*fd, child->chunk, sizeof child->chunk);
        if (len > 0 && fd == &child->error) {
            tail_add(child->task->tail, child->chunk, (size_t)len);
        } else if (len > 0) {
            lines_add(child->task->lines, child->chunk, (size_t)len);
        } else if (len == 0 || (errno != EAGAIN && errno != EINTR)) {
            close_fd(fd);
        } else {
            return;
        }
    }
}

static void send_signal(struct child *child, int signal, enum phase phase)
{
    (void)kill(-child->pid, signal);
    child->phase = phase;
}

/* Ends it when its time is over or its result is not wanted any more. Returns how long it may go on
 * without another look, in ms; -1 = for ever. */
static int64_t mind_the_time(struct child *child)
{
    const struct child_task *task = child->task;
    int64_t left = task->services->deadline_ms(task->delivery);

    if (child->phase == PHASE_RUN) {
        bool cancelled = task->services->cancelled(task->delivery);
        if (!cancelled && left > task->term_at) {
            return left - task->term_at;
        }
        child->late = left <= task->term_at;
        if (!child->late) { /* the same time to end in */
            child->kill_at = left - (task->term_at - task->kill_at);
        }
        send_signal(child, SIGTERM, PHASE_TERM);
    }
    if (child->phase == PHASE_TERM) {
        if (left > child->kill_at) {
            return left - child->kill_at;
        }
        send_signal(child, SIGKILL, PHASE_KILL);
    }
    return -1;
}

/* Whether it is over. It is not reaped: its number, and its group's, is not another's yet. */
static bool has_ended(const struct child *child, short pidfd_events)
{
    siginfo_t info = {.si_pid = 0};
    if (child->pidfd >= 0) {
        return pidfd_events != 0;
    }
    int result = waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT | WNOHANG);
    return result ? errno == ECHILD : info.si_pid == child->pid;
}

static int poll_timeout(const struct child *child, int64_t ms)
{
    if (child->pidfd < 0 && (ms < 0 || ms > WITHOUT_PIDFD_MS)) {
        return WITHOUT_PIDFD_MS;
    }
    return ms > 3600000 ? 3600000 : (int)ms;
}

/* The host's descriptor may have become readable for an earlier message: asking for it anew makes
 * it quiet. */
static void look_at_cancel(struct child *child, short events)
{
    const struct child_task *task = child->task;
    if (events && !task->services->cancelled(task->delivery)) {
        child->cancel = task->services->cancel_fd(task->delivery);
    }
}

static void watch(struct child *child)
{
    for (bool ended = false; !ended;) {
        int64_t ms = mind_the_time(child);
        struct pollfd fds[] = {
            {.fd = child->pidfd, .events = POLLIN},
            {.fd = child->error, .events = POLLIN},
            {.fd = child->output, .events = POLLIN},
            {.fd = child->phase == PHASE_RUN ? child->cancel : -1, .events = POLLIN},
        };
        (void)poll(fds, 4, poll_timeout(child, ms));
        if (fds[1].revents) {
            read_some(child, &child->error);
        }
        if (fds[2].revents) {
            read_some(child, &child->output);
        }
        look_at_cancel(child, fds[3].revents);
        ended = has_ended(child, fds[0].revents);
    }
}

/* ---- The end ---- */

static void reap(struct child *child, struct child_result *ret_result)
{
    siginfo_t info = {.si_code = CLD_EXITED};
    while (waitid(P_PID, (id_t)child->pid, &info, WEXITED) && errno == EINTR) {
    }
    *ret_result = (struct child_result){
        .end = info.si_code == CLD_EXITED ? CHILD_EXITED : CHILD_SIGNALLED,
        .status = info.si_status,
        .dumped_core = info.si_code == CLD_DUMPED,
        .ended_by_us = child->phase != PHASE_RUN,
        .late = child->late,
        .killed = child->phase == PHASE_KILL,
    };
}

int child_run(const struct child_task *task, struct child_result *ret_result)
{
    struct child child = {
        .task = task,
        .pidfd = -1,
        .error = -1,
        .output = -1,
        .cancel = task->services->cancel_fd(task->delivery),
        .kill_at = task->kill_at,
    };
    int error = start(&child);
    if (error) {
        return error;
    }
    watch(&child);
    read_some(&child, &child.error);
    read_some(&child, &child.output);
    if (task->log_output) {
        lines_end(task->lines);
    }
    /* What it left behind in its group, while that number is still its own: a message must not
     * leave processes for the next ones to stumble over. */
    send_signal(&child, SIGKILL, child.phase);
    reap(&child, ret_result);
    close_fd(&child.error);
    close_fd(&child.output);
    close_fd(&child.pidfd);
    return 0;
}
