#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""All faults at random for a long time: several workers, a durable broker, a producer that never ends.

    soak.py --worker build/fila-worker --build build --minutes 10 [--seed S] [--keep]

Every few seconds something happens to somebody: death, a stop in order, a reload, a standstill, a cut, a
half-open link, GOAWAY, no descriptors. One worker is spared death, and its memory, descriptors and
threads are sampled: they must not grow. At the end everything is let run to its end, and the account must
be exact: nothing lost, and no more run twice than deaths and standstills explain. Exit status: 0 or 1.
"""
import argparse
import contextlib
import os
import random
import resource
import signal
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import faults  # noqa: E402
from brokers import Server  # noqa: E402
from fault_kit import DEATH, figures, pause  # noqa: E402
from harness import Failed, expect, expect_equal  # noqa: E402
from ledger import Ledger  # noqa: E402
from proxy import Proxy  # noqa: E402

VT = 4
MOST_WAITING = 4000
# What the broker does besides, in shares of its calls.
CHAOS = ("ack:error=unavailable@2%; ack:lose@2%; ack:delay=800ms@1%; ack:hang@0.1%; nack:error=internal@2%; nack:lose@2%; "
         "enqueue:error=resource-exhausted@1%; enqueue:lose@1%; consume:cut=0,after=300@20%; consume:late=0s..500ms@10%; "
         "seed=%d")


class Soak:
    def __init__(self, bench, seed):
        self.bench, self.chance = bench, random.Random(seed)
        self.server = Server(bench).start()
        self.ledger = Ledger(bench, "%ds" % VT)
        # A publish that fails is a try that fails, and what stands still runs over its deadline.
        self.ledger.may_die = {"m", "r", "p", "f"}
        self.ledger.started = 1  # who is killed takes its account along
        self.ledger.create()
        self.chaos = ["--chaos", CHAOS.replace("%d", str(seed))]
        self.server.restart(*self.chaos)
        self.proxy = Proxy(bench, self.ledger.direct)
        self.workers, self.made, self.deaths, self.reload = [], 0, 0, 0
        self.counts, self.samples = {}, []
        self.ended = threading.Event()
        for i in range(3):
            self.workers.append(self.new_worker(i))

    # ---- Workers and their configs ----

    def config(self, place):
        self.reload += 1
        state = "state%d" % place
        os.makedirs(self.bench.path(state), exist_ok=True)
        return self.ledger.config(
            broker=self.proxy.url if place else None, run="%dms" % self.chance.choice([2, 3, 5]),
            concurrency=self.chance.choice([3, 4]), first=self.chance.choice(["50ms", "200ms"]),
            more="streams = %d;" % self.chance.choice([1, 1, 2]),
            top='state_dir = "%s"; drain_timeout = "8s";' % state)

    def new_worker(self, place):
        """Each has a folder of its own for its config and its state."""
        self.made += 1
        config = self.config(place)
        path = self.bench.write("worker%d/fila-worker.cfg" % place, config)
        worker = self.bench.spawn(harness.Worker, "worker %d.%d" % (place, self.made), ["run", "--config", path],
                                  FILA_WORKER_LOG_LEVEL="info", FILA_WORKER_BROKER=None)
        worker.place = place
        worker.wait_event("WORKER-START", 20)  # before it no signal is its own
        return worker

    def replace(self, worker):
        self.workers[worker.place] = self.new_worker(worker.place)
        self.forget(worker)

    def forget(self, worker):
        """The transcript of a worker that ended in order is of no use any more."""
        if worker in self.bench.children and not worker.running():
            self.bench.children.remove(worker)

    def pick(self, spare=False):
        return self.chance.choice(self.workers[1:] if spare else self.workers)

    # ---- What happens ----

    def kill_worker(self):
        worker = self.pick(spare=True)
        self.deaths += 1
        worker.signal(signal.SIGKILL)
        worker.wait(10)
        self.replace(worker)

    def stop_worker(self):
        worker = self.pick(spare=True)
        worker.signal(signal.SIGTERM)
        status = worker.wait(30)
        expect(status in (0, 75, 76), "%s ended with %d", worker.name, status)
        for outcome, count in worker.account().items():
            if outcome in self.ledger.outcomes:
                self.ledger.outcomes[outcome] += count
        self.replace(worker)

    def reload_worker(self):
        worker = self.pick()
        self.bench.write("worker%d/fila-worker.cfg" % worker.place, self.config(worker.place))
        worker.signal(signal.SIGHUP)

    def broken_reload(self):
        worker = self.pick()
        self.bench.write("worker%d/fila-worker.cfg" % worker.place, "queues = (")
        worker.signal(signal.SIGHUP)

    def freeze_worker(self):
        worker = self.pick()
        seconds = self.chance.choice([0.3, 1, VT + 2])
        self.deaths += seconds > VT
        worker.signal(signal.SIGSTOP)
        pause(seconds)
        worker.signal(signal.SIGCONT)

    def freeze_broker(self):
        self.server.child.signal(signal.SIGSTOP)
        seconds = self.chance.choice([0.3, 1, VT + 2, 17])
        pause(seconds)
        self.server.child.signal(signal.SIGCONT)
        # Leases ended under every worker, and each may now be given what another still runs.
        self.deaths += len(self.workers) * (seconds > VT / 2)

    def restart_broker(self, arguments, seconds=0):
        """A former one is of no use any more."""
        self.server.kill()
        self.bench.children.remove(self.server.child)
        pause(seconds)
        self.server.start(*arguments)

    def kill_broker(self):
        self.restart_broker(self.chaos, self.chance.choice([0, 0.5, VT + 1]))
        self.deaths += len(self.workers)

    def stop_broker(self):
        """As a supervisor does: TERM, and KILL when somebody's connection keeps it up for a minute."""
        self.server.child.signal(signal.SIGTERM)
        try:
            self.server.child.wait(60, 0)
        except Failed:
            self.counts["stop_broker took over a minute"] = self.counts.get("stop_broker took over a minute", 0) + 1
        self.restart_broker(self.chaos)
        self.deaths += len(self.workers)

    def cut(self):
        self.proxy.cut()

    def half_open(self):
        self.proxy.freeze(True)
        seconds = self.chance.choice([1, VT + 1, 17])
        pause(seconds)
        self.proxy.cut()
        self.proxy.freeze(False)
        self.deaths += 2 * (seconds > VT / 2)

    def goaway(self):
        self.proxy.goaway()

    def no_connections(self):
        self.proxy.refuse(True)
        self.proxy.cut()
        seconds = self.chance.choice([1, VT + 1])
        pause(seconds)
        self.proxy.refuse(False)
        self.deaths += 2 * (seconds > VT / 2)

    def no_descriptors(self):
        worker = self.pick(spare=True)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            used = len(os.listdir("/proc/%d/fd" % worker.pid))
            _, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (max(3, used - 1), hard))
            pause(2)
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (hard, hard))

    EVENTS = ([kill_worker] * 4 + [stop_worker] * 2 + [reload_worker] * 6 + [broken_reload] + [freeze_worker] * 2 +
              [freeze_broker] + [kill_broker] * 2 + [stop_broker] + [cut] * 4 + [half_open] + [goaway] * 3 + [no_connections] +
              [no_descriptors] * 2)

    # ---- The loop ----

    def produce(self):
        chance = random.Random(1)
        while not self.ended.is_set():
            try:
                if self.ledger.depth() < MOST_WAITING:
                    self.ledger.produce(chance.choice([50, 200, 400]), chance.choice("mmmmmrpf"), status=None)
            except Failed:
                pass  # the broker is dead, or does not answer: nothing was confirmed
            self.ended.wait(0.7)

    def sample(self):
        self.samples.append(figures(self.workers[0]))

    def run(self, minutes):
        end = time.monotonic() + minutes * 60
        producer = threading.Thread(target=self.produce)
        producer.start()
        try:
            while time.monotonic() < end:
                event = self.chance.choice(self.EVENTS)
                event(self)
                self.counts[event.__name__] = self.counts.get(event.__name__, 0) + 1
                pause(self.chance.uniform(0.2, 2.5))
                self.sample()
                for worker in self.workers:
                    expect(worker.running(), "%s has ended by itself", worker.name)
        finally:
            self.ended.set()
            producer.join()

    def finish(self):
        """Without chaos from here on."""
        self.restart_broker([])
        self.deaths += len(self.workers)
        for worker in self.workers:
            self.bench.write("worker%d/fila-worker.cfg" % worker.place, self.config(worker.place))
        self.ledger.wait_done(180)
        self.sample()
        for worker in self.workers:
            self.ledger.stop(worker)
        # A publish that was refused, or whose answer was lost, is a second run, or a second dead letter.
        refused = len(self.ledger.ids) // 20
        return self.ledger.result((self.deaths + 1) * DEATH + refused)

    def check_growth(self):
        """The second half against the second quarter, by medians: first comes what is only warming up."""
        n = len(self.samples)
        for index, name, slack in ((0, "descriptors", 4), (1, "threads", 3), (2, "KiB of memory", 6144)):
            early = [s[index] for s in self.samples[n // 4:n // 2]]
            late = [s[index] for s in self.samples[3 * n // 4:]]
            print("%-14s after a quarter %d, at the end %d, most %d" % (
                name, statistics.median(early), statistics.median(late), max(s[index] for s in self.samples)))
            expect(statistics.median(late) <= statistics.median(early) * 1.1 + slack, "%s grew", name)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--worker", required=True)
    ap.add_argument("--build")
    ap.add_argument("--minutes", type=float, default=10)
    ap.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    ap.add_argument("--keep", action="store_true")
    opts = ap.parse_args()
    opts.worker = os.path.abspath(opts.worker)
    opts.build = os.path.abspath(opts.build) if opts.build else os.path.dirname(opts.worker)
    print("seed %d" % opts.seed, flush=True)
    bench = harness.Bench(opts.worker, opts.build, opts.keep)
    try:
        soak = Soak(bench, opts.seed)
        soak.run(opts.minutes)
        result = soak.finish()
        print("faults: " + ", ".join("%s %d" % kv for kv in sorted(soak.counts.items())))
        print("in %(in)d, %(dead)d dead letters, %(duplicates)d ran twice (bound %(bound)d), lost %(lost)d" % result)
        print("outcomes of workers that ended in order: " + faults.outcomes_text(result["outcomes"]))
        soak.check_growth()
        expect_equal("lost", result["lost"], 0)
        expect(result["duplicates"] <= result["bound"], "%d ran twice", result["duplicates"])
        print("PASS")
        return 0
    except Exception as why:
        print("FAIL with seed %d: %s\n%s" % (opts.seed, why, bench.transcript()))
        return 1
    finally:
        bench.close()


if __name__ == "__main__":
    sys.exit(main())
