/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"

#include <stdlib.h>
#include <unistd.h>

#define PREFIX "FILA_WORKER_"

static const struct fw_where ENVIRONMENT = {.name = "environment"};
static const struct fw_where COMMAND_LINE = {.name = "command line"};

/* Several URLs in one text have commas between them. */
static void set_urls(struct fw_loader *loader, const struct fw_target *target, const char *text)
{
    const char **urls = NULL;
    size_t count = 0;
    while (*text) {
        size_t len = strcspn(text, ",");
        const char *start = text + strspn(text, " \t");
        size_t blank = (size_t)(start - text) < len ? (size_t)(start - text) : len;
        size_t end = len;
        while (end > blank && (text[end - 1] == ' ' || text[end - 1] == '\t')) {
            end--;
        }
        const char **grown = fw_arena_grow(loader->arena, urls, count, sizeof *urls);
        if (!grown) {
            return;
        }
        urls = grown;
        urls[count++] = fw_arena_copy(loader->arena, text + blank, end - blank);
        text += len + (text[len] == ',');
    }
    fw_value_set_urls(loader, target, urls, count);
}

void fw_root_set(
    struct fw_loader *loader,
    const struct fw_property *row,
    const char *key,
    const char *value,
    struct fw_where where,
    struct fw_origin from)
{
    const struct fw_target target = {
        .row = row,
        .object = loader->root_object,
        .origin = &loader->root_origins[row - loader->root->rows],
        .key = key,
        .where = where,
        .from = from};
    if (row->kind == FW_KIND_URLS) {
        set_urls(loader, &target, value);
    } else {
        fw_value_set_text(loader, &target, value);
    }
}

static void set_from_variable(
    struct fw_loader *loader,
    const struct fw_property *row,
    const char *name,
    const char *value)
{
    const char *kept = fw_arena_copy(loader->arena, name, strlen(name));
    fw_root_set(
        loader, row, kept, value, ENVIRONMENT,
        (struct fw_origin){FW_ORIGIN_ENVIRONMENT, kept, {0, 0}});
}

/* An empty variable switches a text off, and is as good as none for all others. */
static const char *variable(const struct fw_property *row, const char *name)
{
    const char *value = getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody sets any */
    return value && (*value || row->kind == FW_KIND_TEXT) ? value : NULL;
}

void fw_root_set_from_variable(
    struct fw_loader *loader,
    const struct fw_property *row,
    const char *name)
{
    const char *value = variable(row, name);
    if (value) {
        set_from_variable(loader, row, name, value);
    }
}

