/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "support/failing_malloc.h"

#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static _Thread_local unsigned left;
static _Thread_local bool failed;

void fail_nth_allocation(unsigned nth)
{
    left = nth;
    failed = false;
}

bool allocation_failed(void)
{
    left = 0;
    return failed;
}

static bool is_the_one(void)
{
    if (!left || --left) {
        return false;
    }
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return is_the_one() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_the_one() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_the_one() ? NULL : __real_realloc(memory, size);
}
