# SPDX-License-Identifier: AGPL-3.0-or-later
"""The supervisor and the verbs around it when things happen at once: reloads under load, a pause over
a reload, failover, signals at bad moments, dead letters of both kinds."""
import os
import signal

from harness import Child, Failed, Worker, expect, expect_equal, expect_match
from registry import test
from test_delivery import contents, exec_config, keep_payload

LOG = """broker = "%s";
queues = ( { queue = "work"; handler = { plugin = "log"; }; concurrency = %d; streams = %d;
             retry = { attempts = %d; }; } );
"""


@test(seconds=90)
def reloads_under_load_lose_nothing(bench):
    """Each reload starts a new executor and new streams while the old ones drain."""
    bench.start_broker()
    bench.create_queue("work", "5s")
    count = 6000
    worker = bench.start_ready(LOG % (bench.broker, 2, 1, 5), level="info")
    feeder = bench.spawn(Child, "feeder", ["enqueue", "work", "--lines", "--quiet"],
                         stdin=open(bench.write("lines", "".join("m%d\n" % i for i in range(count))), "rb"))
    for i in range(12):
        # Every third keeps the executor, and changes the settings of the running queue.
        bench.write("fila-worker.cfg", LOG % (bench.broker, 1 + (i // 2) % 4, 1 + i // 2 % 2, 5 + i % 2))
        mark = worker.mark()
        worker.signal(signal.SIGHUP)
        worker.wait_event("RELOAD-DONE", since=mark)
    feeder.wait(60, 0)
    bench.wait_stats("work", depth=0, seconds=60)
    account = worker.stop(30)
    expect(account["acked"] >= count, "%d acked of %d", account["acked"], count)
    expect_equal("dead letters", bench.stats("work.dlq")["depth"], 0)


@test()
def a_pause_outlasts_a_reload(bench):
    bench.start_broker()
    for queue in ("work", "more"):
        bench.create_queue(queue)
    command = keep_payload(bench)
    worker = bench.start_ready(exec_config(bench, command))
    worker.signal(signal.SIGTSTP)
    bench.write("fila-worker.cfg", exec_config(bench, command).replace(
        "} );", '}, { queue = "more"; handler = { plugin = "exec"; command = [ "%s" ]; }; } );' % command))
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE")
    bench.enqueue_lines("more", ["a"])
    # Another reload, so that the worker has had a turn in which it could have begun.
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE", count=2)
    bench.wait_stats("work", depth=0)
    expect_equal("handled in the pause", bench.listing("done"), [])
    worker.signal(signal.SIGCONT)
    bench.wait_files("done", 1)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def fails_over_to_the_broker_that_answers(bench):
    bench.start_broker()
    live = bench.broker
    bench.create_queue("work")
    both = "grpc://127.0.0.1:1, " + live
    worker = bench.start_worker(exec_config(bench, keep_payload(bench)), FILA_WORKER_BROKER=both)
    worker.wait_event("STREAM-OPEN", broker=live)
    bench.cli("enqueue", "work", data="over there", FILA_WORKER_BROKER=both)
    bench.wait_files("done", 1)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def a_broker_that_cannot_be_used_is_passed_over(bench):
    """The second URL of the list is of a scheme that cannot be opened: no reason to end."""
    worker = bench.start_worker(
        'broker = ( "grpc://127.0.0.1:1", "grpcs://127.0.0.1:1" );\n'
        'queues = ( { queue = "work"; handler = { plugin = "log"; }; } );\n', FILA_WORKER_BROKER=None)
    worker.wait_event("BROKER-REFUSES")
    worker.wait_event("BROKER-UNREACHABLE", count=2)
    worker.stop(10)


@test()
def closed_standard_descriptors_are_no_sockets(bench):
    """Started with 0, 1 and 2 closed, as some supervisors do: nothing of ours takes their numbers."""
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["a", "b"])
    os.mkdir(bench.path("done"))
    command = bench.script("fds.sh", 'ls -l /proc/self/fd > "tmp.$FILA_MESSAGE_ID"; mv "tmp.$FILA_MESSAGE_ID" done/')
    bench.write("fila-worker.cfg", exec_config(bench, command))
    bench.write("start.sh", 'exec "$@" 0<&- 1>&- 2>&-\n')
    bench.wrapper = ["sh", "start.sh"]
    worker = bench.spawn(Child, "worker", ["run"])
    bench.wait_files("done", 2)
    worker.signal(signal.SIGTERM)
    worker.wait(15, 0)
    for said in contents(bench):
        expect("socket" not in said.decode() and "eventfd" not in said.decode(), "the child has: %s", said.decode())


def flags_of(pid, fd):
    with open("/proc/%d/fdinfo/%s" % (pid, fd), encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("flags:")).split()[1], 8)


@test()
def no_descriptor_is_inherited(bench):
    """Of all that a worker has open none would reach a program that it starts."""
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["a"])
    os.mkdir(bench.path("state"))
    config = exec_config(bench, keep_payload(bench)) + 'state_dir = "state";\nctl = { socket = "%s"; };\n' % bench.path("ctl")
    worker = bench.start_ready(config, FILA_WORKER_HTTP_LISTEN="127.0.0.1:0")
    bench.wait_files("done", 1)
    worker.wait_event("MESSAGE-DONE")
    open_ones = {}
    for fd in os.listdir("/proc/%d/fd" % worker.pid):
        try:
            open_ones[fd] = (os.readlink("/proc/%d/fd/%s" % (worker.pid, fd)), flags_of(worker.pid, fd))
        except FileNotFoundError:  # it was closed meanwhile
            continue
    expect(len(open_ones) > 8, "only %d descriptors are open: %r", len(open_ones), open_ones)
    kept = {fd: name for fd, (name, flags) in open_ones.items() if int(fd) > 2 and not flags & os.O_CLOEXEC}
    expect_equal("without O_CLOEXEC", kept, {})
    worker.stop()


