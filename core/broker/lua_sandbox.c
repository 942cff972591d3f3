/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "lua_internal.h"

#include <string.h>

/* Work on strings goes at some bytes for each instruction charged. */
#define BYTES_PER_INSTRUCTION 64

/* Calls the library's own function, which is the first upvalue, with what is on the stack. */
static int call_original(lua_State *state)
{
    lua_pushvalue(state, lua_upvalueindex(1));
    lua_insert(state, 1);
    lua_call(state, lua_gettop(state) - 1, LUA_MULTRET);
    return lua_gettop(state);
}

/* How many steps a loop from `first` to `last` takes. */
static uint64_t steps(lua_Integer first, lua_Integer last)
{
    return last < first ? 0 : (uint64_t)last - (uint64_t)first + 1;
}

/* ---- The basic functions ---- */

static int do_nothing(lua_State *state)
{
    (void)state;
    return 0;
}

/* "count" tells the memory in use; all else would let a script switch the collector off. */
static int collectgarbage(lua_State *state)
{
    const char *option = luaL_optstring(state, 1, "collect");
    if (strcmp(option, "count") == 0) {
        lua_pushnumber(state, (lua_Number)fb_limits_of(state)->memory / 1024);
    } else {
        lua_pushinteger(state, 0);
    }
    return 1;
}

/* The hook that counts instructions is off while a finalizer runs: so there are none. */
static int set_metatable(lua_State *state)
{
    if (lua_type(state, 2) == LUA_TTABLE) {
        lua_pushliteral(state, "__gc");
        if (lua_rawget(state, 2) != LUA_TNIL) {
            return luaL_error(state, "__gc is not available in queue scripts");
        }
        lua_pop(state, 1);
    }
    return call_original(state);
}

/* Upvalue: the script's own handler. What ends a run is raised inside the hook that counts, which
 * is off until that has returned: so then no handler may run. */
static int handle_message(lua_State *state)
{
    if (fb_limits_of(state)->exhausted) {
        return 1;
    }
    lua_pushvalue(state, lua_upvalueindex(1));
    lua_insert(state, 1);
    lua_call(state, lua_gettop(state) - 1, 1);
    return 1;
}

static int protected_call(lua_State *state)
{
    luaL_checktype(state, 2, LUA_TFUNCTION);
    lua_pushvalue(state, 2);
    lua_pushcclosure(state, handle_message, 1);
    lua_replace(state, 2);
    return call_original(state);
}

static int get(lua_State *state)
{
    const struct fb_lua_options *options = fb_limits_of(state)->options;
    size_t len = 0;
    const char *key = luaL_checklstring(state, 1, &len);
    fila_view value = options->get(options->user, (fila_view){key, len});
    if (value.len == 0) {
        lua_pushnil(state);
    } else {
        lua_pushlstring(state, value.data, value.len);
    }
    return 1;
}

/* ---- string ---- */

static int string_rep(lua_State *state)
{
    size_t len = 0;
    size_t separator_len = 0;
    lua_Integer times = luaL_checkinteger(state, 2);
    (void)luaL_checklstring(state, 1, &len);
    (void)luaL_optlstring(state, 3, "", &separator_len);
    if (times <= 0 || len + separator_len == 0) {
        lua_pushliteral(state, "");
        return 1;
    }
    fb_charge(state, (uint64_t)times / 32);
    return call_original(state);
}

/* ---- table ---- */

static int table_insert(lua_State *state)
{
    lua_Integer end;
    lua_Integer at;
    luaL_checktype(state, 1, LUA_TTABLE);
    end = (lua_Integer)((lua_Unsigned)luaL_len(state, 1) + 1);
    at = end;
    if (lua_gettop(state) == 3) {
        at = luaL_checkinteger(state, 2);
        luaL_argcheck(
            state, (lua_Unsigned)at - 1u < (lua_Unsigned)end, 2, "position out of bounds");
        fb_charge(state, steps(at, end));
        for (lua_Integer i = end; i > at; i--) {
            (void)lua_geti(state, 1, i - 1);
            lua_seti(state, 1, i);
        }
    } else if (lua_gettop(state) != 2) {
        return luaL_error(state, "wrong number of arguments to 'insert'");
    }
    lua_seti(state, 1, at);
    return 0;
}

static int table_remove(lua_State *state)
{
    lua_Integer size;
    lua_Integer at;
    luaL_checktype(state, 1, LUA_TTABLE);
    size = luaL_len(state, 1);
    at = luaL_optinteger(state, 2, size);
    luaL_argcheck(
        state, at == size || (lua_Unsigned)at - 1u <= (lua_Unsigned)size, 2,
        "position out of bounds");
    fb_charge(state, steps(at, size));
    (void)lua_geti(state, 1, at);
    for (; at < size; at++) {
        (void)lua_geti(state, 1, at + 1);
        lua_seti(state, 1, at);
    }
    lua_pushnil(state);
    lua_seti(state, 1, at);
    return 1;
}

