# SPDX-License-Identifier: AGPL-3.0-or-later
"""The tests, in the order in which they were defined."""
import importlib
import os

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = sorted(f[:-3] for f in os.listdir(HERE) if f.startswith("test_") and f.endswith(".py"))


class Test:
    def __init__(self, name, body, seconds, real_server):
        self.name, self.body, self.seconds, self.real_server = name, body, seconds, real_server
        self.module = body.__module__


TESTS = []


def test(seconds=60, real_server=False):
    """Registers a function of a harness.Bench under its own name. `seconds` is ctest's limit. A test
    that needs nothing of its broker but what every Fila server does is given one that is started
    already (bench.broker), and also runs against a real server (test_server.py)."""
    def register(function):
        TESTS.append(Test(function.__name__, function, seconds, real_server))
        return function
    return register


def add(name, body, seconds=60):
    """Registers a test of a table."""
    TESTS.append(Test(name, body, seconds, False))


def load(modules=MODULES):
    """Registers the tests of these files (and of those that they import)."""
    for module in modules:
        importlib.import_module(module)
