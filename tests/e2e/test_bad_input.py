# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bad input, a row each: what goes in, the exact outcome, and the event that tells the operator.

The rows are in ROWS, at the end; their kinds say how a row is played:

    config   text of a config file          the exit status of `run`
    plugin   a handler group                the exit status of `run`
    broker   what stands at the address     the worker goes on; exit status with --require-broker
    queue    a missing queue, and config    what becomes of the worker
    message  payload and headers            the delivery's outcome
    command  a handler command              the delivery's outcome, and its cause
    cli      arguments and input            the exit status
"""
import contextlib
import os
import socket
import ssl
import struct
import threading

from harness import HERE, Failed, expect, expect_equal, expect_match
from registry import add
from test_delivery import plugin

HANDLER = 'handler = { plugin = "exec"; command = [ "/bin/true" ]; };'
GOOD = 'broker = "grpc://127.0.0.1:1";\nqueues = ( { queue = "q"; %s } );\n' % HANDLER


class Row:
    def __init__(self, kind, name, given, outcome, event=None, text=None, **more):
        self.kind, self.name, self.given, self.outcome = kind, name, given, outcome
        self.event, self.text, self.more = event, text, more


def in_queue(key):
    return GOOD.replace(HANDLER, HANDLER + " " + key)


def whole_text(events):
    return "\n".join(" ".join("%s=%s" % (k, v) for k, v in e.items()) for e in events)


def said(what, patterns, text):
    """Every pattern matches: what is wrong, with the key, the value and the accepted range."""
    for pattern in (patterns,) if isinstance(patterns, str) else patterns or ():
        expect_match(what, pattern, text)


def check_event(row, worker):
    if row.event:
        found = worker.events(row.event)
        expect(found, "no %s; logged: %s", row.event, whole_text(worker.log()))
        said(row.event, row.text, whole_text(found))


# ---- config, plugin: `run` must end at once ----

def play_config(bench, row):
    if row.given is not None:
        bench.write("fila-worker.cfg", row.given)
    elif os.path.exists(bench.path("fila-worker.cfg")):
        os.unlink(bench.path("fila-worker.cfg"))
    worker = bench.start_worker(None, name=row.name, **row.more.get("environment", {}))
    worker.wait(15, row.outcome)
    check_event(row, worker)
    if row.given is not None:  # `check` must say the same
        out, err = bench.cli("check", status=None, **row.more.get("environment", {}))
        expect_equal("exit status of check", bench.status, row.outcome)
        said("check", row.text, out + err)


def play_plugin(bench, row):
    given = row.given(bench) if callable(row.given) else row.given
    play_config(bench, Row("plugin", row.name, GOOD.replace(HANDLER, "handler = { %s };" % given), row.outcome,
                           row.event, row.text))


def descriptor(bench):
    """The test plugin's file, and where its descriptor is in it."""
    with open(plugin(bench, "verdicts"), "rb") as f:
        content = bytearray(f.read())
    at = content.find(struct.pack("<IH", 0x414c4946, 1))
    expect(at > 0, "no descriptor in verdicts.so")
    return content, at


def patched(offset, form, value):
    """A handler whose descriptor has one number changed."""
    def make(bench):
        content, at = descriptor(bench)
        struct.pack_into(form, content, at + offset, value)
        return 'plugin = "%s";' % bench.write("patched.so", bytes(content), 0o755)
    return make


def file_of(content, mode=0o755):
    def make(bench):
        return 'plugin = "%s";' % bench.write("some.so", content(bench) if callable(content) else content, mode)
    return make


def other_machine(bench):
    content, _ = descriptor(bench)
    struct.pack_into("<H", content, 18, 183)  # e_machine: AArch64
    return bytes(content)


# ---- broker: something else answers ----

class Listener:
    """Accepts connections and gives each to `talk` in a thread of its own, until closed."""

    def __init__(self, talk):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.talk = talk
        self.closing = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError), connection:
            self.talk(self, connection)

    def close(self):
        self.closing.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def nothing_there(bench):
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def listening(talk):
    def start(bench):
        listener = Listener(talk)
        bench.cleanups.append(listener.close)
        return listener.port
    return start


def talk_http1(_, connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def talk_tls(_, connection):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(HERE, "data", "localhost.pem"))
    with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secure:
        secure.recv(65536)


def talk_not(listener, connection):
    listener.closing.wait(120)


def talk_noise(_, connection):
    connection.sendall(b"220 mail.example ESMTP\r\n" * 10)
    connection.recv(65536)


