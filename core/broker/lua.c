/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "lua_internal.h"
#include "wire/codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FAIRNESS_KEY_MAX 65535 /* bytes: a longer one stops a Fila server (contract A7) */
#define COMPILING_MEMORY ((size_t)64 << 20) /* over which a script is refused */
#define RESULT_MAX       ((size_t)1 << 20)  /* bytes of what on_enqueue returns */

enum hook {
    ON_ENQUEUE,
    ON_FAILURE,
    HOOKS
};

static const char *const NAMES[HOOKS] = {"on_enqueue", "on_failure"};

/* Throttle keys, while the engine copies them; reused. */
struct result {
    fila_view *views;
    char *text;
    size_t views_room;
    size_t text_room;
};

struct fb_lua {
    struct fb_lua_options options;
    struct result result;
};

struct fb_scripts {
    struct fb_limits limits;
    fila_view texts[HOOKS];
    uint32_t failures; /* in a row */
    int64_t tripped_at;
    bool tripped;
    char text[];
};

/* ---- Compiling ---- */

/* The chunks are in the registry under the addresses of their names. */
static const void *chunk_key(enum hook hook)
{
    return &NAMES[hook];
}

/* Argument: the scripts. Raises what Lua says about a text that does not compile. */
static int prepare(lua_State *state)
{
    const struct fb_scripts *scripts = lua_touserdata(state, 1);
    fb_sandbox_open(state);
    for (int hook = 0; hook < HOOKS; hook++) {
        fila_view text = scripts->texts[hook];
        if (text.len == 0) {
            continue;
        }
        if (luaL_loadbufferx(state, text.data, text.len, NAMES[hook], "t") != LUA_OK) {
            return lua_error(state);
        }
        lua_rawsetp(state, LUA_REGISTRYINDEX, chunk_key((enum hook)hook));
    }
    return 0;
}

static void close_state(struct fb_scripts *scripts)
{
    if (scripts->limits.state) {
        lua_close(scripts->limits.state);
        scripts->limits.state = NULL;
    }
}

/* Makes the state, with the chunks in it. */
static fila_status open_state(struct fb_scripts *scripts, fila_error *reterr)
{
    struct fb_limits *limits = &scripts->limits;
    lua_State *state;
    int status;
    limits->memory = 0;
    limits->memory_max = COMPILING_MEMORY;
    limits->exhausted = NULL;
    limits->refused = false;
    state = fb_limits_open(limits);
    if (!state) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a queue's scripts");
    }
    lua_pushcfunction(state, prepare);
    lua_pushlightuserdata(state, scripts);
    status = lua_pcall(state, 1, 0, 0);
    if (status != LUA_OK) {
        const char *text = fb_limits_error(state);
        fila_status code = status == LUA_ERRMEM && !limits->exhausted ? FILA_NO_MEMORY
                                                                      : FILA_INVALID_ARGUMENT;
        (void)fila_fail(reterr, code, "%s", text ? text : "the script does not compile");
        close_state(scripts);
        return code;
    }
    (void)lua_gc(state, LUA_GCCOLLECT);
    limits->memory_max = limits->memory + limits->options->memory_limit;
    return FILA_OK;
}

static struct fb_scripts *scripts_new(
    const struct fb_lua *lua,
    fila_view on_enqueue,
    fila_view on_failure)
{
    struct fb_scripts *scripts = calloc(1, sizeof *scripts + on_enqueue.len + on_failure.len);
    if (scripts) {
        scripts->limits.options = &lua->options;
        scripts->texts[ON_ENQUEUE] = (fila_view){scripts->text, on_enqueue.len};
        scripts->texts[ON_FAILURE] = (fila_view){scripts->text + on_enqueue.len, on_failure.len};
        if (on_enqueue.len) {
            memcpy(scripts->text, on_enqueue.data, on_enqueue.len);
        }
        if (on_failure.len) {
            memcpy(scripts->text + on_enqueue.len, on_failure.data, on_failure.len);
        }
    }
    return scripts;
}

