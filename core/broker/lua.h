/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Queue scripts: the Lua 5.4 hooks on_enqueue and on_failure (contract B7, B8, C, E), plugged into
 * the engine's fq_hooks.
 *
 * Properties. Each queue with scripts has a Lua state of its own: scripts see the message in hand,
 * the config store through fila.get, and nothing else: no files, no other queue, no clock but
 * what the message says. At each use the script's text is run and then its function called, as a
 * Fila server does it, so that locals start afresh and globals stay until the queue is deleted or a
 * run of it meets a limit.
 * What the function returns is read as a Fila server reads it: a number where text is wanted is
 * its text, text where a number is wanted its number, and anything else the default of that field.
 *
 * Limits. A run may take `timeout_ms` x 10,000 instructions, which library functions are charged
 * for too where they loop, and `memory_limit` bytes over what the state held when it was new. A
 * script that meets a limit is over, whatever it catches; a quarter of a second of CPU time is a
 * net under both. After `breaker_failures` failed runs in a row, of both hooks together, a queue's
 * scripts are bypassed for `breaker_cooldown`. A run that fails, or is bypassed, decides what no
 * script would have decided.
 *
 * Safety. fb_lua_compile may be called on any thread; everything else by the one who drives the
 * engine. Without Lua in the build (lua_none.c) fb_lua_compile answers FILA_UNIMPLEMENTED.
 */
#ifndef FILA_BROKER_LUA_H
#define FILA_BROKER_LUA_H

#include "broker/queue.h"
#include "fila/broker.h"

struct fb_lua;     /* what all queues' scripts share */
struct fb_scripts; /* a queue's; what fq_queue_options.scripts points to */

struct fb_lua_options {
    uint32_t timeout_ms;
    size_t memory_limit; /* bytes */
    uint32_t breaker_failures;
    int64_t breaker_cooldown; /* ns */
    void *user;
    int64_t (*now)(void); /* ns; for the cooldown */
    /* The value of a config key, empty when there is none; lives until the script goes on. */
    fila_view (*get)(void *user, fila_view key);
    /* A run failed; NULL = nobody wants to know. Inside a command. */
    void (*failed)(void *user, const fila_script_failure *failure);
};

/* Whether this build has Lua. */
bool fb_lua_is_there(void);

/* NULL without memory. */
struct fb_lua *fb_lua_new(const struct fb_lua_options *options);
void fb_lua_free(struct fb_lua *lua); /* after the engine; takes NULL */
void fb_lua_hooks(struct fb_lua *lua, struct fq_hooks *ret_hooks);

/* Compiles a queue's scripts without running them; an empty text is no script, and of two empty
 * ones *ret_scripts is NULL. Freed by the hooks' `release`, or by fb_scripts_free if no queue took
 * them. Errors: FILA_INVALID_ARGUMENT (what Lua says), FILA_NO_MEMORY, FILA_UNIMPLEMENTED. */
FILA_NODISCARD fila_status fb_lua_compile(
    const struct fb_lua *lua,
    fila_view on_enqueue,
    fila_view on_failure,
    struct fb_scripts **ret_scripts,
    fila_error *reterr);
void fb_scripts_free(struct fb_scripts *scripts); /* takes NULL */

#endif
