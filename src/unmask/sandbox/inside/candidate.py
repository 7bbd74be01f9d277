"""The process of a program: loads it, then answers one call at a time. It is sent neither tests nor expected values.

The program shares this process and can do as it likes with it, forge an answer included: whatever arrives is only a
value, which the parent compares. This file runs inside the sandbox and imports nothing of the project.
"""

from __future__ import annotations

import builtins
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import frames
import straight_line
from values import NotPlainError, decode, encode
from watch import Watch

LONGEST_TEXT = 200  # characters of an error
# What compiling a text may raise: all of them say that the text is no program.
NOT_A_PROGRAM = (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError)


class Python:
    """A Python module named `solution`."""

    def __init__(self, source: str) -> None:
        self._code = compile(source, "<program>", "exec")
        self._module = types.ModuleType("solution")

    def load(self) -> None:
        """Run the module."""
        sys.modules["solution"] = self._module
        # Left out with the module `site`, which would bring installed packages.
        builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
        exec(self._code, vars(self._module))  # noqa: S102 (what the sandbox is for)

    def expression(self, text: str) -> Any:
        """Return the value of a call, such as `add(1, 2)`."""
        self._seed()
        return eval(compile(text, "<call>", "eval"), vars(self._module))  # noqa: S307 (what the sandbox is for)

    def call(self, name: str, positional: list[Any], named: dict[str, Any]) -> Any:
        """Call a function of the module."""
        self._seed()
        return getattr(self._module, name)(*positional, **named)

    @staticmethod
    def _seed() -> None:
        # Verdicts must not depend on luck: a program that draws numbers draws the same ones at every call.
        if "random" in sys.modules:
            sys.modules["random"].seed(0)


class StraightLine:
    """A program of the straight-line language, as a function f of one number."""

    def __init__(self, source: str) -> None:
        self._lines = straight_line.parse(source)

    def load(self) -> None:
        """Do nothing: there is no code outside of the function."""

    def expression(self, text: str) -> Any:
        """Return the value of a call, which must have the form `f(3)`."""
        return self.call("f", [int(text.removeprefix("f(").removesuffix(")"))], {})

    def call(self, name: str, positional: list[Any], named: dict[str, Any]) -> Any:
        """Run the program. Raises NameError for another name than f."""
        if name != "f" or named:
            raise NameError(f"a program has one function, f, not {name}")
        (x,) = positional
        return straight_line.run(self._lines, x)


LANGUAGES: dict[str, Callable[[str], Python | StraightLine]] = {"python": Python, "straight_line": StraightLine}


def serve(source: int, target: int, answer_bytes: int) -> None:
    """Load the first message's program, then answer calls until the pipe ends; messages arrive from `source`."""
    first = frames.read(source)
    if first is None:
        return
    watch = Watch()
    try:
        program = LANGUAGES[first["language"]](first["program"])
    except NOT_A_PROGRAM as error:
        frames.write(target, {"parses": False, "error": _described(error)})
        return

    # Said before the program runs for the first time, so that it cannot say otherwise.
    frames.write(target, {"parses": True})
    watch.start()
    frames.write(target, _outcome(program.load, watch, answer_bytes) | {"id": first["id"]})
    while (message := frames.read(source)) is not None:
        answer = _outcome(lambda: _asked(program, message), watch, answer_bytes)
        frames.write(target, answer | {"id": message["id"]})


def _asked(program: Python | StraightLine, message: dict[str, Any]) -> Any:
    if "expression" in message:
        return program.expression(message["expression"])
    named = {name: decode(value) for name, value in message["named"].items()}
    return program.call(message["call"], [decode(value) for value in message["positional"]], named)


def _outcome(run: Callable[[], Any], watch: Watch, answer_bytes: int) -> dict[str, Any]:
    """Return the value of a call, or its error, with what was tried on the way."""
    tried: list[str] = []
    try:
        value = encode(run())
        if len(json.dumps(value)) > answer_bytes:
            raise ValueError(f"an answer of more than {answer_bytes} bytes")
        found: dict[str, Any] = {"value": value}
    except BaseException as error:
        if isinstance(error, SystemExit):
            tried.append("exit")
        if isinstance(error, MemoryError):
            tried.append("memory")
        if isinstance(error, NotPlainError) and error.overrides:
            tried.append("equality")
        found = {"error": _described(error)}
    return found | {"tried": tried + watch.take()}


def _described(error: BaseException) -> dict[str, str]:
    """Return the nearest built-in type of an error and the beginning of its text."""
    kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins")
    try:
        text = str(error)[:LONGEST_TEXT]
    except BaseException:  # a class of the program may do anything here
        text = ""
    return {"type": kind, "text": text}
