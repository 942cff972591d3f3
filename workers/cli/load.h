/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A config file and what overrides it, for the verbs that are about the config itself. Thread:
 * main.
 */
#ifndef FW_CLI_LOAD_H
#define FW_CLI_LOAD_H

#include "config/config.h"

#include <getopt.h>

struct fw_cli_source {
    const char *path; /* --config; NULL = looked for */
    struct fw_config_overrides overrides;
    const char **sets; /* what overrides.sets points to: room for one a word of the command line */
};

enum {
    FW_OPT_LOAD_CONFIG = 900,
    FW_OPT_LOAD_BROKER,
    FW_OPT_LOAD_SET,
    FW_OPT_LOAD_LEVEL,
    FW_OPT_LOAD_FORMAT
};

#define FW_CLI_LOAD_OPTIONS                                        \
    {"config", required_argument, NULL, FW_OPT_LOAD_CONFIG},       \
        {"broker", required_argument, NULL, FW_OPT_LOAD_BROKER},   \
        {"set", required_argument, NULL, FW_OPT_LOAD_SET},         \
        {"log-level", required_argument, NULL, FW_OPT_LOAD_LEVEL}, \
    {                                                              \
        "log-format", required_argument, NULL, FW_OPT_LOAD_FORMAT  \
    }

#define FW_CLI_LOAD_HELP                                                                          \
    "  --config FILE      default: $FILA_WORKER_CONFIG, ./fila-worker.cfg, "                      \
    "/etc/fila-worker/fila-worker.cfg\n"                                                          \
    "  --set KEY=VALUE    instead of the file's, e.g. --set http.listen=:9090; may be repeated\n" \
    "  --broker URL, --log-level LEVEL, --log-format FORM   short for --set broker=URL, ...\n"

/* False without memory. Undone by fw_cli_source_fini. */
FILA_NODISCARD bool fw_cli_source_init(struct fw_cli_source *source, int argc);
void fw_cli_source_fini(struct fw_cli_source *source);
/* True when `option` was one of them, taken from optarg. */
bool fw_cli_source_option(struct fw_cli_source *source, int option);
/* fw_config_load of it. */
FILA_NODISCARD bool fw_cli_source_load(
    const struct fw_cli_source *source,
    struct fw_config **ret_config,
    struct fw_diagnostics *ret_diagnostics);

#endif
