# SPDX-License-Identifier: AGPL-3.0-or-later
"""isolation = "process": handlers in children that crash, hang, are replaced, and cannot be started.

FILA_E2E_UNSTABLE is the number of messages of unstable_handlers (1,000 if it is not set).
"""
import collections
import os
import shutil
import signal
import time

from harness import Deadline, expect, expect_equal, expect_match
from registry import test

CONFIG = """broker = "%(broker)s";
queues = ( {
  queue = "work";
  handler = { plugin = "%(plugin)s"; %(options)s };
  isolation = "process";
  concurrency = %(concurrency)d;
  timeout = "%(timeout)s";
  retry = { attempts = %(attempts)d; first = "20ms"; max = "50ms"; };
  visibility_timeout = "30s"; %(more)s
} );
"""


def config(bench, plugin="unstable_one", concurrency=2, timeout="10s", attempts=2, options="", more=""):
    path = plugin if "/" in plugin else os.path.join(bench.build, "tests/e2e/plugins", plugin + ".so")
    return CONFIG % {"broker": bench.broker, "plugin": path, "concurrency": concurrency, "timeout": timeout,
                     "attempts": attempts, "options": options, "more": more}


def put_plugin(bench, build):
    """Puts that build where the worker's config finds it: by rename, as installers do."""
    source = os.path.join(bench.build, "tests/e2e/plugins", "unstable_%s.so" % build)
    os.makedirs(bench.path("handlers"), mode=0o755, exist_ok=True)
    shutil.copy(source, bench.path("handlers/.new"))
    os.rename(bench.path("handlers/.new"), bench.path("handlers/unstable.so"))
    return bench.path("handlers/unstable.so")


def children(worker):
    """Process ids of its handlers."""
    with open("/proc/%d/task/%d/children" % (worker.pid, worker.pid)) as f:
        found = f.read().split()
    for task in os.listdir("/proc/%d/task" % worker.pid):
        with open("/proc/%d/task/%s/children" % (worker.pid, task)) as f:
            found += f.read().split()
    return sorted(set(int(pid) for pid in found))


def payload(index):
    return "hang" if index % 500 == 11 else "crash" if index % 100 == 7 else "ok %d" % index


CONCURRENCY = 4
TRIES = 2
# A try that hangs: the timeout of 1 s, and half of the grace that a visibility timeout of 30 s gives, to SIGTERM.
HANGS_FOR = 1 + 0.375


def time_through(bench, lines):
    """A worker that is through with these lines, how long its start took, and all of them after that."""
    bench.enqueue_lines("work", lines)
    began = time.monotonic()
    worker = bench.start_ready(config(bench, concurrency=CONCURRENCY, timeout="1s", attempts=TRIES))
    ready = time.monotonic()
    bench.wait_stats("work", seconds=60 + len(lines) / 50, depth=0, in_flight=0)
    return worker, ready - began, time.monotonic() - ready


@test(seconds=180)
def unstable_handlers(bench):
    """1 in 100 crashes its process, 1 in 500 hangs: all are accounted for, the bad ones with their cause, and the
    others lose no more time than the places that hang are held."""
    total = int(os.environ.get("FILA_E2E_UNSTABLE", "1000"))
    lines = [payload(i) for i in range(total)]
    crashes, hangs = lines.count("crash"), lines.count("hang")
    bench.start_broker()
    bench.create_queue("work")
    worker, start, alone = time_through(bench, ["ok %d" % i for i in range(total)])
    expect_equal("acked", worker.stop()["acked"], total)
    worker, _, took = time_through(bench, lines)
    account = worker.stop()
    expect_equal("account", (account["acked"], account["dead_lettered"]), (total - crashes - hangs, crashes + hangs))
    letters = bench.json_lines("dlq", "show", "work", "--limit", str(total))
    causes = collections.Counter(letter["dead_letter"]["cause"] for letter in letters)
    expect_equal("causes", dict(causes), {"crash": crashes, "timeout": hangs})
    for letter in letters:
        why = letter["dead_letter"]
        expect_equal("attempts", why["attempts"], "2")
        if why["cause"] == "crash":
            expect_match("reason", r"SIGSEGV at address 0x0, in handle\+0x.*plugin unstable_one.so", why["reason"])
        else:
            expect_match("reason", r"^no verdict by its deadline of \d+ ms: ", why["reason"])
    held = hangs * TRIES * HANGS_FOR / CONCURRENCY  # on average; the last to hang has its tries one by one
    restarts = crashes * TRIES * start / CONCURRENCY
    expect(took < 3 * (alone + restarts) + held + (TRIES + 1) * HANGS_FOR,
           "%.1f s for all, %.1f s when all are good, %.1f s held by hangs, %.1f s of starts", took, alone, held,
           restarts)
    if total > 1000:
        print("%d good messages in %.1f s; with %d that crash and %d that hang, %d times each, in %.1f s: %.2f of the "
              "%.1f s that the places not held by hangs need" %
              (total, alone, crashes, hangs, TRIES, took, took / (alone + held), alone + held))


