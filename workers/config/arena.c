/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "arena.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_SIZE 4096

struct fw_arena_block {
    struct fw_arena_block *next;
    size_t used;
    size_t size;
    alignas(max_align_t) unsigned char data[];
};

static struct fw_arena_block *add_block(struct fw_arena *arena, size_t size)
{
    struct fw_arena_block *block = malloc(sizeof *block + size);
    if (!block) {
        return NULL;
    }
    block->used = 0;
    block->size = size;
    if (size > BLOCK_SIZE && arena->blocks) { /* a large piece: go on filling the current block */
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

void *fw_arena_alloc(struct fw_arena *arena, size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 4) {
        arena->failed = true;
        return NULL;
    }
    bytes = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct fw_arena_block *block = arena->blocks;
    if (!block || block->size - block->used < bytes) {
        block = add_block(arena, bytes > BLOCK_SIZE ? bytes : BLOCK_SIZE);
    }
    if (!block) {
        arena->failed = true;
        return NULL;
    }
    void *piece = block->data + block->used;
    block->used += bytes;
    memset(piece, 0, bytes);
    return piece;
}

const char *fw_arena_copy(struct fw_arena *arena, const char *data, size_t len)
{
    char *copy = len < SIZE_MAX ? fw_arena_alloc(arena, len + 1, 1) : NULL;
    if (!copy) {
        return "";
    }
    if (len) {
        memcpy(copy, data, len);
    }
    return copy;
}

const char *fw_arena_vprint(struct fw_arena *arena, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    char *text = len < 0 ? NULL : fw_arena_alloc(arena, (size_t)len + 1, 1);
    if (text) {
        (void)vsnprintf(text, (size_t)len + 1, format, again);
    }
    va_end(again);
    return text ? text : "";
}

const char *fw_arena_print(struct fw_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = fw_arena_vprint(arena, format, args);
    va_end(args);
    return text;
}

void *fw_arena_grow(struct fw_arena *arena, void *items, size_t count, size_t size)
{
    if (count != 0 && (count < 4 || (count & (count - 1)) != 0)) {
        return items;
    }
    void *larger = fw_arena_alloc(arena, count ? 2 * count : 4, size);
    if (larger && count) {
        memcpy(larger, items, count * size);
    }
    return larger;
}

void fw_arena_free(struct fw_arena *arena)
{
    while (arena->blocks) {
        struct fw_arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}
