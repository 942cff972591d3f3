/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The inside of a fila_message: one allocation, either over arrays (fila_message_make, and the rare
 * bytes in which a submessage comes twice) or straight over the bytes of a ConsumeResponse, whose
 * headers and throttle keys are then found by walking on from a cursor. Private to core/wire.
 */
#ifndef FILA_WIRE_MESSAGE_IMPL_H
#define FILA_WIRE_MESSAGE_IMPL_H

#include "message.h"

struct fila_message {
    struct fila_message_fields fields;
    fila_view walk_headers;   /* data not NULL: a Message's bytes from its first header on */
    fila_view walk_throttles; /* data not NULL: a MessageMetadata's from its first throttle key */
    bool pins; /* its views lie in one buffer, of which `owner` may be a small part */
    void (*release)(void *owner);
    void *owner;
};

#endif
