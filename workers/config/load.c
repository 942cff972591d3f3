/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"
#include "wire/codec.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_HERE   "./fila-worker.cfg"
#define DEFAULT_SYSTEM "/etc/fila-worker/fila-worker.cfg"
#define MAX_INCLUDED   1000

const char *fw_config_find(const char *given)
{
    const char *named = getenv("FILA_WORKER_CONFIG"); /* NOLINT(concurrency-mt-unsafe): at start */
    if (given) {
        return given;
    }
    if (named && *named) {
        return named;
    }
    if (access(DEFAULT_HERE, F_OK) == 0) {
        return DEFAULT_HERE;
    }
    return access(DEFAULT_SYSTEM, F_OK) == 0 ? DEFAULT_SYSTEM : NULL;
}

/* ---- One file ---- */

static bool check_text(struct fw_source *source, struct fw_report *report)
{
    const unsigned char *s = (const unsigned char *)source->text;
    struct fw_where top = {.name = source->path, .at = {1, 0}};
    if (source->len >= 3 && s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf) {
        fw_report_error(
            report, top, "",
            "the file starts with a byte-order mark: save it as UTF-8 without one (BOM)");
        return false;
    }
    if (source->len >= 2 && ((s[0] == 0xff && s[1] == 0xfe) || (s[0] == 0xfe && s[1] == 0xff))) {
        fw_report_error(report, top, "", "the file is UTF-16: save it as UTF-8");
        return false;
    }
    unsigned line = 1;
    for (const char *at = source->text; *at; line++) {
        size_t len = strcspn(at, "\n");
        if (!fila_utf8_valid(at, len)) {
            fw_report_error(
                report, (struct fw_where){.name = source->path, .at = {line, 0}}, "",
                "this line is not UTF-8");
            return false;
        }
        at += len + (at[len] == '\n');
    }
    return true;
}

void fw_load_file(struct fw_loader *loader, const char *path, bool is_main)
{
    struct fw_arena *scratch = &loader->scratch;
    struct fw_source *source = fw_arena_alloc(scratch, 1, sizeof *source);
    char error[FW_FILE_ERROR_SIZE];
    size_t len = 0;
    const char *text = fw_read_file(scratch, path, &len, error);
    if (!source || scratch->failed) {
        return;
    }
    if (!text) {
        fw_report_error(
            loader->report, (struct fw_where){.name = path}, "", "cannot read it: %s", error);
        return;
    }
    *source = (struct fw_source){loader->report->sources, path, text, len, NULL, 0};
    loader->report->sources = source;
    if (!check_text(source, loader->report)) {
        return;
    }
    source->text = fw_arena_print(scratch, "%s\n", text); /* the last line needs its end */
    source->len = len + 1;
    if (!scratch->failed && fw_syntax_check(source, scratch, loader->report)) {
        fw_tree_read(loader, source, is_main);
    }
    loader->source = NULL;
}

/* ---- Includes ---- */

static bool is_same_file(const char *a, const char *b)
{
    struct stat x;
    struct stat y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void load_matches(struct fw_loader *loader, const glob_t *matches)
{
    for (size_t i = 0; i < matches->gl_pathc; i++) {
        if (is_same_file(matches->gl_pathv[i], loader->config->file)) {
            fw_report_warning(
                loader->report, loader->include_where, "include",
                "the pattern matches this file itself, which is left out");
            continue;
        }
        const char *path = matches->gl_pathv[i];
        fw_load_file(loader, fw_arena_copy(loader->arena, path, strlen(path)), false);
    }
}

/* A folder that is not there is no match; one that cannot be read is trouble. */
static int is_trouble(const char *path, int error)
{
    (void)path;
    return error != ENOENT && error != ENOTDIR;
}

static void load_pattern(struct fw_loader *loader, const char *pattern)
{
    glob_t matches = {0};
    const char *path = fw_relative_path(&loader->report->arena, loader->config->file, pattern);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): unsafe only against changes of the environment */
    int result = glob(path, 0, is_trouble, &matches);
    if (result == GLOB_NOMATCH && strpbrk(pattern, "*?[")) {
        globfree(&matches); /* an empty conf.d is fine */
        return;
    }
    if (result != 0) {
        fw_report_error(
            loader->report, loader->include_where, "include", "cannot read %s: %s", path,
            result == GLOB_NOMATCH   ? "there is no such file"
            : result == GLOB_NOSPACE ? "out of memory"
                                     : "a folder on the way cannot be read");
    } else if (matches.gl_pathc > MAX_INCLUDED) {
        fw_report_error(
            loader->report, loader->include_where, "include", "%s matches more than %d files", path,
            MAX_INCLUDED);
    } else {
        load_matches(loader, &matches);
    }
    globfree(&matches);
}

