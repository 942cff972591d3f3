/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_DEPTH 8
#define MAX_TEXT  ((size_t)4 << 20)
#define FORMS     "${VAR}, ${VAR:-default}, ${VAR:?message}, ${file:PATH}; $$ is a dollar"

/* What children get although the config reads it too: they need it, and it is no secret. */
static const char *const COMMON[] = {"HOME",   "HOSTNAME", "LANG",  "LOGNAME",
                                     "PATH",   "PWD",      "SHELL", "TERM",
                                     "TMPDIR", "TZ",       "USER",  "STATE_DIRECTORY"};

struct expansion {
    struct fw_loader *loader;
    struct fw_where where;
    const char *key;
    bool from_file;
    char *text;
    size_t len;
    size_t size;
};

static void append(struct expansion *x, const char *data, size_t len)
{
    if (x->len + len + 1 > x->size) {
        size_t size = 2 * (x->len + len) + 64;
        char *larger = fw_arena_alloc(x->loader->arena, size, 1);
        if (!larger) {
            return;
        }
        if (x->text) {
            memcpy(larger, x->text, x->len);
        }
        x->text = larger;
        x->size = size;
    }
    if (!x->text) {
        return;
    }
    memcpy(x->text + x->len, data, len);
    x->len += len;
    x->text[x->len] = '\0';
}

static bool refuse(struct expansion *x, const char *text)
{
    fw_report_error(x->loader->report, x->where, x->key, "%s", text);
    return false;
}

static const char *print(
    struct expansion *x,
    const char *before,
    const char *name,
    const char *after)
{
    return fw_arena_print(&x->loader->report->arena, "%s%.200s%s", before, name, after);
}

static bool expand_file(struct expansion *x, const char *path, size_t path_len)
{
    struct fw_arena *arena = x->loader->arena;
    char error[FW_FILE_ERROR_SIZE];
    size_t len = 0;
    const char *name = fw_arena_copy(arena, path, path_len);
    if (x->loader->source) {
        name = fw_relative_path(arena, x->loader->source->path, name);
    }
    const char *text = fw_read_file(arena, name, &len, error);
    if (!text) {
        fw_report_error(x->loader->report, x->where, x->key, "cannot read %s: %s", name, error);
        return false;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    x->from_file = true;
    append(x, text, len);
    return true;
}

static void note_variable(struct fw_loader *loader, const char *name)
{
    struct fw_config *config = loader->config;
    for (size_t i = 0; i < sizeof COMMON / sizeof *COMMON; i++) {
        if (strcmp(COMMON[i], name) == 0) {
            return;
        }
    }
    for (size_t i = 0; i < config->secret_variable_count; i++) {
        if (strcmp(config->secret_variables[i], name) == 0) {
            return;
        }
    }
    const char **items = NULL;
    memcpy(&items, &config->secret_variables, sizeof items);
    items = fw_arena_grow(loader->arena, items, config->secret_variable_count, sizeof *items);
    if (items) {
        items[config->secret_variable_count++] = name;
        config->secret_variables = items;
    }
}

/* NOLINTBEGIN(misc-no-recursion): MAX_DEPTH bounds it */
static bool expand_into(struct expansion *x, const char *text, size_t len, unsigned depth);

/* ${...} with `body` between the braces. */
static bool expand_reference(struct expansion *x, const char *body, size_t len, unsigned depth)
{
    size_t name_len = 0;
    if (len > 5 && strncmp(body, "file:", 5) == 0) {
        return expand_file(x, body + 5, len - 5);
    }
    while (name_len < len &&
           (body[name_len] == '_' || (body[name_len] >= '0' && body[name_len] <= '9') ||
            ((body[name_len] | 32) >= 'a' && (body[name_len] | 32) <= 'z'))) {
        name_len++;
    }
    const char *rest = body + name_len;
    size_t rest_len = len - name_len;
    char form = '\0';
    if (rest_len >= 2 && rest[0] == ':') {
        form = rest[1];
    }
    if (name_len == 0 || (*body >= '0' && *body <= '9') ||
        (rest_len > 0 && form != '-' && form != '?')) {
        const char *all = fw_arena_copy(x->loader->arena, body, len);
        return refuse(x, print(x, "${", all, "} is not understood: " FORMS));
    }
    const char *name = fw_arena_copy(x->loader->arena, body, name_len);
    const char *value = getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody sets any */
    if (*name && x->loader->source) {
        note_variable(x->loader, name);
    }
    if (value && (*value || form == '\0')) {
        append(x, value, strlen(value));
        return true;
    }
    if (form == '-') {
        return expand_into(x, rest + 2, rest_len - 2, depth + 1);
    }
    if (form == '?') {
        const char *message = fw_arena_copy(x->loader->arena, rest + 2, rest_len - 2);
        return refuse(x, print(x, print(x, "", name, ": "), *message ? message : "is not set", ""));
    }
    return refuse(
        x, fw_arena_print(
               &x->loader->report->arena,
               "the environment variable %.200s is not set; ${%.200s:-} would be empty then, and "
               "$${%.200s} is no reference",
               name, name, name));
}

/* Length up to the brace that closes a reference, or `len`. */
static size_t reference_len(const char *text, size_t len)
{
    unsigned depth = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '$' && i + 1 < len && text[i + 1] == '{') {
            depth++;
        } else if (text[i] == '}' && depth-- == 0) {
            return i;
        }
    }
    return len;
}

static bool expand_into(struct expansion *x, const char *text, size_t len, unsigned depth)
{
    if (depth > MAX_DEPTH) {
        return refuse(x, "more than 8 references inside each other");
    }
    for (size_t i = 0; i < len;) {
        const char *dollar = memchr(text + i, '$', len - i);
        size_t plain = dollar ? (size_t)(dollar - text) - i : len - i;
        append(x, text + i, plain);
        i += plain;
        if (i == len) {
            break;
        }
        if (i + 1 == len || text[i + 1] != '{') {
            append(x, "$", 1);
            i += i + 1 < len && text[i + 1] == '$' ? 2 : 1;
            continue;
        }
        size_t body = reference_len(text + i + 2, len - i - 2);
        if (body == len - i - 2) {
            return refuse(x, "${ without its }: " FORMS);
        }
        if (!expand_reference(x, text + i + 2, body, depth)) {
            return false;
        }
        if (x->len > MAX_TEXT) {
            return refuse(x, "the text would be larger than 4 MiB");
        }
        i += body + 3;
    }
    return true;
}

/* NOLINTEND(misc-no-recursion) */

bool fw_expand(
    struct fw_loader *loader,
    struct fw_where where,
    const char *key,
    const char *text,
    bool *ret_from_file,
    const char **ret_text)
{
    struct expansion x = {.loader = loader, .where = where, .key = key};
    if (!strchr(text, '$')) {
        *ret_text = text;
        return true;
    }
    if (!expand_into(&x, text, strlen(text), 0)) {
        return false;
    }
    if (ret_from_file) {
        *ret_from_file = x.from_file;
    }
    *ret_text = x.text ? x.text : "";
    return true;
}
