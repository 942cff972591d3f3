# SPDX-License-Identifier: AGPL-3.0-or-later
"""One drill for each kind of trouble in config/guide/troubles.md: it is made, seen in all four places that the guide names, mended
by the commands that the guide has, and seen to clear. What to look for and what to type is read from the guide itself.
"""
import operator
import os
import re
import shutil
import signal

import guide
from harness import SLOW, Skipped, expect, expect_equal, expect_match
from browser import Browser
from registry import test
from test_ops import PREFIX, Port, parse, total

PAGE = "config/guide/troubles.md"
CONFIG = """broker = "grpc://127.0.0.1:5555";
http = { listen = "127.0.0.1:0"; };
ctl = { socket = "worker.ctl"; };
queues = ( { queue = "orders"; %(queue)s } );
%(top)s
"""
OPERATORS = {"==": operator.eq, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
TERM = re.compile(r"^%s([a-z_]+)(?:\{(.*)\})? (==|>=|<=|>|<) ([0-9.]+)$" % PREFIX)


def words_of_the_page():
    """What the page calls the states of a queue."""
    script = guide.read("workers/http/page/page.js")
    both = re.findall(r"const (?:GOOD|WORDS) = \{(.*?)\};", script, re.S)
    return dict(re.findall(r'(\w+): "([^"]+)"', " ".join(both)))


def holds(metrics, term):
    match = TERM.match(term)
    expect(match, "no term that can be looked at: %r", term)
    name, labels, sign, value = match.groups()
    expect(PREFIX + name in metrics, "no such metric: %r", term)
    return OPERATORS[sign](total(metrics, name, **dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))), float(value))


class Drill(guide.Host):
    """What the guide says of a trouble, and the worker that has it."""

    def __init__(self, bench, name, browse=False):
        super().__init__(bench)
        self.steps = guide.section(PAGE, "drill", name)
        self.rows = {row[0].strip("`"): row[1:] for row in self.steps[0].rows[2:]}
        expect_equal("where to look", sorted(self.rows), ["/metrics", "/readyz", "log", "page"])
        self.words = words_of_the_page()
        self.browser = None
        if browse and SLOW == 1 and shutil.which("chromedriver") and shutil.which("chromium"):
            self.browser = Browser(bench.folder)
            bench.cleanups.append(self.browser.close)

    # ---- The worker ----

    def start(self, queue, top="", wait=True):
        self.bench.write("fila-worker.cfg", CONFIG % {"queue": queue, "top": top})
        self.start_worker(wait)

    def start_worker(self, wait=True):
        self.worker = self.bench.start_worker(None, level="info", name="worker %d" % len(self.bench.children),
                                              FILA_WORKER_HTTP_LISTEN=None)
        self.port = None
        if wait:
            self.worker.wait_event("WORKER-READY")
            self.port = Port(self.worker)

    # ---- What the guide says ----

    def see(self, over=False, seconds=60):
        """Everything that the table says, while it lasts or when it is over, in all four places."""
        column = 1 if over else 0
        since = self.mark if over else 0
        for event in guide.spans(self.rows["log"][column]):
            self.worker.wait_event(event, seconds, since=since)
        if not guide.spans(self.rows["/readyz"][column]):
            self.no_answer()
            return
        wanted = re.match(r"(\d+) `(.*)`$", self.rows["/readyz"][column])
        what = "over" if over else "seen"
        answer = self.wait("%s: /readyz %s" % (what, wanted.groups()), seconds, lambda: self.port.get("/readyz"),
                           lambda a: a[0] == int(wanted[1]) and wanted[2] in a[2])
        if wanted[1] == "503":  # the queue, the trouble, since when, why, and what to do
            expect_match("/readyz", r'^queue "orders": [a-z_]+ for \d+ (s|min|h)(: .+)? \([A-Z-]+: .+\.\)\n', answer[2])
        expect_equal("/livez: a restart would not help", self.port.get("/livez")[0], 200)
        terms = guide.spans(self.rows["/metrics"][column])
        expect(terms, "nothing to look for on /metrics")
        self.wait("%s: /metrics" % what, seconds, lambda: [t for t in terms if not holds(self.metrics(), t)], lambda a: not a)
        shown, = guide.quoted(self.rows["page"][column])
        self.wait("%s: the page" % what, seconds, self.page, lambda texts: shown in texts)
        if self.browser:
            self.see_in_browser(shown)

    def wait(self, what, seconds, ask, good):
        return self.bench.wait_until(what, seconds, ask, good)

    def metrics(self):
        return parse(self.port.text("/metrics"))

    def page(self):
        """The words that the page has for what /status says."""
        status = self.port.status()
        texts = ["%d reloads refused" % status["worker"]["reloads_refused"]]
        for queue in status["queues"]:
            texts += [self.words[queue["state"]]] if queue["state"] != "gone" else []
            for trouble in queue.get("troubles", []):
                texts.append(self.words[trouble["trouble"]])
                expect(trouble["for_ms"] >= 0 and trouble["remedy"], "no age or remedy: %r", trouble)
        return texts

    def see_in_browser(self, shown):
        here = "http://127.0.0.1:%d/" % self.port.number
        if self.browser.run("return location.href;") != here:
            self.browser.open(here)
        self.browser.wait("%r in the row of the queue" % shown,
                          'return document.querySelector("#queues tbody").innerText.includes("%s");' % shown, 30)

    def no_answer(self):
        self.worker.wait(15)
        _, err = self.bench.cli("healthcheck", "--set", "http.listen=127.0.0.1:1", status=1)
        expect_match("nobody there", "Connection refused", err)

    def follow(self, kind):
        """The blocks of that kind, and what they are to print."""
        count, said = 0, ""
        for step in self.steps[1:]:
            if step.kind in ("look", "remedy"):
                wanted = step.kind == kind
                said = self.type(step) if wanted else ""
                count += wanted
            elif step.kind == "output" and wanted:
                expect(step.argument in said, "%r: it does not say %r:\n%s", step, step.argument, said)
        expect(count, "the guide has no %s", kind)

    @property
    def mark(self):
        return self.marked[1] if self.marked[0] is self.worker else 0

    def run(self):
        """It is there: from seeing it to seeing it clear."""
        self.see()
        if any(step.kind == "look" for step in self.steps):
            self.follow("look")
        self.marked = (self.worker, self.worker.mark())
        self.follow("remedy")
        self.see(over=True)

    def end(self):
        self.worker.stop(30)


