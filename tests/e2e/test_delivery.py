# SPDX-License-Identifier: AGPL-3.0-or-later
"""What becomes of messages: handled, retried, dead-lettered, by exec commands and by plugins."""
import os

from harness import expect, expect_equal, expect_match
from registry import test

EXEC = """broker = "%(broker)s";
queues = ( {
  queue = "work";
  handler = { plugin = "exec"; command = [ "%(command)s" ]; };
  concurrency = 4;
  retry = { attempts = %(attempts)d; first = "%(first)s"; max = "1s"; };
  visibility_timeout = "%(vt)s";
} );
"""


def exec_config(bench, command, attempts=5, first="50ms", vt="30s"):
    return EXEC % {"broker": bench.broker, "command": command, "attempts": attempts, "first": first, "vt": vt}


def keep_payload(bench, before=""):
    """A command that writes its input to done/MESSAGE-ID."""
    os.mkdir(bench.path("done"))
    return bench.script("keep.sh", before + '\ncat > "tmp.$FILA_MESSAGE_ID" && mv "tmp.$FILA_MESSAGE_ID" "done/$FILA_MESSAGE_ID"')


def contents(bench, folder="done"):
    return sorted(bench.read(os.path.join(folder, name)) for name in bench.listing(folder))


@test()
def two_line_config(bench):
    bench.start_broker()
    bench.create_queue("thumbnails")
    bench.enqueue_lines("thumbnails", ["a", "b", "c"])
    keep_payload(bench)
    config = ('broker = "%s";\nqueues = ( { queue = "thumbnails"; handler = { plugin = "exec"; '
              'command = [ "./keep.sh" ]; }; } );\n' % bench.broker)
    expect_equal("lines of the config", config.count("\n"), 2)
    worker = bench.start_worker(config)
    bench.wait_files("done", 3)
    bench.wait_stats("thumbnails", depth=0)
    expect_equal("acked", worker.stop()["acked"], 3)
    expect_equal("payloads", contents(bench), [b"a", b"b", b"c"])


@test(real_server=True)
def consume_ack(bench):
    bench.create_queue("work")
    lines = ["message %d" % i for i in range(200)]
    bench.enqueue_lines("work", lines)
    worker = bench.start_worker(exec_config(bench, keep_payload(bench)))
    bench.wait_files("done", 200)
    bench.wait_stats("work", depth=0, in_flight=0)
    account = worker.stop()
    expect_equal("account", (account["received"], account["acked"]), (200, 200))
    expect_equal("payloads", contents(bench), sorted(line.encode() for line in lines))


@test(real_server=True)
def exec_environment(bench):
    bench.create_queue("work")
    bench.cli("enqueue", "work", "--header", "Content-Type=text/plain", "--header", "x.y=1", "-", data="hello")
    command = bench.script("env.sh", "cat > in.txt; env > env.tmp; mv env.tmp env.txt")
    worker = bench.start_worker(exec_config(bench, command), FILA_API_KEY="hidden-key", PASSED="through")
    worker.wait_event("MESSAGE-DONE")
    seen = dict(line.split("=", 1) for line in bench.read("env.txt").decode().splitlines() if "=" in line)
    expect_equal("input", bench.read("in.txt"), b"hello")
    for name, value in (("FILA_QUEUE", "work"), ("FILA_ATTEMPT", "1"), ("FILA_FAIRNESS_KEY", "default"),
                        ("FILA_HEADER_CONTENT_TYPE", "text/plain"), ("FILA_HEADER_X_Y", "1"), ("PASSED", "through")):
        expect_equal(name, seen.get(name), value)
    expect_match("FILA_MESSAGE_ID", r"^[0-9a-f]{8}-[0-9a-f]{4}-7", seen.get("FILA_MESSAGE_ID", ""))
    expect(0 < int(seen["FILA_DEADLINE_MS"]) <= 15000, "FILA_DEADLINE_MS is %s", seen["FILA_DEADLINE_MS"])
    expect("hidden-key" not in "".join(seen.values()), "the worker's API key was passed on")
    worker.stop()


