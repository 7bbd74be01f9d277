"""Whether two LaTeX answers are the same mathematics, by math-verify and SymPy, safely.

The work is done in a process of its own (worker.py), because a symbolic comparison can hang or eat all memory. It is
started at the first question and ends with this one.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

LONGEST = 300  # characters of an answer; the longest gold answer of MATH500 has 53
WORKER = Path(__file__).with_name("worker.py")


def equivalent(gold: str, answer: str) -> tuple[bool, str]:
    """Whether the answer equals the gold one, and a note if that could not be found out."""
    if answer.strip() == gold.strip():
        return True, ""
    if len(answer) > LONGEST:
        return False, "too long to compare"
    try:
        return _compare(gold, answer), ""
    except TimeoutError:
        return False, "could not be compared within the limits"


@functools.lru_cache(maxsize=100_000)
def _compare(gold: str, answer: str) -> bool:
    """The worker's verdict. Raises TimeoutError, which is not remembered, if it has none."""
    verdict = _ask(json.dumps([gold, answer]))
    if verdict is None:
        raise TimeoutError
    return verdict


def _ask(question: str) -> bool | None:
    worker = _worker()
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline())
    except (BrokenPipeError, json.JSONDecodeError):  # the worker itself was killed, by the system for instance
        _worker.cache_clear()
        return None


@functools.cache
def _worker() -> subprocess.Popen[str]:
    if importlib.util.find_spec("math_verify") is None:
        raise RuntimeError("the strict protocol of MATH500 needs math-verify; pip install math-verify==0.9.0")
    pipe = subprocess.PIPE
    worker = subprocess.Popen(
        [sys.executable, "-P", str(WORKER)], stdin=pipe, stdout=pipe, text=True, encoding="utf-8", bufsize=1
    )
    atexit.register(worker.kill)
    return worker