@test()
def stuck_handlers_of_many_queues_are_waited_for_together(bench):
    """The end is late by one grace (1 s), not by one for each queue."""
    bench.start_broker()
    names = ["q%d" % i for i in range(10)]
    config = 'broker = "%s";\ndrain_timeout = "3s";\nqueues = ( %s );\n' % (bench.broker, ", ".join(
        '{ queue = "%s"; handler = { plugin = "%s"; file = "ledger.txt"; run = "10min"; }; concurrency = 1; '
        'missing_queue = "create"; }' % (name, bench.plugin("ledger_one")) for name in names))
    worker = bench.start_worker(config)
    worker.wait_event("QUEUE-CREATED", 30, count=len(names))
    for name in names:
        bench.enqueue_lines(name, ["m"])
    bench.wait_until("all to run", 30, lambda: [q["in_flight"] for q in bench.json("queue", "ls") if q["queue"] in names],
                     lambda counts: counts == [1] * len(names))
    worker.signal(signal.SIGTERM)
    worker.wait(10, 76)
    expect_equal("stuck", len(worker.events("HANDLER-STUCK", msg="a handler did not return: its thread is abandoned")),
                 len(names))
    worker.account()


@test()
def sigchld_may_be_ignored(bench):
    """As some supervisors leave it: commands and the check of a reload are waited for all the same."""
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["a"])
    bench.wrapper = ["env", "--ignore-signal=CHLD"]
    worker = bench.start_worker(exec_config(bench, keep_payload(bench)))
    bench.wait_files("done", 1)
    worker.wait_event("MESSAGE-DONE")
    worker.signal(signal.SIGHUP)
    worker.wait_event("RELOAD-DONE")
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def a_stop_is_served_while_the_first_config_is_read(bench):
    """Which waits for a file that nobody writes."""
    bench.broker = "grpc://127.0.0.1:1"
    os.mkfifo(bench.path("fifo"))
    worker = bench.start_worker('api_key = "${file:%s}";\n' % bench.path("fifo") +
                                exec_config(bench, keep_payload(bench)))
    writer = os.open(bench.path("fifo"), os.O_WRONLY)  # returns when the worker reads
    worker.signal(signal.SIGTERM)
    worker.wait(10, -signal.SIGTERM)
    os.close(writer)


@test()
def threads_that_are_abandoned_do_not_crash_the_end(bench):
    """The handler's code and data stay until the last instruction."""
    bench.start_broker()
    bench.create_queue("work")
    bench.enqueue_lines("work", ["spin"])
    worker = bench.start_ready(
        'broker = "%s";\nqueues = ( { queue = "work"; handler = { plugin = "%s"; }; } );\ndrain_timeout = "3s";\n'
        % (bench.broker, bench.plugin("unstable_one")))
    bench.wait_stats("work", in_flight=1)
    worker.signal(signal.SIGTERM)
    worker.wait(20, 76)
    worker.account()


@test()
def sigterm_before_ready(bench):
    """A stop that comes while the handlers still start is not lost, and is a clean one."""
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_worker(exec_config(bench, keep_payload(bench)))
    worker.wait_event("WORKER-START")
    account = worker.stop(15)
    expect_equal("received", account["received"], 0)


@test()
def many_signals_in_a_drain(bench):
    """A reload is refused, and every further TERM only hurries: none prolongs the drain."""
    bench.start_broker()
    bench.create_queue("work")
    os.mkdir(bench.path("started"))
    bench.enqueue_lines("work", ["m"])
    worker = bench.start_ready(exec_config(
        bench, bench.script("stuck.sh", 'trap "" TERM; : > "started/$FILA_MESSAGE_ID"; sleep 100'), vt="300s"))
    bench.wait_files("started", 1)
    worker.signal(signal.SIGTERM)
    worker.wait_event("DRAIN-START")
    worker.signal(signal.SIGHUP)
    expect_match("why", "stopping", worker.wait_event("RELOAD-REFUSED")["error"])
    worker.signal(signal.SIGTERM)
    worker.wait_event("DRAIN-HURRY", 5)
    for i in range(5):
        worker.signal(signal.SIGTERM)
    status = worker.wait(10)
    expect(status in (75, 76), "exit status %d", status)
    worker.account()


