#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Runs clang-tidy over the .c files named that are in a build's compile commands, several at once.

A file that came out clean is remembered by a hash of all that went into the result: the file, the
project's headers that it includes (as ninja knows them), its flags, .clang-tidy and the versions of
clang-tidy and the libraries. So a second run costs only what changed.

The static analyzer explores --max-nodes states of a function: 50,000 find what its default of
225,000 finds here, in a fifth of the time.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cache_folder():
    base = os.environ.get("FILA_LINT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fila-worker")
    folder = os.path.join(base, "tidy")
    os.makedirs(folder, exist_ok=True)
    return folder


def headers_of(build):
    """Object file -> the project's headers that it depends on, from ninja's record."""
    out = subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True).stdout
    found, current = {}, None
    for line in out.splitlines():
        if line.startswith("    "):
            path = os.path.normpath(os.path.join(build, line.strip()))
            if path.startswith(ROOT + os.sep):
                found[current].append(path)
        elif ": #deps" in line:
            current = line.split(":")[0]
            found[current] = []
    return found


def toolchain():
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True).stdout
    packages = subprocess.run(["dpkg-query", "-W", "libgrpc-dev", "libprotobuf-c-dev", "libconfig-dev", "uthash-dev",
                               "libjansson-dev", "libcriterion-dev", "libc6-dev"],
                              capture_output=True, text=True).stdout if os.path.exists("/usr/bin/dpkg-query") else ""
    return version + packages + open(os.path.join(ROOT, ".clang-tidy")).read()


def key_of(entry, headers, base):
    h = hashlib.sha256(base.encode())
    h.update(" ".join(w for w in shlex.split(entry["command"]) if not w.endswith((".o", ".d"))).encode())
    for path in [entry["file"]] + sorted(headers):
        h.update(path.encode())
        with open(path, "rb") as f:
            h.update(f.read())
    return h.hexdigest()


def lint(entry, build, max_nodes):
    started = time.monotonic()
    extra = ["--extra-arg=" + a for a in ("-Xclang", "-analyzer-config", "-Xclang", "max-nodes=%d" % max_nodes)]
    try:
        done = subprocess.run(["clang-tidy", "--quiet", "-p", build, *extra, entry["file"]], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=300)
        return done.returncode, done.stdout, time.monotonic() - started
    except subprocess.TimeoutExpired:
        return 1, "%s: error: clang-tidy took over 300 s\n" % entry["file"], 300.0


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default="build")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--max-nodes", type=int, default=50000)
    ap.add_argument("--outcomes", default="/dev/null")
    ap.add_argument("files", nargs="*")
    opts = ap.parse_args()
    build = os.path.abspath(opts.build)
    wanted = {os.path.join(ROOT, f) if not os.path.isabs(f) else f for f in opts.files}
    entries = {}
    for entry in json.load(open(os.path.join(build, "compile_commands.json"))):
        if entry["file"] in wanted:
            entries.setdefault(entry["file"], entry)
    headers, base, cache = headers_of(build), toolchain() + str(opts.max_nodes), cache_folder()
    todo, remembered = [], 0
    for path, entry in sorted(entries.items()):
        object_file = entry.get("output") or shlex.split(entry["command"])[shlex.split(entry["command"]).index("-o") + 1]
        mark = os.path.join(cache, key_of(entry, headers.get(object_file, []), base))
        if os.path.exists(mark):
            os.utime(mark)
            remembered += 1
        else:
            todo.append((path, entry, mark))
    failed, times = 0, []
    with open(opts.outcomes, "a") as outcomes, concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        for (path, entry, mark), result in zip(todo, pool.map(lambda t: lint(t[1], build, opts.max_nodes), todo)):
            status, text, seconds = result
            times.append((seconds, path))
            if status == 0:
                open(mark, "w").close()
                continue
            failed += 1
            name = os.path.relpath(path, ROOT)
            print(text, flush=True)
            outcomes.write("fail\t1\tlint\tclang-tidy on %s\tclang-tidy -p %s %s\n" % (name, build, name))
        clean = len(entries) - failed
        if clean:
            outcomes.write("pass\t%d\tlint\tclang-tidy\t\n" % clean)
    for seconds, path in sorted(times, reverse=True)[:5]:
        print("%6.1f s  %s" % (seconds, os.path.relpath(path, ROOT)))
    print("lint: clang-tidy: %d files, %d of them as before, %d with findings" % (len(entries), remembered, failed))
    sys.exit(1 if failed else 0)


main()
