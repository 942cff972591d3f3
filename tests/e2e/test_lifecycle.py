# SPDX-License-Identifier: AGPL-3.0-or-later
"""Start, reload, drain and sudden death: signals, exit statuses, and the account that survives."""
import os
import signal

from harness import expect, expect_equal, expect_match
from registry import test
from test_delivery import contents, exec_config, keep_payload


def slow_handler(bench, seconds):
    """Says in started/ that it runs, then takes its time; TERM ends it."""
    os.mkdir(bench.path("started"))
    os.mkdir(bench.path("done"))
    return bench.script("slow.sh", 'cat > "started/$FILA_MESSAGE_ID"; sleep %g; cp "started/$FILA_MESSAGE_ID" done/'
                        % seconds)


@test(real_server=True)
def sigterm_drains(bench):
    """What runs is finished and acked; what was read and not started goes back; the rest stays."""
    bench.create_queue("work")
    bench.enqueue_lines("work", ["m%d" % i for i in range(40)])
    worker = bench.start_worker(exec_config(bench, slow_handler(bench, 1.5)))
    bench.wait_files("started", 4)
    worker.signal(signal.SIGTERM)
    worker.wait_event("DRAIN-START", 5)
    worker.wait(20, 0)
    account = worker.account()
    expect_equal("finished by the drain", account["acked"], len(bench.listing("done")))
    expect(4 <= account["acked"] <= 8, "%d acked: new work was started in the drain, or old work dropped",
           account["acked"])
    expect_equal("started and not finished", sorted(bench.listing("started")), sorted(bench.listing("done")))
    expect(account["returned"] >= 1, "nothing was returned: %r", account)
    expect_equal("left in the queue", bench.stats("work")["depth"], 40 - account["acked"])


@test()
def second_sigterm_exits_now(bench):
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["m%d" % i for i in range(10)])
    worker = bench.start_worker(exec_config(bench, slow_handler(bench, 60), vt="300s"))
    bench.wait_files("started", 4)
    worker.signal(signal.SIGTERM)
    worker.wait_event("DRAIN-START", 5)
    worker.signal(signal.SIGTERM)
    worker.wait_event("DRAIN-HURRY", 5)
    status = worker.wait(10)
    account = worker.account()
    expect(status in (0, 75), "exit status %d", status)
    expect_equal("acked", account["acked"], 0)
    expect_equal("back in the queue", bench.stats("work")["depth"], 10)
    # The four that ran were nacked: they come to the next consumer at once, not after 300 s.
    bench.script("slow.sh", 'cat > "done/$FILA_MESSAGE_ID"')
    second = bench.start_worker(None, name="second worker")
    bench.wait_files("done", account["received"])
    second.stop()


@test()
def drain_deadline_passes(bench):
    """A handler that does not end in time: cancelled, its message returned, and the status says so."""
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["m%d" % i for i in range(4)])
    worker = bench.start_worker(exec_config(bench, slow_handler(bench, 100), vt="300s") + 'drain_timeout = "3s";\n')
    bench.wait_files("started", 4)
    worker.signal(signal.SIGTERM)
    status = worker.wait(12)
    account = worker.account()
    expect_equal("exit status", status, 75)
    expect_equal("acked", account["acked"], 0)
    expect_equal("in the queue", bench.stats("work")["depth"], 4)


@test()
def sighup_takes_the_new_config(bench):
    bench.start_broker()
    for queue in ("work", "more"):
        bench.create_queue(queue)
    command = keep_payload(bench)
    worker = bench.start_ready(exec_config(bench, command))
    bench.write("fila-worker.cfg", exec_config(bench, command).replace(
        "} );", '}, { queue = "more"; handler = { plugin = "exec"; command = [ "%s" ]; }; } );' % command))
    mark = worker.mark()
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE", since=mark)
    worker.wait_event("STREAM-OPEN", since=mark, queue="more")
    bench.enqueue_lines("more", ["from the new queue"])
    bench.enqueue_lines("work", ["from the old queue"])
    bench.wait_files("done", 2)
    bench.write("fila-worker.cfg", exec_config(bench, command))
    mark = worker.mark()
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE", since=mark)
    bench.wait_stats("more", consumers=0)
    bench.enqueue_lines("work", ["still here"])
    bench.wait_files("done", 3)
    expect_equal("acked", worker.stop()["acked"], 3)