static int table_move(lua_State *state)
{
    fb_charge(state, steps(luaL_checkinteger(state, 2), luaL_checkinteger(state, 3)));
    return call_original(state);
}

/* table.concat(t, sep, i, j) and table.unpack(t, i, j): the range is made explicit, since a __len
 * might answer something else when it is asked again. */
static int with_range(lua_State *state, int first_at)
{
    lua_Integer first = luaL_optinteger(state, first_at, 1);
    lua_Integer last;
    if (first_at == 3) {
        luaL_checktype(state, 1, LUA_TTABLE);
    }
    last = luaL_opt(state, luaL_checkinteger, first_at + 1, luaL_len(state, 1));
    fb_charge(state, steps(first, last));
    lua_settop(state, first_at - 1);
    lua_pushinteger(state, first);
    lua_pushinteger(state, last);
    return call_original(state);
}

static int table_concat(lua_State *state)
{
    return with_range(state, 3);
}

static int table_unpack(lua_State *state)
{
    return with_range(state, 2);
}

static int is_less(lua_State *state)
{
    uint64_t bytes = 0;
    if (lua_type(state, 1) == LUA_TSTRING && lua_type(state, 2) == LUA_TSTRING) {
        bytes = lua_rawlen(state, 1) + lua_rawlen(state, 2);
    }
    fb_charge(state, 1 + bytes / BYTES_PER_INSTRUCTION);
    lua_pushboolean(state, lua_compare(state, 1, 2, LUA_OPLT));
    return 1;
}

/* However long a __len says the table is, each step of the sort compares, and that is counted. */
static int table_sort(lua_State *state)
{
    luaL_checktype(state, 1, LUA_TTABLE);
    if (lua_isnoneornil(state, 2)) {
        lua_settop(state, 1);
        lua_pushcfunction(state, is_less);
    } else {
        luaL_argcheck(
            state, lua_isfunction(state, 2) && !lua_iscfunction(state, 2), 2,
            "a function written in Lua expected");
    }
    return call_original(state);
}

/* ---- What scripts see ---- */

struct replacement {
    const char *library;
    const char *name;
    lua_CFunction by; /* NULL: gone */
};

static const struct replacement REPLACEMENTS[] = {
    {LUA_GNAME, "collectgarbage", collectgarbage},
    {LUA_GNAME, "dofile", NULL},
    {LUA_GNAME, "load", NULL},
    {LUA_GNAME, "loadfile", NULL},
    {LUA_GNAME, "print", do_nothing},
    {LUA_GNAME, "setmetatable", set_metatable},
    {LUA_GNAME, "warn", do_nothing},
    {LUA_GNAME, "xpcall", protected_call},
    {LUA_STRLIBNAME, "dump", NULL},
    {LUA_STRLIBNAME, "rep", string_rep},
    {LUA_TABLIBNAME, "concat", table_concat},
    {LUA_TABLIBNAME, "insert", table_insert},
    {LUA_TABLIBNAME, "move", table_move},
    {LUA_TABLIBNAME, "remove", table_remove},
    {LUA_TABLIBNAME, "sort", table_sort},
    {LUA_TABLIBNAME, "unpack", table_unpack},
};

static void replace(lua_State *state, const struct replacement *with)
{
    (void)lua_getglobal(state, with->library);
    if (with->by) {
        (void)lua_getfield(state, -1, with->name); /* the first upvalue */
        lua_pushcclosure(state, with->by, 1);
    } else {
        lua_pushnil(state);
    }
    lua_setfield(state, -2, with->name);
    lua_pop(state, 1);
}

void fb_sandbox_open(lua_State *state)
{
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},       {LUA_STRLIBNAME, luaopen_string},
        {LUA_TABLIBNAME, luaopen_table}, {LUA_MATHLIBNAME, luaopen_math},
        {LUA_UTF8LIBNAME, luaopen_utf8},
    };
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        luaL_requiref(state, libraries[i].name, libraries[i].func, 1);
        lua_pop(state, 1);
    }
    for (size_t i = 0; i < sizeof REPLACEMENTS / sizeof *REPLACEMENTS; i++) {
        replace(state, &REPLACEMENTS[i]);
    }
    (void)lua_getglobal(state, LUA_STRLIBNAME);
    fb_pattern_open(state);
    lua_pop(state, 1);
    lua_createtable(state, 0, 1);
    lua_pushcfunction(state, get);
    lua_setfield(state, -2, "get");
    lua_setglobal(state, "fila");
}
