#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Faults of real processes, as one table: what went in, what became of it, how much ran twice, and that
nothing was lost.

    faults.py --worker build/fila-worker --build build            all rows
    faults.py ... --quick                                         those of the test suite
    faults.py ... NAME...                                         these (a trailing * matches)
    faults.py --list
    faults.py --check config/README.md                            has the guide these rows, all and no others?

Options: --jobs N rows at once, --seed S of random instants, --update FILE (puts the measured table into the
guide), --crash PROGRAM (a worker built with -DFILA_CRASH_POINTS=ON), --keep. With FILA_SERVER_BIN the rows
whose fault needs no script in the broker also run against that server; --server: only these.

A row passes when no message is lost, no more ran twice than its bound says, only messages that cannot be
handled are dead letters, and what the workers say of their outcomes fits. Exit status: 0 all passed, 1 not.
"""
import argparse
import concurrent.futures
import fnmatch
import importlib
import os
import random
import re
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
from brokers import Server  # noqa: E402
from ledger import Ledger  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(harness.HERE))


MODULES = ("rows_worker", "rows_broker", "rows_limits", "rows_life", "rows_apart")


class Row:
    """`broker`: "plain" or "durable" (bench.server, which can die and come back) is started for it, and may
    be any Fila server; None: it starts what it needs. `group`: the line of the guide that it is a part of."""

    def __init__(self, name, body, quick=False, broker=None, crash=False, group=None):
        self.name, self.body, self.quick, self.broker, self.crash = name, body, quick, broker, crash
        self.group = group or name


ROWS = []


def row(name, **more):
    """Registers a function of (bench, ledger, random) that returns the duplicate bound."""
    def register(function):
        ROWS.append(Row(name, function, **more))
        return function
    return register


def crash_points():
    with open(os.path.join(ROOT, "workers", "host", "crash.h"), encoding="utf-8") as f:
        return re.findall(r'X\([A-Z_]+, "([a-z-]+)"\)', f.read())


def outcomes_text(outcomes):
    return " ".join("%s=%d" % (k, v) for k, v in outcomes.items() if v) or "-"


class Table:
    HEAD = ("scenario", "in", "outcomes (of workers that ended in order)", "dead", "twice", "bound", "lost", "s", "")

    def __init__(self):
        self.lines, self.lock = [], threading.Lock()

    @staticmethod
    def show(cells):
        print("%-46s %6s  %-52s %5s %6s %6s %5s %6s  %s" % cells, flush=True)

    def add(self, name, result, seconds, outcome, text=""):
        cells = (name, "-", "-", "-", "-", "-", "-", "%.1f" % seconds, outcome)
        if result:
            cells = (name, result["in"], outcomes_text(result["outcomes"]), result["dead"], result["duplicates"],
                     result["bound"], result["lost"], "%.1f" % seconds, outcome)
        with self.lock:
            self.lines.append(cells)
            self.show(cells)
            if text:
                print(text, flush=True)

    def markdown(self):
        """One line for each group of rows; None: some did not pass, so it would be no whole table."""
        found = {line[0]: line for line in self.lines if line[-1] == "pass"}
        lines = ["| fault | messages | dead letters | ran twice | bound | lost |", "|---|--:|--:|--:|--:|--:|"]
        for group in groups():
            cells = [found.get(r.name) for r in ROWS if r.group == group]
            if None in cells:
                return None
            sums = [sum(c[i] for c in cells) for i in (1, 3, 4, 5, 6)]
            lines.append("| %s | %s |" % (group, " | ".join("{:,}".format(n) for n in sums)))
        return "\n".join(lines) + "\n"


def groups():
    return list(dict.fromkeys(r.group for r in ROWS))


# ---- The guide's table ----

TABLE = re.compile(r"(<!-- tests/faults.sh: begin -->\n)(.*?)(<!-- tests/faults.sh: end -->\n)", re.S)


def update_guide(path, text):
    with open(path, encoding="utf-8") as f:
        guide = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(TABLE.sub(lambda found: found.group(1) + text + found.group(3), guide))


def check_guide(path):
    """What differs between the guide's rows and ours."""
    with open(path, encoding="utf-8") as f:
        found = TABLE.search(f.read())
    lines = found.group(2).splitlines()[2:] if found else []
    there = [line.strip("| ").split(" | ") for line in lines]
    wrong = ["in the guide only: " + cells[0] for cells in there if cells[0] not in groups()]
    wrong += ["not in the guide: " + group for group in groups() if group not in [cells[0] for cells in there]]
    wrong += ["lost messages: " + cells[0] for cells in there if cells[-1] != "0"]
    return wrong


