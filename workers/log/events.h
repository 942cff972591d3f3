/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Every event the program can log: id, level, meaning, remedy. Ids are stable: people alert on
 * them. The list in the operator's guide is generated from here. Add a line, keep the groups.
 */
#ifndef FW_EVENTS_H
#define FW_EVENTS_H

#define FW_EVENTS(X)                                                                               \
    /* The program */                                                                              \
    X(WORKER_START, "WORKER-START", INFO, "The worker started.", "None.")                          \
    X(WORKER_READY, "WORKER-READY", INFO,                                                          \
      "Every handler is loaded and every stream has been asked for.", "None.")                     \
    X(WORKER_STOP, "WORKER-STOP", INFO,                                                            \
      "The worker ended; the line has the account and the exit status.", "None.")                  \
    X(DRAIN_START, "DRAIN-START", INFO,                                                            \
      "A signal asked the worker to stop; it takes no new work.", "None.")                         \
    X(DRAIN_HURRY, "DRAIN-HURRY", WARN,                                                            \
      "A second signal: everything is returned and the worker exits.", "None.")                    \
    X(RELOAD_DONE, "RELOAD-DONE", INFO, "The new config is in force; the line says what changed.", \
      "None.")                                                                                     \
    X(RELOAD_REFUSED, "RELOAD-REFUSED", ERROR,                                                     \
      "The new config is invalid; the old one stays in force.",                                    \
      "Run `fila-worker check`, repair the file, then `fila-worker ctl reload`. Do not "           \
      "restart before: it would not come up.")                                                     \
    X(CONFIG_INVALID, "CONFIG-INVALID", ERROR, "The config cannot be used.",                       \
      "Repair file and line as the message says; `fila-worker check` shows the place and what "    \
      "is accepted.")                                                                              \
    X(CONFIG_WARNING, "CONFIG-WARNING", WARN,                                                      \
      "The config works but is probably not what was meant.",                                      \
      "Read the line: it names the value that would pass. The worker works meanwhile.")            \
    X(HTTP_READY, "HTTP-READY", INFO,                                                              \
      "Health, metrics and status are served; the line has the port.", "None.")                    \
    X(HTTP_OFF, "HTTP-OFF", WARN, "Health, metrics and status are not served; messages are.",      \
      "Free the port or change http.listen; the worker tries again every 5 s.")                    \
    X(CTL_ORDER, "CTL-ORDER", INFO,                                                                \
      "Somebody gave an order on the control socket; the line says what and who.", "None.")        \
    X(CTL_LOOK, "CTL-LOOK", DEBUG, "Somebody asked for the status on the control socket.",         \
      "None.")                                                                                     \
    X(CTL_OFF, "CTL-OFF", WARN,                                                                    \
      "The control socket cannot be opened; `fila-worker ctl` will not reach this worker.",        \
      "Set ctl.socket to a path of this worker's own, or to \"\" to do without.")                  \
    X(DUMP, "DUMP", INFO,                                                                          \
      "A line of a dump that was asked for: a thread with its stack, a queue, or a message held.", \
      "None.")                                                                                     \
    X(INTERNAL, "INTERNAL", ERROR, "Something that should not happen did.",                        \
      "Report it with the log and `fila-worker version`. If work stands still, restart the "       \
      "worker: nothing is lost.")                                                                  \
    X(LOG_LOST, "LOG-LOST", WARN,                                                                  \
      "Standard error did not take the lines at once; the line has their number.",                 \
      "Make whatever reads the log faster, make room on its disk, or raise log.level.")            \
    /* Connections and streams */                                                                  \
    X(BROKER_READY, "BROKER-READY", INFO, "The embedded broker serves.", "None.")                  \
    X(BROKER_CHAOS, "BROKER-CHAOS", WARN,                                                          \
      "The embedded broker makes faults on purpose; the line has the seed that replays them.",     \
      "Start the broker without --chaos in earnest use.")                                          \
    X(SCRIPT_FAILED, "SCRIPT-FAILED", WARN,                                                        \
      "A queue's Lua script failed; the message met what no script would have decided.",           \
      "Repair the script. It is fixed when the queue is created: empty the queue, delete it, "     \
      "create it with the new one.")                                                               \
    X(SCRIPT_BYPASSED, "SCRIPT-BYPASSED", ERROR,                                                   \
      "A queue's Lua scripts failed too often in a row and are bypassed for a while.",             \
      "Repair the script, as for SCRIPT-FAILED; until then messages get the default fairness "     \
      "key, and nacks are retries.")                                                               \
    X(STREAM_OPEN, "STREAM-OPEN", INFO, "A consume stream is open.", "None.")                      \
    X(STREAM_END, "STREAM-END", WARN,                                                              \
      "A consume stream ended; it is opened again after the pause in the line.",                   \
      "None if rare: it is opened again by itself, and nothing is lost. If it lasts, see "         \
      "whether the broker is up and in reach: `fila-worker check`.")                               \
    X(STREAM_SILENT, "STREAM-SILENT", WARN,                                                        \
      "Messages wait in the queue but its open stream brings none; it is opened anew.",            \
      "None if rare; else ask the broker what it has (`fila-worker queue stats QUEUE`), and "      \
      "see its own log.")                                                                          \
    X(BROKER_HANGS, "BROKER-HANGS", ERROR,                                                         \
      "Calls go unanswered although streams are open, as with a broker that is stopping.",         \
      "None at first: streams are ended, so that the broker can stop, and opened elsewhere or "    \
      "later. If it lasts, restart the broker.")                                                   \
    X(BROKER_CHANGED, "BROKER-CHANGED", WARN, "Another broker of the list is used from here on.",  \
      "See why the one before failed: the lines above this one say so.")                           \
    X(QUEUE_FOUND, "QUEUE-FOUND", INFO, "The queue that was missing is there.", "None.")           \
    X(QUEUE_MISSING, "QUEUE-MISSING", WARN,                                                        \
      "The queue does not exist; its stream stays open and silent.",                               \
      "Create it (`fila-worker queue create QUEUE`), or correct its name in the config.")          \
    X(QUEUE_CREATED, "QUEUE-CREATED", INFO,                                                        \
      "The queue did not exist and was created (missing_queue).", "None.")                         \
    X(BROKER_UNREACHABLE, "BROKER-UNREACHABLE", ERROR, "No broker answers at the address.",        \
      "Start the broker, or correct the address: `fila-worker check` says what answers there. "    \
      "The worker goes on trying.")                                                                \
    X(BROKER_REFUSES, "BROKER-REFUSES", ERROR,                                                     \
      "What answers at the address refuses us or is no Fila broker.",                              \
      "Run `fila-worker check`: it says what answers there. Correct protocol, port or API "        \
      "key.")                                                                                      \
    /* Messages */                                                                                 \
    X(MESSAGE_DONE, "MESSAGE-DONE", DEBUG, "A message was handled and acked.", "None.")            \
    X(MESSAGE_FAILED, "MESSAGE-FAILED", WARN,                                                      \
      "A try failed; the line says why and when the next one is.",                                 \
      "None for one: it is tried again. For many, see `error`: it is the handler's own "           \
      "reason.")                                                                                   \
    X(MESSAGE_RETURNED, "MESSAGE-RETURNED", DEBUG,                                                 \
      "A message went back to the broker, or to its lease.", "None.")                              \
    X(MESSAGE_DEAD, "MESSAGE-DEAD", ERROR, "A message was dead-lettered.",                         \
      "`fila-worker dlq show QUEUE` has reason and payload. Repair the cause, then "               \
      "`fila-worker dlq redrive QUEUE`.")                                                          \
    X(MESSAGE_DROPPED, "MESSAGE-DROPPED", WARN,                                                    \
      "A message was given up, as dead_letter = \"drop\" says.",                                   \
      "None if that is meant; dead_letter = \"worker\" would keep such messages.")                 \
    X(LEASE_LOST, "LEASE-LOST", WARN,                                                              \
      "A lease ended before its message was settled; it may run again elsewhere.",                 \
      "None after a standstill. Else raise the visibility timeout (the queue's and the "           \
      "config's), or make the handler faster.")                                                    \
    X(SETTLE_ERROR, "SETTLE-ERROR", WARN, "An ack or nack was not confirmed.",                     \
      "None if rare: a message whose ack is lost runs again. Else the broker is overloaded or "    \
      "out of reach: see `error`.")                                                                \
    X(PUBLISH_FAILED, "PUBLISH-FAILED", WARN,                                                      \
      "What a handler published was not confirmed: its message is not acked and runs again.",      \
      "Create the queue in the line, or give the API key produce on it; else see the error.")      \
    X(HANDLER_TIMEOUT, "HANDLER-TIMEOUT", WARN,                                                    \
      "A handler ran over its deadline and was told to stop.",                                     \
      "See what it waits for. If it needs so long, raise `timeout`, and the visibility "           \
      "timeout with it.")                                                                          \
    X(HANDLER_VERDICT, "HANDLER-VERDICT", WARN,                                                    \
      "A handler returned a number that is no verdict; taken as a retry.",                         \
      "Correct the handler; the verdicts are in fila/plugin.h.")                                   \
    X(HANDLER_STUCK, "HANDLER-STUCK", ERROR, "A handler does not return long after its deadline.", \
      "Restart the worker: until then the thread is lost. With isolation = \"process\" such a "    \
      "handler is killed by itself.")                                                              \
    X(HANDLER_FAILING, "HANDLER-FAILING", WARN,                                                    \
      "The last ten tries of the queue's messages all failed; logged once until one succeeds.",    \
      "See the reason: it is the handler's own. Repair the handler or what it needs; "             \
      "`fila-worker ctl pause QUEUE` saves messages from becoming dead letters meanwhile.")        \
    X(HANDLER_WORKS, "HANDLER-WORKS", INFO, "A try succeeded again after HANDLER-FAILING.",        \
      "Put dead letters of that time back: `fila-worker dlq redrive QUEUE`.")                      \
    X(HANDLER_LOG, "HANDLER-LOG", INFO, "A line that a handler logged at level info.", "None.")    \
    X(HANDLER_DEBUG, "HANDLER-DEBUG", DEBUG, "A line that a handler logged at level debug.",       \
      "None.")                                                                                     \
    X(HANDLER_WARN, "HANDLER-WARN", WARN, "A line that a handler logged at level warn.",           \
      "See the line; the words are the handler's own.")                                            \
    X(HANDLER_ERROR, "HANDLER-ERROR", ERROR, "A line that a handler logged at level error.",       \
      "See the line; the words are the handler's own.")                                            \
    X(OVERLEASED, "OVERLEASED", WARN,                                                              \
      "The broker leases more ahead than this worker can do within the lease.",                    \
      "Raise the visibility timeout (the queue's and the config's) to the value in the line, "     \
      "raise concurrency, or make the handler faster.")                                            \
    X(PIPE_SLOW, "PIPE-SLOW", INFO,                                                                \
      "The path needs a larger flow-control window; the stream reopens with it.",                  \
      "None; where a larger one hardly helps, the line says so: raise `streams`.")                 \
    X(VT_SHORT, "VT-SHORT", ERROR, "The queue's visibility timeout is shorter than configured.",   \
      "Set visibility_timeout to the queue's own, which is the value it was created with; "        \
      "then `fila-worker ctl reload`.")                                                            \
    X(RETRY_SPLIT, "RETRY-SPLIT", INFO,                                                            \
      "Tries and backoffs do not fit one lease: other replicas will share them.",                  \
      "None with one worker. Else raise the visibility timeout to the value in the line, or "      \
      "lower retry.max.")                                                                          \
    X(BREAKER_OPEN, "BREAKER-OPEN", ERROR,                                                         \
      "A dependency of the handler is down; the queue is paused.",                                 \
      "Repair the dependency, which the reason names; trials go on by themselves. A restart "      \
      "of the worker helps nothing.")                                                              \
    X(BREAKER_CLOSED, "BREAKER-CLOSED", INFO, "The dependency is back.", "None.")                  \
    X(QUEUE_PAUSED, "QUEUE-PAUSED", WARN,                                                          \
      "An operator has paused the queue; nothing of it is started.",                               \
      "`fila-worker ctl resume`, or SIGCONT.")                                                     \
    X(QUEUE_RESUMED, "QUEUE-RESUMED", INFO, "The queue goes on.", "None.")                         \
    X(DLQ_REFUSED, "DLQ-REFUSED", ERROR,                                                           \
      "The dead-letter queue cannot be written; the message is kept, not run.",                    \
      "Create the dead-letter queue, or give the API key produce on it. The messages are "         \
      "kept, and tried again by themselves.")                                                      \
    X(DLQ_TOO_LARGE, "DLQ-TOO-LARGE", ERROR,                                                       \
      "The dead-letter copy is over the broker's limit; the message is kept.",                     \
      "Set dead_letter = \"broker\" (its script moves the message itself) or \"drop\" and "        \
      "reload; until then it is kept.")                                                            \
    X(FLUSH, "FLUSH", WARN, "Messages were returned unstarted to make the leases fresh again.",    \
      "None if rare; else as for OVERLEASED.")                                                     \
    /* State that outlives the process */                                                          \
    X(STATE_OFF, "STATE-OFF", INFO, "No state_dir: nothing outlives the process.",                 \
      "Set state_dir to a folder of this worker's own.")                                           \
    X(JOURNAL_READY, "JOURNAL-READY", INFO, "The journal of an earlier process was read.",         \
      "None.")                                                                                     \
    X(JOURNAL_CUT, "JOURNAL-CUT", WARN,                                                            \
      "The journal ended in a broken record; what came after it is lost.",                         \
      "None: a kill while it was written does that.")                                              \
    X(JOURNAL_DOWN, "JOURNAL-DOWN", ERROR,                                                         \
      "The journal cannot be written; the work goes on without it.",                               \
      "Make room on the disk of state_dir, or repair the folder's mode. It is tried again by "     \
      "itself.")                                                                                   \
    X(JOURNAL_UP, "JOURNAL-UP", INFO, "The journal is written again.", "None.")                    \
    X(JOURNAL_LOST, "JOURNAL-LOST", WARN, "The journal could not take some changes.",              \
      "None if rare: what it did not take may run again after a kill. Else give state_dir a "      \
      "faster disk.")                                                                              \
    X(CRASH_RECORD_OFF, "CRASH-RECORD-OFF", WARN,                                                  \
      "What runs is not recorded: a message that crashes us is not found out.",                    \
      "Make state_dir writable, or make room on its disk; then restart the worker when it "        \
      "suits.")                                                                                    \
    X(CRASH_SUSPECTS, "CRASH-SUSPECTS", ERROR,                                                     \
      "The last process ended while messages ran; each runs alone now.",                           \
      "Look for why it ended: the lines before, `journalctl -k` (no memory?), a core file. "       \
      "The work goes on by itself.")                                                               \
    X(CRASH_SUSPECT, "CRASH-SUSPECT", WARN, "A message that may have crashed the worker.",         \
      "None if it runs; else see its dead letter: `fila-worker dlq show QUEUE --cause "            \
      "poison`.")                                                                                  \
    /* Plugins */                                                                                  \
    X(PLUGIN_LOADED, "PLUGIN-LOADED", INFO, "A handler plugin was loaded.", "None.")               \
    X(PLUGIN_REFUSED, "PLUGIN-REFUSED", ERROR,                                                     \
      "A handler cannot be used; the line says what differs, or what its own start said.",         \
      "Rebuild it against this host's fila/plugin.h, or correct its path or options; "             \
      "`fila-worker plugin verify FILE` says more.")                                               \
    X(PLUGIN_REPLACED, "PLUGIN-REPLACED", INFO,                                                    \
      "The plugin's file is a new one; children with it take over.", "None.")                      \
    X(PLUGIN_KEPT, "PLUGIN-KEPT", ERROR,                                                           \
      "The plugin's new file cannot be used; children with the old one go on.",                    \
      "See the error; put a file there that works (`fila-worker plugin verify FILE`), then "       \
      "`fila-worker ctl reload`.")                                                                 \
    /* Children of isolation = "process" */                                                        \
    X(CHILD_CRASHED, "CHILD-CRASHED", ERROR,                                                       \
      "A child that runs a handler ended by a signal, or by itself; another takes its place.",     \
      "Give the line to the handler's author: signal, place and standard error are in it. A "      \
      "message that does it again and again is dead-lettered.")                                    \
    X(CHILD_KILLED, "CHILD-KILLED", WARN,                                                          \
      "A child was ended, because its handler did not return in time.",                            \
      "As for HANDLER-TIMEOUT: raise `timeout`, or make the handler faster.")                      \
    X(CHILD_RUBBISH, "CHILD-RUBBISH", ERROR,                                                       \
      "A child said something that makes no sense, and was ended.",                                \
      "Give the line to the handler's author: it writes to memory or descriptors that are not "    \
      "its own.")                                                                                  \
    X(CHILD_FAILED, "CHILD-FAILED", ERROR,                                                         \
      "A child could not be started; the line says when the next try is.",                         \
      "See the error: no memory, no processes left (`ulimit -u`), or the handler's own start.")    \
    X(CHILDREN_GIVEN_UP, "CHILDREN-GIVEN-UP", ERROR,                                               \
      "Five starts of children failed within a minute: the queue stands still.",                   \
      "Repair what the last CHILD-FAILED or CHILD-CRASHED says, then `fila-worker ctl "            \
      "reload`.")                                                                                  \
    X(CHILD_RECYCLED, "CHILD-RECYCLED", DEBUG,                                                     \
      "A child was replaced: recycle_messages or recycle_rss.", "None.")                           \
    X(CHILD_OUTPUT, "CHILD-OUTPUT", INFO,                                                          \
      "A line that a handler in a child wrote to standard output or error.", "None.")

enum fw_event {
#define FW_EVENT_ENUM(name, id, level, meaning, remedy) FW_EVENT_##name,
    FW_EVENTS(FW_EVENT_ENUM)
#undef FW_EVENT_ENUM
    FW_EVENT_COUNT
};

#endif