@test()
def sighup_with_a_broken_file_keeps_the_old_config(bench):
    bench.start_broker()
    bench.create_queue("work")
    command = keep_payload(bench)
    worker = bench.start_ready(exec_config(bench, command))
    bench.write("fila-worker.cfg", exec_config(bench, command).replace("concurrency", "concurency"))
    worker.signal(signal.SIGHUP)
    refused = worker.wait_event("RELOAD-REFUSED")
    said = " ".join(str(v) for e in worker.log() if e["event"] in ("RELOAD-REFUSED", "CONFIG-INVALID")
                    for v in e.values())
    expect_match("why", "concurency", said)
    expect_equal("level", refused["level"], "error")
    bench.enqueue_lines("work", ["under the old config"])
    bench.wait_files("done", 1)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def sigint_drains_too(bench):
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(exec_config(bench, keep_payload(bench)))
    account = worker.stop(number=signal.SIGINT)
    expect_equal("received", account["received"], 0)


@test(seconds=120, real_server=True)
def kill9_loses_nothing(bench):
    """kill -9 of the worker in the middle; a second one finishes; every message is accounted for."""
    bench.create_queue("work", "2s")
    lines = ["message %d" % i for i in range(300)]
    bench.enqueue_lines("work", lines)
    os.mkdir(bench.path("runs"))
    command = keep_payload(bench, ': > "runs/$FILA_MESSAGE_ID.$$"; sleep 0.02')
    first = bench.start_worker(exec_config(bench, command, vt="2s"), name="first worker")
    bench.wait_files("done", 60)
    first.signal(signal.SIGKILL)
    first.wait(5, -signal.SIGKILL)
    done_before = len(bench.listing("done"))
    expect(done_before < 300, "all were done before the kill")
    expect(bench.stats("work")["depth"] >= 300 - done_before, "messages were lost in the kill")
    second = bench.start_worker(None, name="second worker")
    bench.wait_stats("work", depth=0, seconds=60)
    account = second.stop()
    expect_equal("payloads", contents(bench), sorted(line.encode() for line in lines))
    expect(account["acked"] >= 300 - done_before, "acked %d of %d", account["acked"], 300 - done_before)
    expect_equal("dead letters", bench.stats("work.dlq")["depth"], 0)
    repeated = len(bench.listing("runs")) - 300
    # At least once: what was leased or running when the worker died runs again, and nothing else.
    expect(0 <= repeated <= 150, "%d runs for 300 messages", repeated + 300)


@test(seconds=90)
def broker_restart_is_survived(bench):
    broker = bench.start_broker()
    address = bench.broker[len("grpc://"):]
    bench.create_queue("work")
    worker = bench.start_ready(exec_config(bench, keep_payload(bench)))
    bench.enqueue_lines("work", ["before"])
    worker.wait_event("MESSAGE-DONE")
    mark = worker.mark()
    broker.kill()
    worker.wait_event("STREAM-END", since=mark)
    again = bench.spawn(type(broker), "second broker", ["broker", "--listen", address], FILA_WORKER_BROKER=None)
    again.wait_line(again.out, r"127\.0\.0\.1:(\d+)", 15)
    bench.create_queue("work")
    worker.wait_event("STREAM-OPEN", 40, since=mark)
    bench.enqueue_lines("work", ["after"])
    bench.wait_files("done", 2, 40)
    expect_equal("acked", worker.stop()["acked"], 2)


@test()
def idle_worker_stops_at_once_without_a_broker(bench):
    """SIGTERM while nothing answers: no stream to wait for, exit 0."""
    bench.broker = "grpc://127.0.0.1:1"
    worker = bench.start_worker(exec_config(bench, keep_payload(bench)))
    worker.wait_event("BROKER-UNREACHABLE", 20)
    account = worker.stop(5)
    expect_equal("received", account["received"], 0)
