# SPDX-License-Identifier: AGPL-3.0-or-later
"""Streams and brokers that end, hang, fall silent, or name another; and what else must not hold up a
worker: handlers that do not get ready, readers that do not read."""
import os
import shutil
import signal
import subprocess

from harness import Worker, expect, expect_equal, expect_match
from proxy import Proxy
from registry import test
from test_delivery import exec_config, keep_payload
from test_lifecycle import slow_handler

LEDGER = """broker = "%(broker)s";
queues = ( {
  queue = "work";
  handler = { plugin = "%(plugin)s"; file = "ledger.txt"; %(options)s };
  concurrency = 2;
  visibility_timeout = "%(vt)s";
  %(more)s
} );
"""


def ledger_config(bench, broker=None, plugin="ledger_one", options="", vt="30s", more=""):
    path = plugin if "/" in plugin else bench.plugin(plugin)
    return LEDGER % {"broker": broker or bench.broker, "plugin": path, "options": options, "vt": vt, "more": more}


def runs(bench):
    """The lines of the ledger: (payload, attempt, id, build)."""
    if not os.path.exists(bench.path("ledger.txt")):
        return []
    return [line.split(" ") for line in bench.read("ledger.txt").decode().splitlines()]


def wait_runs(bench, count, seconds=20):
    return bench.wait_until("%d runs" % count, seconds, lambda: runs(bench), lambda r: len(r) >= count)


def payloads(bench):
    return sorted({run[0] for run in runs(bench)})


# ---- Streams ----

@test()
def a_stream_that_ends_in_good_order_is_opened_again(bench):
    broker = bench.start_faulty_broker()
    bench.create_queue("work", "2s")
    broker.tell("cut Consume code=0 after=3")
    bench.enqueue_lines("work", ["m%d" % i for i in range(20)])
    worker = bench.start_worker(ledger_config(bench, vt="2s"))
    end = worker.wait_event("STREAM-END")
    expect_equal("code", end["code"], "ok")
    worker.wait_event("STREAM-OPEN", count=2)
    bench.wait_stats("work", depth=0, seconds=30)
    worker.stop()
    expect_equal("payloads", payloads(bench), sorted("m%d" % i for i in range(20)))


@test()
def a_cut_connection_is_opened_again(bench):
    bench.start_broker()
    bench.create_queue("work")
    proxy = Proxy(bench, bench.broker)
    worker = bench.start_ready(ledger_config(bench, proxy.url, vt="3s"), FILA_WORKER_BROKER=proxy.url)
    bench.enqueue_lines("work", ["a"])
    wait_runs(bench, 1)
    mark = worker.mark()
    proxy.cut()
    expect_equal("code", worker.wait_event("STREAM-END", since=mark)["code"], "unavailable")
    worker.wait_event("STREAM-OPEN", since=mark)
    bench.enqueue_lines("work", ["b"])
    bench.wait_stats("work", depth=0)
    expect_equal("payloads", payloads(bench), ["a", "b"])
    worker.stop()


@test()
def goaway_moves_the_calls_and_loses_nothing(bench):
    """The stream lives on, on the old connection; calls go over a new one."""
    bench.start_broker()
    bench.create_queue("work")
    proxy = Proxy(bench, bench.broker)
    worker = bench.start_ready(ledger_config(bench, proxy.url), FILA_WORKER_BROKER=proxy.url)
    bench.enqueue_lines("work", ["a"])
    bench.wait_stats("work", depth=0)
    before = proxy.accepted
    proxy.goaway()
    bench.enqueue_lines("work", ["b"])
    bench.wait_stats("work", depth=0, seconds=30)
    expect(proxy.accepted > before, "no new connection was made")
    expect_equal("acked", worker.stop()["acked"], 2)


