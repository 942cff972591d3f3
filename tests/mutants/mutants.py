# SPDX-License-Identifier: AGPL-3.0-or-later
"""The mutation check behind tests/mutants.sh.

A guard in the list is a line "[RULE] WORDS", the file, and the lines that are taken out (-) and put
in (+). For each one the file is compiled with that edit, put into a copy of the engine's library,
and the delivery tests and the simulator are linked with it and run until one of them fails.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading

LIBRARY = "workers/delivery/libfw_delivery.a"
TIME_LIMIT = 240


class Broken(Exception):
    """The list, not the engine, is wrong."""


class Guard:
    def __init__(self, rule, text):
        self.rule, self.text, self.file, self.out, self.put = rule, text, None, [], []

    def edit(self, source):
        old, new = "\n".join(self.out), "\n".join(self.put)
        count = source.count(old)
        if count != 1:
            raise Broken("%s: %d places match: %s" % (self.file, count, old))
        return source.replace(old, new)


def read_list(path):
    guards = []
    with open(path) as f:
        for line in f:
            line = line.rstrip("\n")
            head = re.match(r"^\[(.+?)\] (.+)$", line)
            if head:
                guards.append(Guard(*head.groups()))
            elif not line or line.startswith("#"):
                continue
            elif line[:2] in ("- ", "+ ") or line in ("-", "+"):
                (guards[-1].out if line[0] == "-" else guards[-1].put).append(line[2:])
            else:
                guards[-1].file = line
    return guards


class Bench:
    def __init__(self, options):
        self.root, self.build, self.seeds = options.root, options.build, options.seeds
        self.targets = options.targets.split()
        with open(os.path.join(self.build, "compile_commands.json")) as f:
            self.commands = {os.path.relpath(c["file"], self.root): c for c in json.load(f)}
        self.links = {t: self.link_command(t) for t in self.targets}

    def link_command(self, target):
        out = subprocess.run(["ninja", "-C", self.build, "-t", "commands", target], capture_output=True, text=True, check=True)
        last = out.stdout.strip().splitlines()[-1]
        if LIBRARY not in last:
            raise Broken("%s is not linked with %s" % (target, LIBRARY))
        return last

    def compile(self, guard, folder):
        path = os.path.join("workers/delivery", guard.file)
        with open(os.path.join(self.root, path)) as f:
            source = guard.edit(f.read())
        mutant = os.path.join(folder, guard.file)
        with open(mutant, "w") as f:
            f.write(source)
        command = shlex.split(self.commands[path]["command"])
        command = [word for word in command if word != "-Werror"]
        command[command.index("-c") + 1] = mutant
        made = os.path.join(folder, os.path.basename(command[command.index("-o") + 1]))
        command[command.index("-o") + 1] = made
        done = subprocess.run(command + ["-w"], cwd=self.build, capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken("%s: [%s] %s does not compile:\n%s" % (guard.file, guard.rule, guard.text, done.stderr))
        library = os.path.join(folder, "libfw_delivery.a")
        shutil.copy(os.path.join(self.build, LIBRARY), library)
        subprocess.run(["ar", "r", library, made], check=True, capture_output=True)
        return library

    def link(self, target, library, folder):
        program = os.path.join(folder, target)
        command = self.links[target].replace(LIBRARY, shlex.quote(library))
        command = re.sub(r" -o \S+", " -o " + shlex.quote(program), command, count=1)
        subprocess.run(command, shell=True, cwd=self.build, check=True, capture_output=True)
        return program

    def caught_by(self, program, arguments, pattern):
        try:
            done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=TIME_LIMIT, errors="replace")
        except subprocess.TimeoutExpired:
            return "it never ends"
        if done.returncode == 0:
            return None
        found = re.search(pattern, done.stdout + done.stderr)
        return found.group(1) if found else "status %d" % done.returncode

    def check(self, guard):
        with tempfile.TemporaryDirectory(prefix="fila-mutant-") as folder:
            library = self.compile(guard, folder)
            for target in self.targets:
                if target == "sim":
                    continue
                program = self.link(target, library, folder)
                caught = self.caught_by(program, ["--color=never"], r"\[(?:FAIL|CRASH)\] (\S+?):? ")
                os.unlink(program)
                if caught:
                    return "%s: %s" % (target, caught.rstrip(":"))
            program = self.link("sim", library, folder)
            caught = self.caught_by(program, ["--seeds", str(self.seeds)], r"FAILED \S+, (seed \d+, at .*)")
            if caught:
                return "sim: " + caught
            caught = self.caught_by(program, ["--scenarios"], r"(?m)^ +(\S.*?)  .*FAILED$")
            return "scenarios: " + caught if caught else None


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    for name in ("root", "build", "list", "targets"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--seeds", type=int, default=2000)
    ap.add_argument("words", nargs="*")
    options = ap.parse_args()
    try:
        bench = Bench(options)
        guards = [g for g in read_list(options.list)
                  if not options.words or any(w in "[%s] %s %s" % (g.rule, g.text, g.file) for w in options.words)]
        for guard in guards:  # all edits match before anything is run
            with open(os.path.join(options.root, "workers/delivery", guard.file)) as f:
                guard.edit(f.read())
    except Broken as broken:
        print("mutants: %s" % broken, file=sys.stderr)
        return 2
    survivors, broken, lock, done = [], [], threading.Lock(), [0]

    def one(guard):
        try:
            caught = bench.check(guard)
        except Broken as why:
            caught = "BROKEN: %s" % why
            broken.append(guard)
        with lock:
            done[0] += 1
            if not caught:
                survivors.append(guard)
            print("%3d/%d  %-10s %-72s %s" % (done[0], len(guards), guard.rule, guard.text, caught or "SURVIVES"), flush=True)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, guards))
    print("%d guards, %d caught, %d survive" % (len(guards), len(guards) - len(survivors) - len(broken), len(survivors)))
    for guard in survivors:
        print("  SURVIVES [%s] %s (%s)" % (guard.rule, guard.text, guard.file))
    return 2 if broken else 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
