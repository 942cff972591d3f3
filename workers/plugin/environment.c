/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/environment.h"

#include <string.h>
#include <unistd.h>

static bool is_named(const char *variable, const char *name)
{
    size_t len = strlen(name);
    return !strncmp(variable, name, len) && variable[len] == '=';
}

static bool is_secret(const char *variable, const char *const *secrets, size_t count)
{
    static const char API_KEY[] = "FILA_API_KEY";
    if (!strncmp(variable, API_KEY, sizeof API_KEY - 1) ||
        is_named(variable, "FILA_WORKER_API_KEY") || is_named(variable, "FILA_TLS_KEY")) {
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (is_named(variable, secrets[i])) {
            return true;
        }
    }
    return false;
}

const char *const *fw_child_environment(
    struct fw_arena *arena,
    const char *const *secrets,
    size_t secret_count)
{
    size_t count = 0;
    while (environ && environ[count]) {
        count++;
    }
    const char **variables = fw_arena_alloc(arena, count + 1, sizeof *variables);
    size_t kept = 0;
    for (size_t i = 0; variables && i < count; i++) {
        if (!is_secret(environ[i], secrets, secret_count)) {
            variables[kept++] = fw_arena_copy(arena, environ[i], strlen(environ[i]));
        }
    }
    return variables;
}
