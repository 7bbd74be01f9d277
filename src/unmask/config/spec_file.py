"""Spec files: the base class of specs, with the digest of their values, and spec.yaml."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import ValidationError

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError
from unmask.config.renames import old_names
from unmask.config.schema.types import Section, Values
from unmask.config.validation.messages import cut, mistakes


@dataclass(frozen=True)
class Spec:
    """Base class of specs: digest, reading and writing."""

    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {}  # field -> function that types its value of a spec.yaml

    def values(self) -> Values:
        """Return the fields that differ from their default."""
        # A new field with a default thus leaves the digests of existing specs, and so finished runs, unchanged.
        found = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                found[field.name] = _plain(value)
        return found

    @classmethod
    def of(cls, values: Values) -> Self:
        """Return the spec with these values, the inverse of `values`."""
        typed = {}
        for name, value in values.items():
            typed[name] = typed_block(name, cls.readers[name], value) if name in cls.readers else value
        return cls(**typed)

    def to_json(self) -> str:
        """Return a canonical one-line JSON form: equal specs give equal lines."""
        return json.dumps(self.values(), sort_keys=True)

    @functools.cached_property  # the lineage of an experiment asks for those of all its runs, once per job
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify this spec. Files count by their hash, not by their path."""
        return digest_of_values(self.values())

    def write(self, path: Path) -> None:
        """Write spec.yaml atomically."""
        with atomic_write(path) as temporary:
            values = self.values() | {"digest": self.digest}
            temporary.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a spec.yaml. Raises InputError that names the file and the wrong keys, or the digest if it differs."""
        # A wrong digest is refused, because results are filed under it.
        values = None
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            written = values.pop("digest", None) if isinstance(values, dict) else None
            cls.check_keys(values)
            spec = cls.of(values)
            digest = spec.digest
        except (OSError, KeyError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            fix = "Delete it and run snakemake again."
            old = old_names(values) if isinstance(values, dict) else []
            if old:
                fix = (
                    f"It has old names of settings ({', '.join(old)}): run `python src/migrate_results.py "
                    "results/SCALE` (CHANGELOG.md, Upgrade); deleting it trains a finished run again."
                )
            raise InputError(f"{path}: not a {cls.__name__}: {error}. {fix}") from error
        if digest != written:
            raise InputError(
                f"{path}: its digest is {written!r}, but its values have {digest!r}: it was damaged or edited. Delete "
                "it and run snakemake again, or write the digest of the values there if you edited it on purpose."
            )
        return spec

    @classmethod
    def check_keys(cls, values: Values) -> None:
        """Raise ValueError if the values of a spec.yaml have an unknown key, or lack one."""
        known = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"unknown key {', '.join(unknown)}")
        if missing := sorted(required - values.keys()):
            raise ValueError(f"no key {', '.join(missing)}")


def typed_block(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    """Return what `read` makes of a block of a spec. Raises ValueError with a line per mistake in it."""
    if not isinstance(value, dict):
        raise ValueError(f"{name}: input should be a valid dictionary, not {cut(repr(value))}")
    try:
        return read(value)
    except ValidationError as errors:
        raise ValueError("; ".join(mistakes(errors, name))) from None


def _plain(value: Any) -> Any:
    """Return a value without classes of ours: sections as mappings of their settings."""
    if isinstance(value, Section):
        return value.values()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


def digest_of_values(values: Values) -> str:
    """Return the digest of a spec with these values."""
    content = json.dumps(_without_paths(values), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _without_paths(value: Any) -> Any:
    """Return a value without the paths of files that are identified by a hash next to them."""
    if isinstance(value, list):
        return [_without_paths(one) for one in value]
    if not isinstance(value, dict):
        return value
    known = "sha256" in value
    return {key: _without_paths(one) for key, one in value.items() if not (known and key == "path")}


def digest_of(path: Path) -> str | None:
    """Return the digest in a spec.yaml without parsing it; None if there is none."""
    # PyYAML quotes a digest that looks like a number, hence the optional quotes.
    try:
        found = re.search(r"^digest: '?([0-9a-f]{12})'?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return found[1] if found else None


def joined(*digests: str) -> str:
    """Combine several digests into one; their order matters."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]