static void load_included(struct fw_loader *loader)
{
    for (size_t i = 0; i < loader->pattern_count; i++) {
        if (*loader->patterns[i]) {
            load_pattern(loader, loader->patterns[i]);
        }
    }
}

/* ---- All of it ---- */

/* An empty config with the root's defaults, or NULL. */
static struct fw_config *new_config(struct fw_loader *loader, const char *path)
{
    struct fw_config_memory *memory = calloc(1, sizeof *memory);
    if (!memory) {
        return NULL;
    }
    struct fw_config *config = fw_arena_alloc(&memory->arena, 1, sizeof *config);
    memory->root_origins =
        fw_arena_alloc(&memory->arena, fw_root_table.count, sizeof *memory->root_origins);
    if (!config || !memory->root_origins) {
        fw_arena_free(&memory->arena);
        free(memory);
        return NULL;
    }
    config->arena = memory;
    config->file = fw_arena_copy(&memory->arena, path, strlen(path));
    config->api_key = config->tls_ca = config->tls_cert = config->tls_key = "";
    config->state_dir = config->http_listen = config->ctl_socket = "";
    loader->config = config;
    loader->memory = memory;
    loader->arena = &memory->arena;
    loader->root = &fw_root_table;
    loader->root_object = config;
    loader->root_origins = memory->root_origins;
    for (size_t i = 0; i < fw_root_table.count; i++) {
        fw_value_set_default(loader, &fw_root_table.rows[i], config);
    }
    return config;
}

/* Variables that hold secrets whether or not the file refers to them. */
static void add_own_secrets(struct fw_loader *loader)
{
    static const char *const own[] = {
        "FILA_API_KEY", "FILA_API_KEY_FILE", "FILA_WORKER_API_KEY", "FILA_TLS_KEY",
        "FILA_WORKER_TLS_KEY"};
    const size_t count = sizeof own / sizeof *own;
    struct fw_config *config = loader->config;
    const char **all =
        fw_arena_alloc(loader->arena, config->secret_variable_count + count, sizeof *all);
    if (!all) {
        return;
    }
    memcpy(all, own, sizeof own);
    for (size_t i = 0; i < config->secret_variable_count; i++) {
        all[count + i] = config->secret_variables[i];
    }
    config->secret_variables = all;
    config->secret_variable_count += count;
}

static bool no_memory(struct fw_report *report, struct fw_diagnostics *ret_diagnostics)
{
    report->arena.failed = true;
    fw_report_finish(report, ret_diagnostics);
    return false;
}

bool fw_load_end(struct fw_loader *loader, struct fw_diagnostics *ret_diagnostics)
{
    bool failed = loader->arena->failed || loader->report->arena.failed || loader->scratch.failed;
    fw_arena_free(&loader->scratch);
    if (failed) {
        return no_memory(loader->report, ret_diagnostics);
    }
    fw_report_finish(loader->report, ret_diagnostics);
    return ret_diagnostics->errors == 0;
}

bool fw_config_load(
    const char *path,
    const struct fw_config_overrides *overrides,
    struct fw_config **ret_config,
    struct fw_diagnostics *ret_diagnostics)
{
    struct fw_report report = {.count = 0};
    struct fw_loader loader = {.report = &report, .overrides = overrides};
    if (!path) {
        fw_report_error(
            &report, (struct fw_where){.name = ""}, "",
            "no config file: give --config FILE or $FILA_WORKER_CONFIG, or have " DEFAULT_HERE
            " or " DEFAULT_SYSTEM);
        fw_report_finish(&report, ret_diagnostics);
        return false;
    }
    struct fw_config *config = new_config(&loader, path);
    if (!config) {
        return no_memory(&report, ret_diagnostics);
    }
    fw_load_file(&loader, config->file, true);
    load_included(&loader);
    fw_environment_apply(&loader);
    fw_overrides_apply(&loader);
    fw_validate(&loader);
    add_own_secrets(&loader);
    if (!fw_load_end(&loader, ret_diagnostics)) {
        fw_config_free(config);
        return false;
    }
    *ret_config = config;
    return true;
}

void fw_config_free(struct fw_config *config)
{
    if (config) {
        struct fw_config_memory *memory = config->arena;
        fw_arena_free(&memory->arena);
        free(memory);
    }
}
