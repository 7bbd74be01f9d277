"""Entries of papers.yaml: the papers of claims and printed numbers, and how the printed checkpoints were chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from unmask.analysis.yaml_entries import read_entries
from unmask.common.errors import InputError
from unmask.config.schema.types import Name, Section, refuse

NOT_STATED = "not stated"
NUMBER = re.compile(r"[^,]+, arXiv (\d{4}\.\d{5})(.*)")  # the paper that a source begins with, and the place in it


class Paper(Section):
    """Paper, its code, what implements it here, and how its checkpoints were chosen."""

    name: str
    title: str
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{5}$")] | None = None
    code: str = ""
    methods: list[Name] = Field(default=[])
    fidelity: str = ""
    selection: str = NOT_STATED
    selection_source: str = ""

    @model_validator(mode="after")
    def _with_source(self) -> Paper:
        """Require a source for what is said about somebody else's choice."""
        if self.selection != NOT_STATED and not self.selection_source:
            raise refuse("`selection` needs a `selection_source`: a line of code, a section or a model card")
        return self


def read(path: Path) -> list[Paper]:
    """Read papers.yaml. Raises InputError that names each wrong entry."""
    entries = read_entries(path, Paper, _place)
    return [Paper(**entry) for entry in entries]


def _place(number: int, entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"paper {number} ({name})" if name else f"paper {number}"


def find(source: str, papers: Sequence[Paper]) -> Paper | None:
    """Return the paper that a source begins with, by its number if it has one, else by name; None if it is another."""
    match = NUMBER.match(source)
    for paper in papers:
        if match and paper.arxiv == match[1]:
            return paper
        if not match and paper.name == source.partition(",")[0]:
            return paper
    return None


def paper_of(source: str, papers: Sequence[Paper]) -> Paper | None:
    """Return `find`'s paper; None for a source without a number, such as a question of our own.

    Raises InputError for a number that is not in papers.yaml.
    """
    paper = find(source, papers)
    if paper is None and NUMBER.match(source):
        raise InputError(f"{source}: none of the papers has this number; add it to workflow/resources/papers.yaml")
    return paper


def place_in(source: str) -> str:
    """Return the place in the paper that a source names: `DMPO, arXiv 2510.08233v3, Table 1` -> `v3, Table 1`."""
    match = NUMBER.match(source)
    place = match[2] if match else source.partition(",")[2]
    return place.removeprefix(",").strip()
