/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Deep copies of requests into memory of the caller's, so that a request and whatever carries it
 * can be one allocation. (fila_reply_copy of fila/client.h is in copy.c too.) Thread: any.
 */
#ifndef FILA_WIRE_COPY_H
#define FILA_WIRE_COPY_H

#include "fila/client.h"

/* Bytes that the copy's views and arrays need, the fila_request itself not included. */
size_t fila_request_copy_size(const fila_request *request);

/* Copies into `memory`, which has that size, is aligned for a pointer, and must outlive the copy.
 * Members of `as` that do not belong to the call are left out. */
void fila_request_copy_into(const fila_request *request, void *memory, fila_request *ret_copy);

#endif
