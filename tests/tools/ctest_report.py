#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Turns the JUnit file of a ctest run into outcome lines (see stages.sh).

usage: ctest_report.py FILE.xml STAGE BUILD-FOLDER

A Criterion suite counts by its cases, an end-to-end table by its rows, anything else as one. A suite that ran no case is a failure:
a test that cannot fail shows nothing.
"""
import re
import sys
import xml.etree.ElementTree

SYNTHESIS = re.compile(r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)")
ROW = re.compile(r"^PASS ", re.MULTILINE)


def outcome(kind, count, stage, name, rerun):
    print("\t".join((kind, str(count), stage, name, rerun)))


def main():
    path, stage, build = sys.argv[1:4]
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        name = case.get("name")
        rerun = "ctest --test-dir %s --output-on-failure -R '^%s$'" % (build, re.escape(name))
        text = case.findtext("system-out") or ""
        skipped, failure = case.find("skipped"), case.find("failure")
        counts = [tuple(map(int, m.groups())) for m in SYNTHESIS.finditer(text)]
        tested, passing = sum(c[0] for c in counts), sum(c[1] for c in counts)
        if skipped is not None:
            reason = re.search(r"^SKIPPED: (.*)$", text, re.MULTILINE)
            outcome("skip", 1, stage, name + (": " + reason.group(1) if reason else ""), "")
        elif failure is not None or case.get("status") != "run":
            why = (failure.get("message") if failure is not None else "") or case.get("status")
            if passing:
                outcome("pass", passing, stage, name, "")
            outcome("fail", max(1, tested - passing), stage, "%s (%s)" % (name, why), rerun)
        elif counts and tested == 0:
            outcome("fail", 1, stage, name + " (a suite without a case)", rerun)
        else:
            rows = len(ROW.findall(text)) - 1 if name.startswith("e2e.") else 1
            outcome("pass", passing if counts else max(1, rows), stage, name, "")


main()
