/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Queue scripts: what they are given, what they may answer, when they are bypassed (contract B7,
 * B8, E).
 */
#include "script_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>

#define TEXT(text)                ((char *)(uintptr_t)(text))
#define EXPECT_ENQUEUE(rig, text) cr_expect(eq(str, TEXT(script_rig_enqueue(rig)), TEXT(text)))
#define EXPECT_FAIL(rig, text)    cr_expect(eq(str, TEXT(script_rig_fail(rig)), TEXT(text)))

struct row {
    const char *body; /* of the function */
    const char *answer;
    const char *failure; /* NULL = the run is well */
};

static void check_rows(const char *hook, const struct row *rows, size_t count)
{
    struct script_rig *rig = script_rig_open();
    bool enqueue = strcmp(hook, "on_enqueue") == 0;
    for (size_t i = 0; i < count; i++) {
        char text[2048];
        (void)snprintf(text, sizeof text, "function %s(msg) %s end", hook, rows[i].body);
        cr_assert(
            script_rig_compile(rig, enqueue ? text : NULL, enqueue ? NULL : text), "%s: %s", text,
            rig->failure);
        cr_expect(
            eq(str, TEXT(enqueue ? script_rig_enqueue(rig) : script_rig_fail(rig)),
               TEXT(rows[i].answer)),
            "%s: %s", rows[i].body, rig->failure);
        cr_expect(
            eq(str, rig->failure, TEXT(rows[i].failure ? rows[i].failure : "")), "%s",
            rows[i].body);
    }
    script_rig_close(rig);
}

Test(on_enqueue, B8_what_it_may_return)
{
    static const struct row rows[] = {
        {"return {}", "default/1/", NULL},
        {"return { fairness_key = 'a', weight = 3, throttle_keys = { 'x', 'y' } }", "a/3/x,y",
         NULL},
        /* numbers where text is wanted, and the reverse */
        {"return { fairness_key = 5 }", "5/1/", NULL},
        {"return { fairness_key = 5.0 }", "5.0/1/", NULL},
        {"return { weight = '7' }", "default/7/", NULL},
        {"return { weight = '0x10' }", "default/16/", NULL},
        {"return { weight = 2.9 }", "default/2/", NULL},
        {"return { weight = '2.9' }", "default/2/", NULL},
        {"return { weight = 0 }", "default/0/", NULL},
        {"return { weight = 4294967295 }", "default/4294967295/", NULL},
        {"return { throttle_keys = { 1, 'b', 2.5 } }", "default/1/1,b,2.5", NULL},
        /* wrong types fall back, each for itself */
        {"return { fairness_key = {}, weight = 3 }", "default/3/", NULL},
        {"return { fairness_key = true, throttle_keys = { 'x' } }", "default/1/x", NULL},
        {"return { fairness_key = '\\xff' }", "default/1/", NULL},
        {"return { fairness_key = '' }", "/1/", NULL},
        {"return { weight = 'many' }", "default/1/", NULL},
        {"return { weight = -1 }", "default/1/", NULL},
        {"return { weight = 4294967296 }", "default/1/", NULL},
        {"return { weight = 0/0 }", "default/1/", NULL},
        {"return { weight = 1e300 }", "default/1/", NULL},
        {"return { weight = -1e300 }", "default/1/", NULL},
        {"return { weight = true }", "default/1/", NULL},
        {"return { throttle_keys = 'x' }", "default/1/", NULL},
        {"return { throttle_keys = { 'x', false, {}, 'y', '\\xff' } }", "default/1/x,y", NULL},
        {"return { throttle_keys = { 'x', nil, 'y' } }", "default/1/x", NULL},
        /* fields are looked up as Lua does, list items are not */
        {"return setmetatable({}, { __index = { fairness_key = 'm' } })", "m/1/", NULL},
        {"return { throttle_keys = setmetatable({}, { __index = function() return 'x' end }) }",
         "default/1/", NULL},
        /* no table */
        {"return 'a'", "default/1/", "on_enqueue: on_enqueue returned a string value, not a table"},
        {"", "default/1/", "on_enqueue: on_enqueue returned a nil value, not a table"},
        {"error('broken')", "default/1/", "on_enqueue: [string \"on_enqueue\"]:1: broken"},
        {"error({})", "default/1/", "on_enqueue: an error without a text"},
        {"return nothing.at_all", "default/1/",
         "on_enqueue: [string \"on_enqueue\"]:1: attempt to index a nil value (global 'nothing')"},
        /* what would stop a server */
        {"return { fairness_key = ('x'):rep(65536) }", "default/1/",
         "on_enqueue: a fairness_key of over 65535 bytes"},
        {"local s = ('x'):rep(400000) return { throttle_keys = { s, s, s } }", "default/1/",
         "on_enqueue: throttle_keys of over 1048576 bytes"},
    };
    check_rows("on_enqueue", rows, sizeof rows / sizeof *rows);
}

