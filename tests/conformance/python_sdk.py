#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""A client that nobody here wrote: the published Python SDK (fila-python 0.2.0) against `fila-worker broker`.

    python_sdk.py --worker build/fila-worker --venv build/sdk-venv
    python_sdk.py --address HOST:PORT --venv ...                      the same against any Fila server

Makes the venv and installs the SDK into it, unless it is there from before; without a way to get it the test is
skipped (exit status 77) and says so. Each check prints a line; exit status 0 when all hold.
"""
import argparse
import os
import re
import signal
import subprocess
import sys

SDK = "fila-python"
VERSION = "0.2.0"
SECONDS = 240  # for all checks, on the slowest of machines


class Unavailable(Exception):
    pass


# ---- The venv, and the broker: with the interpreter that runs the test ----

def venv_python(folder):
    """The venv's interpreter, with the SDK in it."""
    python = os.path.join(folder, "bin", "python")
    mark = os.path.join(folder, "%s-%s" % (SDK, VERSION))
    if os.path.exists(mark):
        return python
    for command in ([sys.executable, "-m", "venv", "--clear", folder],
                    [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input",
                     "--retries", "1", "--timeout", "15", "%s==%s" % (SDK, VERSION)]):
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
        except (OSError, subprocess.TimeoutExpired) as why:
            raise Unavailable(str(why)) from None
        if done.returncode:
            raise Unavailable((done.stdout.strip().splitlines() or ["exit status %d" % done.returncode])[-1])
    open(mark, "w").close()
    return python


