# SPDX-License-Identifier: AGPL-3.0-or-later
"""The rows of faults.py. Each plays one fault and returns how many runs may have been repeated by it.

The bound of a worker that dies, or stands still for longer than its leases: what ran then (concurrency,
4) and what had run and was not yet acked (64 calls are under way at once). One that lives and stays
with its messages runs nothing twice that has succeeded, whatever happens around it."""
import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading

from faults import crash_points, row
from harness import SLOW, Child, Deadline, Failed, Skipped, expect, expect_equal
from proxy import Proxy

CONCURRENCY = 4
DEATH = CONCURRENCY + 64
PIPE = 130 + (65536 // 100)  # leased and unread: messages, and bytes of small ones


def pause(seconds):
    """How long a fault lasts: part of the scenario, no waiting for something to happen."""
    threading.Event().wait(seconds)


def kill(worker):
    worker.signal(signal.SIGKILL)
    worker.wait(10, -signal.SIGKILL)


def later(bench, ledger, seconds, least):
    """A kill at a random instant, but not before something has run."""
    ledger.wait_runs(least)
    pause(seconds)


# ---- The worker dies ----

@row("kill -9 of the worker at 3 random instants", quick=True, real=True)
def kill_three(bench, ledger, chance):
    return kills(bench, ledger, chance, 3, 600)


@row("kill -9 of the worker at 12 random instants", real=True)
def kill_twelve(bench, ledger, chance):
    return kills(bench, ledger, chance, 12, 3000)


@row("kill -9 of the worker at 12 random instants, with state_dir", real=True)
def kill_twelve_with_state(bench, ledger, chance):
    return kills(bench, ledger, chance, 12, 3000, top='state_dir = "state";')


def kills(bench, ledger, chance, count, messages, top=""):
    ledger.create()
    ledger.produce(messages)
    ledger.produce(20, "r")
    ledger.produce(10, "f")
    ledger.produce(20, "p")
    for i in range(count):
        worker = ledger.start("worker %d" % i, run="4ms", top=top)
        later(bench, ledger, chance.uniform(0, 0.3), len(ledger.runs()) + 1)
        kill(worker)
    ledger.finish(top=top)
    return count * DEATH


def crash_row(point):
    @row("dies at: " + point, crash=True)
    def at_point(bench, ledger, chance):
        bench.start_broker()
        ledger.direct = bench.broker
        ledger.create()
        for kind, count in (("m", 100), ("r", 10), ("f", 6), ("p", 10)):
            ledger.produce(count, kind)
        rounds = 2
        for i in range(rounds):
            nth = 1 if point in ("stream-opened", "before-reload", "amid-reload", "drain-begun",
                                 "drained") else chance.randrange(1, 6)
            # The pause before a retry is longer than the lease: such a message is given back.
            worker = ledger.start("worker %d" % i, ready=False, run="2ms", first="3s",
                                  environment={"FILA_CRASH_AT": "%s:%d" % (point, nth)})
            provoke(bench, ledger, worker, point)
        ledger.finish(90)
        return rounds * DEATH
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


@row("2 workers, one is killed", quick=True, real=True)
def two_workers(bench, ledger, chance):
    return replicas(bench, ledger, chance, 2, 800)


@row("5 workers, one is killed and one comes back", real=True)
def five_workers(bench, ledger, chance):
    return replicas(bench, ledger, chance, 5, 3000)


def replicas(bench, ledger, chance, count, messages):
    ledger.create()
    workers = [ledger.start("worker %d" % i, run="10ms") for i in range(count)]
    ledger.produce(messages)
    later(bench, ledger, chance.uniform(0, 0.2), messages // 10)
    kill(workers.pop())
    if count > 2:
        workers.append(ledger.start("worker again", run="10ms"))
    ledger.wait_done(90)
    for worker in workers:
        ledger.stop(worker)
    return DEATH


# ---- Something stands still ----

@row("SIGSTOP of a worker for 18 s (keepalive 15 s, lease 2 s)", real=True)
def stop_worker(bench, ledger, chance):
    """What lay unread on its way meanwhile may be another's by now, and nothing tells."""
    return worker_that_stops(bench, ledger, "run", DEATH + PIPE)


@row('SIGSTOP of a worker, with unsure_lease = "skip"', real=True)
def stop_careful_worker(bench, ledger, chance):
    return worker_that_stops(bench, ledger, "skip", DEATH)


def worker_that_stops(bench, ledger, unsure, bound):
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


@row("SIGSTOP of the broker for 18 s (keepalive 15 s, lease 2 s)")
def stop_broker(bench, ledger, chance):
    broker = bench.start_broker()
    ledger.direct = bench.broker
    ledger.create()
    ledger.produce(1500)
    worker = ledger.start(run="5ms")
    ledger.wait_runs(100)
    broker.signal(signal.SIGSTOP)
    pause(18)
    broker.signal(signal.SIGCONT)
    broker.signalled = False
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("half-open connection for 18 s", real=True)
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


@row("connection cut every 0.4 s, 12 times", quick=True, real=True)
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


@row("GOAWAY every 0.3 s, 10 times", quick=True, real=True)
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


@row("no connection is accepted for 5 s", real=True)
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


# ---- The broker answers badly ----

def fault_row(call, kind, quick=False):
    text = {"error": "every error code on %s", "lose": "done, but every error code answered: %s",
            "hang": "no answer to %s", "delay": "answers 1.5 s late: %s"}[kind] % call

    @row(text, quick=quick)
    def answers(bench, ledger, chance):
        broker = bench.start_faulty_broker()
        ledger.direct = bench.broker
        ledger.create()
        for letter, count in (("m", 200), ("r", 30), ("f", 20), ("p", 20)):
            ledger.produce(count, letter)
        for code in range(1, 17) if kind in ("error", "lose") else [0]:
            count = 2 if call in ("Consume", "GetStats") else 4
            broker.tell("%s %s code=%d nth=%d count=%d delay=1500" % (kind, call, code, 1 + 4 * code, count))
        # A retry that waits longer than the lease is given back: nacks.
        worker = ledger.start(run="1ms", first="3s" if call == "Nack" else "50ms", ready=False)
        pause(12 if kind == "hang" else 6)
        broker.tell("clear")
        ledger.wait_done(120)
        ledger.stop(worker)
        # What a handler published is not confirmed: it runs again. A dead letter whose confirmation was
        # lost is written again.
        return {"error": 20, "lose": 64, "hang": 8, "delay": 0}[kind] if call == "Enqueue" else 0
    return answers


for call in ("Ack", "Nack", "Enqueue", "Consume", "GetStats", "CreateQueue"):
    fault_row(call, "error", quick=call == "Ack")
for call in ("Ack", "Nack", "Enqueue", "Consume"):
    fault_row(call, "lose")
    fault_row(call, "hang")
    fault_row(call, "delay")


# ---- The broker dies ----

def durable(bench, ledger):
    """A broker that keeps its messages, on a port that stays its own; its arguments."""
    out, _ = bench.cli("broker", "--help")
    if "--data" not in out:
        raise Skipped("this build's broker keeps nothing: no `broker --data`")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % s.getsockname()[1]
    ledger.direct = bench.broker = "grpc://" + address
    return ["broker", "--listen", address, "--data", bench.path("broker.db")]


def start_durable(bench, arguments, name="broker", **more):
    child = bench.spawn(Child, name, arguments, wrap=False, FILA_WORKER_BROKER=None, **more)
    child.wait_line(child.out, r"127\.0\.0\.1:(\d+)", 20)
    return child


@row("kill -9 of the durable broker, 3 times, under load")
def kill_broker(bench, ledger, chance):
    arguments = durable(bench, ledger)
    broker = start_durable(bench, arguments)
    ledger.create()
    ledger.produce(800)
    worker = ledger.start(run="5ms")
    for i in range(3):
        pause(chance.uniform(0.3, 0.8))
        # What is confirmed while it dies is owed, the rest is not.
        producer = threading.Thread(target=ledger.produce, args=(3000,), kwargs={"status": None})
        producer.start()
        pause(chance.uniform(0.1, 0.4))
        broker.signalled = True
        broker.kill()
        producer.join()
        broker = start_durable(bench, arguments, "broker %d" % i)
    ledger.wait_done(120)
    ledger.stop(worker)
    return 0


@row("kill -9 of the durable broker and of the worker")
def kill_both(bench, ledger, chance):
    arguments = durable(bench, ledger)
    broker = start_durable(bench, arguments)
    ledger.create()
    ledger.produce(800)
    for letter, count in (("r", 20), ("f", 10), ("p", 20)):
        ledger.produce(count, letter)
    worker = ledger.start(run="5ms")
    ledger.wait_runs(100)
    broker.signalled = True
    broker.kill()
    kill(worker)
    start_durable(bench, arguments, "broker again")
    ledger.finish(90)
    return DEATH


@row("disk full under the durable broker")
def broker_disk_full(bench, ledger, chance):
    """Its file may not grow for a while: what it cannot store it must not confirm."""
    arguments = durable(bench, ledger)
    broker = start_durable(bench, arguments)
    ledger.create()
    ledger.produce(200)
    size = max(os.path.getsize(os.path.join(bench.folder, f)) for f in os.listdir(bench.folder)
               if f.startswith("broker.db"))
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size + 4096, resource.RLIM_INFINITY))
    confirmed = ledger.produce(2000, status=None)
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if not broker.running():
        broker.signalled = True
        start_durable(bench, arguments, "broker again")
    expect(confirmed < 2000, "the disk was never full")
    ledger.finish(90)
    return 0


