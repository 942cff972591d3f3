# SPDX-License-Identifier: AGPL-3.0-or-later
"""A TCP proxy between worker and broker that can cut, freeze, slow down and say GOAWAY."""
import contextlib
import select
import socket
import struct
import threading

GOAWAY = struct.pack(">I", 8)[1:] + b"\x07\x00" + struct.pack(">III", 0, 0x7fffffff, 0)


class Link:
    """One connection: two directions. Bytes towards the client are cut into HTTP/2 frames, so that one
    can be put in between."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.to_client = b""
        self.frame_left = 0

    def frames(self, data):
        """What of `data` ends at a frame's end, and whether it does."""
        self.to_client += data
        out = b""
        while self.to_client:
            if self.frame_left == 0:
                if len(self.to_client) < 9:
                    break
                self.frame_left = 9 + int.from_bytes(self.to_client[:3], "big")
            part = self.to_client[:self.frame_left]
            out, self.to_client = out + part, self.to_client[len(part):]
            self.frame_left -= len(part)
        return out

    def close(self, reset):
        for s in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()


class Proxy:
    """Listens on a free port of 127.0.0.1 (`url`); one thread. `cut` resets all connections; while
    `frozen`, nothing is passed on and nothing accepted is served (a half-open link); while `refusing`,
    new connections are reset; `goaway` says it on every connection."""

    def __init__(self, bench, target):
        host, port = target[len("grpc://"):].rsplit(":", 1)
        self.target = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "grpc://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.links = []
        self.frozen = self.refusing = self.ended = False
        self.accepted = 0
        self.wake_in, self.wake_out = socket.socketpair()
        bench.cleanups.append(self.close)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def wake(self):
        self.wake_out.send(b"x")

    def cut(self):
        with self.lock:
            for link in self.links:
                link.close(True)
            self.links = []
        self.wake()

    def freeze(self, on):
        self.frozen = on
        self.wake()

    def refuse(self, on):
        self.refusing = on
        self.wake()

    def goaway(self):
        with self.lock:
            for link in self.links:
                with contextlib.suppress(OSError):
                    link.client.sendall(GOAWAY)

    def close(self):
        self.ended = True
        self.wake()
        self.thread.join(5)
        self.cut()
        self.listener.close()

    def accept(self):
        client, _ = self.listener.accept()
        self.accepted += 1
        if self.refusing:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        try:
            server = socket.create_connection(self.target, 5)
        except OSError:
            client.close()
            return
        for s in (client, server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.links.append(Link(client, server))

    def pump(self, link, readable):
        """False: the connection has ended."""
        try:
            if link.client in readable:
                data = link.client.recv(65536)
                if not data:
                    return False
                link.server.sendall(data)
            if link.server in readable:
                data = link.server.recv(65536)
                if not data:
                    return False
                with self.lock:
                    link.client.sendall(link.frames(data))
        except OSError:
            return False
        return True

    def run(self):
        while not self.ended:
            with self.lock:
                links = [] if self.frozen else list(self.links)
            watched = [self.wake_in] + ([] if self.frozen else [self.listener])
            watched += [s for link in links for s in (link.client, link.server)]
            try:
                readable, _, _ = select.select(watched, [], [], 1)
            except (OSError, ValueError):  # one was cut meanwhile
                continue
            if self.wake_in in readable:
                self.wake_in.recv(4096)
                continue
            if self.listener in readable:
                self.accept()
            for link in links:
                if not self.pump(link, readable):
                    link.close(False)
                    with self.lock:
                        if link in self.links:
                            self.links.remove(link)
