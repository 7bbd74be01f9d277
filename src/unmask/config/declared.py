"""What methods, tasks and figures declare in their own files, so that adding one changes nothing here.

The sources are read and not imported, because importing needs torch, and the workflow's controller has none.
"""

from __future__ import annotations

import ast
import copy
import functools
from pathlib import Path
from typing import Any, Literal

from pydantic import create_model

from unmask.config.kinds import ANNOTATIONS, Block
from unmask.config.training import Training

LIBRARY = Path(__file__).parents[1]


def declared_names(kind: Literal["methods", "tasks"]) -> set[str]:
    """Names of the methods or tasks that have a file."""
    return {path.stem for path in (LIBRARY / kind).glob("*.py") if path.stem != "__init__"}


@functools.cache
def declared_class(kind: Literal["methods", "tasks"], name: str) -> ast.ClassDef:
    """The class of a method or task: the one in its file that derives from Method, Task or Corpus."""
    source = LIBRARY / kind / f"{name}.py"
    classes = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    owner = next((c for c in classes if {"Method", "Task", "Corpus"} & set(bases(c))), None)
    if owner is None:
        raise ValueError(f"{source}: no class derives from Method, Task or Corpus")
    return owner


def bases(owner: ast.ClassDef) -> list[str]:
    """What a class derives from, as it is written."""
    return [ast.unparse(base) for base in owner.bases]


def is_corpus(task: str) -> bool:
    """Whether a task is text to learn from, without problems of its own."""
    return "Corpus" in bases(declared_class("tasks", task))


def defines(kind: Literal["methods", "tasks"], name: str, function: str) -> bool:
    """Whether the class of a method or task defines this function."""
    return function in {node.name for node in declared_class(kind, name).body if isinstance(node, ast.FunctionDef)}


def learns_demonstrations(method: str) -> bool:
    """Whether a method's class says `demonstrations = True`."""
    body = declared_class("methods", method).body
    return "demonstrations = True" in [ast.unparse(node) for node in body if isinstance(node, ast.Assign)]


@functools.cache
def declared_settings(kind: Literal["methods", "tasks"], name: str) -> type[Block]:
    """The settings that a method or task declares: the annotated fields of its class, read from its file.

    The file is parsed, not imported: importing needs torch.
    """
    source, owner = LIBRARY / kind / f"{name}.py", declared_class(kind, name)
    said = {
        node.target.id: node.annotation
        for node in owner.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    fields: dict[str, Any] = {
        key: (eval(compile(ast.Expression(annotation), str(source), "eval"), ANNOTATIONS), ...)  # noqa: S307 (our own)
        for key, annotation in said.items()
    }
    return create_model(owner.name, __base__=Block, **fields)


@functools.cache
def narrow_settings(task: str) -> dict[str, tuple[str, ...]]:
    """The settings of a task that decide less than the others: its tuples of the names that Task has for them."""
    found: dict[str, tuple[str, ...]] = {"test_only": (), "training_only": (), "reward_only": ()}
    for node in declared_class("tasks", task).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in found:
            found[ast.unparse(node.targets[0])] = tuple(ast.literal_eval(node.value))
    return found


@functools.cache
def question_fields(task: str) -> tuple[str, ...]:
    """The columns of a task that a prompt file may show: what its class says, or the question."""
    for node in declared_class("tasks", task).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "question_fields":
            return tuple(ast.literal_eval(node.value))
    return ("question",)


@functools.cache
def settings_of(method: str) -> type[Block]:
    """Every setting of a method's runs: those of all trainings and its own."""
    return create_model("Settings", __base__=(declared_settings("methods", method), Training))


@functools.cache
def declared_figures() -> set[str]:
    """The figures that an experiment may ask for: the public functions of (scores, metrics) in the two files."""
    sources = [(LIBRARY / f"{name}.py").read_text(encoding="utf-8") for name in ("figures", "training_figures")]
    nodes = [node for source in sources for node in ast.parse(source).body]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return {f.name for f in functions if [a.arg for a in f.args.args][:2] == ["scores", "metrics"]}


@functools.cache
def optional(block: type[Block]) -> type[Block]:
    """The same block with every key optional: one layer of settings that others complete."""
    fields: dict[str, Any] = {}
    for name, field in block.model_fields.items():
        field = copy.copy(field)
        field.default = None
        fields[name] = (field.annotation, field)
    return create_model(f"Optional{block.__name__}", __base__=Block, **fields)
