/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What is inside a fila_message, and how one is made without a wire: by the in-process transport.
 * The accessors of fila/client.h are in message.c.
 */
#ifndef FILA_WIRE_MESSAGE_H
#define FILA_WIRE_MESSAGE_H

#include "fila/client.h"

#include <stdbool.h>

/* All that a delivered message says. Views; whoever makes it says what keeps them alive. */
struct fila_message_fields {
    fila_view id;
    fila_view queue;
    fila_view fairness_key;
    fila_view payload;
    uint32_t weight;
    uint32_t attempt_count;
    const fila_view *throttle_keys;
    size_t throttle_key_count;
    const fila_header *headers;
    size_t header_count;
};

/* A message over `fields`, whose views and arrays stay alive until `release(owner)`. NULL without
 * memory (`release` is then not called). */
fila_message *fila_message_make(
    const struct fila_message_fields *fields,
    void (*release)(void *owner),
    void *owner);

/* A message that was read off the wire is a view into whatever the transport received it in, and
 * keeps all of that alive: a gRPC read buffer of 8 to 64 KiB, with what else came in it. This
 * copies the message's own bytes out and lets the rest go. For one that will be held for a while;
 * nobody else may be reading it, and views taken from it before are void after. One that pins
 * nothing, or is itself about as large as a read buffer, is left as it is. False: it was; or there
 * is no memory.
 */
bool fila_message_detach(fila_message *message);

#endif
