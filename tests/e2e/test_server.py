# SPDX-License-Identifier: AGPL-3.0-or-later
"""The tests that any Fila server must pass, against the real one that FILA_SERVER_BIN names."""
import os
import time

import harness
import registry
from brokers import Server
from harness import Skipped


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
            Server(own, os.path.abspath(program)).start()
            test.body(own)
            print("PASS %s on a real server (%.1f s)" % (test.name, time.monotonic() - started), flush=True)
        except Exception as why:
            print("FAIL %s on a real server: %s\n%s" % (test.name, why, own.transcript()), flush=True)
            failed.append(test.name)
        finally:
            own.close()
    harness.expect_equal("failed on a real server, of %d" % len(tests), failed, [])
