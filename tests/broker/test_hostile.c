/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Queue scripts that want to hang the broker, eat its memory or get out. Each must end, soon, as a
 * failed run with the text given, and the same state must serve the next script's run afterwards.
 */
#include "script_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <time.h>

#define TEXT(text) ((char *)(uintptr_t)(text))

static const char INSTRUCTIONS[] = "on_enqueue: instruction limit exceeded";
static const char MEMORY[] = "on_enqueue: memory limit exceeded";
static const char ANY[] = ""; /* some error */

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Sanitizers cost so much that the net over CPU time may come before the limit that is meant. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define IS_SLOW true
#elif defined(__has_feature)
#    define IS_SLOW (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#    define IS_SLOW false
#endif

struct attack {
    const char *script; /* `A` is the attack's function; on_enqueue calls it */
    const char *failure;
};

static void check(struct script_rig *rig, const char *attack, const char *failure)
{
    char text[2048];
    double began = cpu_seconds();
    double took;
    (void)snprintf(
        text, sizeof text,
        "function on_enqueue(msg)\nif over then return { fairness_key = 'well' } end\n"
        "%s\nreturn {}\nend",
        attack);
    cr_assert(script_rig_compile(rig, text, NULL), "%s: %s", attack, rig->failure);
    cr_expect(eq(str, TEXT(script_rig_enqueue(rig)), "default/1/"), "%s", attack);
    took = cpu_seconds() - began;
    cr_expect(eq(int, rig->failures, 1), "%s", attack);
    bool netted = IS_SLOW && strcmp(rig->failure, "on_enqueue: CPU time limit exceeded") == 0;
    if (*failure && !netted) {
        cr_expect(eq(str, rig->failure, TEXT(failure)), "%s", attack);
    }
    /* a net of 0.25 s, seen after at most one long library call; room for sanitizers */
    cr_expect(lt(dbl, took, 5.0), "%s took %.1f s", attack, took);
}

static void check_all(const struct attack *attacks, size_t count)
{
    struct script_rig *rig = script_rig_open();
    for (size_t i = 0; i < count; i++) {
        check(rig, attacks[i].script, attacks[i].failure);
    }
    script_rig_close(rig);
}

#define CHECK(attacks) check_all(attacks, sizeof(attacks) / sizeof *(attacks))

Test(hostile, loops)
{
    static const struct attack attacks[] = {
        {"while true do end", INSTRUCTIONS},
        {"for i = 1, 1e18 do end", INSTRUCTIONS},
        {"::again:: goto again", INSTRUCTIONS},
        {"repeat until false", INSTRUCTIONS},
        {"local function f() return f() end f()", INSTRUCTIONS},
        {"local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) "
         "while true do pcall(function() return t[1] end) end",
         INSTRUCTIONS},
    };
    CHECK(attacks);
}

Test(hostile, what_catches_errors)
{
    static const struct attack attacks[] = {
        {"while true do pcall(function() while true do end end) end", INSTRUCTIONS},
        {"local function f() while true do pcall(f) end end f()", INSTRUCTIONS},
        {"local function f() pcall(f) return f() end f()", INSTRUCTIONS},
        {"while true do xpcall(error, function() while true do end end) end", INSTRUCTIONS},
        {"local function h() return xpcall(error, h) end while true do xpcall(error, h) end",
         INSTRUCTIONS},
        {"while true do local c <close> = setmetatable({}, { __close = function() while true do end "
         "end }) end",
         INSTRUCTIONS},
        {"while true do pcall(function() local c <close> = setmetatable({}, { __close = function() "
         "while true do pcall(error) end end }) error() end) end",
         INSTRUCTIONS},
        {"local s = ('x'):rep(1e5) while true do pcall(string.rep, s, 100) end", INSTRUCTIONS},
        {"while true do pcall(error, setmetatable({}, { __tostring = function() while true do end "
         "end })) end",
         INSTRUCTIONS},
        {"do return pcall(function() while true do end end) end", INSTRUCTIONS},
        {"xpcall(function() while true do end end, function() while true do end end)",
         INSTRUCTIONS},
        {"local x = xpcall xpcall = nil x(x, x, x, function() while true do end end)",
         INSTRUCTIONS},
    };
    CHECK(attacks);
}

