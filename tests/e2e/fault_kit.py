# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the rows of faults.py (rows_*.py) share.

The bound of a worker that dies, or stands still for longer than its leases: what ran then (concurrency,
4) and what had run and was not yet acked (64 calls are under way at once). One that lives and stays
with its messages runs nothing twice that has succeeded, whatever happens around it."""
import os
import signal
import threading

CONCURRENCY = 4
DEATH = CONCURRENCY + 64
PIPE = 130 + (65536 // 100)  # leased and unread: messages, and bytes of small ones


def pause(seconds):
    """How long a fault lasts: part of the scenario, no waiting for something to happen."""
    threading.Event().wait(seconds)


def kill(worker):
    worker.signal(signal.SIGKILL)
    worker.wait(10, -signal.SIGKILL)


def later(ledger, seconds, least):
    """A kill at a random instant, but not before something has run."""
    ledger.wait_runs(least)
    pause(seconds)


def reload(bench, worker, config, event="RELOAD-DONE", seconds=30):
    """With this config (None: whatever lies there); returns the event that tells how it went."""
    if config is not None:
        bench.write("fila-worker.cfg", config)
    mark = worker.mark()
    signalled = worker.signalled
    worker.signal(signal.SIGHUP)
    worker.signalled = signalled
    return worker.wait_event(event, seconds, since=mark)


def figures(worker):
    """(descriptors, threads, memory in KiB)"""
    with open("/proc/%d/status" % worker.pid, encoding="ascii") as f:
        status = dict(line.split(":", 1) for line in f if ":" in line)
    return (len(os.listdir("/proc/%d/fd" % worker.pid)), int(status["Threads"]),
            int(status["VmRSS"].split()[0]))
