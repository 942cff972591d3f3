# SPDX-License-Identifier: AGPL-3.0-or-later
"""The operator's guide as the tests read it: its marks, tables and commands, so that what it says and what is tried cannot differ.

A mark is a line `<!-- KIND: ARGUMENT -->` or `<!-- KIND -->`. What follows belongs to it: a code block, or a table.
"""
import os
import re
import signal
import subprocess

from harness import HERE, Child, Deadline, Failed, expect, expect_equal

ROOT = os.path.dirname(os.path.dirname(HERE))
MARK = re.compile(r"^<!-- ([a-z]+)(?:: (.*))? -->$")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


class Mark:
    """kind and argument; `block`: the text of the code block that follows; `rows`: the cells of the table that follows."""

    def __init__(self, path, lines, at):
        self.path, self.line = path, at + 1
        self.kind, self.argument = MARK.match(lines[at]).groups()
        at += 1
        while at < len(lines) and not lines[at].strip():
            at += 1
        self.block, self.rows = None, []
        if at < len(lines) and lines[at].startswith("```"):
            self.block = "\n".join(lines[at + 1:lines.index("```", at + 1)]) + "\n"
        while at < len(lines) and lines[at].startswith("|"):
            self.rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", lines[at])[1:-1]])
            at += 1

    def __repr__(self):
        return "%s line %d" % (self.path, self.line)


def marks(path):
    lines = read(path).split("\n")
    return [Mark(path, lines, at) for at, line in enumerate(lines) if MARK.match(line)]


def spans(cell):
    """The `code` in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def quoted(cell):
    """The "words" in a cell that are not code."""
    return re.findall(r'"([^"]+)"', re.sub(r"`[^`]+`", "", cell))


def section(path, kind, argument):
    """The marks from that one to the next of its kind."""
    found = marks(path)
    start = [i for i, m in enumerate(found) if (m.kind, m.argument) == (kind, argument)]
    if len(start) != 1:
        raise Failed("%s has %d marks `%s: %s`" % (path, len(start), kind, argument))
    rest = found[start[0]:]
    return [rest[0]] + rest[1:next((i for i, m in enumerate(rest) if i and m.kind == kind), len(rest))]


# Where the guide's host has its folders, and where a test has them.
FOLDERS = {"/etc/fila-worker": "", "/run/fila-worker": "run", "/var/lib/fila-broker": "lib", "/var/backups": "backups"}


class Host:
    """The machine that the guide speaks of, in a test's folder: /etc/fila-worker is the folder itself, the others are in it; the units
    of config/systemd are started, stopped and reloaded by what the guide's `systemctl` lines say."""

    def __init__(self, bench):
        self.bench, self.worker, self.broker, self.port = bench, None, None, None
        self.units = {}  # others: what a systemctl line does
        self.environment = {}  # more of it, for commands
        self.instead = {there: bench.path(here).rstrip("/") for there, here in FOLDERS.items()}
        for folder in ("bin", *filter(None, FOLDERS.values())):
            os.mkdir(bench.path(folder))
        os.symlink(bench.worker_path, bench.path("bin/fila-worker"))

    def here(self, text):
        """A text of the guide with the folders and addresses of this test."""
        for there, here in self.instead.items():
            text = text.replace(there, here)
        return text

    # ---- Units ----

    def start_broker(self):
        """fila-broker.service, on a unix socket so that it is the same address again."""
        address = "unix:" + self.bench.path("b.sock")
        self.broker = self.bench.spawn(Child, "broker", ["broker", "--listen", address, "--data", self.bench.path("lib/broker.db")],
                                       wrap=False, FILA_WORKER_BROKER=None)
        self.broker.wait_line(self.broker.out, "listening on", 15)
        self.bench.broker = "grpc://" + address

    def stop_broker(self):
        if self.broker and self.broker.running():
            self.broker.signal(signal.SIGTERM)
            self.broker.wait(20, 0)

    def start_worker(self):
        raise NotImplementedError

    def stop_worker(self):
        if self.worker and self.worker.running():
            self.worker.signal(signal.SIGTERM)
            expect(self.worker.wait(30) in (0, 75, 76), "a stop ended with %d", self.worker.process.returncode)
        if self.worker:
            self.worker.signalled = True  # the bench does not take its end for an accident

    def systemctl(self, *words):
        verb, unit = words[0], words[-1]
        if unit in self.units:
            self.units[unit]()
            return
        stop, start = {"fila-worker": (self.stop_worker, self.start_worker),
                       "fila-broker": (self.stop_broker, self.start_broker)}.get(unit, (None, None))
        if (verb, unit) == ("reload", "fila-worker"):  # its ExecReload
            self.worker.signal(signal.SIGHUP)
            self.worker.signalled = False
        elif start and verb in ("start", "stop", "restart", "enable"):
            if verb in ("stop", "restart"):
                stop()
            if verb != "stop":
                start()
        else:
            raise Failed("the guide types `systemctl %s`, which this test does not know" % " ".join(words))

    # ---- Commands ----

    def behind(self, words):
        """A `fila-worker ... &`."""
        child = self.bench.spawn(Child, words[1], words[1:], FILA_WORKER_BROKER=None, FILA_WORKER_LOG_LEVEL="info")
        if words[1] == "broker":
            child.wait_line(child.out, "listening on", 15)

    def type(self, step):
        """The commands of a block, one a line; what they print. The last one's exit status is the mark's argument, or 0."""
        said, status = "", 0
        environment = self.bench.environment(
            FILA_WORKER_HTTP_LISTEN="127.0.0.1:%d" % self.port.number if self.port else None,
            PATH=self.bench.path("bin") + ":" + os.environ["PATH"], **self.environment)
        for line in self.here(step.block).splitlines():
            expect_equal("exit status before %r (%r):\n%s" % (line, step, said), status, 0)
            if line.startswith("systemctl "):
                self.systemctl(*line.split()[1:])
                continue
            if line.endswith(" &"):
                self.behind(line[:-2].split())
                continue
            done = subprocess.run(["sh", "-c", line], cwd=self.bench.folder, env=environment, text=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=Deadline(60).seconds)
            said, status = said + done.stdout, done.returncode
        expect_equal("exit status of %r\n%s" % (step, said), status, int(step.argument or 0))
        return said
