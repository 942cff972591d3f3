# SPDX-License-Identifier: AGPL-3.0-or-later
"""A broker that keeps its messages, on a port that stays its own, so that it can die and come back: the
embedded one with a file, or the Fila server that FILA_SERVER_BIN names, started as such a server wants it
(fila.toml in its folder, FILA_DATA_DIR, ready when it answers a call)."""
import os
import signal
import socket

from harness import Child, Failed, Skipped

CONFIG = '[server]\nlisten_addr = "127.0.0.1:%d"\n[telemetry]\notlp_endpoint = ""\n'


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """Sets bench.broker. `program`: a Fila server; None: `fila-worker broker --data`."""

    def __init__(self, bench, program=None):
        self.bench, self.program, self.starts, self.child = bench, program, 0, None
        if not program and "--data" not in bench.cli("broker", "--help")[0]:
            raise Skipped("this build's broker keeps nothing: no `broker --data`")
        port = free_port()
        self.address = "127.0.0.1:%d" % port
        self.url = bench.broker = "grpc://" + self.address
        if program:
            bench.write("server/fila.toml", CONFIG % port)

    def start(self, *arguments, **environment):
        """The first time, or after it has ended; up when it answers. `arguments` are for ours."""
        self.starts += 1
        name = "broker" if self.starts == 1 else "broker, start %d" % self.starts
        if self.program:
            self.start_program(name, environment)
        else:
            self.child = self.bench.spawn(
                Child, name, ["broker", "--listen", self.address, "--data", self.bench.path("broker.db"), *arguments],
                wrap=False, FILA_WORKER_BROKER=None, **environment)
            self.child.wait_line(self.child.out, r"127\.0\.0\.1:(\d+)", 20)
        return self

    def start_program(self, name, environment):
        environment = self.bench.environment(FILA_DATA_DIR=self.bench.path("server/data"), RUST_LOG="warn",
                                             **environment)
        self.child = child = Child(name, [self.program], self.bench.path("server"), environment)
        self.bench.children.append(child)

        def answers():
            self.bench.cli("queue", "ls", status=None, FILA_WORKER_BROKER=self.url)
            return self.bench.status == 0 or not child.running()

        self.bench.wait_until("fila-server to answer", 15, answers, bool)
        if not child.running():
            raise Failed("fila-server ended with status %s" % child.process.returncode)

    def kill(self):
        self.child.signalled = True
        self.child.kill()

    def restart(self, *arguments):
        """kill -9, then again, on the same data and port."""
        self.kill()
        self.start(*arguments)

    def stop(self, seconds):
        """As its supervisor does; it ends once its clients have let go of their streams."""
        self.child.signal(signal.SIGTERM)
        self.child.wait(seconds, 0)

    def files(self):
        """Sizes of what it keeps, in bytes."""
        folder = self.bench.path("server/data") if self.program else self.bench.folder
        return [os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder)
                if self.program or f.startswith("broker.db")]
