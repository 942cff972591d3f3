/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "ctl/ctl.h"

#include "base/clock.h"
#include "base/error.h"
#include "plugin/stacks.h"
#include "status/status_json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE (5 * FILA_S)

enum {
    READ_MS = 5000, /* for a client to send its line */
    WRITE_SECONDS = 10,
    TAP_LOOK_MS = 250 /* how often a silent tap looks whether its client is still there */
};

struct client {
    struct fw_ctl *ctl;
    pthread_t thread;
    int fd;
    bool used; /* by a thread that is not joined; ctl's thread only */
    atomic_bool over;
};

struct fw_ctl {
    const struct fw_ctl_commands *commands;
    char *path;
    int listen_fd;
    int stop_fd;
    pthread_t thread;
    struct client clients[FW_CTL_CLIENTS];
    atomic_bool stopping;
    pthread_mutex_t tap_lock; /* one tap at a time */
};

/* ---- Sending ---- */

static bool send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return false;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool send_line(int fd, const char *text)
{
    return send_all(fd, text, strlen(text)) && send_all(fd, "\n", 1);
}

static void send_result(int fd, bool ok, const char *why)
{
    json_t *answer = json_object();
    (void)json_object_set_new(answer, "ok", json_boolean(ok));
    if (!ok) {
        json_t *text = json_string(why);
        (void)json_object_set_new(answer, "error", text ? text : json_string("(not UTF-8)"));
    }
    char *line = json_dumps(answer, JSON_COMPACT);
    if (line) {
        (void)send_line(fd, line);
    }
    free(line);
    json_decref(answer);
}

/* ---- Commands ---- */

static void status(struct fw_ctl *ctl, int fd)
{
    const struct fw_status_source *source = ctl->commands->source;
    struct fw_snapshot *s = source->take(source->user, FW_SNAPSHOT_LISTS, PATIENCE);
    size_t len = 0;
    char *page = s ? fw_status_page(s, &len) : NULL;
    if (!page) {
        send_result(fd, false, "the I/O thread does not answer");
    } else if (send_all(fd, "{\"ok\":true,\"status\":", 20) && send_all(fd, page, len)) {
        (void)send_all(fd, "}\n", 2);
    }
    free(page);
    fw_snapshot_free(s);
}

/* Whether the client has gone. */
static bool hung_up(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void watch(struct client *client, struct fw_tap *tap)
{
    struct fw_ctl *ctl = client->ctl;
    bool open = true;
    send_result(client->fd, true, "");
    while (open && !atomic_load(&ctl->stopping) && !hung_up(client->fd)) {
        char *line = fw_tap_take(tap, TAP_LOOK_MS);
        open = !line || send_line(client->fd, line);
        free(line);
    }
}

static void tap_messages(struct client *client, const struct fw_ctl_request *request)
{
    struct fw_ctl *ctl = client->ctl;
    const struct fw_tap_options options = {request->queue, request->per_second, request->payload};
    struct timespec until; /* one that has just gone lets go of it within TAP_LOOK_MS */
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    if (pthread_mutex_timedlock(&ctl->tap_lock, &until)) {
        send_result(client->fd, false, "another tap is on");
        return;
    }
    struct fw_tap *tap = fw_tap_new(&options);
    if (!tap || !ctl->commands->tap(ctl->commands->user, tap)) {
        send_result(client->fd, false, tap ? "the I/O thread does not answer" : "no memory");
    } else {
        watch(client, tap);
    }
    if (tap && ctl->commands->tap(ctl->commands->user, NULL)) {
        fw_tap_free(tap); /* else the I/O thread may still have it: it is left to it */
    }
    (void)pthread_mutex_unlock(&ctl->tap_lock);
}

static void obey(struct client *client, const struct fw_ctl_request *request)
{
    const struct fw_ctl_commands *commands = client->ctl->commands;
    char why[512] = "";
    switch (request->verb) {
    case FW_CTL_STATUS:
        status(client->ctl, client->fd);
        break;
    case FW_CTL_PAUSE:
    case FW_CTL_RESUME:
    case FW_CTL_SET:
        send_result(client->fd, commands->order(commands->user, request, why, sizeof why), why);
        break;
    case FW_CTL_DRAIN:
        commands->drain(commands->user);
        send_result(client->fd, true, "");
        break;
    case FW_CTL_RELOAD:
        send_result(client->fd, commands->reload(commands->user, why, sizeof why), why);
        break;
    case FW_CTL_LOGLEVEL:
        fw_log_set_level(request->level);
        send_result(client->fd, true, "");
        break;
    case FW_CTL_TAP:
        tap_messages(client, request);
        break;
    case FW_CTL_DUMP:
        send_result(
            client->fd, commands->dump(commands->user),
            "the I/O thread does not answer: its stack is in the log (DUMP), what it holds is not");
        break;
    case FW_CTL_VERB_COUNT:
        break;
    }
}

/* ---- A connection ---- */

static bool is_ours(int fd, uid_t *ret_user)
{
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len)) {
        return false;
    }
    *ret_user = peer.uid;
    return peer.uid == geteuid() || peer.uid == 0;
}