Test(on_enqueue, B8_what_it_is_given)
{
    static const struct row rows[] = {
        {"return { fairness_key = msg.headers.tenant, weight = msg.headers.n }", "acme/12/", NULL},
        {"return { fairness_key = msg.queue, weight = msg.payload_size }", "orders/5/", NULL},
        {"local keys = {} for k in pairs(msg) do keys[#keys + 1] = k end table.sort(keys) "
         "return { fairness_key = table.concat(keys, ' ') }",
         "headers payload_size queue/1/", NULL},
        {"return { fairness_key = math.type(msg.payload_size) }", "integer/1/", NULL},
        {"return { fairness_key = msg.headers.other or 'none' }", "none/1/", NULL},
        {"return { weight = tonumber(fila.get('limit')) + 1 }", "default/8/", NULL},
        {"return { fairness_key = tostring(fila.get('unknown')) }", "nil/1/", NULL},
        {"fila.get()", "default/1/",
         "on_enqueue: [string \"on_enqueue\"]:1: bad argument #1 to 'get' (string expected, got no "
         "value)"},
    };
    check_rows("on_enqueue", rows, sizeof rows / sizeof *rows);
}

Test(on_failure, B7_what_it_may_return)
{
    static const struct row rows[] = {
        {"return { action = 'dlq' }", "dlq", NULL},
        {"return { action = 'retry' }", "retry", NULL},
        {"return { action = 'dlq', delay_ms = 5000 }", "dlq", NULL},
        {"return { action = 'retry', delay_ms = 5000 }", "retry", NULL},
        {"return { action = 'DLQ' }", "retry", NULL},
        {"return { action = 'dlq ' }", "retry", NULL},
        {"return { action = true }", "retry", NULL},
        {"return { action = 1 }", "retry", NULL},
        {"return {}", "retry", NULL},
        {"return setmetatable({}, { __index = { action = 'dlq' } })", "dlq", NULL},
        {"return 'dlq'", "retry", "on_failure: on_failure returned a string value, not a table"},
        {"", "retry", "on_failure: on_failure returned a nil value, not a table"},
        {"error('broken')", "retry", "on_failure: [string \"on_failure\"]:1: broken"},
        {"local t = { action = 'dlq' } setmetatable(t, { __index = error }) return t", "dlq", NULL},
    };
    check_rows("on_failure", rows, sizeof rows / sizeof *rows);
}

Test(on_failure, B7_what_it_is_given)
{
    static const struct row rows[] = {
        {"if msg.attempts >= 3 then return { action = 'dlq' } end return {}", "dlq", NULL},
        {"if msg.attempts > 3 then return { action = 'dlq' } end return {}", "retry", NULL},
        {"if msg.error == 'no way' then return { action = 'dlq' } end", "dlq", NULL},
        {"if msg.queue == 'orders' and msg.headers.tenant == 'acme' then return { action = 'dlq' } end",
         "dlq", NULL},
        {"if msg.id == '0192aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee' then return { action = 'dlq' } end",
         "dlq", NULL},
        {"local n = 0 for _ in pairs(msg) do n = n + 1 end if n == 5 then return { action = 'dlq' } "
         "end",
         "dlq", NULL},
    };
    check_rows("on_failure", rows, sizeof rows / sizeof *rows);
}

