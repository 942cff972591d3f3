/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a fila_scratch is made of: chunks in a list, freed all at once. Private to core/wire.
 */
#ifndef FILA_WIRE_SCRATCH_H
#define FILA_WIRE_SCRATCH_H

#include "codec.h"

/* `size` bytes, aligned for anything; NULL without memory. */
void *fila_scratch_take(struct fila_scratch *scratch, size_t size);

/* An array of `count` elements; NULL without memory, and only then (count 0 gives room for none).
 */
void *fila_scratch_array(struct fila_scratch *scratch, size_t count, size_t element);

#endif
