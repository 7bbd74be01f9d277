"""Pinning of Hub revisions in the configuration: find those that are not commits, and replace them by commits.

Only the characters of the values are replaced, which preserves comments and layout. Torch-free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from unmask.common.errors import InputError
from unmask.config.loading import RawConfig, block_at

COMMIT = re.compile("[0-9a-f]{40}")
CHECKPOINTS = "checkpoints."  # prefix of the keys of released checkpoints, which are pinned on their own


@dataclass(frozen=True)
class Loose:
    """Unpinned revision: its key, its repository and its character span in the text."""

    key: str
    repository: str
    kind: str  # dataset or model
    start: int
    end: int

    @property
    def page(self) -> str:
        """Path of the repository's page on the Hub."""
        if self.kind == "dataset":
            return f"datasets/{self.repository}"
        return self.repository


def loose_revisions(text: str, settings: RawConfig | None = None) -> list[Loose]:
    """Return all unpinned revisions in file order; a block shared by an anchor counts once.

    A file may give a revision only: the other keys of its block are looked up in `settings`, the whole configuration.
    """
    # The node graph, unlike the loaded values, has positions in the text. Keyed by position: an alias leads to the same
    # node as its anchor.
    found: dict[int, Loose] = {}
    left: list[tuple[str, yaml.Node]] = [("", yaml.compose(text, Loader=yaml.SafeLoader))]
    while left:
        place, node = left.pop()
        if not isinstance(node, yaml.MappingNode):
            continue
        values = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        for key, value in values.items():
            left.append((f"{place}.{key}".removeprefix("."), value))
        loose = _loose(place, values, settings)
        if loose:
            found[loose.start] = loose
    return [found[start] for start in sorted(found)]


def _loose(place: str, values: dict[str, yaml.Node], settings: RawConfig | None) -> Loose | None:
    """Return the revision of a block at `place`; None if it is a commit, or if the block is no source on the hub."""
    texts = {key: value for key, value in values.items() if isinstance(value, yaml.ScalarNode)}
    # The block may set the revision of a repository that another file names.
    elsewhere = block_at(settings, *place.split("."))
    block = elsewhere | {key: value.value for key, value in texts.items()}
    match texts, block:
        case {"revision": node}, {"source": "hub", "repository": repository, "revision": revision}:
            if COMMIT.fullmatch(revision):
                return None
            return Loose(
                key=f"{place}.revision",
                repository=repository,
                kind="model" if place.startswith(("models.", CHECKPOINTS)) else "dataset",
                start=node.start_mark.index,
                end=node.end_mark.index,
            )
        case _:
            return None


def pinned(text: str, commits: dict[str, str], settings: RawConfig | None = None) -> str:
    """Return the text with the given commits by key. Raises InputError if any other value would change."""
    # From the end backwards, so that earlier positions stay valid.
    changed = text
    for revision in reversed(loose_revisions(text, settings)):
        if revision.key in commits:
            before = changed[: revision.start]
            after = changed[revision.end :]
            changed = before + commits[revision.key] + after

    # An anchor or an unusual style can make a replacement change other values: compare what both texts load as.
    try:
        old = yaml.safe_load(text)
        new = yaml.safe_load(changed)
        strange = _others(old, new, set(commits.values()), "")
    except yaml.YAMLError:  # the replaced value carried an anchor that is now missing
        strange = True
    if strange:
        raise InputError(f"{', '.join(commits)} cannot be replaced here; put the commits there by hand")
    return changed


def _others(old: Any, new: Any, commits: set[str], key: str) -> bool:
    """Return True if two configurations differ in anything but revisions replaced by one of the commits."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return any(_others(old[name], new[name], commits, str(name)) for name in old)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = zip(old, new, strict=True)
        return any(_others(before, after, commits, "") for before, after in pairs)
    if old == new:
        return False
    return key != "revision" or new not in commits