def handler(bench, body, name="handle-order"):
    return 'handler = { plugin = "exec"; command = [ "%s" ]; };' % bench.script(name, body)


def unstable(bench, build="one"):
    return os.path.join(bench.build, "tests/e2e/plugins/unstable_%s.so" % build)


def drill(bench, name, broker=True, **more):
    """The drill, with a broker that has the queue."""
    if broker:
        bench.start_broker()
        bench.create_queue("orders")
    return Drill(bench, name, **more)


@test(seconds=180)
def drill_broker_gone(bench):
    it = drill(bench, "broker gone", broker=False)
    it.start_broker()
    bench.create_queue("orders")
    it.start(handler(bench, "exit 0"))
    it.worker.wait_event("STREAM-OPEN")
    bench.enqueue_lines("orders", ["one"])
    bench.wait_stats("orders", depth=0)
    it.broker.signal(signal.SIGKILL)
    it.broker.wait(10)
    it.run()
    bench.enqueue_lines("orders", ["two"])
    bench.wait_stats("orders", depth=0)
    expect_equal("acked", it.worker.stop()["acked"], 2)


@test(seconds=180)
def drill_handler_failing(bench):
    it = drill(bench, "handler failing")
    bench.script("handle-order.fixed", "exit 0")
    it.start(handler(bench, 'echo "there is no price list" >&2; exit 1')
                + ' concurrency = 2; retry = { attempts = 3; first = "20ms"; max = "40ms"; };')
    bench.enqueue_lines("orders", ["order %d" % i for i in range(12)])
    it.run()
    for queue in ("orders", "orders.dlq"):
        bench.wait_stats(queue, depth=0, in_flight=0)
    it.end()


@test(seconds=180)
def drill_dependency_down(bench):
    it = drill(bench, "dependency down", browse=True)
    bench.write("down", "")
    it.units["postgresql"] = lambda: os.unlink(bench.path("down"))
    it.start(handler(bench, '[ ! -e down ] || { echo "no connection to the database" >&2; exit 69; }')
                + ' breaker = { failures = 3; probe = "200ms"; max = "400ms"; };')
    bench.enqueue_lines("orders", ["order %d" % i for i in range(5)])
    it.see()
    breaker = it.port.status()["queues"][0]["breaker"]
    expect(breaker["state"] in ("open", "trial"), "breaker: %r", breaker)
    expect_equal("why", breaker["why"], "exit status 69: no connection to the database")
    it.run()
    bench.wait_stats("orders", depth=0, in_flight=0)
    expect_equal("dead letters", bench.stats("orders.dlq")["depth"], 0)
    it.end()


