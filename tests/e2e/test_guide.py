# SPDX-License-Identifier: AGPL-3.0-or-later
"""The operator's guide (config/guide) followed word by word: its files are written, its commands typed, and what they print compared;
and whatever it names (metrics, events, keys, verbs, options, links) is there.
"""
import glob
import os
import re
import shutil
import signal
import subprocess

import guide
from harness import SLOW, Deadline, Failed, Skipped, Worker, expect, expect_equal, expect_match
from registry import test
from test_ops import PREFIX, Port

PAGES = ["README.md", "config/README.md", "plugins/README.md",
         *sorted("config/guide/" + os.path.basename(p) for p in glob.glob(os.path.join(guide.ROOT, "config/guide/*.md")))]


class Follower(guide.Host):
    """Does what a page says, from its first mark to its last."""

    def start_worker(self):
        self.worker = self.bench.spawn(Worker, "worker", ["run"], FILA_WORKER_LOG_LEVEL="info",
                                       FILA_WORKER_HTTP_LISTEN="127.0.0.1:0")
        self.worker.wait_event("STREAM-OPEN")
        self.port = Port(self.worker)

    def wait(self, step, wanted):
        """Typed again until it says so."""
        limit = Deadline(20)
        while True:
            try:
                said = self.type(step)
            except Failed as why:
                said = str(why)
            if all(text in said for text in wanted):
                return
            expect(not limit.over(), "%r does not say %r:\n%s", step, wanted, said)

    def follow(self, page):
        steps = [m for m in guide.marks(page) if m.kind in ("file", "run", "wait", "output")]
        typed = 0
        for at, step in enumerate(steps):
            outputs = []
            for later in steps[at + 1:]:
                if later.kind != "output":
                    break
                outputs.append(later.argument)
            if step.kind == "file":
                self.bench.write(step.argument, self.here(step.block))
            elif step.kind == "wait":
                self.wait(step, outputs)
            elif step.kind == "run":
                said = self.type(step)
                for text in outputs:
                    expect(self.here(text) in said, "%r: it does not say %r:\n%s", step, text, said)
            typed += step.kind in ("run", "wait")
        expect(typed >= 2, "%s: only %d blocks of commands", page, typed)


def letters(bench, causes):
    for cause, reason in causes:
        bench.cli("enqueue", "orders.dlq", "--header", "x-fila-dead-letter-cause=" + cause,
                  "--header", "x-fila-dead-letter-reason=" + reason, data="an order")


@test(seconds=180)
def guide_deploy(bench):
    it = Follower(bench)
    it.start_broker()
    it.follow("config/guide/deploy.md")
    it.worker.wait(30, 0)
    expect_equal("acked", it.worker.account()["acked"], 2)


@test(seconds=180)
def guide_size(bench):
    bench.start_broker()
    Follower(bench).follow("config/guide/size.md")


@test(seconds=180)
def guide_dead_letters(bench):
    bench.start_broker()
    bench.create_queue("orders")
    letters(bench, [("retry", "no price for this"), ("timeout", "no verdict by its deadline"), ("retry", "no price for this")])
    Follower(bench).follow("config/guide/dead-letters.md")


