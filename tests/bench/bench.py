#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""Measures the host beside a bare C core loop, against one stub server.

Both read one Consume stream and ack each message by a unary call with 64 acks in flight, over the
same channel arguments; the host runs a plugin that does nothing (or `exec` of /bin/true) in between.
The runs alternate, and the figures are medians over the rounds. Rate and latency (a message's write
to the arrival of its ack) are taken at the server, for both alike; CPU time is that of all threads
of the process (and, for exec, of its children), user and system.

Instructions come from perf events where the machine has them, else from valgrind's callgrind; both
count user space only, as the difference of a long and a short run, so that start and end drop out.
The last line is the ratio of the two.
"""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
IN_FLIGHT, WINDOW = 64, 16384
CHILDREN = []

CONFIG = """broker = "grpc://%(address)s";
queues = ( { queue = "orders"; handler = %(handler)s;
  concurrency = %(concurrency)d; prefetch = %(prefetch)d; } );
http = { listen = ""; };
log = { level = "warn"; };
"""


def spawn(command, **more):
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)
    child.said = []
    reader = threading.Thread(target=lambda: child.said.extend(child.stderr), daemon=True)
    reader.start()
    CHILDREN.append(child)
    return child


def end(child, number=signal.SIGTERM, seconds=30):
    if child.poll() is None:
        child.send_signal(number)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise RuntimeError("%s did not end" % child.args[0]) from None
    finally:
        CHILDREN.remove(child)


def cpu_seconds(pid):
    """User and system time of all threads of a process, and of the children that it waited for."""
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return sum(int(fields[i]) for i in (11, 12)) / TICK, sum(int(fields[i]) for i in (13, 14)) / TICK


def tree_seconds(pid):
    """The same of the children that are alive (isolation = "process")."""
    total = 0.0
    for task in os.listdir("/proc/%d/task" % pid):
        for child in open("/proc/%d/task/%s/children" % (pid, task)).read().split():
            try:
                total += sum(cpu_seconds(int(child)))
            except (FileNotFoundError, ProcessLookupError):
                pass  # a command that has ended since: counted with those that were waited for
    return total


def status_kib(pid, name):
    return int(re.search(r"^%s:\s+(\d+)" % name, open("/proc/%d/status" % pid).read(), re.M).group(1))


class Server:
    """The stub server with a bounded number of messages."""

    def __init__(self, opts, messages, warm):
        self.child = subprocess.Popen(
            [opts.stub, "127.0.0.1:0", "payload=%d" % opts.payload, "messages=%d" % (warm + messages), "warm=%d" % warm],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        CHILDREN.append(self.child)
        self.address = "127.0.0.1:%d" % int(self.child.stdout.readline())
        self.lines = []

    def wait(self, word, seconds):
        """The line that begins with `word`."""
        timer = threading.Timer(seconds, self.child.kill)
        timer.start()
        try:
            for line in self.child.stdout:
                if line.startswith(word):
                    return line[len(word):].strip()
        finally:
            timer.cancel()
        raise RuntimeError("the server's %r did not come within %g s" % (word, seconds))

    def close(self):
        self.child.stdin.close()
        end(self.child)


class Kind:
    """One thing to measure: how to start it against an address."""

    def __init__(self, name, opts, handler=None, concurrency=2):
        self.name, self.opts, self.handler, self.concurrency = name, opts, handler, concurrency

    def command(self, address, messages):
        if not self.handler:
            return [self.opts.bare, "address=" + address, "messages=%d" % messages, "warm=0",
                    "in_flight=%d" % IN_FLIGHT, "window=%d" % WINDOW]
        path = os.path.join(self.opts.work, re.sub(r"\W+", "-", self.name) + ".cfg")
        with open(path, "w") as f:
            f.write(CONFIG % {"address": address, "handler": self.handler, "concurrency": self.concurrency,
                              "prefetch": IN_FLIGHT})
        return [self.opts.worker, "run", "--config", path]

    def environment(self):
        return {k: v for k, v in os.environ.items() if not k.startswith("FILA_")}

    def run(self, messages, warm, prefix=(), seconds=120):
        """One bounded run: a dict of its figures."""
        server = Server(self.opts, messages, warm)
        child = spawn([*prefix, *self.command(server.address, warm + messages)], stdin=subprocess.DEVNULL,
                      stdout=subprocess.DEVNULL, env=self.environment(), cwd=self.opts.work)
        try:
            server.wait("warm", seconds)
            own, of_children = cpu_seconds(child.pid)
            of_tree = tree_seconds(child.pid)
            figures = json.loads(server.wait("done", seconds))
            if child.poll() is None:
                after, children_after = cpu_seconds(child.pid)
                figures["cpu_us"] = (after - own) / messages * 1e6
                figures["children_us"] = (children_after - of_children) / messages * 1e6
                figures["tree_us"] = (tree_seconds(child.pid) - of_tree) / messages * 1e6
                figures["rss_mb"] = status_kib(child.pid, "VmRSS") / 1024
        except RuntimeError as why:
            raise RuntimeError("%s: %s\n%s" % (self.name, why, "".join(child.said[-5:]))) from None
        finally:
            if self.handler:
                end(child)
            else:
                end(child, signal.SIGCONT)
            server.close()
        return figures


# ---- Instructions ----

def have_perf():
    if not shutil.which("perf"):
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True)
    return done.returncode == 0 and re.search(r"^\d+,", done.stderr, re.M) is not None


def count_instructions(kind, messages, use_perf):
    out = os.path.join(kind.opts.work, "instructions")
    if use_perf:
        prefix = ["perf", "stat", "-x,", "-e", "instructions:u", "-o", out]
    else:
        prefix = ["valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=" + out]
    kind.run(messages, 1, prefix, 300)
    text = open(out).read()
    found = re.search(r"^(\d+),", text, re.M) if use_perf else re.search(r"^(?:summary|totals): (\d+)", text, re.M)
    return int(found.group(1))


def instructions_per_message(kind, short, long, use_perf):
    return (count_instructions(kind, long, use_perf) - count_instructions(kind, short, use_perf)) / (long - short)


# ---- The host alone ----

def idle(opts, seconds):
    """CPU share and memory of a worker that is connected and has nothing to do."""
    broker = subprocess.Popen([opts.worker, "broker", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    CHILDREN.append(broker)
    address = re.search(r"127\.0\.0\.1:\d+", broker.stdout.readline()).group(0)
    kind = Kind("idle", opts, noop(opts))
    worker = spawn(kind.command(address, 0), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   env=kind.environment(), cwd=opts.work)
    time.sleep(2)  # let it connect; what is measured is a quiet time
    before = cpu_seconds(worker.pid)[0]
    time.sleep(seconds)
    share = (cpu_seconds(worker.pid)[0] - before) / seconds * 100
    memory = status_kib(worker.pid, "VmRSS") / 1024
    threads = status_kib(worker.pid, "Threads")
    end(worker)
    end(broker)
    return share, memory, threads


def first_message(opts):
    """Milliseconds from exec to the first message handled, with the broker inside the worker; the
    message comes from another process, which is started when the broker serves."""
    path = os.path.join(opts.work, "first.cfg")
    with open(path, "w") as f:
        f.write('broker = "embedded:?listen=127.0.0.1:0";\nqueues = ( { queue = "q"; handler = %s; } );\n'
                'http = { listen = ""; };\nlog = { level = "debug"; format = "json"; };\n' % noop(opts))
    started = time.monotonic()
    worker = subprocess.Popen([opts.worker, "run", "--config", path], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, cwd=opts.work)
    CHILDREN.append(worker)
    timer = threading.Timer(20, worker.kill)
    timer.start()
    ready = sender = None
    for line in worker.stderr:
        event = json.loads(line)
        if event["event"] == "BROKER-READY":
            ready = time.monotonic()
            sender = subprocess.Popen([opts.worker, "enqueue", "q", "--broker", "grpc://127.0.0.1:%d" % event["port"],
                                       "--quiet", "-"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if event["event"] == "MESSAGE-DONE":
            break
    done = time.monotonic()
    timer.cancel()
    threading.Thread(target=worker.stderr.read, daemon=True).start()
    sender.wait(10)
    end(worker)
    return (ready - started) * 1000, (done - started) * 1000


def noop(opts):
    return '{ plugin = "%s"; }' % opts.noop


# ---- The report ----

def median(runs, key):
    values = [r[key] for r in runs if key in r]
    return statistics.median(values) if values else float("nan")


def table(results):
    print("| what | messages/s | CPU us a message (host) | children's CPU us | p50 us | p99 us | RSS MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for kind, runs in results:
        cpu = [r["cpu_us"] for r in runs if "cpu_us" in r]
        print("| %s | %.0f | %.1f (%.1f-%.1f) | %s | %.0f | %.0f | %.1f |" % (
            kind.name, median(runs, "rate"), statistics.median(cpu), min(cpu), max(cpu),
            "%.0f" % median(runs, "children_us") if kind.concurrency > 2 else "-",
            median(runs, "p50_us"), median(runs, "p99_us"), median(runs, "rss_mb")))
    sys.stdout.flush()


def engine(opts):
    """What the broker's own benchmark says."""
    program = os.path.join(opts.build, "tests", "bench", "engine_bench")
    if os.path.exists(program):
        print("\nBroker engine alone (%s):" % os.path.basename(program), flush=True)
        subprocess.run([program], timeout=120, check=False)


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", help="a built folder (run.sh makes build-bench)")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--messages", type=int, default=60000, help="measured in a run (exec: a fiftieth)")
    ap.add_argument("--payload", type=int, default=1024, help="bytes")
    ap.add_argument("--quick", action="store_true", help="two short rounds: does it still work?")
    ap.add_argument("--only-instructions", action="store_true")
    ap.add_argument("--isolation", action="store_true", help="only: isolation = \"process\" over threads")
    opts = ap.parse_args()
    if not opts.build:
        ap.error("--build is missing (tests/bench/run.sh gives it)")
    if opts.quick:
        opts.rounds, opts.messages = 2, 5000
    opts.build = os.path.abspath(opts.build)
    bench = os.path.join(opts.build, "tests", "bench")
    opts.stub, opts.bare = os.path.join(bench, "stub_server"), os.path.join(bench, "bare_loop")
    opts.noop = os.path.join(bench, "noop.so")
    opts.worker = os.path.join(opts.build, "fila-worker")
    return opts


