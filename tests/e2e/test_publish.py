# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a handler publishes is confirmed before its message is acked, or else the message runs again."""
import signal

from harness import expect, expect_equal, expect_match
from registry import test
from test_delivery import contents, dead_letter, keep_payload, plugin

CONFIG = """broker = "%s";
%s
queues = ( { queue = "work"; handler = { plugin = "%s"; %s }; concurrency = 4; %s
  retry = { attempts = 2; first = "20ms"; max = "50ms"; }; } %s );
"""
LONG = 'timeout = "25s"; visibility_timeout = "60s";'


def config(bench, handler="", rest="", top="", times=LONG):
    return CONFIG % (bench.broker, top, plugin(bench, "publisher"), handler, times, rest)


@test(real_server=True)
def publish_then_ack(bench):
    """Headers, order of the account, and the trace that goes on."""
    published_then_acked(bench, LONG)


@test(real_server=True)
def publish_from_children(bench):
    """The same, of handlers that run in children."""
    published_then_acked(bench, LONG + ' isolation = "process";')


def published_then_acked(bench, times):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for queue in ("work", "out"):
        bench.create_queue(queue)
    for _ in range(5):
        bench.cli("enqueue", "work", "--header", "traceparent=" + trace, "-", data="ack out 3")
    keep_payload(bench, 'echo "$FILA_HEADER_TRACEPARENT $FILA_HEADER_FROM" >> headers.txt')
    worker = bench.start_worker(config(bench, times=times, rest=', { queue = "out"; concurrency = 1; '
                                                   'handler = { plugin = "exec"; command = [ "./keep.sh" ]; }; }'))
    bench.wait_files("done", 15)
    bench.wait_stats("work", depth=0)
    bench.wait_stats("out", depth=0)
    account = worker.stop()
    expect_equal("account", (account["received"], account["acked"]), (20, 20))
    expect_equal("payloads", contents(bench), sorted([b"0", b"1", b"2"] * 5))
    seen = [line.split() for line in bench.read("headers.txt").decode().splitlines()]
    expect_equal("traces", {line[0] for line in seen}, {trace})
    expect_equal("messages that they come from", len({line[1] for line in seen}), 5)


@test(real_server=True)
def publish_to_a_missing_queue(bench):
    bench.create_queue("work")
    bench.cli("enqueue", "work", "-", data="ack nowhere 2")
    worker = bench.start_worker(config(bench))
    worker.wait_event("MESSAGE-DEAD")
    account = worker.stop()
    expect_equal("account", (account["received"], account["acked"], account["dead_lettered"]), (1, 0, 1))
    told = worker.events("PUBLISH-FAILED")[0]
    expect_equal("told", (told["to"], told["code"]), ("nowhere", "queue not found"))
    why = dead_letter(bench)["dead_letter"]
    expect_match("reason", '^publish to "nowhere": queue not found', why["reason"])
    expect_equal("cause and attempts", (why["cause"], why["attempts"]), ("retry", "2"))


@test(real_server=True)
def publish_without_an_ack(bench):
    """Only an ack sends what was published."""
    for queue in ("work", "out"):
        bench.create_queue(queue)
    bench.cli("enqueue", "work", "-", data="reject out 3")
    worker = bench.start_worker(config(bench))
    worker.wait_event("MESSAGE-DEAD")
    worker.stop()
    expect_equal("published", bench.stats("out")["depth"], 0)
    expect_match("reason", "as told", dead_letter(bench)["dead_letter"]["reason"])


def stop_broker_before_publish(bench, top="", times=LONG, lease="60s"):
    """A worker whose handler has published while its broker answers nothing: (broker, worker)."""
    broker = bench.start_broker()
    for queue in ("work", "out"):
        bench.create_queue(queue, lease)
    bench.cli("enqueue", "work", "-", data="ack out 1")
    worker = bench.start_worker(config(bench, 'gate = "%s";' % bench.path("gate"), top=top, times=times))
    worker.wait_event("HANDLER-LOG", msg="at the gate")
    broker.signal(signal.SIGSTOP)
    bench.write("gate", "")
    worker.wait_event("PUBLISH-FAILED", seconds=30)
    expect_equal("acked before it was confirmed", worker.events("MESSAGE-DONE"), [])
    return broker, worker


@test(seconds=120)
def publish_unanswered(bench):
    """No answer: sent again, to the same end; the handler does not run again for it."""
    broker, worker = stop_broker_before_publish(bench)
    broker.signal(signal.SIGCONT)
    worker.wait_event("MESSAGE-DONE", seconds=30)
    bench.wait_stats("work", depth=0)
    account = worker.stop()
    expect_equal("acked", account["acked"], 1)
    expect_equal("runs", len(worker.events("HANDLER-LOG", msg="at the gate")), 1)
    expect(bench.stats("out")["depth"] >= 1, "what was acked was not published")


@test(seconds=120)
def publish_cut_by_a_stop(bench):
    """A stop waits for what is not confirmed no longer than its own time, and does not ack it."""
    broker, worker = stop_broker_before_publish(bench, top='drain_timeout = "3s";')
    worker.signal(signal.SIGTERM)
    status = worker.wait(30)
    broker.signal(signal.SIGCONT)
    expect(status in (75, 76), "exit status %d", status)
    account = worker.account()
    expect_equal("acked", account["acked"], 0)
    expect_equal("received", account["received"], 1)


@test(seconds=120)
def publish_then_killed(bench):
    """A worker that dies with a publication under way has acked nothing: the next one does it again."""
    times = 'timeout = "6s"; visibility_timeout = "10s";'
    broker, worker = stop_broker_before_publish(bench, times=times, lease="10s")
    worker.signal(signal.SIGKILL)
    worker.wait(15, -signal.SIGKILL)
    broker.signal(signal.SIGCONT)
    after = bench.start_worker(config(bench, times=times), name="after")
    after.wait_event("MESSAGE-DONE", seconds=90)
    expect_equal("acked", after.stop()["acked"], 1)
    expect(bench.stats("out")["depth"] >= 1, "what was acked was not published")
