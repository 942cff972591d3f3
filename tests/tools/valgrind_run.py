#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs chosen tests of a build under valgrind's memcheck, writes outcome lines (see stages.sh), and says on the terminal what failed.

The list has a test's name on each line, as ctest knows it; a trailing * takes all of that prefix,
and what follows the name is given to the program. Errors and definite or indirect leaks are read
from the log files of the program and all its children: the exit status of a Criterion suite does
not tell them. Of an end-to-end test the worker is what runs under valgrind. A test that fails without
a finding is run once more, alone, and is unstable if it then passes.
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

FINDING = "valgrind: "


def lines_of(path):
    with open(path, errors="replace") as f:
        return [line.rstrip()[:300] for line in f]


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
    """What is wrong ('' when all is well), and what tells more."""
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
    wrong = ""
    with open(stem + ".out", "w") as out:
        try:
            status = subprocess.run(command + test["command"] + extra, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT, timeout=opts.seconds, env=environment,
                                    cwd=properties.get("WORKING_DIRECTORY")).returncode
            wrong = "exit status %d" % status if status else ""
        except subprocess.TimeoutExpired:
            wrong = "over %d s" % opts.seconds
    for log in sorted(glob.glob(glob.escape(stem) + ".*.vg")):
        found = [line for line in lines_of(log) if re.match(r"==\d+==\s*\S", line)]  # --PID-- are valgrind's own remarks
        if found:
            return FINDING + re.sub(r"^==\d+==\s*", "", found[0]), found[:25]
    return wrong, lines_of(stem + ".out")[-30:]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("build", "logs", "list", "suppressions", "stage", "outcomes"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--seconds", type=int, default=240)
    opts = ap.parse_args()
    opts.suppressions, opts.logs = os.path.abspath(opts.suppressions), os.path.abspath(opts.logs)
    os.makedirs(opts.logs, exist_ok=True)
    tests = tests_of(opts.build)
    chosen, unknown = wanted(opts.list, tests)
    lines = []

    def outcome(kind, name, rerun=""):
        lines.append("\t".join((kind, "1", opts.stage, name, rerun)) + "\n")

    for name in unknown:
        outcome("fail", "%s is no test (%s)" % (name, opts.list))
    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        runs = [(name, extra, pool.submit(run, name, tests[name], extra, opts)) for name, extra in chosen]
    for name, extra, future in runs:
        wrong, said = future.result()
        again = run(name, tests[name], extra, opts)[0] if wrong and not wrong.startswith(FINDING) else wrong
        if wrong:
            print("   %s %s (%s)" % ("FAILED" if again else "UNSTABLE", name, wrong))
            print("\n".join("     | " + line for line in said), flush=True)
        if again:
            outcome("fail", "%s (%s)" % (name, again),
                    "valgrind --leak-check=full --trace-children=yes " + " ".join(tests[name]["command"]))
            continue
        outcome("pass", name)
        if wrong:
            outcome("unstable", "%s (%s)" % (name, wrong))
    with open(opts.outcomes, "a") as outcomes:
        outcomes.writelines(lines)


main()
