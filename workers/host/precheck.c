/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "precheck.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT         (10 * FILA_S)
#define LOOK_EVERY_MS 50

/* argv for the child; *ret_texts owns the made-up words. NULL without memory. */
static char **command_line(const char *path, const struct fw_config_overrides *o)
{
    enum {
        FIXED = 6,
        PER_SET = 2
    };

    char **argv = calloc(FIXED + 2 + PER_SET * (o->set_count + 3), sizeof *argv);
    size_t n = 0;
    if (!argv) {
        return NULL;
    }
    const char *fixed[] = {"fila-worker", "check", "--offline", "--config", path};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        argv[n++] = strdup(fixed[i]);
    }
    for (size_t i = 0; i < o->set_count; i++) {
        argv[n++] = strdup("--set");
        argv[n++] = strdup(o->sets[i]);
    }
    const char *named[][PER_SET] = {
        {"--broker", o->broker}, {"--log-level", o->log_level}, {"--log-format", o->log_format}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (named[i][1]) {
            argv[n++] = strdup(named[i][0]);
            argv[n++] = strdup(named[i][1]);
        }
    }
    return argv;
}

static void free_words(char **argv)
{
    for (size_t i = 0; argv && argv[i]; i++) {
        free(argv[i]);
    }
    free(argv);
}

/* -1 with *ret_error. */
static pid_t spawn(char **argv, int out, int *ret_error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid = -1;
    (void)sigemptyset(&none);
    *ret_error = ENOMEM;
    if (posix_spawn_file_actions_init(&actions)) {
        return -1;
    }
    if (posix_spawnattr_init(&attributes) == 0) {
        (void)posix_spawnattr_setsigmask(&attributes, &none);
        /* A group of its own: signals meant for the worker's group are not for the check. */
        (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
        if (posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO) == 0 &&
            posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) ==
                0) {
            *ret_error = posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, argv, environ);
            pid = *ret_error ? -1 : pid;
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* Until there is something to read; false = the limit has passed, or `waiting` gives up. */
static bool wait_for(int fd, int64_t deadline, const struct fw_waiting *waiting)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = (deadline - fila_now()) / FILA_MS;
        if (left <= 0 || !waiting->go_on(waiting->user)) {
            return false;
        }
        if (poll(&p, 1, (int)(left < LOOK_EVERY_MS ? left : LOOK_EVERY_MS)) > 0) {
            return true;
        }
    }
}

/* Reads until the child closes its end, or is not to be waited for any more: kills it then. */
static size_t read_all(int fd, pid_t pid, const struct fw_waiting *waiting, char *text, size_t size)
{
    int64_t deadline = fila_now() + LIMIT;
    size_t used = 0;
    for (;;) {
        char rest[512];
        if (!wait_for(fd, deadline, waiting)) {
            (void)kill(pid, SIGKILL);
            int len = used ? 0 : snprintf(text, size, "the check of the file did not end");
            return used + (size_t)len;
        }
        bool room = used + 1 < size;
        ssize_t n = room ? read(fd, text + used, size - 1 - used) : read(fd, rest, sizeof rest);
        if (n <= 0) {
            return used;
        }
        used += room ? (size_t)n : 0;
    }
}

static void one_line(char *text, size_t used)
{
    text[used] = '\0';
    while (used && (text[used - 1] == '\n' || text[used - 1] == ' ')) {
        text[--used] = '\0';
    }
    for (char *p = text; *p; p++) {
        if (*p == '\n') {
            *p = ' ';
        }
    }
}

bool fw_precheck(
    const char *path,
    const struct fw_config_overrides *overrides,
    const struct fw_waiting *waiting,
    char *ret_why,
    size_t size)
{
    int pipe_fd[2];
    int status = -1;
    if (pipe2(pipe_fd, O_CLOEXEC)) {
        (void)snprintf(ret_why, size, "cannot check the file: %s", strerrordesc_np(errno));
        return false;
    }
    char **argv = command_line(path, overrides);
    int error = ENOMEM;
    pid_t pid = argv ? spawn(argv, pipe_fd[1], &error) : -1;
    (void)close(pipe_fd[1]);
    if (pid > 0) {
        one_line(ret_why, read_all(pipe_fd[0], pid, waiting, ret_why, size));
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    } else {
        (void)snprintf(
            ret_why, size, "cannot start a process to check the file: %s", strerrordesc_np(error));
    }
    (void)close(pipe_fd[0]);
    free_words(argv);
    if (pid > 0 && status != 0 && !ret_why[0]) {
        (void)snprintf(
            ret_why, size, "the check ended with status 0x%x and said nothing", (unsigned)status);
    }
    return status == 0;
}
