/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Where shipped handlers are. Internal to workers/plugin; any thread.
 */
#ifndef FW_SEARCH_H
#define FW_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

/* The path of NAME.so in the first folder of the search path that has it. */
bool fw_plugin_search(const char *name, char *ret_path, size_t size);

#endif
