# SPDX-License-Identifier: AGPL-3.0-or-later
"""The tests that any Fila server must pass, against the real one that FILA_SERVER_BIN names."""
import os
import socket
import time

import harness
import registry
from harness import Child, Failed, Skipped


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_server(bench, program):
    """A server on a free port with its data in the test's folder, up when it answers a call."""
    port = free_port()
    bench.write("server/fila.toml", '[server]\nlisten_addr = "127.0.0.1:%d"\n[telemetry]\notlp_endpoint = ""\n' % port)
    environment = dict(bench.environment(), FILA_DATA_DIR=bench.path("server/data"), RUST_LOG="warn")
    child = Child("fila-server", [program], bench.path("server"), environment)
    bench.children.append(child)
    bench.broker = "grpc://127.0.0.1:%d" % port

    def answers():
        bench.cli("queue", "ls", status=None)
        return bench.status == 0 or not child.running()

    bench.wait_until("fila-server to answer", 15, answers, bool)
    if not child.running():
        raise Failed("fila-server ended with status %s" % child.process.returncode)


@registry.test(seconds=600)
def real_server(bench):
    program = os.environ.get("FILA_SERVER_BIN")
    if not program:
        raise Skipped("FILA_SERVER_BIN names no Fila server")
    failed = []
    registry.load()
    tests = [t for t in registry.TESTS if t.real_server]
    for test in tests:
        own = harness.Bench(bench.worker_path, bench.build)
        started = time.monotonic()
        try:
            start_server(own, os.path.abspath(program))
            test.body(own)
            print("PASS %s on a real server (%.1f s)" % (test.name, time.monotonic() - started), flush=True)
        except Exception as why:
            print("FAIL %s on a real server: %s\n%s" % (test.name, why, own.transcript()), flush=True)
            failed.append(test.name)
        finally:
            own.close()
    harness.expect_equal("failed on a real server, of %d" % len(tests), failed, [])
