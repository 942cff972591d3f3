/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A scripted gRPC server in place of a broker: it answers each unary call as told, and streams what
 * it is given, also what no broker would send. It keeps nothing and knows no queues; the embedded
 * broker is for that.
 *
 * Thread: one of its own serves; the functions below may be called from any other.
 */
#ifndef TESTS_GRPC_STUB_H
#define TESTS_GRPC_STUB_H

#include "fila/client.h"

#include <sys/types.h>

struct stub;

/* How a unary call is answered. All zero: OK, with an empty reply (Enqueue: the id "stub-id"). */
struct stub_answer {
    int status;
    const char *text;
    const char *reply; /* bytes of the reply message instead of the default ones */
    size_t reply_len;
    bool hang;     /* never answer */
    bool no_reply; /* status OK without a message */
};

/* What a Consume stream does. All zero: headers, then silence. */
struct stub_stream {
    const fila_view *messages; /* bytes of ConsumeResponses; must outlive the stub */
    size_t count;
    size_t rounds;     /* how often they are sent; 0 = once */
    unsigned delay_ms; /* before each message */
    bool end;          /* then end it with: */
    int status;
    const char *text;
    const char *leader; /* trailing metadata x-fila-leader-addr */
    bool no_headers;    /* the end comes alone, without headers before it */
    bool silent;        /* not even headers */
};

/* Listens on `address` ("127.0.0.1:0", "unix:/path"); aborts when that fails. Calls
 * grpc_init. */
struct stub *stub_start(const char *address);
int stub_port(const struct stub *stub);
/* Ends all and frees. Takes NULL. */
void stub_stop(struct stub *stub);

void stub_answer(struct stub *stub, fila_call call, const struct stub_answer *how);
void stub_stream(struct stub *stub, const struct stub_stream *script);

/* How many of these calls have come; waiting up to `ms` until there are `count`. */
unsigned stub_calls(struct stub *stub, fila_call call);
bool stub_wait_calls(struct stub *stub, fila_call call, unsigned count, int ms);
/* How many streams the client has left, by cancel or by closing. */
bool stub_wait_cancelled(struct stub *stub, unsigned count, int ms);
/* Messages that gRPC took to send: what flow control let out, plus one. */
unsigned stub_sent(struct stub *stub);
/* The last request of that call; and its `authorization`, "" without. Valid until the next one. */
fila_view stub_request(struct stub *stub, fila_call call);
const char *stub_key(struct stub *stub);

/* The same in a child process, for freezing and killing; to be called before anything of gRPC is.
 * All unary calls are answered with OK. */
pid_t stub_fork(const struct stub_stream *script, int *ret_port);

/* The bytes of a ConsumeResponse, allocated: free them with stub_message_free. */
fila_view stub_message(const char *id, const char *queue, size_t payload, size_t headers);
void stub_message_free(fila_view message);

#endif
