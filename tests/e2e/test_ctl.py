# SPDX-License-Identifier: AGPL-3.0-or-later
"""The control socket: orders to a running worker, who may give them, and clients that mean harm."""
import json
import os
import signal
import socket
import stat
import subprocess
import threading

from harness import SLOW, Child, Skipped, expect, expect_equal, expect_match
from registry import test
from test_delivery import keep_payload

CONFIG = """broker = "%(broker)s";
queues = ( { queue = "work"; handler = { plugin = "exec"; command = [ "%(command)s" ]; }; concurrency = 3; },
           { queue = "other"; handler = { plugin = "exec"; command = [ "/bin/true" ]; }; } );
ctl = { socket = "w.ctl"; };
"""


def start(bench, command="/bin/true", **more):
    bench.start_broker()
    for queue in ("work", "other"):
        bench.create_queue(queue)
    worker = bench.start_ready(CONFIG % {"broker": bench.broker, "command": command}, streams=2, **more)
    worker.wait_event("WORKER-READY")
    return worker


def ask(bench, line, shut=False):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20 * SLOW)
        s.connect(bench.path("w.ctl"))
        try:
            s.sendall(line)
            if shut:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        with s.makefile("rb") as answers:
            return answers.readline()


def queue_of(bench, name):
    status = bench.json("ctl", "status")["status"]
    return [q for q in status["queues"] if q["queue"] == name][0]


@test()
def ctl_status(bench):
    worker = start(bench)
    mode = os.stat(bench.path("w.ctl")).st_mode
    expect(stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600, "mode %o", mode)
    out, _ = bench.cli("ctl", "status")
    expect_match("status for people", r"^ready, version .*\n\nQUEUE .*\nwork +idle +0/3 +0 +0 +0 +0\nother +idle", out)
    expect_equal("status by --socket", bench.cli("ctl", "status", "--socket", bench.path("w.ctl"))[0].split(",")[0], "ready")
    worker.stop()
    expect(not os.path.exists(bench.path("w.ctl")), "the socket is left behind")
    _, err = bench.cli("ctl", "status", status=69)
    expect_match("without a worker", "no worker listens at w.ctl: No such file", err)


@test()
def ctl_pause_resume(bench):
    worker = start(bench, keep_payload(bench))
    bench.cli("ctl", "pause", "work")
    worker.wait_event("QUEUE-PAUSED", queue="work")
    bench.enqueue_lines("work", ["a", "b"])
    bench.enqueue_lines("other", ["c"])
    bench.wait_stats("other", depth=0, in_flight=0)
    expect_equal("done while paused", bench.listing("done"), [])
    expect_equal("state", queue_of(bench, "work")["state"], "paused")
    expect_equal("state of the other", queue_of(bench, "other")["state"], "idle")
    bench.cli("ctl", "resume", "work")
    bench.wait_files("done", 2)
    bench.cli("ctl", "pause")
    expect_equal("both", [queue_of(bench, q)["state"] for q in ("work", "other")], ["paused", "paused"])
    bench.cli("ctl", "resume")
    _, err = bench.cli("ctl", "pause", "nosuch", status=1)
    expect_match("an unknown queue", 'this worker has no queue "nosuch"', err)
    worker.stop()


@test()
def ctl_set(bench):
    """One at a time by order: never two of them at once; over the configured number: refused."""
    os.mkdir(bench.path("done"))
    command = bench.script("one.sh", 'mkdir one 2>/dev/null || touch two; sleep 0.05; rmdir one; touch done/$FILA_MESSAGE_ID')
    worker = start(bench, command)
    bench.cli("ctl", "set", "work", "--concurrency", "1")
    expect_equal("concurrency", queue_of(bench, "work")["concurrency"], 1)
    bench.enqueue_lines("work", ["m"] * 12)
    bench.wait_files("done", 12)
    expect(not os.path.exists(bench.path("two")), "two ran at once")
    _, err = bench.cli("ctl", "set", "work", "--concurrency", "4", status=1)
    expect_match("more than configured", "concurrency 4 is over the configured one", err)
    bench.cli("ctl", "set", "work", "--rate", "0.5")
    expect_equal("rate", queue_of(bench, "work")["rate"], 0.5)
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE")
    worker.signalled = False
    after = queue_of(bench, "work")
    expect_equal("after a reload", (after["concurrency"], after["rate"]), (3, 0.0))
    worker.stop()