# ---- The machine has no more of something ----

@row("no descriptor is free for 4 s", quick=True, real=True)
def descriptors(bench, ledger, chance):
    ledger.create()
    ledger.produce(300)
    body = 'read line; sleep 0.02; echo "$line $FILA_ATTEMPT $FILA_MESSAGE_ID" >> ledger.txt'
    worker = ledger.start(handler='plugin = "exec"; command = [ "%s" ];' % bench.script("run.sh", body),
                          more="breaker = { probe = \"500ms\"; max = \"1s\"; };")
    ledger.wait_runs(20)
    used = len(os.listdir("/proc/%d/fd" % worker.pid))
    _, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (max(3, used - 2), hard))
    pause(4)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (hard, hard))
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("disk full under the handler's file for 3 s", real=True)
def handler_disk_full(bench, ledger, chance):
    ledger.create()
    ledger.produce(400)
    worker = ledger.start(run="5ms", first="500ms")
    ledger.wait_runs(50)
    size = os.path.getsize(bench.path("ledger.txt"))
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    pause(3)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger.wait_done(90)
    ledger.stop(worker)
    return 0


@row("standard error is a full disk", real=True)
def log_disk_full(bench, ledger, chance):
    ledger.create()
    ledger.produce(400)
    bench.write("fila-worker.cfg", ledger.config(run="2ms"))
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([bench.worker_path, "run"], cwd=bench.folder, stderr=full, start_new_session=True,
                                   env=bench.environment(FILA_WORKER_LOG_LEVEL="debug", FILA_WORKER_BROKER=None))
    bench.cleanups.append(process.kill)
    ledger.wait_done(60)
    process.terminate()
    expect_equal("exit status", process.wait(Deadline(30).seconds), 0)
    return 0


