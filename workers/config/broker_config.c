/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "broker_config.h"

#include "base/clock.h"
#include "loader.h"

#include <stdlib.h>

#define KEY(m)    offsetof(struct fw_broker_config, m)
#define HOUR      (3600 * FILA_S)
#define MIB       (INT64_C(1024) * 1024)
#define DATA_FILE "broker.db"

static const struct fw_choice SYNCS[] = {{"full", 0}, {"normal", 1}, {NULL, 0}};

/* clang-format off */
static const struct fw_property ROWS[] = {
    {.path = "listen", .kind = FW_KIND_TEXT, .offset = KEY(listen), .fallback = "127.0.0.1:5555", .flags = FW_PROPERTY_NOT_EMPTY,
     .help = "Where clients reach it: `HOST:PORT` (port 0 takes a free one) or `unix:/path`. There is no TLS and no API key yet: "
             "leave it on this machine, or in a network that you trust."},
    {.path = "data", .kind = FW_KIND_TEXT, .offset = KEY(data), .fallback = "",
     .help = "The file that keeps queues, messages and leases (SQLite); empty = in memory. `FILA_DATA_DIR` sets it to `" DATA_FILE
             "` in that folder, which is made if need be."},
    {.path = "sync", .kind = FW_KIND_CHOICE, .offset = KEY(sync), .fallback = "full", .choices = SYNCS,
     .help = "What a confirmed call outlives, with `data`: `full` also a loss of power, `normal` (faster) the end of the process."},
    {.path = "quantum", .kind = FW_KIND_COUNT, .offset = KEY(quantum), .fallback = "1000", .min = 1, .max = 1000000000,
     .help = "Deliveries that a fairness key may make in a round, times its weight."},
    {.path = "idle_timeout", .kind = FW_KIND_DURATION, .offset = KEY(idle_timeout), .fallback = "100ms", .min = FILA_MS, .max = HOUR,
     .help = "Expired leases are taken back only when no call has come for this long, as a Fila server does it."},
    {.path = "command_capacity", .kind = FW_KIND_COUNT, .offset = KEY(command_capacity), .fallback = "10000", .min = 1,
     .max = 1000000, .help = "Calls that may wait at once; more are refused (8)."},
    {.path = "chaos", .kind = FW_KIND_TEXT, .offset = KEY(chaos), .fallback = "",
     .help = "Faults to make on purpose, for tests: see `fila-worker broker --help`."},
    {.path = "scripts.timeout", .kind = FW_KIND_DURATION, .offset = KEY(script_timeout), .fallback = "10ms", .min = FILA_MS,
     .max = 10 * FILA_S, .help = "Of one run of a queue's Lua script, at 10,000 instructions a millisecond."},
    {.path = "scripts.memory", .kind = FW_KIND_SIZE, .offset = KEY(script_memory), .fallback = "1MiB", .min = 65536, .max = 1024 * MIB,
     .help = "Of a queue's scripts."},
    {.path = "scripts.failures", .kind = FW_KIND_COUNT, .offset = KEY(script_failures), .fallback = "3", .min = 1, .max = 1000000,
     .help = "Failed runs in a row after which a queue goes without its scripts."},
    {.path = "scripts.cooldown", .kind = FW_KIND_DURATION, .offset = KEY(script_cooldown), .fallback = "10s", .max = 24 * HOUR,
     .help = "For how long."},
    {.path = "log.level", .kind = FW_KIND_CHOICE, .offset = KEY(log_level), .fallback = "info", .choices = fw_log_levels,
     .variable = "FILA_WORKER_LOG_LEVEL", .help = "The least important lines that are written, on standard error."},
    {.path = "log.format", .kind = FW_KIND_CHOICE, .offset = KEY(log_format), .fallback = "auto", .choices = fw_log_formats,
     .variable = "FILA_WORKER_LOG_FORMAT", .help = "`auto` = text on a terminal, JSON otherwise."},
};
/* clang-format on */

const struct fw_table fw_broker_table = {ROWS, sizeof ROWS / sizeof *ROWS};

/* What fw_broker_config.arena points to. */
struct broker_memory {
    struct fw_arena arena;
    struct fw_config secrets; /* notes which variables the file refers to */
};

