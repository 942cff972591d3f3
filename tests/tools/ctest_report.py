#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Turns the JUnit file of a ctest run into outcome lines (see stages.sh), and says on the terminal what failed.

usage: ctest_report.py --stage STAGE --build FOLDER --outcomes FILE FIRST.xml [AGAIN.xml]
       ctest_report.py --failed FIRST.xml

AGAIN.xml is a second run, each test alone, of those that failed in the first: what passes there counts as unstable, not as failed. A
Criterion suite counts by its cases, an end-to-end table by its rows, anything else as one. A suite that ran no case is a failure: a test that
cannot fail shows nothing. --failed prints a regular expression of what failed, for ctest -R; nothing when all passed, or when so much
failed that a second run would only cost time.
"""
import argparse
import re
import xml.etree.ElementTree

SYNTHESIS = re.compile(r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)")
ROW = re.compile(r"^PASS ", re.MULTILINE)
TELLING = re.compile(r"^FAIL\b|\bFAILED\b|\[FAIL\]|\[CRASH|^ *DIFFERS\b|Assertion .* failed")
TAIL_LINES = 30
TELLING_LINES = 8
MOST_RUN_AGAIN = 12


def cases_of(path):
    """Name -> case, with what the case said, in the order of the file."""
    return {case.get("name"): case for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase")} if path else {}


def text_of(case):
    return case.findtext("system-out") or ""


def has_failed(case):
    if case.find("skipped") is not None:
        return False
    counts = SYNTHESIS.findall(text_of(case))
    return (case.find("failure") is not None or case.get("status") != "run" or
            (bool(counts) and sum(int(c[0]) for c in counts) == 0))


def why_of(case):
    failure = case.find("failure")
    if failure is None and case.get("status") == "run":
        return "a suite without a case"
    said = (failure.get("message") if failure is not None else "") or "failed"
    return "%s after %.0f s" % (said, float(case.get("time") or 0))


def tail(text):
    """The lines that tell most: the last ones, and before them those that name a failure."""
    lines = [line[:300].rstrip() for line in text.strip().splitlines()]
    early, late = lines[:-TAIL_LINES], lines[-TAIL_LINES:]
    telling = [line for line in early if TELLING.search(line)]
    shown = telling[:TELLING_LINES]
    if len(early) > len(shown):
        shown.append("... (%d lines)" % (len(early) - len(shown)))
    return "\n".join("     | " + line for line in shown + late) or "     | (it said nothing)"


class Report:
    def __init__(self, opts):
        self.opts = opts
        self.lines = []

    def outcome(self, kind, count, name, rerun=""):
        self.lines.append("\t".join((kind, str(count), self.opts.stage, name, rerun)))

    def passed(self, name, text):
        counts = SYNTHESIS.findall(text)
        rows = len(ROW.findall(text)) - 1 if name.startswith("e2e.") else 1
        self.outcome("pass", sum(int(c[1]) for c in counts) if counts else max(1, rows), name)

    def failed(self, name, case, again):
        """A test that failed when it ran among others."""
        text, why = text_of(case), "%s (%s)" % (name, why_of(case))
        if again is not None and not has_failed(again):
            print("   UNSTABLE %s, and passed when it ran alone\n%s" % (why, tail(text)))
            self.passed(name, text_of(again))
            self.outcome("unstable", 1, why)
            return
        print("   FAILED %s%s\n%s" % (why, ", and again alone" if again is not None else "", tail(text)))
        counts = SYNTHESIS.findall(text)
        tested, passing = (sum(int(c[i]) for c in counts) for i in (0, 1))
        if passing:
            self.outcome("pass", passing, name)
        self.outcome("fail", max(1, tested - passing), why,
                     "ctest --test-dir %s --output-on-failure -R '^%s$'" % (self.opts.build, re.escape(name)))

    def add(self, name, case, again):
        text = text_of(case)
        if case.find("skipped") is not None:
            reason = re.search(r"^SKIPPED: (.*)$", text, re.MULTILINE)
            self.outcome("skip", 1, name + (": " + reason.group(1) if reason else ""))
        elif has_failed(case):
            self.failed(name, case, again)
        else:
            self.passed(name, text)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--failed", action="store_true")
    for name in ("stage", "build", "outcomes"):
        ap.add_argument("--" + name)
    ap.add_argument("first")
    ap.add_argument("again", nargs="?")
    opts = ap.parse_args()
    first, again = cases_of(opts.first), cases_of(opts.again)
    if opts.failed:
        names = [name for name, case in first.items() if has_failed(case)]
        if 0 < len(names) <= MOST_RUN_AGAIN:
            print("^(%s)$" % "|".join(map(re.escape, names)))
        return
    report = Report(opts)
    for name, case in first.items():
        report.add(name, case, again.get(name))
    with open(opts.outcomes, "a") as outcomes:
        outcomes.writelines(line + "\n" for line in report.lines)


main()
