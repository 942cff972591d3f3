# SPDX-License-Identifier: AGPL-3.0-or-later
"""The control socket: orders to a running worker, who may give them, and clients that mean harm."""
import json
import os
import shutil
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
    expect_match("an unknown queue", 'this worker has no queue "nosuch"$', err.strip())
    _, err = bench.cli("ctl", "pause", "wrok", status=1)
    expect_match("one that is nearly known", 'this worker has no queue "wrok"; "work" perhaps', err)
    worker.stop()


@test()
def ctl_set(bench):
    """One at a time by order: never two of them at once; and more than configured, on threads made for it."""
    os.mkdir(bench.path("done"))
    command = bench.script("one.sh", 'mkdir one 2>/dev/null || touch two; sleep 0.05; rmdir one; touch done/$FILA_MESSAGE_ID')
    worker = start(bench, command)
    bench.cli("ctl", "set", "work", "--concurrency", "1")
    expect_equal("concurrency", queue_of(bench, "work")["concurrency"], 1)
    bench.enqueue_lines("work", ["m"] * 12)
    bench.wait_files("done", 12)
    expect(not os.path.exists(bench.path("two")), "two ran at once")
    bench.write("wait.sh", "#!/bin/sh\nmkdir -p in; touch in/$FILA_MESSAGE_ID; while [ ! -e go ]; do sleep 0.05; done\n", 0o755)
    os.replace(bench.path("wait.sh"), command)
    bench.cli("ctl", "set", "work", "--concurrency", "9")
    bench.enqueue_lines("work", ["m"] * 9)
    bench.wait_files("in", 9)
    expect_equal("at once, of 3 configured", queue_of(bench, "work")["count"]["running"], 9)
    bench.write("go", "")
    bench.wait_stats("work", depth=0, in_flight=0)
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
    worker.wait_event("RELOAD-DONE")
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


HANGING = """broker = "%(broker)s";
queues = ( { queue = "work"; handler = { plugin = "%(plugin)s"; }; concurrency = 2; visibility_timeout = "600s"; },
           { queue = "apart"; handler = { plugin = "%(plugin)s"; }; isolation = "process"; concurrency = 2; } );
ctl = { socket = "w.ctl"; };
"""


@test()
def ctl_dump_of_a_handler_that_hangs(bench):
    """The dump says which thread hangs, over which message, since when and where; the others go on."""
    bench.start_broker()
    bench.create_queue("work", "600s")
    bench.create_queue("apart")
    worker = bench.start_ready(HANGING % {"broker": bench.broker, "plugin": bench.plugin("unstable_one")}, streams=2)
    worker.wait_event("WORKER-READY")
    bench.enqueue_lines("work", ["hang"])
    held = bench.wait_until("the handler to run", 20, lambda: queue_of(bench, "work")["held"],
                            lambda held: [h["state"] for h in held] == ["running"])
    for ask_for in (lambda: bench.cli("ctl", "dump"), lambda: worker.signal(signal.SIGUSR1)):
        mark = worker.mark()
        ask_for()
        worker.wait_event("DUMP", since=mark, msg="queue", queue="work")
        threads = [e for e in worker.log(mark) if e.get("event") == "DUMP" and e["msg"] == "thread"]
        hangs = [e for e in threads if e.get("doing") == "handle"]
        expect_equal("threads in a handler (%r)" % threads, [e.get("message_id") for e in hangs], [held[0]["id"]])
        expect_match("where it hangs", r"handle \(unstable_one\.so\+0x[0-9a-f]+\)", hangs[0]["stack"])
        expect_equal("of which queue", (hangs[0]["queue"], hangs[0]["thread"]), ("work", "fw:work"))
        expect(hangs[0]["running_ms"] >= 0, "since when? %r", hangs[0])
        names = {e["thread"] for e in threads}
        expect({"fila-io", "fila-ctl", "fila-log"} <= names, "threads without a name: %r", names)
        io = [e for e in threads if e["thread"] == "fila-io"][0]
        expect_match("the I/O thread's stack", r"\(fila-worker\+0x", io["stack"])
    bench.enqueue_lines("work", ["ok"] * 20)
    worker.wait_event("MESSAGE-DONE", count=20, seconds=20)
    _, err = bench.cli("ctl", "set", "apart", "--concurrency", "3", status=1)
    expect_match("more than it has children", "set concurrency = 3 in the config, and reload", err)
    worker.kill()


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
    # One who does not read holds up nobody.
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(bench.path("w.ctl"))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        mark = worker.mark()
        slow.sendall(b'{"do":"tap","per_second":1000,"payload":true}\n')
        worker.wait_event("CTL-ORDER", since=mark, msg="tap")
        bench.enqueue_lines("other", ["x" * 4000] * 400)  # over a megabyte of lines
        bench.wait_stats("other", depth=0, in_flight=0)
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
        os.chmod(bench.path("w.ctl"), 0o600)
        shutil.copy(bench.worker_path, bench.path("fila-worker"))
        done = subprocess.run([bench.path("fila-worker"), "ctl", "status", "--socket", bench.path("w.ctl")],
                              preexec_fn=lambda: (os.setgid(65534), os.setuid(65534)), cwd="/",
                              env=bench.environment(), capture_output=True, text=True, timeout=60)
        expect_equal("its status of `ctl`", done.returncode, 69)
        expect_match("what `ctl` tells it", "w.ctl is not for this user: orders come from .* root: Permission denied", done.stderr)
    else:
        print("not root: another user was not tried")
    expect_equal("drains", worker.events("DRAIN-START"), [])
    worker.stop()