fila_status fb_lua_compile(
    const struct fb_lua *lua,
    fila_view on_enqueue,
    fila_view on_failure,
    struct fb_scripts **ret_scripts,
    fila_error *reterr)
{
    struct fb_scripts *scripts = NULL;
    if (on_enqueue.len || on_failure.len) {
        fila_status status;
        scripts = scripts_new(lua, on_enqueue, on_failure);
        if (!scripts) {
            return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a queue's scripts");
        }
        status = open_state(scripts, reterr);
        if (status != FILA_OK) {
            fb_scripts_free(scripts);
            return status;
        }
    }
    *ret_scripts = scripts;
    return FILA_OK;
}

void fb_scripts_free(struct fb_scripts *scripts)
{
    if (scripts) {
        close_state(scripts);
        free(scripts);
    }
}

/* ---- The circuit breaker ---- */

static bool may_run(struct fb_scripts *scripts)
{
    const struct fb_lua_options *options = scripts->limits.options;
    if (scripts->tripped) {
        if (options->now() - scripts->tripped_at < options->breaker_cooldown) {
            return false;
        }
        scripts->tripped = false;
        scripts->failures = 0;
    }
    return true;
}

static void note_failure(
    struct fb_scripts *scripts,
    enum hook hook,
    fila_view queue,
    const char *text)
{
    const struct fb_lua_options *options = scripts->limits.options;
    scripts->failures++;
    scripts->tripped = scripts->failures >= options->breaker_failures;
    if (scripts->tripped) {
        scripts->tripped_at = options->now();
    }
    if (options->failed) {
        fila_script_failure failure = {sizeof failure, queue, NAMES[hook], text, scripts->tripped};
        options->failed(options->user, &failure);
    }
}

/* ---- Running ---- */

/* One use of a hook. */
struct run {
    struct fb_lua *lua;
    enum hook hook;
    const struct fila_message_fields *message;
    fila_view error;          /* on_failure */
    struct fq_plan *plan;     /* on_enqueue: what it decides */
    enum fq_failure decision; /* on_failure: the same */
};

static void set_text(lua_State *state, const char *name, fila_view value)
{
    lua_pushlstring(state, value.len ? value.data : "", value.len);
    lua_setfield(state, -2, name);
}

static void set_integer(lua_State *state, const char *name, lua_Integer value)
{
    lua_pushinteger(state, value);
    lua_setfield(state, -2, name);
}

static void push_message(lua_State *state, const struct run *run)
{
    const struct fila_message_fields *message = run->message;
    lua_createtable(state, 0, run->hook == ON_ENQUEUE ? 3 : 5);
    lua_createtable(state, 0, (int)message->header_count);
    for (size_t i = 0; i < message->header_count; i++) {
        const fila_header *header = &message->headers[i];
        lua_pushlstring(state, header->key.len ? header->key.data : "", header->key.len);
        lua_pushlstring(state, header->value.len ? header->value.data : "", header->value.len);
        lua_rawset(state, -3);
    }
    lua_setfield(state, -2, "headers");
    set_text(state, "queue", message->queue);
    if (run->hook == ON_ENQUEUE) {
        set_integer(state, "payload_size", (lua_Integer)message->payload.len);
    } else {
        set_text(state, "id", message->id);
        set_integer(state, "attempts", message->attempt_count);
        set_text(state, "error", run->error);
    }
}

/* ---- What scripts return ---- */

/* The value on top as text: of a text or a number, in UTF-8. Lives as long as it stays there. */
static bool top_text(lua_State *state, fila_view *ret_text)
{
    if (!lua_isstring(state, -1)) {
        return false;
    }
    ret_text->data = lua_tolstring(state, -1, &ret_text->len);
    return fila_utf8_valid(ret_text->data, ret_text->len);
}

/* The value on top as a weight: of a number, or of a text that reads as one; a fraction is cut
 * off. */
