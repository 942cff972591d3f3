/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A build without Lua, in one suite: lua_none.c in the place of the scripts.
 */
#include "broker/lua.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

Test(no_scripts, are_refused)
{
    struct fb_lua_options options = {.timeout_ms = 10};
    struct fb_lua *lua = fb_lua_new(&options);
    struct fb_scripts *scripts = (struct fb_scripts *)(uintptr_t)&options;
    struct fq_hooks hooks;
    fila_error error;
    fila_view text = fila_view_of("return {}");
    fila_view none = fila_view_of("");
    cr_expect(eq(int, fb_lua_compile(lua, none, text, &scripts, &error), FILA_UNIMPLEMENTED));
    cr_expect(eq(str, error.text, "this embedded broker was built without queue scripts"));
    cr_expect(eq(int, fb_lua_compile(lua, text, none, &scripts, &error), FILA_UNIMPLEMENTED));
    cr_expect(eq(int, fb_lua_compile(lua, none, none, &scripts, &error), FILA_OK));
    cr_expect(eq(ptr, scripts, NULL));
    fb_lua_hooks(lua, &hooks);
    cr_expect(not(fb_lua_is_there()));
    cr_expect(hooks.on_enqueue == NULL && hooks.on_failure == NULL);
    fb_lua_free(lua);
}
