# SPDX-License-Identifier: AGPL-3.0-or-later
"""The machine has no more of something, or its clocks do not run on (rows of faults.py)."""
import contextlib
import os
import resource
import subprocess

from fault_kit import pause
from faults import row
from harness import Child, Deadline, Skipped, expect, expect_equal


@contextlib.contextmanager
def limited(pid, what, value):
    """A process whose soft limit is that, for a while."""
    soft, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (value, hard))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, what, (soft, hard))


def descriptors_of(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


@row("no descriptor is free for 4 s", quick=True, broker="plain")
def descriptors(bench, ledger, chance):
    ledger.create()
    ledger.produce(300)
    body = 'read line; sleep 0.02; echo "$line $FILA_ATTEMPT $FILA_MESSAGE_ID" >> ledger.txt'
    worker = ledger.start(handler='plugin = "exec"; command = [ "%s" ];' % bench.script("run.sh", body),
                          more="breaker = { probe = \"500ms\"; max = \"1s\"; };")
    ledger.wait_runs(20)
    with limited(worker.pid, resource.RLIMIT_NOFILE, max(3, descriptors_of(worker.pid) - 2)):
        pause(4)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("no descriptor is free under the broker for 4 s")
def broker_descriptors(bench, ledger, chance):
    broker = bench.start_broker()
    ledger.direct = bench.broker
    ledger.create()
    ledger.produce(600)
    worker = ledger.start(run="10ms")
    ledger.wait_runs(20)
    with limited(broker.pid, resource.RLIMIT_NOFILE, descriptors_of(broker.pid)):
        pause(4)
    ledger.produce(100)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("disk full under the durable broker", broker="durable")
def broker_disk_full(bench, ledger, chance):
    """Its files may not grow for a while: what it cannot store it must not confirm."""
    ledger.create()
    ledger.produce(200)
    broker = bench.server.child
    broker.signalled = True
    with limited(broker.pid, resource.RLIMIT_FSIZE, max(bench.server.files()) + 4096):
        confirmed = ledger.produce(2000, status=None)
    expect(confirmed < 2000, "the disk was never full")
    if bench.server.program or not broker.running():
        bench.server.restart()
    ledger.finish(90)
    return 0


@row("disk full under the handler's file for 3 s", broker="plain")
def handler_disk_full(bench, ledger, chance):
    ledger.create()
    ledger.produce(400)
    ledger.may_die = {"m"}  # tries that the disk made fail are tries
    worker = ledger.start(run="5ms", first="500ms")
    ledger.wait_runs(50)
    with limited(worker.pid, resource.RLIMIT_FSIZE, os.path.getsize(bench.path("ledger.txt"))):
        pause(3)
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("standard error is a full disk", broker="plain")
def log_disk_full(bench, ledger, chance):
    ledger.create()
    ledger.produce(400)
    ledger.started += 1  # one whose account nobody can read
    bench.write("fila-worker.cfg", ledger.config(run="2ms"))
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([bench.worker_path, "run"], cwd=bench.folder, stderr=full, start_new_session=True,
                                   env=bench.environment(FILA_WORKER_LOG_LEVEL="debug", FILA_WORKER_BROKER=None))
    bench.cleanups.append(process.kill)
    ledger.wait_done(60)
    process.terminate()
    expect_equal("exit status", process.wait(Deadline(30).seconds), 0)
    return 0


def small_state(bench, size):
    """state_dir on a file system of that many bytes."""
    os.mkdir(bench.path("state"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", bench.path("state")],
                          capture_output=True)
    if done.returncode:
        raise Skipped("no file system of a few pages can be mounted here: " + done.stderr.decode().strip())
    bench.cleanups.append(lambda: subprocess.run(["umount", "-l", bench.path("state")], capture_output=True))


@row("`state_dir` is a full disk", broker="plain")
def state_disk_full(bench, ledger, chance):
    ledger.create()
    ledger.produce(600)
    small_state(bench, 16384)
    worker = ledger.start(run="2ms", top='state_dir = "state";')
    ledger.wait_done(60)
    ledger.stop(worker)
    return 0


@row("the disk of `state_dir` fills up under load, and has room again", broker="plain")
def state_disk_fills(bench, ledger, chance):
    """The work goes on without the journal, then with it. Tries that failed are what it has to keep."""
    ledger.create()
    small_state(bench, 4 << 20)
    worker = ledger.start(run="2ms", first="1s", top='state_dir = "state";')
    ledger.produce_kinds(m=100, r=50)
    ledger.wait_runs(100)
    with open(bench.path("state/filler"), "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    ledger.produce_kinds(m=300, r=300, f=10)
    worker.wait_event("JOURNAL-DOWN", 30)
    ledger.wait_done(60)
    os.unlink(bench.path("state/filler"))
    ledger.produce_kinds(m=100, r=50)
    worker.wait_event("JOURNAL-UP", 60)
    ledger.wait_done(60)
    ledger.stop(worker)
    return 0


# ---- Clocks ----

def with_clocks(bench, ledger, **more):
    """A broker whose clocks can be stepped; what a worker needs for the same, and how to step them."""
    shim = os.path.join(bench.build, "tests", "e2e", "peers", "clockstep.so")
    if not os.path.exists(shim) or "sanitize" in os.environ.get("FILA_E2E_WRAPPER", ""):
        raise Skipped("no clockstep.so in this build")
    path = bench.write("step", "0\n")
    environment = {"LD_PRELOAD": shim, "CLOCKSTEP_FILE": path, **more}
    broker = bench.spawn(Child, "broker", ["broker", "--listen", "127.0.0.1:0"], wrap=False,
                         FILA_WORKER_BROKER=None, **environment)
    port = broker.wait_line(broker.out, r"127\.0\.0\.1:(\d+)", 20).group(1)
    ledger.direct = bench.broker = "grpc://127.0.0.1:" + port

    def step(seconds):
        with open(path, "w", encoding="ascii") as f:
            f.write("%d\n" % seconds)
    return environment, step


@row("wall clock steps by an hour, forth and back")
def clock_step(bench, ledger, chance):
    """Of worker and broker, by a library in between: CLOCK_BOOTTIME, which leases go by, cannot step."""
    environment, step = with_clocks(bench, ledger)
    ledger.create()
    ledger.produce(1200)
    worker = ledger.start(run="5ms", environment=environment)
    for seconds in (3600, -3600, 0):
        pause(0.5)
        step(seconds)
    ledger.wait_done(60)
    ledger.stop(worker)
    return 0


@row("the machine sleeps for a minute, 3 times, under load (lease 2 s)")
def sleeps(bench, ledger, chance):
    """All clocks but CLOCK_MONOTONIC have gone on: every lease has ended, of what runs too."""
    environment, step = with_clocks(bench, ledger, CLOCKSTEP_SLEEP="1")
    ledger.create()
    ledger.produce(1200)
    worker = ledger.start(run="5ms", environment=environment)
    for i in range(3):
        ledger.wait_runs(200 * (i + 1))
        step(60 * (i + 1))
    ledger.wait_done(60)
    ledger.stop(worker)
    return 0
