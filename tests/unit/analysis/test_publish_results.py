"""Copying a finished scale's results to the docs."""

import json
import subprocess
import sys

from helpers.paths import ROOT
from unmask.common.manifest import signed

STEP = ROOT / "src" / "publish_results.py"
MANIFEST = {
    "git": {"commit": "0123456789", "dirty": False}, "device": "cpu", "python": "3.11.7", "seconds": 1800,
    "finished": "2026-01-02T03:04:05+00:00", "packages": {"torch": "2.13.0"},
}  # fmt: skip


def publish(results, target):
    return subprocess.run([sys.executable, STEP, results, target], capture_output=True, text=True)


def test_old_files_go_and_new_ones_say_what_made_them(tmp_path):
    results, target = tmp_path / "laptop", tmp_path / "docs"
    (results / "figures" / "main").mkdir(parents=True)
    (results / "tables").mkdir()
    for name in (
        "tables/exact_toy.md",
        "figures/exact_toy.png",
        "figures/main/the_curves.png",
        "claims.md",
        "all_claims.md",
        "all_claims.csv",
    ):
        (results / name).write_text(name)
    (results / "papers.md").write_text("[DMPO](../../docs/method/fidelity.md#dmpo), [x](../../src/x.py)")
    (results / "tables/main.md").write_text("# main\n\nWhich one?\n")
    (results / "tables/main-comparisons.md").write_text("# main: comparisons\n\nStrict.\n")
    for seed in (0, 1):
        run = results / f"runs/dmpo/sudoku/default/seed-{seed}"
        run.mkdir(parents=True)
        (run / "manifest.json").write_text(json.dumps(signed(MANIFEST)))
    target.mkdir()
    for name in ("old.md", "old.csv"):
        (target / name).write_text("old")
    assert publish(results, target).returncode == 0
    made = {file.name: file.read_text() for file in target.iterdir()}
    text = made.pop("README.md")
    assert made == {
        "main.md": "# main\n\nWhich one?\n", "main-comparisons.md": "# main: comparisons\n\nStrict.\n",
        "main-the_curves.png": "figures/main/the_curves.png", "exact_toy.png": "figures/exact_toy.png",
        "exact_toy.md": "tables/exact_toy.md", "claims.md": "claims.md", "all_claims.md": "all_claims.md",
        "all_claims.csv": "all_claims.csv",
        "papers.md": "[DMPO](../method/fidelity.md#dmpo), [x](../../src/x.py)",
    }  # fmt: skip
    assert "training runs: 2, 1.0 hours" in text
    assert "commit: 0123456\n" in text
    assert "| exact_toy |  | [table](exact_toy.md), [figure](exact_toy.png) |" in text
    assert "| main | Which one? | [comparisons](main-comparisons.md), [the curves](main-the_curves.png), " in text
    assert "[table](main.md) |\n" in text
    assert text.endswith(
        "Claims: [claims.md](claims.md), [all_claims.md](all_claims.md), [all_claims.csv](all_claims.csv).\n"
        "\nBy paper, with what each prints and how its checkpoint was chosen: [papers.md](papers.md).\n"
    )


def test_an_unfinished_scale_is_refused(tmp_path):
    made = publish(tmp_path / "laptop", tmp_path / "docs")
    assert made.returncode == 1
    assert "no finished run" in made.stderr
