# SPDX-License-Identifier: AGPL-3.0-or-later
"""As a container's entrypoint: the first process of a PID namespace."""
import os
import shutil
import signal
import subprocess

from harness import Skipped, Worker, expect_equal
from registry import test
from test_delivery import exec_config


def namespace():
    """The words that start a command as PID 1."""
    words = ["unshare", "--pid", "--fork"] if os.geteuid() == 0 else \
        ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        raise Skipped("no PID namespace can be made here")
    return words


def children(pid):
    """(pid, state) of a process's children."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid:
            found.append((int(name), state))
    return found


def start(bench, config, **environment):
    """The worker, and the PID that its first process has out here."""
    words = namespace()
    bench.write("fila-worker.cfg", config)
    child = bench.spawn(Worker, "worker", ["run"], launcher=words, FILA_WORKER_LOG_LEVEL="debug", **environment)
    child.wait_event("WORKER-START")
    (first, _), = children(child.pid)
    return child, first


@test()
def first_process_reaps_and_passes_signals_on(bench):
    bench.start_broker()
    bench.create_queue("work")
    worker, first = start(bench, exec_config(bench, bench.script("orphan.sh", "setsid --fork true")))
    bench.enqueue_lines("work", ["m%d" % i for i in range(30)])
    worker.wait_event("MESSAGE-DONE", count=30, outcome="acked")
    bench.wait_until("all orphans to be reaped", 20, lambda: [c for c in children(first) if c[1] == "Z"],
                     lambda zombies: not zombies)
    os.kill(first, signal.SIGHUP)
    worker.wait_event("RELOAD-DONE")
    worker.signalled = True
    os.kill(first, signal.SIGTERM)
    worker.wait(30, status=0)
    expect_equal("acked", worker.wait_event("WORKER-STOP")["acked"], 30)


@test()
def first_process_ends_as_the_worker_does(bench):
    words = namespace()
    bench.write("fila-worker.cfg", "nonsense")
    done = subprocess.run([*words, bench.worker_path, "run"], cwd=bench.folder, env=bench.environment(),
                          capture_output=True, timeout=60)
    expect_equal("a bad config", done.returncode, 78)
    bench.start_broker()
    bench.create_queue("work")
    worker, first = start(bench, exec_config(bench, "true"))
    (pid, _), = children(first)
    worker.signalled = True
    os.kill(pid, signal.SIGKILL)
    worker.wait(30, status=128 + signal.SIGKILL)
