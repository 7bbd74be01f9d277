"""Overrides of single settings on the command line, over all files.

snakemake --profile laptop --config set=methods.dmpo.alpha=0.1,training.lora_targets=[q_proj,v_proj] -- main
python src/show_settings.py dmpo/sudoku --set methods.dmpo.alpha=0.1
"""

from __future__ import annotations

import argparse
import copy
import re
from collections.abc import Iterable
from typing import Any

import yaml

from unmask.common import safe_yaml
from unmask.common.errors import InputError
from unmask.config.loading import KINDS, RawConfig, merge

COMMAND_LINE = "the command line"  # what messages and tables call the source of an override
KEY = r"[A-Za-z_][\w.-]*"  # a dotted path
NOT_SETTINGS = ("set", "overwrite")  # keys of snakemake's --config that are none of the configuration
EXAMPLE = "write KEY=VALUE with the dotted path of the key, such as training.buffers=8"


def add_option(parser: argparse.ArgumentParser) -> None:
    """Give a script the option --set, which may be repeated."""
    what = (
        "override a setting, as snakemake's `--config set=KEY=VALUE`; several separated by commas, or repeat the option"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)


def of_snakemake(words: Iterable[str]) -> list[str]:
    """Return the overrides among the words after snakemake's --config: those of `set`, and top-level keys as they are.

    Snakemake reads all values as text; these are the words before it does.
    """
    found: list[str] = []
    for word in words:
        key, _, value = word.partition("=")
        if key == "set":
            found.append(value)
        elif key not in NOT_SETTINGS:
            # A quoted value is one that a profile or snakemake itself has quoted.
            found.append(word)
    return found


def with_overrides(config: RawConfig, texts: Iterable[str]) -> tuple[RawConfig, RawConfig]:
    """Return the configuration with the overrides in it, and the overrides alone.

    A block is merged key by key, as in a file. Raises InputError for text that is no override, or one given twice.
    """
    changed = copy.deepcopy(config)
    alone: RawConfig = {}
    seen: set[str] = set()
    for text in texts:
        for place, value in assignments(text):
            if place in seen:
                raise InputError(f"{COMMAND_LINE}: {place} is set twice; remove one")
            seen.add(place)
            _put(alone, _keys(config, place), value)
            _put(changed, _keys(config, place), value)
    return changed, alone


def assignments(text: str) -> list[tuple[str, Any]]:
    """Return the pairs of key and value in `a.b=1,c=[2, 3],d={e: f}`. Raises InputError for anything else.

    A comma separates two pairs if another KEY= follows it and what is before it is valid YAML: a comma inside brackets
    or quotes is part of the value.
    """
    found = []
    rest = text
    while True:
        key, is_pair, rest = (part.strip() for part in rest.partition("="))
        if not is_pair or not re.fullmatch(KEY, key):
            raise InputError(f"{COMMAND_LINE}: '{key}' is no setting with a value; {EXAMPLE}")
        value, rest = _first_value(key, rest)
        found.append((key, value))
        if not rest:
            return found


def _first_value(key: str, text: str) -> tuple[Any, str]:
    """Return the value that a text begins with, and the text of the pairs after it. Raises InputError without one."""
    ends = [found.start() for found in re.finditer(rf",\s*{KEY}\s*=", text)]
    wrong = ""
    for end in [*ends, len(text)]:
        try:
            value = safe_yaml.load(text[:end])
        except yaml.YAMLError as error:
            wrong = wrong or str(getattr(error, "problem", None) or error)
            continue
        # Nothing is a slip of the keyboard; `null` says that no value is meant.
        if not text[:end].strip():
            raise InputError(f"{COMMAND_LINE}: {key} has no value; {EXAMPLE}")
        return value, text[end + 1 :]
    raise InputError(f"{COMMAND_LINE}: {key}={text}: no valid YAML ({wrong}); correct the brackets or quotes")


def _keys(config: RawConfig, place: str) -> list[str]:
    """Return the keys of a dotted path: names in the configuration may have dots themselves."""
    found = []
    block: Any = config
    while place:
        names = [str(key) for key in block] if isinstance(block, dict) else []
        # The longest name that the path begins with; else a new one, up to the next dot.
        inside = [name for name in names if f"{place}.".startswith(f"{name}.")]
        name = max(inside, key=len) if inside else place.partition(".")[0]
        found.append(name)
        block = block.get(name) if isinstance(block, dict) else None
        place = place[len(name) + 1 :]
    return found


def _put(config: RawConfig, keys: list[str], value: Any) -> None:
    """Put a value at a path of keys, in place; blocks on the way that are missing are made."""
    block = config
    *parents, last = keys
    for key in parents:
        if not isinstance(block.get(key), dict):
            block[key] = {}
        block = block[key]

    # As in a file, another kind of block has no use for the keys of the old one, and a grid is replaced.
    if last in KINDS and block.get(last) != value:
        block.clear()
    block[last] = value if last == "grid" else merge(block.get(last), value)
