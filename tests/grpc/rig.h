/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A gRPC transport in a test's hand: opened on a port, run until something counted has happened.
 */
#ifndef TESTS_GRPC_RIG_H
#define TESTS_GRPC_RIG_H

#include "base/clock.h"
#include "src/transport.h"

#define MOST_MESSAGES 4096

/* What a stream told. */
struct watch {
    uint32_t window; /* set before watch_open; 0 = the transport's */
    struct fila_stream *stream;
    unsigned opened;
    unsigned messages;
    unsigned ended;
    int64_t opened_at;
    fila_error why;
    fila_message *kept[MOST_MESSAGES]; /* freed by watch_free */
    struct fila_read reads[MOST_MESSAGES];
};

/* What a unary call told: of one of the three kinds. */
struct ask {
    struct fila_settle settle;
    struct fila_publish publish;
    struct fila_unary unary;
    unsigned done;
    fila_reply *reply;
};

fila_client_options rig_options(int port);
struct fila_transport *rig_open(const fila_client_options *options);
/* Shuts down, runs to the end, frees. */
void rig_close(struct fila_transport *t);
/* Runs until *counter reaches count; false after `ms`. */
bool rig_until(struct fila_transport *t, const unsigned *counter, unsigned count, int ms);
/* Runs for that long. */
void rig_for(struct fila_transport *t, int ms);

/* Opens a stream on "orders" that reports to `w`. */
void watch_open(struct fila_transport *t, struct watch *w, uint32_t credits);
void watch_free(struct watch *w);

/* Starts an ack or nack of "orders" / `id` that may take `ms`. */
void ask_settle(
    struct fila_transport *t,
    struct ask *a,
    enum fila_settle_kind kind,
    const char *id,
    int ms);
void ask_publish(
    struct fila_transport *t,
    struct ask *a,
    const char *queue,
    fila_view payload,
    int ms);
void ask_call(struct fila_transport *t, struct ask *a, const fila_request *request, int ms);

#endif
