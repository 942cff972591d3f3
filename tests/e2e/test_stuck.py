# SPDX-License-Identifier: AGPL-3.0-or-later
"""isolation = "threads": handlers that do not return, and what the worker does without being able to end them."""
import os

from harness import expect, expect_equal, expect_match
from registry import test
from test_ops import Port
from test_process import put_plugin

CONFIG = """broker = "%s";
queues = ( { queue = "work"; handler = { plugin = "%s"; }; concurrency = 2; timeout = "500ms"; stuck_limit = 1;
  retry = { attempts = 1; }; visibility_timeout = "30s"; } );
"""


def threads_of(worker):
    """How many threads of that queue there are."""
    names = []
    for task in os.listdir("/proc/%d/task" % worker.pid):
        with open("/proc/%d/task/%s/comm" % (worker.pid, task)) as f:
            names.append(f.read().strip())
    return names.count("fw:work")


@test()
def stuck_handlers(bench):
    """Their messages are given up, spare threads handle the others, /livez asks for a restart past stuck_limit; what
    returns after all is welcome. A file is loaded once: another in its place has to wait for a reload."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(CONFIG % (bench.broker, put_plugin(bench, "one")), FILA_WORKER_HTTP_LISTEN="127.0.0.1:0")
    port = Port(worker)
    expect_equal("/livez", port.get("/livez")[0], 200)
    expect_equal("threads", threads_of(worker), 2)
    gates = [bench.path("gate-%d" % i) for i in range(2)]
    bench.enqueue_lines("work", ["wait " + gate for gate in gates])
    worker.wait_event("HANDLER-STUCK", count=2, seconds=30)
    bench.enqueue_lines("work", ["ok"] * 4)
    bench.wait_stats("work", depth=0, in_flight=0)
    expect_equal("threads, the stuck ones too", threads_of(worker), 4)
    code, _, text = port.get("/livez")
    expect_equal("/livez (%s)" % text, code, 503)
    expect_match("why", "handler_stuck for .*2 did not return; stuck_limit is 1 .*HANDLER-STUCK", text)
    os.remove(gates[0])
    bench.wait_until("/livez to be well with one", 20, lambda: port.get("/livez")[0], lambda code: code == 200)
    os.remove(gates[1])
    bench.wait_until("none to be stuck", 20, port.status, lambda s: s["queues"][0]["stuck_handlers"] == 0)
    put_plugin(bench, "two")
    mark = worker.mark()
    bench.enqueue_lines("work", ["build"])
    expect_equal("what runs", worker.wait_event("MESSAGE-DEAD", since=mark)["error"], "build one")
    account = worker.stop()
    expect_equal("account", (account["acked"], account["dead_lettered"]), (4, 3))
    expect(all("no verdict by its deadline" in e["error"] for e in worker.events("MESSAGE-DEAD")[:2]),
           "%r", worker.events("MESSAGE-DEAD"))
