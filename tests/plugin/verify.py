#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""`fila-worker plugin verify` on every broken plugin of defect.c and rude.c, and on sound ones.

    verify.py FILA-WORKER DEFECTS-FOLDER [NAME...]

A row: the plugin; the finding that must be there and the check that makes it, "" = none at all; a part of what it says, or why
there is none. Every plugin of the two folders, and every row of bad.c, has one.
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

MUST = ["--option", "must=x"]
ROWS = [
    # What the file itself shows.
    ("NO_SYMBOL", "refused", "file", "it exports no fila_plugin_descriptor"),
    ("WRONG_MAGIC", "refused", "file", "magic: it is 0x414c4947"),
    ("OTHER_MAJOR", "refused", "file", "abi_major: it is 2"),
    ("NEWER_MINOR", "refused", "file", "it needs a newer fila-worker"),
    ("SMALL_SIZE", "refused", "file", "plugin_size: it is 88"),
    ("BIG_SIZE", "refused", "file", "plugin_size: it is 104"),
    ("SMALL_OPTION", "refused", "file", "option_size: it is 40"),
    ("BIG_SERVICES", "refused", "file", "services_size: it is"),
    ("SHORT_OBJECT", "refused", "file", "its size is 4"),
    ("NOT_CONSTANT", "refused", "file", "it must be a constant"),
    ("EXPORT", "exports", "file", "1 symbols are exported besides fila_plugin_descriptor: rude_helper"),
    # Its table.
    ("NO_HANDLE", "refused", "load", "handle: it is NULL"),
    ("NO_NAME", "refused", "load", "name: it is missing"),
    ("NULL_OPTIONS", "refused", "load", "options: it is NULL"),
    ("BAD_DEFAULT", "refused", "load", "the default of answer"),
    ("BAD_TYPE", "refused", "load", "the type of answer: it is 99"),
    ("SAME_OPTION", "refused", "load", "answer is there twice"),
    ("NO_HELP", "option-help", "load", "the option plain has none"),
    ("USELESS_DEFAULT", "option-default", "load", "the option must is required and has one"),
    # References.
    ("UNDEFINED", "refused", "load", "undefined symbol: fila_symbol_that_nobody_has"),
    ("ACCIDENT", "undefined", "load", "neither libc nor a library that it names has jansson_version_str"),
    # Ends that are no return.
    ("CRASH_LOAD", "crash", "load", "loading it (its constructors): ended by SIGSEGV; at CRASH_LOAD.so+0x"),
    ("CRASH_INIT", "crash", "life", "init, time 1: ended by SIGSEGV; at CRASH_INIT.so+0x"),
    ("CRASH_HANDLE", "crash", "messages", "handle, with an empty message: ended by SIGSEGV; at CRASH_HANDLE.so+0x"),
    ("CRASH_CLOSE", "crash", "life", "close, time 1: ended by SIGSEGV"),
    ("CRASH_THREAD", "crash", "messages", "ended by SIGSEGV; at CRASH_THREAD.so+0x"),
    ("ABORT", "crash", "messages", "ended by SIGABRT"),
    ("STACK", "crash", "messages", "ended by SIGSEGV; at STACK.so+0x"),
    ("RACE", "crash", "threads", "handle, on 4 threads at once: ended by SIGABRT"),
    ("HANG_LOAD", "hangs", "load", "loading it (its constructors): no end after"),
    ("HANG_INIT", "hangs", "life", "init, time 1: no end after"),
    ("HANG_HANDLE", "hangs", "messages", "handle, with an empty message: no return by a second after the deadline"),
    ("HANG_CLOSE", "hangs", "life", "close, time 1: no end after"),
    ("EXIT", "exits", "messages", "handle, with an empty message: the process exited with status 0"),
    ("QUICK_EXIT", "exits", "messages", "the process exited with status 3"),
    # Life.
    ("INIT_FAILS", "init-fails", "life", "time 1: handler defect: no connection to the moon"),
    ("SECOND_INIT", "init-fails", "life", "time 2: handler rude: only once"),
    ("LEAK_INIT", "leak", "life", "init and close: about 80 bytes each time"),
    ("LEAK", "leak", "messages", "a round of messages: about"),
    ("LEAK_MIB", "leak", "messages", "bytes each time"),
    ("OPEN", "descriptor-leak", "messages", "more are open, e.g. /dev/null"),
    ("CLOSE", "descriptor-closed", "messages", "after messages descriptor 3, the host's, is closed"),
    ("THREAD", "threads-left", "life", "after init and close 100 more run"),
    # Verdicts.
    ("RUBBISH", "verdict", "messages", "handle returns 1234"),
    ("NEVER", "defer-never", "messages", "complete was not called"),
    ("TWICE", "complete-twice", "messages", "a delivery that is over"),
    ("LATE", "defer-late", "messages", "after the delivery's deadline"),
    ("SLOW", "late", "messages", "ms after its deadline"),
    ("DEAF", "cancel-late", "time", "it goes on for 3"),
    # Views.
    ("WRITE_VIEW", "writes-view", "messages", "handle, with a message of one byte"),
    ("READ_BEYOND", "reads-beyond", "messages", "handle, with an empty message"),
    # The process.
    ("FORK", "forked", "messages", "handle returns in a process that it has made"),
    ("CHILD", "processes-left", "messages", "still run after the plugin's end"),
    ("MASK", "signal-mask", "messages", "handle leaves another one"),
    ("SIGNAL", "signal-handler", "messages", "that of SIGUSR1 is another"),
    ("LOCALE", "locale", "messages", "after messages it is"),
    ("FOLDER", "folder", "messages", "the working directory is /"),
    ("UMASK", "umask", "messages", "after messages it is 0000"),
    ("ENVIRONMENT", "environment", "messages", "it is another"),
    ("PRINT", "output", "messages", "it prints: all work and no play"),
    # The same faults as the table of bad plugins has them (which runs them in workers).
    ("bad/CRASH_LOAD", "crash", "load", "ended by SIGSEGV; at CRASH_LOAD.so+0x"),
    ("bad/CRASH_CONSTRUCTOR", "crash", "load", "ended by SIGSEGV; at CRASH_CONSTRUCTOR.so+0x"),
    ("bad/CRASH_INIT", "crash", "life", "init, time 1: ended by SIGSEGV"),
    ("bad/CRASH_HANDLE", "crash", "messages", "ended by SIGSEGV; at CRASH_HANDLE.so+0x"),
    ("bad/CRASH_CLOSE", "crash", "life", "close, time 1: ended by SIGSEGV"),
    ("bad/CRASH_THREAD", "crash", "messages", "ended by SIGSEGV; at CRASH_THREAD.so+0x"),
    ("bad/HANG_LOAD", "hangs", "load", "no end after"),
    ("bad/HANG_CONSTRUCTOR", "hangs", "load", "no end after"),
    ("bad/HANG_INIT", "hangs", "life", "init, time 1: no end after"),
    ("bad/HANG_HANDLE", "hangs", "messages", "no return by a second after the deadline"),
    ("bad/HANG_CLOSE", "hangs", "life", "close, time 1: no end after"),
    ("bad/HANG_THREAD", "threads-left", "messages", "more run"),
    ("bad/HANG_DEAF", "hangs", "messages", "no return by a second after the deadline"),
    ("bad/WRITES", "writes-view", "messages", "ended by SIGSEGV; at WRITES.so+0x"),
    ("bad/FORKS", "forked", "messages", "handle returns in a process that it has made"),
    ("bad/MASK", "signal-mask", "messages", "handle leaves another one"),
    ("bad/LOCALE", "locale", "messages", "after messages it is"),
    ("bad/FOLDER", "folder", "messages", "the working directory is /"),
    ("bad/EXITS", "exits", "messages", "the process exited with status 3"),
    ("bad/EXITS_NOW", "exits", "messages", "the process exited with status 4"),
    ("bad/LEAKS", "leak", "messages", "bytes each time"),
    ("bad/CLOSES", "descriptor-closed", "messages", "descriptor 3, the host's, is closed"),
    ("bad/THROWS", "crash", "messages", "ended by SIGABRT; at THROWS.so+0x"),
    ("bad/OVERFLOWS", "crash", "messages", "ended by SIGSEGV; at OVERFLOWS.so+0x"),
    ("bad/ABORTS", "crash", "messages", "ended by SIGABRT; at ABORTS.so+0x"),
    ("bad/PRINTS", "floods", "messages", "handle, with an empty message: ended after 16 MiB of output"),
    ("bad/OTHER_MACHINE", "refused", "file", "ELF machine: it is 4660, this host's is"),
    ("bad/WRITABLE", "refused", "file", "the file may be written by everybody: its mode is 0666"),
    ("bad/OPEN_FOLDER/NONE", "refused", "file", "the folder may be written by everybody: its mode is 0777"),
    # The probe slot.
    ("PROBE_CRASH", "crash", "life", "probe: ended by SIGSEGV; at PROBE_CRASH.so+0x"),
    ("PROBE_HANG", "hangs", "life", "probe: no end after"),
    ("PROBE_ANSWER", "probe", "life", "it returns 7"),
    ("PROBE_FORK", "forked", "life", "probe returns in a process that it has made"),
    # One instance for all threads.
    ("SHARED_WRITE", "writes-view", "messages", "handle, with a message of one byte"),
    ("SHARED_RACE", "crash", "threads", "handle, on 4 threads at once: ended by SIGABRT; at SHARED_RACE.so+0x"),
    ("SHARED_MIX", "mixed", "threads", "bytes are not liked"),
    ("SHARED_STRAY", "unsteady", "threads", "alone always reject, beside others also retry"),
    # Nothing to object to.
    ("NONE", "", "", ""),
    ("POLITE", "", "", ""),
    ("SHARED_POLITE", "", "", ""),
    ("DEFER", "", "", ""),
    # What verify cannot see.
    ("bad/SPEAKS", "", "", "it writes to the socket of a worker's child, and verify has none"),
    ("bad/SEES", "", "", "no defect: it tells the table of bad plugins what a child of the worker has"),
]
WARNINGS = {"unsteady", "exports", "option-help", "option-default", "output", "cancel-late"}
TIMEOUTS = {"DEAF": "5s", "bad/PRINTS": "5s", "LATE": "300ms", "SLOW": "300ms"}


