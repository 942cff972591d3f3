# SPDX-License-Identifier: AGPL-3.0-or-later
"""Exact accounts of what became of messages under faults: producers note what was confirmed, the
ledger plugin notes what ran, and at the end both are held against the queues and their dead letters."""
import os

from harness import OUTCOMES, expect, expect_equal

QUEUE = """{
  queue = "%(queue)s";
  handler = { %(handler)s };
  concurrency = %(concurrency)d;
  visibility_timeout = "%(vt)s";
  retry = { attempts = 2; first = "%(first)s"; max = "%(first)s"; };
  %(more)s
}"""


class Ledger:
    """Queues (`work`, unless others are named) and all that is put into them; `out` is what the plugin
    publishes to. What a payload's first letter means: tests/e2e/plugins/ledger.c."""

    def __init__(self, bench, vt="2s"):
        self.bench, self.vt = bench, vt
        self.queues = ["work"]
        self.ids, self.outcomes, self.number = [], dict.fromkeys(OUTCOMES, 0), 0
        self.may_die = {"f"}  # kinds of which dead letters are in order
        self.started = self.ended = 0  # workers; those that were accounted for
        self.direct = bench.broker

    # ---- What goes in ----

    def create(self, *queues):
        for queue in queues or self.queues + ["out"]:
            self.bench.create_queue(queue, self.vt)

    def put(self, lines, queue="work", status=0, broker=None):
        """Those that the broker confirmed are owed."""
        out, _ = self.bench.cli("enqueue", queue, "--lines", "-", data="".join(line + "\n" for line in lines),
                                status=status, seconds=60, FILA_WORKER_BROKER=broker or self.direct)
        confirmed = out.split()
        self.ids += confirmed
        return len(confirmed)

    def lines(self, kind, count):
        self.number += count
        return ["%s%d" % (kind, i) for i in range(self.number - count, self.number)]

    def produce(self, count, kind="m", queue="work", **more):
        return self.put(self.lines(kind, count), queue, **more)

    def produce_kinds(self, queue="work", **counts):
        """E.g. m=6, f=1, in one go."""
        return self.put([line for kind, count in counts.items() for line in self.lines(kind, count)], queue)

    # ---- Workers ----

    def queue_config(self, queue="work", concurrency=4, run=None, first="50ms", more="", handler=None):
        if handler is None:
            handler = 'plugin = "%s"; file = "ledger.txt"; %s' % (
                self.bench.plugin("ledger_one"), 'run = "%s";' % run if run else "")
        return QUEUE % {"queue": queue, "handler": handler, "concurrency": concurrency, "vt": self.vt,
                        "first": first, "more": more}

    def config(self, broker=None, top="", queues=None, **more):
        """`queues`: texts of queue_config; else one for each of ours, of `more`."""
        if not (broker or "").startswith("("):
            broker = '"%s"' % (broker or self.direct)
        queues = queues or [self.queue_config(queue, **more) for queue in self.queues]
        return "broker = %s;\nqueues = ( %s );\n%s\n" % (broker, ", ".join(queues), top)

    def start(self, name="worker", level="info", ready=True, config=None, environment=None, **more):
        config = config or self.config(**more)
        worker = self.bench.start_worker(config, name=name, level=level, FILA_WORKER_BROKER=None,
                                         **(environment or {}))
        self.started += 1
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
        self.ended += 1
        return status

    def finish(self, seconds=60, statuses=(0,), **more):
        """A worker without any fault does what is left."""
        worker = self.start("last worker", environment={"FILA_CRASH_AT": None}, **more)
        self.wait_done(seconds)
        self.stop(worker, statuses=statuses)

    # ---- What came of it ----

    def runs(self):
        """(payload, id) of each run that succeeded."""
        if not os.path.exists(self.bench.path("ledger.txt")):
            return []
        lines = self.bench.read("ledger.txt").decode().splitlines()
        return [(line.split(" ")[0], line.split(" ")[2]) for line in lines]

    def wait_runs(self, count, seconds=30):
        self.bench.wait_until("%d runs" % count, seconds, lambda: len(self.runs()), lambda n: n >= count)

    def depths(self):
        """Of every queue that the broker has."""
        return {row["queue"]: row["depth"]
                for row in self.bench.json("queue", "ls", FILA_WORKER_BROKER=self.direct)}

    def depth(self):
        """What waits in ours."""
        depths = self.depths()
        return sum(depths.get(queue, 0) for queue in self.queues)

    def wait_done(self, seconds=60):
        self.bench.wait_until("the queue to be empty", seconds, self.depth, lambda d: d == 0)

    def dead(self):
        """(id of the original, payload) of all dead letters, copies included."""
        letters, depths = [], self.depths()
        for queue in self.queues:
            if depths.get(queue + ".dlq"):
                letters += self.bench.json_lines("dlq", "show", queue, "--limit", "100000", seconds=60,
                                                 FILA_WORKER_BROKER=self.direct)
        return [(letter.get("dead_letter", {}).get("message-id") or letter["id"], letter["payload"])
                for letter in letters]

    def check_outcomes(self, done, dead):
        """What the workers said of themselves against what the broker and the handlers know."""
        acked, buried = self.outcomes["acked"], self.outcomes["dead_lettered"]
        expect(acked <= len(done), "%d acked, but only %d were handled", acked, len(done))
        expect(buried <= len(dead), "%d dead-lettered, but there are %d dead letters", buried, len(dead))
        if self.started == self.ended:  # none died with its account
            settled = acked + buried + self.outcomes["dropped"] + self.outcomes["lease_lost"]
            expect(settled >= len(self.ids), "%d messages came in, %d outcomes say what became of them: %r",
                   len(self.ids), settled, self.outcomes)

    def result(self, bound):
        """What the table shows. Duplicates: runs that had succeeded before, and further copies of dead
        letters. Lost: confirmed, and neither done nor a dead letter, with nothing left in
        the queue."""
        runs, dead = self.runs(), self.dead()
        done, buried = {run[1] for run in runs}, {letter[0] for letter in dead}
        expect_equal("left in the queue", self.depth(), 0)
        wrong = [letter for letter in dead if letter[1][:1] not in self.may_die]
        expect_equal("dead letters of messages that can be handled", wrong, [])
        self.check_outcomes(done, dead)
        lost = [i for i in self.ids if i not in done and i not in buried]
        published = self.depths().get("out", 0)
        wanted = len({run[0] for run in runs if run[0].startswith("p")})
        expect(published >= wanted, "%d published by handlers whose messages are acked, of %d", published, wanted)
        return {"in": len(self.ids), "outcomes": dict(self.outcomes),
                "duplicates": len(runs) - len(done) + len(dead) - len(buried),
                "dead": len(dead), "bound": bound, "lost": len(lost)}
