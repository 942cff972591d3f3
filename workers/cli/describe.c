/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "describe.h"

#include "plugin/loader.h"

#include <stdio.h>

static json_t *option_json(const fila_option *option)
{
    char range[128];
    fw_option_range(option, range, sizeof range);
    return json_pack(
        "{s:s,s:s,s:b,s:b,s:s?,s:s?,s:s}", "name", option->name, "type",
        fw_option_type_name(option->type), "required", (option->flags & FILA_OPTION_REQUIRED) != 0,
        "secret", (option->flags & FILA_OPTION_SECRET) != 0, "default", option->fallback, "range",
        *range ? range : NULL, "help", option->help ? option->help : "");
}

json_t *fw_cli_options_json(const fila_plugin *table)
{
    json_t *options = json_array();
    for (uint32_t i = 0; i < table->option_count; i++) {
        (void)json_array_append_new(options, option_json(&table->options[i]));
    }
    return options;
}

/* What stands in the column of defaults. */
static const char *default_text(const fila_option *option, char *text, size_t size)
{
    bool quoted = option->type == FILA_OPTION_STRING || option->type == FILA_OPTION_DURATION ||
                  option->type == FILA_OPTION_SIZE;
    if (option->flags & FILA_OPTION_REQUIRED) {
        return "(required)";
    }
    if (!option->fallback) {
        return "(none)";
    }
    if (option->type == FILA_OPTION_STRINGS && !*option->fallback) {
        return "[]";
    }
    (void)snprintf(text, size, quoted ? "\"%s\"" : "%s", option->fallback);
    return text;
}

static void show_option(const fila_option *option)
{
    char text[128];
    char range[128];
    fw_option_range(option, range, sizeof range);
    (void)printf(
        "  %-20s %-9s %-12s %s%s%s%s\n", option->name, fw_option_type_name(option->type),
        default_text(option, text, sizeof text), option->help ? option->help : "",
        *range ? " (" : "", range, *range ? ")" : "");
}

void fw_cli_options_print(const fila_plugin *table)
{
    if (table->option_count) {
        (void)printf("\n  %-20s %-9s %-12s\n", "OPTION", "TYPE", "DEFAULT");
    }
    for (uint32_t i = 0; i < table->option_count; i++) {
        show_option(&table->options[i]);
    }
}