/* ---- Compiling ---- */

Test(scripts, C_only_the_syntax_is_checked)
{
    struct script_rig *rig = script_rig_open();
    cr_expect(not(script_rig_compile(rig, "function on_enqueue(", NULL)));
    cr_expect(
        eq(str, rig->failure, "1 [string \"on_enqueue\"]:1: <name> or '...' expected near <eof>"));
    cr_expect(not(script_rig_compile(rig, NULL, "return\nreturn 1 +")));
    cr_expect(
        eq(str, rig->failure, "1 [string \"on_failure\"]:2: unexpected symbol near 'return'"));
    cr_expect(not(script_rig_compile(rig, "\x1bLua", NULL)));
    cr_expect(eq(str, rig->failure, "1 attempt to load a binary chunk (mode is 't')"));
    cr_expect(script_rig_compile(rig, "error('not run')", NULL));
    EXPECT_ENQUEUE(rig, "default/1/");
    cr_expect(eq(str, rig->failure, "on_enqueue: [string \"on_enqueue\"]:1: not run"));
    cr_expect(script_rig_compile(rig, "x = 1", "x = 1"));
    EXPECT_ENQUEUE(rig, "default/1/");
    cr_expect(eq(str, rig->failure, "on_enqueue: the script defines no function on_enqueue"));
    EXPECT_FAIL(rig, "retry");
    cr_expect(eq(str, rig->failure, "on_failure: the script defines no function on_failure"));
    script_rig_close(rig);
}

Test(scripts, no_script_decides_nothing)
{
    struct script_rig *rig = script_rig_open();
    cr_expect(script_rig_compile(rig, NULL, NULL));
    cr_expect(eq(ptr, rig->scripts, NULL));
    EXPECT_ENQUEUE(rig, "default/1/");
    EXPECT_FAIL(rig, "retry");
    cr_expect(script_rig_compile(rig, NULL, "function on_failure() return { action = 'dlq' } end"));
    EXPECT_ENQUEUE(rig, "default/1/");
    EXPECT_FAIL(rig, "dlq");
    cr_expect(eq(int, rig->failures, 0));
    script_rig_close(rig);
}

Test(scripts, globals_stay_and_locals_do_not)
{
    struct script_rig *rig = script_rig_open();
    cr_assert(script_rig_compile(
        rig,
        "local l = 0 g = g or 0 function on_enqueue() l = l + 1 g = g + 1 "
        "return { fairness_key = l .. ' ' .. g } end",
        "function on_failure() return { action = g == 2 and 'dlq' or 'retry' } end"));
    EXPECT_ENQUEUE(rig, "1 1/1/");
    EXPECT_ENQUEUE(rig, "1 2/1/");
    EXPECT_FAIL(rig, "dlq");
    EXPECT_ENQUEUE(rig, "1 3/1/");
    EXPECT_FAIL(rig, "retry");
    cr_expect(eq(int, rig->failures, 0), "%s", rig->failure);
    script_rig_close(rig);
}

Test(scripts, queues_do_not_see_each_other)
{
    struct script_rig *rig = script_rig_open();
    struct fb_scripts *first;
    cr_assert(script_rig_compile(
        rig,
        "secret = 1 string.upper = nil getmetatable('').__index = nil "
        "function on_enqueue() return {} end",
        NULL));
    EXPECT_ENQUEUE(rig, "default/1/");
    first = rig->scripts;
    rig->scripts = NULL;
    cr_assert(script_rig_compile(
        rig, "function on_enqueue() return { fairness_key = ('x'):upper(), weight = secret } end",
        NULL));
    EXPECT_ENQUEUE(rig, "X/1/");
    cr_expect(eq(int, rig->failures, 0), "%s", rig->failure);
    fb_scripts_free(first);
    script_rig_close(rig);
}

