# SPDX-License-Identifier: AGPL-3.0-or-later
"""One queue's trouble is not another's: what the healthy one does in a second, with and without it (rows
of faults.py)."""
import time

from fault_kit import pause
from faults import row
from harness import SLOW, expect, expect_equal

MESSAGES = 200
RUN = 0.02
CONCURRENCY = 4
NOMINAL = MESSAGES * RUN / CONCURRENCY  # seconds, if nothing but the handlers takes time


def healthy(ledger):
    """How long the healthy queue takes for its messages; the best of three, for a machine that others use."""
    best = None
    for _ in range(3):
        before = len(ledger.runs())
        ledger.produce(MESSAGES)
        began = time.monotonic()
        ledger.wait_runs(before + MESSAGES, 60)
        took = time.monotonic() - began
        best = took if best is None else min(best, took)
        if best < 1.2 * NOMINAL:
            break
    return best


def apart(ledger, trouble, over=None, sick="", quiet=0):
    """`sick` is the other queue's config, `trouble` what is done to it, `over` ends it (None: nothing does); `quiet`: for so many
    seconds the healthy queue has nothing to do meanwhile."""
    ledger.queues = ["work"]
    ledger.create("work", "out", "sick")
    config = ledger.config(queues=[ledger.queue_config(run="%dms" % (RUN * 1000), concurrency=CONCURRENCY),
                                   sick or ledger.queue_config("sick", run="1ms")], top='drain_timeout = "6s";')
    worker = ledger.start(config=config, ready=False)
    worker.wait_event("STREAM-OPEN", 30, queue="work")
    without = healthy(ledger)
    trouble()
    pause(quiet)
    best = healthy(ledger)
    limit = (1.3 * without + 0.5) * SLOW
    expect(best <= limit, "the healthy queue took %.2f s for %d messages, without the other's trouble %.2f s",
           best, MESSAGES, without)
    expect_equal("streams of the healthy queue", len(worker.events("STREAM-OPEN", queue="work")), 1)
    ledger.queues = ["work", "sick"]
    if over:
        over()
        ledger.wait_done(90)
        ledger.stop(worker)
    else:
        ledger.stop(worker, statuses=(76,))
        ledger.finish(90)
    return 0


@row("another queue's threads never return: the healthy one is as fast as before", broker="plain")
def stuck(bench, ledger, chance):
    return apart(ledger, lambda: ledger.produce(400, queue="sick"),
                 sick=ledger.queue_config("sick", run="10min"))


@row("another queue's handlers all fail: the healthy one is as fast as before", broker="plain")
def failing(bench, ledger, chance):
    return apart(ledger, lambda: ledger.produce(300, "f", "sick"), over=lambda: None)


@row("another queue's calls are not answered: the healthy one, idle meanwhile, keeps its stream")
def hanging(bench, ledger, chance):
    broker = bench.start_faulty_broker()
    ledger.direct = bench.broker

    def trouble():
        for call in ("Ack", "Nack", "GetStats"):
            broker.tell("hang %s queue=sick count=0" % call)
        ledger.produce(100, queue="sick")
    return apart(ledger, trouble, over=lambda: broker.tell("clear"), quiet=15)


@row("another queue's streams break again and again: the healthy one is as fast as before")
def breaking(bench, ledger, chance):
    broker = bench.start_faulty_broker()
    ledger.direct = bench.broker

    def trouble():
        broker.tell("cut Consume queue=sick code=14 after=1 count=0")
        broker.tell("error Ack queue=sick code=13 count=0")
        ledger.produce(200, queue="sick")
    return apart(ledger, trouble, over=lambda: broker.tell("clear"), quiet=3)
