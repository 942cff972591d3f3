/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "script_rig.h"

#include <stdio.h>
#include <stdlib.h>

static const fila_header HEADERS[] = {{{"tenant", 6}, {"acme", 4}}, {{"n", 1}, {"12", 2}}};

static const struct fila_message_fields MESSAGE = {
    .id = {"0192aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee", 36},
    .queue = {"orders", 6},
    .fairness_key = {"default", 7},
    .payload = {"12345", 5},
    .weight = 1,
    .attempt_count = 3,
    .headers = HEADERS,
    .header_count = 2,
};

static int64_t clock_now;

static int64_t now(void)
{
    return clock_now;
}

void script_rig_clock(int64_t at)
{
    clock_now = at;
}

static fila_view get(void *user, fila_view key)
{
    (void)user;
    return key.len == 5 && memcmp(key.data, "limit", 5) == 0 ? fila_view_of("7") : fila_view_of("");
}

static void failed(void *user, const fila_script_failure *failure)
{
    struct script_rig *rig = user;
    rig->failures++;
    rig->bypassed = failure->bypassed;
    (void)snprintf(rig->failure, sizeof rig->failure, "%s: %s", failure->hook, failure->text);
}

struct script_rig *script_rig_open(void)
{
    struct script_rig *rig = calloc(1, sizeof *rig);
    struct fb_lua_options options = {
        .timeout_ms = 10,
        .memory_limit = 1048576,
        .breaker_failures = 3,
        .breaker_cooldown = 10 * FILA_S,
        .user = rig,
        .now = now,
        .get = get,
        .failed = failed,
    };
    clock_now = FILA_S;
    if (!rig || !(rig->lua = fb_lua_new(&options))) {
        abort();
    }
    fb_lua_hooks(rig->lua, &rig->hooks);
    return rig;
}

void script_rig_close(struct script_rig *rig)
{
    fb_scripts_free(rig->scripts);
    fb_lua_free(rig->lua);
    free(rig);
}

bool script_rig_compile(struct script_rig *rig, const char *on_enqueue, const char *on_failure)
{
    fila_error error = FILA_ERROR_INIT;
    fb_scripts_free(rig->scripts);
    rig->scripts = NULL;
    rig->failures = 0;
    rig->bypassed = false;
    rig->failure[0] = '\0';
    if (fb_lua_compile(
            rig->lua, fila_view_of(on_enqueue), fila_view_of(on_failure), &rig->scripts, &error) ==
        FILA_OK) {
        return true;
    }
    (void)snprintf(rig->failure, sizeof rig->failure, "%d %s", (int)error.code, error.text);
    return false;
}

const char *script_rig_enqueue(struct script_rig *rig)
{
    struct fq_plan plan = {fila_view_of("default"), 1, NULL, 0};
    size_t len;
    rig->hooks.on_enqueue(rig->hooks.user, rig->scripts, &MESSAGE, &plan);
    len = (size_t)snprintf(
        rig->answer, sizeof rig->answer, "%.*s/%u/", (int)plan.fairness_key.len,
        plan.fairness_key.data, plan.weight);
    for (size_t i = 0; i < plan.throttle_key_count && len < sizeof rig->answer; i++) {
        len += (size_t)snprintf(
            rig->answer + len, sizeof rig->answer - len, "%s%.*s", i ? "," : "",
            (int)plan.throttle_keys[i].len, plan.throttle_keys[i].data);
    }
    return rig->answer;
}

const char *script_rig_fail(struct script_rig *rig)
{
    return script_rig_fail_with(rig, 3, "no way");
}

const char *script_rig_fail_with(struct script_rig *rig, uint32_t attempts, const char *error)
{
    struct fila_message_fields message = MESSAGE;
    enum fq_failure decision;
    message.attempt_count = attempts;
    decision = rig->hooks.on_failure(rig->hooks.user, rig->scripts, &message, fila_view_of(error));
    return decision == FQ_FAILURE_DEAD_LETTER ? "dlq" : "retry";
}
