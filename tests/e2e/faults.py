#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Faults of real processes, as one table: what went in, what became of it, how much ran twice, and that
nothing was lost.

    faults.py --worker build/fila-worker --build build            all rows
    faults.py ... --quick                                         those of the test suite
    faults.py ... NAME...                                         these (a trailing * matches)
    faults.py --list

Options: --jobs N rows at once, --seed S of random instants, --markdown FILE (the table, for the guide),
--crash PROGRAM (a worker built with -DFILA_CRASH_POINTS=ON), --keep. With FILA_SERVER_BIN the rows that
need nothing of their broker but what every Fila server does also run against that server.

A row passes when no message is lost, and no more ran twice than its bound says. Exit status: 0 all passed, 1 not.
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
from ledger import Ledger  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(harness.HERE))


class Row:
    def __init__(self, name, body, quick, real, crash):
        self.name, self.body, self.quick, self.real, self.crash = name, body, quick, real, crash


ROWS = []


def row(name, quick=False, real=False, crash=False):
    """Registers a function of (bench, ledger, random) that returns the duplicate bound. real:
    its broker is any Fila server, started for it; crash: needs a worker with crash points."""
    def register(function):
        ROWS.append(Row(name, function, quick, real, crash))
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

    def markdown(self, path, order):
        lines = sorted((c for c in self.lines if c[-1] == "pass"), key=lambda c: order.index(c[0]))
        with open(path, "w", encoding="utf-8") as f:
            f.write("| fault | messages | dead letters | ran twice | bound | lost |\n|---|--:|--:|--:|--:|--:|\n")
            f.writelines("| %s | %s | %s | %s | %s | %s |\n" % (c[0], c[1], c[3], c[4], c[5], c[6]) for c in lines)


def run_row(entry, opts, server):
    bench = harness.Bench(opts.crash if entry.crash else opts.worker, opts.build, opts.keep)
    name = entry.name + (" (server)" if server else "")
    started, result, text = time.monotonic(), None, ""
    try:
        if server:
            importlib.import_module("test_server").start_server(bench, server)
        elif entry.real:
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
    ap.add_argument("--markdown")
    ap.add_argument("names", nargs="*")
    opts = ap.parse_args()
    importlib.import_module("fault_rows")
    if opts.list:
        for r in ROWS:
            print(r.name, "(quick)" if r.quick else "", "(crash points)" if r.crash else "")
        return 0
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
    work = [(r, None) for r in rows] + [(r, os.path.abspath(server)) for r in rows if server and r.real]
    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        outcomes = list(pool.map(lambda w: run_row(w[0], opts, w[1]), work))
    if opts.markdown:
        opts.table.markdown(opts.markdown, [r.name for r in ROWS] + [r.name + " (server)" for r in ROWS])
    print("%d passed, %d failed, %d skipped; lost in all: %d" % (
        outcomes.count("pass"), outcomes.count("FAIL"), outcomes.count("skipped"),
        sum(c[6] for c in opts.table.lines if isinstance(c[6], int))))
    return 1 if "FAIL" in outcomes else 0


if __name__ == "__main__":
    # fault_rows imports this module by its name: both must be one.
    sys.modules["faults"] = sys.modules["__main__"]
    sys.exit(main())
