/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * How the verbs that talk to a broker find it and its key: --broker, else $FILA_WORKER_BROKER, else
 * the config file, else grpc://localhost:5555; of several with commas between them the first that
 * answers. The key is $FILA_WORKER_API_KEY, $FILA_API_KEY, what is in the file that
 * $FILA_API_KEY_FILE names, or the config's. Thread: main.
 */
#ifndef FW_CLI_CONNECT_H
#define FW_CLI_CONNECT_H

#include "fila/client.h"

#include <getopt.h>
#include <stdio.h>

struct fw_cli_target {
    const char *broker; /* --broker, NULL = not given */
    const char *config; /* --config */
};

/* The two options for a verb's table; their `val` is below, taken by fw_cli_target_option. */
enum {
    FW_OPT_BROKER = 1000,
    FW_OPT_CONFIG,
    FW_OPT_JSON,
    FW_OPT_HELP,
    FW_OPT_FIRST_OWN = 1100
};

#define FW_CLI_TARGET_OPTIONS                            \
    {"broker", required_argument, NULL, FW_OPT_BROKER},  \
    {                                                    \
        "config", required_argument, NULL, FW_OPT_CONFIG \
    }

#define FW_CLI_TARGET_HELP                                                                                    \
    "  --broker URL    the broker (default: $FILA_WORKER_BROKER, the config file's, grpc://localhost:5555)\n" \
    "  --config FILE   a config file to take broker and key from\n"

/* True when `option` was one of them, taken from optarg. */
bool fw_cli_target_option(struct fw_cli_target *target, int option);

/* Opens a client. On failure says why and returns the exit status to end with; 0 is fine. */
int fw_cli_connect(const char *verb, const struct fw_cli_target *target, fila_client **ret_client);

/* Says what a failed call met, in the user's words, and returns the exit status for it: 69 when no
 * broker answers, else 1. `what` is like "queue \"orders\"". */
int fw_cli_call_failed(const char *verb, const char *what, const fila_error *error);

/* Prints a view as it is; bytes that are not printable as \xNN. */
void fw_cli_print_text(FILE *out, fila_view text);

#endif
