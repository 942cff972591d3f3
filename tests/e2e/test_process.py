# SPDX-License-Identifier: AGPL-3.0-or-later
"""isolation = "process": handlers in children that crash, hang, are replaced, and cannot be started.

FILA_E2E_UNSTABLE is the number of messages of unstable_handlers (1,000 if it is not set).
"""
import collections
import os
import shutil
import signal
import time

from harness import Skipped, expect, expect_equal, expect_match
from registry import test
from test_ops import Port

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


def is_running(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def memory_group(bench, limit):
    """A control group of its own with that much memory, in bytes: its folder. Removed with the bench."""
    places = []
    with open("/proc/self/cgroup") as f:
        for line in f:
            _, controllers, group = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                places += [("/sys/fs/cgroup/memory" + group, "memory.limit_in_bytes"),
                           ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
            elif not controllers:
                places += [("/sys/fs/cgroup" + group, "memory.max"), ("/sys/fs/cgroup", "memory.max")]
    for place, name in places:
        folder = os.path.join(place, os.path.basename(bench.folder))
        try:
            os.mkdir(folder)
        except OSError:
            continue

        def remove(folder=folder):
            bench.wait_until("the group to be empty", 10, lambda: gone(folder), bool)
        bench.cleanups.append(remove)
        try:
            with open(os.path.join(folder, name), "w") as f:
                f.write(str(limit))
            for swap, value in (("memory.memsw.limit_in_bytes", str(limit)), ("memory.swap.max", "0")):
                if os.access(os.path.join(folder, swap), os.W_OK):
                    with open(os.path.join(folder, swap), "w") as f:
                        f.write(value)
            return folder
        except OSError:
            continue
    raise Skipped("no control group with a memory limit can be made here")


def gone(folder):
    try:
        os.rmdir(folder)
    except OSError:
        return not os.path.exists(folder)
    return True


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

    bench.wait_until("children to die with the worker", 10, lambda: [pid for pid in both if is_running(pid)],
                     lambda alive: not alive)


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
    bench.enqueue_lines("work", ["wait " + bench.path("running")])
    bench.wait_until("it to run", 20, lambda: os.path.exists(bench.path("running")), bool)
    before = children(worker)
    put_plugin(bench, "two")  # noticed without being told
    worker.wait_event("PLUGIN-REPLACED")
    bench.wait_until("new children, and the one that is at work", 20, lambda: children(worker),
                     lambda now: len(now) == 3 and len(set(now) & set(before)) == 1)
    mark = worker.mark()
    os.remove(bench.path("running"))
    expect_equal("what ran meanwhile", worker.wait_event("MESSAGE-DEAD", since=mark)["error"], "build one")
    bench.wait_until("all new children", 20, lambda: children(worker),
                     lambda now: len(now) == 2 and not set(now) & set(before))
    for _ in range(4):
        expect_equal("after it", build(), "build two")
    worker.signalled = True
    worker.stop()


@test()
def children_that_cannot_start_stop_the_queue(bench):
    """Five failed starts, no loop; a reload tries again."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, concurrency=1, options='unless = "forbidden";'),
                               FILA_WORKER_HTTP_LISTEN="127.0.0.1:0")
    port = Port(worker)
    bench.write("forbidden", "")
    (child,) = children(worker)
    os.kill(child, signal.SIGKILL)
    given_up = worker.wait_event("CHILDREN-GIVEN-UP", seconds=30)
    expect_match("why", "the file that forbids it is there", given_up["error"])
    failed = [e["retry_in_ms"] for e in worker.events("CHILD-FAILED")]
    expect_equal("pauses after the starts that failed (there were 100 ms before the first)", failed,
                 [200, 400, 800, 1600, 3200])
    code, _, text = port.get("/readyz")
    expect_equal("/readyz", code, 503)
    expect_match("why", "handler_given_up .*the file that forbids it is there.*CHILDREN-GIVEN-UP: .*reload", text)
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


@test(seconds=90)
def out_of_memory(bench):
    """The kernel takes the child, not the worker, and the message's reason says why."""
    group = memory_group(bench, 400 << 20)
    bench.start_broker()
    bench.create_queue("work")
    launcher = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group]
    worker = bench.start_ready(config(bench, concurrency=1, attempts=1, timeout="14s"), launcher=launcher)
    bench.enqueue_lines("work", ["eat", "ok"])
    bench.wait_stats("work", seconds=60, depth=0, in_flight=0)
    ended = worker.wait_event("CHILD-CRASHED", cause="oom")
    expect_match("the event", "^the kernel killed the handler's process: out of memory .*plugin unstable_one.so",
                 ended["error"])
    account = worker.stop()
    expect_equal("account", (account["acked"], account["dead_lettered"]), (1, 1))
    (letter,) = bench.json_lines("dlq", "show", "work")
    why = letter["dead_letter"]
    expect_equal("cause", why["cause"], "crash")
    expect_match("reason", "^the kernel killed the handler's process: out of memory", why["reason"])


def opened(pid):
    """What its descriptors are, by number."""
    folder, found = "/proc/%d/fd" % pid, {}
    for name in os.listdir(folder):
        found[int(name)] = os.readlink(os.path.join(folder, name)).split(":")[0]
    return found


@test()
def what_a_child_begins_with(bench):
    """Five descriptors, none of the worker's others; a raised oom_score_adj; a group of its own; no secrets."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench), FILA_API_KEY="not-for-children", FILA_WORKER_HTTP_LISTEN="127.0.0.1:0")
    bench.enqueue_lines("work", ["ok"] * 4)
    bench.wait_stats("work", depth=0)
    expect(len(opened(worker.pid)) > 15, "the worker itself has %r", opened(worker.pid))
    for pid in children(worker):
        expect_equal("descriptors", opened(pid), {0: "/dev/null", 1: "pipe", 2: "pipe", 200: "socket", 201: "socket"})
        with open("/proc/%d/oom_score_adj" % pid) as f:
            expect_equal("oom_score_adj", f.read().strip(), "500")
        expect_equal("process group", os.getpgid(pid), pid)
        with open("/proc/%d/environ" % pid, "rb") as f:
            expect("not-for-children" not in f.read().decode(), "it was given the API key")
    worker.stop()


@test()
def recycled_between_messages(bench):
    """By count, and by resident memory: no message pays for it."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, concurrency=1, more="recycle_messages = 5;"))
    bench.enqueue_lines("work", ["ok"] * 20)
    recycled = worker.wait_event("CHILD-RECYCLED", count=4, cause="recycle")
    expect_equal("messages of the fourth", recycled["messages"], 5)
    account = worker.stop()
    expect_equal("account", (account["acked"], account["retried"]), (20, 0))
    worker = bench.start_ready(config(bench, concurrency=1, more='recycle_rss = "96MiB";'), name="second")
    bench.enqueue_lines("work", ["leak"] * 40)  # looked at after each eighth
    worker.wait_event("CHILD-RECYCLED", count=2, cause="recycle")
    bench.wait_stats("work", depth=0)
    account = worker.stop()
    expect_equal("account", (account["acked"], account["retried"]), (40, 0))
    expect_equal("crashes", worker.events("CHILD-CRASHED"), [])


@test()
def what_a_handler_starts_ends_with_it(bench):
    """A process that a handler left behind goes with its child, as long as it stays in its group."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(config(bench, concurrency=1, attempts=1))
    bench.enqueue_lines("work", ["litter " + bench.path("pid")])
    worker.wait_event("CHILD-CRASHED")
    litter = int(bench.read("pid"))
    bench.wait_until("the process left behind to be gone", 20, lambda: is_running(litter), lambda runs: not runs)
    worker.stop()