@test(real_server=True)
def retry_then_success(bench):
    bench.create_queue("work")
    bench.cli("enqueue", "work", "--header", "x.y=1", "-", data="third time lucky")
    command = keep_payload(bench, '[ "$FILA_ATTEMPT$FILA_HEADER_X_Y" = 31 ] || { echo "not yet: $FILA_ATTEMPT" >&2; exit 75; }')
    worker = bench.start_worker(exec_config(bench, command))
    bench.wait_files("done", 1)
    bench.wait_stats("work", depth=0)
    worker.wait_event("MESSAGE-FAILED", count=2)
    failed = worker.events("MESSAGE-FAILED")
    expect_equal("attempts that failed", [e.get("attempt") for e in failed], [1, 2])
    expect_match("reason", "not yet: 1", failed[0].get("error", ""))
    expect_equal("acked", worker.stop()["acked"], 1)
    expect_equal("payloads", contents(bench), [b"third time lucky"])
    expect_equal("dead letters", bench.stats("work.dlq")["depth"], 0)


def dead_letter(bench, queue="work"):
    """The one dead letter of a queue, as `dlq show` tells it."""
    letters = bench.json_lines("dlq", "show", queue)
    expect_equal("dead letters", len(letters), 1)
    return letters[0]


@test(real_server=True)
def dead_letter_after_attempts(bench):
    bench.create_queue("work")
    bench.cli("enqueue", "work", "--header", "kept=yes", "-", data=b"\x00\xffpayload")
    command = bench.script("fail.sh", 'cat >/dev/null; echo "no good at $FILA_ATTEMPT" >&2; exit 75')
    worker = bench.start_worker(exec_config(bench, command, attempts=3))
    dead = worker.wait_event("MESSAGE-DEAD")
    bench.wait_stats("work", depth=0)
    account = worker.stop()
    expect_equal("account", (account["received"], account["dead_lettered"]), (1, 1))
    expect_equal("tries that failed and were followed by another", len(worker.events("MESSAGE-FAILED")), 2)
    letter = dead_letter(bench)
    why = letter["dead_letter"]
    expect_match("reason", "no good at 3", why["reason"])
    for name, value in (("cause", "retry"), ("attempts", "3"), ("queue", "work"), ("message-id", dead["message_id"])):
        expect_equal("dead-letter " + name, why[name], value)
    expect_match("time", r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d", why["time"])
    expect_equal("the message's own headers", letter["headers"], {"kept": "yes"})
    expect_equal("payload", letter["payload_hex"], b"\x00\xffpayload".hex())


@test(real_server=True)
def reject_is_no_retry(bench):
    bench.create_queue("work")
    bench.cli("enqueue", "work", "-", data="poison")
    command = bench.script("reject.sh", 'cat >/dev/null; echo ran >> ran.txt; echo "cannot ever work" >&2; exit 65')
    worker = bench.start_worker(exec_config(bench, command))
    worker.wait_event("MESSAGE-DEAD")
    worker.stop()
    expect_equal("runs", bench.read("ran.txt"), b"ran\n")
    why = dead_letter(bench)["dead_letter"]
    expect_equal("cause", why["cause"], "reject")
    expect_equal("attempts", why["attempts"], "1")
    expect_match("reason", "cannot ever work", why["reason"])


@test(real_server=True)
def redrive_puts_it_back(bench):
    bench.create_queue("work")
    bench.cli("enqueue", "work", "--header", "kept=yes", "-", data="again")
    command = keep_payload(bench, '[ -e repaired ] || { echo broken >&2; exit 65; }')
    worker = bench.start_worker(exec_config(bench, command))
    worker.wait_event("MESSAGE-DEAD")
    bench.write("repaired", "")
    bench.cli("dlq", "redrive", "work")
    bench.wait_files("done", 1)
    bench.wait_stats("work", depth=0)
    bench.wait_stats("work.dlq", depth=0)
    account = worker.stop()
    expect_equal("account", (account["acked"], account["dead_lettered"]), (1, 1))
    expect_equal("payloads", contents(bench), [b"again"])


@test(real_server=True)
def unavailable_burns_no_attempt(bench):
    bench.create_queue("work")
    bench.cli("enqueue", "work", "-", data="patient")
    command = keep_payload(bench, 'echo "$FILA_ATTEMPT" >> attempts.txt\n'
                                  '[ "$(wc -l < attempts.txt)" -ge 4 ] || exit 69')
    worker = bench.start_worker(exec_config(bench, command, attempts=2))
    bench.wait_files("done", 1)
    bench.wait_stats("work", depth=0)
    account = worker.stop()
    expect_equal("account", (account["acked"], account["dead_lettered"]), (1, 0))
    expect_equal("attempts seen", bench.read("attempts.txt").split(), [b"1"] * 4)


@test()
def plugin_verdicts(bench):
    """A compiled plugin's five verdicts, and a number that is none."""
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["ack", "retry", "reject", "unavailable", "defer", "nonsense"])
    worker = bench.start_worker("""broker = "%s";
queues = ( { queue = "work"; handler = { plugin = "%s"; greeting = "hi"; }; concurrency = 2;
  retry = { attempts = 2; first = "20ms"; max = "50ms"; }; } );
""" % (bench.broker, plugin(bench, "verdicts")))
    bench.wait_stats("work", depth=0)
    account = worker.stop()
    # unavailable is taken on its second run; retry and nonsense run out of attempts.
    expect_equal("account", (account["received"], account["acked"], account["dead_lettered"]), (6, 3, 3))
    expect_equal("warned about", [e.get("verdict") for e in worker.events("HANDLER-VERDICT")][:1], [42])
    letters = [letter["dead_letter"] for letter in bench.json_lines("dlq", "show", "work")]
    expect_equal("causes", sorted(letter["cause"] for letter in letters), ["reject", "retry", "retry"])
    expect_match("reasons", "hi: rejected", " ".join(letter["reason"] for letter in letters))


