#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Follows plugins/README.md word by word: installs, writes its files, runs its commands, looks for what it promises.

    guide.py README.md BUILD-FOLDER WORK-FOLDER LIBDIR

Marks in the text, as HTML comments before a code block: `file: NAME` (the block is that file); `run`, perhaps with `: STATUS` (its
commands end so), `in source` (where `build` is) or `needs TOOL` (left out where there is none); `environment` (what it exports
holds from there on); after it, `output: TEXT` (they print that). The worker is the installed one, found by PATH; the header is
found by pkg-config alone. Every verb and option of fila-worker that the page names must be there.
"""
import os
import re
import shutil
import subprocess
import sys

MARK = re.compile(r"^ *<!-- (file|run|environment|output)(?:: (.*?))?(?: in (source))?(?: needs ([\w-]+))? -->$")


def blocks(text):
    """(line number, mark, block) of each mark; output marks have no block."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        mark = MARK.match(line)
        if not mark:
            if "<!--" in line and not line.startswith("<!-- All code"):
                sys.exit(f"line {at + 1}: what is this mark?")
            continue
        block = None
        if mark[1] != "output":
            indent = len(line) - len(line.lstrip())
            if not lines[at + 1].startswith(" " * indent + "```"):
                sys.exit(f"line {at + 1}: no code block follows")
            end = lines.index(" " * indent + "```", at + 2)
            block = "".join(text[indent:] + "\n" for text in lines[at + 2:end])
        yield at + 1, mark, block


STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-pedantic-errors", "-Werror", "-Wconversion", "-Wshadow", "-shared", "-fPIC",
          "-fvisibility=hidden", "-Wl,--no-undefined", "-D_POSIX_C_SOURCE=200809L", "-o", "strict.so"]
LANGUAGES = {".c": (("gcc", "c11"), ("clang", "c17")), ".cc": (("g++", "c++17"), ("clang++", "c++20"))}


def compile_strictly(name, folder, environment):
    """With every compiler that is there, as another standard each (the header itself: tests/headers)."""
    flags = subprocess.run(["pkg-config", "--cflags", "fila-plugin"], env=environment, stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()
    count = 0
    for compiler, standard in LANGUAGES[os.path.splitext(name)[1]]:
        if not shutil.which(compiler):
            continue
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


def is_there(tool):
    if tool == "asan":
        path = subprocess.run(["cc", "-print-file-name=libasan.so"], stdout=subprocess.PIPE, text=True, check=True).stdout
        with open("/proc/sys/vm/mmap_rnd_bits", encoding="ascii") as bits:  # with more of them its shadow finds no place
            return path.startswith("/") and int(bits.read()) <= 28
    return shutil.which(tool) is not None


class Walk:
    """Somebody who follows the page."""

    def __init__(self, build, work, libdir):
        self.folder = os.path.join(work, "tutorial")
        self.source = os.path.join(work, "source")
        os.makedirs(self.folder, mode=0o755)
        os.mkdir(self.source)
        os.symlink(build, os.path.join(self.source, "build"))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("FILA_", "MAKE"))}
        self.environment.update(HOME=work, LC_ALL="C", PKG_CONFIG_PATH=os.path.join(work, ".local", libdir, "pkgconfig"))
        self.said = None
        self.counts = {"file": 0, "run": 0, "output": 0, "environment": 0, "strict": 0, "left out": 0}

    def shell(self, block, folder=None):
        return subprocess.run(["sh", "-ec", block], cwd=folder or self.folder, env=self.environment, stdout=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, text=True, timeout=150, check=False)

    def export(self, block):
        libdir = self.environment["PKG_CONFIG_PATH"]
        done = self.shell(block + "env -0")
        self.environment = dict(word.split("=", 1) for word in done.stdout.split("\0") if "=" in word)
        self.environment["PKG_CONFIG_PATH"] += ":" + libdir  # where the installation is one of /usr

    def run(self, line, mark, block):
        if mark[4] and not is_there(mark[4]):
            self.counts["left out"] += 1
            self.said = None
            return
        status = int(mark[2] or 0)
        done = self.shell(block, self.source if mark[3] else None)
        self.said = done.stdout
        if done.returncode != status:
            sys.exit(f"line {line}: exit status {done.returncode}, not {status}:\n{block}{self.said}")
        if re.search(r"\.(c|cc|h):\d+:\d+: warning:", self.said):
            sys.exit(f"line {line}: the compiler warns:\n{self.said}")

    def follow(self, line, mark, block):
        self.counts[mark[1]] += 1
        if mark[1] == "file":
            with open(os.path.join(self.folder, mark[2]), "w", encoding="utf-8") as file:
                file.write(block)
            if os.path.splitext(mark[2])[1] in LANGUAGES:
                self.counts["strict"] += compile_strictly(mark[2], self.folder, self.environment)
        elif mark[1] == "environment":
            self.export(block)
        elif mark[1] == "run":
            self.run(line, mark, block)
        elif self.said is not None and mark[2] not in self.said:
            sys.exit(f"line {line}: it does not say \"{mark[2]}\":\n{self.said}")


OTHERS = {"--install", "--prefix", "--cflags", "--modversion", "--variable", "--print-architecture", "--root-owner-group", "--build",
          "--contents", "--chown", "--chmod", "--no-undefined"}  # of cmake, pkg-config, dpkg, ...


def check_words(walk, text):
    """Verbs and options that the page names."""
    plain = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    verbs = set(re.findall(r"(?<![\w/.-])fila-worker +(plugin (?:info|verify)|[a-z]+)", "\n".join(re.findall(r"```.*?```|`[^`]+`", plain, re.S))))
    known = ""
    for verb in sorted(verbs):
        done = walk.shell(f"fila-worker {verb} --help")
        if done.returncode:
            if verb in ("version", "plugin"):
                continue
            sys.exit(f"the page names fila-worker {verb}:\n{done.stdout}")
        known += done.stdout
    unknown = {word for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", plain) if word not in OTHERS and word not in known}
    if len(verbs) < 6 or unknown:
        sys.exit(f"options that no verb has: {sorted(unknown)}; verbs: {sorted(verbs)}")


def main():
    readme, build, work, libdir = sys.argv[1:]
    shutil.rmtree(work, ignore_errors=True)
    walk = Walk(build, work, libdir)
    with open(readme, encoding="utf-8") as source:
        text = source.read()
    for line, mark, block in blocks(text):
        walk.follow(line, mark, block)
    if walk.counts["run"] < 20 or walk.counts["output"] < 40:
        sys.exit(f"only {walk.counts} marks were found")
    check_words(walk, text)
    # What is installed finds its shipped handlers, wherever it was moved to.
    done = walk.shell("fila-worker handlers")
    if not re.search("^exec ", done.stdout, re.M) or not re.search("^log ", done.stdout, re.M):
        sys.exit("the installed worker does not find its handlers:\n" + done.stdout)
    print("followed:", ", ".join(f"{count} {kind}" for kind, count in walk.counts.items()))


main()