/* The line without its newline; false: it did not come whole in time. */
static bool read_line(int fd, char *buffer, size_t size, size_t *ret_len)
{
    int64_t until = fila_now() + READ_MS * FILA_MS;
    size_t len = 0;
    while (len < size) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = (until - fila_now()) / FILA_MS;
        int ready = left <= 0 ? 0 : poll(&p, 1, (int)left);
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        ssize_t n = ready > 0 ? recv(fd, buffer + len, size - len, MSG_DONTWAIT) : -1;
        if (n <= 0) {
            return false;
        }
        char *end = memchr(buffer + len, '\n', (size_t)n);
        len += (size_t)n;
        if (end) {
            *ret_len = (size_t)(end - buffer);
            return true;
        }
    }
    return false;
}

static void serve(struct client *client)
{
    char line[FW_CTL_LINE_SIZE];
    char why[256];
    size_t len = 0;
    uid_t user = 0;
    struct fw_ctl_request request;
    if (!is_ours(client->fd, &user)) {
        (void)snprintf(why, sizeof why, "user %u may not give orders to this worker", user);
        send_result(client->fd, false, why);
    } else if (!read_line(client->fd, line, sizeof line, &len)) {
        send_result(client->fd, false, "a request is one line, sent at once");
    } else if (!fw_ctl_parse(line, len, &request, why, sizeof why)) {
        send_result(client->fd, false, why);
    } else {
        FW_LOG(
            request.verb == FW_CTL_STATUS ? FW_EVENT_CTL_LOOK : FW_EVENT_CTL_ORDER,
            fw_ctl_verb_name(request.verb),
            fw_str("queue", request.queue[0] ? request.queue : NULL), fw_int("user", user));
        obey(client, &request);
    }
}

static void *client_main(void *arg)
{
    struct client *client = arg;
    fw_stacks_enter();
    serve(client);
    fw_stacks_leave();
    (void)shutdown(client->fd, SHUT_RDWR);
    atomic_store(&client->over, true);
    return NULL;
}

/* ---- Accepting ---- */

static void join(struct client *client)
{
    (void)pthread_join(client->thread, NULL);
    (void)close(client->fd);
    client->used = false;
}

static struct client *free_client(struct fw_ctl *ctl)
{
    struct client *found = NULL;
    for (int i = 0; i < FW_CTL_CLIENTS; i++) {
        struct client *c = &ctl->clients[i];
        if (c->used && atomic_load(&c->over)) {
            join(c);
        }
        found = c->used ? found : c;
    }
    return found;
}

static void accept_one(struct fw_ctl *ctl)
{
    const struct timeval limit = {.tv_sec = WRITE_SECONDS};
    int fd = accept4(ctl->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    struct client *client = free_client(ctl);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (!client) {
        send_result(fd, false, "too many connections");
        (void)close(fd);
        return;
    }
    client->ctl = ctl;
    client->fd = fd;
    atomic_store(&client->over, false);
    if (pthread_create(&client->thread, NULL, client_main, client)) {
        (void)close(fd);
        return;
    }
    (void)pthread_setname_np(client->thread, "fila-ctl-client");
    client->used = true;
}

static void *ctl_main(void *arg)
{
    struct fw_ctl *ctl = arg;
    fw_stacks_enter();
    for (;;) {
        struct pollfd fds[] = {
            {.fd = ctl->stop_fd, .events = POLLIN}, {.fd = ctl->listen_fd, .events = POLLIN}};
        (void)poll(fds, 2, -1);
        if (fds[0].revents) {
            break;
        }
        accept_one(ctl);
    }
    for (int i = 0; i < FW_CTL_CLIENTS; i++) {
        if (ctl->clients[i].used) {
            (void)shutdown(ctl->clients[i].fd, SHUT_RDWR);
            join(&ctl->clients[i]);
        }
    }
    fw_stacks_leave();
    return NULL;
}

/* ---- Life ---- */

static bool address_of(const char *path, struct sockaddr_un *ret_address)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof ret_address->sun_path) {
        return false;
    }
    memcpy(ret_address->sun_path, path, strlen(path) + 1);
    return true;
}

