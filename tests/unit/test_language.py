"""Phrases for which the field has a plainer one; single words are in words.txt, which codespell reads."""

import re

import pytest

from helpers.measure_house import PHRASES
from helpers.paths import ROOT

FILES = [
    *sorted((ROOT / "src").rglob("*.py")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "results"),
    *sorted((ROOT / "workflow").rglob("*.smk")),
    *sorted((ROOT / "workflow/config").rglob("*.yaml")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Snakefile", "config.yaml", "Makefile")),
]


@pytest.mark.parametrize("phrase", PHRASES)
def test_texts_use_the_words_of_the_field(phrase):
    found = []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        # Joined lines, so that a phrase is found across a line break.
        text = re.sub(r"\s+#?\s*", " ", path.read_text(encoding="utf-8"))
        for match in re.finditer(rf"\b({phrase})\b", text, re.IGNORECASE):
            found.append(f"{name}: …{text[max(0, match.start() - 40) : match.end() + 30]}…")
    assert not found, f"write {PHRASES[phrase]!r} instead:\n" + "\n".join(found)