static void apply_key_file(struct fw_loader *loader, const struct fw_property *row)
{
    static const char name[] = "FILA_API_KEY_FILE";
    char error[FW_FILE_ERROR_SIZE];
    size_t len = 0;
    const char *path = getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody sets any */
    if (!path || !*path) {
        return;
    }
    const char *text = fw_read_file(loader->arena, path, &len, error);
    if (!text) {
        fw_report_error(loader->report, ENVIRONMENT, name, "cannot read %s: %s", path, error);
        return;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    set_from_variable(loader, row, name, fw_arena_copy(loader->arena, text, len));
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_known(const char *name)
{
    char known[80];
    for (size_t i = 0; i < fw_root_table.count; i++) {
        fw_property_variable(&fw_root_table.rows[i], known, sizeof known);
        if (fw_property_has_variable(&fw_root_table.rows[i]) && strcmp(known, name) == 0) {
            return true;
        }
    }
    /* The first two are read elsewhere; Kubernetes sets the others in every pod beside a service
     * that is called fila-worker. */
    return strcmp(name, PREFIX "CONFIG") == 0 || strcmp(name, PREFIX "PLUGIN_PATH") == 0 ||
           strcmp(name, PREFIX "PORT") == 0 || starts_with(name, PREFIX "PORT_") ||
           starts_with(name, PREFIX "SERVICE_");
}

static void warn_of_unknown(struct fw_loader *loader)
{
    for (char **entry = environ; entry && *entry; entry++) {
        size_t len = strcspn(*entry, "=");
        if (strncmp(*entry, PREFIX, strlen(PREFIX)) != 0) {
            continue;
        }
        const char *name = fw_arena_copy(&loader->report->arena, *entry, len);
        char known[80];
        const char *nearest = NULL;
        for (size_t i = 0; i < fw_root_table.count; i++) {
            fw_property_variable(&fw_root_table.rows[i], known, sizeof known);
            if (fw_property_has_variable(&fw_root_table.rows[i]) && fw_is_near(name, known)) {
                nearest = fw_arena_copy(&loader->report->arena, known, strlen(known));
            }
        }
        if (!is_known(name)) {
            fw_report_warning(
                loader->report, ENVIRONMENT, name, "no key has this variable%s%s%s",
                nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
        }
    }
}

void fw_environment_apply(struct fw_loader *loader)
{
    loader->source = NULL;
    for (size_t i = 0; i < fw_root_table.count; i++) {
        const struct fw_property *row = &fw_root_table.rows[i];
        char name[80];
        if (!fw_property_has_variable(row)) {
            continue;
        }
        fw_property_variable(row, name, sizeof name);
        const char *value = variable(row, name);
        if (!value && row->variable) {
            (void)snprintf(name, sizeof name, "%s", row->variable);
            value = variable(row, name);
        }
        if (value) {
            set_from_variable(loader, row, name, value);
        } else if (row->flags & FW_PROPERTY_SECRET) {
            apply_key_file(loader, row);
        }
    }
    warn_of_unknown(loader);
}

static void apply_option(
    struct fw_loader *loader,
    const char *option,
    const char *path,
    const char *value)
{
    if (value) {
        fw_root_set(
            loader, fw_table_find(&fw_root_table, path), option, value, COMMAND_LINE,
            (struct fw_origin){FW_ORIGIN_COMMAND_LINE, option, {0, 0}});
    }
}

static void apply_set(struct fw_loader *loader, const char *word)
{
    const char *equals = strchr(word, '=');
    const char *path = fw_arena_copy(loader->arena, word, equals ? (size_t)(equals - word) : 0);
    const struct fw_property *row = fw_table_find(&fw_root_table, path);
    const char *key = fw_arena_print(&loader->report->arena, "--set %.200s", equals ? path : word);
    if (!equals || equals == word) {
        fw_report_error(loader->report, COMMAND_LINE, key, "write --set KEY=VALUE");
    } else if (row && fw_property_has_variable(row)) {
        fw_root_set(
            loader, row, key, equals + 1, COMMAND_LINE,
            (struct fw_origin){
                FW_ORIGIN_COMMAND_LINE, fw_arena_print(loader->arena, "--set %s", path), {0, 0}});
    } else if (row || strncmp(path, "queues", 6) == 0 || fw_table_find(&fw_queue_table, path)) {
        fw_report_error(loader->report, COMMAND_LINE, key, "can only be set in the file");
    } else {
        char nearest[FW_PATH_SIZE];
        bool is_near = fw_table_nearest(&fw_root_table, path, nearest);
        fw_report_error(
            loader->report, COMMAND_LINE, key, "unknown key%s%s%s",
            is_near ? "; did you mean \"" : "", nearest, is_near ? "\"?" : "");
    }
}

void fw_overrides_apply(struct fw_loader *loader)
{
    const struct fw_config_overrides *o = loader->overrides;
    if (!o) {
        return;
    }
    for (size_t i = 0; i < o->set_count; i++) {
        apply_set(loader, o->sets[i]);
    }
    apply_option(loader, "--broker", "broker", o->broker);
    apply_option(loader, "--log-level", "log.level", o->log_level);
    apply_option(loader, "--log-format", "log.format", o->log_format);
}
