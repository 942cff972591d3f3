/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Last words: when code of a plugin brings this process down, the last line on standard error names
 * the plugin, what it was doing, and the message. A handler of the signals that mean a crash writes
 * it, and lets the signal take its course; and one of exit(), for a plugin that calls it.
 *
 * Safety. The signal handler uses what is safe there only, and a stack of its own on threads that
 * have called fw_last_words_thread. What runs is noted in a thread's own variable: it costs a
 * message two stores.
 */
#ifndef FW_LAST_WORDS_H
#define FW_LAST_WORDS_H

#include "fila/client.h"

/* What this thread does for a plugin, in texts that live as long as it does it. */
struct fw_doing {
    const char *what;   /* "load", "init", "handle", "close", "probe"; NULL = nothing */
    const char *plugin; /* path or name */
    const char *queue;  /* NULL = none */
    fila_view message_id;
    int64_t since; /* CLOCK_BOOTTIME ns; 0 = not noted */
};

/* For the process, once, by the program's main thread. */
void fw_last_words_install(void);
/* For each thread that runs code of plugins; the second before it ends. Such a thread can be asked
 * for its stack (stacks.h). */
void fw_last_words_thread(void);
void fw_last_words_thread_end(void);

/* `now` lives until the next call; NULL: nothing. */
void fw_last_words_doing(const struct fw_doing *now);
/* What this thread does; NULL = nothing. Safe in a signal handler. */
const struct fw_doing *fw_last_words_now(void);

#endif
