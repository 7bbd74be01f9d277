"""Whether a backend holds on this machine: a program that tries to get out must fail, and a plain one must work."""

from __future__ import annotations

from unmask.sandbox.backends import Backend
from unmask.sandbox.limits import Limits
from unmask.sandbox.process import GoneError, Process

# Each function returns True if the sandbox let it through. They do without modules that may be missing.
PROGRAM = """
import os, socket

def process():
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True

def network():
    try:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", 9)) is not None
    except OSError:
        return False

def written():
    try:
        os.close(os.open("probe", os.O_CREAT | os.O_WRONLY))
    except OSError:
        return False
    return True

def seen():
    return os.path.exists("/proc/1") or os.path.exists("/etc/passwd")

def usable():
    import collections, decimal, fractions, functools, heapq, itertools, math, random, re, string
    return math.gcd(12, 18) == 6
"""


def probe(backend: Backend) -> str | None:
    """Return what the backend lets through, None if it holds. Raises OSError if it cannot start."""
    process = Process(backend, Limits(), "candidate")
    try:
        process.ask({"language": "python", "program": PROGRAM, "id": 0})
        loaded = process.receive()
        if "error" in loaded:
            return f"a plain program fails ({loaded['error']})"
        for name, wanted in (("process", False), ("network", False), ("written", False), ("usable", True)):
            answer = process.ask({"expression": f"{name}()", "id": 1})
            if answer.get("value") is not wanted:
                return f"{name} is {answer.get('value', answer.get('error'))}, not {wanted}"
        # Limits alone hide no file, which is why they have to be chosen.
        if backend.name != "rlimits" and process.ask({"expression": "seen()", "id": 2}).get("value") is not False:
            return "files of the machine are visible"
    except GoneError as error:
        return f"a plain program is ended ({error})"
    finally:
        process.close()
    return None
