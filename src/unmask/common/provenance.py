"""Provenance of finished runs: the code and settings that made them, compared with the current ones.

Only code that can affect a run's result counts: what src/train_policy.py imports, plus the run's own method and task.
Imports are read from the sources without executing them; torch-free.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parents[1]
STEP = "train_policy"  # the step that trains a run
CHECKPOINT_FORMAT = 3  # to be raised when tensors or draws change, so that unfinished work of older code is ignored
# Modules that a step imports but no result depends on: they report, validate, lock, store or describe.
APART = {
    "common.atomic",
    "common.checksums",
    "common.errors",
    "common.lock",
    "common.manifest",
    "common.progress",
    "common.provenance",
    "config",
    "models.shapes",
    "planning",
    "training.flop_counter",
    "training.model_card",
    "training.preemption",
    "training.trackers",
}


def code_of(step: str, method: str, task: str) -> dict[str, str]:
    """Return hashes, by name, of the files that a step of src/ can depend on: its imports, a method and a task."""
    # Methods and tasks are loaded by name at run time, so no import statement leads to them.
    left = [
        LIBRARY.parent / f"{step}.py",
        LIBRARY / "methods" / f"{method}.py",
        LIBRARY / "tasks" / f"{task}.py",
    ]
    seen: set[Path] = set()
    while left:
        file = left.pop()
        if file not in seen and file.exists():
            seen.add(file)
            left += _imported(file)

    hashes = {}
    for file in sorted(seen):
        name = file.relative_to(LIBRARY.parent).as_posix()
        hashes[name] = _hash(file)
    return hashes


@functools.cache
def _imported(file: Path) -> tuple[Path, ...]:
    """Return the library files that a file imports, at any level, except those in APART."""
    files = []
    for name in sorted(_imported_names(file)):
        package, _, _ = name.partition(".")
        if name in APART or package in APART:
            continue
        place = LIBRARY / name.replace(".", "/")
        for candidate in (place.with_suffix(".py"), place / "__init__.py"):
            if candidate.exists():
                files.append(candidate)
    return tuple(files)


def _imported_names(file: Path) -> set[str]:
    """Return the names, without `unmask.`, of what a file imports from the library: modules, and objects in them."""
    names: set[str] = set()
    attributes: list[tuple[str, str]] = []
    left: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # no result depends on it
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.append((node.value.id, node.attr))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "unmask":
            # `from unmask.common import lock` names a module, `from unmask.common.lock import Lock` an object.
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        left.extend(ast.iter_child_nodes(node))

    # Modules of a package that loads them on first use, as in `rl.losses.k3`.
    for package, name in attributes:
        if f"unmask.{package}" in names:
            names.add(f"unmask.{package}.{name}")
    names.discard("unmask")
    return {name.removeprefix("unmask.") for name in names}


@functools.cache
def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def differing(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """List the dotted keys at which two blocks of settings differ, with the old and the new value."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        path = f"{where}.{key}" if where else key
        before = old.get(key)
        after = new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differing(before, after, path)
        elif before != after:
            found.append(f"{path}: {before} -> {after}")
    return found