@test(seconds=180)
def guide_watch(bench):
    it = Follower(bench)
    it.start_broker()
    bench.create_queue("orders")
    bench.script("handle-order", "exit 0")
    bench.write("fila-worker.cfg", 'ctl = { socket = "w.ctl"; };\nqueues = ( { queue = "orders"; handler = { plugin = "exec"; '
                'command = [ "./handle-order" ]; }; } );\n')
    it.start_worker()
    bench.enqueue_lines("orders", ["an order"])
    it.follow("config/guide/watch.md")
    metrics = it.port.text("/metrics")
    rare = {PREFIX + name for name in ("children", "child_exits_total", "handler_counter_total", "settle_errors_total")}
    names = set(re.findall(r"^# TYPE ([a-z_]+) ", metrics, re.M)) | rare
    used = set(re.findall(r"\b(?:fila_worker|process)_[a-z_]+", "".join(re.findall("expr:(.*?)(?:labels|for):", guide.read(ALERTS), re.S))))
    expect_equal("metrics of the alerts that are not there", used - names, set())
    names = {name[len(PREFIX):] if name.startswith(PREFIX) else name for name in names}
    text = guide.read("config/guide/watch.md")
    table = text[text.index("## The metrics"):text.index("## Alerts")]
    told = set()
    for row in re.findall(r"^\| (`.*?) \|", table, re.M):
        told |= {re.sub(r"\{.*", "", span) for span in guide.spans(row)}
    expect_equal("metrics that the guide does not tell of, or that are not there", told ^ names, set())
    it.stop_worker()


@test(seconds=180)
def guide_readme(bench):
    """As a newcomer does: installed into a prefix, the first config, the first plugin."""
    if SLOW > 1:
        raise Skipped("what is installed is tried in the plain build")
    it = Follower(bench)
    subprocess.run(["cmake", "--install", bench.build, "--prefix", bench.path("prefix")], check=True, capture_output=True, timeout=120)
    pkgconfig, = glob.glob(bench.path("prefix/lib*/**/pkgconfig"), recursive=True)
    os.remove(bench.path("bin/fila-worker"))
    os.symlink(bench.path("prefix/bin/fila-worker"), bench.path("bin/fila-worker"))
    bench.worker_path = bench.path("prefix/bin/fila-worker")
    bench.broker = "grpc://unix:" + bench.path("b.sock")
    it.environment = {"PKG_CONFIG_PATH": pkgconfig}
    it.instead = {"grpc://localhost:5555": bench.broker, "--listen 127.0.0.1:5555": "--listen unix:" + bench.path("b.sock")}
    it.follow("README.md")
    bench.wait_until("a thumbnail", 20, lambda: glob.glob(bench.path("thumbnail.*")), lambda found: found)


# ---- What is named is there ----

def events():
    """{id: level} of workers/log/events.h, and the ids whose remedy is not "None"."""
    flat = re.sub(r"\s*\\\n\s*", " ", guide.read("workers/log/events.h"))
    return dict(re.findall(r'X\(\s*\w+, "([A-Z-]+)", (\w+),', flat))


@test()
def guide_events_by_action(bench):
    """Each event at warn or error stands in the table, once."""
    text = guide.read("config/guide/watch.md")
    table = text[text.index("| Do this |"):]
    named = re.findall(r"`([A-Z][A-Z-]+)`", table[:table.index("\n\n")])
    wanted = [name for name, level in events().items() if level in ("WARN", "ERROR")]
    expect(len(wanted) > 40, "only %d events found", len(wanted))
    expect_equal("missing, unknown or twice", sorted(set(named) ^ set(wanted)) + [n for n in set(named) if named.count(n) > 1], [])


@test()
def events_are_used(bench):
    """None is listed that no code logs. (None is logged that is not listed: that does not compile.)"""
    listed = re.findall(r'X\(\s*(\w+), "', re.sub(r"\s*\\\n\s*", " ", guide.read("workers/log/events.h")))
    code = ""
    for path in glob.glob(os.path.join(guide.ROOT, "workers", "**", "*.c"), recursive=True):
        with open(path, encoding="utf-8") as f:
            code += f.read()
    expect(len(listed) > 70, "only %d events found", len(listed))
    used = set(re.findall(r"\bFW_EVENT_(\w+)", code))
    expect_equal("listed, but logged by nothing", [n for n in listed if n not in used], [])


