# SPDX-License-Identifier: AGPL-3.0-or-later
"""The mutation check behind tests/mutants.sh.

A list (SUBJECT.txt, for workers/SUBJECT) has guards: a line "[RULE] WORDS", the file, and the lines
that are taken out (-) and put in (+). For each one the file is compiled with that edit, put into a
copy of the subject's library, and the subject's checks are linked with it and run until one fails.

What was found is written down as it comes, together with a digest of all that it depends on. With
--resume what was found for the same digest is not tried again.
"""
import argparse
import concurrent.futures
import glob
import hashlib
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading

FAILED_TEST = r"\[(?:FAIL|CRASH)\] (\S+?):? "
FAILED_SEED = r"FAILED \S+, (seed \d+, at .*)"
FAILED_SCENARIO = r"(?m)^ +(\S.*?)  .*FAILED$"
KEPT_SEEDS = (5338, 1002457, 2079627)  # as in tests/sim/CMakeLists.txt


class Subject:
    """Checks: (target, arguments, where the report names what failed). The first are the fastest."""

    def __init__(self, name, sources, checks):
        self.name, self.sources, self.checks = name, sources, checks
        self.library = "workers/%s/libfw_%s.a" % (name, name)
        self.targets = sorted({check[0] for check in checks})


def subjects(seeds):
    return {
        "delivery": Subject("delivery", ("workers/delivery", "tests/delivery", "tests/sim", "core/broker"), (
            ("delivery_all_tests", ["--color=never", "--timeout=60", "--fail-fast"], FAILED_TEST),
            ("sim", ["--seeds", str(min(seeds, 200))], FAILED_SEED),
            ("sim", ["--scenarios"], FAILED_SCENARIO),
            *(("sim", ["--seed", str(kept)], FAILED_SEED) for kept in KEPT_SEEDS),
            ("sim", ["--seeds", str(seeds)], FAILED_SEED))),
        "journal": Subject("journal", ("workers/journal", "tests/journal"), (
            ("journal_all_tests", ["--color=never", "--timeout=60", "--fail-fast"], FAILED_TEST),)),
    }


class Broken(Exception):
    """The list, not the engine, is wrong."""


class Guard:
    def __init__(self, subject, rule, text):
        self.subject, self.rule, self.text, self.file, self.out, self.put = subject, rule, text, None, [], []

    def path(self):
        return os.path.join("workers", self.subject.name, self.file)

    def edit(self, source):
        old, new = "\n".join(self.out), "\n".join(self.put)
        count = source.count(old)
        if count != 1:
            raise Broken("%s: %d places match: %s" % (self.path(), count, old))
        return source.replace(old, new)

    def key(self):
        words = [self.subject.name, self.file, *self.out, "->", *self.put]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def read_list(path, subject):
    guards = []
    with open(path) as f:
        for line in f:
            line = line.rstrip("\n")
            head = re.match(r"^\[(.+?)\] (.+)$", line)
            if head:
                guards.append(Guard(subject, *head.groups()))
            elif not line or line.startswith("#"):
                continue
            elif line[:2] in ("- ", "+ ") or line in ("-", "+"):
                (guards[-1].out if line[0] == "-" else guards[-1].put).append(line[2:])
            else:
                guards[-1].file = line
    return guards


class Findings:
    """What was found: appended line by line, so that a run that was stopped can go on."""

    def __init__(self, path, root, resume):
        self.path, self.root, self.known, self.digests, self.lock = path, root, {}, {}, threading.Lock()
        if resume and os.path.exists(path):
            with open(path) as f:
                for line in f:
                    try:
                        found = json.loads(line)
                        self.known[found["guard"], found["digest"]] = found["caught"]
                    except (ValueError, KeyError):
                        continue  # a line that was cut off
        else:
            open(path, "w").close()

    def digest(self, subject, seeds):
        if subject.name not in self.digests:
            sums = hashlib.sha256(str(seeds).encode())
            for folder in subject.sources:
                for path in sorted(glob.glob(os.path.join(self.root, folder, "*.[ch]"))):
                    with open(path, "rb") as f:
                        sums.update(f.read())
            self.digests[subject.name] = sums.hexdigest()[:16]
        return self.digests[subject.name]

    def add(self, guard, digest, caught):
        with self.lock, open(self.path, "a") as f:
            f.write(json.dumps({"guard": guard.key(), "digest": digest, "caught": caught}) + "\n")


