"""Settings, facts and names that methods, tasks and figures declare in their own files.

Settings are read from the source text, with the comments that describe them. Facts of a method are in its class, which
imports without torch: the workflow's controller does not have it. Both are found by name, so that adding a file to
methods/ or tasks/ is enough.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import importlib
import traceback
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from unmask.common.errors import InputError
from unmask.config.schema.training import Training
from unmask.config.schema.types import ANNOTATIONS, Section

LIBRARY = Path(__file__).parents[2]


def declared_names(kind: Literal["methods", "tasks"]) -> frozenset[str]:
    """Return the names of all methods or tasks: one per file in their folder."""
    return _names_in(LIBRARY, kind)


@functools.cache
def _names_in(library: Path, kind: str) -> frozenset[str]:
    # Cached, because validation asks thousands of times.
    return frozenset(path.stem for path in (library / kind).glob("*.py") if not path.stem.startswith("_"))


@functools.cache
def declared_class(kind: Literal["methods", "tasks"], name: str) -> ast.ClassDef:
    """Return the class of a method or task: the first in its file that derives from Method, Task or Corpus.

    Raises InputError if the file has a syntax error, or no such class.
    """
    file = f"src/unmask/{kind}/{name}.py"
    try:
        tree = ast.parse((LIBRARY / kind / f"{name}.py").read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"{file}, line {error.lineno}: {error.msg}; correct the syntax") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error}); save it as UTF-8") from error
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    owner = next((c for c in classes if {"Method", "Task", "Corpus"} & set(bases(c))), None)
    if owner is None:
        # Settings are read from the text of one class, so those of a parent would not be found.
        how = "write a class with this base itself, as in `class Mine(Method)`, and all its settings"
        raise InputError(f"{file}: no class derives directly from Method, Task or Corpus; {how}")
    return owner


def bases(owner: ast.ClassDef) -> list[str]:
    """Return the base classes of a class as written in the source."""
    return [ast.unparse(base) for base in owner.bases]


def is_corpus(task: str) -> bool:
    """Return True if a task is a corpus: text for SFT, without test problems."""
    return "Corpus" in bases(declared_class("tasks", task))


def defines(kind: Literal["methods", "tasks"], name: str, function: str) -> bool:
    """Return True if the class of a method or task itself defines `function`."""
    return function in {node.name for node in declared_class(kind, name).body if isinstance(node, ast.FunctionDef)}


@functools.cache
def method_class(name: str) -> Any:
    """Return the class of a method, imported from methods/<name>.py: the one that derives from Method.

    Raises InputError if the file cannot be imported, or has not exactly one such class, a dataclass of the settings
    that `declared_settings` reads from its text.
    """
    file = method_file(name)
    # By name: this package is below `unmask.methods` and may not import it.
    method = importlib.import_module("unmask.methods").Method
    try:
        module = importlib.import_module(f"unmask.methods.{name}")
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
        place = f"{file}, line {lines[-1]}" if lines else file
        raise InputError(f"{place}: cannot be imported: {type(error).__name__}: {error}; correct the file") from error
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, method)]
    own = [one for one in classes if one.__module__ == module.__name__]
    if len(own) != 1:
        raise InputError(f"{file}: {len(own)} classes derive from Method; define exactly one")
    fields = {field.name for field in dataclasses.fields(own[0])}
    if fields != declared_fields("methods", name).keys():
        how = "write @dataclass(frozen=True) above it, and all settings in it"
        raise InputError(f"{file}: the settings of class {own[0].__name__} are not those of a dataclass; {how}")
    return own[0]


def method_file(name: str) -> str:
    """Return the path of a method's file in the repository."""
    return f"src/unmask/methods/{name}.py"


@functools.cache
def method_defaults(name: str) -> dict[str, Any]:
    """Return the settings of a method at the defaults in its file; a setting without a default is not among them."""
    fields = declared_settings("methods", name).model_fields
    return {key: field.default for key, field in fields.items() if not field.is_required()}


def is_class_variable(node: ast.AnnAssign) -> bool:
    """Return True for an annotation of what the class itself has, which is no setting."""
    return ast.unparse(node.annotation).startswith("ClassVar")


