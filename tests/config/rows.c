/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "rows.h"

#include <stdio.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    abort();
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) {
        fail(path);
    }
}

static void clean_environment(void)
{
    for (size_t i = 0; environ[i];) {
        char name[128];
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(environ[i], "="), environ[i]);
        if (strncmp(name, "FILA_", 5) == 0 || strncmp(name, "T_", 2) == 0 ||
            strcmp(name, "A") == 0 || strcmp(name, "STATE_DIRECTORY") == 0) {
            (void)unsetenv(name);
        } else {
            i++;
        }
    }
}

static void set_environment(const char *lines)
{
    while (lines && *lines) {
        char line[256];
        size_t len = strcspn(lines, "\n");
        (void)snprintf(line, sizeof line, "%.*s", (int)len, lines);
        char *equals = strchr(line, '=');
        *equals = '\0';
        (void)setenv(line, equals + 1, 1);
        lines += len + (lines[len] == '\n');
    }
}

static char *render(const struct fw_diagnostics *diagnostics)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; i < diagnostics->count; i++) {
        const struct fw_diagnostic *d = &diagnostics->items[i];
        if (strcmp(d->file, "main.cfg") != 0) {
            (void)fprintf(out, "%s:", d->file);
        }
        (void)fprintf(
            out, "%u:%u %s %s: %s\n", d->line, d->column, d->is_error ? "error" : "warning", d->key,
            d->text);
    }
    (void)fclose(out);
    return text;
}

char *config_row_load(const struct config_row *row, struct fw_config **ret_config)
{
    char folder[] = "/tmp/fila-config-XXXXXX";
    struct fw_diagnostics diagnostics;
    struct fw_config_overrides overrides = {.sets = row->sets};
    if (!mkdtemp(folder) || chdir(folder)) {
        fail(folder);
    }
    while (overrides.set_count < 4 && row->sets[overrides.set_count]) {
        overrides.set_count++;
    }
    write_file("main.cfg", row->text);
    if (row->other) {
        write_file(row->other, row->other_text);
    }
    clean_environment();
    set_environment(row->env);
    bool ok = fw_config_load("main.cfg", &overrides, ret_config, &diagnostics);
    char *said = render(&diagnostics);
    if (ok != (diagnostics.errors == 0)) {
        fail("the result and the number of errors differ");
    }
    fw_diagnostics_free(&diagnostics);
    (void)unlink("main.cfg");
    if (row->other) {
        (void)unlink(row->other);
    }
    if (chdir("/") || rmdir(folder)) {
        fail(folder);
    }
    return said;
}

struct fw_config *config_of(const char *text)
{
    const struct config_row row = {.text = text};
    struct fw_config *config = NULL;
    char *said = config_row_load(&row, &config);
    if (!config) {
        (void)fputs(said, stderr);
        abort();
    }
    free(said);
    return config;
}
