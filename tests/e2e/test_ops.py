# SPDX-License-Identifier: AGPL-3.0-or-later
"""The HTTP port: metrics that add up, health that names the culprit, and clients that mean harm."""
import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

from harness import OUTCOMES, SLOW, Deadline, Skipped, expect, expect_equal, expect_match
from registry import test

SAMPLE = re.compile(r'([a-z_:]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
PREFIX = "fila_worker_"
MIXED = """broker = "%(broker)s";
queues = (
  { queue = "good"; handler = { plugin = "%(verdicts)s"; }; concurrency = 4; visibility_timeout = "3s"; },
  { queue = "bad"; handler = { plugin = "%(verdicts)s"; }; concurrency = 2;
    retry = { attempts = 2; first = "20ms"; max = "50ms"; }; visibility_timeout = "3s"; } );
http = { listen = "127.0.0.1:0"; };
"""
ONE = """broker = "%(broker)s";
queues = ( { queue = "work"; handler = { plugin = "exec"; command = [ "%(command)s" ]; };
  retry = { attempts = 3; first = "100ms"; max = "200ms"; }; %(more)s } );
http = { listen = "%(listen)s"; };
%(top)s
"""


def config(bench, command, more="", listen="127.0.0.1:0", top="", broker=None):
    return ONE % {"broker": broker or bench.broker, "command": command, "more": more, "listen": listen, "top": top}


def served(bench, text, **more):
    """A ready worker whose config decides about the HTTP port."""
    return bench.start_ready(text, FILA_WORKER_HTTP_LISTEN=None, **more)


class Port:
    """The HTTP port of a worker."""

    def __init__(self, worker, seconds=15):
        if any("this build has no HTTP" in e["msg"] for e in worker.events("HTTP-OFF")):
            raise Skipped("built without libmicrohttpd")
        self.number = worker.wait_event("HTTP-READY", seconds)["port"]

    def get(self, path, method="GET", headers=None, body=None):
        """(status, headers, text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.number, timeout=20 * SLOW)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def text(self, path, status=200):
        got, _, text = self.get(path)
        expect_equal("status of %s (%s)" % (path, text[:300]), got, status)
        return text

    def status(self):
        return json.loads(self.text("/status"))

    def metrics(self):
        return parse(self.text("/metrics"))


def parse(text):
    """{name: {labels: value}}, labels as a frozenset of pairs; each series once, each family announced."""
    found, announced = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            announced.add(line.split()[2])
        if line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        expect(match, "no sample: %r", line)
        name, labels, value = match.groups()
        key = frozenset(LABEL.findall(labels or ""))
        expect(re.sub("_(bucket|sum|count)$", "", name) in announced or name in announced, "no TYPE for %r", line)
        series = found.setdefault(name, {})
        expect(key not in series, "twice: %r", line)
        series[key] = float(value)
    return found


def total(metrics, name, **labels):
    wanted = set(labels.items())
    return sum(v for k, v in metrics.get(PREFIX + name, {}).items() if wanted <= k)


def check_account(metrics, queue):
    received = total(metrics, "messages_received_total", queue=queue)
    finished = sum(total(metrics, "messages_finished_total", queue=queue, outcome=o) for o in OUTCOMES)
    held = total(metrics, "held", queue=queue)
    expect(received == finished + held, "queue %s: %g received, %g finished, %g held", queue, received, finished, held)
    return finished


def promtool(text):
    if not shutil.which("promtool"):
        print("not checked with promtool: Debian's prometheus package is not installed")
        return
    done = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, timeout=60)
    expect(done.returncode == 0 and not done.stderr.strip(), "promtool (%d): %s", done.returncode,
           done.stderr.decode())


# ---- Metrics ----

@test(seconds=90)
def metrics_add_up(bench):
    """Scraped without a pause while good and failing messages flow, and over a reload."""
    bench.start_broker()
    for queue in ("good", "bad"):
        bench.create_queue(queue, "3s")
    text = MIXED % {"broker": bench.broker, "verdicts": os.path.join(bench.build, "tests/e2e/plugins/verdicts.so")}
    text = text.replace('verdicts.so"; }', 'verdicts.so"; greeting = "hello"; }')
    worker = served(bench, text, streams=2, level="info")
    port = Port(worker)
    flow = threading.Thread(target=lambda: (
        bench.enqueue_lines("good", ["ack"] * 1500), bench.enqueue_lines("bad", ["retry", "reject", "ack"] * 60)))
    flow.start()
    limit, scrapes, last, reloaded = Deadline(60), 0, {}, False
    while True:
        metrics = port.metrics()
        scrapes += 1
        done = {queue: check_account(metrics, queue) for queue in ("good", "bad")}
        for name, series in metrics.items():
            for labels, value in series.items() if re.search("_(total|bucket|count)$", name) else ():
                before = last.get((name, labels), 0)
                expect(value >= before, "%s %r went down from %g to %g", name, sorted(labels), before, value)
                last[name, labels] = value
        if done["good"] > 500 and not reloaded:  # the handler of "good" is another then: a new one beside the old
            reloaded = True
            bench.write("fila-worker.cfg", text.replace('"hello"', '"good day"', 1))
            worker.signal(signal.SIGHUP)
            worker.signalled = False
            worker.wait_event("RELOAD-DONE")
        if done["good"] >= 1500 and total(metrics, "messages_finished_total", queue="bad", outcome="acked") == 60 \
                and total(metrics, "messages_finished_total", queue="bad", outcome="dead_lettered") == 120:
            break
        expect(not limit.over(), "not done after %g s: %r", limit.seconds, done)
    flow.join()
    expect(reloaded and scrapes >= 5, "%d scrapes, reloaded %r: nothing was watched", scrapes, reloaded)
    expect_equal("tries of those that fail", total(metrics, "handler_failures_total", queue="bad", cause="retry"), 120)
    expect_equal("rejects", total(metrics, "handler_failures_total", queue="bad", cause="reject"), 60)
    for name, least in (("handler_duration_seconds", 1500), ("queue_wait_seconds", 1500),
                        ("message_age_seconds", 1500), ("lease_remaining_at_start_seconds", 1500),
                        ("settle_duration_seconds", 1500)):
        count = total(metrics, name + "_count", queue="good")
        expect(count >= least, "%s counted %g of the good messages", name, count)
        infinite = total(metrics, name + "_bucket", queue="good", le="+Inf")
        expect_equal("the last bucket of " + name, infinite, count)
    left = total(metrics, "lease_remaining_at_start_seconds_sum", queue="good")
    expect(0 < left <= 3.0 * 1600, "leases left at start add up to %g s", left)
    age = total(metrics, "message_age_seconds_sum", queue="good") / 1500
    expect(0 <= age < 60 * SLOW, "messages were %g s old on average", age)
    expect_equal("reloads", total(metrics, "reloads_total", result="done"), 1)
    expect_equal("streams", total(metrics, "stream_up"), 2)
    promtool(port.text("/metrics"))
    status = port.status()
    expect_equal("queues in /status", sorted(q["queue"] for q in status["queues"] if q["state"] != "gone"),
                 ["bad", "good"])
    bad = [q for q in status["queues"] if q["queue"] == "bad"][0]
    expect_equal("recent failures", {r["event"] for r in bad["recent"]} <= {"MESSAGE-DEAD", "MESSAGE-FAILED"}, True)
    expect("hello: " in bad["recent"][0]["error"], "no reason: %r", bad["recent"][0])
    worker.stop()


# ---- Health ----

@test()
def health_of_a_good_worker(bench):
    bench.start_broker()
    bench.create_queue("work")
    worker = served(bench, config(bench, "/bin/true"))
    port = Port(worker)
    for path in ("/livez", "/readyz", "/startupz"):
        expect_equal(path, port.text(path), "ok\n")
    expect_match("/version", r'^\{"version":"[0-9.]+","plugin_abi":"1\.\d+"\}$', port.text("/version").strip())
    status = port.status()
    expect_equal("ready", status["ready"], True)
    expect_match("hash of the config", "^[0-9a-f]{16}$", status["worker"]["config_hash"])
    expect(status["worker"]["start_ms"] < 500 * SLOW, "start took %d ms", status["worker"]["start_ms"])
    code, headers, text = port.get("/")
    expect_equal("the page", (code, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
    expect("'unsafe" not in headers["Content-Security-Policy"], "a policy that lets anything run: %r", headers)
    names = set(re.findall(r"https?://[a-z][^\s\"']*", text)) - {"http://www.w3.org/2000/svg"}  # a name, not an address
    expect_equal("what it may load", sorted(names), [])
    for method, path, wanted in (("POST", "/status", 405), ("GET", "/nothing", 404), ("DELETE", "/", 405),
                                 ("HEAD", "/metrics", 200), ("HEAD", "/nothing", 404), ("GET", "/livez/", 404),
                                 ("GET", "/livez?verbose=1&x=%00", 200), ("GET", "//livez", 404), ("GET", "/LIVEZ", 404)):
        expect_equal("%s %s" % (method, path), port.get(path, method)[0], wanted)
    expect_equal("a name that a web site made up", port.get("/status", headers={"Host": "evil.example"})[0], 421)
    expect_equal("localhost", port.get("/status", headers={"Host": "localhost:1"})[0], 200)
    worker.stop()


@test()
def nothing_secret_is_shown(bench):
    """Keys, what the environment holds, payloads and header values are on no page, in no answer and in no line."""
    bench.start_broker()
    bench.create_queue("work")
    words = {name: "hush-%s-%s" % (name, os.urandom(4).hex()) for name in ("key", "environment", "payload", "header")}
    command = bench.script("keep.sh", "cat > seen; echo tried >&2; exit 1")
    top = 'api_key = "%s"; ctl = { socket = "w.ctl"; };' % words["key"]
    worker = served(bench, config(bench, command, top=top), HUSH=words["environment"])
    port = Port(worker)
    bench.cli("enqueue", "work", "-", "--header", "x-hush=" + words["header"], data=words["payload"])
    worker.wait_event("MESSAGE-DEAD")
    expect_equal("what the handler saw", bench.read("seen").decode(), words["payload"])
    bench.cli("ctl", "dump")
    worker.wait_event("DUMP", msg="queue")
    told = [port.text(path) for path in ("/", "/status", "/metrics", "/version", "/livez", "/readyz")]
    told += [bench.cli("ctl", "status", "--json")[0], bench.cli("explain")[0], worker.err.text()]
    for name, word in words.items():
        expect(not any(word in text for text in told), "the %s is shown", name)
    worker.stop()


@test()
def readyz_draining(bench):
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["m"])
    worker = served(bench, config(bench, bench.script("slow.sh", "touch started; exec sleep 2")))
    port = Port(worker)
    bench.wait_files(".", 3)
    bench.wait_until("the handler to run", 10, lambda: port.status()["queues"][0]["held"],
                     lambda held: [h["state"] for h in held] == ["running"])
    worker.signal(signal.SIGTERM)
    worker.wait_event("DRAIN-START")
    code, _, text = port.get("/readyz")
    expect_equal("/readyz while draining", (code, text.splitlines()[0]), (503, "draining: the worker is stopping"))
    expect_equal("/livez while draining", port.get("/livez")[0], 200)
    expect_equal("draining", total(port.metrics(), "draining"), 1)
    worker.wait(20, 0)
    worker.account()


@test()
def port_in_use(bench):
    """The worker works without it, says so, and takes it when it is free."""
    bench.start_broker()
    bench.create_queue("work")
    other = socket.create_server(("127.0.0.1", 0))
    number = other.getsockname()[1]
    worker = served(bench, config(bench, "/bin/true", listen="127.0.0.1:%d" % number))
    off = worker.wait_event("HTTP-OFF")
    expect_match("why", "the port is in use", off["error"])
    bench.enqueue_lines("work", ["m"])
    bench.wait_stats("work", depth=0, in_flight=0)
    other.close()
    expect_equal("its port", Port(worker, 30).number, number)
    worker.stop()


@test()
def listen_nonsense(bench):
    worker = bench.start_worker(config(bench, "/bin/true", listen="192.0.2.1:80", broker="embedded:"),
                                FILA_WORKER_HTTP_LISTEN=None)
    worker.wait(15, 78)
    said = worker.wait_event("CONFIG-INVALID", key="http.listen")
    expect_match("what is wrong", 'cannot listen on "192.0.2.1:80": Cannot assign', said["msg"])


# ---- Clients that mean harm ----

def memory(pid):
    return int(re.search(r"^VmRSS:\s+(\d+)", open("/proc/%d/status" % pid).read(), re.M).group(1)) * 1024


def flood(port, connections):
    """That many connections at the same time, or as many as there are descriptors for: some say nothing, some
    half a request."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if most == resource.RLIM_INFINITY else min(most, wanted), most))
    held = []
    try:
        for i in range(connections):
            s = socket.socket()
            held.append(s)
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port.number))
            if i % 2:
                with contextlib.suppress(OSError):
                    s.send(b"GET /status HTTP/1.1\r\nHo")
    except OSError as why:
        print("not more than %d connections: %s" % (len(held), why))
    return held


