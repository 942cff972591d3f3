/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "peer.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_CONNECTIONS 32

struct peer {
    enum peer_kind kind;
    int listener;
    int stop[2];
    int open[MOST_CONNECTIONS];
    int count;
    pthread_t thread;
};

static int listen_anywhere(int *ret_port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof in) || listen(fd, 16) ||
        getsockname(fd, (struct sockaddr *)&in, &len)) {
        abort();
    }
    *ret_port = ntohs(in.sin_port);
    return fd;
}

static void say(int fd, const char *bytes, size_t len)
{
    (void)!send(fd, bytes, len, MSG_NOSIGNAL);
}

static void greet(struct peer *p, int fd)
{
    static const char http1[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    static const char alert[] = "\x15\x03\x01\x00\x02\x02\x46";
    static const char banner[] = "220 mail.example.org ESMTP ready\r\n";
    static const char settings[] = "\0\0\0\4\0\0\0\0\0" /* SETTINGS */
                                   "\0\0\0\4\1\0\0\0\0" /* their acknowledgement */
                                   "\xff\xff\xff\xff\xff\xff\xff\xff\xff"; /* and nonsense */
    char in[512];
    switch (p->kind) {
    case PEER_SILENT:
        p->open[p->count++ % MOST_CONNECTIONS] = fd;
        return;
    case PEER_HANGUP:
        break;
    case PEER_HTTP1:
        (void)!read(fd, in, sizeof in);
        say(fd, http1, sizeof http1 - 1);
        break;
    case PEER_TLS:
        (void)!read(fd, in, sizeof in);
        say(fd, alert, sizeof alert - 1);
        break;
    case PEER_BANNER:
        say(fd, banner, sizeof banner - 1);
        p->open[p->count++ % MOST_CONNECTIONS] = fd;
        return;
    case PEER_BROKEN:
        say(fd, settings, sizeof settings - 1);
        p->open[p->count++ % MOST_CONNECTIONS] = fd;
        return;
    }
    close(fd);
}

static void *serve(void *arg)
{
    struct peer *p = arg;
    struct pollfd fds[2] = {{p->listener, POLLIN, 0}, {p->stop[0], POLLIN, 0}};
    while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
        int fd = accept(p->listener, NULL, NULL);
        if (fd >= 0) {
            greet(p, fd);
        }
    }
    return NULL;
}

struct peer *peer_start(enum peer_kind kind, int *ret_port)
{
    struct peer *p = calloc(1, sizeof *p);
    p->kind = kind;
    p->listener = listen_anywhere(ret_port);
    if (pipe(p->stop) || pthread_create(&p->thread, NULL, serve, p)) {
        abort();
    }
    return p;
}

void peer_stop(struct peer *peer)
{
    close(peer->stop[1]);
    pthread_join(peer->thread, NULL);
    close(peer->stop[0]);
    close(peer->listener);
    for (int i = 0; i < peer->count && i < MOST_CONNECTIONS; i++) {
        close(peer->open[i]);
    }
    free(peer);
}

int peer_free_port(void)
{
    int port = 0;
    close(listen_anywhere(&port));
    return port;
}
