/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * W3C trace context of a message, for the log: handlers see the header itself, and what they
 * publish carries it on (publish.c). Thread: any.
 */
#ifndef FW_HOST_TRACE_H
#define FW_HOST_TRACE_H

#include "fila/client.h"

/* The 32 hex digits of the trace id in the `traceparent` header, a view into the message; data NULL
 * when there is no such header, or it is not well formed. */
fila_view fw_trace_id(const fila_message *message);

#endif