def plugin(bench, name):
    return os.path.join(bench.build, "tests", "e2e", "plugins", name + ".so")


@test(real_server=True)
def two_queues_two_handlers(bench):
    for queue in ("left", "right"):
        bench.create_queue(queue)
        bench.enqueue_lines(queue, ["%s %d" % (queue, i) for i in range(40)])
    keep_payload(bench)
    bench.script("left.sh", "exec ./keep.sh")
    worker = bench.start_worker("""broker = "%s";
queues = ( { queue = "left"; handler = { plugin = "exec"; command = [ "./left.sh" ]; }; },
           { queue = "right"; handler = { plugin = "exec"; command = [ "./keep.sh" ]; }; concurrency = 1; } );
""" % bench.broker)
    bench.wait_files("done", 80)
    bench.wait_stats("left", depth=0)
    bench.wait_stats("right", depth=0)
    expect_equal("acked", worker.stop()["acked"], 80)
    expect_equal("payloads", len(set(contents(bench))), 80)


@test()
def embedded_broker_with_a_door(bench):
    """The broker inside the worker, with others enqueueing through its port."""
    keep_payload(bench)
    worker = bench.start_worker("""broker = "embedded:?listen=127.0.0.1:0";
queues = ( { queue = "work"; missing_queue = "create"; handler = { plugin = "exec"; command = [ "./keep.sh" ]; }; } );
""")
    ready = worker.wait_event("BROKER-READY")
    bench.broker = "grpc://127.0.0.1:%d" % ready["port"]
    worker.wait_event("STREAM-OPEN")
    bench.enqueue_lines("work", ["one", "two"])
    bench.wait_files("done", 2)
    bench.wait_stats("work", depth=0)
    expect_equal("acked", worker.stop()["acked"], 2)