def run_row(entry, opts, server):
    bench = harness.Bench(opts.crash if entry.crash else opts.worker, opts.build, opts.keep)
    name = entry.name + (" (server)" if server else "")
    started, result, text = time.monotonic(), None, ""
    try:
        if entry.broker == "durable" or server:
            bench.server = Server(bench, server).start()
        elif entry.broker:
            bench.start_broker()
        ledger = Ledger(bench)
        bound = entry.body(bench, ledger, random.Random("%s %s" % (opts.seed, entry.name)))
        result = ledger.result(bound)
        outcome = "pass" if result["lost"] == 0 and result["duplicates"] <= result["bound"] else "FAIL"
    except harness.Skipped as why:
        outcome, text = "skipped", "    %s" % why
    except harness.Failed as why:
        outcome, text = "FAIL", "%s\n%s" % (why, "".join(traceback.format_tb(why.__traceback__)[-2:]))
    except Exception:
        outcome, text = "FAIL", traceback.format_exc()
    if outcome == "FAIL":
        text += "\n" + bench.transcript()
    bench.close()
    opts.table.add(name, result, time.monotonic() - started, outcome, text)
    return outcome


def choose(opts):
    rows = [r for r in ROWS if not opts.quick or r.quick]
    if opts.names:
        rows = [r for r in rows if any(fnmatch.fnmatch(r.name, n) for n in opts.names)]
    return [r for r in rows if opts.crash or not r.crash]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--worker")
    ap.add_argument("--build")
    ap.add_argument("--crash")
    ap.add_argument("--quick", action="store_true")
    ap.add_argument("--list", action="store_true")
    ap.add_argument("--keep", action="store_true")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    ap.add_argument("--server", action="store_true")
    ap.add_argument("--update", metavar="FILE")
    ap.add_argument("--check", metavar="FILE")
    ap.add_argument("names", nargs="*")
    opts = ap.parse_args()
    for module in MODULES:
        importlib.import_module(module)
    if opts.list:
        for r in ROWS:
            print(r.name, "(quick)" if r.quick else "", "(any server)" if r.broker else "",
                  "(crash points)" if r.crash else "")
        return 0
    if opts.check:
        wrong = check_guide(opts.check)
        print("\n".join(wrong) or "%s has all %d lines" % (opts.check, len(groups())))
        return 1 if wrong else 0
    rows = choose(opts)
    if not rows or not opts.worker:
        ap.error("no such row" if opts.worker else "--worker is missing")
    opts.worker = os.path.abspath(opts.worker)
    opts.crash = os.path.abspath(opts.crash) if opts.crash else None
    opts.build = os.path.abspath(opts.build) if opts.build else os.path.dirname(opts.worker)
    opts.table = Table()
    print("seed %d" % opts.seed)
    Table.show(Table.HEAD)
    server = os.environ.get("FILA_SERVER_BIN")
    server = os.path.abspath(server) if server else None
    if opts.server and not server:
        ap.error("FILA_SERVER_BIN names no server")
    work = [] if opts.server else [(r, None) for r in rows]
    work += [(r, server) for r in rows if server and r.broker]
    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        outcomes = list(pool.map(lambda w: run_row(w[0], opts, w[1]), work))
    if opts.update:
        text = opts.table.markdown()
        if text:
            update_guide(opts.update, text)
        else:
            print("%s is not changed: not every row ran and passed" % opts.update)
            outcomes.append("FAIL")
    print("%d passed, %d failed, %d skipped; lost in all: %d" % (
        outcomes.count("pass"), outcomes.count("FAIL"), outcomes.count("skipped"),
        sum(c[6] for c in opts.table.lines if isinstance(c[6], int))))
    return 1 if "FAIL" in outcomes else 0


if __name__ == "__main__":
    # The rows import this module by its name: both must be one.
    sys.modules["faults"] = sys.modules["__main__"]
    sys.exit(main())
