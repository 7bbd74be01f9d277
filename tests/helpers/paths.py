"""Folders that tests read: this repository, its test data, and the shared folder next to it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared"  # published data and numbers; tests that need it skip if it is absent
