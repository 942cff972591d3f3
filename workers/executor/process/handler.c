/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "handler.h"

#include "base/clock.h"
#include "config/config.h"
#include "executor/fork.h"
#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Where descriptors go that plugins shall not meet by chance. */
#define OUT_OF_THE_WAY 200

#define OOM_SCORE "500" /* of 1000: before the worker, before most others */

/* ---- Packets out ---- */

void fw_handler_send(struct fw_handler *handler, const struct fw_packet *packet)
{
    uint8_t bytes[FW_PACKET_SIZE];
    size_t len = fw_packet_write(packet, bytes);
    ssize_t sent;
    if (fw_is_fork()) {
        _exit(EXIT_FAILURE);
    }
    do {
        sent = send(handler->socket, bytes, len, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        _exit(EXIT_FAILURE);
    }
}

static void send_result(struct fw_handler *handler, struct fw_job *job)
{
    struct fw_packet packet = {.type = FW_PACKET_RESULT, .id = atomic_load(&handler->current)};
    char reason[FW_REASON_SIZE];
    packet.result.verdict = (int32_t)job->verdict.kind;
    packet.result.cause = (uint32_t)job->verdict.cause;
    packet.result.delay = job->verdict.delay;
    if (job->reason) {
        (void)snprintf(reason, sizeof reason, "%s", job->reason);
        packet.result.reason = fila_view_of(reason);
    }
    fw_handler_publish(handler, packet.id, job->outbox);
    fw_handler_count(handler);
    fw_outgoing_free(job->outbox);
    free(job->reason);
    fw_job_free_message(job);
    atomic_store(&handler->current, 0);
    fw_handler_send(handler, &packet); /* from here on the job may be the next message's */
}

/* Sends results as they come: of `handle` on the one thread, of `complete` on any. */
static void on_done(void *user)
{
    struct fw_handler *handler = user;
    do {
        for (struct fw_job *job = fw_done_take(&handler->done), *next = NULL; job; job = next) {
            next = job->next;
            send_result(handler, job);
        }
    } while (!fw_done_sleep_begin(&handler->done));
}

/* ---- Start ---- */

static void fail(struct fw_handler *handler, const char *text)
{
    fw_handler_send(
        handler, &(struct fw_packet){.type = FW_PACKET_FAILED, .text = fila_view_of(text)});
}

static bool same_file(const struct fw_start *start)
{
    struct stat st;
    return !stat(start->path, &st) && st.st_size == start->size && st.st_ino == start->inode &&
           (int64_t)st.st_mtim.tv_sec * FILA_S + st.st_mtim.tv_nsec == start->mtime_ns;
}

/* What the worker has looked at is what is loaded: if it was replaced since, the one that the
 * worker still has open. */
static fila_status open_plugin(
    const struct fw_start *start,
    struct fw_plugin_file **ret_file,
    fila_error *reterr)
{
    if (!start->load_descriptor && same_file(start)) {
        return fw_plugin_open(start->path, ret_file, reterr);
    }
    return fw_plugin_open_descriptor(FW_HANDLER_PLUGIN, start->path, ret_file, reterr);
}

static void send_problems(struct fw_handler *handler, const struct fw_plugin_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct fw_diagnostic *item = &problems->items[i];
        struct fw_packet packet = {.type = FW_PACKET_PROBLEM};
        packet.problem.line = item->line;
        packet.problem.file = fila_view_of(item->file);
        packet.problem.key = fila_view_of(item->key);
        packet.problem.text = fila_view_of(item->text);
        fw_handler_send(handler, &packet);
    }
}

static bool bind_options(
    struct fw_handler *handler,
    const struct fw_start *start,
    const struct fw_plugin_file *file)
{
    struct fw_plugin_problems problems = {0};
    struct fw_plugin_binding binding = {
        .options = start->options,
        .option_count = start->option_count,
    };
    fila_status status = fw_plugin_bind(file, &binding, &handler->plugin, &problems);
    send_problems(handler, &problems);
    fw_plugin_problems_free(&problems);
    if (status) {
        char text[128];
        (void)snprintf(text, sizeof text, "its options are wrong: %s", fila_status_name(status));
        fail(handler, text);
    }
    return !status;
}

static bool begin(struct fw_handler *handler, const struct fw_start *start)
{
    fila_error error = FILA_ERROR_INIT;
    struct fw_plugin_file *file = NULL;
    fw_log_set_level((enum fw_log_level)start->log_level);
    if (open_plugin(start, &file, &error)) {
        fail(handler, error.text);
        return false;
    }
    bool bound = bind_options(handler, start, file);
    fw_plugin_close(file);
    (void)close(FW_HANDLER_PLUGIN);
    if (!bound) {
        return false;
    }
    fw_runs_init(&handler->runs, start->queue, &handler->done);
    fw_instance_prepare(&handler->instance, handler->plugin, start->queue);
    fw_handler_services(handler, &handler->instance.services);
    if (fw_instance_open(&handler->instance, &error)) {
        fail(handler, error.text);
        return false;
    }
    struct fw_packet ready = {.type = FW_PACKET_READY};
    ready.ready.name = fila_view_of(handler->plugin->table.name);
    ready.ready.version = fila_view_of(handler->plugin->table.version);
    ready.ready.has_probe = handler->plugin->table.probe != NULL;
    fw_handler_send(handler, &ready);
    return true;
}