@test()
def a_folded_line_is_counted_soon(bench):
    """The count of repeated lines does not wait for the next line."""
    bench.start_broker()
    bench.create_queue("work")
    command = keep_payload(bench)
    worker = bench.start_ready(exec_config(bench, command), level="info")
    bench.write("fila-worker.cfg", "nonsense")
    for _ in range(10):
        mark = worker.mark()
        worker.signal(signal.SIGHUP)
        worker.wait_event("RELOAD-REFUSED", since=mark)
        worker.signal(signal.SIGHUP)  # within a second of it, unless the machine is slow: then once more
        try:
            worker.wait_line(worker.err, "repeated [0-9]+ time", 3, skip=mark)
            break
        except AssertionError:
            continue
    else:
        raise Failed("no two refusals in a row were folded and counted")
    worker.stop()


@test()
def config_that_vanishes_is_kept(bench):
    bench.start_broker()
    bench.create_queue("work")
    worker = bench.start_ready(exec_config(bench, keep_payload(bench)))
    os.unlink(bench.path("fila-worker.cfg"))
    worker.signal(signal.SIGHUP)
    expect_match("why", "fila-worker.cfg", worker.wait_event("RELOAD-REFUSED")["error"])
    bench.enqueue_lines("work", ["a"])
    bench.wait_files("done", 1)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def reload_with_a_handler_that_fails_its_start(bench):
    """All or nothing: the queue that could be added is not, and the old one goes on."""
    bench.start_broker()
    for queue in ("work", "more"):
        bench.create_queue(queue)
    command = keep_payload(bench)
    worker = bench.start_ready(exec_config(bench, command))
    bench.write("broken.so", "no ELF")
    bench.write("fila-worker.cfg", exec_config(bench, command).replace(
        "} );", '}, { queue = "more"; handler = { plugin = "log"; }; },'
        ' { queue = "third"; handler = { plugin = "./broken.so"; }; } );'))
    worker.signal(signal.SIGHUP)
    expect_match("why", r'queue "third": .*broken\.so', worker.wait_event("RELOAD-REFUSED")["error"])
    bench.enqueue_lines("work", ["a"])
    bench.wait_files("done", 1)
    expect_equal("consumers of the new one", bench.stats("more")["consumers"], 0)
    expect_equal("acked", worker.stop()["acked"], 1)


@test()
def redrive_of_both_kinds(bench):
    """Copies of a worker and what the broker moved itself, mixed: each goes back once."""
    bench.start_broker()
    bench.create_queue("work")
    for i in range(10):
        bench.cli("enqueue", "work.dlq", data="copy %d" % i)
        bench.cli("enqueue", "work.dlq", "--header", "x-fila-dead-letter-reason=it failed", "--header", "k=v",
                  data="own %d" % i)
    out = bench.json("dlq", "redrive", "work")
    expect_equal("put back", (out["redriven"], out["waiting"]), (20, 20))
    expect_equal("in the dead-letter queue", bench.stats("work.dlq")["depth"], 0)
    expect_equal("in the queue", bench.stats("work")["depth"], 20)
    os.mkdir(bench.path("done"))
    command = bench.script("keep.sh", '{ cat; echo " $FILA_HEADER_X_FILA_DEAD_LETTER_REASON"; } > "tmp.$FILA_MESSAGE_ID";'
                           ' mv "tmp.$FILA_MESSAGE_ID" done/')
    worker = bench.start_worker(exec_config(bench, command))
    bench.wait_files("done", 20)
    worker.stop()
    wanted = sorted(("%s %d \n" % (kind, i)).encode() for kind in ("copy", "own") for i in range(10))
    expect_equal("payloads, and headers taken off", contents(bench), wanted)


@test()
def dlq_show_cuts_text_as_text(bench):
    bench.start_broker()
    bench.create_queue("work")
    bench.cli("enqueue", "work.dlq", data="f\u00fcnf")
    bench.cli("dlq", "show", "work", "--limit", "0", status=64)
    shown = bench.json_lines("dlq", "show", "work", "--payload", "2")
    expect_equal("payload", (shown[0]["payload"], shown[0]["payload_bytes"]), ("f", 5))
    expect_equal("put back", bench.stats("work.dlq")["depth"], 1)


@test()
def enqueue_says_what_it_did(bench):
    bench.start_broker()
    bench.create_queue('o"dd')
    out = bench.json("enqueue", 'o"dd', data="x")
    expect_equal("answer", (out["queue"], out["enqueued"], out["failed"], len(out["ids"])), ('o"dd', 1, 0, 1))
    out, err = bench.cli("enqueue", 'o"dd', status=78, data="x", FILA_API_KEY_FILE=bench.path("no-such-key"))
    expect_match("why", "no-such-key: No such file", err)
    out, err = bench.cli("enqueue", 'o"dd', "/proc/self/mem", status=66)
    expect_match("why", "cannot be read", err)
    expect_equal("half a message", bench.stats('o"dd')["depth"], 1)
