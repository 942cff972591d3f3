# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the end-to-end tests share: the real binary, a broker in a process of its own, and waiting.

Nothing here sleeps for a fixed time: a test waits for a log line, for the end of a process, or for
what a command of the CLI answers, each with a time limit that FILA_E2E_SLOW (a factor) stretches
under sanitizers and valgrind.
"""
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SLOW = float(os.environ.get("FILA_E2E_SLOW", "1"))
OUTCOMES = ("acked", "retried", "dead_lettered", "dropped", "returned", "left", "lease_lost", "duplicate")


class Failed(AssertionError):
    """A test's own verdict: what was expected and what was there."""


class Skipped(Exception):
    """The test cannot run here; says why."""


def expect(condition, text, *values):
    if not condition:
        raise Failed(text % values if values else text)


def expect_equal(what, got, wanted):
    if got != wanted:
        raise Failed("%s: expected %r, got %r" % (what, wanted, got))


def expect_match(what, pattern, text):
    if not re.search(pattern, text):
        raise Failed("%s: nothing matches %r in:\n%s" % (what, pattern, text[-3000:]))


class Deadline:
    def __init__(self, seconds):
        self.seconds = seconds * SLOW
        self.at = time.monotonic() + self.seconds

    def left(self):
        return max(0.0, self.at - time.monotonic())

    def over(self):
        return time.monotonic() >= self.at


class Stream:
    """The lines of one pipe, read by a thread of their own as they come."""

    def __init__(self, pipe, changed):
        self.lines = []
        self.closed = False
        self.changed = changed
        self.pipe = pipe
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for raw in self.pipe:
            with self.changed:
                self.lines.append(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def text(self):
        with self.changed:
            return "\n".join(self.lines)


class Child:
    """A process in a group of its own, with its output collected."""

    def __init__(self, name, command, cwd, environment, stdin=None):
        self.name, self.command, self.signalled = name, command, False
        self.changed = threading.Condition()
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=stdin or subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self.out = Stream(self.process.stdout, self.changed)
        self.err = Stream(self.process.stderr, self.changed)

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def signal(self, number):
        """SIGSTOP returns when the process stands still, which takes it a moment."""
        self.signalled = True
        self.process.send_signal(number)
        limit = Deadline(5)
        while number == signal.SIGSTOP and not self.stands_still() and not limit.over():
            threading.Event().wait(0.001)

    def stands_still(self):
        """Every thread of it."""
        states = []
        with contextlib.suppress(OSError):
            for thread in os.listdir("/proc/%d/task" % self.pid):
                with open("/proc/%d/task/%s/stat" % (self.pid, thread), encoding="ascii", errors="replace") as f:
                    states.append(f.read().rpartition(")")[2].split()[0])
        return all(state in "TZX" for state in states)

    def wait(self, seconds, status=None):
        """Its exit status (negative: the signal), checked when one is given."""
        try:
            got = self.process.wait(Deadline(seconds).seconds)
        except subprocess.TimeoutExpired:
            raise Failed("%s still runs after %g s" % (self.name, seconds * SLOW)) from None
        self.out.thread.join(5)
        self.err.thread.join(5)
        if status is not None:
            expect_equal("exit status of " + self.name, got, status)
        return got

    def wait_line(self, stream, pattern, seconds, skip=0):
        """The match of the first line that fits `pattern`, from line number `skip` on."""
        limit, seen = Deadline(seconds), skip
        expression = re.compile(pattern)
        with self.changed:
            while True:
                while seen < len(stream.lines):
                    found = expression.search(stream.lines[seen])
                    if found:
                        return found
                    seen += 1
                if stream.closed:
                    raise Failed("%s ended without a line that matches %r" % (self.name, pattern))
                if limit.over():
                    raise Failed("%s: no line matches %r within %g s" % (self.name, pattern, limit.seconds))
                self.changed.wait(limit.left())

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)

    def transcript(self, limit=60):
        lines = ["--- %s: %s (pid %d, status %s)" % (self.name, shlex.join(self.command), self.pid,
                                                     self.process.poll())]
        for mark, stream in (("out", self.out), ("err", self.err)):
            with self.changed:
                tail, cut = stream.lines[-limit:], max(0, len(stream.lines) - limit)
            if cut:
                lines.append("%s: (%d lines before)" % (mark, cut))
            lines += ["%s: %s" % (mark, line[:600]) for line in tail]
        return "\n".join(lines)


