"""One SFT run on s1K through the workflow: d1 starts from it on two tasks, and both tables have its answers."""

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.conversations import llada_tokenizer, s1k_rows, write_rows
from helpers.workflow import snakemake
from unmask.config.loading import load_config

SFT = "results/smoke/runs/sft/s1k/default/seed-0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which sft and d1 were compared on two tasks, with a model that reads any text."""
    from unmask.models.tiny import build_model

    folder = tmp_path_factory.mktemp("sft")
    tokenizer = llada_tokenizer()
    shape = {"hidden_size": 16, "layers": 1, "heads": 2, "mlp_size": 32, "rope_theta": 100.0}
    build_model(**shape, vocabulary=len(tokenizer), seed=0).save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    write_rows(folder / "s1k.jsonl", s1k_rows(20, longest=5))
    few = {"prompt": "chat", "train": 8, "validation": 4, "test": 4}
    s1k = {"train_source": {"source": "local", "path": "s1k.jsonl"}, "validation": 0.1}
    config = {
        "scale": "smoke",
        "models": {"reader": {"source": "local", "path": "checkpoint"}},
        "scales": {
            "smoke": {
                "model": "reader",
                "models": {"dream": "reader", "shared": "reader"},
                "seeds": [0],
                "lengths": [24],
                "experiment_changes": {"methods": {"methods": ["sft", "d1"], "tasks": ["sudoku", "countdown"]}},
                "task_settings": {"sudoku": few, "countdown": few, "s1k": s1k},
                "methods": {"sft": {"corpus": "s1k", "group_size": 1, "generation_length": 512, "validate_every": 0}},
            }
        },
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    targets = ("methods", "results/smoke/metrics/methods.csv")
    code, output = snakemake(folder, *targets, "--configfile", str(folder / "mine.yaml"))
    assert code == 0, output
    return folder


def rows(file):
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_one_run_learns_the_corpus_and_d1_starts_from_it(finished):
    runs = sorted(str(path.parent) for path in Path(finished / "results/smoke/runs").glob("*/*/*/*/manifest.json"))
    assert [run.removeprefix(f"{finished}/results/smoke/runs/") for run in runs] == [
        "d1/countdown/default/seed-0", "d1/sudoku/default/seed-0", "sft/s1k/default/seed-0"
    ]  # fmt: skip
    manifest = json.loads((finished / "results/smoke/data/s1k/manifest.json").read_text(encoding="utf-8"))
    assert manifest["rows"] == {"train": 18, "validation": 2}
    for task in ("sudoku", "countdown"):
        spec = yaml.safe_load((finished / f"results/smoke/runs/d1/{task}/default/seed-0/spec.yaml").read_text())
        assert spec["start_from"] == "sft/s1k/default/seed-0"
    assert "| nan |" not in (finished / SFT / "adapter/README.md").read_text(encoding="utf-8")


def test_its_metrics_have_no_reward(finished):
    found = rows(finished / SFT / "metrics.csv")
    assert [row["reward"] + row["accuracy"] + row["flat_groups"] for row in found] == ["", ""]
    assert all(float(row["loss"]) > 0 for row in found)


def test_it_is_in_the_tables_of_both_tasks(finished):
    samples = sorted(path.name for path in (finished / SFT).glob("*.parquet"))
    assert samples == ["samples-papers-on-countdown.parquet", "samples-papers-on-sudoku.parquet"]
    scores = pd.read_csv(finished / "results/smoke/scores/methods.csv")
    found = scores[["method", "task", "variant"]].drop_duplicates().itertuples(index=False)
    assert {tuple(row) for row in found} == {
        (method, task, "default") for method in ("sft", "d1") for task in ("sudoku", "countdown")
    }
    table = (finished / "results/smoke/tables/methods.md").read_text(encoding="utf-8")
    assert table.count("| SFT ") >= 2
    assert "s1k" not in table.lower()


def test_figures_leave_its_updates_out(finished):
    assert {row["task"] for row in rows(finished / "results/smoke/metrics/methods.csv")} == {
        "sudoku", "countdown", "s1k"
    }  # fmt: skip
    figure = finished / "results/smoke/figures/methods/training_curves.png"
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_nothing_is_left_to_do_and_plan_knows_it(finished, tmp_path):
    code, output = snakemake(finished, "methods", "-n", "--configfile", str(finished / "mine.yaml"))
    assert (code, "Nothing to be done" in output) == (0, True), output
    code, output = snakemake(finished, "plan_methods", "--configfile", str(finished / "mine.yaml"))
    (line,) = [line.split() for line in output.splitlines() if line.startswith("sft/s1k/default/seed-0")]
    assert line[1:4] == ["done", "2/2", "2/2"]


def test_the_run_browser_shows_it_once(finished, monkeypatch):
    from snakemake.utils import update_config

    from unmask.analysis.html_report.links import Folders
    from unmask.analysis.html_report.runs import rows as browse
    from unmask.config.grid.expand import expand

    config = load_config() | {"scale": "smoke"}
    update_config(config, yaml.safe_load((finished / "mine.yaml").read_text(encoding="utf-8")))
    monkeypatch.chdir(finished)
    grid = expand(config)
    (row,) = [
        row
        for row in browse(Folders(Path("results/smoke"), Path("results/smoke")), grid, [grid.experiments["methods"]])
        if row.run.name.startswith("sft/")
    ]
    assert row.reward is None
    assert row.right is not None
    assert row.answers.kept
    assert {"loss", "flops"} <= row.curves.keys()
    assert "reward" not in row.curves
    shutil.rmtree(finished / "results/smoke/figures")
