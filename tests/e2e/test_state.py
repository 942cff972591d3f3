# SPDX-License-Identifier: AGPL-3.0-or-later
"""What outlives the process (state_dir): the journal, the crash record, one worker a folder."""
import os
import signal
import socket
import threading

from harness import expect, expect_equal, expect_match
from registry import test


class Relay:
    """Passes bytes between workers and the broker; once `mute`, what workers say is lost."""

    def __init__(self, port):
        self.port, self.mute = port, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "grpc://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            for source, sink, said in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.copy, args=(source, sink, said), daemon=True).start()

    def copy(self, source, sink, said):
        try:
            while data := source.recv(65536):
                if not (said and self.mute):
                    sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


EXEC = """broker = "%(broker)s";
state_dir = "state";
queues = ( { queue = "work"; handler = { plugin = "exec"; command = [ "%(command)s" ]; }; concurrency = 8;
  visibility_timeout = "2s"; } );
"""


@test(seconds=60)
def journal_outlives_kill9(bench):
    """What was finished, and its ack lost with the process, is acked on sight and not run again."""
    bench.start_broker()
    bench.create_queue("work", "5s")
    relay = Relay(int(bench.broker.rsplit(":", 1)[1]))
    bench.cleanups.append(relay.listener.close)
    os.mkdir(bench.path("runs"))
    command = bench.script("count.sh", 'while [ ! -e go ]; do sleep 0.02; done\n: > "runs/$FILA_MESSAGE_ID.$$"')
    config = EXEC.replace("2s", "5s") % {"broker": bench.broker, "command": command}
    first = bench.start_ready(config, FILA_WORKER_BROKER=relay.url)
    expect_equal("journal of the first", first.wait_event("JOURNAL-READY")["messages"], 0)
    bench.enqueue_lines("work", ["m%d" % i for i in range(8)])
    bench.wait_stats("work", in_flight=8)
    relay.mute = True
    bench.write("go", "")
    bench.wait_files("runs", 8)
    journal = bench.path("state/journal")
    bench.wait_until("8 messages in the journal", 20, lambda: os.path.getsize(journal), lambda size: size >= 36 + 8 * 72)
    first.signal(signal.SIGKILL)
    first.wait(5, -signal.SIGKILL)
    relay.mute = False
    expect_equal("depth after the kill", bench.stats("work")["in_flight"], 8)

    second = bench.start_ready(config)
    expect_equal("journal of the second", second.wait_event("JOURNAL-READY")["messages"], 8)
    bench.wait_stats("work", depth=0, in_flight=0)
    account = second.stop()
    expect_equal("runs", len(bench.listing("runs")), 8)
    expect_equal("acked by the second", account["acked"], 8)
    third = bench.start_ready(config)
    expect_equal("journal of the third", third.wait_event("JOURNAL-READY")["messages"], 0)
    third.stop()


CRASH = """broker = "%(broker)s";
state_dir = "state";
queues = ( { queue = "work"; handler = { plugin = "%(build)s/tests/e2e/plugins/verdicts.so"; }; concurrency = 4;
  visibility_timeout = "1s"; } );
"""


@test(seconds=90)
def crashing_message_is_quarantined(bench):
    """It takes down three processes, alone the last two times; then it is dead. Its neighbours are done."""
    bench.start_broker()
    bench.create_queue("work", "1s")
    bench.enqueue_lines("work", ["ack"] * 10 + ["crash"] + ["ack"] * 10)
    config = CRASH % {"broker": bench.broker, "build": bench.build}
    for death in range(3):
        worker = bench.start_worker(config)
        worker.signalled = True  # its end is expected
        worker.wait(30, -signal.SIGABRT)
        if death > 0:
            suspects = worker.events("CRASH-SUSPECTS")
            expect_equal("lines about suspects", len(suspects), 1)
            expect(suspects[0]["suspects"] >= 1, "no suspect after a crash: %r", suspects[0])
            expect_equal("quarantined so far", suspects[0]["quarantined"], 0)
    worker = bench.start_ready(config)
    told = worker.wait_event("CRASH-SUSPECT", crashes=2)
    dead = worker.wait_event("MESSAGE-DEAD", seconds=20)
    expect_equal("cause of the dead letter", (dead["cause"], dead["message_id"]), ("poison", told["message_id"]))
    bench.wait_stats("work", depth=0, in_flight=0)  # so the neighbours are all acked
    account = worker.stop()
    expect_equal("dead-lettered", account["dead_lettered"], 1)
    shown = bench.json_lines("dlq", "show", "work")
    expect_equal("dead letters", len(shown), 1)
    expect_match("the dead letter", "poison", repr(shown[0]))
    last = bench.start_ready(config)
    expect_equal("suspects in the end", last.events("CRASH-SUSPECTS"), [])
    last.stop()


