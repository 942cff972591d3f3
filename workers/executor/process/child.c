/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/outbox.h"
#include "handler.h"
#include "log/log.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    ABOVE = 10 /* our ends are above the descriptors that the child begins with */
};

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static int above(int fd)
{
    if (fd < 0 || fd >= ABOVE) {
        return fd;
    }
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, ABOVE);
    (void)close(fd);
    return higher;
}

/* ---- Start ---- */

/* What the child gets; closed here once it has it. */
struct ends {
    int socket;
    int output;
    int cancel;
};

static int open_ends(struct fw_child *child, struct ends *ends)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        return errno;
    }
    child->socket = above(pair[0]);
    ends->socket = above(pair[1]);
    if (pipe2(pair, O_CLOEXEC)) {
        return errno;
    }
    child->output.fd = above(pair[0]);
    ends->output = above(pair[1]);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        return errno;
    }
    child->cancel_fd = above(pair[0]);
    ends->cancel = above(pair[1]);
    if (child->socket < 0 || ends->socket < 0 || child->output.fd < 0 || ends->output < 0 ||
        child->cancel_fd < 0 || ends->cancel < 0 || fcntl(child->output.fd, F_SETFL, O_NONBLOCK)) {
        return errno;
    }
    int error = fw_area_new(&child->area);
    if (!error) {
        child->area.fd = above(child->area.fd);
        error = child->area.fd < 0 ? errno : 0;
    }
    return error;
}

static int add_files(
    posix_spawn_file_actions_t *actions,
    const struct fw_child *child,
    const struct ends *ends)
{
    const int moves[][2] = {
        {ends->output, STDOUT_FILENO},     {ends->output, STDERR_FILENO},
        {ends->socket, FW_HANDLER_SOCKET}, {ends->cancel, FW_HANDLER_CANCEL},
        {child->area.fd, FW_HANDLER_AREA}, {child->generation->fd, FW_HANDLER_PLUGIN},
    };
    int error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    for (size_t i = 0; i < sizeof moves / sizeof *moves && !error; i++) {
        error = posix_spawn_file_actions_adddup2(actions, moves[i][0], moves[i][1]);
    }
    return error ? error : posix_spawn_file_actions_addclosefrom_np(actions, FW_HANDLER_PLUGIN + 1);
}

/* A group of its own, so that what it starts can be ended with it; no blocked or ignored signals.
 */
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

static int spawn(struct fw_child *child, const struct ends *ends)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char name[] = "fila-worker";
    char verb[] = "__handler";
    char parent[16];
    char *argv[] = {name, verb, parent, NULL};
    char *const *environment = NULL; /* posix_spawn writes nothing, whatever its types say */
    memcpy(&environment, &child->process->environment, sizeof environment);
    (void)snprintf(parent, sizeof parent, "%d", (int)child->process->parent);
    int error = posix_spawn_file_actions_init(&actions);
    if (error) {
        return error;
    }
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        error = add_files(&actions, child, ends);
        error = error ? error : set_attributes(&attributes);
        error = error ? error
                      : posix_spawn(
                            &child->pid, child->process->program, &actions, &attributes, argv,
                            environment);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* For reading only, whatever the type says. */
static struct iovec part_of(fila_view bytes)
{
    struct iovec part = {NULL, bytes.len};
    memcpy(&part.iov_base, &bytes.data, sizeof part.iov_base);
    return part;
}

/* Sends `packet` and its body, which goes by the area if it is large: in two parts, as a message is
 * a head that we make and a payload that the message has. */
static enum fw_sent send_body(
    struct fw_child *child,
    struct fw_packet *packet,
    fila_view first,
    fila_view second)
{
    uint8_t head[FW_PACKET_SIZE];
    bool by_area = first.len + second.len > FW_PACKET_INLINE;
    if (first.len + second.len > FW_AREA_ROOM) {
        return FW_SENT_TOO_LARGE;
    }
    for (;;) {
        packet->run.area_len = 0;
        packet->run.body = (fila_view){NULL, 0};
        if (by_area) {
            memcpy(child->area.body, first.data, first.len);
            if (second.len) {
                memcpy(child->area.body + first.len, second.data, second.len);
            }
            packet->run.area_len = (uint32_t)(first.len + second.len);
        } else {
            packet->run.body.len = first.len + second.len;
        }
        size_t len = fw_packet_write(packet, head);
        struct iovec parts[] = {{head, len}, part_of(first), part_of(second)};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = by_area ? 1 : 3};
        ssize_t sent;
        do {
            sent = sendmsg(child->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        } while (sent < 0 && errno == EINTR);
        if (sent >= 0) {
            return FW_SENT;
        }
        bool full = errno == EAGAIN || errno == EMSGSIZE || errno == ENOBUFS;
        if (!full || by_area) {
            return FW_SENT_DEAD;
        }
        by_area = true; /* the socket's buffer is too small for it */
    }
}

