/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "http/http.h"

#include "answer.h"
#include "base/error.h"
#include "clients.h"
#include "listen.h"
#include "log/log.h"
#include "plugin/stacks.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TRY_AGAIN (5 * FILA_S)

enum {
    IDLE_SECONDS = 10,             /* of a connection on which nothing moves */
    CONNECTION_MEMORY = 32 * 1024, /* the longest request line with its headers, less a little */
    LONGEST_WAIT_MS = 3600 * 1000,
    FILES = 2
};

struct fw_http {
    pthread_t thread;
    char *listen;
    struct fw_listen_address address;
    struct fw_answers answers;
    struct fw_clients clients;
    struct MHD_Daemon *daemon; /* NULL = the port is another's */
    int epoll_fd;              /* the daemon's */
    int stop_fd;
    int64_t try_at;
};

bool fw_http_available(void)
{
    return true;
}

/* ---- Callbacks of libmicrohttpd, HTTP thread ---- */

/* A request with a body is answered before it is read, which ends its connection. */
static bool has_body(struct MHD_Connection *connection)
{
    const char *len = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    return (len && strcmp(len, "0") != 0) ||
           MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding");
}

/* NOLINTNEXTLINE(readability-function-size): the library's signature */
static enum MHD_Result on_request(
    void *user,
    struct MHD_Connection *connection,
    const char *url,
    const char *method,
    const char *version,
    const char *upload,
    size_t *upload_size,
    void **request)
{
    struct fw_http *http = user;
    (void)version;
    (void)upload;
    (void)upload_size;
    if (!*request && !has_body(connection)) { /* answered once it is complete: it may stay open */
        *request = http;
        return MHD_YES;
    }
    return fw_answer(&http->answers, connection, url, method);
}

static void on_connection(
    void *user,
    struct MHD_Connection *connection,
    void **context,
    enum MHD_ConnectionNotificationCode what)
{
    struct fw_http *http = user;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = info ? fw_client_add(&http->clients, info->connect_fd, fila_now()) : NULL;
    } else if (*context) {
        fw_client_remove(&http->clients, *context);
        *context = NULL;
    }
}

/* Paths are taken as they come: no page's name needs decoding. */
static size_t keep_escapes(void *user, struct MHD_Connection *connection, char *text)
{
    (void)user;
    (void)connection;
    return strlen(text);
}

/* ---- The port ---- */

static bool start_daemon(struct fw_http *http, int fd)
{
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)FW_CLIENTS_LIMIT, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escapes, NULL, MHD_OPTION_END);
    if (!http->daemon) {
        return false;
    }
    http->epoll_fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    return true;
}

/* 0, or the errno of what failed. */
static int open_port(struct fw_http *http)
{
    int fd = fw_listen_open(&http->address);
    if (fd < 0) {
        return errno;
    }
    unsigned port = fw_listen_port(fd);
    if (!start_daemon(http, fd)) {
        (void)close(fd);
        return ENOMEM;
    }
    FW_LOG(
        FW_EVENT_HTTP_READY, "health, metrics and status are served",
        fw_str("listen", http->listen), fw_int("port", port));
    return 0;
}

static void say_off(const struct fw_http *http, const char *why)
{
    FW_LOG(
        FW_EVENT_HTTP_OFF, "the HTTP port cannot be used; tried again every 5 s",
        fw_str("listen", http->listen), fw_str("error", why));
}

/* ---- The thread ---- */

static int wait_ms(struct fw_http *http, int64_t now)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;
    int64_t until = http->daemon ? fw_clients_tick(&http->clients, now) : http->try_at;
    int64_t left = until == FILA_NEVER ? -1 : until > now ? (until - now) / FILA_MS + 1 : 0;
    if (http->daemon && MHD_get_timeout(http->daemon, &ms) == MHD_YES &&
        (left < 0 || (int64_t)ms < left)) {
        left = (int64_t)ms;
    }
    return left > LONGEST_WAIT_MS ? LONGEST_WAIT_MS : (int)left;
}

static void *http_main(void *arg)
{
    struct fw_http *http = arg;
    fw_stacks_enter();
    for (;;) {
        struct pollfd files[FILES] = {
            {.fd = http->stop_fd, .events = POLLIN},
            {.fd = http->daemon ? http->epoll_fd : -1, .events = POLLIN}};
        (void)poll(files, FILES, wait_ms(http, fila_now()));
        if (files[0].revents) {
            fw_stacks_leave();
            return NULL;
        }
        if (http->daemon) {
            (void)MHD_run(http->daemon);
        } else if (fila_now() >= http->try_at) {
            http->try_at = fila_now() + TRY_AGAIN;
            (void)open_port(http);
        }
    }
}

/* ---- Life ---- */

static void release(struct fw_http *http)
{
    if (http->daemon) {
        MHD_stop_daemon(http->daemon);
    }
    fw_answers_fini(&http->answers);
    if (http->stop_fd >= 0) {
        (void)close(http->stop_fd);
    }
    free(http->listen);
    free(http);
}

static fila_status open_first(struct fw_http *http, fila_error *reterr)
{
    int error = open_port(http);
    if (error == EADDRINUSE) {
        http->try_at = fila_now() + TRY_AGAIN;
        say_off(http, "the port is in use");
    } else if (error) {
        return fila_fail(
            reterr, error == ENOMEM ? FILA_NO_MEMORY : FILA_INVALID_ARGUMENT,
            "cannot listen on \"%s\": %s", http->listen, strerrordesc_np(error));
    }
    return FILA_OK;
}

fila_status fw_http_start(
    const struct fw_http_options *options,
    struct fw_http **ret_http,
    fila_error *reterr)
{
    struct fw_http *http = calloc(1, sizeof *http);
    if (!http) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for the HTTP port");
    }
    http->listen = strdup(options->listen);
    http->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    http->answers.source = options->source;
    fila_status status = FILA_OK;
    if (!http->listen || http->stop_fd < 0) {
        status = fila_fail(reterr, FILA_NO_MEMORY, "no memory for the HTTP port");
    }
    if (status == FILA_OK) {
        status = fw_listen_parse(options->listen, &http->address, reterr);
    }
    if (status == FILA_OK) {
        http->answers.loopback = http->address.loopback;
        status = open_first(http, reterr);
    }
    if (status == FILA_OK && pthread_create(&http->thread, NULL, http_main, http)) {
        status = fila_fail(reterr, FILA_NO_MEMORY, "cannot start the HTTP thread");
    }
    if (status != FILA_OK) {
        release(http);
        return status;
    }
    (void)pthread_setname_np(http->thread, "fila-http");
    *ret_http = http;
    return FILA_OK;
}

void fw_http_stop(struct fw_http *http)
{
    if (!http) {
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(http->stop_fd, &one, sizeof one);
    (void)n; /* a full counter stops it too */
    (void)pthread_join(http->thread, NULL);
    release(http);
}