@test(seconds=120)
def a_half_open_connection_is_noticed(bench):
    """No FIN, no RST: only the keepalive can tell, or calls without answers, whichever is first. The broker never does, and
    goes on giving the dead stream its part."""
    bench.start_broker("--chaos", "consume/work:half-open,after=2@1")
    bench.create_queue("work", "2s")
    worker = bench.start_ready(ledger_config(bench, bench.broker, vt="2s"))
    mark = worker.mark()
    bench.enqueue_lines("work", ["a", "b", "c"])
    end = worker.wait_event("STREAM-END", 60, since=mark)
    if end["error"] == "ended by this side":
        worker.wait_event("BROKER-HANGS", since=mark)
    else:
        expect_match("why", "keepalive watchdog timeout|Connection timed out", end["error"])
    worker.wait_event("STREAM-OPEN", 30, since=mark)
    bench.wait_stats("work", depth=0, seconds=60)
    expect_equal("payloads", sorted(set(payloads(bench))), ["a", "b", "c"])
    expect_equal("consumers", bench.stats("work")["consumers"], 2)
    worker.stop()


@test()
def the_leader_that_is_named_is_followed(bench):
    """Only the streams go there; what may be asked of any node is asked of the one configured."""
    bench.start_broker()
    bench.create_queue("work")
    leader = bench.broker
    node, url = bench.start_peer("node", leader[len("grpc://"):])
    worker = bench.start_worker(ledger_config(bench, url), FILA_WORKER_BROKER=url)
    opened = worker.wait_event("STREAM-OPEN")
    expect_equal("broker of the stream", opened["broker"], leader)
    bench.enqueue_lines("work", ["a"])
    wait_runs(bench, 1)
    worker.wait_event("MESSAGE-DONE")
    worker.stop()
    node.process.stdin.close()
    node.wait_line(node.out, r"^refused 1$", 10)


@test()
def leaders_that_name_each_other_are_no_loop(bench):
    """Hops are bounded: then it is a failure like others, with pauses."""
    first, one = bench.start_peer("node", "127.0.0.1:1")
    second, two = bench.start_peer("node", one[len("grpc://"):])
    worker = bench.start_worker(ledger_config(bench, two), FILA_WORKER_BROKER=two)
    ends = worker.wait_event("BROKER-UNREACHABLE", 20)
    expect_equal("the address that nobody serves", ends["broker"], "grpc://127.0.0.1:1")
    worker.stop(10)
    for node in (first, second):
        node.process.stdin.close()
        refused = int(node.wait_line(node.out, r"^refused (\d+)$", 10).group(1))
        expect(1 <= refused <= 12, "%d streams were refused: no pauses", refused)


@test()
def a_broker_that_failed_is_left_for_the_next(bench):
    """Two unrelated brokers; what was leased by the first is gone for the second, and that is no sign
    of a wrong visibility timeout."""
    first = bench.start_broker()
    one = bench.broker
    bench.create_queue("work")
    bench.enqueue_lines("work", ["a%d" % i for i in range(6)])
    bench.start_broker()
    two = bench.broker
    bench.create_queue("work")
    both = '( "%s", "%s" )' % (one, two)
    config = ledger_config(bench, options='run = "1500ms";', more="prefetch = 6;").replace(
        '"%s"' % bench.broker, both).replace("concurrency = 2", "concurrency = 6")
    worker = bench.start_ready(config, FILA_WORKER_BROKER=None)
    bench.wait_until("all to run", 10, lambda: len(worker.events("STREAM-OPEN", broker=one)), bool)
    first.kill()
    changed = worker.wait_event("BROKER-CHANGED")
    expect_equal("broker", changed["broker"], two)
    worker.wait_event("STREAM-OPEN", broker=two)
    bench.enqueue_lines("work", ["b"])
    bench.wait_until("b to run", 20, lambda: payloads(bench), lambda p: "b" in p)
    bench.wait_stats("work", depth=0)
    worker.stop()
    expect_equal("VT-SHORT", worker.events("VT-SHORT"), [])