@row("state_dir is a full disk", real=True)
def state_disk_full(bench, ledger, chance):
    ledger.create()
    ledger.produce(600)
    os.mkdir(bench.path("state"))
    with contextlib.suppress(PermissionError, FileNotFoundError):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", bench.path("state")],
                              capture_output=True)
        if done.returncode:
            raise Skipped("no file system of a few pages can be mounted here: " + done.stderr.decode().strip())
    bench.cleanups.append(lambda: subprocess.run(["umount", "-l", bench.path("state")], capture_output=True))
    worker = ledger.start(run="2ms", top='state_dir = "state";')
    ledger.wait_done(60)
    ledger.stop(worker)
    return 0


# ---- Clocks ----

@row("wall clock steps by an hour, forth and back")
def clock_step(bench, ledger, chance):
    """Of worker and broker, by a library in between: CLOCK_BOOTTIME, which leases go by, cannot step."""
    shim = os.path.join(bench.build, "tests", "e2e", "peers", "clockstep.so")
    if not os.path.exists(shim) or "sanitize" in os.environ.get("FILA_E2E_WRAPPER", ""):
        raise Skipped("no clockstep.so in this build")
    step = bench.write("step", "0\n")
    environment = {"LD_PRELOAD": shim, "CLOCKSTEP_FILE": step}
    broker = bench.spawn(Child, "broker", ["broker", "--listen", "127.0.0.1:0"], wrap=False,
                         FILA_WORKER_BROKER=None, **environment)
    port = broker.wait_line(broker.out, r"127\.0\.0\.1:(\d+)", 20).group(1)
    ledger.direct = bench.broker = "grpc://127.0.0.1:" + port
    ledger.create()
    ledger.produce(1200)
    worker = ledger.start(run="5ms", environment=environment)
    for seconds in (3600, -3600, 0):
        pause(0.5)
        with open(step, "w", encoding="ascii") as f:
            f.write("%d\n" % seconds)
    ledger.wait_done(60)
    ledger.stop(worker)
    return 0


