"""Tables, figures and claims from the runs that are done: on a planted results folder with some of them missing."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from helpers import planted
from helpers.paths import ROOT
from unmask.analysis.scores import RUN
from unmask.analysis.so_far import find
from unmask.common.manifest import signed
from unmask.common.parquet import write_rows
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

GONE = "dmpo/sudoku/default/seed-1"
GONE_TASK = ("diffu_grpo/countdown/default/seed-0", "diffu_grpo/countdown/default/seed-1")


def config():
    return load_config() | {"scale": "smoke"}


def plant(folder):
    """Every run of `main` at the smoke scale, finished."""
    grid = expand(config())
    for name in grid.experiments["main"].runs:
        run, place = grid.runs[name], folder / "results/smoke/runs" / name
        run.write(place / "spec.yaml")
        rows = planted.run(run.method, run.task, run.seed, examples=8, lengths=(24, 32))
        write_rows(place / "samples-papers.parquet", rows.to_dict("records"))
        made = {"spec": grid.evaluated(run.name, "papers")}
        (place / "samples-papers.json").write_text(json.dumps(signed(made)), encoding="utf-8")
        if run.trains:
            (place / "manifest.json").write_text(json.dumps(signed({"spec": run.digest})), encoding="utf-8")
            (place / "metrics.csv").write_text("step,reward,nfe,entropy\n1,0.0,4,0.1\n2,0.5,4,0.2\n", encoding="utf-8")
    return folder


def render(folder, *experiments):
    resources = ROOT / "workflow/resources"
    command = [sys.executable, "-W", "error", str(ROOT / "src/render_so_far.py"), json.dumps(config())]
    command += ["--experiments", *experiments, "--published", str(resources / "published_results.yaml")]
    command += ["--papers", str(resources / "papers.yaml")]
    command += ["--claims", str(resources / "claims.yaml"), "--out", "results/smoke/so_far"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """A folder in which three of twelve runs are missing, after the tables so far were drawn; and what was said."""
    folder = plant(tmp_path_factory.mktemp("partial"))
    for name in (GONE, *GONE_TASK):
        shutil.rmtree(folder / "results/smoke/runs" / name)
    return folder, render(folder, "main", "methods")


def test_it_says_which_runs_are_missing(partial):
    folder, said = partial
    lead = (
        "So far 9 of 12 evaluations are done; cells with fewer seeds than planned say so. "
        "Missing: diffu-GRPO on Countdown; DMPO on Sudoku, seed 1."
    )
    assert f"main: {lead}" in said
    out = folder / "results/smoke/so_far"
    for name in ("tables/main.md", "tables/main-comparisons.md"):
        assert (out / name).read_text(encoding="utf-8").split("\n\n")[1] == lead, name
    assert f"`main`: {lead}" in (out / "claims.md").read_text(encoding="utf-8")
    assert f"% {lead}" in (out / "tables/main.tex").read_text(encoding="utf-8")


def test_a_cell_with_fewer_seeds_says_so(partial):
    text = (partial[0] / "results/smoke/so_far/tables/main.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| DMPO ")]
    sudoku = [row for row in rows if "seeds)" in row[1]]
    assert all(cell.strip().endswith("(1 of 2 seeds)") for row in sudoku for cell in row[1:3])
    assert all("±" not in cell for row in sudoku for cell in row[1:3])
    assert 0 < len(sudoku) < len(rows)
    assert "| Base " in text
    assert "[" not in text.partition("| Base ")[2].partition("\n")[0]  # a base model of each seed is no single one
    cells = pd.read_csv(partial[0] / "results/smoke/so_far/tables/main.csv")
    assert cells.query("method == 'dmpo' and task == 'sudoku'")["seeds"].unique().tolist() == [1]
    assert cells["planned"].unique().tolist() == [2]


def test_comparisons_are_of_the_seeds_that_both_have(partial):
    found = pd.read_csv(partial[0] / "results/smoke/so_far/tables/main-comparisons.csv")
    pair = found[(found["better"] == "dmpo/default") & (found["worse"] == "base/default")]
    assert pair.groupby("task")["seed"].agg(lambda seeds: sorted(set(seeds))).to_dict() == {
        "sudoku": [0], "countdown": [0, 1],
    }  # fmt: skip


def test_figures_and_claims_are_made_and_nothing_in_the_place_of_the_complete_ones(partial):
    folder, said = partial
    out = folder / "results/smoke/so_far"
    for name in ("accuracy_by_length", "training_curves"):
        assert (out / f"figures/main/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"figures/main/{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "DMPO − Base, Countdown, one token a step, mean over lengths, published" in (out / "claims.md").read_text(
        encoding="utf-8"
    )
    assert {path.name for path in (folder / "results/smoke").iterdir()} == {"runs", "so_far"}
    assert "methods: So far 5 of 14 evaluations" in said  # what it shares with main


def test_a_complete_experiment_says_so_and_has_the_same_numbers(tmp_path):
    folder = plant(tmp_path)
    assert "main: Complete: all 12 evaluations are done." in render(folder, "main")
    files = sorted((folder / "results/smoke/runs").glob("*/*/*/*/samples-papers.parquet"))
    command = [sys.executable, str(ROOT / "src/collect_scores.py"), *map(str, files), "--scores", "scores.csv"]
    subprocess.run(command, cwd=folder, check=True)
    complete = pd.read_csv(folder / "scores.csv").sort_values([*RUN]).reset_index(drop=True)
    so_far = pd.read_csv(folder / "results/smoke/so_far/scores/main.csv").sort_values([*RUN]).reset_index(drop=True)
    pd.testing.assert_frame_equal(so_far.drop(columns="planned"), complete)


def test_without_any_run_nothing_is_drawn(tmp_path):
    said = render(tmp_path, "main")
    assert "main: So far 0 of 12 evaluations are done" in said
    assert "main: training_curves is not drawn yet: no run is done" in said
    assert not (tmp_path / "results/smoke/so_far/tables").exists()


def test_a_run_with_other_settings_is_left_out_and_named(tmp_path, monkeypatch):
    folder = plant(tmp_path)
    manifest = folder / "results/smoke/runs" / GONE / "manifest.json"
    manifest.write_text(json.dumps(signed({"spec": "0" * 12})), encoding="utf-8")
    monkeypatch.chdir(folder)
    found = find(expand(config()), "main")
    assert [run.name for run in found.outdated] == [GONE]
    assert "Left out, made with other settings: DMPO on Sudoku, seed 1." in str(found)
    assert len(found.samples) == 11


@pytest.mark.parametrize("scale", ["smoke", "llada-8b"])
def test_every_evaluation_of_every_experiment_is_looked_for(scale, tmp_path, monkeypatch):
    """Also those of an adapter that learnt from a corpus, or is carried to another task."""
    monkeypatch.chdir(tmp_path)
    grid = expand(config() | {"scale": scale})
    for name, one in grid.experiments.items():
        found = find(grid, name)
        assert len(found.missing) == len(grid.samples(name)), name
        assert {run.task for run in found.missing} <= set(grid.datasets), name
        assert {run.seed for run in found.missing} == {grid.runs[run].seed for run in one.runs}, name


def test_a_damaged_file_is_named(tmp_path):
    folder = plant(tmp_path)
    file = folder / "results/smoke/runs" / GONE / "samples-papers.parquet"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(AssertionError, match=r"seed-1/samples-papers\.parquet: cannot be read"):
        render(folder, "main")


def test_the_target_runs_beside_a_workflow_and_schedules_nothing_else(partial):
    folder = partial[0]
    (folder / ".snakemake/locks").mkdir(parents=True)
    lock = folder / ".snakemake/locks/0.output.lock"  # of a snakemake that runs
    lock.write_text(f"{folder}/results/smoke/claims.md\n{folder}/logs/so_far_main.log\n", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in (folder / "results/smoke/runs").rglob("*")}
    command = ["snakemake", "--profile", str(ROOT / "workflow/profiles/smoke"), "-s", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--nolock", "so_far_main"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "main: So far 9 of 12 evaluations are done" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (folder / "results/smoke/runs").rglob("*")} == before
    assert lock.exists()