@test()
def calls_that_hang_end_the_stream(bench):
    """As with a server in SIGTERM: the stream delivers on, but acks have no answer."""
    broker = bench.start_faulty_broker()
    bench.create_queue("work", "20s")
    one = bench.broker
    worker = bench.start_ready(ledger_config(bench, vt="20s"))
    broker.tell("hang Ack count=0")
    broker.tell("hang Nack count=0")
    broker.tell("hang GetStats count=0")
    bench.enqueue_lines("work", ["m"])
    hangs = worker.wait_event("BROKER-HANGS", 20)
    expect_equal("broker", hangs["broker"], one)
    broker.tell("clear")
    worker.wait_event("STREAM-OPEN", count=2)
    bench.wait_stats("work", depth=0, seconds=30)
    account = worker.stop()
    expect_equal("runs", len(runs(bench)), 1)
    expect_equal("acked", account["acked"], 1)


@test()
def calls_without_a_connection_end_the_stream(bench):
    """After GOAWAY the stream lives on, but no new connection for calls is to be had: a stopping server's
    listener when its backlog is full. It must be let go of, or it never ends."""
    bench.start_broker()
    direct = bench.broker
    bench.create_queue("work", "60s")
    proxy = Proxy(bench, direct)
    worker = bench.start_ready(ledger_config(bench, proxy.url, vt="60s"), FILA_WORKER_BROKER=proxy.url)
    worker.wait_event("STREAM-OPEN")
    proxy.refuse(True)
    proxy.goaway()
    bench.enqueue_lines("work", ["m"])
    worker.wait_event("BROKER-HANGS", 40)
    bench.wait_stats("work", consumers=0, seconds=20)
    proxy.refuse(False)
    bench.wait_stats("work", depth=0, seconds=40)
    expect_equal("acked", worker.stop()["acked"], 1)
    expect_equal("runs", len(runs(bench)), 1)


@test()
def calls_that_hang_lead_to_the_next_broker(bench):
    broker = bench.start_faulty_broker()
    one = bench.broker
    bench.create_queue("work", "20s")
    bench.start_broker()
    two = bench.broker
    bench.create_queue("work", "20s")
    config = ledger_config(bench, vt="20s").replace('"%s"' % two, '( "%s", "%s" )' % (one, two))
    worker = bench.start_ready(config, FILA_WORKER_BROKER=None)
    broker.tell("hang Ack count=0")
    bench.cli("enqueue", "work", data="m", FILA_WORKER_BROKER=one)
    worker.wait_event("BROKER-HANGS", 20)
    worker.wait_event("STREAM-OPEN", 20, broker=two)
    bench.enqueue_lines("work", ["n"])
    bench.wait_stats("work", depth=0)
    worker.stop()
    expect_equal("payloads", payloads(bench), ["m", "n"])


@test(seconds=90)
def a_silent_stream_is_opened_anew(bench):
    broker = bench.start_faulty_broker()
    bench.create_queue("work", "3s")
    broker.tell("freeze Consume after=1 count=1")
    worker = bench.start_ready(ledger_config(bench, vt="3s"))
    bench.enqueue_lines("work", ["m%d" % i for i in range(300)])
    silent = worker.wait_event("STREAM-SILENT", 40)
    expect(silent["waiting"] > 0, "waiting: %r", silent)
    bench.wait_stats("work", depth=0, seconds=40)
    worker.stop()
    expect_equal("payloads", len(payloads(bench)), 300)


@test()
def a_question_without_answer_is_asked_again(bench):
    """missing_queue = "create": neither a failed look nor a failed create is the last word."""
    broker = bench.start_faulty_broker()
    broker.tell("error GetStats code=14 count=2")
    broker.tell("error CreateQueue code=8 count=2")
    worker = bench.start_ready(ledger_config(bench, more='missing_queue = "create";'))
    worker.wait_event("QUEUE-CREATED", 20)
    bench.enqueue_lines("work", ["m"])
    bench.wait_stats("work", depth=0)
    expect_equal("acked", worker.stop()["acked"], 1)
    expect_equal("failed creations", len(worker.events("QUEUE-MISSING")), 2)