def limit_time():
    resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Bench:
    def __init__(self, options, wanted):
        self.root, self.build, self.quick = options.root, options.build, options.quick
        with open(os.path.join(self.build, "compile_commands.json")) as f:
            self.commands = {os.path.relpath(c["file"], self.root): c for c in json.load(f)}
        self.links = {t: self.link_command(t, subject.library) for subject in wanted for t in subject.targets}

    def link_command(self, target, library):
        out = subprocess.run(["ninja", "-C", self.build, "-t", "commands", target], capture_output=True, text=True, check=True)
        last = out.stdout.strip().splitlines()[-1]
        if library not in last:
            raise Broken("%s is not linked with %s" % (target, library))
        return last

    def compile(self, guard, folder):
        with open(os.path.join(self.root, guard.path())) as f:
            source = guard.edit(f.read())
        mutant = os.path.join(folder, guard.file)
        with open(mutant, "w") as f:
            f.write(source)
        command = shlex.split(self.commands[guard.path()]["command"])
        command = [word for word in command if word != "-Werror"]
        command[command.index("-c") + 1] = mutant
        made = os.path.join(folder, os.path.basename(command[command.index("-o") + 1]))
        command[command.index("-o") + 1] = made
        done = subprocess.run(command + ["-w"], cwd=self.build, capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken("%s: [%s] %s does not compile:\n%s" % (guard.file, guard.rule, guard.text, done.stderr))
        library = os.path.join(folder, os.path.basename(guard.subject.library))
        shutil.copy(os.path.join(self.build, guard.subject.library), library)
        subprocess.run(["ar", "r", library, made], check=True, capture_output=True)
        return library

    def link(self, target, guard, library, folder):
        program = os.path.join(folder, target)
        if not os.path.exists(program):
            command = self.links[target].replace(guard.subject.library, shlex.quote(library))
            command = re.sub(r" -o \S+", " -o " + shlex.quote(program), command, count=1)
            subprocess.run(command, shell=True, cwd=self.build, check=True, capture_output=True)
        return program

    def caught_by(self, program, arguments, pattern, folder):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", cwd=folder,
                              preexec_fn=limit_time)
        if done.returncode == 0:
            return None
        found = re.search(pattern, done.stdout + done.stderr)
        return found.group(1).rstrip(":") if found else "it ends with %d" % done.returncode

    def check(self, guard):
        with tempfile.TemporaryDirectory(prefix="fila-mutant-") as folder:
            library = self.compile(guard, folder)
            for target, arguments, pattern in guard.subject.checks[:1 if self.quick else None]:
                program = self.link(target, guard, library, folder)
                caught = self.caught_by(program, arguments, pattern, folder)
                if caught:
                    return "%s: %s" % (target.replace("_all_tests", ""), caught)
        return None


def read_guards(options):
    guards = []
    for subject in subjects(options.seeds).values():
        listed = read_list(os.path.join(options.root, "tests/mutants", subject.name + ".txt"), subject)
        guards += [g for g in listed
                   if not options.words or any(w in "[%s] %s %s" % (g.rule, g.text, g.path()) for w in options.words)]
    for guard in guards:  # all edits match before anything is run
        with open(os.path.join(options.root, guard.path())) as f:
            guard.edit(f.read())
    return guards


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    for name in ("root", "build"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--seeds", type=int, default=2000)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--quick", action="store_true")
    ap.add_argument("words", nargs="*")
    options = ap.parse_args()
    try:
        guards = read_guards(options)
        bench = Bench(options, {g.subject for g in guards})
    except Broken as wrong:
        print("mutants: %s" % wrong, file=sys.stderr)
        return 2
    keep = options.resume or options.quick or bool(options.words)
    findings = Findings(os.path.join(options.build, "mutants.found"), options.root, keep)
    survivors, broken, lock, done = [], [], threading.Lock(), [0]

    def one(guard):
        digest = findings.digest(guard.subject, options.seeds)
        caught = findings.known.get((guard.key(), digest)) if options.resume else None
        if caught is None:
            try:
                caught = bench.check(guard)
                if caught or not options.quick:
                    findings.add(guard, digest, caught)
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
    for guard in survivors:
        print("  SURVIVES [%s] %s (%s)" % (guard.rule, guard.text, guard.path()))
    caught = len(guards) - len(survivors) - len(broken)
    print("%d guards, %d caught, %d broken, %d survived" % (len(guards), caught, len(broken), len(survivors)))
    return 2 if broken else 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