@test()
def events_that_are_rare(bench):
    """Those that no other test waits for by name: they come when the list says so, at its level."""
    broker = bench.start_broker()
    script = bench.write("broken.lua", 'function on_enqueue(msg) error("no such tenant") end\n')
    bench.cli("queue", "create", "scripted", "--on-enqueue", script)
    bench.enqueue_lines("scripted", ["m"] * 4)
    for name in ("SCRIPT-FAILED", "SCRIPT-BYPASSED"):
        broker.wait_line(broker.err, '"event":"%s"' % name, 15)
    bench.create_queue("drop")
    worker = bench.start_ready(
        'ctl = { socket = "w.ctl"; };\n'
        'queues = ( { queue = "drop"; handler = { plugin = "exec"; command = [ "%s" "" ]; }; dead_letter = "drop"; concurrency = 1; } );\n'
        % bench.script("reject.sh", "[ -e slow ] && exec sleep 20; exit 65"))
    bench.enqueue_lines("drop", ["m"])
    worker.wait_event("CONFIG-WARNING")  # two texts side by side: one text, or a comma forgotten
    dropped = worker.wait_event("MESSAGE-DROPPED")
    expect_equal("level and outcome", (dropped["level"], dropped["outcome"]), ("warn", "dropped"))
    bench.cli("ctl", "status")
    worker.wait_event("CTL-LOOK")
    bench.cli("ctl", "pause", "drop")
    bench.cli("ctl", "resume", "drop")
    worker.wait_event("QUEUE-RESUMED")
    bench.write("slow", "")
    bench.enqueue_lines("drop", ["m"] * 3)
    bench.wait_stats("drop", in_flight=3)
    worker.signal(signal.SIGTERM)
    returned = worker.wait_event("MESSAGE-RETURNED")
    expect_equal("outcome", returned["outcome"], "returned")
    worker.signal(signal.SIGTERM)
    worker.wait_event("DRAIN-HURRY")
    worker.wait(30)


@test()
def guide_names_what_is_there(bench):
    """Events, metrics, config keys, verbs, options, files and links in every page for operators."""
    known = set(events())
    reference = guide.read("config/REFERENCE.md")
    helps = {}
    wrong = []
    for page in PAGES:
        text = guide.read(page)
        code = re.findall(r"`([^`\n]+)`", text) + [line.strip() for block in re.findall(r"```sh\n(.*?)```", text, re.S)
                                                   for line in block.splitlines()]
        code += re.findall(r"^    (fila-worker .*)$", text, re.M)
        for span in code:
            if re.fullmatch(r"[A-Z]+-[A-Z-]+", span) and span not in known:
                wrong.append("%s: no event %s" % (page, span))
            for command in re.findall(r"(?:^|[|;&] *)fila-worker +(.*)", span):
                wrong += ["%s: %s" % (page, w) for w in bad_command(bench, helps, command)]
        for key in re.findall(r"`((?:retry|breaker|http|ctl|log|tls|scripts)\.[a-z_]+)`", text):
            if "`%s`" % key not in reference:
                wrong.append("%s: no key %s" % (page, key))
        wrong += ["%s: link to %s" % (page, link) for link in bad_links(page, text)]
    expect_equal("what the pages name that is not there", wrong, [])
    expect(len(helps) > 10, "only %d verbs found: %r", len(helps), sorted(helps))


