# SPDX-License-Identifier: AGPL-3.0-or-later
"""`check` and `explain` of the real binary: output, exit status, and what a broker says to a config."""
import json
import re
import resource
import socket
import subprocess
import time

from harness import SLOW, expect, expect_equal, expect_match
from registry import test
from test_bad_input import listening, nothing_there, talk_http1, talk_tls

GOOD = 'queues = ( { queue = "q"; handler = { plugin = "log"; }; } );\n'


def check(bench, text, *arguments, status=0, **environment):
    bench.write("fila-worker.cfg", text)
    return bench.cli("check", *arguments, status=status, **environment)


@test()
def check_says_that_a_config_is_fine(bench):
    out, err = check(bench, GOOD, "--offline")
    expect_equal("output", (out, err), ("config is fine: 1 queue, the broker was not asked\n", ""))
    out, err = check(bench, 'broker = "embedded:";\n' + GOOD)
    expect_equal("embedded", (out, err), ("config is fine: 1 queue, the broker is embedded\n", ""))


@test()
def check_shows_the_place(bench):
    out, err = check(bench, '\tmax_running = "m\u00e4ny";\n' + GOOD, "--offline", status=78)
    expect_equal("output", (out, err), (
        "", './fila-worker.cfg:1: error: max_running: "m\u00e4ny" is not a whole number\n'
            '    \tmax_running = "m\u00e4ny";\n    \t              ^\n1 error, 0 warnings\n'))
    bench.write("other.cfg", "log = { level = \n")
    out, err = bench.cli("check", "--offline", "--config", "other.cfg", status=78)
    expect_equal("other", err, "other.cfg:1: error: syntax error: expected a value, found the end of the file\n"
                               "    log = { level = \n                   ^\n1 error, 0 warnings\n")


@test()
def check_takes_warnings_for_errors_when_asked(bench):
    text = GOOD + 'include = "more.cfg";\n'
    bench.write("more.cfg", GOOD)
    out, err = check(bench, text, "--offline")
    expect_equal("last line", out, "config is fine: 2 queues, the broker was not asked, 1 warning\n")
    expect_match("warning", r'^\./more\.cfg:1: warning: queues\[0\]\.queue: "q" is also consumed by the entry at '
                            r'\./fila-worker\.cfg:1', err)
    out, err = check(bench, text, "--offline", "--deny-warnings", status=78)
    expect_match("last line", r"\n0 errors, 1 warning\n$", err)


def sums(*rows):
    return "".join("./fila-worker.cfg%s\n" % row for row in rows)


@test()
def check_does_the_sums(bench):
    slow = 'drain_timeout = "10s";\n' + GOOD.replace("} );", 'concurrency = 2; } );')
    out, err = check(bench, slow, "--offline", "--handler-time", "5s", "--grace", "11s")
    expect_equal("warnings", err, sums(
        ':2: warning: queue "q": a long queue is leased faster than it is handled: (130 leased ahead + prefetch 4) x 5s / '
        'concurrency 2 + 5s = 340s > the 27500ms that a lease leaves: the rest is returned, and handled out of order. '
        'Passes: visibility_timeout = "359s" (here and of the queue), concurrency = 52, or handlers of 404ms',
        ':2: warning: queue "q": the tries of a failing message do not fit one lease: 5 x 5s + backoffs 15s = 40s > the '
        '27500ms that a lease leaves: with several workers each counts its own. Passes: visibility_timeout = "44s" (here '
        'and of the queue)',
        ':2: warning: queue "q": a stop cuts runs short: timeout 15s + 2s for returning > drain_timeout 10s. Passes: '
        'drain_timeout = "17s", or timeout = "8s"',
        ': warning: drain_timeout: the worker is killed before its drain is over: drain_timeout 10s + 2s > the grace '
        'period 11s. Passes: drain_timeout = "9s", or a grace period of 12s'))
    for fixed in ('drain_timeout = "17s"', 'visibility_timeout = "359s"; timeout = "15s"', "concurrency = 52"):
        key = fixed.split(" ")[0]
        where = slow.replace('drain_timeout = "10s"', fixed) if key == "drain_timeout" else \
            slow.replace("concurrency = 2", fixed if key == "concurrency" else "concurrency = 2; " + fixed)
        _, again = check(bench, where, "--offline", "--handler-time", "5s")
        gone = {"drain_timeout": "cut short", "visibility_timeout": "leased faster", "concurrency": "leased faster"}[key]
        expect("%s passes: %s" % (fixed, again), gone not in again)


