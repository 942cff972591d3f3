/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Memory of one config, or of one list of diagnostics: allocated piece by piece, freed at once.
 *
 * A failed allocation sets `failed`, which stays; functions that make text then return "" and those
 * that make anything else NULL, so that a reader can go on to its end and look at `failed` once.
 * Not thread-safe: one owner.
 */
#ifndef FW_CONFIG_ARENA_H
#define FW_CONFIG_ARENA_H

#include "fila/client.h"

#include <stdarg.h>

struct fw_arena_block;

struct fw_arena {
    struct fw_arena_block *blocks;
    bool failed;
};

/* Zeroed, aligned for anything. */
void *fw_arena_alloc(struct fw_arena *arena, size_t count, size_t size);
/* A terminated copy; never NULL. */
const char *fw_arena_copy(struct fw_arena *arena, const char *data, size_t len);
FILA_PRINTF(2, 3) const char *fw_arena_print(struct fw_arena *arena, const char *format, ...);
FILA_PRINTF(2, 0)
const char *fw_arena_vprint(struct fw_arena *arena, const char *format, va_list args);
/* Room for one more item after the first `count` of `items`: they move to a larger place when
 * `count` has reached a power of two. NULL without memory (the old items stay). */
void *fw_arena_grow(struct fw_arena *arena, void *items, size_t count, size_t size);
void fw_arena_free(struct fw_arena *arena);

#endif
