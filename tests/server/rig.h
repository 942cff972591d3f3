/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A server on a free port before the stand-in broker, and a client of it.
 */
#ifndef TESTS_SERVER_RIG_H
#define TESTS_SERVER_RIG_H

#include "server/fake_broker.h"
#include "server/raw_client.h"

struct rig {
    struct fila_broker *fake;
    struct fb_server *server;
    struct raw_client *client;
};

struct rig rig_open(void);
/* Answers what is held, and frees all; a broker that misses something aborts. */
void rig_close(struct rig *rig);
/* Enqueue of `payload` bytes into `queue`. */
fila_request rig_enqueue(const char *queue, const char *payload, size_t len);

#endif
