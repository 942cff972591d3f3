/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "lua_internal.h"

#include <stdlib.h>
#include <time.h>

#define INSTRUCTIONS_PER_MS 10000
#define BATCH               100 /* instructions between two looks */
#define CPU_NET             (250 * FILA_MS)

static const char STOPPED = 0; /* its address is the error that ends a run */

static int64_t cpu_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * FILA_S + t.tv_nsec;
}

/* Raised again at each further instruction, so that pcall, xpcall and __close hold it up no longer
 * than they take to unwind. */
static void raise_stop(lua_State *state)
{
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): casts const away */
    lua_pushlightuserdata(state, (void *)(uintptr_t)&STOPPED);
    (void)lua_error(state);
}

static void on_stopped(lua_State *state, lua_Debug *unused)
{
    (void)unused;
    raise_stop(state);
}

/* Allocates nothing: the allocator calls it too. */
static void exhaust(lua_State *state, const char *what)
{
    struct fb_limits *limits = fb_limits_of(state);
    if (!limits->exhausted) {
        limits->exhausted = what;
        lua_sethook(state, on_stopped, LUA_MASKCOUNT, 1);
    }
}

static void count(lua_State *state, int64_t instructions)
{
    struct fb_limits *limits = fb_limits_of(state);
    int64_t now = cpu_now();
    limits->instructions -= instructions;
    limits->cpu_end = limits->cpu_end ? limits->cpu_end : now + CPU_NET;
    if (limits->instructions <= 0) {
        exhaust(state, "instruction limit exceeded");
    } else if (now >= limits->cpu_end) {
        exhaust(state, "CPU time limit exceeded");
    }
    if (limits->exhausted) {
        raise_stop(state);
    }
}

static void on_count(lua_State *state, lua_Debug *unused)
{
    (void)unused;
    count(state, BATCH);
}

void fb_charge(lua_State *state, uint64_t instructions)
{
    struct fb_limits *limits = fb_limits_of(state);
    if (limits->exhausted || instructions >= (uint64_t)limits->instructions) {
        limits->instructions = 0;
        count(state, 0);
    }
    limits->instructions -= (int64_t)instructions;
}

static bool fits(const struct fb_limits *limits, size_t more)
{
    return limits->memory < limits->memory_max && more <= limits->memory_max - limits->memory;
}

/* lua_Alloc. A refusal makes Lua collect all garbage and ask again; the second one is final. */
static void *allocate(void *user, void *old, size_t old_size, size_t size)
{
    struct fb_limits *limits = user;
    void *memory;
    old_size = old ? old_size : 0; /* without a block it is a kind of object */
    if (size == 0) {
        free(old);
        limits->memory -= old_size;
        return NULL;
    }
    if (size > old_size && !fits(limits, size - old_size)) {
        if (limits->refused && limits->state) {
            exhaust(limits->state, "memory limit exceeded");
        }
        limits->refused = true;
        return NULL;
    }
    memory = realloc(old, size);
    if (memory) {
        limits->memory += size - old_size;
        limits->refused = limits->refused && size <= old_size;
    }
    return memory ? memory : size <= old_size ? old : NULL;
}

lua_State *fb_limits_open(struct fb_limits *limits)
{
    lua_State *state = lua_newstate(allocate, limits);
    if (state) {
        *(struct fb_limits **)lua_getextraspace(state) = limits;
        limits->state = state;
    }
    return state;
}

void fb_limits_begin(lua_State *state)
{
    struct fb_limits *limits = fb_limits_of(state);
    limits->instructions = (int64_t)limits->options->timeout_ms * INSTRUCTIONS_PER_MS;
    limits->cpu_end = 0;
    limits->exhausted = NULL;
    limits->refused = false;
    lua_sethook(state, on_count, LUA_MASKCOUNT, BATCH);
}

void fb_limits_end(lua_State *state)
{
    lua_sethook(state, NULL, 0, 0);
}

const char *fb_limits_error(lua_State *state)
{
    const struct fb_limits *limits = fb_limits_of(state);
    if (limits->exhausted) {
        return limits->exhausted;
    }
    return lua_type(state, -1) == LUA_TSTRING ? lua_tostring(state, -1) : NULL;
}
