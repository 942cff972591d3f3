/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Making a config: what the files of workers/config share while one is being loaded. Internal.
 *
 * Operation. fw_config_load (load.c) sets the defaults of the root, reads the main file and what it
 * includes (tree.c walks libconfig's tree, value.c turns what is written into fields of the table),
 * applies environment and command line, then checks what keys must be among each other
 * (validate.c). Each field's origin is noted for `explain`. All errors go to the report; nothing
 * stops at the first. A failed allocation shows in the arenas' `failed`.
 */
#ifndef FW_CONFIG_LOADER_H
#define FW_CONFIG_LOADER_H

#include "source.h"
#include "table.h"

enum fw_origin_kind {
    FW_ORIGIN_DEFAULT,
    FW_ORIGIN_FILE,
    FW_ORIGIN_ENVIRONMENT,
    FW_ORIGIN_COMMAND_LINE
};

struct fw_origin {
    enum fw_origin_kind kind;
    const char *name; /* file, variable or option; NULL for a default */
    struct fw_position at;
};

/* What fw_config.arena points to. */
struct fw_config_memory {
    struct fw_arena arena;
    struct fw_origin *root_origins;   /* by row of fw_root_table */
    struct fw_origin **queue_origins; /* by queue; by row of fw_queue_table */
};

struct fw_loader {
    const struct fw_table
        *root; /* of the top of the main file: what it is read into, and from where */
    void *root_object;
    struct fw_origin *root_origins; /* by row of `root` */
    struct fw_config *config;
    struct fw_config_memory *memory;
    struct fw_arena *arena; /* of the config */
    struct fw_report *report;
    struct fw_arena scratch;        /* the files' texts, until all is said about them */
    const struct fw_source *source; /* the file being read, NULL after the files */
    const struct fw_config_overrides *overrides;
    const char **patterns; /* of `include` */
    size_t pattern_count;
    struct fw_where include_where;
};

/* One field to be set. */
struct fw_target {
    const struct fw_property *row;
    void *object; /* struct fw_config or struct fw_queue_config */
    struct fw_origin *origin;
    const char *key; /* as diagnostics name it: "queues[0].timeout" */
    struct fw_where where;
    struct fw_origin from;
};

/* value.c: checks and stores; reports and leaves the field alone when the value will not do. */
void fw_value_set_text(struct fw_loader *loader, const struct fw_target *target, const char *text);
void fw_value_set_urls(
    struct fw_loader *loader,
    const struct fw_target *target,
    const char *const *urls,
    size_t count);
void fw_value_set_integer(struct fw_loader *loader, const struct fw_target *target, int64_t value);
void fw_value_set_real(struct fw_loader *loader, const struct fw_target *target, double value);
/* The default, and its origin. */
void fw_value_set_default(struct fw_loader *loader, const struct fw_property *row, void *object);
/* "text in quotes", "a duration such as \"30s\"": what the row takes. */
const char *fw_value_expected(struct fw_arena *arena, const struct fw_property *row);
/* Bounds as written in the file: "100ms to 168h"; "" without. */
const char *fw_value_range(struct fw_arena *arena, const struct fw_property *row);
/* The field as text that would be read back the same. URLs and lanes included; NULL without memory.
 */
const char *fw_value_text(
    struct fw_arena *arena,
    const struct fw_property *row,
    const void *object);

/* expand.c. Below it, file.c.
 * ${VAR}, ${VAR:-default}, ${VAR:?message}, ${file:PATH}, $$. False: reported. */
bool fw_expand(
    struct fw_loader *loader,
    struct fw_where where,
    const char *key,
    const char *text,
    bool *ret_from_file, /* some of it came from ${file:PATH}; may be NULL */
    const char **ret_text);
/* A file's whole text, terminated. NULL: `reterr` says why (folder, size, zero byte, errno). */
#define FW_FILE_LIMIT      ((size_t)1 << 20)
#define FW_FILE_ERROR_SIZE 128
const char *fw_read_file(
    struct fw_arena *arena,
    const char *path,
    size_t *ret_len,
    char reterr[FW_FILE_ERROR_SIZE]);
/* `path` as seen from the folder of the file `from`. */
const char *fw_relative_path(struct fw_arena *arena, const char *from, const char *path);

/* load.c: reads, checks and takes over one file. `path` lives as long as the config. */
void fw_load_file(struct fw_loader *loader, const char *path, bool is_main);
/* What every load ends with: hands over the report; false if there are errors, or no memory. */
bool fw_load_end(struct fw_loader *loader, struct fw_diagnostics *ret_diagnostics);

/* environment.c: sets a key of the root from outside of the files. */
void fw_root_set(
    struct fw_loader *loader,
    const struct fw_property *row,
    const char *key,
    const char *value,
    struct fw_where where,
    struct fw_origin from);
/* The same from the environment: the variable's value, when it has one that counts. */
void fw_root_set_from_variable(
    struct fw_loader *loader,
    const struct fw_property *row,
    const char *name);

/* tree.c: reads one file's settings. `is_main`: all keys, else only `queues`. */
void fw_tree_read(struct fw_loader *loader, struct fw_source *source, bool is_main);

/* environment.c */
void fw_environment_apply(struct fw_loader *loader);
void fw_overrides_apply(struct fw_loader *loader);

/* validate.c: what keys must be among each other; fills in the defaults that depend on others. */
void fw_validate(struct fw_loader *loader);

#endif
