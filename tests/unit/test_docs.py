"""Links between pages, and pages that sources, settings and messages name: all of them exist."""

import re
from pathlib import Path

import pytest

from helpers.paths import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("src", "workflow", "tests", "rehearsal", "bench")
SUFFIXES = (".py", ".smk", ".yaml", ".md")
SOURCES = [
    *(file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*")) if file.suffix in SUFFIXES),
    *(ROOT / name for name in ("Snakefile", "Makefile", "config.yaml")),
]
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
NAMED_PAGE = re.compile(r"\bdocs/[\w/]+\.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page):
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []


def test_every_page_that_a_source_names_exists():
    missing = {}
    for source in SOURCES:
        named = NAMED_PAGE.findall(source.read_text(encoding="utf-8"))
        if lost := [page for page in named if not Path(ROOT, page).exists()]:
            missing[source.relative_to(ROOT).as_posix()] = lost
    assert missing == {}
