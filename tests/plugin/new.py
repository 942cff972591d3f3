#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""`fila-worker new`: what it makes builds, tests and runs with the one command that it prints, out of tree, with the installed worker.

    new.py BUILD-FOLDER WORK-FOLDER LIBDIR
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

SECONDS = 180


class Run:
    """A command whose output is read as it comes, in a process group of its own."""

    def __init__(self, command, folder, environment):
        self.process = subprocess.Popen(command, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.said = ""
        self.watchdog = threading.Timer(SECONDS, self.kill)
        self.watchdog.start()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def until(self, pattern):
        for line in self.process.stdout:
            self.said += line
            found = re.search(pattern, line)
            if found:
                return found
        self.kill()
        sys.exit("no line that matches %r:\n%s" % (pattern, self.said))

    def end(self):
        self.said += self.process.stdout.read()
        status = self.process.wait()
        self.watchdog.cancel()
        return status


def call(command, folder, environment, status=0, says=""):
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, timeout=SECONDS, check=False)
    if done.returncode != status or says not in done.stdout:
        sys.exit("%s: status %d, wanted %d and \"%s\":\n%s" % (command, done.returncode, status, says, done.stdout))
    return done.stdout


def check_plugin(name, language, folder, environment):
    made = call("fila-worker new plugin %s --lang %s" % (name, language), folder, environment)
    printed = [line.strip() for line in made.splitlines() if line.strip().startswith("make -C")]
    if len(printed) != 1:
        sys.exit("it prints no command: " + made)
    for file in os.listdir(os.path.join(folder, name)):
        with open(os.path.join(folder, name, file), encoding="utf-8") as text:
            if re.search(r"@[A-Z]+@|SPDX", text.read()):
                sys.exit(file + ": something of the template is left")
    run = Run(printed[0], folder, dict(environment, FILA_WORKER_BROKER="embedded:?listen=127.0.0.1:0",
                                       FILA_WORKER_LOG_FORMAT="text"))
    port = run.until(r"BROKER-READY.*\bport=(\d+)")[1]
    if "all tests passed" not in run.said or "warning:" in run.said or "0 errors, 0 warnings" not in run.said:
        sys.exit("its own tests:\n" + run.said)
    call("printf abc | fila-worker enqueue %s --broker grpc://127.0.0.1:%s -" % (name, port), folder, environment)
    run.until("Hello, 3 bytes")
    os.killpg(run.process.pid, signal.SIGINT)
    run.end()
    if not re.search(r"WORKER-STOP.*acked=1", run.said):
        sys.exit("it did not stop in good order:\n" + run.said)
    call("make -C %s install" % name, folder, environment)
    call("echo hi | fila-worker try --handler " + name, folder, environment, says="Hello, 3 bytes")
    call("fila-worker new plugin " + name, folder, environment, 66, name + ": it is there already")
    os.rename(os.path.join(folder, name), os.path.join(folder, name + ".away"))
    call("fila-worker new plugin " + name, folder, environment, 64, 'there is a handler "%s" already, ' % name)
    os.rename(os.path.join(folder, name + ".away"), os.path.join(folder, name))
    # A test that cannot fail would be no test.
    source = os.path.join(folder, name, name + (".cc" if language == "c++" else ".c"))
    with open(source, encoding="utf-8") as file:
        text = file.read()
    with open(source, "w", encoding="utf-8") as file:
        file.write(text.replace("return FILA_REJECT", "return FILA_RETRY", 1))
    call("make -C %s test" % name, folder, environment, 2, "status 75, wanted 65")


THROWER = """#include <fila/plugin.h>
#include <stdexcept>
static int handle(void *, const fila_delivery *d, const fila_services *)
{
    if (d->payload_len == 1) {
        throw std::runtime_error("out of here");
    }
    return FILA_ACK;
}
static constexpr fila_plugin describe()
{
    fila_plugin p = FILA_PLUGIN_INIT;
    p.name = "thrower";
    p.version = "1";
    p.handle = handle;
    return p;
}
FILA_PLUGIN_DEFINE(describe())
"""


def check_exception(folder, environment):
    """An exception that leaves a slot is found, with where it came from."""
    with open(os.path.join(folder, "thrower.cc"), "w", encoding="utf-8") as file:
        file.write(THROWER)
    call("c++ -std=c++17 -g -shared -fPIC -fvisibility=hidden $(pkg-config --cflags fila-plugin) -o thrower.so thrower.cc", folder,
         environment)
    said = call("fila-worker plugin verify ./thrower.so", folder, environment, 66,
                "error: crash (messages): handle, with a message of one byte: ended by SIGABRT; at ")
    if "thrower.so+0x" not in said or "out of here" not in said:
        sys.exit("nothing says where: " + said)


