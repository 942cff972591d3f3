/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Queue scripts in a build without Lua: there are none.
 */
#include "base/error.h"
#include "broker/lua.h"

#include <stdlib.h>

struct fb_lua {
    struct fb_lua_options options;
};

bool fb_lua_is_there(void)
{
    return false;
}

struct fb_lua *fb_lua_new(const struct fb_lua_options *options)
{
    struct fb_lua *lua = malloc(sizeof *lua);
    if (lua) {
        lua->options = *options;
    }
    return lua;
}

void fb_lua_free(struct fb_lua *lua)
{
    free(lua);
}

void fb_lua_hooks(struct fb_lua *lua, struct fq_hooks *ret_hooks)
{
    (void)lua;
    *ret_hooks = (struct fq_hooks){NULL, NULL, NULL, NULL};
}

fila_status fb_lua_compile(
    const struct fb_lua *lua,
    fila_view on_enqueue,
    fila_view on_failure,
    struct fb_scripts **ret_scripts,
    fila_error *reterr)
{
    (void)lua;
    if (on_enqueue.len || on_failure.len) {
        return fila_fail(
            reterr, FILA_UNIMPLEMENTED, "this embedded broker was built without queue scripts");
    }
    *ret_scripts = NULL;
    return FILA_OK;
}

void fb_scripts_free(struct fb_scripts *scripts)
{
    (void)scripts;
}
