/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin.h"

#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char HELP[] =
    "usage: fila-worker plugin info FILE.so [--json]\n"
    "       fila-worker plugin verify FILE.so [--option K=V]... [--json]\n"
    "\n"
    "  info     what a plugin says of itself: descriptor, options, symbols, libraries; nothing of it is run but its\n"
    "           constructors\n"
    "  verify   tries it out, in processes of its own, and says what a worker would not like\n"
    "\n"
    "fila-worker plugin info --help and fila-worker plugin verify --help tell more.\n";

int fw_cli_plugin(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "info")) {
        return fw_cli_plugin_info(argc - 1, argv + 1);
    }
    if (!strcmp(what, "verify")) {
        return fw_cli_plugin_verify(argc - 1, argv + 1);
    }
    if (!strcmp(what, "--help") || !strcmp(what, "-h")) {
        (void)fputs(HELP, stdout);
        return fw_cli_finish("plugin", FW_EXIT_OK);
    }
    return fw_cli_usage("plugin", "it takes info or verify, and a file");
}
