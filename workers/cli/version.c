/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "fila/plugin.h"

#include <stdio.h>

int fw_cli_version(int argc, char **argv)
{
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json) {
        return fw_cli_usage(
            "version", "unexpected argument \"%s\"; the one there is: --json", argv[1]);
    }
    (void)printf(
        json ? "{\"version\":\"%s\",\"plugin_abi\":\"%u.%u\"}\n"
             : "fila-worker %s (plugin ABI %u.%u)\n",
        FILA_WORKER_VERSION, FILA_PLUGIN_ABI_MAJOR, FILA_PLUGIN_ABI_MINOR);
    return fw_cli_finish("version", FW_EXIT_OK);
}