/* ---- The script in config/ ---- */

static char *sample(void)
{
    FILE *file = fopen(SAMPLE_SCRIPT, "r");
    char *text = calloc(1, 8192);
    cr_assert(file && text && fread(text, 1, 8191, file) > 100);
    (void)fclose(file);
    return text;
}

Test(sample, returned_unstarted_is_no_failure)
{
    static const struct {
        const char *error;
        uint32_t attempts;
        const char *decision;
    } rows[] = {
        {"fila-worker: returned unstarted", 1, "retry"},
        {"fila-worker: returned unstarted", 1000, "retry"},
        {"exit status 75", 4, "retry"},
        {"exit status 75", 5, "dlq"},
        {"", 5, "dlq"},
    };
    struct script_rig *rig = script_rig_open();
    char *text = sample();
    cr_assert(script_rig_compile(rig, NULL, text), "%s", rig->failure);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect(
            eq(str, TEXT(script_rig_fail_with(rig, rows[i].attempts, rows[i].error)),
               TEXT(rows[i].decision)),
            "%s, %u", rows[i].error, rows[i].attempts);
    }
    cr_expect(eq(int, rig->failures, 0), "%s", rig->failure);
    free(text);
    script_rig_close(rig);
}

/* ---- The circuit breaker ---- */

/* on_enqueue and on_failure fail while the header says so... here: while the global is set. */
static const char FAILING[] = "function on_enqueue() error('no') end";

Test(breaker, E_three_failures_in_a_row_bypass_both_hooks)
{
    struct script_rig *rig = script_rig_open();
    cr_assert(
        script_rig_compile(rig, FAILING, "function on_failure() return { action = 'dlq' } end"));
    EXPECT_ENQUEUE(rig, "default/1/");
    EXPECT_ENQUEUE(rig, "default/1/");
    cr_expect(not(rig->bypassed));
    EXPECT_ENQUEUE(rig, "default/1/");
    cr_expect(rig->bypassed);
    cr_expect(eq(int, rig->failures, 3));
    EXPECT_FAIL(rig, "retry");
    EXPECT_ENQUEUE(rig, "default/1/");
    cr_expect(eq(int, rig->failures, 3), "bypassed");
    script_rig_clock(11 * FILA_S - 1);
    EXPECT_FAIL(rig, "retry");
    script_rig_clock(11 * FILA_S);
    EXPECT_FAIL(rig, "dlq");
    cr_expect(eq(int, rig->failures, 3));
    script_rig_close(rig);
}

Test(breaker, a_success_of_either_hook_starts_the_count_anew)
{
    struct script_rig *rig = script_rig_open();
    cr_assert(
        script_rig_compile(rig, FAILING, "function on_failure() return { action = 'dlq' } end"));
    for (int i = 0; i < 4; i++) {
        EXPECT_ENQUEUE(rig, "default/1/");
        EXPECT_ENQUEUE(rig, "default/1/");
        EXPECT_FAIL(rig, "dlq");
    }
    cr_expect(eq(int, rig->failures, 8));
    cr_expect(not(rig->bypassed));
    script_rig_close(rig);
}

Test(breaker, after_the_cooldown_it_takes_three_again)
{
    struct script_rig *rig = script_rig_open();
    cr_assert(script_rig_compile(rig, FAILING, NULL));
    for (int i = 0; i < 5; i++) {
        EXPECT_ENQUEUE(rig, "default/1/");
    }
    cr_expect(eq(int, rig->failures, 3));
    script_rig_clock(12 * FILA_S);
    for (int i = 0; i < 5; i++) {
        EXPECT_ENQUEUE(rig, "default/1/");
        cr_expect(eq(int, rig->bypassed, i >= 2), "%d", i);
    }
    cr_expect(eq(int, rig->failures, 6));
    script_rig_close(rig);
}
