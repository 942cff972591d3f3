/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The verbs of `fila-worker VERB ...` (conventions.md, Command line), each in a file of its own,
 * and what they share. A verb gets argv as it is after the program's name: argv[0] is the verb, so
 * that getopt_long works as usual, and its options follow. It returns the exit status, prints
 * results on standard output and complaints on standard error, and answers `--help` itself
 * (standard output, status 0). Thread: main.
 */
#ifndef FW_CLI_H
#define FW_CLI_H

#include "exit.h"
#include "fila/client.h"

int fw_cli_run(int argc, char **argv);
int fw_cli_check(int argc, char **argv);
int fw_cli_explain(int argc, char **argv);
int fw_cli_handlers(int argc, char **argv);
int fw_cli_broker(int argc, char **argv);
int fw_cli_enqueue(int argc, char **argv);
int fw_cli_queue(int argc, char **argv);
int fw_cli_ctl(int argc, char **argv);
int fw_cli_dlq(int argc, char **argv);
int fw_cli_new(int argc, char **argv);
int fw_cli_plugin(int argc, char **argv);
int fw_cli_try(int argc, char **argv);
int fw_cli_healthcheck(int argc, char **argv);
int fw_cli_version(int argc, char **argv);

/* "fila-worker VERB: TEXT" and where to find help, on standard error. Returns FW_EXIT_USAGE. */
FILA_PRINTF(2, 3) int fw_cli_usage(const char *verb, const char *format, ...);

/* "fila-worker VERB: TEXT" on standard error. Returns `status`. */
FILA_PRINTF(3, 4) int fw_cli_fail(const char *verb, int status, const char *format, ...);

/* Says what getopt_long (with opterr = 0 and an option string that starts with ':') objected to.
 * `answer` is what it returned: '?' or ':'. Returns FW_EXIT_USAGE. */
int fw_cli_bad_option(const char *verb, int answer, char **argv);

/* Flushes standard output: 0, or FW_EXIT_FAILED with a complaint when it could not be written (a
 * full disk must not look like success; a closed pipe is quiet). End every verb that prints with
 * it. */
int fw_cli_finish(const char *verb, int status);

#endif