Test(hostile, library_functions_that_loop)
{
    static const struct attack attacks[] = {
        {"for i = 1, 1e9 do string.rep('', 1 << 62) end", INSTRUCTIONS},
        {"string.rep('x', 1 << 40)", ANY},
        {"string.rep('xy', (1 << 62) + 1)", ANY},
        {"table.move({}, 1, 1 << 62, 2)", INSTRUCTIONS},
        {"table.move({}, 1, 1 << 62, 2, {})", INSTRUCTIONS},
        {"local t = {} for i = 0, 62 do t[1 << i] = i end table.insert(t, 1, 'x')\n"
         "table.insert(setmetatable({}, { __len = function() return 1 << 60 end }), 1, 'x')",
         INSTRUCTIONS},
        {"table.remove(setmetatable({}, { __len = function() return 1 << 60 end }), 1)",
         INSTRUCTIONS},
        {"table.concat(setmetatable({}, { __len = function() return 1 << 60 end, __index = function() "
         "return '' end }))",
         INSTRUCTIONS},
        {"local n = 0 table.concat(setmetatable({}, { __len = function() n = n + 1 return n == 1 and "
         "1 or 1 << 60 end, __index = tostring })) table.concat({}, 'x', 1, 1 << 60)",
         INSTRUCTIONS},
        {"table.unpack({}, 1, 1 << 20)", INSTRUCTIONS},
        {"table.unpack({}, 1, 90000)", MEMORY},
        {"table.sort(setmetatable({}, { __len = function() return (1 << 31) - 2 end, __index = "
         "function(_, i) return i end, __newindex = function() end }))",
         INSTRUCTIONS},
        {"table.sort({ 3, 2, 1 }, rawequal)",
         "on_enqueue: [string \"on_enqueue\"]:3: bad argument #2 to 'sort' (a function written in "
         "Lua expected)"},
        {"local t = {} for i = 1, 2000 do t[i] = ('x'):rep(200) .. i end while true do "
         "table.sort(t) end",
         INSTRUCTIONS},
        {"table.sort({ 1, 2, 3, 4, 5 }, function() while true do end end)", INSTRUCTIONS},
    };
    CHECK(attacks);
}

Test(hostile, patterns)
{
    static const struct attack attacks[] = {
        {"string.find(('a'):rep(30), ('a?'):rep(30) .. ('a'):rep(31))", INSTRUCTIONS},
        {"string.find(('a'):rep(10000), ('.-'):rep(10) .. 'b')", INSTRUCTIONS},
        {"string.match(('a'):rep(10000), ('a*'):rep(10) .. 'b')", INSTRUCTIONS},
        {"string.gsub(('a'):rep(10000), ('a*'):rep(10) .. 'b', '')", INSTRUCTIONS},
        {"for _ in string.gmatch(('a'):rep(10000), ('a*'):rep(10) .. 'b') do end", INSTRUCTIONS},
        {"while true do string.find(('('):rep(1000), '%b()') end", INSTRUCTIONS},
        {"while true do string.find(('a'):rep(10000), '(a*)%1b') end", INSTRUCTIONS},
        {"local p = '[' .. ('a'):rep(50000) .. ']' while true do string.find(('b'):rep(50000), p) "
         "end",
         INSTRUCTIONS},
        {"local s = ('a'):rep(500000) while true do s:find('b', 1, true) end", INSTRUCTIONS},
        {"string.find('a', ('('):rep(33) .. 'a' .. (')'):rep(33))", ANY},
        {"string.find(('a'):rep(300), ('a?'):rep(300))", ANY},
        {"string.gsub('x', 'x', function() while true do end end)", INSTRUCTIONS},
        {"string.gsub(('x'):rep(100000), 'x', ('%0'):rep(1000))", ANY},
    };
    CHECK(attacks);
}

