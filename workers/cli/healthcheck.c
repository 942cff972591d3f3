/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `fila-worker healthcheck`: for container platforms that run a command instead of asking over
 * HTTP, in images without a client of their own.
 */
#include "base/clock.h"
#include "cli.h"
#include "load.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const char HELP[] =
    "usage: fila-worker healthcheck [--live | --startup] [options]\n"
    "\n"
    "Asks the worker that runs with the same config whether it is ready (/readyz), and prints its answer. Exit status: 0\n"
    "yes; 1 no, or no answer within 3 s; 78 the config cannot be used.\n"
    "\n"
    "  --live             whether it is alive (/livez)\n"
    "  --startup          whether it has started (/startupz)\n" FW_CLI_LOAD_HELP;

enum {
    OPT_LIVE = 1000,
    OPT_STARTUP,
    OPT_HELP,
    ANSWER_SIZE = 16384
};

#define TIME_LIMIT (3 * FILA_S)

static const struct option OPTIONS[] = {
    FW_CLI_LOAD_OPTIONS,
    {"live", no_argument, NULL, OPT_LIVE},
    {"startup", no_argument, NULL, OPT_STARTUP},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* Waits until the socket is ready for `events`; false when time is up. */
static bool ready(int fd, short events, int64_t until)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int64_t left = (until - fila_now()) / FILA_MS;
    return left > 0 && poll(&poll_fd, 1, (int)left) == 1;
}

static bool finish_connect(int fd, int64_t until)
{
    int error = 0;
    socklen_t size = sizeof error;
    errno = ETIMEDOUT;
    if (!ready(fd, POLLOUT, until) || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        return false;
    }
    errno = error;
    return error == 0;
}

/* A connected socket, or -1 with errno. An address to listen on that names no host, or all of them,
 * is asked on this one. */
static int dial(const char *listen, int64_t until)
{
    char host[256];
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const char *colon = strrchr(listen, ':');
    bool bracket = listen[0] == '[';
    (void)snprintf(
        host, sizeof host, "%.*s", (int)(colon - listen) - 2 * bracket, listen + bracket);
    const char *name = strcmp(host, "") == 0 || strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1"
                       : strcmp(host, "::") == 0                             ? "::1"
                                                                             : host;
    int fd = -1;
    if (getaddrinfo(name, colon + 1, &hints, &found) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0 &&
            (errno != EINPROGRESS || !finish_connect(fd, until))) {
            int error = errno;
            (void)close(fd);
            errno = error;
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* Reads until the end, or as much as there is room for. False with errno. */
static bool read_answer(int fd, char answer[ANSWER_SIZE], int64_t until)
{
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && len < ANSWER_SIZE - 1) {
        errno = ETIMEDOUT;
        if (!ready(fd, POLLIN, until)) {
            return false;
        }
        n = read(fd, answer + len, ANSWER_SIZE - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    answer[len] = '\0';
    return n >= 0;
}

/* The HTTP status with the body in `answer`; 0 when there was none, with errno (0: no HTTP). */
static int ask(const char *listen, const char *path, char answer[ANSWER_SIZE])
{
    char request[128];
    int64_t until = fila_now() + TIME_LIMIT;
    int status = 0;
    int fd = dial(listen, until);
    if (fd < 0) {
        return 0;
    }
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", path);
    bool fine = send(fd, request, (size_t)len, MSG_NOSIGNAL) == len &&
                read_answer(fd, answer, until);
    int error = fine ? 0 : errno;
    (void)close(fd);
    if (fine && strncmp(answer, "HTTP/1.", 7) == 0 && answer[7] != '\0' && answer[8] == ' ') {
        char *end = NULL;
        status = (int)strtol(answer + 9, &end, 10);
        const char *body = strstr(answer, "\r\n\r\n");
        body = body ? body + 4 : "";
        memmove(answer, body, strlen(body) + 1);
    }
    errno = error;
    return status;
}

static int report(const char *listen, const char *path)
{
    char *answer = malloc(ANSWER_SIZE);
    if (!answer) {
        return fw_cli_fail("healthcheck", FW_EXIT_INTERNAL, "no memory");
    }
    int status = ask(listen, path, answer);
    int result = status >= 200 && status < 300 ? FW_EXIT_OK : FW_EXIT_FAILED;
    if (status > 0) {
        (void)fputs(answer, result == FW_EXIT_OK ? stdout : stderr);
    } else {
        (void)fw_cli_fail(
            "healthcheck", FW_EXIT_FAILED, "%s: %s", listen,
            errno ? strerrordesc_np(errno) : "what answers there is no worker");
    }
    free(answer);
    return fw_cli_finish("healthcheck", result);
}

/* Loads the config and asks. */
static int run(const struct fw_cli_source *source, const char *path)
{
    struct fw_config *config = NULL;
    struct fw_diagnostics diagnostics;
    if (!fw_cli_source_load(source, &config, &diagnostics)) {
        for (size_t i = 0; i < diagnostics.count; i++) {
            fw_diagnostic_print(stderr, &diagnostics.items[i]);
        }
        fw_diagnostics_free(&diagnostics);
        return FW_EXIT_CONFIG;
    }
    int status = *config->http_listen
                     ? report(config->http_listen, path)
                     : fw_cli_fail(
                           "healthcheck", FW_EXIT_FAILED,
                           "http.listen is empty, so there is nothing to ask: set it, "
                           "e.g. http = { listen = \"127.0.0.1:8080\"; };");
    fw_diagnostics_free(&diagnostics);
    fw_config_free(config);
    return status;
}

/* -1 = go on. */
static int parse(int argc, char **argv, struct fw_cli_source *source, const char **ret_path)
{
    int option = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (fw_cli_source_option(source, option)) {
            continue;
        }
        switch (option) {
        case OPT_LIVE:
            *ret_path = "/livez";
            break;
        case OPT_STARTUP:
            *ret_path = "/startupz";
            break;
        case OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("healthcheck", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("healthcheck", option, argv);
        }
    }
    return optind == argc ? -1
                          : fw_cli_usage("healthcheck", "unexpected argument \"%s\"", argv[optind]);
}

int fw_cli_healthcheck(int argc, char **argv)
{
    struct fw_cli_source source;
    const char *path = "/readyz";
    if (!fw_cli_source_init(&source, argc)) {
        return fw_cli_fail("healthcheck", FW_EXIT_INTERNAL, "out of memory");
    }
    int status = parse(argc, argv, &source, &path);
    if (status < 0) {
        status = run(&source, path);
    }
    fw_cli_source_fini(&source);
    return status;
}