static bool top_weight(lua_State *state, uint32_t *ret_weight)
{
    int is_number = 0;
    lua_Number number;
    lua_Integer integer = lua_tointegerx(state, -1, &is_number);
    if (is_number) {
        *ret_weight = (uint32_t)integer;
        return integer >= 0 && integer <= UINT32_MAX;
    }
    number = trunc(lua_tonumberx(state, -1, &is_number));
    if (!is_number || !(number >= 0 && number <= UINT32_MAX)) {
        return false;
    }
    *ret_weight = (uint32_t)number;
    return true;
}

static void *grown(void *block, size_t *room, size_t wanted, size_t size)
{
    void *larger = block;
    if (wanted > *room) {
        larger = realloc(block, wanted * 2 * size);
        *room = larger ? wanted * 2 : *room;
    }
    return larger;
}

/* Copies the text on top behind `len` bytes of the result. The views are set in the end, since the
 * text may move until then: for now they hold lengths. */
static void keep_text(
    lua_State *state,
    struct result *result,
    size_t nth,
    size_t len,
    fila_view text)
{
    char *bytes = NULL;
    fila_view *views = grown(result->views, &result->views_room, nth + 1, sizeof *views);
    if (views) {
        result->views = views;
        bytes = grown(result->text, &result->text_room, len + text.len + 1, 1);
    }
    if (!bytes) {
        luaL_error(state, "no memory for what on_enqueue returned");
        return;
    }
    result->text = bytes;
    if (text.len) {
        memcpy(bytes + len, text.data, text.len);
    }
    result->views[nth].len = text.len;
}

/* The texts in the list on top, up to the first nil; what is no text is left out. */
static size_t keep_throttle_keys(lua_State *state, struct result *result, size_t *len)
{
    size_t count = 1; /* the first view is the fairness key */
    for (lua_Integer i = 1;; i++) {
        fila_view text;
        fb_charge(state, 1);
        if (lua_rawgeti(state, -1, i) == LUA_TNIL) {
            break;
        }
        if (top_text(state, &text)) {
            if (*len + text.len > RESULT_MAX) {
                luaL_error(state, "throttle_keys of over %d bytes", (int)RESULT_MAX);
            }
            keep_text(state, result, count++, *len, text);
            *len += text.len;
        }
        lua_pop(state, 1);
    }
    lua_pop(state, 1);
    return count - 1;
}

static void read_fairness_key(lua_State *state, struct run *run, size_t *len)
{
    fila_view text;
    (void)lua_getfield(state, -1, "fairness_key");
    if (!top_text(state, &text)) {
        text = run->plan->fairness_key;
    }
    if (text.len > FAIRNESS_KEY_MAX) {
        luaL_error(state, "a fairness_key of over %d bytes", FAIRNESS_KEY_MAX);
    }
    keep_text(state, &run->lua->result, 0, 0, text);
    *len = text.len;
    lua_pop(state, 1);
}

/* The table is on top. The plan is changed only when all of it is known. */
static void read_plan(lua_State *state, struct run *run)
{
    struct result *result = &run->lua->result;
    size_t len = 0;
    size_t throttles = 0;
    uint32_t weight = run->plan->weight;
    read_fairness_key(state, run, &len);
    (void)lua_getfield(state, -1, "weight");
    if (!top_weight(state, &weight)) {
        weight = run->plan->weight;
    }
    lua_pop(state, 1);
    if (lua_getfield(state, -1, "throttle_keys") == LUA_TTABLE) {
        throttles = keep_throttle_keys(state, result, &len);
    }
    len = 0;
    for (size_t i = 0; i <= throttles; i++) {
        result->views[i].data = result->text + len;
        len += result->views[i].len; /* NOLINT(clang-analyzer-core.uninitialized.Assign) */
    }
    *run->plan = (struct fq_plan){result->views[0], weight, result->views + 1, throttles};
}

