/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "scratch.h"

#include <stddef.h>
#include <stdlib.h>

struct chunk {
    struct chunk *next;
    size_t used;
    size_t size;
    max_align_t data[];
};

#define CHUNK_SIZE 2048u

void *fila_scratch_take(struct fila_scratch *scratch, size_t size)
{
    struct chunk *chunk = scratch->chunks;
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        if (!(chunk = malloc(sizeof *chunk + room))) {
            return NULL;
        }
        *chunk = (struct chunk){.next = scratch->chunks, .size = room};
        scratch->chunks = chunk;
    }
    void *memory = (char *)chunk->data + chunk->used;
    chunk->used += size;
    return memory;
}

void *fila_scratch_array(struct fila_scratch *scratch, size_t count, size_t element)
{
    if (count > SIZE_MAX / 2 / element) {
        return NULL;
    }
    return fila_scratch_take(scratch, count ? count * element : 1);
}

void fila_scratch_free(struct fila_scratch *scratch)
{
    struct chunk *chunk = scratch->chunks;
    while (chunk) {
        struct chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    scratch->chunks = NULL;
}
