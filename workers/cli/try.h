/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `try` in its parts: what the command line asks for (try.c), the handler with its options
 * (try_open.c), one message through it (try_run.c), what is said of it (try_result.c), and under a
 * debugger (try_debug.c). Thread: main.
 */
#ifndef FW_CLI_TRY_H
#define FW_CLI_TRY_H

#include "config/config.h"
#include "executor/executor.h"
#include "pairs.h"
#include "plugin/loader.h"

#define FW_TRY_PAYLOAD_MAX ((size_t)64 << 20)

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
    const char *literal; /* the payload itself, in place of `file`; NULL = none */
    int64_t timeout;     /* ns; 0 = 30 s, or the config's */
    bool isolation_given;
    enum fw_isolation isolation; /* threads, or the config's */
    bool json;
    enum fw_try_debugger debugger;
    enum fw_log_level log_level;
};

/* What is to run it: one of the two. Filled by fw_try_open, freed by fw_try_close in any case. */
struct fw_try_handler {
    struct fw_plugin *plugin; /* isolation "threads" */
    bool in_child;            /* isolation "process": */
    struct fw_process_options process;
    bool told;                     /* what is wrong with the options, by the child */
    int refused;                   /* the exit status then */
    struct fw_cli_options options; /* what `process` points to, and `config` */
    struct fw_config *config;
};

/* 0, or the exit status to end with, the reason having been told. Queue, timeout and isolation of
 * the config are put into the request, where it leaves them open. */
int fw_try_open(struct fw_try *request, struct fw_try_handler *ret_handler);
void fw_try_close(struct fw_try_handler *handler);

struct fw_try_counter {
    char name[FILA_COUNTER_NAME_MAX + 1];
    uint64_t value;
};

struct fw_try_result {
    struct fw_verdict verdict;
    char *reason;               /* NULL = none; malloc'ed */
    struct fw_outgoing *outbox; /* what it published; freed with fw_outgoing_free */
    struct fw_try_counter counters[FILA_COUNTERS_MAX];
    unsigned counter_count;
    bool cancelled;
};

/* Starts an executor, sends the payload through it and waits; SIGINT and SIGTERM cancel it. 0, or
 * the exit status to end with, the reason having been told. */
int fw_try_run(
    const struct fw_try *request,
    const struct fw_try_handler *handler,
    fila_view payload,
    struct fw_try_result *ret_result);

/* try_result.c. Prints it. Returns the exit status that stands for the verdict. */
int fw_try_tell(const struct fw_try *request, const struct fw_try_result *result);

/* What stands before the plugin's own `handle`, for a debugger to stop in. */
int fw_try_handle(void *self, const fila_delivery *delivery, const fila_services *services);

/* try_debug.c. The command line as it was, for fw_try_debug; NULL without memory. */
char **fw_try_copy_words(int argc, char **argv);
void fw_try_free_words(char **words);
/* Runs this program again, with the same words, under the debugger that they ask for. -1: this is
 * that second one, go on; else the exit status, since it could not be started. */
int fw_try_debug(const struct fw_try *request, int argc, char **words);

#endif
