/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The worker as a whole: what `fila-worker run` does. The main thread is the supervisor
 * (supervisor.c): signals, reload, drain, exit status. One I/O thread (io.c) owns the broker
 * connection and all delivery engines (queue.c); each queue has an executor with threads of its
 * own.
 */
#ifndef FW_HOST_H
#define FW_HOST_H

#include "config/config.h"
#include "exit.h"

struct fw_host_options {
    const char *config_path; /* NULL = looked for as conventions.md says */
    struct fw_config_overrides overrides;
    bool require_broker; /* exit 69 when no stream opens within 10 s */
};

/* Runs until a signal ends it. Returns the exit status; has logged everything by then. Ends the
 * process itself, with that status and without its exit handlers, when threads of handlers had to
 * be abandoned. Thread: main, before any other. */
int fw_host_run(const struct fw_host_options *options);

#endif
