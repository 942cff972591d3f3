# SPDX-License-Identifier: AGPL-3.0-or-later
"""`fila-worker broker`: its config file, its data, chaos; and the `queue` verbs that only a broker can answer."""
import json
import os
import pty
import re
import signal
import subprocess
import time

from harness import HERE, Child, expect, expect_equal, expect_match
from registry import test

SAMPLE = os.path.join(os.path.dirname(os.path.dirname(HERE)), "config", "on_failure.lua")
ALWAYS_FAILS = """
broker = "%(broker)s";
http = { listen = ""; };
queues = ( { queue = "work"; handler = { plugin = "exec"; command = [ "%(command)s" ]; };
             retry = { first = "10ms"; }; dead_letter = "broker"; visibility_timeout = "10s";
             missing_queue = "create"; on_failure_script = "${file:%(script)s}"; } );
"""


@test()
def broker_reads_its_config_file(bench):
    bench.write("broker.cfg", 'listen = "127.0.0.1:0";\nquantum = 7;\nlog = { level = "warn"; format = "json"; };\n')
    broker = bench.start_broker("--config", bench.path("broker.cfg"))
    bench.create_queue("q")
    expect_equal("quantum", bench.json("queue", "stats", "q")["quantum"], 7)
    broker.signal(signal.SIGTERM)
    broker.wait(10, 0)
    expect_equal("nothing below warn is logged", broker.err.text(), "")
    broker = bench.start_broker("--config", bench.path("broker.cfg"), "--quantum", "9")
    bench.create_queue("q")
    expect_equal("the option comes first", bench.json("queue", "stats", "q")["quantum"], 9)


@test()
def broker_data_dir_keeps_queues_scripts_and_messages(bench):
    bench.write("f.lua", 'function on_failure(msg) return { action = "dlq" } end')
    bench.write("e.lua", 'function on_enqueue(msg) return { fairness_key = "k" .. msg.payload_size } end')
    broker = bench.start_broker(FILA_DATA_DIR=bench.path("data"))
    bench.cli("queue", "create", "q", "--on-failure", bench.path("f.lua"), "--on-enqueue", bench.path("e.lua"))
    bench.cli("enqueue", "q", data="abc")
    broker.kill()
    expect("broker.db" in os.listdir(bench.path("data")), "no file in the data folder")
    bench.start_broker(FILA_DATA_DIR=bench.path("data"))
    bench.cli("enqueue", "q", data="abcdef")
    keys = bench.json("queue", "stats", "q")["keys"]
    expect_equal("keys of the scripts", sorted(k["key"] for k in keys), ["k3", "k6"])


BAD = (
    ("option", ("--quantum", "0"), None, 64, ("command line: error: --quantum: 0 is out of range: 1 to 1000000000",)),
    ("chaos", ("--chaos", "ack:eror=13"), None, 64,
     ("--chaos: at character 5: no such fault; there are: error, lose", "    ack:eror=13\n        ^")),
    ("unknown_key", (), "listen = \"127.0.0.1:0\";\nquantm = 5;\n", 78,
     ('broker.cfg:2: error: quantm: unknown key; did you mean "quantum"?',)),
    ("no_unit", (), "idle_timeout = 100;\n", 78, ("broker.cfg:1: error: idle_timeout: 100 has no unit",)),
    ("chaos_in_file", (), 'chaos = "consume:late";\n', 78,
     ("broker.cfg:1: error: chaos: at character 13: late needs a time",)),
    ("workers_key", (), 'queues = ( );\n', 78, ("broker.cfg:1: error: queues: unknown key",)),
    ("no_file", ("--config", "none.cfg"), None, 78, ("none.cfg: error: cannot read it: No such file",)),
    ("address", ("--listen", "256.0.0.1:1"), None, 69, ("256.0.0.1:1",)),
    ("folder", ("--data", "/nowhere/at/all.db"), None, 69, ("/nowhere/at/all.db",)),
)


@test()
def broker_refuses_what_it_cannot_use(bench):
    for name, arguments, text, status, wanted in BAD:
        more = ()
        if text is not None:
            bench.write("broker.cfg", text)
            more = ("--config", bench.path("broker.cfg"))
        _, err = bench.cli("broker", "--listen", "127.0.0.1:0", *arguments, *more, status=status)
        for part in wanted:
            expect(part in err, "%s: %r is not in:\n%s", name, part, err)


@test()
def chaos_answers_and_crashes_as_told(bench):
    data = bench.path("broker.db")
    broker = bench.start_broker("--data", data, "--chaos", "enqueue/q:error=internal@2; enqueue:crash-after@4; seed=5")
    expect_equal("seed", broker.wait_line(broker.err, r'"BROKER-CHAOS".*"seed":"(\d+)"', 15).group(1), "5")
    bench.create_queue("q")
    bench.cli("enqueue", "q", data="one")
    _, err = bench.cli("enqueue", "q", data="refused", status=1)
    expect_match("why", "scripted fault", err)
    bench.cli("enqueue", "q", data="three")
    bench.cli("enqueue", "q", data="done, and nobody is told", status=69)
    expect_equal("killed", broker.wait(10), -signal.SIGKILL)
    bench.start_broker("--data", data)
    expect_equal("depth", bench.stats("q")["depth"], 3)


