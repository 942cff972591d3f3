/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "server.h"

#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static fila_status refuse(fila_error *reterr, const char *address, const char *why)
{
    return fila_fail(reterr, FILA_BROKER_UNAVAILABLE, "cannot listen on %s: %s", address, why);
}

/* strerror, but safe in any thread. */
static const char *reason(int error)
{
    const char *text = strerrordesc_np(error);
    return text ? text : "unknown error";
}

static const char *after_prefix(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static int open_descriptor(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static uint64_t descriptor_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur
                                                                                    : UINT64_MAX;
}

/* gRPC aborts where it gets no descriptor: whether there are enough is tried. */
static fila_status check_descriptors(const char *address, fila_error *reterr)
{
    int fds[SERVER_DESCRIPTORS];
    int count = 0;
    while (count < SERVER_DESCRIPTORS && (fds[count] = open_descriptor()) >= 0) {
        count++;
    }
    for (int i = 0; i < count; i++) {
        (void)close(fds[i]);
    }
    if (count == SERVER_DESCRIPTORS) {
        return FILA_OK;
    }
    return fila_fail(
        reterr, FILA_BROKER_UNAVAILABLE,
        "cannot listen on %s: %d file descriptors are left of %llu allowed (RLIMIT_NOFILE), and %d "
        "are needed",
        address, count, (unsigned long long)descriptor_limit(), SERVER_DESCRIPTORS);
}

/* ---- Unix sockets ---- */

/* Whether somebody accepts connections there: his path is not taken away. */
static bool is_served(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool served = fd >= 0 && (connect(fd, (const struct sockaddr *)name, sizeof *name) == 0 ||
                              errno == EAGAIN || errno == EINPROGRESS);
    if (fd >= 0) {
        (void)close(fd);
    }
    return served;
}

/* A socket that listens on `name`: 0 or an errno. */
static int listen_to(const struct sockaddr *name, socklen_t len, int *ret_fd)
{
    int on = 1;
    int off = 0;
    int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (name->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)name;
        bool any = memcmp(&v6->sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &off : &on, sizeof on);
    }
    if (bind(fd, name, len) || listen(fd, SOMAXCONN)) {
        int error = errno;
        (void)close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static fila_status listen_unix(
    struct server_listener *listener,
    const char *address,
    const char *path,
    fila_error *reterr)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat st;
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof name.sun_path) {
        return refuse(reterr, address, len ? "the path is over 107 bytes" : "no path");
    }
    memcpy(name.sun_path, path, len + 1);
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) {
            return refuse(reterr, address, "it exists and is not a socket");
        }
        if (is_served(&name)) {
            return refuse(reterr, address, reason(EADDRINUSE));
        }
        (void)unlink(path);
    }
    int error = listen_to((struct sockaddr *)&name, sizeof name, &listener->fds[0]);
    if (error) {
        return refuse(reterr, address, reason(error));
    }
    listener->count = 1;
    listener->path = strdup(path); /* NULL: the socket is left behind, and taken over next time */
    return FILA_OK;
}

/* ---- TCP ---- */

/* Splits "host:port" or "[v6]:port"; an empty host stays empty. False if it is neither. */
static bool split(const char *address, char *host, size_t host_size, const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5) {
        return false;
    }
    size_t len = (size_t)(colon - address);
    bool bracketed = len >= 2 && address[0] == '[' && address[len - 1] == ']';
    const char *from = bracketed ? address + 1 : address;
    len -= bracketed ? 2 : 0;
    if (len >= host_size || (!bracketed && memchr(from, ':', len))) {
        return false;
    }
    memcpy(host, from, len);
    host[len] = '\0';
    *ret_port = colon + 1;
    return true;
}

/* Where the port lies in an address of either family. */
static in_port_t *port_in(struct sockaddr *name)
{
    return name->sa_family == AF_INET6 ? &((struct sockaddr_in6 *)(void *)name)->sin6_port
                                       : &((struct sockaddr_in *)(void *)name)->sin_port;
}