def slow_readers(port, count):
    """Ask for the largest pages and read nothing."""
    held = []
    for i in range(count):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(5)
        try:
            s.connect(("127.0.0.1", port.number))
            s.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        except OSError:
            pass
        held.append(s)
    return held


def send(port, data):
    """Whatever comes back, until the other side closes or 2 s are over."""
    got = b""
    with socket.create_connection(("127.0.0.1", port.number), timeout=2) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while len(got) < 65536:
                more = s.recv(65536)
                if not more:
                    break
                got += more
        except OSError:
            pass
    return got


@test(seconds=120)
def hostile_clients(bench):
    """Messages go on as if there were none of them, probes are answered, memory stays."""
    bench.start_broker()
    bench.create_queue("work")
    worker = served(bench, config(bench, "/bin/true", 'concurrency = 2;'), level="info")
    port = Port(worker)
    bench.enqueue_lines("work", ["m%d" % i for i in range(50)])
    bench.wait_stats("work", depth=0, in_flight=0)
    for path in ("/status", "/metrics", "/"):
        port.text(path)
    before = memory(worker.pid)

    garbage = [b"\x16\x03\x01" + os.urandom(300), b"GET " + b"/" * 200000, b"\r\n" * 10000, b"GET / HTTP/9.9\r\n\r\n",
               b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 5000000 + b"\r\n\r\n", b"\0" * 4096,
               b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: v\r\n" % i for i in range(20000)) + b"\r\n",
               b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n" + b"z" * 100000,
               b"GET /%00%0a%ff..//../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    for data in garbage:
        got = send(port, data)
        expect(not got or re.match(rb"HTTP/1\.[01] (4|5)", got), "%r was answered with %r", data[:40], got[:80])

    readers = slow_readers(port, 200)
    held = flood(port, 10000 if SLOW == 1 else 2000)
    started = time.monotonic()
    bench.enqueue_lines("work", ["m%d" % i for i in range(50)])
    answers = [port.text("/livez") for _ in range(5)]
    bench.wait_stats("work", depth=0, in_flight=0)
    expect_equal("probes among them", answers, ["ok\n"] * 5)
    metrics = port.metrics()
    expect_equal("finished", check_account(metrics, "work"), 100)
    slowest = [float(dict(k)["le"]) for k, v in metrics[PREFIX + "queue_wait_seconds_bucket"].items()
               if v == 100 and dict(k)["le"] != "+Inf"]
    expect(slowest and min(slowest) <= 5 * SLOW, "a message waited for longer than %r s", slowest and min(slowest))
    grown = memory(worker.pid) - before
    limit = 10 << 20 if SLOW == 1 else 100 << 20  # a sanitizer keeps what was freed
    expect(grown < limit, "memory grew by %d KiB under %d connections", grown >> 10, len(held))
    print("%d connections: %d KiB more, all done after %.1f s" % (len(held), grown >> 10, time.monotonic() - started))
    for s in readers + held:
        s.close()
    expect_equal("/livez afterwards", port.text("/livez"), "ok\n")
    worker.stop()


@test()
def trace_of_a_message(bench):
    """traceparent reaches the handler, and its trace id stands in every line about the message."""
    bench.start_broker()
    bench.create_queue("work")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    command = bench.script("trace.sh", 'echo "$FILA_HEADER_TRACEPARENT" > seen; exit 65')
    worker = served(bench, config(bench, command))
    bench.cli("enqueue", "work", "-", "--header", "traceparent=00-%s-00f067aa0ba902b7-01" % trace, data="m")
    dead = worker.wait_event("MESSAGE-DEAD")
    expect_equal("trace id in the log", dead.get("trace_id"), trace)
    expect_equal("what the handler saw", bench.read("seen"), b"00-%s-00f067aa0ba902b7-01\n" % trace.encode())
    for broken in ("00-%s-00f067aa0ba902b7-01" % ("0" * 32), "00-%s-01" % trace, "nonsense"):
        bench.cli("enqueue", "work", "-", "--header", "traceparent=" + broken, data="m")
    bench.wait_stats("work", depth=0, in_flight=0)
    worker.wait_event("MESSAGE-DEAD", count=4)
    expect_equal("lines with a trace id", len([e for e in worker.events("MESSAGE-DEAD") if "trace_id" in e]), 1)
    worker.stop()


STUCK = """broker = "%(broker)s";
queues = ( { queue = "work"; handler = { plugin = "%(plugin)s"; }; concurrency = 4; timeout = "200ms"; stuck_limit = 1;
  retry = { attempts = 0; first = "30s"; max = "30s"; }; visibility_timeout = "60s"; } );
http = { listen = "127.0.0.1:0"; };
drain_timeout = "3s";
"""


@test(seconds=120)
def livez_stuck_handlers(bench):
    """Handlers that never return: told at once; when they are too many, a restart is asked for. No message is tried
    again meanwhile, or a third would hang."""
    bench.start_broker()
    bench.create_queue("work", "60s")
    worker = served(bench, STUCK % {"broker": bench.broker,
                                    "plugin": os.path.join(bench.build, "tests/e2e/plugins/unstable_one.so")})
    port = Port(worker)
    bench.enqueue_lines("work", ["hang"])
    metrics = bench.wait_until("a stuck handler on /metrics", 30, port.metrics,
                               lambda m: total(m, "stuck_handlers", queue="work") >= 1)
    expect_equal("trouble", total(metrics, "trouble", queue="work", trouble="handler_stuck"), 1)
    expect_equal("ready and alive with one", (port.get("/readyz")[0], port.get("/livez")[0]), (200, 200))
    bench.enqueue_lines("work", ["hang"])
    code, _, text = bench.wait_until("/livez to ask for a restart", 60, lambda: port.get("/livez"), lambda a: a[0] == 503)
    expect_match("/livez", r'queue "work": handler_stuck for \d+ s: 2 did not return; stuck_limit is 1 \(HANDLER-STUCK: ', text)
    worker.signal(signal.SIGTERM)
    expect(worker.wait(30) in (75, 76), "handlers that are stuck, and a clean stop")
