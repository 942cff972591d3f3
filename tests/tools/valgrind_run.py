#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs chosen tests of a build under valgrind's memcheck and prints outcome lines (see stages.sh).

The list has a test's name on each line, as ctest knows it; a trailing * takes all of that prefix,
and what follows the name is given to the program. Errors and definite or indirect leaks are read
from the log files of the program and all its children: the exit status of a Criterion suite does
not tell them. Of an end-to-end test the worker is what runs under valgrind.
"""
import argparse
import concurrent.futures
import fnmatch
import glob
import json
import os
import re
import shlex
import subprocess



def tests_of(build):
    out = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True,
                         capture_output=True, text=True).stdout
    return {t["name"]: t for t in json.loads(out)["tests"] if t.get("command")}


def wanted(path, tests):
    """(name, extra arguments) of the list's tests, and the lines that match none."""
    chosen, unknown = [], []
    for line in open(path):
        words = line.split("#")[0].split()
        if not words:
            continue
        names = fnmatch.filter(sorted(tests), words[0])
        chosen += [(name, words[1:]) for name in names]
        if not names:
            unknown.append(words[0])
    return chosen, unknown


def run(name, test, extra, opts):
    """'' when all is well, else what is wrong."""
    stem = os.path.join(opts.logs, name)
    for old in glob.glob(glob.escape(stem) + ".*.vg"):
        os.unlink(old)
    command = ["valgrind", "--tool=memcheck", "--quiet", "--fair-sched=yes", "--leak-check=full", "--num-callers=24",
               "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect",
               "--trace-children=yes", "--trace-children-skip=/bin/*,/usr/bin/*",
               "--suppressions=" + opts.suppressions, "--log-file=%s.%%p.vg" % stem]
    if name.startswith("e2e."):
        wrapper = [word for word in command if not word.startswith("--trace-children")]
        command = []
    properties = {p["name"]: p["value"] for p in test.get("properties", [])}
    environment = dict(os.environ, FILA_TEST_SLOW="1")
    environment.update(e.split("=", 1) for e in properties.get("ENVIRONMENT", []))
    if not command:
        environment.update(FILA_E2E_WRAPPER=shlex.join(wrapper), FILA_E2E_SLOW="8")
    with open(stem + ".out", "w") as out:
        try:
            status = subprocess.run(command + test["command"] + extra, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT, timeout=opts.seconds, env=environment,
                                    cwd=properties.get("WORKING_DIRECTORY")).returncode
        except subprocess.TimeoutExpired:
            return "over %d s" % opts.seconds
    for log in sorted(glob.glob(glob.escape(stem) + ".*.vg")):
        for line in open(log, errors="replace"):
            if re.match(r"==\d+==\s*\S", line):  # lines of --PID-- are valgrind's own remarks
                return "%s: %s" % (os.path.basename(log), re.sub(r"^==\d+==\s*", "", line.rstrip()))
    return "exit status %d" % status if status else ""


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("build", "logs", "list", "suppressions", "stage"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--seconds", type=int, default=240)
    opts = ap.parse_args()
    opts.suppressions, opts.logs = os.path.abspath(opts.suppressions), os.path.abspath(opts.logs)
    os.makedirs(opts.logs, exist_ok=True)
    tests = tests_of(opts.build)
    chosen, unknown = wanted(opts.list, tests)
    for name in unknown:
        print("\t".join(("fail", "1", opts.stage, "%s is no test (%s)" % (name, opts.list), "")))
    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        runs = [(name, pool.submit(run, name, tests[name], extra, opts)) for name, extra in chosen]
        for name, future in runs:
            wrong = future.result()
            rerun = "valgrind --leak-check=full --trace-children=yes " + " ".join(tests[name]["command"])
            print("\t".join(("fail" if wrong else "pass", "1", opts.stage,
                             "%s (%s)" % (name, wrong) if wrong else name, rerun)))


main()