# ---- Stops and reloads ----

@row("drain: handlers take 1 s", quick=True, real=True)
def drain_slow(bench, ledger, chance):
    ledger.create()
    ledger.produce(60)
    worker = ledger.start(run="1s")
    ledger.wait_runs(4)
    ledger.stop(worker)
    ledger.finish(90)
    return 0


@row("drain: commands that ignore SIGTERM", real=True)
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


@row("drain: threads that never return", real=True)
def drain_stuck(bench, ledger, chance):
    """What they hold is left to its lease."""
    ledger.vt = "12s"
    ledger.create()
    ledger.produce(40)
    worker = ledger.start(run="10min", top='drain_timeout = "3s";')
    bench.wait_until("4 to run", 20, lambda: ledger.bench.json(
        "queue", "stats", "work", FILA_WORKER_BROKER=ledger.direct)["in_flight"], lambda n: n >= 4)
    ledger.stop(worker, statuses=(76,))
    ledger.finish(60)
    return 0


@row("drain: handlers fail", quick=True, real=True)
def drain_failing(bench, ledger, chance):
    ledger.create()
    ledger.produce(40, "f")
    ledger.produce(40)
    worker = ledger.start(run="5ms", first="1s", top='drain_timeout = "6s";')
    worker.wait_event("MESSAGE-FAILED", 20)
    ledger.stop(worker)
    ledger.finish(60)
    return 0


def figures(worker):
    """(descriptors, threads, memory in KiB)"""
    with open("/proc/%d/status" % worker.pid, encoding="ascii") as f:
        status = dict(line.split(":", 1) for line in f if ":" in line)
    return (len(os.listdir("/proc/%d/fd" % worker.pid)), int(status["Threads"]),
            int(status["VmRSS"].split()[0]))


@row("300 reloads under load")
def reloads(bench, ledger, chance):
    return reload_often(bench, ledger, 300)


@row("30 reloads under load", quick=True)
def some_reloads(bench, ledger, chance):
    return reload_often(bench, ledger, 30)


def reload_often(bench, ledger, count):
    bench.start_broker()
    ledger.direct = bench.broker
    ledger.create()
    bench.create_queue("more")
    extra = 'queue = "more"; handler = { plugin = "log"; }; } );'

    def config(i):
        text = ledger.config(run="2ms", concurrency=CONCURRENCY + i // 2 % 2, more="rate = %d.0;" % (5000 + i))
        return text.replace("} );", "}, { " + extra) if i % 3 else text

    worker = ledger.start(config=config(0))
    steady = None
    for i in range(1, count + 1):
        if i % 10 == 1:
            ledger.produce(200)
        bench.write("fila-worker.cfg", config(i))
        mark = worker.mark()
        worker.signal(signal.SIGHUP)
        worker.wait_event("RELOAD-DONE", 20, since=mark)
        if i == count // 3:
            steady = figures(worker)
    bench.write("fila-worker.cfg", config(count // 3))
    mark = worker.mark()
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE", 20, since=mark)
    worker.signalled = False
    ledger.wait_done(60)
    grown = bench.wait_until("as many descriptors and threads as before (%r)" % (steady,), 20,
                             lambda: figures(worker), lambda f: f[0] <= steady[0] + 1 and f[1] <= steady[1] + 1)
    # A sanitizer keeps what was freed.
    expect(SLOW > 1 or grown[2] <= steady[2] * 1.25 + 4096, "memory grew from %d to %d KiB", steady[2], grown[2])
    ledger.stop(worker)
    expect_equal("refused reloads", worker.events("RELOAD-REFUSED"), [])
    return 0
