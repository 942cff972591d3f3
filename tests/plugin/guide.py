#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Follows plugins/README.md word by word: writes its files, runs its commands, looks for what it promises.

    guide.py README.md BUILD-FOLDER WORK-FOLDER LIBDIR

Marks in the text, as HTML comments before a code block: `file: NAME` (the block is that file), `run` or `run: STATUS` (its
commands end so); after it, `output: TEXT` (they print that). The worker is the installed one, found by PATH; the header is found
by pkg-config alone.
"""
import os
import re
import shutil
import subprocess
import sys

MARK = re.compile(r"^<!-- (file|run|output)(?:: (.*))? -->$")


def blocks(text):
    """(line number, kind, argument, block) of each mark; output marks have no block."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        mark = MARK.match(line)
        if not mark:
            continue
        block = None
        if mark[1] != "output":
            if not lines[at + 1].startswith("```"):
                sys.exit(f"line {at + 1}: no code block follows")
            end = lines.index("```", at + 2)
            block = "\n".join(lines[at + 2:end]) + "\n"
        yield at + 1, mark[1], mark[2], block


STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-pedantic-errors", "-Werror", "-Wconversion", "-Wshadow", "-shared", "-fPIC",
          "-fvisibility=hidden", "-Wl,--no-undefined", "-D_POSIX_C_SOURCE=200809L", "-o", "strict.so"]
LANGUAGES = {".c": (["gcc", "clang"], ["c11", "c17"]), ".cc": (["g++", "clang++"], ["c++17", "c++20"])}


def compile_strictly(name, folder, environment):
    """In every language that the header promises, with every compiler that is there."""
    compilers, standards = LANGUAGES[os.path.splitext(name)[1]]
    flags = subprocess.run(["pkg-config", "--cflags", "fila-plugin"], env=environment, stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()
    count = 0
    for compiler in filter(shutil.which, compilers):
        for standard in standards:
            command = [compiler, "-std=" + standard, *STRICT, *flags, name]
            done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)}:\n{done.stdout}")
            said = subprocess.run(["fila-worker", "handlers", "./strict.so"], cwd=folder, env=environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if said.returncode:
                sys.exit(f"{' '.join(command)}: it is refused:\n{said.stdout}")
            count += 1
    return count


def main():
    readme, build, work, libdir = sys.argv[1:]
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, mode=0o755)
    prefix = os.path.join(work, "prefix")
    subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    folder = os.path.join(work, "tutorial")
    os.mkdir(folder, 0o755)
    environment = dict(
        os.environ,
        PATH=os.path.join(prefix, "bin") + ":" + os.environ["PATH"],
        PKG_CONFIG_PATH=os.path.join(prefix, libdir, "pkgconfig"),
        LC_ALL="C",
    )
    environment.pop("FILA_WORKER_PLUGIN_PATH", None)
    said = None
    strict = 0
    counts = {"file": 0, "run": 0, "output": 0}
    with open(readme, encoding="utf-8") as source:
        text = source.read()
    for line, kind, argument, block in blocks(text):
        counts[kind] += 1
        if kind == "file":
            with open(os.path.join(folder, argument), "w", encoding="utf-8") as file:
                file.write(block)
            strict += compile_strictly(argument, folder, environment)
        elif kind == "run":
            done = subprocess.run(["sh", "-ec", block], cwd=folder, env=environment, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
            said = done.stdout
            if done.returncode != int(argument or 0):
                sys.exit(f"line {line}: exit status {done.returncode}, not {argument or 0}:\n{block}{said}")
            if "warning:" in said:
                sys.exit(f"line {line}: the compiler warns:\n{said}")
        elif said is None or argument not in said:
            sys.exit(f"line {line}: it does not say \"{argument}\":\n{said}")
    if min(counts.values()) < 4:
        sys.exit(f"only {counts} marks were found")
    # What is installed finds its shipped handlers, wherever it was moved to.
    done = subprocess.run(["fila-worker", "handlers"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    if not re.search("^exec ", done.stdout, re.M) or not re.search("^log ", done.stdout, re.M):
        sys.exit("the installed worker does not find its handlers:\n" + done.stdout)
    print("followed: {file} files, {run} runs, {output} expectations; ".format(**counts) + f"{strict} strict compilations")


main()
