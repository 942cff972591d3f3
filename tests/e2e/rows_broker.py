# SPDX-License-Identifier: AGPL-3.0-or-later
"""Faults of the broker and of the way to it (rows of faults.py)."""
import signal
import threading

from fault_kit import DEATH, kill, pause
from faults import row
from harness import expect, expect_equal
from proxy import Proxy


# ---- The way to it ----

@row("half-open connection for 18 s", broker="plain")
def half_open(bench, ledger, chance):
    proxy = Proxy(bench, bench.broker)
    ledger.create()
    ledger.produce(1500)
    worker = ledger.start(broker=proxy.url, run="5ms")
    ledger.wait_runs(100)
    proxy.freeze(True)
    pause(18)
    proxy.cut()
    proxy.freeze(False)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("connection cut every 0.4 s, 12 times", quick=True, broker="plain")
def cuts(bench, ledger, chance):
    proxy = Proxy(bench, bench.broker)
    ledger.create()
    ledger.produce(1500)
    worker = ledger.start(broker=proxy.url, run="5ms")
    for _ in range(12):
        pause(chance.uniform(0.2, 0.6))
        proxy.cut()
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("GOAWAY every 0.3 s, 10 times", quick=True, broker="plain")
def goaways(bench, ledger, chance):
    proxy = Proxy(bench, bench.broker)
    ledger.create()
    ledger.produce(1500)
    worker = ledger.start(broker=proxy.url, run="5ms")
    for _ in range(10):
        pause(0.3)
        proxy.goaway()
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("no connection is accepted for 5 s", broker="plain")
def refused(bench, ledger, chance):
    proxy = Proxy(bench, bench.broker)
    ledger.create()
    ledger.produce(1000)
    worker = ledger.start(broker=proxy.url, run="5ms")
    ledger.wait_runs(50)
    proxy.refuse(True)
    proxy.cut()
    pause(5)
    proxy.refuse(False)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("two endpoints: one refuses, then the other, 2 times each", broker="plain")
def endpoints(bench, ledger, chance):
    """Two ways to one broker, as two nodes of a cluster are."""
    ways = [Proxy(bench, bench.broker), Proxy(bench, bench.broker)]
    ledger.create()
    worker = ledger.start(broker='( "%s", "%s" )' % (ways[0].url, ways[1].url), run="5ms")
    for i in range(4):
        gone, left = ways[i % 2], ways[1 - i % 2]
        ledger.produce(300)
        ledger.wait_runs(300 * i + 50, 60)
        mark = worker.mark()
        gone.refuse(True)
        gone.cut()
        worker.wait_event("BROKER-CHANGED", 30, since=mark, broker=left.url)
        ledger.wait_runs(300 * (i + 1), 60)
        gone.refuse(False)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


# ---- It answers badly ----

CODES = range(1, 17)


class Codes:
    """Each code of gRPC at once, on a queue of its own, whose faults it meets."""

    def __init__(self, bench, ledger):
        self.bench, self.ledger = bench, ledger
        self.broker = bench.start_faulty_broker()
        ledger.direct = bench.broker
        ledger.queues = ["work-%d" % code for code in CODES]

    def fault(self, kind, call, count=2, of="", more=""):
        """`of`: to be appended to the queue's name."""
        for code in CODES:
            self.broker.tell("%s %s queue=work-%d%s code=%d count=%d %s" % (kind, call, code, of, code, count, more))

    def wait_met(self, seconds=60):
        """Every fault that was set has happened."""
        self.bench.wait_until("every fault to be met", seconds, lambda: self.broker.ask("left"),
                              lambda answer: answer == "left 0")

    def produce(self, **kinds):
        for queue in self.ledger.queues:
            self.ledger.produce_kinds(queue, **kinds)

    def start(self, ready=True, **more):
        worker = self.ledger.start(ready=False, concurrency=2, **more)
        if ready:
            worker.wait_event("STREAM-OPEN", 60, count=len(CODES))
        return worker

    def finish(self, worker):
        self.wait_met()
        self.ledger.wait_done(120)
        self.ledger.stop(worker)


