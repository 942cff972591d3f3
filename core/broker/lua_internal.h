/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Inside the queue scripts, shared by lua*.c alone.
 *
 *   lua.c          scripts: compiling, running, what they return, the circuit breaker
 *   lua_limits.c   memory, instructions and CPU time of a run
 *   lua_sandbox.c  the libraries that scripts see
 *   lua_pattern.c  string.find, match, gmatch and gsub, with a bound on their work
 *   lua_none.c     instead of all these, in a build without Lua
 *
 * Which functions of Lua's own libraries may a hostile script have? Those whose work is bounded by
 * the size of what they are given, since that is bounded by the memory limit, and the count of
 * instructions is looked at between them. Those that loop as often as a number says (string.rep of
 * nothing, table.move) or that search (patterns) are replaced or wrapped; those that reach outside,
 * or during which nothing counts (finalizers, the collector's settings, the message handler of the
 * error that ends a run), are not there.
 */
#ifndef FILA_BROKER_LUA_INTERNAL_H
#define FILA_BROKER_LUA_INTERNAL_H

#include "broker/lua.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/* What a run may use. A part of struct fb_scripts, found from a lua_State with fb_limits_of. */
struct fb_limits {
    const struct fb_lua_options *options;
    lua_State *state;
    size_t memory; /* in use */
    size_t memory_max;
    bool refused;          /* the last growth was refused: Lua collects and asks once more */
    int64_t instructions;  /* left in this run */
    int64_t cpu_end;       /* of the thread, ns; 0 = not looked at yet */
    const char *exhausted; /* which limit ended the run, as text; NULL = none */
};

static inline struct fb_limits *fb_limits_of(lua_State *state)
{
    return *(struct fb_limits **)lua_getextraspace(state);
}

/* ---- lua_limits.c ---- */

/* A state whose allocations count on `limits`; NULL without memory. */
lua_State *fb_limits_open(struct fb_limits *limits);
void fb_limits_begin(lua_State *state);
void fb_limits_end(lua_State *state);
/* Counts work done outside of Lua's instructions, and ends the run when it is too much. */
void fb_charge(lua_State *state, uint64_t instructions);
/* What the error on top of the stack says; NULL when it has no words. */
const char *fb_limits_error(lua_State *state);

/* ---- lua_sandbox.c ---- */

/* Opens the libraries. May raise. */
void fb_sandbox_open(lua_State *state);

/* ---- lua_pattern.c ---- */

/* Puts its functions into the table on top of the stack. May raise. */
void fb_pattern_open(lua_State *state);

#endif