def waits(row):
    """Those that are slow, because they wait: the first to begin."""
    return row[0] in TIMEOUTS or row[1] in ("hangs", "defer-never", "threads-left", "processes-left")


def path_of(folders, name):
    folder, made = folders
    if name in MADE:
        return os.path.join(made, name + ".so")
    return os.path.normpath(os.path.join(folder, "..", name + ".so") if "/" in name else os.path.join(folder, name + ".so"))


def verify(worker, folder, row):
    """What is wrong with what it says; "" = nothing."""
    name, finding, check, text = row
    needs = MUST if name in DEFECTS or "/" in name or name == "USELESS_DEFAULT" else []
    command = [worker, "plugin", "verify", "--json", "--timeout", TIMEOUTS.get(name, "1s"), "--limit", "4s", *needs,
               path_of(folder, name)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    wanted = 66 if finding and finding not in WARNINGS else 0
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return "no JSON: %r %r" % (done.stdout, done.stderr)
    found = report["findings"]
    if name == "LATE" and any(f["id"] == "crash" for f in found):
        return ""  # it aborts when the host, on a busy machine, still takes it
    if done.returncode != wanted:
        return "exit status %d, not %d: %r" % (done.returncode, wanted, found)
    if done.stderr:
        return "it says on standard error: " + done.stderr
    if not finding:
        results = {check["result"] for check in report["checks"]}
        return "" if not found and results == {"ok"} else "found: %r, results %r" % (found, results)
    if not any(f["id"] == finding and f["check"] == check and text in f["what"] for f in found):
        return "not found: %r" % found
    others = {f["id"] for f in found} - {finding} - ALSO.get(name, set())
    return "too much: %r" % found if others else ""


# What follows from the defect besides its finding.
ALSO = {
    "bad/PRINTS": {"output"},
    "PROBE_FORK": {"processes-left"},
    "SHARED_MIX": {"unsteady"},
    "SLOW": {"cancel-late"},
    "FORK": {"processes-left"},
    "THREAD": {"leak", "hangs"},
    "bad/FORKS": {"processes-left"},
    "bad/HANG_THREAD": {"leak"},
    "bad/HANG_DEAF": {"output"},
    "bad/EXITS_NOW": {"output"},
    "bad/THROWS": {"output", "exports"},
    "bad/ABORTS": {"output"},
}
DEFECTS = {"NO_SYMBOL", "WRONG_MAGIC", "OTHER_MAJOR", "NEWER_MINOR", "SMALL_SIZE", "BIG_SIZE", "SMALL_OPTION", "NO_HANDLE",
           "NO_NAME", "BAD_DEFAULT", "SAME_OPTION", "BAD_TYPE", "NULL_OPTIONS", "NOT_CONSTANT", "UNDEFINED", "INIT_FAILS",
           "RUBBISH", "NEVER", "TWICE", "LATE", "SHORT_OBJECT", "BIG_SERVICES", "NONE"}


def check_modes(worker, folder):
    """Files that others may write: everybody, or (a warning) a group."""
    if os.geteuid() != 0:
        return []
    wrong = []
    for mode, finding, status in ((0o666, "refused", 66), (0o664, "group-writable", 0)):
        with tempfile.TemporaryDirectory() as private:
            path = os.path.join(private, "polite.so")
            shutil.copy(os.path.join(folder, "POLITE.so"), path)
            os.chown(path, 0, 1)
            os.chmod(path, mode)
            done = subprocess.run([worker, "plugin", "verify", "--json", path], stdout=subprocess.PIPE, text=True, timeout=300,
                                  check=False)
            found = [f["id"] for f in json.loads(done.stdout)["findings"]]
            if found != [finding] or done.returncode != status:
                wrong.append("mode %o: status %d, %r" % (mode, done.returncode, found))
            denied = subprocess.run([worker, "plugin", "verify", "--deny-warnings", path], stdout=subprocess.DEVNULL, timeout=300,
                                    check=False)
            if denied.returncode != 66:
                wrong.append("mode %o with --deny-warnings: status %d" % (mode, denied.returncode))
    return wrong


def timed(worker, folder, row):
    started = time.monotonic()
    answer = verify(worker, folder, row)
    took = time.monotonic() - started
    if took > 10:
        print("%s took %.1f s" % (row[0], took))
    return answer


# ---- Every defect has a row ----

MADE = {"bad/OTHER_MACHINE", "bad/WRITABLE", "bad/OPEN_FOLDER/NONE"}


def prepare(folder, made):
    """What bad.c makes of NONE.so by itself, too."""
    for name in MADE:
        os.makedirs(os.path.dirname(os.path.join(made, name)), exist_ok=True)
        shutil.copy(os.path.join(folder, "NONE.so"), os.path.join(made, name + ".so"))
    os.chmod(os.path.join(made, "bad/WRITABLE.so"), 0o666)
    os.chmod(os.path.join(made, "bad/OPEN_FOLDER"), 0o777)
    with open(os.path.join(made, "bad/OTHER_MACHINE.so"), "r+b") as file:
        file.seek(18)
        file.write(b"\x34\x12")


def forgotten(folder):
    """Plugins and defects of the table of bad plugins without a row here."""
    known = {row[0] for row in ROWS}
    there = {file[:-3] for file in os.listdir(folder)}
    there |= {"bad/" + file[:-3] for file in os.listdir(os.path.join(folder, "..", "bad")) if file.endswith(".so")} - MADE
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "bad.c"), encoding="utf-8") as source:
        table = set(re.findall(r'^    \{"([A-Z_/]+)", (?:THREADS|PROCESS),', source.read(), re.M))
    if len(table) < 40:
        sys.exit("the rows of bad.c are not to be read: %r" % table)
    return sorted(there - known) + sorted(name for name in table if name not in known and "bad/" + name not in known)


def main():
    worker, folder, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    if forgotten(folder):
        sys.exit("no row for %s" % ", ".join(forgotten(folder)))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        folders = (folder, made)
        prepare(folder, made)
        rows = [row for row in ROWS
                if (row[0] in names if names else os.path.exists(path_of(folders, row[0])) or row[0] != "bad/THROWS")]
        rows.sort(key=waits, reverse=True)
        with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
            answers = list(pool.map(lambda row: timed(worker, folders, row), rows))
    wrong = [] if names else check_modes(worker, folder)
    wrong += ["%s: %s" % (row[0], answer) for row, answer in zip(rows, answers) if answer]
    print("\n".join(wrong))
    print("%d plugins, %d wrong, %.1f s" % (len(rows), len(wrong), time.monotonic() - started))
    return 1 if wrong or not rows else 0


sys.exit(main())