@test(seconds=90)
def a_queue_that_is_deleted_is_noticed(bench):
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(ledger_config(bench))
    bench.cli("queue", "delete", "work", "--yes", status=None)
    if bench.status:
        bench.cli("queue", "delete", "work")
    worker.wait_event("QUEUE-MISSING", 40)
    bench.create_queue("work")
    worker.wait_event("QUEUE-FOUND", 40)
    bench.enqueue_lines("work", ["m"])
    bench.wait_stats("work", depth=0)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def one_queues_trouble_is_not_anothers(bench):
    """Consume and Ack of one queue fail in every way; the other goes on at its pace."""
    broker = bench.start_faulty_broker()
    for queue in ("sick", "work"):
        bench.create_queue(queue, "5s")
    broker.tell("cut Consume queue=sick code=14 after=1 count=0")
    broker.tell("error Ack queue=sick code=13 count=0")
    bench.enqueue_lines("sick", ["s%d" % i for i in range(20)])
    config = ledger_config(bench, vt="5s").replace("} );", '}, { queue = "sick"; visibility_timeout = "5s"; '
                                                   'handler = { plugin = "log"; }; } );')
    worker = bench.start_worker(config)
    worker.wait_event("STREAM-END", queue="sick", count=2)
    bench.enqueue_lines("work", ["m%d" % i for i in range(500)])
    bench.wait_stats("work", depth=0, seconds=20)
    expect_equal("payloads", len(payloads(bench)), 500)
    expect_equal("streams of the healthy one", len(worker.events("STREAM-OPEN", queue="work")), 1)
    worker.signal(signal.SIGTERM)
    worker.wait(30)


# ---- What must not hold up a worker ----

@test()
def a_handler_that_does_not_get_ready_is_refused(bench):
    bench.start_broker()
    worker = bench.start_worker(ledger_config(bench, options='init = "10min";', more='start_timeout = "1s";'))
    worker.wait(15, 66)
    refused = worker.events("PLUGIN-REFUSED")[-1]
    expect_match("why", r"handler ledger: its init has not returned after 1000 ms", refused["error"])
    expect_equal("queue", refused["queue"], "work")


@test()
def a_stop_is_served_while_a_handler_gets_ready(bench):
    bench.start_broker()
    worker = bench.start_worker(ledger_config(bench, options='init = "10min";'))
    worker.wait_event("WORKER-START")
    account = worker.stop(10)
    expect_equal("received", account["received"], 0)


@test()
def a_reload_that_hangs_is_refused_and_stops_nothing(bench):
    bench.start_broker()
    bench.create_queue("work")
    good = ledger_config(bench)
    worker = bench.start_ready(good)
    slow = ledger_config(bench, options='init = "10min";', more='start_timeout = "6s";')
    bench.write("fila-worker.cfg", slow.replace('"work"', '"more"').replace(
        "} );", "}, " + good[good.index("{"):]))
    worker.signal(signal.SIGHUP)
    bench.enqueue_lines("work", ["m"])
    bench.wait_stats("work", depth=0)
    expect_equal("refused while the queue was served", worker.events("RELOAD-REFUSED"), [])
    worker.wait_event("RELOAD-REFUSED")
    bench.write("fila-worker.cfg", slow.replace('"6s"', '"1h"').replace('"work"', '"more"'))
    worker.signal(signal.SIGHUP)
    expect_equal("acked", worker.stop(10)["acked"], 1)


