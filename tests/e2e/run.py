#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs end-to-end tests of the real fila-worker.

    run.py --worker build/fila-worker            all of them
    run.py --worker ... NAME...                          these (a trailing * matches)
    run.py --list                                        their names, one a line: "name seconds module"
    run.py --worker ... --module MODULE NAME...          reads that file alone

Each prints PASS, FAIL or SKIPPED. Exit status: 0 all passed, 1 some failed, 77 all were skipped.
"""
import argparse
import fnmatch
import os
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import registry  # noqa: E402


def run(test, opts):
    """'PASS', 'FAIL' or 'SKIPPED', and prints it."""
    bench = harness.Bench(opts.worker, opts.build, opts.keep)
    started = time.monotonic()
    outcome, text = "PASS", ""
    try:
        if test.real_server:
            bench.start_broker()
        test.body(bench)
    except harness.Skipped as why:
        outcome, text = "SKIPPED", str(why)
    except harness.Failed as why:
        outcome = "FAIL"
        text = "%s\n%s" % (why, "".join(traceback.format_tb(why.__traceback__)[-2:]))
    except Exception:  # the test itself is broken: as bad as a failure
        outcome, text = "FAIL", traceback.format_exc()
    if outcome == "FAIL":
        text += "\n" + bench.transcript()
    bench.close()
    if outcome == "SKIPPED":
        print("SKIPPED: %s" % text, flush=True)
    else:
        print("%s %s (%.1f s)" % (outcome, test.name, time.monotonic() - started), flush=True)
        if text:
            print(text, flush=True)
    return outcome


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--worker", help="the fila-worker to test")
    ap.add_argument("--build", help="the build folder, for the test plugins")
    ap.add_argument("--list", action="store_true")
    ap.add_argument("--module", choices=registry.MODULES, help="where the tests are")
    ap.add_argument("--keep", action="store_true", help="keep the tests' folders")
    ap.add_argument("names", nargs="*")
    opts = ap.parse_args()
    registry.load([opts.module] if opts.module else registry.MODULES)
    tests = registry.TESTS
    if opts.list:
        for test in tests:
            print(test.name, test.seconds, test.module)
        return 0
    if opts.names:
        tests = [t for t in tests if any(fnmatch.fnmatch(t.name, n) for n in opts.names)]
    if not tests or not opts.worker:
        ap.error("no such test" if opts.worker else "--worker is missing")
    opts.worker = os.path.abspath(opts.worker)
    opts.build = os.path.abspath(opts.build) if opts.build else os.path.dirname(opts.worker)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcomes = [run(test, opts) for test in tests]
    failed = outcomes.count("FAIL")
    print("%d passed, %d failed, %d skipped" % (outcomes.count("PASS"), failed, outcomes.count("SKIPPED")))
    return 1 if failed else 77 if outcomes.count("SKIPPED") == len(outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