@test(seconds=180)
def drill_stuck_handler(bench):
    it = drill(bench, "stuck handler")
    it.start('handler = { plugin = "%s"; }; isolation = "threads"; concurrency = 2; timeout = "200ms"; '
                'retry = { attempts = 1; };' % unstable(bench), 'drain_timeout = "3s";')
    bench.enqueue_lines("orders", ["hang"])
    it.run()
    bench.enqueue_lines("orders", ["hang", "ok"])
    it.worker.wait_event("CHILD-KILLED", 30)
    bench.wait_stats("orders", depth=0, in_flight=0)
    expect(holds(it.metrics(), "fila_worker_stuck_handlers == 0"), "a child is stuck")
    letters = bench.json_lines("dlq", "show", "orders", "--cause", "timeout")
    expect_equal("dead letters of the cause timeout", len(letters), 2)
    it.end()


@test(seconds=180)
def drill_lease_too_short(bench):
    it = drill(bench, "lease too short")
    bench.cli("queue", "delete", "orders")
    bench.create_queue("orders", "2s")
    bench.enqueue_lines("orders", ["order %d" % i for i in range(8)])
    it.start(handler(bench, "exec sleep 0.7") + ' concurrency = 1; visibility_timeout = "30s";')
    it.run()
    bench.wait_stats("orders", 60, depth=0)
    it.end()


@test(seconds=180)
def drill_plugin_refused(bench):
    with open(bench.worker_path, "rb") as program:
        if b"__tsan_init" in program.read():
            raise Skipped("`plugin verify` counts threads, and ThreadSanitizer has one of its own")
    it = drill(bench, "plugin refused")
    shutil.copy(unstable(bench), bench.path("orders.so.fixed"))
    bench.write("orders.so", bench.read("orders.so.fixed")[:3000])
    bench.enqueue_lines("orders", ["ok"])
    it.start('handler = { plugin = "./orders.so"; };', wait=False)
    it.worker.signalled = True
    it.worker.wait(15, 66)
    it.run()
    it.end()


@test(seconds=180)
def drill_reload_refused(bench):
    it = drill(bench, "reload refused")
    it.start(handler(bench, "exit 0"))
    text = bench.read("fila-worker.cfg").decode()
    before = it.port.status()["worker"]["config_hash"]
    bench.write("fila-worker.cfg", text.replace('handler =', 'concurency = 3; handler =', 1))
    it.systemctl("reload", "fila-worker")
    expect_match("why", "concurency", str(it.worker.wait_event("RELOAD-REFUSED")))
    expect_equal("the config in force", it.port.status()["worker"]["config_hash"], before)
    it.run()
    expect_equal("concurrency", it.port.status()["queues"][0]["concurrency"], 3)
    it.end()


@test(seconds=180)
def drill_queue_missing(bench):
    it = drill(bench, "queue missing")
    bench.cli("queue", "delete", "orders")
    it.start(handler(bench, "exit 0"))
    it.run()
    it.end()


@test(seconds=180)
def drill_dead_letters_refused(bench):
    it = drill(bench, "dead letters refused")
    it.start(handler(bench, "exit 65") + ' dead_letter_queue = "orders-failed"; retry = { first = "100ms"; max = "300ms"; };')
    bench.enqueue_lines("orders", ["order"])
    it.see()
    held, = it.port.status()["queues"][0]["held"]
    expect(held["lease_left_ms"] > 0 and held["tries"] == 1, "held: %r", held)
    it.run()
    bench.wait_stats("orders-failed", depth=1)
    it.end()


@test(seconds=180)
def drill_paused(bench):
    it = drill(bench, "paused")
    it.start(handler(bench, "exit 0"))
    bench.cli("ctl", "pause", "orders")
    bench.enqueue_lines("orders", ["order"])
    it.run()
    it.end()


@test()
def drills_are_all_run(bench):
    """Each section that says it is tried has a test here."""
    with open(__file__, encoding="utf-8") as f:
        here = f.read()
    names = [m.argument for m in guide.marks(PAGE) if m.kind == "drill"]
    expect(len(names) >= 10, "only %d drills", len(names))
    expect_equal("drills without a test", [n for n in names if 'drill(bench, "%s"' % n not in here], [])