Test(hostile, memory)
{
    static const struct attack attacks[] = {
        {"local t = {} for i = 1, 1e9 do t[i] = i end", MEMORY},
        {"local s = 'x' while true do s = s .. s end", MEMORY},
        {"local t = {} while true do t = { t } end", ANY},
        {"local function f(...) return f(1, ...) end f()", ANY},
        {"local function f() return 1 + f() end f()", ANY},
        {"local t = {} for i = 1, 1e9 do t[i] = function() return i end end", MEMORY},
        {"hoard = hoard or {} for i = 1, 1e9 do hoard[#hoard + 1] = {} end", ANY},
        {"string.format(('%99d'):rep(50000), table.unpack({ 1 }))", ANY},
        {"string.pack('c' .. (1 << 30), '')", ANY},
        {"('x'):rep(500000):byte(1, -1)", ANY},
    };
    CHECK(attacks);
}

Test(hostile, collector_and_finalizers)
{
    static const struct attack attacks[] = {
        {"setmetatable({}, { __gc = function() while true do end end })",
         "on_enqueue: [string \"on_enqueue\"]:3: __gc is not available in queue scripts"},
        {"setmetatable({}, { __gc = false })",
         "on_enqueue: [string \"on_enqueue\"]:3: __gc is not available in queue scripts"},
        {"local m = {} setmetatable({}, m) m.__gc = function() while true do end end "
         "collectgarbage('stop') local t = {} while true do t = { {}, {} } end",
         INSTRUCTIONS},
        {"while true do collectgarbage() collectgarbage('step', 100) end", INSTRUCTIONS},
        {"local k, t = {}, setmetatable({}, { __mode = 'k' }) for i = 1, 1e9 do local n = {} "
         "t[k] = n k = n end",
         ANY},
    };
    CHECK(attacks);
}

Test(hostile, nothing_outside_is_in_reach)
{
    static const char *const names[] = {
        "io",         "os",       "debug",  "package",     "require",   "load",
        "loadstring", "loadfile", "dofile", "string.dump", "coroutine", "arg",
    };
    struct script_rig *rig = script_rig_open();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[256];
        (void)snprintf(
            text, sizeof text,
            "function on_enqueue() return { fairness_key = type(%s), weight = 2 } end", names[i]);
        cr_assert(script_rig_compile(rig, text, NULL));
        cr_expect(eq(str, TEXT(script_rig_enqueue(rig)), "nil/2/"), "%s", names[i]);
    }
    /* All there is, so that nothing comes in unseen with another build of Lua; of math alone some
     * builds have more. */
    cr_assert(script_rig_compile(
        rig,
        "function on_enqueue() local t = {} for k, v in pairs(_G) do t[#t + 1] = k "
        "if type(v) == 'table' and v ~= _G and v ~= math then "
        "for f in pairs(v) do t[#t + 1] = k .. '.' .. f end end end "
        "table.sort(t) return { fairness_key = table.concat(t, ' ') } end",
        NULL));
    cr_expect(
        eq(str, TEXT(script_rig_enqueue(rig)),
           "_G _VERSION assert collectgarbage error fila fila.get getmetatable ipairs math next "
           "pairs pcall print rawequal rawget rawlen rawset select setmetatable string string.byte "
           "string.char string.find string.format string.gmatch string.gsub string.len string.lower "
           "string.match string.pack string.packsize string.rep string.reverse string.sub "
           "string.unpack string.upper table table.concat table.insert table.move table.pack "
           "table.remove table.sort table.unpack tonumber tostring type utf8 utf8.char "
           "utf8.charpattern utf8.codepoint utf8.codes utf8.len utf8.offset warn xpcall/1/"),
        "%s", rig->failure);
    script_rig_close(rig);
}

