/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the client suite runs against, chosen by the environment variable FILA_TEST_TARGET:
 * `embedded` (the default: in process), `grpc` (the same broker over a port), or `server` (a real
 * Fila server; the program exits with 77, skipped, when FILA_SERVER_BIN names none).
 */
#ifndef TESTS_CLIENT_TARGET_H
#define TESTS_CLIENT_TARGET_H

#include "fila/broker.h"
#include "support/real_server.h"

enum target_kind {
    TARGET_EMBEDDED,
    TARGET_GRPC,
    TARGET_SERVER
};

struct target {
    enum target_kind kind;
    fila_broker *broker; /* NULL for a real server */
    struct real_server server;
    char url[64];
    fila_client_options options; /* those that `client` was opened with */
    fila_client *client;
};

enum target_kind target_kind(void);

/* Each asserts that it worked. */
void target_open(struct target *ret_target);
void target_close(struct target *target);
fila_client *target_client(const struct target *target); /* one more; the caller frees it */

/* A queue, made; and messages of it. */
void target_create(const struct target *target, const char *queue);
void target_enqueue(const struct target *target, const char *queue, const char *payload);
fila_message *target_next(fila_consumer *consumer);
fila_consumer *target_consumer(const struct target *target, const char *queue);
void target_ack(const struct target *target, const fila_message *message);
fila_queue_stats target_stats(const struct target *target, const char *queue); /* counts only */

bool view_is(fila_view view, const char *text);

#endif
