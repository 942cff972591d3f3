/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `plugin info` and `plugin verify`, a file each. Thread: main.
 */
#ifndef FW_CLI_PLUGIN_H
#define FW_CLI_PLUGIN_H

/* argv[0] is "info" or "verify". The exit status. */
int fw_cli_plugin_info(int argc, char **argv);
int fw_cli_plugin_verify(int argc, char **argv);

#endif
