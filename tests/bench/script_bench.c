/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What queue scripts cost: one use of a ten-line on_enqueue, of an on_failure, and of an on_enqueue
 * of one line, each with a message of four headers. CPU time; the best of several rounds.
 */
#include "base/clock.h"
#include "broker/lua.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 7
#define USES   20000

static const char TEN_LINES[] =
    "function on_enqueue(msg)\n"
    "  local tenant = msg.headers.tenant or 'default'\n"
    "  local keys = {}\n"
    "  if msg.headers.provider then\n"
    "    keys[#keys + 1] = 'provider:' .. msg.headers.provider\n"
    "    keys[#keys + 1] = 'tenant:' .. tenant .. ':' .. msg.headers.provider\n"
    "  end\n"
    "  local weight = tonumber(fila.get('weight:' .. tenant) or '1')\n"
    "  return { fairness_key = tenant, weight = weight, throttle_keys = keys }\n"
    "end\n";
static const char ONE_LINE[] =
    "function on_enqueue(msg) return { fairness_key = msg.headers.tenant } end";
static const char FAILURE[] =
    "function on_failure(msg)\n"
    "  if msg.error:find('^fila%-worker: returned unstarted') then return { action = 'retry' } end\n"
    "  return { action = msg.attempts >= 5 and 'dlq' or 'retry' }\n"
    "end\n";

static const fila_header HEADERS[] = {
    {{"tenant", 6}, {"acme", 4}},
    {{"provider", 8}, {"stripe", 6}},
    {{"traceparent", 11}, {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 55}},
    {{"content-type", 12}, {"application/json", 16}},
};

static struct fila_message_fields message = {
    .id = {"0192aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee", 36},
    .queue = {"orders", 6},
    .fairness_key = {"default", 7},
    .payload = {"12345", 5},
    .weight = 1,
    .headers = HEADERS,
    .header_count = 4,
};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static fila_view get(void *user, fila_view key)
{
    (void)user;
    (void)key;
    return fila_view_of("3");
}

static void failed(void *user, const fila_script_failure *failure)
{
    (void)user;
    fprintf(stderr, "script_bench: %s: %s\n", failure->hook, failure->text);
    abort();
}

static void row(
    struct fb_lua *lua,
    const char *what,
    const char *on_enqueue,
    const char *on_failure)
{
    struct fq_hooks hooks;
    struct fb_scripts *scripts = NULL;
    fila_error error = FILA_ERROR_INIT;
    double best = 1e9;
    fb_lua_hooks(lua, &hooks);
    if (fb_lua_compile(lua, fila_view_of(on_enqueue), fila_view_of(on_failure), &scripts, &error) !=
        FILA_OK) {
        fprintf(stderr, "script_bench: %s\n", error.text);
        abort();
    }
    for (int round = 0; round < ROUNDS; round++) {
        double began = cpu_seconds();
        double took;
        for (int i = 0; i < USES; i++) {
            struct fq_plan plan = {fila_view_of("default"), 1, NULL, 0};
            message.attempt_count = (uint32_t)i % 7;
            if (on_enqueue) {
                hooks.on_enqueue(hooks.user, scripts, &message, &plan);
            } else {
                (void)hooks.on_failure(hooks.user, scripts, &message, fila_view_of("no"));
            }
        }
        took = (cpu_seconds() - began) / USES;
        best = took < best ? took : best;
    }
    printf("%-44s %8.2f microseconds\n", what, best * 1e6);
    fb_scripts_free(scripts);
}

int main(void)
{
    struct fb_lua_options options = {
        .timeout_ms = 10,
        .memory_limit = 1048576,
        .breaker_failures = 3,
        .breaker_cooldown = 10 * FILA_S,
        .now = fila_now,
        .get = get,
        .failed = failed,
    };
    struct fb_lua *lua = fb_lua_new(&options);
    if (!lua) {
        return 1;
    }
    row(lua, "on_enqueue of one line", ONE_LINE, NULL);
    row(lua, "on_enqueue of ten lines", TEN_LINES, NULL);
    row(lua, "on_failure", NULL, FAILURE);
    fb_lua_free(lua);
    return 0;
}
