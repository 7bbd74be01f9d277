"""Origin of settings: the layer of config.yaml that decides a value, and its line in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from unmask.config.schema import Layer


@dataclass(frozen=True)
class Origin:
    """Effective value of a setting, and where it comes from."""

    value: Any
    place: str  # dotted path of the layer that set it
    line: int | None  # line of config.yaml; None if the file does not give the value
    overridden: tuple[str, ...]  # earlier layers that set it to another value


def origins(layers: list[Layer], text: str) -> dict[str, Origin]:
    """Return the origin of every setting of the layers, later ones overriding earlier ones; `text` is config.yaml."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found: dict[str, Origin] = {}
    for place, settings in layers:
        for key, value in settings.items():
            before = found.get(key)
            # A layer that repeats the value is the one that decides it, but it overrides nothing.
            lost = () if before is None else before.overridden
            if before is not None and before.value != value:
                lost = (*lost, f"{before.place} ({before.value})")
            found[key] = Origin(value, place, _line(root, [*place.split("."), key]), lost)
    return found


def _line(node: yaml.Node | None, path: list[str]) -> int | None:
    """Return the line of the key at a path below a node, counted from 1; None if the path is not in the file."""
    for i, key in enumerate(path):
        found = _entry(node, key)
        if found is None:
            return None
        name, node = found
        if i == len(path) - 1:
            return int(name.start_mark.line) + 1
    return None


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