@test()
def ctl_loglevel_reload_drain(bench):
    worker = start(bench, level="info")
    bench.cli("ctl", "loglevel", "debug")
    bench.enqueue_lines("work", ["m"])
    worker.wait_event("MESSAGE-DONE")
    bench.cli("ctl", "reload")
    expect_equal("reloads", len(worker.events("RELOAD-DONE")), 1)
    config = bench.read("fila-worker.cfg")
    bench.write("fila-worker.cfg", b"queues = 7;")
    _, err = bench.cli("ctl", "reload", "--socket", "w.ctl", status=1)
    expect_match("a config that is wrong", "the new config was refused", err)
    bench.write("fila-worker.cfg", config)
    bench.cli("ctl", "dump")
    worker.wait_event("DUMP", queue="work")
    mark = worker.mark()
    worker.signal(signal.SIGUSR1)
    worker.wait_event("DUMP", since=mark, queue="other")
    bench.cli("ctl", "drain")
    worker.wait(20, 0)
    expect_equal("why", worker.events("DRAIN-START")[0]["why"], "fila-worker ctl drain")
    worker.account()


@test()
def ctl_tap(bench):
    """What passes is shown, payloads only if asked for, and no more than asked for."""
    worker = start(bench, level="info")
    plain = bench.spawn(Child, "tap", ["ctl", "tap", "work", "--per-second", "1000"])
    worker.wait_event("CTL-ORDER", msg="tap")
    bench.wait_until("another tap to be refused", 20, lambda: ask(bench, b'{"do":"tap"}\n'), lambda a: b"another tap is on" in a)
    bench.cli("enqueue", "work", "-", "--header", "traceparent=00-abc", data="secret payload")
    bench.enqueue_lines("other", ["not tapped"])
    line = json.loads(plain.wait_line(plain.out, "^{.*}$", 15).group(0))
    expect_equal("what is shown", (line["queue"], line["outcome"], line["attempt"], line["bytes"]), ("work", "acked", 1, 14))
    expect("payload" not in line and "headers" not in line, "more than asked for: %r", line)
    plain.signal(signal.SIGINT)
    plain.wait(15)
    expect_equal("lines", len(plain.out.lines), 1)
    full = bench.spawn(Child, "second tap", ["ctl", "tap", "--payload", "--per-second", "2"])
    bench.wait_until("messages to be tapped", 30, lambda: (bench.enqueue_lines("work", ["text"] * 20), full.out.lines)[1],
                     lambda lines: len(lines) >= 5)
    lines = [json.loads(text) for text in full.out.lines]
    expect_equal("payload", lines[0]["payload"], "text")
    expect(any(entry["skipped_before"] > 0 for entry in lines), "nothing was left out at 2 a second: %r", lines)
    full.signal(signal.SIGINT)
    full.wait(15)
    worker.stop()


@test()
def ctl_strangers(bench):
    """Another user is refused although the mode is opened; garbage and slow clients harm nobody."""
    worker = start(bench)
    refused = b'"ok":false'
    for data in (b"\n", b"\0" * 100 + b"\n", b"[" * 4000 + b"\n", b'{"do":"drain"' + b" " * 5000 + b"}\n", os.urandom(300) + b"\n"):
        expect(refused in ask(bench, data, shut=True), "%r was not refused", data[:40])
    idle = [socket.socket(socket.AF_UNIX) for _ in range(12)]
    for s in idle:
        s.connect(bench.path("w.ctl"))
    bench.enqueue_lines("work", ["m"])
    bench.wait_stats("work", depth=0, in_flight=0)
    for s in idle:
        s.close()
    bench.wait_until("a good client to be heard", 20, lambda: ask(bench, b'{"do":"loglevel","level":"info"}\n'),
                     lambda a: a == b'{"ok":true}\n')
    second = bench.start_worker(None, name="second worker", FILA_WORKER_LOG_LEVEL="info")
    expect_match("one of its own", "another worker listens", second.wait_event("CTL-OFF")["error"])
    second.stop()
    expect(os.path.exists(bench.path("w.ctl")), "the second one took the first one's socket away")
    if os.geteuid() == 0:
        os.chmod(bench.path("w.ctl"), 0o666)
        os.chmod(bench.folder, 0o755)
        script = ('import os,socket,sys;os.setgid(65534);os.setuid(65534);s=socket.socket(socket.AF_UNIX);'
                  's.connect(sys.argv[1]);print(s.recv(1000).decode())')
        done = subprocess.run(["python3", "-c", script, bench.path("w.ctl")], capture_output=True, text=True, timeout=30)
        expect_match("another user", "user 65534 may not give orders", done.stdout + done.stderr)
    else:
        print("not root: another user was not tried")
    expect_equal("drains", worker.events("DRAIN-START"), [])
    worker.stop()
