"""Reading of the configuration: config.yaml, which users edit, over the files of workflow/config/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from unmask.common import safe_yaml
from unmask.common.errors import InputError

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config.yaml"
KINDS = ("source", "rule")  # keys whose value decides which other keys a block may have
RawConfig = dict[str, Any]  # settings as read from YAML, not yet checked


def default_files() -> list[Path]:
    """Return the files of workflow/config/; no two of them give the same setting."""
    return sorted((ROOT / "workflow/config").rglob("*.yaml"))


def load_config(path: Path = CONFIG) -> RawConfig:
    """Return the settings of config.yaml, completed by the defaults, as read and not yet checked."""
    return with_defaults(read_settings(path))


def merged_config(files: list[Path]) -> RawConfig:
    """Return config.yaml with the files that snakemake is given as `--configfile` over it, without the defaults."""
    from snakemake.utils import update_config  # not at the top: slow, and few steps need it

    # As in snakemake: blocks are merged key by key, grids and sources too.
    settings = read_settings(CONFIG)
    for file in files:
        update_config(settings, read_settings(file))
    return settings


def with_defaults(settings: RawConfig) -> RawConfig:
    """Return the settings over those of workflow/config/. Raises InputError if a file there is broken."""
    defaults: RawConfig = {}
    for file in default_files():
        defaults = merge(defaults, read_settings(file))
    # A section whose lines are all commented out reads as null: it is not given.
    given = {key: value for key, value in settings.items() if value is not None or key not in defaults}
    return merge(defaults, given)


def merge(values: Any, changes: Any) -> Any:
    """Return the values with the changes merged in, key by key.

    A block with a source or rule, and a grid, is replaced as a whole.
    """
    if not (isinstance(values, dict) and isinstance(changes, dict)):
        return changes
    # A local file has no use for the revision of the data set that it replaces, so the two blocks are not mixed.
    if any(kind in changes for kind in KINDS):
        return changes

    merged = dict(values)
    for key, change in changes.items():
        # A grid with the axes of both would be their product, many runs that nobody asked for.
        merged[key] = change if key == "grid" else merge(values.get(key), change)
    return merged


def block_at(values: Any, *keys: str) -> RawConfig:
    """Return the block at a path of keys of a configuration that is not yet checked; empty if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def read_settings(path: Path) -> RawConfig:
    """Return the settings of a YAML file. Raises InputError with the file, and the line if it is no valid YAML."""
    if (wrong := syntax_error(path)) is not None:
        raise InputError(wrong)
    try:
        settings = safe_yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct the path or the permissions") from error
    except yaml.YAMLError as error:
        raise InputError(_wording(path, error)) from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: has no settings; write them as `key: value`, or remove the file")
    return settings


def syntax_error(path: Path | str) -> str | None:
    """Return the first syntax error of a YAML file, with line and column; None if it is valid or cannot be read.

    A key that a block has twice counts as one: YAML would silently take the last.
    """
    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file, Loader=safe_yaml.LOADER)
    except OSError:
        return None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return _wording(path, error)
    return _repetition(path, root, set())


def _repetition(path: Path | str, node: yaml.Node | None, seen: set[int]) -> str | None:
    """Return the line for the first key that a block below a node has twice; None if there is none."""
    # An alias refers to a node that was looked at, and may even refer to the block that it is in.
    if node is None or id(node) in seen:
        return None
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        inner = [value for _, value in node.value]
        lines: dict[str, int] = {}
        for key, _ in node.value:
            mark = key.start_mark
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                first = f"'{key.value}' is in this block twice, first in line {lines[key.value]}"
                return f"{path}, line {mark.line + 1}, column {mark.column + 1}: {first}; join the two, or remove one"
            lines[str(key.value)] = mark.line + 1
    else:
        inner = []
    return next((found for one in inner if (found := _repetition(path, one, seen))), None)


def _wording(path: Path | str, error: UnicodeDecodeError | yaml.YAMLError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"{path}: not UTF-8 text ({error}); save it as UTF-8"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{path}: {error}"
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
    context = f" {error.context}" if error.context else ""
    return f"{path}, {place}: {error.problem}{context}; correct the indentation, brackets or quotes there"
