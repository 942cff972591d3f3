/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "server.h"

#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdlib.h>
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

/* Whether somebody accepts connections there: gRPC would take the path away from under him. */
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

/* 0, or why a socket cannot be bound to it. */
static int try_bind(const struct sockaddr *name, socklen_t len)
{
    int on = 1;
    int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int error = bind(fd, name, len) ? errno : 0;
    (void)close(fd);
    return error;
}

static fila_status check_unix(const char *address, const char *path, fila_error *reterr)
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
        return is_served(&name) ? refuse(reterr, address, reason(EADDRINUSE)) : FILA_OK;
    }
    int error = errno == ENOENT ? try_bind((struct sockaddr *)&name, sizeof name) : errno;
    if (error) {
        return refuse(reterr, address, reason(error));
    }
    (void)unlink(path);
    return FILA_OK;
}

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

/* Fails if the port is taken on any of the addresses, or if none can be bound. */
static int try_all(const struct addrinfo *list)
{
    int error = 0;
    bool any = false;
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        int now = try_bind(at->ai_addr, at->ai_addrlen);
        if (now == EADDRINUSE) {
            return now;
        }
        any |= now == 0;
        error = now ? now : error;
    }
    return any ? 0 : error;
}

static fila_status check_tcp(const char *address, fila_error *reterr)
{
    char host[256];
    const char *port;
    struct addrinfo *list;
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    if (!split(address, host, sizeof host, &port)) {
        return refuse(reterr, address, "it must be HOST:PORT, [V6]:PORT, :PORT or unix:PATH");
    }
    if (strtoul(port, NULL, 10) > 65535) {
        return refuse(reterr, address, "a port is at most 65535");
    }
    int failed = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
    if (failed) {
        return refuse(reterr, address, failed == EAI_SYSTEM ? reason(errno) : gai_strerror(failed));
    }
    int error = try_all(list);
    freeaddrinfo(list);
    return error ? refuse(reterr, address, reason(error)) : FILA_OK;
}

fila_status server_check_address(const char *address, fila_error *reterr)
{
    const char *path = after_prefix(address, "unix:");
    return path ? check_unix(address, path, reterr) : check_tcp(address, reterr);
}
