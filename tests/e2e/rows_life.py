# SPDX-License-Identifier: AGPL-3.0-or-later
"""Stops and reloads (rows of faults.py)."""
import os

from fault_kit import CONCURRENCY, figures, reload
from faults import row
from harness import SLOW, expect, expect_equal, expect_match


# ---- Drain ----

@row("drain: handlers take 1 s", quick=True, broker="plain")
def drain_slow(bench, ledger, chance):
    ledger.create()
    ledger.produce(60)
    worker = ledger.start(run="1s")
    ledger.wait_runs(4)
    ledger.stop(worker)
    ledger.finish(90)
    return 0


@row("drain: commands that ignore SIGTERM", broker="plain")
def drain_stubborn(bench, ledger, chance):
    ledger.vt = "14s"
    ledger.create()
    ledger.produce(40)
    os.mkdir(bench.path("started"))
    stuck = bench.script("stuck.sh", 'trap "" TERM; : > "started/$FILA_MESSAGE_ID"; sleep 100')
    worker = ledger.start(handler='plugin = "exec"; command = [ "%s" ];' % stuck, top='drain_timeout = "4s";')
    bench.wait_files("started", 4)
    ledger.stop(worker, statuses=(75,))
    ledger.finish(30)
    return 0


def wait_running(bench, ledger, queue="work"):
    bench.wait_until("4 to run", 20, lambda: bench.json(
        "queue", "stats", queue, FILA_WORKER_BROKER=ledger.direct)["in_flight"], lambda n: n >= CONCURRENCY)


@row("drain: threads that never return", broker="plain")
def drain_stuck(bench, ledger, chance):
    """What they hold is left to its lease."""
    ledger.vt = "12s"
    ledger.create()
    ledger.produce(40)
    worker = ledger.start(run="10min", top='drain_timeout = "3s";')
    wait_running(bench, ledger)
    ledger.stop(worker, statuses=(76,))
    ledger.finish(60)
    return 0


@row("drain: handlers fail", quick=True, broker="plain")
def drain_failing(bench, ledger, chance):
    ledger.create()
    ledger.produce_kinds(f=40, m=40)
    worker = ledger.start(run="5ms", first="1s", top='drain_timeout = "6s";')
    worker.wait_event("MESSAGE-FAILED", 20)
    ledger.stop(worker)
    ledger.finish(60)
    return 0


# ---- Reloads that are good ----

@row("300 reloads under load", broker="plain")
def reloads(bench, ledger, chance):
    return reload_often(bench, ledger, 300)


@row("30 reloads under load", quick=True, broker="plain")
def some_reloads(bench, ledger, chance):
    return reload_often(bench, ledger, 30)


