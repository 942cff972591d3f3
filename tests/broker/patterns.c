/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Patterns in queue scripts give what Lua's own give: string.find, match, gmatch and gsub of the
 * sandbox against those of the library, on random texts and patterns.
 *     broker_patterns [ROUNDS] [SEED]
 */
#include "broker/lua_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 1;

static uint32_t below(uint32_t n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % n;
}

/* A text out of pieces, so that patterns are often valid. */
static size_t make(char *text, const char *const *pieces, uint32_t count, uint32_t most)
{
    uint32_t n = below(most + 1);
    size_t len = 0;
    while (n--) {
        const char *piece = pieces[below(count)];
        size_t piece_len = strlen(piece);
        piece_len += piece_len == 0; /* a zero byte */
        memcpy(text + len, piece, piece_len);
        len += piece_len;
    }
    text[len] = '\0';
    return len;
}

static const char *const TEXTS[] = {"a", "b", "aa", "ab", "(", ")", " ", "1", "", "%", "A", "[]"};
static const char *const PATTERNS[] = {
    "a",  "b",    ".",  "%a",   "%d",    "%s", "%w", "%A",  "[ab]", "[^a]", "[a-c]", "[%a1]",
    "*",  "+",    "-",  "?",    "(",     ")",  "()", "(a)", "(.-)", "%1",   "%2",    "^",
    "$",  "%b()", "%f", "[%w]", "%f[a]", "%%", "%",  "[",   "]",    "",     "(a*)",  "[]a]",
    "%b", "[a",   ".*", "a-",   "[^]]",  "%x", "%g", "%C",  "%0",   "[a-]", "[%]]",  "A",
};
static const char *const REPLACEMENTS[] = {"x", "%0", "%1", "%2", "%%", "%", "<", "", "%9"};

#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof *(list)))

/* Everything the four functions say, as one text. */
static const char SCRIPT[] =
    "local find, match, gmatch, gsub = string.find, string.match, string.gmatch, string.gsub\n"
    "local function say(...) local t = table.pack(...) for i = 1, t.n do "
    "t[i] = math.type(t[i]) and ('#' .. t[i]) or tostring(t[i]) end return table.concat(t, '|') end\n"
    "local function all(s, p, init) local t = {} for a, b in gmatch(s, p, init) do "
    "t[#t + 1] = say(a, b) if #t > 40 then break end end return table.concat(t, ';') end\n"
    "return function(s, p, r, init, n)\n"
    "  local out = {}\n"
    "  local function add(...) out[#out + 1] = say(pcall(...)) end\n"
    "  add(find, s, p) add(find, s, p, init) add(find, s, p, init, true) add(match, s, p)\n"
    "  add(match, s, p, init) add(all, s, p) add(all, s, p, init) add(gsub, s, p, r)\n"
    "  add(gsub, s, p, r, n) add(gsub, s, p, { a = 'T', b = false, ab = 7 })\n"
    "  add(gsub, s, p, function(a, b) if a == 'a' then return nil end return say(a, b) end)\n"
    "  add(gsub, s, p, { a = {} })\n"
    "  return table.concat(out, '\\n')\n"
    "end\n";

static lua_State *prepared(lua_State *lua)
{
    if (luaL_loadbufferx(lua, SCRIPT, sizeof SCRIPT - 1, "=script", "t") != LUA_OK ||
        lua_pcall(lua, 0, 1, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(lua, -1));
        abort();
    }
    return lua;
}

struct input {
    char text[64];
    size_t text_len;
    char pattern[128];
    size_t pattern_len;
    char replacement[32];
    size_t replacement_len;
    int init;
    int count;
};

static const char *ask(lua_State *lua, const struct input *in)
{
    lua_settop(lua, 1);
    lua_pushvalue(lua, 1);
    lua_pushlstring(lua, in->text, in->text_len);
    lua_pushlstring(lua, in->pattern, in->pattern_len);
    lua_pushlstring(lua, in->replacement, in->replacement_len);
    lua_pushinteger(lua, in->init);
    lua_pushinteger(lua, in->count);
    (void)lua_pcall(lua, 5, 1, 0);
    return lua_tostring(lua, -1);
}

static int prepare_sandbox(lua_State *lua)
{
    fb_sandbox_open(lua);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct fb_lua_options options = {.timeout_ms = 100000};
    struct fb_limits limits = {.options = &options, .memory_max = SIZE_MAX};
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 6000;
    lua_State *theirs = luaL_newstate();
    lua_State *ours = fb_limits_open(&limits);
    int valid = 0;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    lua_pushcfunction(ours, prepare_sandbox);
    if (lua_pcall(ours, 0, 0, 0) != LUA_OK) {
        abort();
    }
    luaL_openlibs(theirs);
    prepared(theirs);
    prepared(ours);
    for (int i = 0; i < rounds; i++) {
        struct input in;
        const char *wanted;
        const char *got;
        in.text_len = make(in.text, TEXTS, COUNT(TEXTS), 12);
        in.pattern_len = make(in.pattern, PATTERNS, COUNT(PATTERNS), 1 + below(6));
        in.replacement_len = make(in.replacement, REPLACEMENTS, COUNT(REPLACEMENTS), 3);
        in.init = (int)below(30) - 15;
        in.count = (int)below(4);
        fb_limits_begin(ours);
        wanted = ask(theirs, &in);
        got = ask(ours, &in);
        fb_limits_end(ours);
        valid += strncmp(wanted, "true", 4) == 0;
        if (!wanted || !got || strcmp(wanted, got) != 0) {
            fprintf(
                stderr,
                "round %d: text \"%s\", pattern \"%s\", replacement \"%s\", init %d, n %d\n", i,
                in.text, in.pattern, in.replacement, in.init, in.count);
            fprintf(stderr, "--- wanted\n%s\n--- got\n%s\n", wanted, got);
            return 1;
        }
    }
    printf("%d rounds, %d with a valid pattern\n", rounds, valid);
    lua_close(theirs);
    lua_close(ours);
    return valid > rounds / 10 ? 0 : 1;
}