class Peer(Child):
    """A broker that misbehaves on demand (peers/): it is told so through its input."""

    def ask(self, text):
        with self.changed:
            since = len(self.out.lines)
        self.process.stdin.write((text + "\n").encode())
        self.process.stdin.flush()
        return self.wait_line(self.out, ".+", 10, skip=since).group(0)

    def tell(self, text):
        expect_equal("answer to %r" % text, self.ask(text), "ok")


class Worker(Child):
    """`fila-worker run`, with its log as JSON."""

    def events(self, event=None, **fields):
        """All log events so far with that id and those fields."""
        return [e for e in self.log() if self.fits(e, event, fields)]

    def log(self, since=0):
        found = []
        with self.changed:
            lines = self.err.lines[since:]
        for line in lines:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    found.append(entry)
        return found

    @staticmethod
    def fits(entry, event, fields):
        return (event is None or entry.get("event") == event) and all(entry.get(k) == v for k, v in fields.items())

    def wait_event(self, event, seconds=15, count=1, since=0, **fields):
        """The count-th such event from log line `since` on (see mark)."""
        limit = Deadline(seconds)
        with self.changed:
            while True:
                found = [e for e in self.log(since) if self.fits(e, event, fields)]
                if len(found) >= count:
                    return found[count - 1]
                if self.err.closed:
                    raise Failed("%s ended; %s %s was logged %d times of %d"
                                 % (self.name, event, fields or "", len(found), count))
                if limit.over():
                    raise Failed("%s: %s %s was logged %d times of %d within %g s"
                                 % (self.name, event, fields or "", len(found), count, limit.seconds))
                self.changed.wait(limit.left())

    def mark(self):
        with self.changed:
            return len(self.err.lines)

    def stop(self, seconds=15, status=0, number=signal.SIGTERM):
        """Drains; returns the last event, whose account must add up."""
        self.signal(number)
        self.wait(seconds, status)
        return self.account()

    def account(self):
        last = self.log()[-1]
        expect_equal("the last log line of " + self.name, last.get("event"), "WORKER-STOP")
        finished = sum(last.get(outcome, 0) for outcome in OUTCOMES)
        expect("received" in last, "no account in the last line: %r", last)
        expect_equal("finished of what was received (%r)" % last, finished, last["received"])
        return last


