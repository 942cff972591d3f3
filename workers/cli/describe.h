/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A handler's table of options, for people and for programs: `handlers NAME` and `plugin info`.
 * Thread: main.
 */
#ifndef FW_CLI_DESCRIBE_H
#define FW_CLI_DESCRIBE_H

#include "fila/plugin.h"

#include <jansson.h>

/* A heading and a line each, on standard output; nothing when there are none. */
void fw_cli_options_print(const fila_plugin *table);

/* An array of name, type, required, secret, default, range, help; the caller's. NULL without
 * memory. */
json_t *fw_cli_options_json(const fila_plugin *table);

#endif
