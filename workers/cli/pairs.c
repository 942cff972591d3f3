/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

bool fw_cli_pair_split(char *text, struct fw_cli_pair *ret_pair)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        return false;
    }
    *equals = '\0';
    *ret_pair = (struct fw_cli_pair){text, equals + 1};
    return true;
}

static bool is_list(const fila_plugin *table, const char *name)
{
    for (uint32_t i = 0; i < table->option_count; i++) {
        if (!strcmp(table->options[i].name, name)) {
            return table->options[i].type == FILA_OPTION_STRINGS;
        }
    }
    return false;
}

struct options {
    struct fw_handler_option *items;
    const char **values;
    size_t count;
};

/* Words of the same list become one option. */
static bool group_options(
    const struct fw_cli_pair *pairs,
    size_t pair_count,
    const fila_plugin *table,
    struct options *ret_options)
{
    size_t n = pair_count + 1;
    struct options options = {calloc(n, sizeof *options.items), calloc(n, sizeof(char *)), 0};
    size_t used = 0;
    *ret_options = options;
    if (!options.items || !options.values) {
        return false;
    }
    for (size_t i = 0; i < pair_count; i++) {
        const struct fw_cli_pair *pair = &pairs[i];
        bool list = is_list(table, pair->key);
        bool seen = false;
        for (size_t j = 0; list && j < options.count; j++) {
            seen |= !strcmp(options.items[j].name, pair->key);
        }
        if (seen) {
            continue;
        }
        struct fw_handler_option *item = &options.items[options.count++];
        *item = (struct fw_handler_option){
            .name = pair->key,
            .values = options.values + used,
            .is_list = list,
            .is_string = true,
            .file = "",
        };
        for (size_t j = i; j < (list ? pair_count : i + 1); j++) {
            if (!strcmp(pairs[j].key, pair->key)) {
                options.values[used++] = pairs[j].value;
                item->count++;
            }
        }
    }
    ret_options->count = options.count;
    return true;
}

fila_status fw_cli_pairs_bind(
    const struct fw_cli_pair *pairs,
    size_t pair_count,
    const struct fw_plugin_file *file,
    struct fw_plugin **ret_plugin,
    struct fw_plugin_problems *ret_problems)
{
    struct options options;
    fila_status status = FILA_NO_MEMORY;
    *ret_problems = (struct fw_plugin_problems){0};
    if (group_options(pairs, pair_count, fw_plugin_table(file), &options)) {
        const struct fw_plugin_binding binding = {
            .options = options.items, .option_count = options.count};
        status = fw_plugin_bind(file, &binding, ret_plugin, ret_problems);
    }
    free(options.items);
    free(options.values);
    return status;
}
