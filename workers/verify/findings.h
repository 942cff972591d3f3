/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What `plugin verify` can find: each with its weight, why it matters and what to do about it. Any
 * thread.
 */
#ifndef FW_VERIFY_FINDINGS_H
#define FW_VERIFY_FINDINGS_H

#include <stdbool.h>

/* X(name, "id", is error, "why", "remedy") */
#define FW_VERIFY_FINDINGS(X)                                                                          \
    X(REFUSED, "refused", true, "A worker does not start with it.",                                    \
      "Correct what is named: build it with this host's fila/plugin.h; let file and folder belong "    \
      "to root or the worker's user, and be written by nobody else.")                                  \
    X(GROUP_WRITABLE, "group-writable", false,                                                         \
      "Whoever may write it may do all that the worker may.", "chmod g-w.")                            \
    X(EXPORTS, "exports", false,                                                                       \
      "Symbols of one name in two plugins, or in a plugin and the host, can take each other's place.", \
      "Compile with -fvisibility=hidden, and make everything static.")                                 \
    X(UNDEFINED, "undefined", true, "It is found only where something else happens to bring it.",      \
      "Link the library that has it (-lNAME), and link with -Wl,--no-undefined.")                      \
    X(EXECUTABLE_STACK, "executable-stack", false,                                                     \
      "It makes the stacks of the whole worker executable.", "Link with -Wl,-z,noexecstack.")          \
    X(TEXT_RELOCATIONS, "text-relocations", false, "Its code must be writable to be loaded.",          \
      "Compile with -fPIC.")                                                                           \
    X(OPTION_HELP, "option-help", false,                                                               \
      "`fila-worker handlers` and the config's errors show it to whoever uses the handler.",           \
      "Write a sentence.")                                                                             \
    X(OPTION_DEFAULT, "option-default", false, "A default of a required option is never used.",        \
      "Take one of the two away.")                                                                     \
    X(OPTIONS_UNFIT, "options-unfit", true, "Nothing more can be tried without them.",                 \
      "Give the handler's options with --option NAME=VALUE.")                                          \
    X(INIT_FAILS, "init-fails", true, "A worker does not start when it does.",                         \
      "If the reason is a missing service or option, provide it and verify again.")                    \
    X(CRASH, "crash", true,                                                                            \
      "A plugin is part of the worker's process (or of its child's): this ends it.",                   \
      "See the frames; `fila-worker try --gdb` and `--valgrind` show more.")                           \
    X(EXITS, "exits", true, "It ends the whole worker, not the message.",                              \
      "Return a verdict, or fail in init; never call exit, _exit or abort.")                           \
    X(HANGS, "hangs", true, "A thread is lost until the worker restarts.",                             \
      "Give whatever it waits for a time limit; ask services->cancelled in loops.")                    \
    X(LATE, "late", true, "Its message has been given up by then, and runs again.",                    \
      "Ask services->deadline_ms for how long it may take; poll services->cancel_fd.")                 \
    X(CANCEL_LATE, "cancel-late", false, "A stop of the worker waits for it.",                         \
      "Ask services->cancelled in loops, or poll services->cancel_fd.")                                \
    X(VERDICT, "verdict", true, "It is taken as a retry, with a warning for each message.",            \
      "Return FILA_ACK, FILA_RETRY, FILA_REJECT, FILA_UNAVAILABLE or FILA_DEFER.")                     \
    X(DEFER_NEVER, "defer-never", true,                                                                \
      "The message runs again after its deadline, and its memory is never given back.",                \
      "After FILA_DEFER call services->complete once, whatever happens.")                              \
    X(DEFER_LATE, "defer-late", true, "Its message has been given up by then, and runs again.",        \
      "Complete before services->deadline_ms is over.")                                                \
    X(COMPLETE_TWICE, "complete-twice", true,                                                          \
      "The delivery is invalid after the first time: this uses memory that may be another's.",         \
      "Call services->complete once for each FILA_DEFER, and never without one.")                      \
    X(PROBE, "probe", true, "Anything but 1 is taken as a no: the breaker stays open.",                \
      "Return 1 when the dependency is back, else 0.")                                                 \
    X(MIXED, "mixed", true,                                                                            \
      "Messages that run at once share something that each must have for itself.",                     \
      "Look for static variables, and with FILA_PLUGIN_THREAD_SAFE for fields of the instance.")       \
    X(UNSTEADY, "unsteady", false,                                                                     \
      "Perhaps it depends on what else runs; a race looks like this, too.",                            \
      "If it is not meant so: lock what messages share, or take FILA_PLUGIN_THREAD_SAFE away.")        \
    X(WRITES_VIEW, "writes-view", true,                                                                \
      "The payload is the host's, and another try must see the same.",                                 \
      "Copy what is to be changed.")                                                                   \
    X(READS_BEYOND, "reads-beyond", true, "Payloads are not zero-terminated.",                         \
      "Use payload_len; never strlen or sscanf on the payload.")                                       \
    X(LEAK, "leak", true, "The worker grows until it is killed.",                                      \
      "`fila-worker try --valgrind` shows where it was allocated.")                                    \
    X(DESCRIPTOR_LEAK, "descriptor-leak", true, "The worker runs out of descriptors.",                 \
      "Close what was opened, on every path; O_CLOEXEC keeps it from children.")                       \
    X(DESCRIPTOR_CLOSED, "descriptor-closed", true,                                                    \
      "It was the worker's: perhaps a connection, or the log.",                                        \
      "Close only what the plugin has opened, once.")                                                  \
    X(THREADS_LEFT, "threads-left", true, "They go on with an instance that is gone.",                 \
      "Join them in close (or in a failing init).")                                                    \
    X(PROCESSES_LEFT, "processes-left", true, "They pile up, message by message.",                     \
      "Wait for every child, and kill it at the deadline.")                                            \
    X(FORKED, "forked", true,                                                                          \
      "Two processes now believe to be the worker, with one connection between them.",                 \
      "Start programs with posix_spawn; after fork call nothing but exec or _exit.")                   \
    X(SIGNAL_MASK, "signal-mask", true,                                                                \
      "Signals are the worker's: it may no longer be stopped, or be killed by one.",                   \
      "Restore the mask before returning (children: posix_spawnattr_setsigmask).")                     \
    X(SIGNAL_HANDLER, "signal-handler", true, "Dispositions belong to the whole process.",             \
      "Use none; SIGPIPE is ignored: see EPIPE.")                                                      \
    X(LOCALE, "locale", true, "Numbers and letters change for everyone in the process.",               \
      "Use newlocale and the functions that end in _l.")                                               \
    X(FOLDER, "folder", true, "Relative paths of everyone else change.",                               \
      "Use absolute paths, or openat.")                                                                \
    X(UMASK, "umask", true, "Files of everyone else get other modes.", "Use fchmod.")                  \
    X(ENVIRONMENT, "environment", true,                                                                \
      "Others read it at the same time; a change is a race that crashes.",                             \
      "Give children an environment of their own (services->environment).")                            \
    X(FLOODS, "floods", true, "Nobody finds anything in such a log, and it fills the disk.",           \
      "Use services->log, for what an operator should know.")                                          \
    X(OUTPUT, "output", false,                                                                         \
      "Standard error is the worker's log, a line an event; standard output is nobody's.",             \
      "Use services->log.")

enum fw_verify_finding {
#define FW_VERIFY_ENUM(name, id, error, why, remedy) FW_VERIFY_##name,
    FW_VERIFY_FINDINGS(FW_VERIFY_ENUM)
#undef FW_VERIFY_ENUM
    FW_VERIFY_FINDING_COUNT
};

struct fw_verify_row {
    const char *id;
    bool is_error;
    const char *why;
    const char *remedy;
};

const struct fw_verify_row *fw_verify_row(enum fw_verify_finding finding);

#endif
