/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Options of a handler that are given on the command line, KEY=VALUE each. Thread: main.
 */
#ifndef FW_CLI_PAIRS_H
#define FW_CLI_PAIRS_H

#include "plugin/loader.h"

struct fw_cli_pair {
    const char *key; /* terminated: cut out of argv */
    const char *value;
};

/* Cuts "K=V" in two. False: it is none. */
bool fw_cli_pair_split(char *text, struct fw_cli_pair *ret_pair);

/* Pairs as options: the words of a list are one option. */
struct fw_cli_options {
    struct fw_handler_option *items;
    const char **values;
    size_t count;
};

/* Groups pairs by the plugin's table; with none (NULL), a key that is there more than once is a
 * list. False: out of memory. Freed with fw_cli_options_free in any case; the pairs outlive it. */
bool fw_cli_pairs_group(
    const struct fw_cli_pair *pairs,
    size_t pair_count,
    const fila_plugin *table,
    struct fw_cli_options *ret_options);
void fw_cli_options_free(struct fw_cli_options *options);

/* fw_plugin_bind of them; the words of a list become one option. *ret_problems is to be freed in
 * any case. */
FILA_NODISCARD fila_status fw_cli_pairs_bind(
    const struct fw_cli_pair *pairs,
    size_t pair_count,
    const struct fw_plugin_file *file,
    struct fw_plugin **ret_plugin,
    struct fw_plugin_problems *ret_problems);

#endif
