"""Tests of a data set as cases: a call with the value that it must return, or code that must run without an error.

The first kind is compared here in the parent. The second kind runs in a sandboxed process of its own,
inside/checker.py, that never holds the program. The code of tests is parsed here, and run there.
"""

from __future__ import annotations

import ast
import builtins
import functools
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class CallCase:
    """Call that must return a value: `add(1, 2)` and 3. The value stays in the parent."""

    expression: str
    expected: Any


@dataclass(frozen=True)
class CheckCase:
    """Code that must run without an error; `names` are functions of the program that it may call."""

    code: str
    names: tuple[str, ...] = ()
    function: str = ""  # of the code, called after it has run
    passes: str = ""  # function of the program that is passed to `function`


Case = CallCase | CheckCase


@dataclass(frozen=True)
class Tests:
    """Tests of a problem as the data set has them.

    `asserts`: statements. `check`: one module with a function `check(candidate)`, called with the function `entry`.
    `module`: one module with functions `test_…`, which imports the program's functions from `solution`.
    """

    __test__ = False  # for pytest, which would take the class for tests

    form: Literal["asserts", "check", "module"]
    texts: tuple[str, ...]
    entry: str = ""
    setup: str = ""  # code before asserts, such as imports

    @functools.cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases, at least one. Raises ValueError if a text is no Python, or if nothing in it tests a program."""
        try:
            found = {"asserts": self._asserts, "check": self._check, "module": self._module}[self.form]()
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(f"a test is no Python: {error}") from error
        if not found:
            raise ValueError("no test in it")
        return tuple(found)

    def _asserts(self) -> list[Case]:
        found: list[Case] = []
        for text in self.texts:
            for statement in ast.parse(text).body:
                call = _as_call(statement)
                # With a setup, the names among the arguments may be its own.
                if call is not None and (not self.setup or len(_names(statement)) == 1):
                    found.append(call)
                elif isinstance(statement, ast.Assert):
                    found.append(_as_check([*ast.parse(self.setup).body, statement]))
                else:
                    raise ValueError(f"{ast.unparse(statement)!r:.60} is no assert")
        return found

    def _check(self) -> list[Case]:
        """Split `check` into one case for each of its statements that asserts something about the candidate."""
        (text,) = self.texts
        body = ast.parse(text).body
        check = next((one for one in body if isinstance(one, ast.FunctionDef) and one.name == "check"), None)
        if check is None or len(check.args.args) != 1:
            raise ValueError("no function check(candidate)")
        candidate = check.args.args[0].arg
        around = [one for one in body if one is not check]
        found: list[Case] = []
        before: list[ast.stmt] = []
        for statement in check.body:
            if not any(isinstance(node, ast.Assert) for node in ast.walk(statement)):
                before.append(statement)
                continue
            call = _as_call(statement, {candidate: self.entry})
            if call is not None:
                found.append(call)
            elif _names(statement) or not isinstance(statement, ast.Assert):
                # An assert without names, as `assert True`, is the same for every program and tests none.
                alone = ast.FunctionDef("check", check.args, [*before, statement], [], lineno=1)
                found.append(CheckCase(_source([*around, alone]), (self.entry,), "check", self.entry))
        return found

    def _module(self) -> list[Case]:
        (text,) = self.texts
        names = [one.name for one in ast.parse(text).body if isinstance(one, ast.FunctionDef)]
        return [CheckCase(text, (), name) for name in names if name.startswith("test")]


def _as_call(statement: ast.stmt, renamed: dict[str, str] | None = None) -> CallCase | None:
    """Return the case of `assert call == literal`, in either order; None for any other statement."""
    match statement:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            sides = ((left, right), (right, left))
        case _:
            return None
    for call, literal in sides:
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        # A name of Python itself, as in `sorted(f(x)) == [1]`, would be looked up where the program can replace it.
        if call.func.id in vars(builtins):
            continue
        try:
            expected = ast.literal_eval(literal)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        return CallCase(_renamed(call, renamed or {}), expected)
    return None


def _renamed(call: ast.Call, names: dict[str, str]) -> str:
    """Return the text of a call whose function has the program's own name for it."""
    assert isinstance(call.func, ast.Name)
    function = ast.Name(names.get(call.func.id, call.func.id), ast.Load())
    return ast.unparse(ast.Call(function, call.args, call.keywords))


def _as_check(statements: list[ast.stmt]) -> CheckCase:
    """Return the case of statements that call the program's functions by names of which nothing else is known."""
    free: set[str] = set()
    bound: set[str] = set()
    for statement in statements:
        free |= _names(statement)
        bound |= _bound(statement)
    return CheckCase(_source(statements), tuple(sorted(free - bound - set(vars(builtins)))))


def _names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement reads."""
    nodes = ast.walk(statement)
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement assigns, imports, defines or has as parameters."""
    found = set()
    for node in ast.walk(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name.partition(".")[0])
    return found


def _source(statements: list[ast.stmt]) -> str:
    return ast.unparse(ast.Module(statements, []))
