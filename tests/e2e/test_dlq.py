# SPDX-License-Identifier: AGPL-3.0-or-later
"""`fila-worker dlq` of the real binary: choosing, looking, putting back, taking out and putting in."""
import json
import signal
import subprocess

from harness import SLOW, Child, expect, expect_equal, expect_match
from registry import test

CAUSE = "x-fila-dead-letter-cause"


def fill(bench, copies=(), moved=()):
    """Dead letters of "work": copies as a worker makes them (payload, cause, header k), and plain ones."""
    bench.create_queue("work")
    for payload, cause, k in copies:
        bench.cli("enqueue", "work.dlq", "--header", "%s=%s" % (CAUSE, cause), "--header", "k=%s" % k, data=payload)
    for payload in moved:
        bench.cli("enqueue", "work.dlq", data=payload)


def exported(bench, queue="work", *options):
    out, _ = bench.cli("dlq", "export", queue, *options)
    return [json.loads(line) for line in out.splitlines()]


def payloads(bench, queue):
    return sorted(line["payload"] for line in exported(bench, queue))


THREE = (("a", "timeout", "1"), ("b", "crash", "1"), ("c", "timeout", "2"))


@test()
def dlq_chooses_by_cause_and_header(bench):
    bench.start_broker()
    fill(bench, THREE, ["d"])
    shown = bench.json_lines("dlq", "show", "work", "--cause", "timeout")
    expect_equal("by cause", [s["payload"] for s in shown], ["a", "c"])
    shown = bench.json_lines("dlq", "show", "work", "--cause", "timeout", "--header", "k=2")
    expect_equal("by both", [s["payload"] for s in shown], ["c"])
    out, _ = bench.cli("dlq", "show", "work", "--cause", "broker", "--hex")
    expect_match("moved by the broker", r"payload \(1 bytes\):\n    000000  64\n1 of 4 dead letters", out)
    bench.cli("dlq", "show", "work", "--limit", "1")
    expect_equal("leased after looking, at all and at one of four", bench.stats("work.dlq")["in_flight"], 0)
    out = bench.json("dlq", "redrive", "work", "--cause", "timeout", "--dry-run")
    expect_equal("dry run", (out["redriven"], out["chosen"], out["waiting"], out["dry_run"]), (0, 2, 4, True))
    expect_equal("all are still there", bench.stats("work.dlq")["depth"], 4)
    out = bench.json("dlq", "redrive", "work", "--cause", "timeout", "--limit", "1")
    expect_equal("one of them", (out["redriven"], out["chosen"]), (1, 1))
    out = bench.json("dlq", "redrive", "work", "--cause", "broker")
    expect_equal("of the broker's, chosen", (out["redriven"], out["chosen"]), (1, 1))
    expect_equal("the rest stayed", bench.stats("work.dlq")["depth"], 2)
    bench.json("dlq", "redrive", "work")
    expect_equal("now all went", (bench.stats("work.dlq")["depth"], bench.stats("work")["depth"]), (0, 4))


@test()
def dlq_export_and_import_are_a_round_trip(bench):
    bench.start_broker()
    binary = bytes(range(256)) * 3
    fill(bench, THREE, [binary, "n\0l \u00e4"])
    before = exported(bench)
    expect_equal("lines", len(before), 5)
    expect_equal("binary", bytes.fromhex(before[3]["payload_hex"]), binary)
    expect_equal("a zero in a text", before[4]["payload"], "n\0l \u00e4")
    expect_equal("headers", before[0]["headers"], {CAUSE: "timeout", "k": "1"})
    out, err = bench.cli("dlq", "export", "work", "--take", "--out", "letters")
    expect_equal("said", err, '5 of 5 dead letters of "work" taken out\n')
    expect_equal("gone", bench.stats("work.dlq")["depth"], 0)
    _, err = bench.cli("dlq", "export", "work", "--out", "letters", status=1)
    expect_match("not overwritten", r"letters: it is there already, and is not overwritten", err)
    _, err = bench.cli("dlq", "import", "work", "letters")
    expect_equal("said", err, '5 imported into "work.dlq"\n')
    after = exported(bench)
    for line in before + after:
        del line["id"], line["attempt_count"]
    expect_equal("the same but for their ids", after, before)


@test()
def dlq_import_says_which_line_is_wrong(bench):
    bench.start_broker()
    fill(bench)
    rows = (
        ("{", r"line 2: no JSON: "),
        ("[]", r"line 2: it is no object"),
        ('{"headers": {}}', r"line 2: it must have either payload or payload_hex"),
        ('{"payload": "x", "payload_hex": "00"}', r"line 2: it must have either payload or payload_hex"),
        ('{"payload": 7}', r"line 2: payload is no string"),
        ('{"payload_hex": "0"}', r"line 2: payload_hex is no string of pairs of digits"),
        ('{"payload_hex": "0g"}', r"line 2: payload_hex has something else than hexadecimal digits"),
        ('{"payload": "x", "payload_bytes": 9}', r"line 2: payload_bytes is not the payload's length"),
        ('{"payload": "x", "headers": 1}', r"line 2: headers is no object"),
        ('{"payload": "x", "headers": {"k": 1}}', r"line 2: a header's value is no string"),
    )
    for text, why in rows:
        _, err = bench.cli("dlq", "import", "work", "-", data='{"payload": "good"}\n%s\n' % text, status=1)
        expect_match(text, why, err)
        expect_match(text, r'\n1 imported into "work\.dlq"\nfila-worker dlq: go on with --from-line 2\n$', err)
    expect_equal("the good ones", payloads(bench, "work"), ["good"] * len(rows))
    _, err = bench.cli("dlq", "import", "work", "--from-line", "2", data='{"payload": "x"}\n\n{"payload": "y"}\n')
    expect_equal("from the second line", err, '1 imported into "work.dlq"\n')


