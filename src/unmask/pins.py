"""Find revisions in config.yaml that are not pinned yet, and write commits in their place.

Only the characters of the values change, so comments and layout stay. Torch-free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from unmask.files import InputError

COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Loose:
    """A revision that is not a commit: its key, what it belongs to, and its characters in the text."""

    key: str
    repository: str
    kind: str  # dataset or model
    start: int
    end: int

    @property
    def page(self) -> str:
        """The repository's address on the hub, below its host."""
        return f"datasets/{self.repository}" if self.kind == "dataset" else self.repository


def loose_revisions(text: str) -> list[Loose]:
    """All of them, in their order; a block that several places share by an anchor counts once."""
    found: dict[int, Loose] = {}
    left: list[tuple[str, yaml.Node]] = [("", yaml.compose(text, Loader=yaml.SafeLoader))]
    while left:
        place, node = left.pop()
        if not isinstance(node, yaml.MappingNode):
            continue
        values = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        left += [(f"{place}.{key}".removeprefix("."), value) for key, value in values.items()]
        texts = {key: value for key, value in values.items() if isinstance(value, yaml.ScalarNode)}
        hub = {"source", "revision", "repository"} <= texts.keys() and texts["source"].value == "hub"
        if hub and not COMMIT.fullmatch(texts["revision"].value):
            kind = "model" if place.startswith("models.") else "dataset"
            start, end = texts["revision"].start_mark.index, texts["revision"].end_mark.index
            found[start] = Loose(f"{place}.revision", texts["repository"].value, kind, start, end)
    return [found[start] for start in sorted(found)]


def pinned(text: str, commits: dict[str, str]) -> str:
    """The text with these commits by key. Raises InputError if anything else than those values would change."""
    changed = text
    for one in reversed(loose_revisions(text)):
        if one.key in commits:
            changed = changed[: one.start] + commits[one.key] + changed[one.end :]
    try:
        strange = _others(yaml.safe_load(text), yaml.safe_load(changed), set(commits.values()), "")
    except yaml.YAMLError:  # the value had an anchor of its own
        strange = True
    if strange:
        raise InputError(f"config.yaml: {', '.join(commits)} cannot be replaced on their own; put the commits there")
    return changed


def _others(old: Any, new: Any, commits: set[str], key: str) -> bool:
    """Whether two configurations differ in anything but revisions that have become one of the commits."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return any(_others(old[name], new[name], commits, str(name)) for name in old)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return any(_others(mine, its, commits, "") for mine, its in zip(old, new, strict=True))
    return bool(old != new) and not (key == "revision" and new in commits)
