/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "server.h"

#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PAUSE_MS = 100 /* after an accept that failed for what may pass */
};

/* Without a descriptor a connection can be neither served nor refused, and would be told of over
 * and over: the spare one makes room to refuse it. */
static void refuse_one(struct server_listener *listener, int fd)
{
    if (listener->spare >= 0) {
        (void)close(listener->spare);
    }
    int refused = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (refused >= 0) {
        (void)close(refused);
    }
    listener->spare = eventfd(0, EFD_CLOEXEC);
}

/* gRPC never lets go of a connection that it is given after the order to shut down. */
static void hand_over(struct fb_server *server, int fd, grpc_server_credentials *plain)
{
    pthread_mutex_lock(&server->listener.lock);
    if (server->listener.over) {
        (void)close(fd);
    } else {
        grpc_server_add_channel_from_fd(server->grpc, fd, plain);
    }
    pthread_mutex_unlock(&server->listener.lock);
}

/* Takes one connection; false: there is none, or none can be taken now. */
static bool accept_one(struct fb_server *server, int fd, grpc_server_credentials *plain)
{
    struct server_listener *listener = &server->listener;
    int on = 1;
    int taken = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (taken < 0) {
        if (errno == EMFILE || errno == ENFILE) {
            refuse_one(listener, fd);
        }
        return errno == EINTR || errno == ECONNABORTED;
    }
    if ((uint64_t)taken >= listener->highest) { /* what is left is the program's */
        (void)close(taken);
        return true;
    }
    (void)setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* not of unix sockets */
    hand_over(server, taken, plain);
    return true;
}

/* Waits for connections, at most `ms`; false: no more are wanted. */
static bool wait_for_some(struct server_listener *listener, struct pollfd *polls, int ms)
{
    polls[0] = (struct pollfd){.fd = listener->wake, .events = POLLIN};
    for (size_t i = 0; i < listener->count; i++) {
        polls[i + 1] = (struct pollfd){.fd = listener->fds[i], .events = POLLIN};
    }
    (void)poll(polls, ms < 0 ? listener->count + 1 : 1, ms);
    return polls[0].revents == 0;
}

static void *accept_all(void *arg)
{
    struct fb_server *server = arg;
    struct server_listener *listener = &server->listener;
    struct pollfd polls[SERVER_MAX_ADDRESSES + 1];
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    while (wait_for_some(listener, polls, -1)) {
        bool stuck = false;
        for (size_t i = 0; i < listener->count; i++) {
            if (polls[i + 1].revents && !accept_one(server, listener->fds[i], plain)) {
                stuck = errno != EAGAIN;
            }
        }
        if (stuck && !wait_for_some(listener, polls, PAUSE_MS)) {
            break;
        }
    }
    grpc_server_credentials_release(plain);
    return NULL;
}

fila_status server_accept_start(struct fb_server *server, fila_error *reterr)
{
    if (pthread_create(&server->listener.thread, NULL, accept_all, server)) {
        return fila_fail(reterr, FILA_NO_MEMORY, "cannot start a thread");
    }
    server->listener.running = true;
    (void)pthread_setname_np(server->listener.thread, "fila-accept");
    return FILA_OK;
}

void server_accept_stop(struct fb_server *server)
{
    uint64_t one = 1;
    pthread_mutex_lock(&server->listener.lock);
    server->listener.over = true;
    pthread_mutex_unlock(&server->listener.lock);
    if (server->listener.wake >= 0) {
        (void)!write(server->listener.wake, &one, sizeof one);
    }
}

void server_accept_close(struct fb_server *server)
{
    for (size_t i = 0; i < server->listener.count; i++) {
        (void)shutdown(server->listener.fds[i], SHUT_RDWR); /* refuses, also those that wait */
    }
}

void server_accept_join(struct fb_server *server)
{
    if (server->listener.running) {
        pthread_join(server->listener.thread, NULL);
        server->listener.running = false;
    }
}
