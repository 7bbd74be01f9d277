"""Links of the report: to files of the results next to it, and to the papers that its text names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from unmask.common.errors import InputError

# A number of arXiv, with a version or without: four digits, a point, five digits.
PAPER = re.compile(r"arXiv (\d{4}\.\d{5}(?:v\d+)?)")


@dataclass(frozen=True)
class File:
    """File that the page links to: its name, and its address from the folder of the page."""

    name: str
    href: str


@dataclass(frozen=True)
class Folders:
    """Folder of a scale's results, and the folder of the page, from which links start."""

    results: Path
    page: Path

    def file(self, path: str, name: str = "") -> File:
        """Return the link to a file or folder of the results. Raises InputError if it does not exist."""
        target = self.results / path
        if not target.exists():
            raise InputError(f"{target}: missing, but the report links to it. Run snakemake for its experiment again.")
        return File(name or target.name, self._address(target))

    def outside(self, target: Path) -> File:
        """Return the link to a file of the project. Raises InputError if it does not exist."""
        if not target.exists():
            raise InputError(f"{target}: missing, but workflow/resources/papers.yaml names it")
        return File(target.name, self._address(target))

    def _address(self, target: Path) -> str:
        # Names of runs have characters that an address may not have, such as the + between two settings.
        return quote(Path(os.path.relpath(target, self.page)).as_posix(), safe="/~")

    def files(self, *paths: str) -> list[File]:
        """Return the links to several files."""
        return [self.file(path) for path in paths]


def with_papers(text: str) -> Markup:
    """Escape a text and link the papers that it names as `arXiv 2510.08233v3`."""
    # The escaped text has no markup of its own, and the link has nothing but digits of the text.
    return Markup(PAPER.sub(r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', str(escape(text))))
