# SPDX-License-Identifier: AGPL-3.0-or-later
"""Faults of the worker: it dies, or stands still (rows of faults.py)."""
import signal

from fault_kit import DEATH, PIPE, kill, later, pause
from faults import crash_points, row
from harness import expect_equal


# ---- It dies ----

@row("kill -9 of the worker at 3 random instants", quick=True, broker="plain")
def kill_three(bench, ledger, chance):
    return kills(ledger, chance, 3, 600)


@row("kill -9 of the worker at 12 random instants", broker="plain")
def kill_twelve(bench, ledger, chance):
    return kills(ledger, chance, 12, 3000)


@row("kill -9 of the worker at 12 random instants, with `state_dir`", broker="plain")
def kill_twelve_with_state(bench, ledger, chance):
    return kills(ledger, chance, 12, 3000, top='state_dir = "state";')


def kills(ledger, chance, count, messages, top=""):
    ledger.create()
    ledger.produce(messages)
    ledger.produce_kinds(r=20, f=10, p=20)
    for i in range(count):
        worker = ledger.start("worker %d" % i, run="4ms", top=top)
        later(ledger, chance.uniform(0, 0.3), len(ledger.runs()) + 1)
        kill(worker)
    ledger.finish(top=top)
    return count * DEATH


CRASH_ROUNDS = 2


def crash_row(point):
    @row("dies at: " + point, crash=True, group="dies by kill -9 at each of %d named instants of its code, %d times at "
         "each" % (len(crash_points()), CRASH_ROUNDS))
    def at_point(bench, ledger, chance):
        bench.start_broker()
        ledger.direct = bench.broker
        ledger.create()
        ledger.produce_kinds(m=100, r=10, f=6, p=10)
        for i in range(CRASH_ROUNDS):
            nth = 1 if point in ("stream-opened", "before-reload", "amid-reload", "drain-begun",
                                 "drained") else chance.randrange(1, 6)
            # The pause before a retry is longer than the lease: such a message is given back.
            worker = ledger.start("worker %d" % i, ready=False, run="2ms", first="3s",
                                  environment={"FILA_CRASH_AT": "%s:%d" % (point, nth)})
            provoke(bench, ledger, worker, point)
        ledger.finish(90)
        return CRASH_ROUNDS * DEATH
    return at_point


def provoke(bench, ledger, worker, point):
    """Reload and stop are asked for where the point lies in them; the worker must die of it."""
    if point in ("before-reload", "amid-reload", "drain-begun", "drained"):
        worker.wait_event("STREAM-OPEN", 20)
        if "reload" in point:
            bench.write("fila-worker.cfg", ledger.config(concurrency=3, run="2ms", first="3s"))
        worker.signal(signal.SIGHUP if "reload" in point else signal.SIGTERM)
    worker.signalled = True
    expect_equal("end of the worker", worker.wait(40), -signal.SIGKILL)


for name in crash_points():
    crash_row(name)


@row("2 workers, one is killed", quick=True, broker="plain")
def two_workers(bench, ledger, chance):
    return replicas(ledger, chance, 2, 800)


@row("5 workers, one is killed and one comes back", broker="plain")
def five_workers(bench, ledger, chance):
    return replicas(ledger, chance, 5, 3000)


def replicas(ledger, chance, count, messages):
    ledger.create()
    workers = [ledger.start("worker %d" % i, run="10ms") for i in range(count)]
    ledger.produce(messages)
    later(ledger, chance.uniform(0, 0.2), messages // 10)
    kill(workers.pop())
    if count > 2:
        workers.append(ledger.start("worker again", run="10ms"))
    ledger.wait_done(90)
    for worker in workers:
        ledger.stop(worker)
    return DEATH


# ---- It stands still ----

@row("SIGSTOP of a worker for 18 s (keepalive 15 s, lease 2 s)", broker="plain")
def stop_worker(bench, ledger, chance):
    """What lay unread on its way meanwhile may be another's by now, and nothing tells."""
    return worker_that_stops(ledger, "run", DEATH + PIPE)


@row('the same with `unsure_lease = "skip"`', broker="plain")
def stop_careful_worker(bench, ledger, chance):
    return worker_that_stops(ledger, "skip", DEATH)


def worker_that_stops(ledger, unsure, bound):
    ledger.create()
    first = ledger.start("worker that stops", run="5ms", more='unsure_lease = "%s";' % unsure)
    ledger.produce(1500)
    ledger.wait_runs(100)
    first.signal(signal.SIGSTOP)
    second = ledger.start("other worker", run="5ms")
    pause(18)
    first.signal(signal.SIGCONT)
    ledger.wait_done(90)
    ledger.stop(first)
    ledger.stop(second)
    return bound