@test(seconds=90)
def a_drain_clears_no_suspect(bench):
    """A suspect that a drain stops is run alone again; one that comes to its end is none any more."""
    bench.start_broker()
    bench.create_queue("work", "10s")
    os.mkdir(bench.path("runs"))
    command = bench.script("hang.sh", ': > "runs/$$"\n[ -e go ] || exec sleep 100')
    config = EXEC.replace('"2s"', '"10s"; timeout = "7s"') % {"broker": bench.broker, "command": command}
    config += 'drain_timeout = "3s";\n'
    bench.enqueue_lines("work", ["the one"])
    first = bench.start_ready(config)
    bench.wait_files("runs", 1)
    first.signal(signal.SIGKILL)
    first.wait(5, -signal.SIGKILL)
    second = bench.start_ready(config)
    expect_equal("suspects after the kill", second.wait_event("CRASH-SUSPECTS")["suspects"], 1)
    bench.wait_files("runs", 2, seconds=30)  # its lease is over
    second.signal(signal.SIGTERM)
    second.wait(12)
    bench.write("go", "")
    third = bench.start_ready(config)
    expect_equal("suspects after the drain", third.wait_event("CRASH-SUSPECTS")["suspects"], 1)
    bench.wait_stats("work", depth=0, in_flight=0)
    expect_equal("acked by the third", third.stop()["acked"], 1)
    last = bench.start_ready(config)
    expect_equal("suspects in the end", last.events("CRASH-SUSPECTS"), [])
    last.stop()


@test(seconds=30)
def one_worker_a_state_dir(bench):
    bench.start_broker()
    bench.create_queue("work")
    bench.write("ok.sh", "#!/bin/sh\n", 0o755)
    config = EXEC.replace("2s", "30s") % {"broker": bench.broker, "command": "./ok.sh"}
    first = bench.start_ready(config)
    second = bench.start_worker(config, name="second")
    second.signalled = True
    second.wait(15, 78)
    refused = second.events("CONFIG-INVALID", key="state_dir")
    expect_equal("refusals", [e["msg"] for e in refused],
                 ['"state" is in use by another fila-worker (process %d): each worker needs a state_dir of its own'
                  % first.pid])
    first.stop()
    third = bench.start_ready(config)
    third.stop()
    off = bench.start_ready(config.replace('state_dir = "state";\n', ""))
    off.wait_event("STATE-OFF")
    off.stop()


@test(seconds=60)
def max_running_over_all_queues(bench):
    """Two queues with four slots each, and never more than two runs; both get their turn."""
    bench.start_broker()
    for folder in ("running", "seen"):
        os.mkdir(bench.path(folder))
    command = bench.script("count.sh", ': > "running/$$"\nls running | wc -l > "seen/$FILA_QUEUE.$FILA_MESSAGE_ID"\n'
                                       'sleep 0.02\nrm "running/$$"')
    queue = '{ queue = "%s"; handler = { plugin = "exec"; command = [ "%s" ]; }; concurrency = 4; }'
    for name in ("one", "two"):
        bench.create_queue(name)
        bench.enqueue_lines(name, ["m%d" % i for i in range(20)])
    worker = bench.start_worker('broker = "%s";\nmax_running = 2;\nqueues = ( %s, %s );\n'
                                % (bench.broker, queue % ("one", command), queue % ("two", command)))
    bench.wait_files("seen", 40)
    for name in ("one", "two"):
        bench.wait_stats(name, depth=0, in_flight=0)
    account = worker.stop()
    done = [e["queue"] for e in worker.events("MESSAGE-DONE")]
    expect_equal("acked", account["acked"], 40)
    counts = {int(bench.read(os.path.join("seen", f))) for f in bench.listing("seen")}
    expect(max(counts) <= 2, "runs at once: %r", counts)
    expect(5 <= done[:20].count("one") <= 15, "of the first 20 done, %d are of one queue", done[:20].count("one"))