Test(hostile, a_state_that_met_its_limit_serves_on)
{
    struct script_rig *rig = script_rig_open();
    cr_assert(script_rig_compile(
        rig,
        "hoard = hoard or {} n = (n or 0) + 1\n"
        "function on_enqueue() while #hoard < 1e6 do hoard[#hoard + 1] = { n } "
        "if #hoard > 3000 then n = n + 1 return { fairness_key = 'well ' .. n } end end end",
        NULL));
    for (int i = 0; i < 100; i++) {
        (void)script_rig_enqueue(rig);
    }
    cr_expect(eq(int, rig->failures, 0), "%s", rig->failure);
    cr_assert(script_rig_compile(
        rig,
        "local t = {} for i = 1, 200 do t[i] = ('x'):rep(1000 + i) end\n"
        "hoard = { hoard, t }\n"
        "function on_enqueue() return { fairness_key = 'well' } end",
        NULL));
    for (int i = 0; i < 50;
         i++) { /* 0.2 MB more with each run: every sixth or so is one too many */
        (void)script_rig_enqueue(rig);
    }
    cr_expect(gt(int, rig->failures, 5));
    cr_expect(lt(int, rig->failures, 20));
    cr_expect(not(rig->bypassed), "never three in a row");
    cr_expect(eq(str, rig->failure, TEXT(MEMORY)));
    script_rig_close(rig);
}

Test(hostile, what_is_honest_still_works)
{
    static const char *const bodies[] = {
        "return { fairness_key = table.concat({ 'a', 'b', 'c' }, '-') }",
        "local t = { 'c', 'a', 'b' } table.sort(t) return { fairness_key = table.concat(t, '-') }",
        "local t = { 'a', 'b' } table.insert(t, 'c') return { fairness_key = table.concat(t, '-') }",
        "local t = { 'a', 'c' } table.insert(t, 2, 'b') return { fairness_key = table.concat(t, '-') "
        "}",
        "local t = { 'x', 'a', 'b', 'c', 'y' } table.remove(t) table.remove(t, 1) "
        "return { fairness_key = table.concat(t, '-') }",
        "return { fairness_key = table.concat(table.move({ 'a', 'b', 'c' }, 1, 3, 5), '-', 5, 7) }",
        "return { fairness_key = ('%s-%s-%s'):format(table.unpack({ 'a', 'b', 'c' })) }",
        "return { fairness_key = ('a.b.c'):gsub('%.', '-') }",
        "local t = {} for w in ('a b c'):gmatch('%a') do t[#t + 1] = w end "
        "return { fairness_key = table.concat(t, '-') }",
        "local a, b, c = ('a=b;c'):match('^(%w)=(%w);(%w)$') return { fairness_key = a .. '-' .. b .. "
        "'-' .. c }",
        "local t = { 3, 1, 2 } table.sort(t, function(x, y) return x > y end) "
        "return { fairness_key = t[1] == 3 and 'a-b-c' }",
        "return { fairness_key = (('a-b-'):rep(1) .. 'c'):sub(1, 5) }",
        "return { fairness_key = collectgarbage('count') > 10 and 'a-b-c' }",
        "local n = 0 for i = 1, 9000 do n = n + i end return { fairness_key = 'a-b-c' }",
        "local t = {} for i = 1, 5000 do t[i] = 'item ' .. i end return { fairness_key = 'a-b-c' }",
    };
    struct script_rig *rig = script_rig_open();
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, "function on_enqueue(msg) %s end", bodies[i]);
        cr_assert(script_rig_compile(rig, text, NULL), "%s", rig->failure);
        cr_expect(
            eq(str, TEXT(script_rig_enqueue(rig)), "a-b-c/1/"), "%s: %s", bodies[i], rig->failure);
    }
    script_rig_close(rig);
}