def bad_command(bench, helps, command):
    """What of a command line no verb's help has."""
    words = re.split(r"[|;>&#]|  ", command)[0].split()
    words = [w for w in words if w not in ("VERB", "...")]
    if not words or words[0].startswith(("-", "$", "[")) or not re.fullmatch(r"[a-z]+", words[0]) or words[0] == "version":
        return []
    verb = words[0]
    if verb == "new" or verb == "plugin":
        verb = " ".join(words[:2])
    if verb not in helps:
        out, err = bench.cli(*verb.split(), "--help", status=None)
        helps[verb] = out + err if bench.status == 0 else None
    if helps[verb] is None:
        return ["no verb: fila-worker " + command]
    return ["no option %s: fila-worker %s" % (w, command) for w in words[1:]
            if w.startswith("--") and w != "--help" and w.split("=")[0] not in helps[verb]]


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", re.sub(r"`", "", t)).strip().lower().replace(" ", "-") for t in titles}


def bad_links(page, text):
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = os.path.normpath(os.path.join(guide.ROOT, os.path.dirname(page), path)) if path else os.path.join(guide.ROOT, page)
        if not os.path.exists(target):
            yield link
        elif anchor and target.endswith(".md"):
            with open(target, encoding="utf-8") as f:
                if anchor not in anchors(f.read()):
                    yield link


# ---- Alerts ----

ALERTS = "config/prometheus/alerts.yaml"
RULE_TEST = """rule_files: [ "%s" ]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
%s    promql_expr_test:
"""


def series(name, value, who="well", **labels):
    """Of a worker and a queue of that name."""
    every = dict(instance=who, queue=who, **labels)
    return '      - series: \'%s{%s}\'\n        values: "%s"\n' % (name, ", ".join('%s="%s"' % p for p in every.items()), value)


@test()
def guide_alerts(bench):
    """Each rule fires on what it is for, and none on a worker that is well; each stands in the guide's table."""
    if not shutil.which("promtool"):
        raise Skipped("no promtool (Debian's prometheus package)")
    text = guide.read(ALERTS)
    names = re.findall(r"- alert: (\w+)", text)
    told = re.findall(r"^\| `(FilaWorker\w+)` \|", guide.read("config/guide/watch.md"), re.M)
    expect_equal("alerts in the guide's table", sorted(told), sorted(names))
    finished = PREFIX + "messages_finished_total"
    well = (series("up", "1x60", job="fila-worker") + series(PREFIX + "trouble", "0x60", trouble="stream_down")
            + series(PREFIX + "trouble", "0x60", trouble="handler_failing") + series(PREFIX + "trouble", "0x60", trouble="overleased")
            + series(PREFIX + "stuck_handlers", "0x60") + series(finished, "0+600x60", outcome="acked")
            + series(finished, "3x60", outcome="dead_lettered") + series(finished, "0+6x60", outcome="returned")
            + series(PREFIX + "reloads_total", "1x60", result="refused") + series(PREFIX + "running", "6x60")
            + series(PREFIX + "slots", "8x60") + series("process_start_time_seconds", "1000x60")
            + series(PREFIX + "settle_errors_total", "5x60", call="ack", code="timeout"))
    fires = {
        "FilaWorkerDown": series("up", "1 0x59", "FilaWorkerDown", job="fila-worker"),
        "FilaWorkerNotReady": series(PREFIX + "trouble", "0 1x59", "FilaWorkerNotReady", trouble="breaker_open"),
        "FilaWorkerHandlerFailing": series(PREFIX + "trouble", "0 1x59", "FilaWorkerHandlerFailing", trouble="handler_failing"),
        "FilaWorkerHandlerStuck": series(PREFIX + "stuck_handlers", "0 1x59", "FilaWorkerHandlerStuck"),
        "FilaWorkerDeadLetters": series(finished, "0x54 0 1 1 1 1 1", "FilaWorkerDeadLetters", outcome="dead_lettered"),
        "FilaWorkerLeasesLost": series(finished, "0+600x60", "FilaWorkerLeasesLost", outcome="acked") + series(finished, "0+60x60", "FilaWorkerLeasesLost", outcome="lease_lost"),
        "FilaWorkerOverleased": series(PREFIX + "trouble", "1x60", "FilaWorkerOverleased", trouble="overleased"),
        "FilaWorkerReloadRefused": series(PREFIX + "reloads_total", "0x55 0 1 1 1 1", "FilaWorkerReloadRefused", result="refused"),
        "FilaWorkerSettleErrors": series(PREFIX + "settle_errors_total", "0+60x60", "FilaWorkerSettleErrors", call="nack", code="timeout"),
        "FilaWorkerSlotsFull": series(PREFIX + "running", "8x60", "FilaWorkerSlotsFull") + series(PREFIX + "slots", "8x60", "FilaWorkerSlotsFull"),
        "FilaWorkerRestarts": series("process_start_time_seconds", "1x50 2 3 4 4 4 4 4 4", "FilaWorkerRestarts"),
    }
    expect_equal("alerts that are tried", sorted(fires), sorted(names))
    body = RULE_TEST % (os.path.join(guide.ROOT, ALERTS), well + "".join(fires.values()))
    for name in names:
        # As a count, so that labels and texts need not be said again. One fires: that of the worker or queue which is not well.
        body += ("      - expr: 'count(ALERTS{alertname=\"%s\",alertstate=\"firing\"})'\n        eval_time: 58m\n"
                 "        exp_samples:\n          - value: 1\n" % name)
    bench.write("rules_test.yaml", body)
    for words in (("check", "rules", os.path.join(guide.ROOT, ALERTS)), ("test", "rules", bench.path("rules_test.yaml"))):
        done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60)
        expect(done.returncode == 0, "promtool %s:\n%s%s", " ".join(words[:2]), done.stdout, done.stderr)


# ---- Platforms ----

def seconds(text):
    return int(re.fullmatch(r"(\d+)s?", text)[1])


@test()
def guide_grace_periods(bench):
    """Drain and grace period of the Kubernetes example and of the systemd unit fit, and the worker that is told is the one that runs."""
    text = guide.read("config/kubernetes/deployment.yaml")
    grace = re.search(r"terminationGracePeriodSeconds: (\d+)", text)[1]
    inner = re.search(r"  fila-worker\.cfg: \|\n((?:    .*\n)+)", text)[1]
    config = re.sub(r"^    ", "", inner, flags=re.M).replace("${file:/run/secrets/fila/api-key}", "")
    bench.script("handle-order", "exit 0")
    config = config.replace("/handlers/", bench.folder + "/")
    bench.write("fila-worker.cfg", config)
    unit = guide.read("config/systemd/fila-worker.service")
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1]
    for given in (grace, stop):
        out, err = bench.cli("check", "--offline", "--deny-warnings", "--grace", given + "s")
        expect_match("sums", "^config is fine", out)
    _, err = bench.cli("check", "--offline", "--deny-warnings", "--grace", "%ds" % (seconds(grace) - 4), status=78)
    expect_match("4 s less", "the worker is killed before its drain is over", err)
    for wanted in (r"readOnlyRootFilesystem: true", r"runAsNonRoot: true", r"allowPrivilegeEscalation: false", r"drop: \[ALL\]",
                   r"livenessProbe:\n +httpGet: \{ path: /livez", r"readinessProbe:\n +httpGet: \{ path: /readyz",
                   r"startupProbe:\n +httpGet: \{ path: /startupz", r'listen = ":8080"', r"containerPort: 8080",
                   r"terminationMessagePath: /dev/termination-log"):
        expect_match("the Kubernetes example", wanted, text)


@test()
def guide_units(bench):
    """systemd takes the units, and every exit status that they name is one of ours."""
    if not shutil.which("systemd-analyze"):
        raise Skipped("no systemd-analyze")
    for name in ("fila-worker", "fila-broker"):
        unit = guide.read("config/systemd/%s.service" % name).replace("/usr/bin/fila-worker", bench.worker_path)
        path = bench.write("units/%s.service" % name, unit)
        done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", path], capture_output=True, text=True,
                              timeout=Deadline(60).seconds)
        said = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
        expect(not said and done.returncode == 0, "%s: status %d\n%s", name, done.returncode, done.stdout + done.stderr)
    unit = guide.read("config/systemd/fila-worker.service")
    statuses = set(re.search(r"RestartPreventExitStatus=(.*)", unit)[1].split()) | set(re.search(r"SuccessExitStatus=(.*)", unit)[1].split())
    expect_equal("statuses of the unit", statuses <= set(re.findall(r"= (\d+)", guide.read("workers/exit.h"))), True)
