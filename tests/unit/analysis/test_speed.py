"""The speed of runs: its numbers by hand, and its tables."""

import io
import json

import pandas as pd
import pytest

from unmask.analysis.html_report import speed, speed_tables
from unmask.common.manifest import signed
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

METRICS = "step,reward,nfe,tokens,flops,seconds\n"
MANIFEST = {"seconds": 10.0, "seconds_training": 4.0, "device": "H100", "processes": 2}


def settings():
    values = load_config() | {"scale": "smoke"}
    main = {"question": "?", "methods": ["base", "dmpo", "d1"], "tasks": ["sudoku"], "evaluation": "papers"}
    again = {"question": "?", "methods": ["base", "dmpo"], "tasks": ["sudoku"], "evaluation": "papers"}
    scales = {name: scale | {"experiments": ["main"]} for name, scale in values["scales"].items()}
    scales = {name: scale | {"experiment_changes": {}} for name, scale in scales.items()}
    return values | {"experiments": {"main": main, "again": again}, "scales": scales}


@pytest.fixture
def planted(tmp_path):
    """Root, grid and experiments of runs whose speed is known."""
    grid = expand(settings())
    for name in grid.runs:
        run, folder = grid.runs[name], tmp_path / "runs" / name
        run.write(folder / "spec.yaml")
        write(folder / "samples-papers.json", json.dumps(signed({"device": "H100", "processes": 2})))
        if not run.trains:
            continue
        write(folder / "manifest.json", json.dumps(signed(MANIFEST | {"seconds": 10.0 + 10 * run.seed})))
        updates = range(2 * run.training.updates_per_buffer)
        if run.method == "sft":
            rows = [f"{update + 1},nan,0,20,{1e12 * (update + 1)},1" for update in updates]
        else:
            # 10 tokens a response in the first buffer, 20 in the second
            per_buffer = run.training.updates_per_buffer
            rows = [
                f"{u + 1},0,{4 + u // per_buffer},{10 + 10 * (u // per_buffer)},{2e12 * (u + 1)},1" for u in updates
            ]
        write(folder / "metrics.csv", METRICS + "\n".join(rows) + "\n")

    for name, experiment in grid.experiments.items():
        rows = []
        for run in map(grid.runs.get, experiment.runs):
            row = {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed, "length": 24}
            rows += [row | {"sampler": "top1", "nfe": 20.0, "tokens": 10.0, "seconds": 0.5, "n": 8}]
            rows += [row | {"sampler": "top2", "nfe": 5.0 + run.seed, "tokens": 10.0, "seconds": 0.25, "n": 8}]
        write(tmp_path / f"scores/{name}.csv", pd.DataFrame(rows).to_csv(index=False))
    return tmp_path, grid, [grid.experiments[name] for name in ("main", "again")]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_training_counts_each_buffer_once(planted):
    root, grid, experiments = planted
    found = speed.training(root, grid, experiments).set_index("method")
    run = grid.runs["dmpo/sudoku/default/seed-0"]
    responses = run.training.prompts_per_buffer * run.training.group_size
    updates = 2 * run.training.updates_per_buffer
    dmpo = found.loc["dmpo"]
    assert run.training.updates_per_buffer > 1
    assert (dmpo["runs"], dmpo["updates"], dmpo["nfe"]) == (2, updates, 4.5)
    # seeds take 10 s and 20 s
    assert dmpo["tokens_per_second"] == pytest.approx(responses * 30 * (1 / 10 + 1 / 20) / 2)
    assert dmpo["seconds"] == 15
    assert dmpo["tflops"] == pytest.approx(2 * updates)
    assert (dmpo["device"], dmpo["processes"]) == ("H100", 2)
    assert "base" not in found.index


def test_demonstrations_are_not_drawn_but_cost_operations(planted):
    root, grid, _ = planted
    sft = speed._trained(root / "runs" / next(name for name in grid.runs if name.startswith("sft/")))
    assert sft["nfe"] is None
    assert sft["tokens_per_second"] is None
    assert sft["tflops_per_second"] > 0


def test_an_evaluation_of_two_experiments_counts_once(planted):
    found = speed.evaluation(*planted)
    assert len(found) == 3 * 2
    top2 = found[(found["method"] == "dmpo") & (found["sampler"] == "top2")].iloc[0]
    assert (top2["runs"], top2["nfe"], top2["tokens"], top2["seconds"]) == (2, 5.5, 10, 0.25)
    assert top2["tokens_per_second"] == 40
    assert top2["tokens_per_pass"] == pytest.approx((10 / 5 + 10 / 6) / 2)
    assert top2["device"] == "H100"


def test_a_missing_manifest_leaves_cells_empty(planted):
    root, grid, experiments = planted
    for file in root.rglob("samples-papers.json"):
        file.unlink()
    found = speed.evaluation(root, grid, experiments)
    assert found["processes"].isna().all()
    assert set(found["device"]) == {""}
    line = speed_tables.tables(pd.DataFrame(), found)[1].blocks[0].lines[0]
    assert line.cells[-1] == line.device == ""


def test_tables_say_the_same_on_the_page_in_markdown_and_as_numbers(planted):
    training, evaluation = speed.training(*planted), speed.evaluation(*planted)
    tables = speed_tables.tables(training, evaluation)
    assert [(table.title, len(table.blocks)) for table in tables] == [("Training", 1), ("Evaluation", 1)]
    lines = tables[1].blocks[0].lines
    assert lines[0].labels == ["Base", "one token a step", "24"]
    assert lines[0].cells == ["2", "20.0", "10.0", "0.500", "20.0", "0.500", "2"]
    assert [line.share for line in lines[:2]] == [50, 100]
    text = speed_tables.markdown(tables)
    assert "## Training\n" in text
    assert "| Base " in text
    assert len(pd.read_csv(io.StringIO(speed_tables.csv(training, evaluation)))) == len(training) + len(evaluation)


def test_no_runs_make_empty_tables():
    empty = pd.DataFrame()
    assert [table.blocks for table in speed_tables.tables(empty, empty)] == [[], []]
    assert speed_tables.csv(empty, empty) == ""


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.01234, "0.0123"), (5.678, "5.68"), (98765.4, "98765")])
def test_numbers_have_three_digits_and_no_exponent(value, text):
    assert speed_tables.significant(value) == text