int fw_ctl_connect(const char *path, fila_error *reterr)
{
    struct sockaddr_un address;
    if (!address_of(path, &address)) {
        (void)fila_fail(reterr, FILA_INVALID_ARGUMENT, "\"%s\" is too long for a socket", path);
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        int error = errno;
        (void)fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            error == EACCES ? "%s is not for this user: orders come from the worker's own user, or "
                              "from root: %s"
                            : "no worker listens at %s: %s",
            path, strerrordesc_np(error));
        if (fd >= 0) {
            (void)close(fd);
        }
        return -1;
    }
    return fd;
}

/* A socket that a worker left behind when it was killed is taken away; a live one is not. */
static fila_status open_socket(struct fw_ctl *ctl, fila_error *reterr)
{
    struct sockaddr_un address;
    struct stat found;
    fila_error ignored = FILA_ERROR_INIT;
    if (!address_of(ctl->path, &address)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "\"%s\" is too long for a socket", ctl->path);
    }
    int live = fw_ctl_connect(ctl->path, &ignored);
    if (live >= 0) {
        (void)close(live);
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "another worker listens at \"%s\"", ctl->path);
    }
    if (lstat(ctl->path, &found) == 0 && S_ISSOCK(found.st_mode)) {
        (void)unlink(ctl->path);
    }
    ctl->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Nobody can connect before listen: the mode is right by then. */
    if (ctl->listen_fd < 0 || bind(ctl->listen_fd, (struct sockaddr *)&address, sizeof address) ||
        chmod(ctl->path, S_IRUSR | S_IWUSR) || listen(ctl->listen_fd, FW_CTL_CLIENTS)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "cannot listen at \"%s\": %s", ctl->path,
            strerrordesc_np(errno));
    }
    return FILA_OK;
}

static void release(struct fw_ctl *ctl)
{
    if (ctl->listen_fd >= 0) {
        (void)close(ctl->listen_fd);
    }
    if (ctl->stop_fd >= 0) {
        (void)close(ctl->stop_fd);
    }
    (void)pthread_mutex_destroy(&ctl->tap_lock);
    free(ctl->path);
    free(ctl);
}

fila_status fw_ctl_start(
    const char *path,
    const struct fw_ctl_commands *commands,
    struct fw_ctl **ret_ctl,
    fila_error *reterr)
{
    struct fw_ctl *ctl = calloc(1, sizeof *ctl);
    if (!ctl) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for the control socket");
    }
    ctl->commands = commands;
    ctl->listen_fd = -1;
    ctl->path = strdup(path);
    ctl->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&ctl->tap_lock, NULL);
    fila_status status = FILA_OK;
    if (!ctl->path || ctl->stop_fd < 0) {
        status = fila_fail(reterr, FILA_NO_MEMORY, "no memory for the control socket");
    }
    if (status == FILA_OK && ctl->path) {
        status = open_socket(ctl, reterr);
    }
    if (status == FILA_OK && pthread_create(&ctl->thread, NULL, ctl_main, ctl)) {
        (void)unlink(ctl->path);
        status = fila_fail(reterr, FILA_NO_MEMORY, "cannot start the control thread");
    }
    if (status != FILA_OK) {
        release(ctl);
        return status;
    }
    (void)pthread_setname_np(ctl->thread, "fila-ctl");
    *ret_ctl = ctl;
    return FILA_OK;
}

void fw_ctl_stop(struct fw_ctl *ctl)
{
    if (!ctl) {
        return;
    }
    uint64_t one = 1;
    (void)unlink(ctl->path);
    atomic_store(&ctl->stopping, true);
    ssize_t n = write(ctl->stop_fd, &one, sizeof one);
    (void)n; /* a full counter stops it too */
    (void)pthread_join(ctl->thread, NULL);
    release(ctl);
}
