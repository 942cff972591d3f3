/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `try` in two parts: what the command line asks for (try.c), and one message through a handler
 * (try_run.c). Thread: main.
 */
#ifndef FW_CLI_TRY_H
#define FW_CLI_TRY_H

#include "executor/executor.h"
#include "pairs.h"
#include "plugin/loader.h"

enum fw_try_debugger {
    FW_TRY_PLAIN,
    FW_TRY_GDB,
    FW_TRY_VALGRIND
};

struct fw_try {
    const char *handler;
    struct fw_cli_pair *options;
    size_t option_count;
    fila_header *headers;
    size_t header_count;
    uint32_t attempt;
    const char *queue;
    const char *key;    /* fairness key */
    const char *config; /* take handler, options and timeout from it */
    const char *file;
    int64_t timeout; /* ns; 0 = 30 s, or the config's */
    bool json;
    enum fw_try_debugger debugger;
    enum fw_log_level log_level;
};

struct fw_try_result {
    struct fw_verdict verdict;
    char *reason;               /* NULL = none; malloc'ed */
    struct fw_outgoing *outbox; /* what it published; freed with fw_outgoing_free */
    bool cancelled;
};

/* Loads `plugin`'s executor, sends the payload through it and waits; SIGINT and SIGTERM cancel it.
 * 0, or the exit status to end with, the reason having been told. */
int fw_try_run(
    const struct fw_try *request,
    const struct fw_plugin *plugin,
    fila_view payload,
    struct fw_try_result *ret_result);

/* What stands before the plugin's own `handle`, for a debugger to stop in. */
int fw_try_handle(void *self, const fila_delivery *delivery, const fila_services *services);

/* try_debug.c. The command line as it was, for fw_try_debug; NULL without memory. */
char **fw_try_copy_words(int argc, char **argv);
void fw_try_free_words(char **words);
/* Runs this program again, with the same words, under the debugger that they ask for. -1: this is
 * that second one, go on; else the exit status, since it could not be started. */
int fw_try_debug(const struct fw_try *request, int argc, char **words);

#endif