static enum fw_sent send_start(struct fw_child *child)
{
    const struct fw_process *process = child->process;
    struct fw_generation *generation = child->generation;
    uint32_t level = FW_LOG_DEBUG;
    while (level < FW_LOG_OFF && !fw_log_enabled((enum fw_log_level)level)) {
        level++;
    }
    const struct fw_start start = {
        .path = generation->path,
        .queue = process->queue,
        .size = generation->size,
        .mtime_ns = generation->mtime_ns,
        .inode = generation->inode,
        .options = process->options,
        .option_count = process->option_count,
        .log_level = level,
    };
    struct fw_packet packet = {.type = FW_PACKET_START};
    fw_start_write(&child->buffer, &start);
    if (child->buffer.failed) {
        return FW_SENT_TOO_LARGE;
    }
    fila_view body = {(const char *)child->buffer.bytes, child->buffer.len};
    return send_body(child, &packet, body, (fila_view){NULL, 0});
}

static struct fw_child *new_child(struct fw_process *process, struct fw_generation *generation)
{
    struct fw_child *child = calloc(1, sizeof *child);
    if (child) {
        child->process = process;
        child->generation = generation;
        generation->refs++;
        child->pidfd = child->socket = child->cancel_fd = child->statm = -1;
        child->output.fd = child->area.fd = -1;
        child->sources[0] = (struct fw_source){FW_SOURCE_SOCKET, child};
        child->sources[1] = (struct fw_source){FW_SOURCE_EXIT, child};
        child->sources[2] = (struct fw_source){FW_SOURCE_OUTPUT, child};
    }
    return child;
}

int fw_child_start(
    struct fw_process *process,
    struct fw_generation *generation,
    struct fw_child **ret_child)
{
    struct ends ends = {-1, -1, -1};
    struct fw_child *child = new_child(process, generation);
    if (!child) {
        return ENOMEM;
    }
    int error = open_ends(child, &ends);
    error = error ? error : spawn(child, &ends);
    close_fd(&ends.socket);
    close_fd(&ends.output);
    close_fd(&ends.cancel);
    close_fd(&child->area.fd); /* both have it mapped */
    if (!error) {
        child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
        error = child->pidfd < 0 ? errno : 0;
        if (error) {
            (void)kill(child->pid, SIGKILL);
        }
    }
    if (error) {
        fw_child_free(child);
        return error;
    }
    (void)send_start(child); /* if it fails the child ends by itself */
    *ret_child = child;
    return 0;
}

void fw_child_free(struct fw_child *child)
{
    close_fd(&child->socket);
    close_fd(&child->pidfd);
    close_fd(&child->cancel_fd);
    close_fd(&child->statm);
    close_fd(&child->output.fd);
    fw_area_fini(&child->area);
    fw_buffer_fini(&child->buffer);
    fw_buffer_fini(&child->part);
    fw_outgoing_free(child->outbox);
    fw_generation_release(child->generation);
    free(child);
}

/* ---- While it lives ---- */

void fw_child_signal(const struct fw_child *child, int number)
{
    (void)syscall(SYS_pidfd_send_signal, child->pidfd, number, NULL, 0);
}

void fw_child_set_state(struct fw_child *child, enum fw_child_state state)
{
    uint32_t *counts = child->process->locked.counts;
    counts[child->locked.state]--;
    counts[state]++;
    child->locked.state = state;
}

bool fw_child_send(struct fw_child *child, const struct fw_packet *packet)
{
    uint8_t bytes[FW_PACKET_SIZE];
    size_t len = fw_packet_write(packet, bytes);
    ssize_t sent;
    do {
        sent = send(child->socket, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

enum fw_sent fw_child_send_job(struct fw_child *child, const struct fw_job *job, uint64_t id)
{
    struct fw_packet packet = {.type = FW_PACKET_RUN, .id = id};
    packet.run.deadline = job->deadline;
    packet.run.attempt = job->attempt;
    child->buffer.len = 0;
    child->buffer.failed = false;
    fw_message_write(&child->buffer, job->message);
    if (child->buffer.failed) {
        return FW_SENT_TOO_LARGE;
    }
    fila_view head = {(const char *)child->buffer.bytes, child->buffer.len};
    return send_body(child, &packet, head, fila_message_payload(job->message));
}

uint64_t fw_child_rss(struct fw_child *child)
{
    char text[128];
    unsigned long long pages = 0;
    if (child->statm < 0) {
        (void)snprintf(text, sizeof text, "/proc/%d/statm", (int)child->pid);
        child->statm = open(text, O_RDONLY | O_CLOEXEC);
    }
    ssize_t len = child->statm < 0 ? -1 : pread(child->statm, text, sizeof text - 1, 0);
    if (len <= 0) {
        return 0;
    }
    text[len] = '\0';
    char *space = strchr(text, ' ');
    pages = space ? strtoull(space, NULL, 10) : 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