def start_broker(worker):
    broker = subprocess.Popen([worker, "broker", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    said = broker.stdout.readline()
    found = re.fullmatch(r"listening on (\S+)\n", said)
    if not found:
        broker.kill()
        raise RuntimeError("the broker said %r" % said)
    return broker, found.group(1)


def outer(opts):
    try:
        python = venv_python(opts.venv)
    except Unavailable as why:
        print("skipped: %s %s cannot be had here: %s" % (SDK, VERSION, why))
        return 77
    broker, address = (None, opts.address) if opts.address else start_broker(opts.worker)
    try:
        status = subprocess.run([python, "-B", os.path.abspath(__file__), "--inside", address]).returncode
    finally:
        if broker:
            broker.send_signal(signal.SIGTERM)
            try:
                ended = broker.wait(30)
            except subprocess.TimeoutExpired:
                broker.kill()
                ended = "none within 30 s of SIGTERM"
    if broker and ended != 0:
        print("FAIL the broker's exit status: %s" % ended)
        return 1
    return status


# ---- The checks: with the venv's interpreter ----

def inside(address):
    import asyncio
    import concurrent.futures
    import threading

    import grpc
    import fila
    from fila.v1 import admin_pb2, admin_pb2_grpc, messages_pb2

    threading.Timer(SECONDS, lambda: (print("FAIL no end within %d s" % SECONDS, flush=True), os._exit(1))).start()
    channel = grpc.insecure_channel(address)
    admin = admin_pb2_grpc.FilaAdminStub(channel)
    no_lease = "01890a5d-ac96-774b-bcce-b302099a8057"
    failures = []

    def check(what, holds, got=""):
        print("%s %s%s" % ("ok  " if holds else "FAIL", what, "" if holds else ": %r" % (got,)), flush=True)
        if not holds:
            failures.append(what)

    def create(name, timeout_ms=0):
        config = admin_pb2.QueueConfig(visibility_timeout_ms=timeout_ms)
        return admin.CreateQueue(admin_pb2.CreateQueueRequest(name=name, config=config)).queue_id

    def raised(call):
        try:
            return "nothing raised, %r" % (call(),)
        except fila.FilaError as error:
            return error

    def check_errors(kind, errors):
        check(kind + ": enqueue to a missing queue", isinstance(errors[0], fila.QueueNotFoundError) and
              str(errors[0]) == "enqueue: none", errors[0])
        check(kind + ": ack of no lease", isinstance(errors[1], fila.MessageNotFoundError), errors[1])
        check(kind + ": nack of no lease", isinstance(errors[2], fila.MessageNotFoundError), errors[2])
        for number, what in ((3, "an empty queue name"), (4, "an id that is no UUID")):
            error = errors[number]
            check("%s: %s" % (kind, what), isinstance(error, fila.RPCError) and
                  error.code == grpc.StatusCode.INVALID_ARGUMENT, error)
        error = errors[5]
        check(kind + ": a request over 4 MiB", isinstance(error, fila.RPCError) and
              error.code == grpc.StatusCode.OUT_OF_RANGE, error)

    def check_message(kind, message, id_, attempt, queue):
        check("%s: a message at attempt %d" % (kind, attempt), message == fila.ConsumeMessage(
            id=id_, headers={"tenant": "caf\u00e9", "": "empty"}, payload=b"\x00hello\xff", fairness_key="default",
            attempt_count=attempt, queue=queue), message)

    headers = {"tenant": "caf\u00e9", "": "empty"}
    huge = bytes(4 << 20)

    def sync():
        check("CreateQueue gives the name", create("sync") == "sync")
        with fila.Client(address, api_key="ignored-where-auth-is-off") as client:
            stream = client.consume("sync")
            id_ = client.enqueue("sync", headers, b"\x00hello\xff")
            check_message("sync", next(stream), id_, 0, "sync")
            client.nack("sync", id_, "try again")
            check_message("sync", next(stream), id_, 1, "sync")
            check("sync: ack", client.ack("sync", id_) is None)
            check("sync: a second ack", isinstance(raised(lambda: client.ack("sync", id_)), fila.MessageNotFoundError))
            check_errors("sync", [raised(call) for call in (
                lambda: client.enqueue("none", None, b""), lambda: client.ack("sync", no_lease),
                lambda: client.nack("sync", no_lease, ""), lambda: client.enqueue("", None, b""),
                lambda: client.ack("sync", "42"), lambda: client.enqueue("sync", None, huge))])
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                sent = list(pool.map(lambda n: client.enqueue("sync", None, b"%d" % n), range(500)))
                got = [next(stream) for _ in sent]
                list(pool.map(lambda message: client.ack(message.queue, message.id), got))
            check("sync: 500 messages by 16 threads", sorted(sent) == sorted(m.id for m in got) and
                  sorted(int(m.payload) for m in got) == list(range(500)))
            stats = admin.GetStats(admin_pb2.GetStatsRequest(queue="sync"))
            check("sync: nothing is left", (stats.depth, stats.in_flight) == (0, 0), stats)
            large = os.urandom(3 << 20)
            client.enqueue("sync", None, large)
            message = next(stream)
            check("sync: 3 MiB", message.payload == large)
            client.ack("sync", message.id)

    async def asynchronous():
        create("async")
        async with fila.AsyncClient(address) as client:
            silent = await client.consume("async-later")
            stream = await client.consume("async")
            id_ = await client.enqueue("async", headers, b"\x00hello\xff")
            check_message("async", await stream.__anext__(), id_, 0, "async")
            await client.nack("async", id_, "try again")
            check_message("async", await stream.__anext__(), id_, 1, "async")
            await client.ack("async", id_)
            errors = []
            for call in (client.enqueue("none", None, b""), client.ack("async", no_lease),
                         client.nack("async", no_lease, ""), client.enqueue("", None, b""),
                         client.ack("async", "42"), client.enqueue("async", None, huge)):
                try:
                    errors.append(await call)
                except fila.FilaError as error:
                    errors.append(error)
            check_errors("async", errors)
            sent = await asyncio.gather(*(client.enqueue("async", None, b"%d" % n) for n in range(500)))
            got = [await stream.__anext__() for _ in sent]
            await asyncio.gather(*(client.ack(message.queue, message.id) for message in got))
            check("async: 500 messages at once", sorted(sent) == sorted(m.id for m in got))
            create("async-later")
            await client.enqueue("async-later", None, b"at last")
            check("async: a stream on a queue that came later", (await silent.__anext__()).payload == b"at last")

    def dead_letters():
        create("parent")
        with fila.Client(address) as client:
            client.enqueue("parent.dlq", None, b"dead")
            stream = client.consume("parent.dlq")
            message = next(stream)
            check("a dead letter's queue", message.queue == "parent.dlq", message)
            check("ack with the parent's name", isinstance(
                raised(lambda: client.ack("parent", message.id)), fila.MessageNotFoundError))
            client.ack(message.queue, message.id)

    def stamps():
        from fila.v1 import service_pb2, service_pb2_grpc
        create("stamps")
        with fila.Client(address) as client:
            client.enqueue("stamps", None, b"x")
        stub = service_pb2_grpc.FilaServiceStub(channel)
        call = stub.Consume(service_pb2.ConsumeRequest(queue="stamps"))
        message = next(iter(call)).message
        check("no timestamps are sent", not message.HasField("timestamps"), message)
        check("all metadata is", isinstance(message, messages_pb2.Message) and message.metadata.weight == 1)
        call.cancel()

    sync()
    asyncio.run(asynchronous())
    dead_letters()
    stamps()
    channel.close()
    print("%d checks failed" % len(failures), flush=True)
    os._exit(1 if failures else 0)  # without waiting for the timer


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--worker", help="the fila-worker whose broker is tested")
    ap.add_argument("--address", help="or a server that runs")
    ap.add_argument("--venv", help="where the SDK is installed")
    ap.add_argument("--inside", help=argparse.SUPPRESS)
    opts = ap.parse_args()
    if opts.inside:
        inside(opts.inside)
    if not opts.venv or not (opts.worker or opts.address):
        ap.error("--venv and one of --worker, --address are needed")
    return outer(opts)


if __name__ == "__main__":
    sys.exit(main())
