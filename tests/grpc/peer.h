/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A TCP peer that is no gRPC server, on a thread of its own: what a wrong port looks like.
 */
#ifndef TESTS_GRPC_PEER_H
#define TESTS_GRPC_PEER_H

struct peer;

enum peer_kind {
    PEER_SILENT, /* accepts and never answers */
    PEER_HANGUP, /* accepts and closes at once */
    PEER_HTTP1,  /* answers 400 as an HTTP/1 server does */
    PEER_TLS,    /* answers with a TLS alert, and closes */
    PEER_BANNER, /* greets as a mail or ssh server does */
    PEER_BROKEN  /* good HTTP/2 settings, then a frame that is none */
};

/* Listens on a free port of 127.0.0.1. Aborts when it cannot. */
struct peer *peer_start(enum peer_kind kind, int *ret_port);
void peer_stop(struct peer *peer);

/* A port that nobody listens on. */
int peer_free_port(void);

#endif