@test()
def chaos_stalls_every_connection_and_goes_on(bench):
    bench.start_broker("--chaos", "stats:stall=1s@1")
    bench.create_queue("q")
    began = time.monotonic()
    stalled = bench.spawn(Child, "stalled", ["queue", "stats", "q", "--json"], wrap=False)
    stalled.wait(20, 0)
    expect(time.monotonic() - began >= 1, "it took only %g s", time.monotonic() - began)
    expect_equal("depth", json.loads(stalled.out.text())["depth"], 0)
    expect_equal("afterwards", bench.stats("q")["depth"], 0)


@test()
def queue_config_verbs(bench):
    bench.start_broker()
    out, _ = bench.cli("queue", "config", "set", "throttle.api", "5,10")
    expect_equal("set", out, "set\n")
    bench.cli("queue", "config", "set", "weight:acme", "3")
    out, _ = bench.cli("queue", "config", "get", "weight:acme")
    expect_equal("get", out, "3\n")
    out, _ = bench.cli("queue", "config", "ls")
    expect_equal("ls", out, "throttle.api = 5,10\nweight:acme = 3\n")
    expect_equal("ls PREFIX", bench.json("queue", "config", "ls", "thr"), [{"key": "throttle.api", "value": "5,10"}])
    out, _ = bench.cli("queue", "config", "set", "weight:acme", "")
    expect_equal("removed", out, "removed\n")
    out, err = bench.cli("queue", "config", "get", "weight:acme", status=1)
    expect_equal("nothing", (out, err), ("", 'fila-worker queue: "weight:acme" is not set\n'))
    out, _ = bench.cli("queue", "config", "get", "weight:acme", "--json", status=1)
    expect_equal("null", json.loads(out), {"key": "weight:acme", "value": None})
    _, err = bench.cli("queue", "config", "set", "throttle.api", "many", status=1)
    expect_match("why", 'a throttle\'s value must be "<rate per second>,<burst>"', err)
    for words, text in ((("config", "put"), "none of: ls, get, set"), (("config", "get"), "config get takes a key"),
                        (("config",), "config takes ls \\[PREFIX\\], get KEY or set KEY VALUE")):
        _, err = bench.cli("queue", *words, status=64)
        expect_match("usage", text, err)
    bench.create_queue("q")
    throttles = bench.json("queue", "stats", "q")["throttles"]
    expect_equal("throttles", throttles, [{"name": "api", "tokens": 10.0, "rate_per_second": 5.0, "burst": 10.0}])


@test()
def queue_create_says_where_a_script_is_wrong(bench):
    bench.start_broker()
    bench.write("bad.lua", "function on_failure(msg)\n  return {\nend\n")
    _, err = bench.cli("queue", "create", "q", "--on-failure", bench.path("bad.lua"), status=1)
    expect_match("why", r'\[string "on_failure"\]:3: .*near \'end\'', err)
    out, _ = bench.cli("queue", "ls", "--json")
    expect_equal("no queue", json.loads(out), [])


@test()
def queue_stats_watch(bench):
    bench.start_broker()
    bench.create_queue("q")
    bench.enqueue_lines("q", ["a", "b"])
    watch = ("queue", "stats", "q", "--watch", "--interval", "20ms", "--count", "3")
    out, _ = bench.cli(*watch)
    lines = out.splitlines()
    expect_equal("header", lines[0].split(), ["TIME", "DEPTH", "IN", "FLIGHT", "CONSUMERS", "KEYS"])
    expect_equal("lines", [line.split()[1:] for line in lines[1:]], [["2", "0", "0", "1"]] * 3)
    expect_equal("json", [row["depth"] for row in bench.json_lines(*watch)], [2, 2, 2])
    master, slave = pty.openpty()
    subprocess.run([bench.worker_path, *watch], stdout=slave, env=bench.environment(), timeout=60, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    expect_equal("redrawn", shown.count("\033[H\033[J"), 3)
    expect(re.search(r"depth +2 \(waiting", shown), "no depth in:\n%s", shown)


@test()
def the_sample_on_failure_script_dead_letters(bench):
    bench.start_broker()
    command = bench.script("fail.sh", "exit 75")
    worker = bench.start_worker(ALWAYS_FAILS % {"broker": bench.broker, "command": command, "script": SAMPLE})
    created = worker.wait_event("QUEUE-CREATED")
    expect_equal("queue", created["queue"], "work")
    bench.cli("queue", "config", "set", "attempts:work", "2")
    bench.enqueue_lines("work", ["never works"])
    bench.wait_stats("work.dlq", depth=1)
    worker.wait_event("MESSAGE-FAILED", count=2)
    expect_equal("tries", len(worker.events("MESSAGE-FAILED")), 2)
