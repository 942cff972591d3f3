/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A real Fila server for a test: the program that the environment variable FILA_SERVER_BIN names,
 * on a free port of 127.0.0.1, with a folder of its own for its config (contract chapter E), data
 * and log. It is killed when the test's process ends, however that ends.
 */
#ifndef TESTS_SUPPORT_REAL_SERVER_H
#define TESTS_SUPPORT_REAL_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct real_server {
    pid_t pid;
    uint16_t port;
    char folder[64];
    char url[64]; /* grpc://127.0.0.1:PORT */
    char program[4096];
    bool is_worker; /* `fila-worker broker` */
    bool durable;
};

/* Whether FILA_SERVER_BIN is set. */
bool real_server_wanted(void);

/* Starts it and waits until it answers ListQueues, at most 15 s. `more` (may be NULL) is appended
 * to its fila.toml. False with a line in `why` otherwise; nothing is left then. Before gRPC is used
 * in this process. */
bool real_server_start(struct real_server *ret_server, const char *more, char *why, size_t size);

/* The same with `fila-worker broker` in place of a real server; `durable`: with its data in a file.
 */
bool real_server_start_worker(
    struct real_server *ret_server,
    const char *worker,
    bool durable,
    char *why,
    size_t size);

/* Its wait status if it ends within `ms`, else -1. */
int real_server_wait(struct real_server *server, int ms);

/* After it has ended: again on the same port and data; returns as real_server_start. */
bool real_server_restart(struct real_server *server, char *why, size_t size);

/* Kills it at once, and removes its folder. */
void real_server_stop(struct real_server *server);

#endif