@functools.cache
def declared_settings(kind: Literal["methods", "tasks"], name: str) -> type[Section]:
    """Return a settings class built from the annotated fields of a method's or task's class.

    The comment of a field is its description. A field without a default is required. Raises InputError for an unknown
    type, or a default that is no literal.
    """
    source, owner = LIBRARY / kind / f"{name}.py", declared_class(kind, name)
    lines = source.read_text(encoding="utf-8").splitlines()
    fields: dict[str, Any] = {}
    for key, node in declared_fields(kind, name).items():
        place = f"src/unmask/{kind}/{name}.py, line {node.lineno}: {key}"
        annotation = _annotation(node.annotation, place)
        default = ... if node.value is None else _literal(node.value, place)
        fields[key] = (annotation, Field(default, description=_comment(lines, node)))
    return create_model(owner.name, __base__=Section, __doc__=ast.get_docstring(owner), **fields)


def _annotation(node: ast.expr, place: str) -> Any:
    """Return the type that an annotation names. Raises InputError if it is not made of the words of ANNOTATIONS."""
    # Without running the file: these words are the only globals.
    code = compile(ast.Expression(node), place, "eval")
    try:
        return eval(code, dict(ANNOTATIONS))  # noqa: S307 (our own)
    except (NameError, TypeError, AttributeError) as error:
        known = ", ".join(ANNOTATIONS)
        raise InputError(f"{place}: unknown type {ast.unparse(node)}; use {known}") from error


def _literal(node: ast.expr, place: str) -> Any:
    """Return the value of a default. Raises InputError if it is not written as a plain value."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise InputError(f"{place}: the default {ast.unparse(node)} is no plain value; write it out") from error


def declared_fields(kind: Literal["methods", "tasks"], name: str) -> dict[str, ast.AnnAssign]:
    """Return the annotated fields of a method's or task's class by name; what the class itself has is no setting."""
    found = {}
    for node in declared_class(kind, name).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not is_class_variable(node):
            found[node.target.id] = node
    return found


def _comment(lines: list[str], node: ast.AnnAssign) -> str | None:
    """Return the comment after a field, or the one above it; None if it has neither."""
    after = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")[2]
    if after:
        return after
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("# "):
            break
        above.insert(0, line.strip().removeprefix("# "))
    return " ".join(above) or None


@functools.cache
def narrow_settings(task: str) -> dict[str, tuple[str, ...]]:
    """Return the settings of a task that affect only test data, only training, or only the reward, by kind.

    Specs leave out what does not affect them, so changing such a setting repeats fewer jobs.
    """
    found: dict[str, tuple[str, ...]] = {"test_only": (), "training_only": (), "reward_only": ()}
    for node in declared_class("tasks", task).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in found:
            found[ast.unparse(node.targets[0])] = tuple(ast.literal_eval(node.value))
    return found


@functools.cache
def question_fields(task: str) -> tuple[str, ...]:
    """Return the example columns that a prompt file may use: `question_fields` of the task, default `question`."""
    for node in declared_class("tasks", task).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "question_fields":
            return tuple(ast.literal_eval(node.value))
    return ("question",)


@functools.cache
def settings_of(method: str) -> type[Section]:
    """Return a settings class with every setting of a method's runs: its own and those of Training."""
    return create_model("Settings", __base__=(declared_settings("methods", method), Training))


@functools.cache
def declared_figures() -> set[str]:
    """Return the figures that an experiment may request: public functions of (scores, metrics) in the figure files."""
    sources = [path.read_text(encoding="utf-8") for path in sorted((LIBRARY / "analysis/figures").glob("*.py"))]
    nodes = [node for source in sources for node in ast.parse(source).body]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return {f.name for f in functions if [a.arg for a in f.args.args][:2] == ["scores", "metrics"]}


@functools.cache
def optional(block: type[Section]) -> type[Section]:
    """Return the block with every key optional, for one layer of settings that other layers complete."""
    # pydantic does not validate defaults: the type stays as it is, and an explicit null is still a mistake.
    fields: dict[str, Any] = {}
    for name, field in block.model_fields.items():
        field = copy.copy(field)
        field.default = None
        fields[name] = (field.annotation, field)
    return create_model(f"Optional{block.__name__}", __base__=Section, **fields)
