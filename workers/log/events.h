/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Every event the program can log: id, level, meaning, remedy. Ids are stable: people alert on
 * them. The list in the operator's guide is generated from here. Add a line, keep the groups.
 */
#ifndef FW_EVENTS_H
#define FW_EVENTS_H

#define FW_EVENTS(X)                                                                                \
    /* The program */                                                                               \
    X(WORKER_START, "WORKER-START", INFO, "The worker started.", "None.")                           \
    X(WORKER_READY, "WORKER-READY", INFO,                                                           \
      "Every handler is loaded and every stream has been asked for.", "None.")                      \
    X(WORKER_STOP, "WORKER-STOP", INFO,                                                             \
      "The worker ended; the line has the account and the exit status.", "None.")                   \
    X(DRAIN_START, "DRAIN-START", INFO,                                                             \
      "A signal asked the worker to stop; it takes no new work.", "None.")                          \
    X(DRAIN_HURRY, "DRAIN-HURRY", WARN,                                                             \
      "A second signal: everything is returned and the worker exits.", "None.")                     \
    X(RELOAD_DONE, "RELOAD-DONE", INFO, "The new config is in force; the line says what changed.",  \
      "None.")                                                                                      \
    X(RELOAD_REFUSED, "RELOAD-REFUSED", ERROR,                                                      \
      "The new config is invalid; the old one stays in force.",                                     \
      "Run `fila-worker check`, repair the file, send SIGHUP again.")                               \
    X(CONFIG_INVALID, "CONFIG-INVALID", ERROR, "The config cannot be used.",                        \
      "The line names file, line and key.")                                                         \
    X(CONFIG_WARNING, "CONFIG-WARNING", WARN,                                                       \
      "The config works but is probably not what was meant.", "See the line.")                      \
    X(HTTP_READY, "HTTP-READY", INFO,                                                               \
      "Health, metrics and status are served; the line has the port.", "None.")                     \
    X(HTTP_OFF, "HTTP-OFF", WARN, "Health, metrics and status are not served; messages are.",       \
      "Free the port or change http.listen; the worker tries again every 5 s.")                     \
    X(CTL_ORDER, "CTL-ORDER", INFO,                                                                 \
      "Somebody gave an order on the control socket; the line says what and who.", "None.")         \
    X(CTL_LOOK, "CTL-LOOK", DEBUG, "Somebody asked for the status on the control socket.",          \
      "None.")                                                                                      \
    X(CTL_OFF, "CTL-OFF", WARN,                                                                     \
      "The control socket cannot be opened; `fila-worker ctl` will not reach this worker.",         \
      "Set ctl.socket to a path of this worker's own, or to \"\" to do without.")                   \
    X(DUMP, "DUMP", INFO, "A line of a dump that was asked for: a queue, or a message held.",       \
      "None.")                                                                                      \
    X(INTERNAL, "INTERNAL", ERROR, "Something that should not happen did.",                         \
      "Report it with the log.")                                                                    \
    X(LOG_LOST, "LOG-LOST", WARN,                                                                   \
      "Standard error did not take the lines at once; the line has their number.",                  \
      "Let whatever reads the log be faster.")                                                      \
    /* Connections and streams */                                                                   \
    X(BROKER_READY, "BROKER-READY", INFO, "The embedded broker serves.", "None.")                   \
    X(BROKER_CHAOS, "BROKER-CHAOS", WARN,                                                           \
      "The embedded broker makes faults on purpose; the line has the seed that replays them.",      \
      "Leave --chaos away in earnest use.")                                                         \
    X(SCRIPT_FAILED, "SCRIPT-FAILED", WARN,                                                         \
      "A queue's Lua script failed; the message met what no script would have decided.",            \
      "See the error; scripts are replaced by deleting the queue and creating it again.")           \
    X(SCRIPT_BYPASSED, "SCRIPT-BYPASSED", ERROR,                                                    \
      "A queue's Lua scripts failed too often in a row and are bypassed for a while.",              \
      "See the error: until then messages get the default fairness key, and nacks are retries.")    \
    X(STREAM_OPEN, "STREAM-OPEN", INFO, "A consume stream is open.", "None.")                       \
    X(STREAM_END, "STREAM-END", WARN,                                                               \
      "A consume stream ended; it is opened again after the pause in the line.",                    \
      "See the error; nothing is lost, what was buffered comes back after the visibility timeout.") \
    X(STREAM_SILENT, "STREAM-SILENT", WARN,                                                         \
      "Messages wait in the queue but its open stream brings none; it is opened anew.",             \
      "None if rare; else look at the broker.")                                                     \
    X(BROKER_HANGS, "BROKER-HANGS", ERROR,                                                          \
      "Calls go unanswered although streams are open, as with a broker that is stopping.",          \
      "None: the streams are ended, so that it can stop, and opened elsewhere or later.")           \
    X(BROKER_CHANGED, "BROKER-CHANGED", WARN, "Another broker of the list is used from here on.",   \
      "See what became of the one before.")                                                         \
    X(QUEUE_FOUND, "QUEUE-FOUND", INFO, "The queue that was missing is there.", "None.")            \
    X(QUEUE_MISSING, "QUEUE-MISSING", WARN,                                                         \
      "The queue does not exist; its stream stays open and silent.",                                \
      "Create it (`fila-worker queue create`), or correct the name.")                               \
    X(QUEUE_CREATED, "QUEUE-CREATED", INFO,                                                         \
      "The queue did not exist and was created (missing_queue).", "None.")                          \
    X(BROKER_UNREACHABLE, "BROKER-UNREACHABLE", ERROR, "No broker answers at the address.",         \
      "Check address and port; the worker goes on trying.")                                         \
    X(BROKER_REFUSES, "BROKER-REFUSES", ERROR,                                                      \
      "What answers at the address refuses us or is no Fila broker.",                               \
      "Check protocol, TLS and the API key.")                                                       \
    /* Messages */                                                                                  \
    X(MESSAGE_DONE, "MESSAGE-DONE", DEBUG, "A message was handled and acked.", "None.")             \
    X(MESSAGE_FAILED, "MESSAGE-FAILED", WARN,                                                       \
      "A try failed; the line says why and when the next one is.", "See the reason.")               \
    X(MESSAGE_RETURNED, "MESSAGE-RETURNED", DEBUG,                                                  \
      "A message went back to the broker, or to its lease.", "None.")                               \
    X(MESSAGE_DEAD, "MESSAGE-DEAD", ERROR, "A message was dead-lettered.",                          \
      "`fila-worker dlq show QUEUE`.")                                                              \
    X(MESSAGE_DROPPED, "MESSAGE-DROPPED", WARN,                                                     \
      "A message was given up, as dead_letter = \"drop\" says.", "None.")                           \
    X(LEASE_LOST, "LEASE-LOST", WARN,                                                               \
      "A lease ended before its message was settled; it may run again elsewhere.",                  \
      "Raise the queue's visibility timeout, or lower prefetch.")                                   \
    X(SETTLE_ERROR, "SETTLE-ERROR", WARN, "An ack or nack was not confirmed.",                      \
      "None if rare; else see the error.")                                                          \
    X(PUBLISH_FAILED, "PUBLISH-FAILED", WARN,                                                       \
      "What a handler published was not confirmed: its message is not acked and runs again.",       \
      "Create the queue in the line, or give the API key produce on it; else see the error.")       \
    X(HANDLER_TIMEOUT, "HANDLER-TIMEOUT", WARN,                                                     \
      "A handler ran over its deadline and was told to stop.",                                      \
      "Raise `timeout` and the visibility timeout, or make it faster.")                             \
    X(HANDLER_VERDICT, "HANDLER-VERDICT", WARN,                                                     \
      "A handler returned a number that is no verdict; taken as a retry.", "Correct the handler.")  \
    X(HANDLER_STUCK, "HANDLER-STUCK", ERROR, "A handler does not return long after its deadline.",  \
      "Its thread is lost until the worker restarts; use isolation = \"process\".")                 \
    X(HANDLER_LOG, "HANDLER-LOG", INFO, "A line that a handler logged.", "None.")                   \
    X(HANDLER_DEBUG, "HANDLER-DEBUG", DEBUG, "The same, at level debug.", "None.")                  \
    X(HANDLER_WARN, "HANDLER-WARN", WARN, "The same, at level warn.", "See the line.")              \
    X(HANDLER_ERROR, "HANDLER-ERROR", ERROR, "The same, at level error.", "See the line.")          \
    X(OVERLEASED, "OVERLEASED", WARN,                                                               \
      "The broker leases more ahead than this worker can do within the lease.",                     \
      "Raise the visibility timeout to the value in the line, or concurrency.")                     \
    X(PIPE_SLOW, "PIPE-SLOW", INFO,                                                                 \
      "The path needs a larger flow-control window; the stream reopens with it.",                   \
      "None; where a larger one hardly helps, the line says so: raise `streams`.")                  \
    X(VT_SHORT, "VT-SHORT", ERROR, "The queue's visibility timeout is shorter than configured.",    \
      "Set visibility_timeout to the queue's own.")                                                 \
    X(RETRY_SPLIT, "RETRY-SPLIT", INFO,                                                             \
      "Tries and backoffs do not fit one lease: other replicas will share them.",                   \
      "See the value in the line.")                                                                 \
    X(BREAKER_OPEN, "BREAKER-OPEN", ERROR,                                                          \
      "A dependency of the handler is down; the queue is paused.",                                  \
      "Repair the dependency; trials go on by themselves.")                                         \
    X(BREAKER_CLOSED, "BREAKER-CLOSED", INFO, "The dependency is back.", "None.")                   \
    X(QUEUE_PAUSED, "QUEUE-PAUSED", WARN,                                                           \
      "An operator has paused the queue; nothing of it is started.",                                \
      "`fila-worker ctl resume`, or SIGCONT.")                                                      \
    X(QUEUE_RESUMED, "QUEUE-RESUMED", INFO, "The queue goes on.", "None.")                          \
    X(DLQ_REFUSED, "DLQ-REFUSED", ERROR,                                                            \
      "The dead-letter queue cannot be written; the message is kept, not run.",                     \
      "Create the queue, or give the API key produce on it.")                                       \
    X(DLQ_TOO_LARGE, "DLQ-TOO-LARGE", ERROR,                                                        \
      "The dead-letter copy is over the broker's limit; the message is kept.",                      \
      "Take it out by hand, or set dead_letter = \"drop\".")                                        \
    X(FLUSH, "FLUSH", WARN, "Messages were returned unstarted to make the leases fresh again.",     \
      "See OVERLEASED.")                                                                            \
    /* State that outlives the process */                                                           \
    X(STATE_OFF, "STATE-OFF", INFO, "No state_dir: nothing outlives the process.",                  \
      "Set state_dir to a folder of this worker's own.")                                            \
    X(JOURNAL_READY, "JOURNAL-READY", INFO, "The journal of an earlier process was read.",          \
      "None.")                                                                                      \
    X(JOURNAL_CUT, "JOURNAL-CUT", WARN,                                                             \
      "The journal ended in a broken record; what came after it is lost.",                          \
      "None: a kill while it was written does that.")                                               \
    X(JOURNAL_DOWN, "JOURNAL-DOWN", ERROR,                                                          \
      "The journal cannot be written; the work goes on without it.",                                \
      "See the error; a full disk, mostly. It is tried again by itself.")                           \
    X(JOURNAL_UP, "JOURNAL-UP", INFO, "The journal is written again.", "None.")                     \
    X(JOURNAL_LOST, "JOURNAL-LOST", WARN, "The journal could not take some changes.",               \
      "Give state_dir a faster disk, or the worker more memory.")                                   \
    X(CRASH_RECORD_OFF, "CRASH-RECORD-OFF", WARN,                                                   \
      "What runs is not recorded: a message that crashes us is not found out.", "See the error.")   \
    X(CRASH_SUSPECTS, "CRASH-SUSPECTS", ERROR,                                                      \
      "The last process ended while messages ran; each runs alone now.",                            \
      "Look for why it ended: a crash, a kill, no memory.")                                         \
    X(CRASH_SUSPECT, "CRASH-SUSPECT", WARN, "A message that may have crashed the worker.",          \
      "None if it runs; else see its dead letter (cause poison).")                                  \
    /* Plugins */                                                                                   \
    X(PLUGIN_LOADED, "PLUGIN-LOADED", INFO, "A handler plugin was loaded.", "None.")                \
    X(PLUGIN_REFUSED, "PLUGIN-REFUSED", ERROR,                                                      \
      "A handler plugin cannot be used; the line says which field differs.",                        \
      "Rebuild it against this host's fila/plugin.h, or correct its path or options.")              \
    X(PLUGIN_REPLACED, "PLUGIN-REPLACED", INFO,                                                     \
      "The plugin's file is a new one; children with it take over.", "None.")                       \
    X(PLUGIN_KEPT, "PLUGIN-KEPT", ERROR,                                                            \
      "The plugin's new file cannot be used; children with the old one go on.",                     \
      "See the error; put a file there that works.")                                                \
    /* Children of isolation = "process" */                                                         \
    X(CHILD_CRASHED, "CHILD-CRASHED", ERROR,                                                        \
      "A child that runs a handler ended by a signal, or by itself; another takes its place.",      \
      "The line has the signal, the place and the end of its standard error.")                      \
    X(CHILD_KILLED, "CHILD-KILLED", WARN,                                                           \
      "A child was ended, because its handler did not return in time.",                             \
      "Raise `timeout`, or make the handler faster.")                                               \
    X(CHILD_RUBBISH, "CHILD-RUBBISH", ERROR,                                                        \
      "A child said something that makes no sense, and was ended.",                                 \
      "Its plugin writes to memory or descriptors that are not its own.")                           \
    X(CHILD_FAILED, "CHILD-FAILED", ERROR,                                                          \
      "A child could not be started; the line says when the next try is.", "See the error.")        \
    X(CHILDREN_GIVEN_UP, "CHILDREN-GIVEN-UP", ERROR,                                                \
      "Five starts of children failed within a minute: the queue stands still.",                    \
      "Repair the handler, then reload (SIGHUP).")                                                  \
    X(CHILD_RECYCLED, "CHILD-RECYCLED", DEBUG,                                                      \
      "A child was replaced: recycle_messages or recycle_rss.", "None.")                            \
    X(CHILD_OUTPUT, "CHILD-OUTPUT", INFO,                                                           \
      "A line that a handler in a child wrote to standard output or error.", "None.")

enum fw_event {
#define FW_EVENT_ENUM(name, id, level, meaning, remedy) FW_EVENT_##name,
    FW_EVENTS(FW_EVENT_ENUM)
#undef FW_EVENT_ENUM
    FW_EVENT_COUNT
};

#endif