@test()
def a_stop_is_served_while_a_config_is_checked(bench):
    """The check of a reload waits for a file that nobody writes."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(ledger_config(bench))
    os.mkfifo(bench.path("fifo"))
    bench.write("fila-worker.cfg", 'api_key = "${file:%s}";\n' % bench.path("fifo") + ledger_config(bench))
    worker.signal(signal.SIGHUP)
    worker.signal(signal.SIGTERM)
    worker.wait_event("RELOAD-REFUSED", 5, error="the worker is stopping")
    worker.wait(5, 0)


@test()
def a_log_that_nobody_reads_holds_up_nothing(bench):
    """The reader of standard error stalls; messages do not. What is lost is counted."""
    bench.start_broker()
    bench.create_queue("work")
    bench.write("fila-worker.cfg", ledger_config(bench))
    bench.enqueue_lines("work", ["m%d" % i for i in range(8000)])
    read_end, write_end = os.pipe()
    process = subprocess.Popen([bench.worker_path, "run"], cwd=bench.folder, stderr=write_end,
                               env=bench.environment(FILA_WORKER_LOG_LEVEL="debug"), start_new_session=True)
    bench.cleanups.append(process.kill)
    os.close(write_end)
    bench.wait_stats("work", depth=0, seconds=40)
    said = b""
    process.send_signal(signal.SIGTERM)
    while True:
        data = os.read(read_end, 65536)
        if not data:
            break
        said += data
    expect_equal("exit status", process.wait(20), 0)
    text = said.decode()
    expect("LOG-LOST" in text, "no LOG-LOST in %d bytes", len(text))
    expect("WORKER-STOP" in text, "no last line in %d bytes", len(text))


@test()
def a_command_that_ignores_the_stop_is_still_returned(bench):
    """exec's SIGKILL comes before the drain's end: nothing is left behind (exit 75, not 76)."""
    bench.start_broker()
    bench.create_queue("work")
    os.mkdir(bench.path("started"))
    bench.enqueue_lines("work", ["m"])
    command = bench.script("stuck.sh", 'trap "" TERM; : > "started/$FILA_MESSAGE_ID"; sleep 100')
    worker = bench.start_ready(exec_config(bench, command, vt="300s") + 'drain_timeout = "4s";\n')
    bench.wait_files("started", 1)
    worker.signal(signal.SIGTERM)
    worker.wait(15, 75)
    account = worker.account()
    expect_equal("account", (account["received"], account["left"]), (1, 0))
    bench.wait_stats("work", depth=1, in_flight=0)


# ---- Reload ----

@test()
def a_replaced_plugin_is_loaded_anew(bench):
    bench.start_broker()
    bench.create_queue("work")
    shutil.copy(bench.plugin("ledger_one"), bench.path("ledger.so"))
    worker = bench.start_ready(ledger_config(bench, plugin="./ledger.so"))
    bench.enqueue_lines("work", ["a"])
    wait_runs(bench, 1)
    worker.signal(signal.SIGHUP)
    expect_equal("kept", worker.wait_event("RELOAD-DONE")["queues_kept"], 1)
    shutil.copy(bench.plugin("ledger_two"), bench.path("next.so"))
    os.rename(bench.path("next.so"), bench.path("ledger.so"))
    worker.signal(signal.SIGHUP)
    done = worker.wait_event("RELOAD-DONE", count=2)
    expect_equal("restarted", (done["queues_kept"], done["queues_restarted"]), (0, 1))
    worker.wait_event("STREAM-OPEN", count=2)
    bench.enqueue_lines("work", ["b"])
    bench.wait_until("b to run", 20, lambda: payloads(bench), lambda p: "b" in p)
    expect_equal("builds", [(r[0], r[3]) for r in runs(bench)], [("a", "one"), ("b", "two")])
    # And a third time, back to the first: the two that are loaded are not taken for it.
    shutil.copy(bench.plugin("ledger_one"), bench.path("next.so"))
    os.rename(bench.path("next.so"), bench.path("ledger.so"))
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE", count=3)
    worker.wait_event("STREAM-OPEN", count=3)
    bench.enqueue_lines("work", ["c"])
    bench.wait_until("c to run", 20, lambda: payloads(bench), lambda p: "c" in p)
    expect_equal("build", runs(bench)[-1][3], "one")
    worker.stop()


@test()
def enqueue_lines_has_a_longest_line(bench):
    bench.start_broker()
    bench.create_queue("work")
    source = bench.path("lines")
    with open(source, "wb") as f:
        f.write(b"short\n")
        f.truncate(70 << 20)
    out, err = bench.cli("enqueue", "work", "--lines", source, status=1)
    expect_match("why", r"lines, line 2: more than 64 MiB", err)
    expect_equal("enqueued before it", bench.stats("work")["depth"], 1)
