"""The tables of licences have every repository that the configuration names, at the revisions pinned there."""

import re

import pytest
import yaml

from helpers.paths import ROOT

PAGES = {
    "tasks.yaml": "data.md",
    "models.yaml": "evaluate_checkpoints.md",
    "checkpoints.yaml": "evaluate_checkpoints.md",
}
LICENCES = re.compile(r"MIT|Apache-2\.0|CC-BY(-NC)?-4\.0|not stated|not verified")


def rows(page):
    """The table of the section Licences: repositories, revision, licence, source."""
    section = (ROOT / "docs" / page).read_text(encoding="utf-8").split("## Licences\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def named(block):
    """(repository, revision) of every block below, by aliases too."""
    if isinstance(block, dict):
        if "repository" in block:
            yield block["repository"], block["revision"]
        for value in block.values():
            yield from named(value)


@pytest.mark.parametrize("file", PAGES)
def test_every_repository_has_a_row_with_its_pinned_revision(file):
    listed = {name.strip(): row[1] for row in rows(PAGES[file]) for name in row[0].split(",")}
    found = set(named(yaml.safe_load((ROOT / "workflow/config" / file).read_text(encoding="utf-8"))))
    assert len(found) >= 4
    for repository, revision in found:
        # `make pin` writes the configuration only, so the table may still say that a revision is to be pinned.
        assert listed[repository] in (revision[:7], "to be pinned"), repository


@pytest.mark.parametrize("page", sorted(set(PAGES.values())))
def test_a_licence_has_a_source(page):
    for repositories, _, licence, source in rows(page):
        assert LICENCES.match(licence), repositories
        assert source or licence == "not verified", repositories