static in_port_t port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name;

    socklen_t len = sizeof name;
    memset(&name, 0, sizeof name);
    if (getsockname(fd, &name.any, &len)) {
        return 0;
    }
    return name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port;
}

static void close_sockets(struct server_listener *listener)
{
    while (listener->count) {
        (void)close(listener->fds[--listener->count]);
    }
}

/* Listens on each of the addresses, all with one port. Fails if the port is taken on any of them,
 * or if none can be bound: 0 or an errno. */
static int listen_all(struct server_listener *listener, const struct addrinfo *list)
{
    in_port_t port = 0;
    int error = 0;
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        if (listener->count == SERVER_MAX_ADDRESSES) {
            break;
        }
        if (port) {
            *port_in(at->ai_addr) = port;
        }
        int now = listen_to(at->ai_addr, at->ai_addrlen, &listener->fds[listener->count]);
        if (now == EADDRINUSE) {
            close_sockets(listener);
            return now;
        }
        error = now ? now : error;
        if (now == 0) {
            port = port_of(listener->fds[listener->count++]);
        }
    }
    return listener->count ? 0 : error;
}

/* The addresses of a host: of all, the one that takes both families comes alone. */
static int resolve(const char *host, const char *port, struct addrinfo **ret_list)
{
    struct addrinfo hints = {
        .ai_family = AF_INET6,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    int probe = host[0] ? -1 : socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        hints.ai_family = AF_UNSPEC;
    } else {
        (void)close(probe);
    }
    return getaddrinfo(host[0] ? host : NULL, port, &hints, ret_list);
}

static fila_status listen_tcp(
    struct server_listener *listener,
    const char *address,
    uint16_t *ret_port,
    fila_error *reterr)
{
    char host[256];
    const char *port;
    struct addrinfo *list;
    if (!split(address, host, sizeof host, &port)) {
        return refuse(reterr, address, "it must be HOST:PORT, [V6]:PORT, :PORT or unix:PATH");
    }
    if (strtoul(port, NULL, 10) > 65535) {
        return refuse(reterr, address, "a port is at most 65535");
    }
    int failed = resolve(host, port, &list);
    if (failed) {
        return refuse(reterr, address, failed == EAI_SYSTEM ? reason(errno) : gai_strerror(failed));
    }
    int error = listen_all(listener, list);
    freeaddrinfo(list);
    if (error) {
        return refuse(reterr, address, reason(error));
    }
    *ret_port = ntohs(port_of(listener->fds[0]));
    return FILA_OK;
}

/* ---- Their life ---- */

void server_listener_init(struct server_listener *listener)
{
    listener->wake = -1;
    listener->spare = -1;
    pthread_mutex_init(&listener->lock, NULL);
}

fila_status server_listen(struct fb_server *server, const char *address, fila_error *reterr)
{
    struct server_listener *listener = &server->listener;
    const char *path = after_prefix(address, "unix:");
    fila_status status = path ? listen_unix(listener, address, path, reterr)
                              : listen_tcp(listener, address, &server->port, reterr);
    if (status) {
        return status;
    }
    status = check_descriptors(address, reterr);
    if (status == FILA_OK) {
        listener->wake = open_descriptor();
        listener->spare = open_descriptor();
        listener->highest = descriptor_limit();
        listener->highest -= listener->highest < SERVER_RESERVE ? 0 : SERVER_RESERVE;
    }
    return status;
}

void server_listener_fini(struct server_listener *listener)
{
    close_sockets(listener);
    if (listener->path) {
        (void)unlink(listener->path);
        free(listener->path);
        listener->path = NULL;
    }
    if (listener->wake >= 0) {
        (void)close(listener->wake);
    }
    if (listener->spare >= 0) {
        (void)close(listener->spare);
    }
    pthread_mutex_destroy(&listener->lock);
}
