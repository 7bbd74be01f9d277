"""The columns that docs/columns.md describes."""

import re

from helpers.paths import ROOT


def described(section):
    """The names in the first column of the tables of a section."""
    page = (ROOT / "docs/columns.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
