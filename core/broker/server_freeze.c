/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "server.h"

#include <linux/filter.h>
#include <stdlib.h>
#include <sys/socket.h>

struct server_frozen {
    struct server_frozen *next;
    unsigned peer;
    int64_t until;
    struct server_call *first; /* held */
    struct server_call **last;
};

/* ---- The socket ---- */

static bool drop_all(int fd)
{
    struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
    struct sock_fprog program = {1, &nothing};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

static void drop_none(int fd)
{
    int unused = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
}

/* Whether it is the socket that was frozen, and not a new one under its number. */
static bool drops(int fd)
{
    socklen_t count = 0;
    return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &count) == 0 && count > 0;
}

/* ---- Freezing ---- */

static struct server_peer *peer_of(struct server_call *call)
{
    return &call->server->peers[call->peer];
}

void server_freeze(struct server_call *call, uint32_t ms)
{
    struct fb_server *server = call->server;
    struct server_peer *peer = peer_of(call);
    int64_t until = ms ? fila_now() + (int64_t)ms * FILA_MS : FILA_NEVER;
    struct server_frozen *frozen = peer->frozen;
    if (frozen) {
        frozen->until = until > frozen->until ? until : frozen->until;
        return;
    }
    frozen = call->peer > SERVER_PEER_UNKNOWN ? calloc(1, sizeof *frozen) : NULL;
    if (!frozen || !drop_all(server_peer_fd(call->peer))) { /* then the fault does not happen */
        free(frozen);
        return;
    }
    frozen->peer = call->peer;
    frozen->until = until;
    frozen->last = &frozen->first;
    frozen->next = server->frozen;
    server->frozen = frozen;
    peer->frozen = frozen;
    atomic_store(&server->has_frozen, true);
}

bool server_freeze_holds(struct server_call *call)
{
    struct fb_server *server = call->server;
    struct server_frozen *frozen = server->frozen && !call->refused ? peer_of(call)->frozen : NULL;
    if (!frozen || atomic_load(&server->stopping)) {
        return false;
    }
    if (!call->is_held) {
        call->is_held = true;
        call->next_held = NULL;
        *frozen->last = call;
        frozen->last = &call->next_held;
    }
    return true;
}

/* ---- Thawing ---- */

static void let_go(struct server_call *call)
{
    call->is_held = false;
    if (call->stream) {
        server_stream_thaw(call->stream);
    } else {
        server_call_answer(call);
    }
}

/* Ends it; it is out of the server's list. */
static void thaw(struct fb_server *server, struct server_frozen *frozen)
{
    struct server_call *call = frozen->first;
    server->peers[frozen->peer].frozen = NULL;
    if (drops(server_peer_fd(frozen->peer))) {
        drop_none(server_peer_fd(frozen->peer));
    }
    free(frozen);
    while (call) {
        struct server_call *next = call->next_held;
        let_go(call);
        call = next;
    }
}

/* Thaws those whose time has come by `now`, and the one of `gone` (0 = none). */
static void thaw_some(struct fb_server *server, int64_t now, unsigned gone)
{
    struct server_frozen **at = &server->frozen;
    while (*at) {
        struct server_frozen *frozen = *at;
        if (frozen->until > now && frozen->peer != gone) {
            at = &frozen->next;
            continue;
        }
        *at = frozen->next;
        thaw(server, frozen);
    }
    atomic_store(&server->has_frozen, server->frozen != NULL);
}

void server_freeze_check(struct server_call *call)
{
    if (peer_of(call)->frozen && !drops(server_peer_fd(call->peer))) {
        thaw_some(call->server, 0, call->peer);
    }
}

void server_thaw(struct fb_server *server)
{
    if (!atomic_load(&server->has_frozen)) {
        return;
    }
    server_take_turn(server);
    thaw_some(server, atomic_load(&server->stopping) ? FILA_NEVER : fila_now(), 0);
    server_finish_turn(server);
    pthread_mutex_unlock(&server->turn);
}