def check_debuggers(folder, environment):
    with open(os.path.join(folder, "message"), "w", encoding="utf-8") as file:
        file.write("hello")
    call("fila-worker try --gdb --handler log", folder, environment, 64, "--gdb needs a FILE")
    call("fila-worker try --gdb --handler log message", folder, dict(environment, PATH=os.path.dirname(shutil.which(
        "fila-worker", path=environment["PATH"]))), 66, "cannot start gdb: No such file or directory")
    if shutil.which("gdb"):
        said = call("printf 'step\\nstep\\nbacktrace\\ncontinue\\n' | fila-worker try --gdb --handler first message", folder,
                    environment, 0, "first_handle (instance=")
        if "ack in" not in said:
            sys.exit("under gdb:\n" + said)
    if shutil.which("valgrind"):
        call("fila-worker try --valgrind --handler first message", folder, environment, 0, "ack in")
        source = os.path.join(folder, "first", "first.c")
        with open(source, encoding="utf-8") as file:
            text = file.read()
        with open(source, "w", encoding="utf-8") as file:
            file.write(text.replace("    free(instance);", "    (void)instance;"))
        call("make -C first", folder, environment)
        call("fila-worker try --valgrind --handler ./first/first.so message", folder, environment, 70, "definitely lost")


def check_names(folder, environment):
    """Reserved words and the interface's own names; places that cannot be written; tools that are missing."""
    for name in ("int", "fila_plugin", "x-1_y"):
        call("fila-worker new plugin %s && make -C %s" % (name, name), folder, environment, says="make -C %s run" % name)
        call("fila-worker plugin info ./%s/%s.so" % (name, name), folder, environment, says="slots        init handle close")
    call("fila-worker new plugin log", folder, environment, 64, 'there is a handler "log" already, ')
    call("fila-worker new plugin 2fast", folder, environment, 64, "begins with a letter")
    call("fila-worker new plugin " + "n" * 49, folder, environment, 64, "has at most 48")
    call("fila-worker new plugin lost", "/proc/self", environment, 66, "lost: the folder cannot be made: ")
    make = "rm -f int/int.so; make -C int "
    call(make + "CC=no-such-cc", folder, environment, 2, "no-such-cc: not found: install a compiler and pkg-config")
    call(make + "PKG_CONFIG=no-such-pc", folder, environment, 2, "no-such-pc: not found: install a compiler and pkg-config")
    call(make + "test FILA_WORKER=/no/such", folder, environment, 2, "/no/such: not found: say where it is with")
    call("cd int && rm -f int.so && make FILA_WORKER=/no/such", folder, dict(environment, PKG_CONFIG_PATH="", PKG_CONFIG_LIBDIR="/no/such"), 2,
         "pkg-config does not find fila-plugin, which fila-worker installs: set PKG_CONFIG_PATH")
    # Without PKG_CONFIG_PATH it is found beside the worker.
    call(make, folder, {k: v for k, v in environment.items() if k != "PKG_CONFIG_PATH"}, says="-o int.so")


def check_config(folder, environment):
    call("fila-worker new config orders", folder, environment, says="made orders.cfg")
    call("fila-worker check --offline --config orders.cfg", folder, environment, says="config is fine: 1 queue")
    call("fila-worker new config orders", folder, environment, 66, "orders.cfg: it is there already")
    for words, says in (("plugin Upper", "a name is of a-z"), ("plugin ../up", "a name is of a-z"), ("folder x", "plugin or config"),
                        ("plugin x --lang rust", "--lang is c or c++"), ("config x --lang c", "--lang is c or c++"), ("plugin", "")):
        call("fila-worker new " + words, folder, environment, 64, says)


def main():
    build, work, libdir = sys.argv[1:]
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, mode=0o755)
    prefix = os.path.join(work, "prefix")
    subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILA_") and not k.startswith("MAKE")}
    environment.update(PATH=os.path.join(prefix, "bin") + ":" + os.environ["PATH"], LC_ALL="C",
                       PKG_CONFIG_PATH=os.path.join(prefix, libdir, "pkgconfig"))
    check_plugin("first", "c", work, environment)
    if shutil.which("c++"):
        check_plugin("my-second", "c++", work, environment)
        check_exception(work, environment)
    check_debuggers(work, environment)
    check_config(work, environment)
    check_names(work, environment)
    print("what `new` makes builds, tests, runs and is installed")


main()
