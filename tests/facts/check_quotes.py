"""Check that each quote of released_settings.yaml is on its line: `check_quotes.py FOLDER`.

FOLDER has a git clone of each repository, named as under `codes`; a second commit of one needs no second clone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from facts.effective import load_facts


def quoted() -> list[dict[str, Any]]:
    """The facts that a released code is quoted for."""
    return [fact for fact in load_facts("released") if "code" in fact]


def missing_quotes(folder: Path) -> list[str]:
    """A line for each fact whose quote is not where it says."""
    wrong = []
    for fact in quoted():
        name = fact["code"].partition("-")[0]
        place = f"{fact['commit']}:{fact['file']}"
        shown = subprocess.run(["git", "-C", folder / name, "show", place], capture_output=True, text=True)
        lines = shown.stdout.splitlines()
        if shown.returncode or fact["line"] > len(lines) or fact["quote"] not in lines[fact["line"] - 1]:
            wrong.append(f"{name} {place} line {fact['line']}: no {fact['quote']!r}")
    return wrong


if __name__ == "__main__":
    problems = missing_quotes(Path(sys.argv[1]))
    print("\n".join(problems) or f"all {len(quoted())} quotes are where they should be")
    sys.exit(bool(problems))