static struct fw_broker_config *new_config(struct fw_loader *loader, const char *path)
{
    struct broker_memory *memory = calloc(1, sizeof *memory);
    struct fw_broker_config *config;
    if (!memory) {
        return NULL;
    }
    config = fw_arena_alloc(&memory->arena, 1, sizeof *config);
    loader->root_origins =
        fw_arena_alloc(&memory->arena, fw_broker_table.count, sizeof *loader->root_origins);
    if (!config || !loader->root_origins) {
        fw_arena_free(&memory->arena);
        free(memory);
        return NULL;
    }
    config->arena = memory;
    memory->secrets.file = path ? path : "";
    loader->config = &memory->secrets;
    loader->arena = &memory->arena;
    loader->root = &fw_broker_table;
    loader->root_object = config;
    config->listen = config->data = config->chaos = "";
    for (size_t i = 0; i < fw_broker_table.count; i++) {
        fw_value_set_default(loader, &fw_broker_table.rows[i], config);
    }
    return config;
}

static void apply_data_dir(struct fw_loader *loader)
{
    static const char name[] = "FILA_DATA_DIR";
    const char *folder = getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody sets any */
    if (folder && *folder) {
        const struct fw_where where = {.name = "environment"};
        const char *file = fw_arena_print(loader->arena, "%s/" DATA_FILE, folder);
        fw_root_set(
            loader, fw_table_find(&fw_broker_table, "data"), name, file, where,
            (struct fw_origin){FW_ORIGIN_ENVIRONMENT, name, {0, 0}});
    }
}

static void apply_overrides(struct fw_loader *loader, const struct fw_broker_source *source)
{
    const struct fw_where where = {.name = "command line"};
    for (size_t i = 0; i < source->override_count; i++) {
        const struct fw_broker_override *o = &source->overrides[i];
        fw_root_set(
            loader, fw_table_find(&fw_broker_table, o->path), o->option, o->value, where,
            (struct fw_origin){FW_ORIGIN_COMMAND_LINE, o->option, {0, 0}});
    }
}

/* Where a key's value came from. */
static struct fw_where place_of(const struct fw_loader *loader, const char *path)
{
    const struct fw_origin *origin =
        &loader->root_origins[fw_table_find(&fw_broker_table, path) - fw_broker_table.rows];
    if (origin->kind == FW_ORIGIN_FILE) {
        return (struct fw_where){.name = origin->name, .at = origin->at};
    }
    return (struct fw_where){
        .name = origin->kind == FW_ORIGIN_COMMAND_LINE ? "command line" : "environment"};
}

static void check_chaos(
    struct fw_loader *loader,
    const struct fw_broker_source *source,
    struct fw_broker_config *config)
{
    fila_error error = FILA_ERROR_INIT;
    struct fw_where where = place_of(loader, "chaos");
    config->chaos_is_option = strcmp(where.name, "command line") == 0;
    if (*config->chaos && source->check_chaos(config->chaos, NULL, &error) != FILA_OK) {
        fw_report_error(
            loader->report, where, config->chaos_is_option ? "--chaos" : "chaos", "%s", error.text);
    }
}

bool fw_broker_config_load(
    const struct fw_broker_source *source,
    struct fw_broker_config **ret_config,
    struct fw_diagnostics *ret_diagnostics)
{
    struct fw_report report = {.count = 0};
    struct fw_loader loader = {.report = &report};
    struct fw_broker_config *config = new_config(&loader, source->path);
    if (!config) {
        report.arena.failed = true;
        fw_report_finish(&report, ret_diagnostics);
        return false;
    }
    if (source->path) {
        fw_load_file(&loader, source->path, true);
    }
    apply_data_dir(&loader);
    fw_root_set_from_variable(
        &loader, fw_table_find(&fw_broker_table, "log.level"), "FILA_WORKER_LOG_LEVEL");
    fw_root_set_from_variable(
        &loader, fw_table_find(&fw_broker_table, "log.format"), "FILA_WORKER_LOG_FORMAT");
    apply_overrides(&loader, source);
    check_chaos(&loader, source, config);
    if (!fw_load_end(&loader, ret_diagnostics)) {
        fw_broker_config_free(config);
        return false;
    }
    *ret_config = config;
    return true;
}

void fw_broker_config_free(struct fw_broker_config *config)
{
    if (config) {
        struct broker_memory *memory = config->arena;
        fw_arena_free(&memory->arena);
        free(memory);
    }
}