def codes_of_ack(codes, kind):
    codes.ledger.create()
    codes.fault(kind, "Ack")
    codes.produce(m=6, r=1, f=1, p=1)
    codes.finish(codes.start(run="1ms"))
    return 0


def codes_of_nack(codes, kind):
    """A retry that waits longer than the lease is given back."""
    codes.ledger.create()
    codes.fault(kind, "Nack")
    codes.produce(m=2, r=3, f=1)
    codes.finish(codes.start(run="1ms", first="3s"))
    return 0


def codes_of_enqueue(codes, kind):
    """Of dead letters and of what handlers publish. What is not confirmed is not published: the handler
    runs again. A dead letter whose confirmation was lost is written again."""
    codes.ledger.create()
    codes.ledger.may_die = {"f", "p"}  # one that may publish nothing twice has failed twice
    codes.fault(kind, "Enqueue", count=1, of=".dlq")
    for code in CODES:
        codes.broker.tell("%s Enqueue queue=out code=%d nth=%d count=1" % (kind, code, code))
    codes.produce(m=2, f=2, p=2)
    codes.finish(codes.start(run="1ms"))
    return len(CODES) + (len(CODES) if kind == "lose" else 0)


def codes_of_consume(codes, kind):
    """Before a stream is open, and, as the way in which an open one ends ("cut")."""
    codes.ledger.create()
    codes.fault(kind, "Consume", more="after=3")
    codes.produce(m=12)
    codes.finish(codes.start(ready=False, run="1ms"))
    return 0


def codes_of_get_stats(codes, kind):
    codes.ledger.create()
    codes.fault(kind, "GetStats", count=1)
    codes.produce(m=4)
    codes.finish(codes.start(run="1ms"))
    return 0


def codes_of_create_queue(codes, kind):
    """`missing_queue = "create"`, and nothing else makes them."""
    codes.ledger.create("out")
    codes.fault(kind, "CreateQueue", count=1)
    worker = codes.start(run="1ms", more='missing_queue = "create";')
    codes.wait_met()
    names = set(codes.ledger.queues)
    codes.bench.wait_until("all queues to be made", 60, codes.ledger.depths, lambda d: names <= set(d))
    codes.produce(m=4)
    codes.finish(worker)
    return 0


CODES_OF = {"Ack": codes_of_ack, "Nack": codes_of_nack, "Enqueue": codes_of_enqueue, "Consume": codes_of_consume,
            "GetStats": codes_of_get_stats, "CreateQueue": codes_of_create_queue}


def codes_row(call, kind, quick=False):
    text = {"error": "each of the 16 error codes as the answer to %s",
            "lose": "done, but each of the 16 error codes as the answer: %s",
            "cut": "each of the 16 error codes as the end of an open stream: %s"}[kind] % call

    @row(text, quick=quick)
    def answers(bench, ledger, chance):
        return CODES_OF[call](Codes(bench, ledger), kind)


for call in CODES_OF:
    codes_row(call, "error", quick=call == "Ack")
for call in ("Ack", "Nack", "Enqueue", "Consume", "CreateQueue"):
    codes_row(call, "lose")
codes_row("Consume", "cut")


def slow_row(call, kind):
    count = 1 if call == "Consume" else 4
    text = {"hang": "no answer to %s, %s", "delay": "answered 1.5 s late: %s, %s"}[kind] % (call, "4 times" if count > 1 else "once")

    @row(text)
    def answers(bench, ledger, chance):
        broker = bench.start_faulty_broker()
        ledger.direct = bench.broker
        ledger.create()
        ledger.produce_kinds(m=200, r=30, f=20, p=20)
        broker.tell("%s %s count=%d delay=1500" % (kind, call, count))
        worker = ledger.start(run="1ms", first="3s" if call == "Nack" else "50ms", ready=False)
        bench.wait_until("every fault to be met", 60, lambda: broker.ask("left"), lambda answer: answer == "left 0")
        ledger.wait_done(120)
        ledger.stop(worker)
        # What a handler published is not confirmed: it runs again.
        return 2 * count if call == "Enqueue" and kind == "hang" else 0


for call in ("Ack", "Nack", "Enqueue", "Consume"):
    for kind in ("hang", "delay"):
        slow_row(call, kind)