def isolation(opts):
    """All CPU of a message with isolation = "process" over the same with threads."""
    kinds = [(Kind("threads", opts, noop(opts)), []),
             (Kind("process", opts, noop(opts) + '; isolation = "process"'), [])]
    for _ in range(opts.rounds):
        for kind, runs in kinds:
            figures = kind.run(opts.messages, opts.messages // 10)
            runs.append(figures["cpu_us"] + figures["tree_us"])
            print("%-8s %8.1f us CPU a message" % (kind.name, runs[-1]), flush=True)
    threads, process = (statistics.median(runs) for _, runs in kinds)
    print("process/threads CPU ratio at %d bytes: %.3f" % (opts.payload, process / threads))


def main():
    opts = parse()
    opts.work = tempfile.mkdtemp(prefix="fila-bench-")
    bare = Kind("bare loop", opts)
    host = Kind("host, no-op plugin", opts, noop(opts))
    command = Kind("host, exec /bin/true", opts, '{ plugin = "exec"; command = [ "/bin/true" ]; }', 4)
    try:
        print("payload %d B, %d acks in flight, window %d B, %d processors, load %.1f\n"
              % (opts.payload, IN_FLIGHT, WINDOW, os.cpu_count(), os.getloadavg()[0]), flush=True)
        if opts.isolation:
            isolation(opts)
            return
        if not opts.only_instructions:
            results = [(bare, []), (host, []), (command, [])]
            for _ in range(opts.rounds):
                for kind, runs in results:
                    messages = opts.messages // 50 if kind is command else opts.messages
                    runs.append(kind.run(messages, messages // 10))
            table(results)
            print("host/bare CPU ratio: %.3f" % (median(results[1][1], "cpu_us") / median(results[0][1], "cpu_us")))
            share, memory, threads = idle(opts, 5 if opts.quick else 20)
            print("\nidle host: %.2f %% of a core, %.1f MB, %d threads" % (share, memory, threads))
            starts = [first_message(opts) for _ in range(opts.rounds)]
            print("start to the broker's being ready %.0f ms, to the first message handled %.0f ms (medians of %d; "
                  "the second includes the start of the process that enqueues)"
                  % (statistics.median(s[0] for s in starts), statistics.median(s[1] for s in starts), len(starts)))
            engine(opts)
        use_perf = have_perf()
        if not use_perf and not shutil.which("valgrind"):
            sys.exit("no perf events and no valgrind: instructions cannot be counted")
        print("\ninstructions a message, user space, %s:" % ("perf events" if use_perf else
              "callgrind (this machine has no perf counters): one thread at a time, so hand-offs batch differently"),
              flush=True)
        short, long = (20000, 80000) if use_perf else (1000, 4000)
        counts = [instructions_per_message(kind, short, long, use_perf) for kind in (bare, host)]
        print("bare loop %.0f, host with the no-op plugin %.0f" % tuple(counts))
        print("host/bare instruction ratio: %.3f" % (counts[1] / counts[0]))
    finally:
        for child in list(CHILDREN):
            child.kill()
        shutil.rmtree(opts.work, ignore_errors=True)


main()
