/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin's table of options: is it sound, and what is a value that a user wrote. Internal to
 * workers/plugin; any thread.
 */
#ifndef FW_OPTIONS_H
#define FW_OPTIONS_H

#include "config/arena.h"
#include "config/config.h"
#include "fila/plugin.h"

/* Whether row `index` of a plugin's table is sound, its default included. False: `ret_text` says
 * why. */
bool fw_option_check(const fila_plugin *table, uint32_t index, char *ret_text, size_t size);

/* What `given` means for that row; texts are copied into `arena`. False: *ret_why (of the arena)
 * says what is wrong with the value, and what is taken instead. */
bool fw_option_parse(
    const fila_option *option,
    const struct fw_handler_option *given,
    struct fw_arena *arena,
    fila_option_value *ret_value,
    const char **ret_why);

/* The default, or a value of type 0. The row has passed fw_option_check. */
fila_option_value fw_option_default(const fila_option *option, struct fw_arena *arena);

#endif
