# SPDX-License-Identifier: AGPL-3.0-or-later
"""Exact accounts of what became of messages under faults: producers note what was confirmed, the
ledger plugin notes what ran, and at the end both are held against the queue and its dead letters."""
import os

from harness import OUTCOMES, expect, expect_equal

CONFIG = """broker = %(broker)s;
queues = ( {
  queue = "work";
  handler = { %(handler)s };
  concurrency = %(concurrency)d;
  visibility_timeout = "%(vt)s";
  retry = { attempts = 2; first = "%(first)s"; max = "%(first)s"; };
  %(more)s
} );
%(top)s
"""


class Ledger:
    """One queue `work` (and `out`, which the plugin publishes to) and all that is put into it."""

    def __init__(self, bench, vt="2s"):
        self.bench, self.vt = bench, vt
        self.ids, self.outcomes, self.number = [], dict.fromkeys(OUTCOMES, 0), 0
        self.direct = bench.broker

    def create(self):
        self.bench.create_queue("work", self.vt)
        self.bench.create_queue("out", self.vt)

    def produce(self, count, kind="m", status=0, broker=None):
        """Puts messages in; those that the broker confirmed are owed."""
        lines = "".join("%s%d\n" % (kind, self.number + i) for i in range(count))
        self.number += count
        out, _ = self.bench.cli("enqueue", "work", "--lines", "-", data=lines, status=status, seconds=60,
                                FILA_WORKER_BROKER=broker or self.direct)
        confirmed = out.split()
        self.ids += confirmed
        return len(confirmed)

    def config(self, broker=None, concurrency=4, run=None, first="50ms", more="", top="", handler=None):
        if handler is None:
            handler = 'plugin = "%s"; file = "ledger.txt"; %s' % (
                self.bench.plugin("ledger_one"), 'run = "%s";' % run if run else "")
        if not (broker or "").startswith("("):
            broker = '"%s"' % (broker or self.direct)
        return CONFIG % {"broker": broker, "handler": handler, "concurrency": concurrency, "vt": self.vt,
                         "first": first, "more": more, "top": top}

    def start(self, name="worker", level="info", ready=True, config=None, environment=None, **more):
        config = config or self.config(**more)
        worker = self.bench.start_worker(config, name=name, level=level, FILA_WORKER_BROKER=None,
                                         **(environment or {}))
        if ready:
            worker.wait_event("STREAM-OPEN", 40)
        return worker

    def stop(self, worker, seconds=30, statuses=(0,), signalled=False):
        """A clean end; its account is added to the outcomes."""
        if not signalled:
            worker.signal(15)
        status = worker.wait(seconds)
        expect(status in statuses, "exit status %d of %s, not one of %r", status, worker.name, statuses)
        for outcome, count in worker.account().items():
            if outcome in self.outcomes:
                self.outcomes[outcome] += count
        return status

    def runs(self):
        """(payload, id) of each run that succeeded."""
        if not os.path.exists(self.bench.path("ledger.txt")):
            return []
        lines = self.bench.read("ledger.txt").decode().splitlines()
        return [(line.split(" ")[0], line.split(" ")[2]) for line in lines]

    def wait_runs(self, count, seconds=30):
        self.bench.wait_until("%d runs" % count, seconds, lambda: len(self.runs()), lambda n: n >= count)

    def depth(self, queue="work"):
        return self.bench.json("queue", "stats", queue, FILA_WORKER_BROKER=self.direct)["depth"]

    def wait_done(self, seconds=60):
        self.bench.wait_until("the queue to be empty", seconds, self.depth, lambda d: d == 0)

    def finish(self, seconds=60, statuses=(0,), top=""):
        """A worker without any fault does what is left."""
        worker = self.start("last worker", environment={"FILA_CRASH_AT": None}, top=top)
        self.wait_done(seconds)
        self.stop(worker, statuses=statuses)

    def dead(self):
        """Ids of the originals of all dead letters, copies included."""
        letters = self.bench.json_lines("dlq", "show", "work", "--limit", "100000", seconds=60,
                                        FILA_WORKER_BROKER=self.direct)
        return [letter.get("dead_letter", {}).get("message-id") or letter["id"] for letter in letters]

    def result(self, bound):
        """What the table shows. Duplicates: runs that had succeeded before, and further copies of dead
        letters. Lost: confirmed, and neither done nor a dead letter, with nothing left in
        the queue."""
        runs, dead = self.runs(), self.dead()
        done = {run[1] for run in runs}
        expect_equal("left in the queue", self.depth(), 0)
        lost = [i for i in self.ids if i not in done and i not in set(dead)]
        published = self.depth("out")
        wanted = len({run[0] for run in runs if run[0].startswith("p")})
        expect(published >= wanted, "%d published by handlers whose messages are acked, of %d", published, wanted)
        return {"in": len(self.ids), "outcomes": dict(self.outcomes), "duplicates": len(runs) - len(done) + len(dead) - len(set(dead)),
                "dead": len(dead), "bound": bound, "lost": len(lost)}