@test()
def dlq_redrive_interrupted_loses_nothing(bench):
    """Stopped in the middle: each message is in one of the two queues."""
    bench.start_broker()
    bench.create_queue("work")
    lines = "".join('{"payload": "m%d", "headers": {"%s": "retry"}}\n' % (i, CAUSE) for i in range(3000))
    bench.cli("dlq", "import", "work", data=lines)
    redrive = subprocess.Popen([bench.worker_path, "dlq", "redrive", "work", "--json"], cwd=bench.folder,
                               env=bench.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    bench.wait_until("some to be back", 20, lambda: bench.stats("work")["depth"], lambda depth: depth > 20)
    redrive.send_signal(signal.SIGINT)
    out, err = redrive.communicate(timeout=60 * SLOW)
    done = json.loads(out)["redriven"]
    if redrive.returncode == 0:
        expect_equal("it was faster than the signal", done, 3000)
    else:
        expect_match("said", r"fila-worker dlq: interrupted\n$", err)
    expect_equal("put back", bench.stats("work")["depth"], done)
    expect_equal("left", bench.stats("work.dlq")["depth"], 3000 - done)


@test()
def dlq_redrive_killed_loses_nothing(bench):
    """Killed at its worst moment, a message being put back and not yet taken out: that one is in both queues, no other, and none is
    in neither. The next one does the rest."""
    bench.start_broker("--chaos", "ack/work.dlq.dlq:hang@40")
    bench.create_queue("work.dlq")  # the parent, which has a name that `dlq` can read too
    bench.create_queue("work.dlq.dlq", "1s")
    lines = "".join('{"payload": "m%d", "headers": {"%s": "retry"}}\n' % (i, CAUSE) for i in range(120))
    bench.cli("dlq", "import", "work.dlq.dlq", data=lines)
    redrive = bench.spawn(Child, "redrive", ["dlq", "redrive", "work.dlq.dlq"], wrap=False)
    bench.wait_stats("work.dlq", depth=40)
    redrive.signal(signal.SIGKILL)
    redrive.wait(10)
    bench.wait_stats("work.dlq.dlq", depth=81, in_flight=0)
    back, left = (payloads(bench, queue) for queue in ("work.dlq", "work.dlq.dlq"))
    every = ["m%d" % i for i in range(120)]
    expect_equal("lost", sorted(set(every) - set(back) - set(left)), [])
    expect_equal("twice", len(back) + len(left) - 120, 1)
    expect_equal("in both", sorted(set(back) & set(left)), ["m39"])
    bench.cli("dlq", "redrive", "work.dlq.dlq")
    expect_equal("put back in the end", payloads(bench, "work.dlq"), sorted(every + ["m39"]))
    expect_equal("left in the end", bench.stats("work.dlq.dlq")["depth"], 0)


@test()
def dlq_export_killed_loses_nothing(bench):
    """What is taken out is on disk first."""
    bench.start_broker("--chaos", "ack/work.dlq:hang@10")
    bench.create_queue("work")
    bench.cli("queue", "delete", "work.dlq")
    bench.create_queue("work.dlq", "1s")
    bench.cli("dlq", "import", "work", data="".join('{"payload": "m%d"}\n' % i for i in range(30)))
    export = bench.spawn(Child, "export", ["dlq", "export", "work", "--take", "--out", "letters"], wrap=False)
    bench.wait_stats("work.dlq", depth=21)
    export.signal(signal.SIGKILL)
    export.wait(10)
    written = [json.loads(line)["payload"] for line in bench.read("letters").decode().splitlines()]
    bench.wait_stats("work.dlq", depth=21, in_flight=0)
    left = payloads(bench, "work")
    expect_equal("lost", sorted({"m%d" % i for i in range(30)} - set(written) - set(left)), [])


@test()
def dlq_takes_only_what_a_verb_means(bench):
    rows = (
        (("redrive", "q", "--payload", "3"), "redrive takes no --payload"),
        (("show", "q", "--take"), "show takes no --take"),
        (("ls", "q"), "ls takes no arguments"),
        (("import", "q", "f", "g"), "import takes the name of one queue, and a file"),
        (("export",), "export takes the name of one queue"),
        (("show", "q", "--header", "k"), '--header "k" is not NAME=VALUE'),
        (("shwo", "q"), '"shwo" is none of: ls, show, redrive, export, import'),
    )
    for words, why in rows:
        _, err = bench.cli("dlq", *words, status=64)
        expect("%s: %s" % (words, err), ("fila-worker dlq: " + why) in err)