def reload_often(bench, ledger, count):
    """In turn: settings that a running queue takes, another concurrency, other options of the handler; and a
    queue comes and goes with its messages running. Descriptors, threads and memory stay as they were."""
    ledger.queues = ["work", "more"]
    ledger.create()

    def config(i):
        work = ledger.queue_config(run="%dms" % (2 + i // 5 % 2), concurrency=CONCURRENCY + i // 2 % 2,
                                   more="rate = %d.0;" % (5000 + i))
        return ledger.config(queues=[work] + [ledger.queue_config("more", run="2ms")] * (i % 3 > 0))

    worker = ledger.start(config=config(0))
    steady = None
    for i in range(1, count + 1):
        if i % 10 == 1:
            ledger.produce(200)
            ledger.produce(50, queue="more")
        reload(bench, worker, config(i))
        if i == count // 3 // 60 * 60 + 10:  # the same state as at the end
            steady = figures(worker)
    last = count // 60 * 60 + 10
    reload(bench, worker, config(last))
    ledger.wait_done(60)
    grown = bench.wait_until("as many descriptors and threads as before (%r)" % (steady,), 20,
                             lambda: figures(worker), lambda f: f[0] <= steady[0] + 1 and f[1] <= steady[1] + 1)
    # A sanitizer keeps what was freed.
    expect(SLOW > 1 or grown[2] <= steady[2] * 1.25 + 4096, "memory grew from %d to %d KiB", steady[2], grown[2])
    ledger.stop(worker)
    expect_equal("refused reloads", worker.events("RELOAD-REFUSED"), [])
    return 0


@row("a queue is taken out of the config while its messages run, and put back, 10 times", broker="plain")
def removed(bench, ledger, chance):
    ledger.queues = ["work", "more"]
    ledger.create()

    def config(i, both):
        """No two alike: equal lines of the log are folded."""
        return ledger.config(queues=[ledger.queue_config(run="5ms", more="rate = %d.0;" % (5000 + i))] +
                             [ledger.queue_config("more", run="150ms")] * both)

    worker = ledger.start(config=config(0, True))
    ledger.produce(200, queue="more")
    for i in range(1, 20, 2):
        ledger.produce(100)
        wait_running(bench, ledger, "more")
        expect_equal("removed", reload(bench, worker, config(i, False))["queues_removed"], 1)
        expect_equal("added", reload(bench, worker, config(i + 1, True))["queues_added"], 1)
    ledger.wait_done(90)
    expect_equal("streams of the other queue", len(worker.events("STREAM-OPEN", queue="work")), 1)
    ledger.stop(worker)
    return 0


# ---- Reloads that are not ----

def spoilt_files(bench, ledger, good, chance):
    """(what makes the file so, what RELOAD-REFUSED must say)"""
    path = bench.path("fila-worker.cfg")

    def gone():
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def folder():
        gone()
        os.mkdir(path)

    def loop():
        gone()
        os.symlink("fila-worker.cfg", path)

    def text(content):
        def write():
            gone()
            bench.write("fila-worker.cfg", content)
        return write

    other = ledger.queue_config("other", handler='plugin = "%s"' % bench.path("missing.so") + ";")
    slow = ledger.queue_config("other", handler='plugin = "%s"; file = "/nowhere/ledger.txt";' % bench.plugin("ledger_one"))
    half = good[:chance.randrange(1, good.rindex("}"))]
    return [
        (gone, "No such file"), (folder, "folder|directory"), (loop, "symbolic links"), (text(half), "."),
        (text(""), "queues"), (text(good.replace("concurrency", "concurency")), "concurency"),
        (text(good.replace('visibility_timeout = "2s"', 'visibility_timeout = "2"')), "unit"),
        (text(good.replace("grpc://", "grpcs://")), "broker"),
        (text('state_dir = "elsewhere";\n' + good), "state_dir"),
        (text(good.replace("} );", "}, %s );" % other)), "queue .other.: .*missing.so"),
        (text(good.replace("} );", "}, %s );" % slow)), "queue .other.: .*ledger cannot be opened"),
        (text('api_key = "${file:/dev/zero}";\n' + good), "/dev/zero"),
        (text(bytes(range(256)) * 40), "."),
    ]


@row("a config file that is gone, no file, cut short, or wrong, 13 ways, under load", broker="plain")
def spoilt(bench, ledger, chance):
    """Refused as a whole with the reason; streams, handlers and messages do not notice."""
    ledger.create()
    good = ledger.config(run="5ms")
    worker = ledger.start(config=good)
    opened = len(worker.events("STREAM-OPEN"))
    ledger.wait_done()
    before = figures(worker)
    for spoil, wanted in spoilt_files(bench, ledger, good, chance):
        ledger.produce(60)
        spoil()
        why = reload(bench, worker, None, "RELOAD-REFUSED", 40)["error"]
        expect_match("why the reload was refused", wanted, why)
    expect_equal("streams", len(worker.events("STREAM-OPEN")), opened)
    reload(bench, worker, good)
    expect_equal("streams, after a good one", len(worker.events("STREAM-OPEN")), opened)
    ledger.wait_done(60)
    # gRPC keeps a thread or two more when many things happened at once.
    bench.wait_until("no more descriptors and threads than before (%r)" % (before,), 20, lambda: figures(worker),
                     lambda f: f[0] <= before[0] and f[1] <= before[1] + 2)
    ledger.stop(worker)
    return 0