@test()
def check_counts_descriptors_and_memory(bench):
    each = ('{ queue = "q%d"; handler = { plugin = "exec"; command = [ "true" ]; }; concurrency = 32; '
            'prefetch_bytes = "64GiB"; }')
    bench.write("fila-worker.cfg", "queues = ( %s );\n" % ", ".join(each % i for i in range(32)))
    done = subprocess.run([bench.worker_path, "check", "--offline"], cwd=bench.folder, env=bench.environment(),
                          capture_output=True, text=True, timeout=30 * SLOW,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    out = done.stderr
    expect_match("descriptors", r"queues: descriptors may run out: about 6240 for the worker, its queues and 6 for each "
                                r"running command > the limit of 1024\. Passes: ulimit -n 6240", out)
    expect_match("memory", r'queues: messages alone may fill the memory: 2 x prefetch_bytes = 4096GiB over all queues \+ '
                           r'.* > 3/4 of the \d+[KMG]iB that this process may use\. Passes: prefetch_bytes = "\d+[KMG]iB"', out)
    out, err = check(bench, GOOD, "--offline", "--handler-time", "20s")
    expect_match("longer than the timeout", r'every run is cut: handlers of 20s >= timeout 15s\. Passes: timeout = "21s"\n', err)
    out, err = check(bench, GOOD.replace("} );", 'timeout = "21s"; } );'), "--offline", "--handler-time", "20s")
    expect("every run is cut" not in err, "that passes: %s", err)
    out, err = check(bench, GOOD, "--offline", "--handler-time", "40s")
    expect_match("longer than the lease", r'Passes: timeout = "41s" with visibility_timeout = "(\d+)s" \(here and of the queue\)', err)
    longer = re.search(r'visibility_timeout = "\d+s"', err)[0]
    out, err = check(bench, GOOD.replace("} );", 'timeout = "41s"; %s; } );' % longer), "--offline", "--handler-time", "40s")
    expect("every run is cut" not in err, "that passes: %s", err)
    out, err = check(bench, GOOD, "--grace", "5", status=64)
    expect_match("no unit", r"^fila-worker check: --grace: ", err)


@test()
def check_looks_at_the_handlers_options(bench):
    bad = GOOD.replace('plugin = "log";', 'plugin = "log";\n  levl = "info";')
    out, err = check(bench, bad, "--offline", status=66)
    expect_match("option", r'^\./fila-worker\.cfg:2: error: queue "q": handler "log": levl: .*did you mean level', err)
    out, err = check(bench, GOOD.replace("log", "nope"), "--offline", status=66)
    expect_match("plugin", r'^\./fila-worker\.cfg:1: error: queue "q": handler "nope": ', err)


@test()
def check_as_json(bench):
    out, _ = check(bench, "a = 1;\n" + GOOD, "--offline", "--json", status=78)
    expect_equal("refused", json.loads(out), {
        "ok": False, "errors": 1, "warnings": 0, "queues": 0, "broker": None, "diagnostics": [
            {"severity": "error", "file": "./fila-worker.cfg", "line": 1, "column": 1, "key": "a",
             "text": "unknown key"}]})
    out, _ = check(bench, GOOD, "--offline", "--json")
    expect_equal("fine", json.loads(out), {"ok": True, "errors": 0, "warnings": 0, "queues": 1, "diagnostics": [],
                                           "broker": "the broker was not asked"})


@test()
def check_asks_the_broker(bench):
    bench.start_broker()
    bench.cli("queue", "create", "q")
    bench.cli("queue", "create", "lonely")
    bench.cli("queue", "delete", "lonely.dlq")
    out, err = check(bench, GOOD, FILA_WORKER_BROKER=bench.broker)
    expect_equal("all there", (out, err), ("config is fine: 1 queue, the broker answers\n", ""))
    rows = (
        ('queue = "other";', r'queue "other": the broker has no such queue: the worker will wait for it'),
        ('queue = "other"; missing_queue = "fail";', r"no such queue: the worker will not start"),
        ('queue = "other"; missing_queue = "create";', None),
        ('queue = "lonely";', r'queue "lonely": the broker has no dead-letter queue "lonely\.dlq"'),
        ('queue = "lonely"; dead_letter = "drop";', None),
        ('queue = "q"; dead_letter_queue = "lonely";', None),
    )
    for keys, warning in rows:
        out, err = check(bench, GOOD.replace('queue = "q";', keys), FILA_WORKER_BROKER=bench.broker)
        if warning:
            expect_match(keys, r"^\./fila-worker\.cfg:1: warning: .*" + warning, err)
        else:
            expect_equal(keys, err, "")


@test()
def check_does_not_wait_long_for_a_broker(bench):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "grpc://127.0.0.1:%d" % silent.getsockname()[1]
        started = time.monotonic()
        out, err = check(bench, GOOD, FILA_WORKER_BROKER=url + "," + url.replace("127.0.0.1", "localhost"))
        took = time.monotonic() - started
    expect(took < 4 * SLOW, "check took %.1f s", took)
    expect_equal("last line", out, "config is fine: 1 queue, the broker could not be asked, 2 warnings\n")
    expect_match("warning", r"warning: broker: grpc://127\.0\.0\.1:\d+ does not answer: ", err)


@test(seconds=120)
def check_says_what_answers_at_the_address(bench):
    """Nothing, an HTTP/1 server, a TLS port; and a broker that does not take the key, or is none."""
    def chaos(code):
        def start(bench):
            bench.start_broker("--chaos", "list-queues:error=" + code)
            return int(bench.broker.rsplit(":", 1)[1])
        return start
    rows = (
        (nothing_there, "does not answer: unavailable: no connection to 127.0.0.1:%d: Connection refused"),
        (listening(talk_http1), "does not answer: .*127.0.0.1:%d: it does not speak HTTP/2: an HTTP/1 server, or no Fila broker"),
        (listening(talk_tls), "does not answer: .*127.0.0.1:%d: it hung up before HTTP/2 began: a TLS port, or no Fila broker"),
        (chaos("unauthenticated"), r"grpc://127.0.0.1:%d answers, but refuses the API key \(api_key, FILA_API_KEY\)"),
        (chaos("permission-denied"), r"grpc://127.0.0.1:%d answers, but the API key may not list queues"),
        (chaos("unimplemented"), r"grpc://127.0.0.1:%d answers, but not as a broker should: unimplemented"),
    )
    for start, said in rows:
        port = start(bench)
        wanted = r"warning: broker: .*" + said % port
        # Asked again where a busy machine let the 3 s pass.
        out, _ = bench.wait_until(wanted, 60, lambda: check(bench, GOOD, FILA_WORKER_BROKER="grpc://127.0.0.1:%d" % port),
                                  lambda answer: re.search(wanted, answer[1]))
        expect_equal("last line", out, "config is fine: 1 queue, the broker could not be asked, 1 warning\n")


@test()
def check_refuses_a_broker_that_this_build_cannot_talk_to(bench):
    out, err = check(bench, 'broker = "fila://127.0.0.1:1";\n' + GOOD, "--offline", status=78)
    expect_match("scheme", r"error: broker: .*no fila transport", err)


@test()
def explain_reads_back_as_the_same_config(bench):
    bench.write("fila-worker.cfg", 'api_key = "hidden-one";\nlog = { level = "warn"; };\n' + GOOD.replace(
        'plugin = "log";', 'plugin = "log"; level = "debug";'))
    out, err = bench.cli("explain", "--set", "max_running=3", FILA_WORKER_LOG_FORMAT="json",
                         FILA_WORKER_BROKER="grpc://elsewhere:1")
    expect_equal("complaints", err, "")
    for line in (r'\nbroker = "grpc://elsewhere:1"; +# environment FILA_WORKER_BROKER\n',
                 r'\napi_key = "\*\*\*"; +# \./fila-worker\.cfg:1\n',
                 r'\n  level = "warn"; +# \./fila-worker\.cfg:2\n',
                 r"\n  format = \"json\"; +# environment FILA_WORKER_LOG_FORMAT\n",
                 r"\nmax_running = 3; +# command line --set max_running\n",
                 r'\n      level = "debug"; +# \./fila-worker\.cfg:3\n',
                 r'\ndrain_timeout = "25s"; +# default\n'):
        expect_match("explain", line, out)
    expect("hidden" not in out, "the key is shown:\n%s", out)
    bench.write("again.cfg", out)
    bench.cli("check", "--offline", "--deny-warnings", "--config", "again.cfg", FILA_WORKER_BROKER=None)
    again, _ = bench.cli("explain", "--config", "again.cfg", "--json", FILA_WORKER_BROKER=None)
    once, _ = bench.cli("explain", "--set", "max_running=3", "--json", FILA_WORKER_LOG_FORMAT="json",
                        FILA_WORKER_BROKER="grpc://elsewhere:1")
    expect_equal("read back", json.loads(again)["config"], json.loads(once)["config"])
    out, err = bench.cli("explain", "--set", "max_running=x", status=78)
    expect_equal("refused", (out, err), ("", 'command line: error: --set max_running: "x" is not a whole number\n'))


@test()
def check_and_explain_say_how_they_are_used(bench):
    bench.write("fila-worker.cfg", GOOD)
    for verb in ("check", "explain"):
        out, err = bench.cli(verb, "--help")
        expect_match("help", r"^usage: fila-worker " + verb, out)
        for words in (("--nope",), ("word",), ("--config",), ("--json=1",)):
            out, err = bench.cli(verb, *words, status=64)
            expect_match(" ".join(words), r"^fila-worker %s: .*\nTry: fila-worker %s --help\n$" % (verb, verb), err)
        with open("/dev/full", "w") as full:
            done = subprocess.run([bench.worker_path, verb, *(["--offline"] if verb == "check" else [])],
                                  cwd=bench.folder, stdout=full, stderr=subprocess.PIPE, env=bench.environment(),
                                  timeout=30 * SLOW)
        expect_equal("status on a full disk", done.returncode, 1)
        expect(re.search(rb"cannot write the output: No space left on device", done.stderr), "%r", done.stderr)


@test()
def check_adds_up_the_memory(bench):
    """What waits, and what running messages may publish, beside what the machine has."""
    queue = ('queues = ( { queue = "work"; handler = { plugin = "%s"; }; concurrency = 4; prefetch_bytes = "64GiB"; } );\n'
             % bench.plugin("unstable_one"))
    _, err = check(bench, 'broker = "embedded:";\n' + queue, "--offline")
    expect_match("sum", r"messages alone may fill the memory: 2 x prefetch_bytes = (131072MiB|128GiB) over all queues \+ "
                 r"32MiB that running messages may publish \(8MiB each, where a handler publishes\) > 3/4 of the .* that "
                 r"this process may use\. Passes: prefetch_bytes = \"\d+[MG]iB\" for each queue", err)
    _, err = check(bench, 'broker = "embedded:";\n' + queue.replace(bench.plugin("unstable_one"), "exec").replace("; }; conc", '; command = [ "true" ]; }; conc'),
                   "--offline")
    expect_match("a handler that publishes nothing", r"over all queues \+ 0B that running", err)