@test()
def a_crash_costs_one_message(bench):
    """Others are handled meanwhile; the child is replaced; the reason says where it was."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, attempts=1))
    before = children(worker)
    expect_equal("children", len(before), 2)
    bench.enqueue_lines("work", ["crash"] + ["ok"] * 20)
    bench.wait_stats("work", depth=0)
    crash = worker.wait_event("CHILD-CRASHED")
    expect_match("place", r"SIGSEGV at address 0x0, in handle\+0x[0-9a-f]+ \(unstable_one\.so\+0x", crash["error"])
    bench.wait_until("a new child", 20, lambda: children(worker),
                     lambda now: len(now) == 2 and crash["pid"] not in now)
    account = worker.stop()
    expect_equal("account", (account["acked"], account["dead_lettered"]), (20, 1))


@test()
def killed_by_hand(bench):
    """A SIGKILL that the worker did not send is said to be none of its own; idle children are replaced."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, concurrency=1))
    (child,) = children(worker)
    os.kill(child, signal.SIGKILL)
    event = worker.wait_event("CHILD-CRASHED", pid=child)
    expect_match("reason", "killed by SIGKILL, which this worker did not send", event["error"])
    bench.enqueue_lines("work", ["ok"])
    bench.wait_stats("work", depth=0)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def children_die_with_the_worker(bench):
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, timeout="14s"))
    bench.enqueue_lines("work", ["hang"])
    bench.wait_stats("work", in_flight=1)
    both = children(worker)
    worker.signal(signal.SIGKILL)
    worker.wait(10)

    def alive():
        found = []
        for pid in both:
            try:
                with open("/proc/%d/stat" % pid) as f:
                    if f.read().rsplit(")", 1)[1].split()[0] != "Z":
                        found.append(pid)
            except OSError:
                pass
        return found
    limit = Deadline(10)
    while alive():
        expect(not limit.over(), "children outlive the worker: %r", alive())
        time.sleep(0.02)


@test()
def publishes_and_counts(bench):
    bench.start_broker()
    bench.create_queue("work")
    bench.create_queue("copies")
    worker = bench.start_ready(config(bench))
    bench.enqueue_lines("work", ["publish copies"] * 10)
    bench.wait_stats("work", depth=0)
    bench.wait_stats("copies", depth=10)
    expect_equal("acked", worker.stop()["acked"], 10)


@test()
def a_new_file_takes_over(bench):
    """A reload finds the plugin's file replaced: new children with it; one that cannot start is not taken."""
    bench.start_broker()
    bench.create_queue("work")
    path = put_plugin(bench, "one")
    worker = bench.start_ready(config(bench, plugin=path))
    old = children(worker)

    def build():
        mark = worker.mark()
        bench.enqueue_lines("work", ["build"])
        return worker.wait_event("MESSAGE-DEAD", since=mark)["error"]
    expect_equal("first", build(), "build one")
    mark = worker.mark()
    put_plugin(bench, "broken")
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE", since=mark)
    kept = worker.wait_event("PLUGIN-KEPT")
    expect_match("why", "this build cannot start", kept["error"])
    expect_equal("children", children(worker), old)
    expect_equal("while the broken one is there", build(), "build one")
    os.kill(old[0], signal.SIGKILL)  # the old one can still be started
    bench.wait_until("a new child of the old build", 20, lambda: children(worker),
                     lambda now: len(now) == 2 and old[0] not in now)
    expect_equal("a child of the old build", build(), "build one")
    put_plugin(bench, "two")  # noticed without being told
    worker.wait_event("PLUGIN-REPLACED")
    bench.wait_until("all new children", 20, lambda: children(worker),
                     lambda now: len(now) == 2 and old[1] not in now)
    for _ in range(4):
        expect_equal("after it", build(), "build two")
    worker.signalled = True
    worker.stop()


@test()
def children_that_cannot_start_stop_the_queue(bench):
    """Five failed starts, no loop; a reload tries again."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, concurrency=1, options='unless = "forbidden";'))
    bench.write("forbidden", "")
    (child,) = children(worker)
    os.kill(child, signal.SIGKILL)
    given_up = worker.wait_event("CHILDREN-GIVEN-UP", seconds=30)
    expect_match("why", "the file that forbids it is there", given_up["error"])
    failed = sum(e.get("repeated", 1) for e in worker.events("CHILD-FAILED"))  # equal lines are folded
    expect_equal("starts that failed", failed, 5)
    bench.enqueue_lines("work", ["ok"])
    os.remove(bench.path("forbidden"))
    mark = worker.mark()
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE", since=mark)
    bench.wait_stats("work", seconds=45, depth=0)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def wrong_options_are_told_by_the_child(bench):
    """Their file and line, as in threads mode, though this process never loads the plugin."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_worker(config(bench, options="\n  unles = \"x\";"))
    worker.wait(20, 66)
    refused = worker.events("PLUGIN-REFUSED", key="unles")
    expect_equal("refusals", len(refused), 1)
    expect_match("text", "did you mean unless", refused[0]["error"])
    expect_equal("line", refused[0]["line"], 5)


@test()
def a_drain_ends_hanging_children(bench):
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, timeout="14s"), FILA_WORKER_DRAIN_TIMEOUT="2100ms")
    bench.enqueue_lines("work", ["hang", "ok"])
    worker.wait_event("MESSAGE-DONE")
    worker.signal(signal.SIGTERM)
    status = worker.wait(20)
    expect(status in (75, 76), "exit status %d", status)
    worker.account()