class Bench:
    """One test's folder, processes and settings. `broker` is the URL that the CLI and workers use."""

    def __init__(self, worker_path, build, keep=False):
        self.worker_path, self.build, self.keep = worker_path, build, keep
        self.folder = tempfile.mkdtemp(prefix="fila-e2e-")
        self.children = []
        self.broker = None
        self.cleanups = []
        self.wrapper = shlex.split(os.environ.get("FILA_E2E_WRAPPER", ""))

    def close(self):
        for child in reversed(self.children):
            child.kill()
        for cleanup in reversed(self.cleanups):
            with contextlib.suppress(Exception):
                cleanup()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def transcript(self):
        return "\n".join(child.transcript() for child in self.children)

    # ---- Files ----

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content, mode=None):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            os.chmod(path, mode)
        return path

    def script(self, name, body):
        """An executable shell script, for `exec`."""
        return self.write(name, "#!/bin/sh\n" + body + "\n", 0o755)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def listing(self, name):
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.path(name)))
        return []

    # ---- Processes ----

    def environment(self, **more):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FILA_")
                       and k not in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")}  # no control socket unasked
        environment.update(FILA_WORKER_LOG_FORMAT="json", FILA_WORKER_HTTP_LISTEN="", NO_COLOR="1")
        if self.broker:
            environment["FILA_WORKER_BROKER"] = self.broker
        environment.update({k: v for k, v in more.items() if v is not None})
        for name in [k for k, v in more.items() if v is None]:
            environment.pop(name, None)
        return environment

    def spawn(self, kind, name, arguments, stdin=None, wrap=True, launcher=(), **environment):
        command = [*launcher, *(self.wrapper if wrap else []), self.worker_path, *arguments]
        child = kind(name, command, self.folder, self.environment(**environment), stdin)
        self.children.append(child)
        return child

    def start_broker(self, *arguments, **environment):
        """An embedded broker in a process of its own; sets self.broker."""
        child = self.spawn(Child, "broker", ["broker", "--listen", "127.0.0.1:0", *arguments], wrap=False,
                           FILA_WORKER_BROKER=None, **environment)
        port = child.wait_line(child.out, r"127\.0\.0\.1:(\d+)", 15).group(1)
        self.broker = "grpc://127.0.0.1:" + port
        return child

    def start_peer(self, name, *arguments):
        """A program of peers/, and its URL."""
        program = os.path.join(self.build, "tests", "e2e", "peers", name)
        child = Peer(name, [program, *arguments], self.folder, self.environment(), subprocess.PIPE)
        self.children.append(child)
        port = child.wait_line(child.out, r"127\.0\.0\.1:(\d+)", 15).group(1)
        return child, "grpc://127.0.0.1:" + port

    def start_faulty_broker(self):
        """A broker that takes faults (Peer.tell); sets self.broker."""
        child, self.broker = self.start_peer("faulty-broker")
        return child

    def plugin(self, name):
        return os.path.join(self.build, "tests", "e2e", "plugins", name + ".so")

    def start_worker(self, config, *arguments, name="worker", level="debug", **environment):
        """`run` with that config text (written to fila-worker.cfg), logging at debug."""
        if config is not None:
            self.write("fila-worker.cfg", config)
        environment.setdefault("FILA_WORKER_LOG_LEVEL", level)
        return self.spawn(Worker, name, ["run", *arguments], **environment)

    def start_ready(self, config, streams=1, **more):
        """start_worker, and its streams are open."""
        worker = self.start_worker(config, **more)
        worker.wait_event("STREAM-OPEN", count=streams)
        return worker

    def cli(self, *arguments, status=0, data=None, seconds=30, **environment):
        """A command of the CLI, run to its end: (standard output, standard error)."""
        command = [self.worker_path, *arguments]
        try:
            done = subprocess.run(command, cwd=self.folder, env=self.environment(**environment),
                                  input=data if data is None or isinstance(data, bytes) else data.encode(),
                                  stdin=subprocess.DEVNULL if data is None else None, capture_output=True,
                                  timeout=Deadline(seconds).seconds)
        except subprocess.TimeoutExpired:
            raise Failed("`%s` still runs after %g s" % (shlex.join(command), seconds * SLOW)) from None
        out, err = (b.decode("utf-8", "backslashreplace") for b in (done.stdout, done.stderr))
        if status is not None and done.returncode != status:
            raise Failed("`%s`: expected status %d, got %d\n%s%s"
                         % (shlex.join(arguments), status, done.returncode, out[-2000:], err[-2000:]))
        self.status = done.returncode
        return out, err

    def json(self, *arguments, **more):
        out, _ = self.cli(*arguments, "--json", **more)
        try:
            return json.loads(out)
        except ValueError:
            raise Failed("`%s --json` printed no JSON: %r" % (shlex.join(arguments), out[:500])) from None

    def json_lines(self, *arguments, **more):
        out, _ = self.cli(*arguments, "--json", **more)
        return [json.loads(line) for line in out.splitlines()]

    # ---- Shorthands ----

    def create_queue(self, name, visibility_timeout="30s"):
        self.cli("queue", "create", name, "--visibility-timeout", visibility_timeout)

    def enqueue_lines(self, queue, lines):
        self.cli("enqueue", queue, "--lines", "-", data="".join(line + "\n" for line in lines))

    def stats(self, queue):
        return self.json("queue", "stats", queue)

    def wait_stats(self, queue, seconds=20, **wanted):
        """Asks until the queue's figures are as wanted, e.g. depth=0."""
        return self.wait_until("queue %s to have %r" % (queue, wanted), seconds, lambda: self.stats(queue),
                               lambda s: all(s.get(k) == v for k, v in wanted.items()))

    def wait_until(self, what, seconds, ask, good):
        """Asks again and again, at a pace that leaves the machine to the others."""
        limit, pause = Deadline(seconds), 0.02
        while True:
            gone = [c.name for c in self.children if isinstance(c, Worker) and not c.signalled and not c.running()]
            answer = ask()
            if good(answer):
                return answer
            if gone:
                raise Failed("waited for %s; it is %r, and %s has ended" % (what, answer, ", ".join(gone)))
            if limit.over():
                raise Failed("waited %g s for %s; it is %r" % (limit.seconds, what, answer))
            threading.Event().wait(min(pause, limit.left()))
            pause = min(pause * 1.5, 0.25)

    def wait_files(self, name, count, seconds=20):
        return self.wait_until("%d files in %s" % (count, name), seconds, lambda: self.listing(name),
                               lambda names: len(names) >= count)