/* delay_ms is read by nobody: a Fila server ignores it too (contract B7). */
static void read_decision(lua_State *state, struct run *run)
{
    static const char dead_letter[] = "dlq";
    fila_view action;
    (void)lua_getfield(state, -1, "action");
    if (top_text(state, &action) && action.len == sizeof dead_letter - 1 &&
        memcmp(action.data, dead_letter, action.len) == 0) {
        run->decision = FQ_FAILURE_DEAD_LETTER;
    }
}

/* Argument: the run. */
static int run_protected(lua_State *state)
{
    struct run *run = lua_touserdata(state, 1);
    const char *name = NAMES[run->hook];
    (void)lua_rawgetp(state, LUA_REGISTRYINDEX, chunk_key(run->hook));
    lua_call(state, 0, 0);
    if (lua_getglobal(state, name) != LUA_TFUNCTION) {
        return luaL_error(state, "the script defines no function %s", name);
    }
    lua_pushnil(state);
    lua_setglobal(state, name);
    push_message(state, run);
    lua_call(state, 1, 1);
    if (lua_type(state, -1) != LUA_TTABLE) {
        return luaL_error(
            state, "%s returned a %s value, not a table", name, luaL_typename(state, -1));
    }
    if (run->hook == ON_ENQUEUE) {
        read_plan(state, run);
    } else {
        read_decision(state, run);
    }
    return 0;
}

static bool has_state(struct fb_scripts *scripts)
{
    return scripts->limits.state || open_state(scripts, NULL) == FILA_OK;
}

static void run_hook(struct fb_scripts *scripts, struct run *run)
{
    struct fq_plan unchanged = run->plan ? *run->plan : (struct fq_plan){0};
    fila_view queue = run->message->queue;
    lua_State *state;
    int status;
    if (!scripts || scripts->texts[run->hook].len == 0 || !may_run(scripts)) {
        return;
    }
    if (!has_state(scripts)) {
        note_failure(scripts, run->hook, queue, "no memory for a queue's scripts");
        return;
    }
    state = scripts->limits.state;
    fb_limits_begin(state);
    lua_pushcfunction(state, run_protected);
    lua_pushlightuserdata(state, run);
    status = lua_pcall(state, 1, 0, 0);
    fb_limits_end(state);
    if (status == LUA_OK && !scripts->limits.exhausted) {
        scripts->failures = 0;
    } else {
        const char *text = fb_limits_error(state);
        run->decision = FQ_FAILURE_RETRY;
        if (run->plan) {
            *run->plan = unchanged;
        }
        note_failure(scripts, run->hook, queue, text ? text : "an error without a text");
    }
    lua_settop(state, 0);
    if (status == LUA_ERRMEM || scripts->limits.exhausted) {
        close_state(scripts); /* the next run begins with a new one, without what globals hoard */
    }
}

/* ---- The engine's hooks ---- */

static void on_enqueue(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    struct fq_plan *plan)
{
    struct run run = {.lua = user, .hook = ON_ENQUEUE, .message = message, .plan = plan};
    run_hook(scripts, &run);
}

static enum fq_failure on_failure(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    fila_view error)
{
    struct run run = {.lua = user, .hook = ON_FAILURE, .message = message, .error = error};
    run_hook(scripts, &run);
    return run.decision;
}

static void release(void *user, void *scripts)
{
    (void)user;
    fb_scripts_free(scripts);
}

bool fb_lua_is_there(void)
{
    return true;
}

struct fb_lua *fb_lua_new(const struct fb_lua_options *options)
{
    struct fb_lua *lua = calloc(1, sizeof *lua);
    if (lua) {
        lua->options = *options;
    }
    return lua;
}

void fb_lua_free(struct fb_lua *lua)
{
    if (lua) {
        free(lua->result.views);
        free(lua->result.text);
        free(lua);
    }
}

void fb_lua_hooks(struct fb_lua *lua, struct fq_hooks *ret_hooks)
{
    *ret_hooks = (struct fq_hooks){lua, on_enqueue, on_failure, release};
}
