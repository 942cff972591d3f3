/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "server.h"

#include <grpc/support/alloc.h>

#include <stdlib.h>

/* Which peer the call's connection is: one more than its descriptor. gRPC calls a connection that
 * it was given "fd:<number>", and one that is gone by any other name. */
static unsigned peer_of(grpc_call *call)
{
    char *name = grpc_call_get_peer(call);
    unsigned number = 0;
    if (name && strncmp(name, "fd:", 3) == 0) {
        for (const char *at = name + 3; *at >= '0' && *at <= '9' && number < 100000000; at++) {
            number = number * 10 + (unsigned)(*at - '0');
        }
    }
    gpr_free(name);
    return number + 1;
}

/* Makes room for the peer; without memory it counts among the unknown ones. */
static unsigned peer_index(struct fb_server *server, unsigned number)
{
    if (number < server->peer_count) {
        return number;
    }
    size_t count = (size_t)number + 64;
    struct server_peer *peers = realloc(server->peers, count * sizeof *peers);
    if (!peers) {
        return SERVER_PEER_UNKNOWN;
    }
    memset(peers + server->peer_count, 0, (count - server->peer_count) * sizeof *peers);
    server->peers = peers;
    server->peer_count = count;
    return number;
}

bool server_peer_enter(struct server_call *call, bool stream)
{
    struct fb_server *server = call->server;
    size_t *all = stream ? &server->streams : &server->calls;
    size_t most = stream ? SERVER_MAX_STREAMS : SERVER_MAX_CALLS;
    call->peer = peer_index(server, peer_of(call->call));
    if (call->peer >= server->peer_count) {
        return false; /* not even memory for the first */
    }
    struct server_peer *peer = &server->peers[call->peer];
    size_t *own = stream ? &peer->streams : &peer->calls;
    if (*own >= most - *all) {
        return false;
    }
    (*own)++;
    (*all)++;
    return true;
}

void server_peer_leave(struct server_call *call, bool stream)
{
    struct fb_server *server = call->server;
    struct server_peer *peer = &server->peers[call->peer];
    if (stream) {
        peer->streams--;
        server->streams--;
    } else {
        peer->calls--;
        server->calls--;
    }
}

/* ---- Waiting ---- */

bool server_peer_is_greedy(const struct server_call *call)
{
    struct server_peer *peer = &call->server->peers[call->peer];
    if (peer->round != call->server->round) {
        peer->round = call->server->round;
        peer->prompt = 0;
    }
    return peer->first || ++peer->prompt > SERVER_PROMPT;
}

static void append_turn(struct fb_server *server, unsigned turn)
{
    server->peers[turn].next_turn = 0;
    if (server->first_turn) {
        server->peers[server->last_turn].next_turn = turn;
    } else {
        server->first_turn = turn;
    }
    server->last_turn = turn;
}

void server_peer_wait(struct server_call *call)
{
    struct server_peer *peer = &call->server->peers[call->peer];
    call->next = NULL;
    if (peer->first) {
        peer->last->next = call;
    } else {
        peer->first = call;
        append_turn(call->server, call->peer);
    }
    peer->last = call;
    call->server->waiting++;
}

struct server_call *server_peer_next(struct fb_server *server)
{
    unsigned turn = server->first_turn;
    if (!turn) {
        return NULL;
    }
    struct server_peer *peer = &server->peers[turn];
    struct server_call *call = peer->first;
    server->first_turn = peer->next_turn;
    peer->first = call->next;
    if (peer->first) {
        append_turn(server, turn);
    }
    server->waiting--;
    return call;
}
