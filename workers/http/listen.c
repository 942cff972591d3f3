/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "listen.h"

#include "base/error.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BACKLOG = 128,
    /* Kernel memory of one connection: what a slow reader can make wait (the kernel doubles it). */
    SEND_BYTES = 128 * 1024,
    RECEIVE_BYTES = 16 * 1024
};

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Splits at the last colon; brackets of an IPv6 address come off. */
static bool split(const char *text, char *host, size_t size, const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon[1] == '\0') {
        return false;
    }
    const char *start = text;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && start[0] == '[' && start[len - 1] == ']') {
        start++;
        len -= 2;
    } else if (memchr(start, ':', len)) {
        return false;
    }
    if (len >= size) {
        return false;
    }
    memcpy(host, start, len);
    host[len] = '\0';
    *ret_port = colon + 1;
    return true;
}

fila_status fw_listen_parse(
    const char *text,
    struct fw_listen_address *ret_address,
    fila_error *reterr)
{
    char host[256];
    const char *port = NULL;
    char *end = NULL;
    struct addrinfo *found = NULL;
    if (!split(text, host, sizeof host, &port)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "\"%s\" is no address: HOST:PORT, [IPv6]:PORT or :PORT is wanted", text);
    }
    unsigned long number = strtoul(port, &end, 10);
    if (port[0] < '0' || port[0] > '9' || *end != '\0' || number > 65535) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "port \"%s\" is no number from 0 to 65535", port);
    }
    struct addrinfo hints = {
        .ai_family = host[0] ? AF_UNSPEC : AF_INET6,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    int error = getaddrinfo(host[0] ? host : NULL, port, &hints, &found);
    if (error) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "host \"%s\": %s", host, gai_strerror(error));
    }
    memcpy(&ret_address->address, found->ai_addr, found->ai_addrlen);
    ret_address->len = found->ai_addrlen;
    ret_address->loopback = is_loopback(found->ai_addr);
    freeaddrinfo(found);
    return FILA_OK;
}

static int open_socket(const struct sockaddr *address, socklen_t len)
{
    const int on = 1;
    const int off = 0;
    const int send_bytes = SEND_BYTES;
    const int receive_bytes = RECEIVE_BYTES;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->sa_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes); /* inherited */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    if (bind(fd, address, len) || listen(fd, BACKLOG)) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int fw_listen_open(const struct fw_listen_address *address)
{
    int fd = open_socket((const struct sockaddr *)&address->address, address->len);
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&address->address;
    if (fd < 0 && errno == EAFNOSUPPORT && v6->sin6_family == AF_INET6 &&
        IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr)) { /* ":PORT" on a machine without IPv6 */
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = v6->sin6_port};
        fd = open_socket((const struct sockaddr *)&v4, sizeof v4);
    }
    return fd;
}

unsigned fw_listen_port(int fd)
{
    struct sockaddr_storage own = {0};
    socklen_t len = sizeof own;
    char port[16];
    if (getsockname(fd, (struct sockaddr *)&own, &len) ||
        getnameinfo((struct sockaddr *)&own, len, NULL, 0, port, sizeof port, NI_NUMERICSERV)) {
        return 0;
    }
    return (unsigned)strtoul(port, NULL, 10);
}