# ---- Its streams ----

@row("the stream ends in good order (a change of leader), 10 times")
def good_ends(bench, ledger, chance):
    broker = bench.start_faulty_broker()
    ledger.direct = bench.broker
    ledger.create()
    ledger.produce(1000)
    broker.tell("cut Consume code=0 after=40 count=10")
    worker = ledger.start(run="1ms")
    worker.wait_event("STREAM-OPEN", 60, opens=11)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("the stream falls silent though messages wait")
def silent(bench, ledger, chance):
    broker = bench.start_faulty_broker()
    ledger.direct = bench.broker
    ledger.create()
    ledger.produce(600)
    broker.tell("freeze Consume after=100 count=1")
    worker = ledger.start(run="1ms")
    worker.wait_event("STREAM-SILENT", 60)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("the queue is missing, and made 3 s later", broker="plain")
def missing_queue(bench, ledger, chance):
    ledger.create("out")
    worker = ledger.start(run="1ms", ready=False)
    worker.wait_event("QUEUE-MISSING", 30)
    pause(3)
    ledger.create("work")
    ledger.produce_kinds(m=300, r=10, f=5, p=10)
    ledger.wait_done(90)
    expect_equal("streams opened", len(worker.events("STREAM-OPEN")), 1)
    ledger.stop(worker)
    return 0


@row("the queue is deleted under load, and made again", broker="plain")
def deleted_queue(bench, ledger, chance):
    """What was in it went with it, and is owed to nobody."""
    ledger.create()
    ledger.produce(1500)
    worker = ledger.start(run="5ms")
    ledger.wait_runs(100)
    bench.cli("queue", "delete", "work", FILA_WORKER_BROKER=ledger.direct)
    ledger.ids = []
    worker.wait_event("QUEUE-MISSING", 60)
    ledger.create("work")
    ledger.produce_kinds(m=500, r=10, f=5, p=10)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


# ---- It stands still, stops, dies ----

@row("SIGSTOP of the broker for 18 s (keepalive 15 s, lease 2 s)", broker="durable")
def stop_broker(bench, ledger, chance):
    ledger.create()
    ledger.produce(1500)
    worker = ledger.start(run="5ms")
    ledger.wait_runs(100)
    bench.server.child.signal(signal.SIGSTOP)
    pause(18)
    bench.server.child.signal(signal.SIGCONT)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("SIGTERM to the broker under load: it serves its streams on, and answers no call", broker="durable")
def term_broker(bench, ledger, chance):
    """It ends only when the worker has let go of its stream."""
    ledger.create()
    ledger.produce(1500)
    worker = ledger.start(run="5ms")
    ledger.wait_runs(100)
    bench.server.stop(60)
    expect(worker.events("BROKER-HANGS") or worker.events("STREAM-END"), "the worker has not noticed")
    bench.server.start()
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("SIGTERM to the broker while nothing waits", broker="durable")
def term_idle_broker(bench, ledger, chance):
    ledger.create()
    ledger.produce(50)
    worker = ledger.start(run="1ms")
    ledger.wait_done()
    bench.server.stop(90)
    bench.server.start()
    ledger.produce(50)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("kill -9 of the durable broker, 3 times, under load", broker="durable")
def kill_broker(bench, ledger, chance):
    ledger.create()
    ledger.produce(800)
    worker = ledger.start(run="5ms")
    for _ in range(3):
        pause(chance.uniform(0.3, 0.8))
        # What is confirmed while it dies is owed, the rest is not.
        producer = threading.Thread(target=ledger.produce, args=(3000,), kwargs={"status": None})
        producer.start()
        pause(chance.uniform(0.1, 0.4))
        bench.server.kill()
        producer.join()
        bench.server.start()
    ledger.wait_done(120)
    ledger.stop(worker)
    return 0


@row("kill -9 of the durable broker and of the worker", broker="durable")
def kill_both(bench, ledger, chance):
    ledger.create()
    ledger.produce_kinds(m=800, r=20, f=10, p=20)
    worker = ledger.start(run="5ms")
    ledger.wait_runs(100)
    bench.server.kill()
    kill(worker)
    bench.server.start()
    ledger.finish(90)
    return DEATH
