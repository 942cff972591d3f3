# SPDX-License-Identifier: AGPL-3.0-or-later
"""As a container's entrypoint: the first process of a PID namespace."""
import http.server
import os
import shutil
import signal
import subprocess
import threading

from harness import SLOW, Skipped, Worker, expect_equal, expect_match
from registry import test
from test_delivery import exec_config


def namespace():
    """The words that start a command as PID 1."""
    words = ["unshare", "--pid", "--fork", "--mount-proc"] if os.geteuid() == 0 else \
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
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


class Answers(http.server.BaseHTTPRequestHandler):
    """/readyz says no, /livez yes; /startupz keeps silent."""

    def do_GET(self):
        if self.path == "/startupz":
            self.server.held.wait(30 * SLOW)
            return
        status, body = (200, b"alive\n") if self.path == "/livez" else (503, b"queue work: no stream\n")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *ignored):
        pass


@test()
def healthcheck_asks_the_worker(bench):
    bench.write("fila-worker.cfg", 'queues = ( { queue = "q"; handler = { plugin = "log"; }; } );\n')
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.held = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = "http.listen=127.0.0.1:%d" % server.server_address[1]
    everywhere = "http.listen=:%d" % server.server_address[1]
    try:
        expect_equal("alive", bench.cli("healthcheck", "--live", "--set", here), ("alive\n", ""))
        expect_equal("alive", bench.cli("healthcheck", "--live", "--set", everywhere), ("alive\n", ""))
        expect_equal("not ready", bench.cli("healthcheck", "--set", here, status=1), ("", "queue work: no stream\n"))
        _, err = bench.cli("healthcheck", "--startup", "--set", here, status=1)
        expect_match("silent", r": Connection timed out\n$", err)
    finally:
        server.held.set()
        server.shutdown()
        server.server_close()
    _, err = bench.cli("healthcheck", "--set", here, status=1)
    expect_match("nobody there", r"^fila-worker healthcheck: 127\.0\.0\.1:\d+: Connection refused\n$", err)
    _, err = bench.cli("healthcheck", "--set", "http.listen=", status=1)
    expect_match("off", r"http\.listen is empty, so there is nothing to ask", err)
    bench.cli("healthcheck", "--config", "missing.cfg", status=78)
    bench.cli("healthcheck", "now", status=64)
