/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The calls that are not hot are read by protobuf-c, into a scratch. What protobuf-c does not check
 * is checked before: text fields must be UTF-8, and without zero bytes, because it would cut them
 * off there. Private to core/wire.
 */
#ifndef FILA_WIRE_RARE_H
#define FILA_WIRE_RARE_H

#include "scratch.h"

#include <protobuf-c/protobuf-c.h>

/* The message, whose memory is the scratch's, into *ret_message (a pointer to its type). Errors:
 * FILA_PROTOCOL with the message's name and what is wrong, FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fila_rare_read(
    const ProtobufCMessageDescriptor *type,
    fila_view bytes,
    struct fila_scratch *scratch,
    void *ret_message,
    fila_error *reterr);

#endif
