/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"

#include <stdio.h>

static const char *takes(struct fw_arena *arena, const struct fw_property *row)
{
    switch (row->kind) {
    case FW_KIND_TEXT:
        return "text";
    case FW_KIND_COUNT:
        return fw_arena_print(arena, "whole number, %s", fw_value_range(arena, row));
    case FW_KIND_DURATION:
        return fw_arena_print(arena, "duration, %s", fw_value_range(arena, row));
    case FW_KIND_SIZE:
        return fw_arena_print(arena, "size, %s", fw_value_range(arena, row));
    case FW_KIND_REAL:
        return fw_arena_print(arena, "number, %s", fw_value_range(arena, row));
    case FW_KIND_CHOICE:
    case FW_KIND_LANE:
        return fw_value_expected(arena, row);
    case FW_KIND_URLS:
        return "URL, or a list of URLs";
    case FW_KIND_FILES:
        return "pattern, or a list of patterns";
    case FW_KIND_GROUPS:
        return "list of groups";
    case FW_KIND_HANDLER:
        return "group";
    }
    return "";
}

static const char *default_of(struct fw_arena *arena, const struct fw_property *row)
{
    if (row->flags & FW_PROPERTY_REQUIRED) {
        return "required";
    }
    if (row->flags & FW_PROPERTY_COMPUTED) {
        return row->fallback;
    }
    if (row->kind == FW_KIND_COUNT || row->kind == FW_KIND_REAL) {
        return fw_arena_print(arena, "`%s`", row->fallback);
    }
    return fw_arena_print(arena, "`\"%s\"`", row->fallback);
}

static void print_row(
    FILE *out,
    struct fw_arena *arena,
    const struct fw_property *row,
    bool is_root)
{
    char variable[80] = "";
    (void)fprintf(
        out, "| `%s` | %s | %s | %s%s", row->path, takes(arena, row), default_of(arena, row),
        row->help, row->flags & FW_PROPERTY_PLANNED ? " **Not in this version yet.**" : "");
    if (is_root && fw_property_has_variable(row)) {
        fw_property_variable(row, variable, sizeof variable);
        (void)fprintf(out, " `%s`", variable);
        if (row->variable) {
            (void)fprintf(out, ", `%s`", row->variable);
        }
    }
    (void)fputs(" |\n", out);
}

static const char *const INTRODUCTION =
    "# Config reference\n"
    "\n"
    "Generated from the property table of the program (`ninja reference`); do not edit.\n"
    "\n"
    "The file is libconfig: `name = value;`, groups `{ }`, lists `( )` with commas between the items "
    "and none after the\n"
    "last, comments `#`, `//`, `/* */`. The worker reads the file of `--config`, else of "
    "`$FILA_WORKER_CONFIG`, else\n"
    "`./fila-worker.cfg`, else `/etc/fila-worker/fila-worker.cfg`. `fila-worker check` says what is "
    "wrong with it, `fila-worker\n"
    "explain` what it was understood to say.\n"
    "\n"
    "- **Durations** are written with `ms`, `s`, `min` or `h`, sizes with `B`, `KiB`, `MiB` or `GiB`, "
    "in quotes: `\"30s\"`,\n"
    "  `\"1.5MiB\"`. A number without a unit is refused.\n"
    "- **References** in any text: `${VAR}` (must be set), `${VAR:-default}`, `${VAR:?message}`, "
    "`${file:PATH}` (without the\n"
    "  newlines at its end; relative to the config file). `$$` is a dollar. A number cannot hold one, "
    "so every key also takes\n"
    "  a text that reads as its value: `max_running = \"${MAX:-0}\"`.\n"
    "- **Order**: command line (`--set KEY=VALUE`), environment, file, default. The variables of a key "
    "stand at the end of its\n"
    "  meaning; one that is empty sets a text to nothing and leaves everything else alone. A list of "
    "brokers is written with\n"
    "  commas there.\n"
    "- **Secrets** are masked wherever config is printed. Variables that the file refers to are not "
    "passed on to handler\n"
    "  commands, common ones such as `PATH` and `HOME` excepted.\n"
    "\n";

bool fw_config_reference(FILE *out)
{
    struct fw_arena arena = {NULL, false};
    (void)fputs(INTRODUCTION, out);
    (void)fputs("## The file\n\n| key | takes | default | meaning |\n|---|---|---|---|\n", out);
    for (size_t i = 0; i < fw_root_table.count; i++) {
        print_row(out, &arena, &fw_root_table.rows[i], true);
    }
    (void)fputs(
        "\n## An entry of `queues`\n\n| key | takes | default | meaning |\n|---|---|---|---|\n",
        out);
    for (size_t i = 0; i < fw_queue_table.count; i++) {
        print_row(out, &arena, &fw_queue_table.rows[i], false);
    }
    (void)fputs(
        "\n## The file of `fila-worker broker`\n\n"
        "Read with `--config FILE`; an option of the same name comes before it.\n\n"
        "| key | takes | default | meaning |\n|---|---|---|---|\n",
        out);
    for (size_t i = 0; i < fw_broker_table.count; i++) {
        print_row(out, &arena, &fw_broker_table.rows[i], false);
    }
    bool ok = !arena.failed;
    fw_arena_free(&arena);
    return ok;
}
