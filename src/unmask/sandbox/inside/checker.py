"""The process of tests that are more than `call == literal`. It never holds the program: a call of the program's
functions goes through the parent to the program's own process, and a plain value comes back.

This file runs inside the sandbox and imports nothing of the project.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import frames
from values import decode, encode


class Stub:
    """Function of the program, called through the parent."""

    def __init__(self, name: str, source: int, target: int) -> None:
        self.__name__ = name
        self._pipes = source, target

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Return what the function returns, or raise the nearest built-in type of what it raises."""
        source, target = self._pipes
        message = {
            "call": self.__name__,
            "positional": [encode(value) for value in positional],
            "named": {name: encode(value) for name, value in named.items()},
        }
        frames.write(target, message)
        answer = frames.read(source)
        if answer is None:
            sys.exit("the parent has gone")
        if "error" not in answer:
            return decode(answer["value"])
        kind = getattr(builtins, answer["error"]["type"], Exception)
        raise (kind if issubclass(kind, Exception) else RuntimeError)(answer["error"]["text"])


class Solution(types.ModuleType):
    """Module `solution`, for `from solution import add`: it has every name."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__("solution")
        self._pipes = source, target

    def __getattr__(self, name: str) -> Stub:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name, *self._pipes)


class Raised:
    """What `pytest.raises` gives: the exception as `value`."""

    value: BaseException | None = None


class Approximately:
    """What `pytest.approx` gives: equal within a relative 1e-6 or an absolute 1e-12, as in pytest."""

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None) -> None:
        self._expected, self._rel, self._abs = expected, rel, abs

    def __eq__(self, other: object) -> bool:
        return self._close(self._expected, other)

    __hash__ = None  # type: ignore[assignment]

    def _close(self, expected: Any, other: Any) -> bool:
        if isinstance(expected, dict):
            same = isinstance(other, dict) and expected.keys() == other.keys()
            return same and all(self._close(expected[key], other[key]) for key in expected)
        if isinstance(expected, list | tuple):
            same = isinstance(other, list | tuple) and len(expected) == len(other)
            return same and all(map(self._close, expected, other))
        if expected == other:
            return True
        if not all(isinstance(value, int | float | complex) for value in (expected, other)):
            return False
        relative = (self._rel if self._rel is not None else 0.0 if self._abs is not None else 1e-6) * abs(expected)
        return abs(expected - other) <= max(relative, 1e-12 if self._abs is None else self._abs)


@contextlib.contextmanager
def raises(kind: type[BaseException], match: str | None = None) -> Iterator[Raised]:
    """Expect an exception, as `pytest.raises` does; its text is not compared, since only its type crosses the pipe."""
    found = Raised()
    try:
        yield found
    except kind as error:
        found.value = error
        return
    raise AssertionError(f"no {kind}")


def parametrize(names: str | list[str], rows: list[Any], **_: Any) -> Any:
    """Mark a test function with rows of arguments, as `pytest.mark.parametrize` does."""
    keys = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)

    def mark(function: Any) -> Any:
        function.rows = [dict(zip(keys, row if len(keys) > 1 else (row,), strict=True)) for row in rows]
        return function

    return mark


def pytest_module() -> types.ModuleType:
    """Return a module with the few names of pytest that data sets of tests use."""
    module = types.ModuleType("pytest")
    mark = types.SimpleNamespace(parametrize=parametrize)
    vars(module).update(raises=raises, approx=Approximately, mark=mark)
    return module


def serve(source: int, target: int) -> None:
    """Run each test that arrives and say whether it passes, until the pipe ends."""
    sys.modules["solution"] = Solution(source, target)
    sys.modules["pytest"] = pytest_module()
    while (message := frames.read(source)) is not None:
        error = ""
        try:
            _run(message, source, target)
        except BaseException as raised:  # a test may raise anything, SystemExit included
            error = f"{type(raised).__name__}: {raised}"[:200]
        frames.write(target, {"passed": not error, "error": error})


def _run(message: dict[str, Any], source: int, target: int) -> None:
    """Run the code of a test, then the function that it names, with the program's function if it takes one."""
    names: dict[str, Any] = {name: Stub(name, source, target) for name in message["names"]}
    names |= {"__name__": "tests"}
    exec(compile(message["code"], "<test>", "exec"), names)  # noqa: S102 (tests of a data set, in the sandbox)
    function: Any = names.get(message["function"]) if message["function"] else None
    if message["function"] and function is None:
        raise NameError(f"no function {message['function']}")
    if message["passes"]:
        function(Stub(message["passes"], source, target))
    elif function is not None:
        for row in getattr(function, "rows", [{}]):
            function(**row)