/* ---- Messages ---- */

static fila_view body_of(const struct fw_handler *handler, const struct fw_packet *packet)
{
    if (packet->run.area_len) {
        return (fila_view){(const char *)handler->area.body, packet->run.area_len};
    }
    return packet->run.body;
}

static void run(struct fw_handler *handler, const struct fw_packet *packet)
{
    struct fw_job *job = &handler->job;
    if (atomic_load(&handler->current)) { /* whoever ended the last message is done with the job */
        _exit(EXIT_FAILURE);
    }
    *job = (struct fw_job){
        .message = fw_message_read(body_of(handler, packet), &handler->headers),
        .deadline = packet->run.deadline,
        .attempt = packet->run.attempt,
    };
    handler->run = handler->run ? handler->run : fw_run_take(&handler->runs);
    if (!job->message || !handler->run) {
        _exit(EXIT_FAILURE); /* no memory */
    }
    fw_log_set_level((enum fw_log_level)atomic_load(&handler->area.control->log_level));
    fw_handler_forget_cancels(handler, packet->id);
    atomic_store(&handler->current, packet->id);
    fw_run_start(handler->run, job, fila_now());
    int verdict = handler->plugin->table.handle(
        handler->instance.self, handler->run->delivery, &handler->instance.services);
    if (fw_is_fork()) {
        _exit(EXIT_SUCCESS); /* a fork of ours that came back */
    }
    if (fw_run_finish(handler->run, verdict) == FW_RUN_KEPT) {
        handler->run = NULL;
    }
}

static void probe(struct fw_handler *handler, uint64_t id)
{
    const fila_plugin *table = &handler->plugin->table;
    atomic_store(&handler->current, id);
    bool healthy = table->probe &&
                   table->probe(handler->instance.self, &handler->instance.services) == 1;
    if (fw_is_fork()) {
        _exit(EXIT_SUCCESS);
    }
    atomic_store(&handler->current, 0);
    fw_handler_send(
        handler, &(struct fw_packet){.type = FW_PACKET_PROBED, .id = id, .healthy = healthy});
}

static void receive(struct fw_handler *handler, uint8_t *bytes, struct fw_packet *ret_packet)
{
    char why[128];
    ssize_t len;
    do {
        len = recv(handler->socket, bytes, FW_PACKET_SIZE, 0);
    } while (len < 0 && errno == EINTR);
    if (len <= 0 || !fw_packet_read(bytes, (size_t)len, ret_packet, why, sizeof why)) {
        _exit(EXIT_FAILURE); /* the worker is gone */
    }
}

static int serve(struct fw_handler *handler)
{
    static uint8_t bytes[FW_PACKET_SIZE]; /* of the message that runs */
    struct fw_packet packet;
    for (;;) {
        receive(handler, bytes, &packet);
        switch (packet.type) {
        case FW_PACKET_RUN:
            run(handler, &packet);
            break;
        case FW_PACKET_PROBE:
            probe(handler, packet.id);
            break;
        default: /* CLOSE */
            fw_instance_close(&handler->instance);
            fw_handler_count(handler);
            (void)fflush(NULL);
            return EXIT_SUCCESS;
        }
    }
}

/* ---- The process ---- */

static int out_of_the_way(int fd)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
    if (moved < 0) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        return fd;
    }
    (void)close(fd);
    return moved;
}

static void be_killed_first(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, OOM_SCORE, sizeof OOM_SCORE - 1);
        (void)close(fd);
    }
}

/* Dies with the worker, even by SIGKILL; false when that is over already. */
static bool tie_to(pid_t parent)
{
    return !prctl(PR_SET_PDEATHSIG, SIGKILL) && getppid() == parent;
}

static bool open_handler(struct fw_handler *handler)
{
    handler->socket = out_of_the_way(FW_HANDLER_SOCKET);
    handler->cancel_fd = out_of_the_way(FW_HANDLER_CANCEL);
    (void)fcntl(FW_HANDLER_PLUGIN, F_SETFD, FD_CLOEXEC);
    bool mapped = fw_area_map(FW_HANDLER_AREA, &handler->area);
    (void)close(FW_HANDLER_AREA);
    handler->pid = getpid();
    handler->done = (struct fw_done_list){.wake = on_done, .user = handler};
    return mapped && fw_done_sleep_begin(&handler->done);
}

int fw_handler_main(int argc, char **argv)
{
    static struct fw_handler handler;
    static uint8_t bytes[FW_PACKET_SIZE];
    struct fw_packet packet;
    struct fw_arena arena = {0};
    struct fw_start start;
    if (argc != 2 || !tie_to((pid_t)strtol(argv[1], NULL, 10)) || !open_handler(&handler)) {
        (void)fputs("fila-worker: __handler is for fila-worker itself\n", stderr);
        return EXIT_FAILURE;
    }
    be_killed_first();
    fw_fork_watch();
    fw_handler_log(&handler);
    fw_handler_crashes(&handler);
    receive(&handler, bytes, &packet);
    if (packet.type != FW_PACKET_START ||
        !fw_start_read(body_of(&handler, &packet), &arena, &start)) {
        _exit(EXIT_FAILURE);
    }
    int status = begin(&handler, &start) ? serve(&handler) : EXIT_FAILURE;
    _exit(status); /* destructors of what the plugin left behind are not waited for */
}