def play_broker(bench, row):
    bench.broker = "grpc://127.0.0.1:%d" % row.given(bench)
    config = ('broker = "%s";\nqueues = ( { queue = "q"; handler = { plugin = "%s"; }; } );\n'
              % (bench.broker, plugin(bench, "verdicts")))
    strict = bench.start_worker(config, "--require-broker", name=row.name + " (required)")
    worker = bench.start_worker(None, name=row.name)
    worker.wait_event(row.event, 30)
    check_event(row, worker)
    expect(worker.running(), "the worker gave up")
    expect_equal("received", worker.stop(10)["received"], 0)
    out, err = bench.cli("queue", "ls", status=None, seconds=40)
    expect_equal("exit status of `queue ls`", bench.status, 69)
    expect(err.strip(), "`queue ls` failed without a word")

    def required():
        strict.wait(30, row.outcome)
    return required


# ---- queue: it is not there ----

def play_queue(bench, row):
    name = row.name.replace(" ", "-")
    config = ('broker = "%s";\nqueues = ( { queue = "%s"; missing_queue = "%s"; visibility_timeout = "5s";\n'
              '  handler = { plugin = "%s"; }; } );\n' % (bench.broker, name, row.given, plugin(bench, "verdicts")))
    worker = bench.start_worker(config, name=row.name)
    worker.wait_event(row.event)
    check_event(row, worker)
    if row.outcome != "goes on":
        worker.wait(15, row.outcome)
        return
    if row.given == "wait":
        bench.create_queue(name)
    bench.cli("enqueue", name, "-", data="ack me")
    worker.wait_event("MESSAGE-DONE", 30)
    expect_equal("acked", worker.stop()["acked"], 1)


# ---- message: strange ones, through a plugin that checks what it gets ----

def play_message(bench, row):
    payload, headers = row.given
    bench.create_queue(row.name.replace(" ", "-"))
    queue = row.name.replace(" ", "-")
    arguments = [word for key, value in headers for word in ("--header", "%s=%s" % (key, value))]
    bench.write("payload", payload)
    bench.cli("enqueue", queue, "payload", "--quiet", *arguments)
    worker = bench.start_worker(
        'broker = "%s";\nqueues = ( { queue = "%s"; retry = { attempts = 1; }; handler = { plugin = "%s"; }; } );\n'
        % (bench.broker, queue, plugin(bench, "verdicts")), name=row.name)
    bench.wait_stats(queue, depth=0)
    account = worker.stop()
    expect_equal("account", {k: account[k] for k in ("received", row.outcome)}, {"received": 1, row.outcome: 1})
    check_event(row, worker)
    if row.outcome == "dead_lettered":
        letter, = bench.json_lines("dlq", "show", queue, "--payload", str(len(payload) + 1))
        got = letter["payload"].encode() if "payload" in letter else bytes.fromhex(letter["payload_hex"])
        expect_equal("the dead letter's payload", got, payload)


# ---- command: handlers that misbehave ----

def play_command(bench, row):
    queue = row.name.replace(" ", "-")
    bench.create_queue(queue)
    if isinstance(row.given, str) and row.given.startswith("#!"):
        command = bench.script("handlers/" + queue, row.given[2:])
    elif callable(row.given):
        command = row.given(bench)
    else:
        command = row.given
    bench.write("payload", row.more.get("payload", b"x"))
    bench.cli("enqueue", queue, "payload", "--quiet")
    worker = bench.start_worker(
        'broker = "%s";\nqueues = ( { queue = "%s"; visibility_timeout = "30s"; timeout = "%s";\n'
        '  retry = { attempts = 1; }; handler = { plugin = "exec"; command = [ "%s" ]; }; } );\n'
        % (bench.broker, queue, row.more.get("timeout", "10s"), command), name=row.name)
    if isinstance(row.outcome, int):
        worker.wait(15, row.outcome)
        check_event(row, worker)
        return
    bench.wait_stats(queue, depth=0, seconds=25)
    account = worker.stop()
    expect_equal("account", {k: account[k] for k in ("received", row.outcome)}, {"received": 1, row.outcome: 1})
    check_event(row, worker)
    if "cause" in row.more:
        letter, = bench.json_lines("dlq", "show", queue)
        expect_equal("cause", letter["dead_letter"]["cause"], row.more["cause"])
        expect(len(letter["dead_letter"]["reason"]) <= 1024, "the reason has %d characters",
               len(letter["dead_letter"]["reason"]))
        if "reason" in row.more:
            expect_match("reason", row.more["reason"], letter["dead_letter"]["reason"])
    if "leaves" in row.more:  # whatever the command started must be gone
        pid = int(bench.read(row.more["leaves"]))
        bench.wait_until("process %d to be gone" % pid, 10, lambda: is_running(pid), lambda r: not r)


