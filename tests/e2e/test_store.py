# SPDX-License-Identifier: AGPL-3.0-or-later
"""The broker with a file: killed with signal 9 under load and started again, and files that it refuses."""
import subprocess
import threading

from harness import Child, expect, expect_equal, expect_match
from registry import test

CONFIG = """broker = "%s";
queues = ( { queue = "work"; handler = { plugin = "exec"; command = [ "%s" ]; }; concurrency = 4;
  visibility_timeout = "2s"; } );
"""


def start_enqueue(bench, name, lines):
    child = bench.spawn(Child, name, ["enqueue", "work", "--lines", "-"], stdin=subprocess.PIPE)

    def feed():
        try:
            child.process.stdin.write("".join(line + "\n" for line in lines).encode())
            child.process.stdin.close()
        except OSError:
            pass  # it ended before: with what it confirmed

    threading.Thread(target=feed, daemon=True).start()
    return child


def restart_broker(bench, *arguments):
    return bench.start_broker("--listen", bench.broker.split("//")[1], *arguments)


@test(seconds=120)
def killed_broker_loses_nothing(bench):
    data = ("--data", bench.path("broker.db"), "--idle-timeout", "20")
    broker = bench.start_broker(*data, "--sync", "normal")
    bench.create_queue("work", "2s")
    bench.write("done/.keep", "")
    keep = bench.script("keep.sh", ': > "done/$FILA_MESSAGE_ID"')
    worker = bench.start_ready(CONFIG % (bench.broker, keep))
    confirmed = set()
    for round in range(5):
        child = start_enqueue(bench, "enqueue %d" % round, ["message %d of %d" % (i, round) for i in range(400)])
        child.wait_line(child.out, ".", 20, skip=37 * (round + 1))  # so many are confirmed
        broker.kill()
        broker = restart_broker(bench, *data, "--sync", ("normal", "full")[round % 2])
        child.wait(40)
        confirmed.update(child.out.lines)
    expect(len(confirmed) >= 5 * 38, "only %d messages were confirmed", len(confirmed))
    bench.wait_until("every confirmed message to be handled", 60, lambda: confirmed - set(bench.listing("done")),
                     lambda missing: not missing)
    bench.wait_stats("work", depth=0, in_flight=0, seconds=30)
    worker.stop(30)
    broker.kill()
    restart_broker(bench, *data)
    expect_equal("what came back", bench.stats("work")["depth"], 0)


@test()
def embedded_worker_with_a_file(bench):
    bench.write("done/.keep", "")
    keep = bench.script("keep.sh", ': > "done/$FILA_MESSAGE_ID"')
    path = bench.path("broker.db")
    config = CONFIG % ("embedded:%s?listen=127.0.0.1:0" % path, keep)
    config = config.replace("concurrency = 4;", 'concurrency = 4; missing_queue = "create";')
    worker = bench.start_ready(config)
    ready = worker.wait_event("BROKER-READY")
    expect_match("what it says", "from its file", ready["msg"])
    bench.broker = "grpc://127.0.0.1:%d" % ready["port"]
    worker.signal(20)  # TSTP: takes no more work
    bench.cli("enqueue", "work", "-", data="kept")
    worker.kill()
    expect_match("a second broker on the file of a first", "in use by another process",
                 twice(bench, path))
    bench.broker = None
    worker = bench.start_worker(config, name="worker again")
    bench.wait_until("the message", 20, lambda: bench.listing("done"), lambda names: len(names) == 2)
    worker.stop(30)


def twice(bench, path):
    first = bench.start_broker("--data", path)
    _, err = bench.cli("broker", "--listen", "127.0.0.1:0", "--data", path, status=69)
    first.signal(15)
    first.wait(20, 0)
    return err


@test()
def broker_refuses_a_strange_file(bench):
    bench.write("notes.txt", "shopping list\n" * 20)
    _, err = bench.cli("broker", "--listen", "127.0.0.1:0", "--data", bench.path("notes.txt"), status=69)
    expect_match("the refusal", "notes.txt is no broker file .* was left alone: name another", err)
    expect_equal("the file", bench.read("notes.txt"), b"shopping list\n" * 20)
    _, err = bench.cli("broker", "--data", bench.path("x.db"), "--sync", "sometimes", status=64)
    expect_match("the refusal", '--sync: "sometimes" is not one of "full" or "normal"', err)
