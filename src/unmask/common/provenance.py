"""Provenance of finished runs: the code and settings that made them, compared with the current ones.

Only code that can affect a run's result counts: what src/train_policy.py imports, plus the run's own method and task.
Imports are read from the sources without executing them; torch-free.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parents[1]
STEP = "train_policy"  # the step that trains a run
# Modules that a step imports but no result depends on: they report, validate, lock, store or describe.
APART = {
    *("config", "planning", "models.model_card", "models.shapes", "training.flop_counter", "training.preemption"),
    *(f"common.{name}" for name in ("atomic", "checksums", "errors", "lock", "manifest", "progress", "provenance")),
}


def code_of(step: str, method: str, task: str) -> dict[str, str]:
    """Return hashes, by name, of the files that a step of src/ can depend on: its imports, a method and a task."""
    # Methods and tasks are loaded by name at run time, so no import statement leads to them.
    left = [LIBRARY.parent / f"{step}.py", *(LIBRARY / f"{kind}.py" for kind in (f"methods/{method}", f"tasks/{task}"))]
    seen: set[Path] = set()
    while left:
        file = left.pop()
        if file not in seen and file.exists():
            seen.add(file)
            left += _imported(file)
    return {file.relative_to(LIBRARY.parent).as_posix(): _hash(file) for file in sorted(seen)}


@functools.cache
def _imported(file: Path) -> tuple[Path, ...]:
    """Return the library files that a file imports, at any level, except those in APART."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "unmask":
            # `from unmask.common import lock` names a module, `from unmask.common.lock import Lock` an object.
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    parts = {name.removeprefix("unmask").removeprefix(".") for name in names}
    kept = sorted(part for part in parts if part and part not in APART and part.partition(".")[0] not in APART)
    places = [LIBRARY / part.replace(".", "/") for part in kept]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return tuple(file for file in files if file.exists())


@functools.cache
def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def differing(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """List the dotted keys at which two blocks of settings differ, with the old and the new value."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        path = f"{where}.{key}" if where else key
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differing(before, after, path)
        elif before != after:
            found.append(f"{path}: {before} -> {after}")
    return found