def is_running(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def not_executable(bench):
    return bench.write("handlers/plain.sh", "#!/bin/sh\nexit 0\n", 0o644)


# ---- cli ----

def play_cli(bench, row):
    arguments, data = row.given
    out, err = bench.cli(*arguments, status=None, data=data)
    expect_equal("exit status of `%s`" % " ".join(arguments)[:80], bench.status, row.outcome)
    said("what it said", row.text, out + err)


PLAY = {"config": play_config, "plugin": play_plugin, "broker": play_broker, "queue": play_queue,
        "message": play_message, "command": play_command, "cli": play_cli}
NEEDS_BROKER = ("queue", "message", "command", "cli")

FOUR_MIB = 4 << 20
MANY_HEADERS = [("h%05d" % i, "v%d" % i) for i in range(10000)]

ROWS = [
    # ---- kind, name, what goes in, exact outcome, event, text
    Row("config", "no file", None, 78, "CONFIG-INVALID", "no config file"),
    Row("config", "empty file", "", 78, "CONFIG-INVALID", ("queues", "no queue to consume")),
    Row("config", "unclosed string", GOOD.replace('"q"', '"q'), 78, "CONFIG-INVALID", ("2", "a quote is missing")),
    Row("config", "text after the end", GOOD + "}", 78, "CONFIG-INVALID", ("3", r"this `\}` closes nothing")),
    Row("config", "trailing comma", GOOD.replace("} );", "}, );"), 78, "CONFIG-INVALID", "remove this comma"),
    Row("config", "byte order mark", b"\xef\xbb\xbf" + GOOD.encode(), 78, "CONFIG-INVALID", "byte-order mark"),
    Row("config", "unknown key", GOOD.replace("broker", "brokr"), 78, "CONFIG-INVALID",
        ("brokr", 'did you mean "broker"')),
    Row("config", "unknown key of a queue", in_queue("concurency = 2;"), 78, "CONFIG-INVALID",
        (r"queues\[0\]\.concurency", 'did you mean "concurrency"')),
    Row("config", "wrong type", in_queue('concurrency = "many";'), 78, "CONFIG-INVALID",
        (r"queues\[0\]\.concurrency", '"many" is not a whole number')),
    Row("config", "out of range", in_queue("streams = 65;"), 78, "CONFIG-INVALID",
        (r"queues\[0\]\.streams", "65 is out of range: 1 to 64")),
    Row("config", "duration without unit", in_queue("visibility_timeout = 30;"), 78, "CONFIG-INVALID",
        (r"queues\[0\]\.visibility_timeout", '30 has no unit: write "30s"')),
    Row("config", "size without unit", in_queue("prefetch_bytes = 1000000;"), 78, "CONFIG-INVALID",
        (r"queues\[0\]\.prefetch_bytes", "1000000 has no unit")),
    Row("config", "unknown choice", in_queue('dead_letter = "trash";'), 78, "CONFIG-INVALID",
        (r"queues\[0\]\.dead_letter", '"trash" is not one of "worker", "broker", "drop" or "none"')),
    Row("config", "timeout over the lease", in_queue('visibility_timeout = "10s"; timeout = "10s";'), 78,
        "CONFIG-INVALID", (r"queues\[0\]\.timeout", r"timeout \(10s\).*less than visibility_timeout \(10s\)")),
    Row("config", "number over 32 bits", in_queue("concurrency = 4294967297;"), 78, "CONFIG-INVALID",
        "4294967297 does not fit 32 bits"),
    Row("config", "unset variable", GOOD.replace("127.0.0.1:1", "${NOT_SET:?give the broker}"), 78, "CONFIG-INVALID",
        "NOT_SET: give the broker"),
    Row("config", "missing secret file", 'api_key = "${file:/nonexistent/key}";\n' + GOOD, 78, "CONFIG-INVALID",
        ("api_key", "cannot read /nonexistent/key")),
    Row("config", "no handler", GOOD.replace(HANDLER, ""), 78, "CONFIG-INVALID",
        (r"queues\[0\]", "`handler` is missing")),
    Row("config", "no plugin", GOOD.replace('plugin = "exec";', ""), 78, "CONFIG-INVALID",
        (r"queues\[0\]\.handler", "plugin is missing")),
    Row("config", "libconfig's own include", '@include "more.cfg"\n' + GOOD, 78, "CONFIG-INVALID", "@include"),
    Row("config", "unknown scheme", GOOD.replace("grpc:", "amqp:"), 78, "CONFIG-INVALID",
        '"amqp://127.0.0.1:1" is no broker'),
    Row("config", "environment out of range", GOOD, 78, "CONFIG-INVALID",
        ("FILA_WORKER_DRAIN_TIMEOUT", '"soon" is not a duration'), environment={"FILA_WORKER_DRAIN_TIMEOUT": "soon"}),

    Row("plugin", "unknown name", 'plugin = "exek";', 66, "PLUGIN-REFUSED", "exek"),
    Row("plugin", "missing file", 'plugin = "./nothing.so";', 66, "PLUGIN-REFUSED", "nothing.so"),
    Row("plugin", "a folder", 'plugin = "/usr/lib/";', 66, "PLUGIN-REFUSED", "/usr/lib/"),
    Row("plugin", "a text", file_of("int main;\n"), 66, "PLUGIN-REFUSED", "some.so"),
    Row("plugin", "an empty file", file_of(b""), 66, "PLUGIN-REFUSED", "some.so"),
    Row("plugin", "cut short", file_of(lambda bench: bytes(descriptor(bench)[0][:3000])), 66, "PLUGIN-REFUSED",
        "some.so"),
    Row("plugin", "a program for another machine", file_of(other_machine), 66, "PLUGIN-REFUSED", "183|machine"),
    Row("plugin", "not a plugin", 'plugin = "/lib/x86_64-linux-gnu/libz.so.1";', 66, "PLUGIN-REFUSED",
        "fila_plugin_descriptor"),
    Row("plugin", "foreign magic", patched(0, "<I", 0x12345678), 66, "PLUGIN-REFUSED", "magic.*12345678.*414c4946"),
    Row("plugin", "other major", patched(4, "<H", 9), 66, "PLUGIN-REFUSED", "abi_major.*9.*1"),
    Row("plugin", "newer minor", patched(6, "<H", 77), 66, "PLUGIN-REFUSED", "abi_minor.*77.*[0-9]"),
    Row("plugin", "descriptor too large", patched(8, "<I", 4096), 66, "PLUGIN-REFUSED", r"plugin_size.*4096.*\d+"),
    Row("plugin", "options too small", patched(12, "<I", 8), 66, "PLUGIN-REFUSED", r"option_size.*8.*\d+"),
    Row("plugin", "a million options", patched(28, "<I", 1000000), 66, "PLUGIN-REFUSED", "option_count.*1000000"),
    Row("plugin", "unknown option", 'plugin = "exec"; command = [ "/bin/true" ]; comand = "x";', 66,
        "PLUGIN-REFUSED", "comand.*command"),
    Row("plugin", "missing option", 'plugin = "exec";', 66, "PLUGIN-REFUSED", "command"),

    Row("broker", "nothing listens", nothing_there, 69, "BROKER-UNREACHABLE", "Connection refused"),
    Row("broker", "an HTTP 1 server", listening(talk_http1), 69, "BROKER-UNREACHABLE",
        "does not speak HTTP/2: an HTTP/1 server, or no Fila broker"),
    Row("broker", "a TLS server", listening(talk_tls), 69, "BROKER-UNREACHABLE",
        "hung up before HTTP/2 began: a TLS port, or no Fila broker"),
    Row("broker", "another protocol", listening(talk_noise), 69, "BROKER-UNREACHABLE", "does not speak HTTP/2"),
    Row("broker", "a port that says nothing", listening(talk_not), 69, "BROKER-UNREACHABLE", "127.0.0.1"),

    Row("queue", "missing and waited for", "wait", "goes on", "QUEUE-MISSING", "missing-and-waited-for"),
    Row("queue", "missing and created", "create", "goes on", "QUEUE-CREATED", "missing-and-created"),
    Row("queue", "missing and that is fatal", "fail", 78, "QUEUE-MISSING", "missing-and-that-is-fatal"),

    Row("message", "empty payload", (b"", []), "dead_lettered", "HANDLER-VERDICT"),
    Row("message", "binary payload", (b"bytes 6\n\x00\x01\xfe\xff\x00\n", []), "acked", "MESSAGE-DONE"),
    Row("message", "payload that is not UTF-8", (b"reject \xc3\x28 \xff", []), "dead_lettered", "MESSAGE-DEAD"),
    Row("message", "10000 headers", (b"count 10000", MANY_HEADERS), "acked", "MESSAGE-DONE"),
    Row("message", "just under 4 MiB", (b"bytes 4190000\n" + b"\xa5" * 4190000, []), "acked", "MESSAGE-DONE"),

    Row("command", "does not exist", "/nonexistent/handler", 66, "PLUGIN-REFUSED", "/nonexistent/handler"),
    Row("command", "is not executable", not_executable, 66, "PLUGIN-REFUSED", "plain.sh"),
    Row("command", "does not read its input", "#!exit 0", "acked", "MESSAGE-DONE", payload=b"x" * (1 << 20)),
    Row("command", "closes its input at once", "#!exec 0<&-; sleep 0.2; exit 0", "acked", "MESSAGE-DONE",
        payload=b"x" * (1 << 20)),
    Row("command", "floods its output", "#!head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2; exit 0", "acked",
        "MESSAGE-DONE"),
    Row("command", "fails with a flood of words", "#!seq 1000000 >&2; echo the last words >&2; exit 1",
        "dead_lettered", "MESSAGE-DEAD", cause="retry", reason="the last words"),
    Row("command", "forks and exits", "#!sleep 300 & echo $! >pid.fork; exit 0", "acked", "MESSAGE-DONE",
        leaves="pid.fork"),
    Row("command", "ignores SIGTERM",
        "#!trap '' TERM; echo $$ >pid.term; while :; do sleep 0.1; done", "dead_lettered", "MESSAGE-DEAD",
        timeout="1s", cause="timeout", leaves="pid.term"),
    Row("command", "dies of a signal", "#!kill -SEGV $$", "dead_lettered", "MESSAGE-DEAD", cause="crash"),
    Row("command", "never ends", "#!exec sleep 300", "dead_lettered", "MESSAGE-DEAD", timeout="1s", cause="timeout"),

    Row("cli", "message over 4 MiB", (["enqueue", "some", "-"], b"x" * (FOUR_MIB + 1)), 1, text="4194304|4 MiB"),
    Row("cli", "enqueue to a missing queue", (["enqueue", "no-such-queue", "-"], b"x"), 1, text="no-such-queue"),
    Row("cli", "stats of a missing queue", (["queue", "stats", "no-such-queue"], None), 1, text="no-such-queue"),
    Row("cli", "queue name over 64 KiB", (["queue", "create", "n" * 70000], None), 1, text="70000 bytes, at most 65531"),
    Row("cli", "lease under a second", (["queue", "create", "short", "--visibility-timeout", "999ms"], None), 1,
        text="1000|1 ?s"),
    Row("cli", "unreadable file", (["enqueue", "some", "/nonexistent/file"], None), 66, text="/nonexistent/file"),
    Row("cli", "unknown verb", (["consume"], None), 64, text="consume"),
    Row("cli", "unknown option", (["run", "--frobnicate"], None), 64, text="frobnicate"),
    Row("cli", "run with a stray word", (["run", "some.cfg"], None), 64, text="some.cfg"),
    Row("cli", "header without a value", (["enqueue", "some", "--header", "novalue", "-"], b"x"), 64, text="novalue"),
    Row("cli", "missing argument", (["queue", "create"], None), 64, text="NAME|name"),
]


def player(kind):
    def play(bench):
        rows = [row for row in ROWS if row.kind == kind]
        failed = []
        if kind in NEEDS_BROKER:
            bench.start_broker()
            bench.create_queue("some")
        steps = [(row, lambda row=row: PLAY[kind](bench, row)) for row in rows]
        while steps:  # a step may leave another for later: what only takes time goes on beside the others
            later = []
            for row, step in steps:
                before = len(bench.children)
                try:
                    rest = step()
                    if rest:
                        later.append((row, rest))
                        continue
                    print("PASS %s: %s" % (kind, row.name), flush=True)
                except Failed as why:
                    print("FAIL %s: %s: %s" % (kind, row.name, why), flush=True)
                    print("\n".join(child.transcript() for child in bench.children[before:]), flush=True)
                    failed.append(row.name)
                for child in bench.children[before:]:
                    child.kill()
                del bench.children[before:]
            steps = later
        expect_equal("rows that failed, of %d" % len(rows), failed, [])
    return play


for _kind in PLAY:
    add("bad_" + _kind, player(_kind), 180)
