"""Origin of settings: the layer of the configuration that decides a value, with its file and line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unmask.common import safe_yaml
from unmask.config.blame import ABSENT, shown, value_at
from unmask.config.loading import RawConfig
from unmask.config.overrides import COMMAND_LINE
from unmask.config.schema import Layer
from unmask.config.schema.introspection import declared_fields


@dataclass(frozen=True)
class Origin:
    """Effective value of a setting, and where it comes from."""

    value: Any
    place: str  # dotted path of the layer that set it, or the method's file for a default
    line: str  # file and line, as in config.yaml:12, or the command line; empty if neither gives the value
    overridden: tuple[str, ...]  # earlier layers that set it to another value


def origins(layers: list[Layer], files: list[Path], overrides: RawConfig | None = None) -> dict[str, Origin]:
    """Return the origin of every setting of the layers; later layers, and later files, override earlier ones.

    `overrides` are the settings given on the command line, which are stronger than all files.
    """
    roots = {shown(file): yaml.compose(file.read_text(encoding="utf-8"), Loader=safe_yaml.LOADER) for file in files}
    found: dict[str, Origin] = {}
    for place, settings in layers:
        for key, value in settings.items():
            before = found.get(key)
            # A layer that repeats the value is the one that decides it, but it overrides nothing.
            lost = () if before is None else before.overridden
            if before is not None and before.value != value:
                lost = (*lost, f"{before.place} ({before.value})")
            is_given = value_at(overrides or {}, f"{place}.{key}") is not ABSENT
            found[key] = Origin(value, place, COMMAND_LINE if is_given else _line(roots, place, key), lost)
    return found


def _line(roots: dict[str, yaml.Node], place: str, setting: str) -> str:
    """Return the last file that gives a layer's setting, with the line counted from 1; empty if no file has it."""
    # Defaults of a method are in its file, not under a key of the configuration.
    if place.endswith(".py"):
        return f"{place}:{declared_fields('methods', Path(place).stem)[setting].lineno}"
    path = [*place.split("."), setting]
    for name, root in reversed(roots.items()):
        key = _key_at(root, path)
        if key is not None:
            return f"{name}:{key.start_mark.line + 1}"
    return ""


def _key_at(node: yaml.Node, path: list[str]) -> yaml.Node | None:
    """Return the node of the key at a path below a node; None if there is none."""
    key: yaml.Node | None = None
    for part in path:
        found = _entry(node, part)
        if found is None:
            return None
        key, node = found
    return key


def _entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the nodes of a key and its value in a mapping; keys of the mapping itself come before merged ones."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if name.value == key:
            return name, value
    for name, value in node.value:
        if name.tag == "tag:yaml.org,2002:merge":
            for block in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                found = _entry(block, key)
                if found is not None:
                    return found
    return None
