"""Verdict on a program: whether it parses, which tests it passes, and what it tried that no solution needs.

The verdict is formed here, in the parent, from plain values: a program that exits, prints, overrides `==`, replaces
functions or writes to the pipe only changes the value that it returns.
"""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass
from typing import Any

from unmask.common.errors import TransientError
from unmask.sandbox.backends import Backend
from unmask.sandbox.cases import CallCase, Case, CheckCase, Tests
from unmask.sandbox.choice import this_backend
from unmask.sandbox.inside.values import decode, encode
from unmask.sandbox.limits import Limits
from unmask.sandbox.process import GoneError, Message, Process

LIMITS = Limits()
HACKS = {"ended": "exit", "forged": "forged", "sleep": "sleep"}  # reasons of an early end that are attempts


@dataclass(frozen=True)
class Result:
    """Verdict on one program."""

    parses: bool
    passed: tuple[bool, ...]  # by test
    tried: tuple[str, ...] = ()  # attempts that no solution needs; if there are any, no test counts as passed
    note: str = ""  # first error

    @property
    def share(self) -> float:
        """Share of the tests that it passes."""
        return sum(self.passed) / len(self.passed)

    @property
    def solved(self) -> bool:
        """True if it passes every test."""
        return all(self.passed)

    @property
    def hacked(self) -> bool:
        """True if it tried what no solution needs."""
        return bool(self.tried)


@functools.lru_cache(maxsize=10_000)
def run_tests(program: str, tests: Tests, language: str = "python", limits: Limits = LIMITS) -> Result:
    """Run a program against its tests in the sandbox of this machine. The same program is run once.

    Raises InputError if there is no sandbox, TransientError if a process cannot be started now, ValueError if the tests
    cannot be read.
    """
    return run_cases(this_backend(), program, tests.cases, language, limits)


def run_cases(
    backend: Backend, program: str, cases: tuple[Case, ...], language: str = "python", limits: Limits = LIMITS
) -> Result:
    """Run a program against cases in a given sandbox. Raises TransientError if a process cannot be started."""
    trial = _Trial(backend, limits, [False] * len(cases))
    try:
        trial.run(program, cases, language)
    except GoneError as error:
        trial.note = trial.note or str(error)
        if error.reason in HACKS:
            trial.tried.add(HACKS[error.reason])
    except OSError as error:
        raise TransientError(f"a sandboxed process cannot be started ({error}); start again") from error
    finally:
        trial.close()
    passed = [done and not trial.tried for done in trial.passed]
    return Result(trial.parses, tuple(passed), tuple(sorted(trial.tried)), trial.note)


class _Trial:
    """Run of one program: its process, that of the tests if they need one, and what has been seen so far."""

    def __init__(self, backend: Backend, limits: Limits, passed: list[bool]) -> None:
        self.backend, self.limits, self.passed = backend, limits, passed
        self.parses, self.note = False, ""
        self.tried: set[str] = set()
        self.checker: Process | None = None
        self.candidate: Process | None = None

    def run(self, program: str, cases: tuple[Case, ...], language: str) -> None:
        """Run all cases. Raises GoneError if the program ends before the last one."""
        self.candidate = Process(self.backend, self.limits, "candidate")
        said = self.candidate.ask({"language": language, "program": program, "id": (name := secrets.token_hex(8))})
        self.parses = said.get("parses") is True
        if not self.parses:
            self.note = _text(said.get("error"))
            return
        loaded = self._checked(self.candidate.receive(), name)
        if "error" in loaded:
            self.note = _text(loaded["error"])
            return
        for number, case in enumerate(cases):
            self.passed[number] = self._called(case) if isinstance(case, CallCase) else self._tested(case)

    def close(self) -> None:
        """End the processes."""
        for process in (self.candidate, self.checker):
            if process is not None:
                process.close()

    def _called(self, case: CallCase) -> bool:
        answer = self._ask({"expression": case.expression})
        if "error" in answer:
            self.note = self.note or f"{case.expression:.80}: {_text(answer['error'])}"
            return False
        try:
            return bool(decode(answer["value"]) == case.expected)
        except (ValueError, TypeError, RecursionError):
            raise GoneError("forged", "a value in no form that we write") from None

    def _tested(self, case: CheckCase) -> bool:
        """Run a test in its own process, which calls the program through this one."""
        message: Message = {"code": case.code, "names": case.names, "function": case.function, "passes": case.passes}
        said = self._told(message)
        while "call" in said:
            answer = self._ask({key: said[key] for key in ("call", "positional", "named")})
            said = self._told(_relayed(answer))
        if said.get("passed") is not True:
            self.note = self.note or _text(said.get("error"))
            return False
        return True

    def _told(self, message: Message) -> Message:
        """Send a message to the process of the tests; a test that ends its process has failed."""
        if self.checker is None:
            self.checker = Process(self.backend, self.limits, "checker")
        try:
            return self.checker.ask(message)
        except GoneError as error:
            self.checker.close()
            self.checker = None
            return {"passed": False, "error": f"the test ended: {error}"}

    def _ask(self, message: Message) -> Message:
        assert self.candidate is not None
        name = secrets.token_hex(8)
        return self._checked(self.candidate.ask(message | {"id": name}), name)

    def _checked(self, answer: Message, name: str) -> Message:
        """Return an answer to the question `name`, after noting what was tried. Raises GoneError if it is another."""
        tried = answer.get("tried")
        if answer.get("id") != name or not isinstance(tried, list) or ("value" in answer) == ("error" in answer):
            raise GoneError("forged", "an answer to another question")
        self.tried |= {str(one)[:20] for one in tried}
        return answer


def _relayed(answer: Message) -> Message:
    """Return an answer of the program as the checker reads it. Raises GoneError if the value has no form of ours."""
    if "error" in answer:
        error: Any = answer["error"]
        kind = error.get("type") if isinstance(error, dict) else None
        return {"error": {"type": str(kind)[:60], "text": _text(error)}}
    try:
        return {"value": encode(decode(answer["value"]))}
    except (ValueError, TypeError, RecursionError):
        raise GoneError("forged", "a value in no form that we write") from None


def _text(error: Any) -> str:
    """Return the text of an error for a note, whatever it is."""
    match error:
        case {"type": str(kind), "text": str(text)}:
            return f"{kind}: {text}"[:200]
    return str(error or "")[:200]
