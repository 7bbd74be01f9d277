"""What `plan` says of hours and memory: assumed until something is measured; what does not fit is refused."""

import json
import sys

import pytest

import show_plan
from unmask.common.errors import InputError
from unmask.common.manifest import signed
from unmask.common.parquet import write_rows
from unmask.models.shapes import LLADA_8B
from unmask.planning.estimates import estimates
from unmask.planning.flops import hours, training_flops
from unmask.planning.status import RunStatus

DMPO = [f"dmpo/{task}/default/seed-{seed}" for task in ("sudoku", "countdown") for seed in (0, 1)]
GRPO = "diffu_grpo/sudoku/default/seed-0"
RUNS = {name: ["papers"] for name in ("base/sudoku/default/seed-0", GRPO, *DMPO)}


def standings(done, seconds, processes=None):
    """Runs of four updates, of which these are done; all others wait."""
    found = {name: RunStatus(name, "to do", 0, 4, 0.0) for name in RUNS if not name.startswith("base")}
    return found | {name: RunStatus(name, "done", 4, 4, seconds, processes=processes) for name in done}


def write_samples(folder, run, seconds):
    file = folder / f"results/smoke/runs/{run}/samples-papers.parquet"
    file.parent.mkdir(parents=True)
    write_rows(file, [{"seconds": one} for one in seconds])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_before_anything_is_done_hours_are_assumed(grid, here):
    found = estimates(grid, RUNS, standings([], 0.0))
    base, dmpo = found["base/sudoku/default/seed-0"], found[DMPO[0]]
    assert (base.training, base.spent, base.memory.keys()) == (0.0, 0.0, {"evaluation papers"})
    assert base.to_go == base.evaluation > 0
    assert dmpo.to_go == pytest.approx(dmpo.training + dmpo.evaluation)
    assert dmpo.memory.keys() == {"gradient", "optimizer step", "scoring", "rollouts", "evaluation papers"}
    assert not dmpo.training_measured
    assert not dmpo.evaluation_measured


def test_done_runs_say_how_long_others_of_their_method_take(grid, here):
    """7200 seconds of two processes are four hours; other seeds take as long, other tasks by their operations."""
    before = estimates(grid, RUNS, standings([], 0.0))
    after = estimates(grid, RUNS, standings(DMPO[:1], 7200.0, processes=2))
    assert after[DMPO[0]].spent == pytest.approx(4.0)
    assert after[DMPO[0]].to_go == pytest.approx(after[DMPO[0]].evaluation)
    for name in DMPO[1:]:
        assert after[name].training == pytest.approx(4.0 * before[name].training / before[DMPO[0]].training)
        assert after[name].training_measured
    assert after[DMPO[1]].training == pytest.approx(4.0)
    assert after[GRPO] == before[GRPO]


def test_a_running_run_is_charged_the_gpus_that_the_workflow_gives_it(grid, here):
    found = standings([], 0.0) | {GRPO: RunStatus(GRPO, "running", 1, 4, 3600.0)}
    after = estimates(grid, RUNS, found)[GRPO]
    assert after.spent == grid.gpus(GRPO) == 1
    assert after.to_go == pytest.approx(0.75 * after.training + after.evaluation)
    assert not after.training_measured  # only when it is done


def test_done_evaluations_say_how_long_others_take(grid, here):
    before = estimates(grid, RUNS, standings([], 0.0))
    write_samples(here, DMPO[0], [900.0] * 8)
    after = estimates(grid, RUNS, standings([], 0.0))
    assert after[DMPO[0]].spent == after[DMPO[0]].evaluation == pytest.approx(2.0)
    assert after[DMPO[0]].to_go == after[DMPO[0]].training
    assert all(one.evaluation_measured for one in after.values())
    assert after[GRPO].evaluation == pytest.approx(2.0 * before[GRPO].evaluation / before[DMPO[0]].evaluation)


def test_a_data_set_that_is_there_says_how_many_examples_it_has(grid, here):
    before = estimates(grid, RUNS, standings([], 0.0))[GRPO].evaluation  # 8 by the settings
    manifest = here / "results/smoke/data/sudoku/test/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps(signed({"rows": {"test": 24}})), encoding="utf-8")
    assert estimates(grid, RUNS, standings([], 0.0))[GRPO].evaluation == pytest.approx(3 * before)


def printed(config, monkeypatch, capsys, *experiments):
    monkeypatch.setattr(show_plan, "slurm_jobs", lambda folder: [])
    monkeypatch.setattr(sys, "argv", ["show_plan.py", json.dumps(config), "--experiments", *experiments])
    show_plan.main()
    return capsys.readouterr().out.splitlines()


def test_the_table_at_the_papers_scale(config, here, monkeypatch, capsys):
    from unmask.config.grid.expand import expand

    config["scale"] = "llada-8b"
    lines = printed(config, monkeypatch, capsys, "main")
    rows = {line.split()[0]: line.split()[1:] for line in lines if "/default/seed-" in line}
    assert len(rows) == 4 + 3 + 5 * 4 * 3  # the base model is evaluated once, SFT is one run for all tasks
    assert len({len(line) for line in lines[: 2 + len(rows)]}) <= 2  # aligned; the last column is empty
    grid = expand(config)
    name = "dmpo/gsm8k/default/seed-0"
    state, _, update, evaluated, memory, training, *_ = rows[name]
    assert (state, update, evaluated) == ("to", "0/4000", "0/1")
    estimated = hours(training_flops(LLADA_8B, grid.runs[name], 200, checkpointing=True), grid.cost)
    assert (memory, training) == ("33.8", f"~{estimated:.1f}")
    assert any(line.startswith("GPU-hours: about ") for line in lines)
    assert any(line.startswith("with --config fidelity=paper: about 6008 GPU-hours") for line in lines)
    assert lines[-1].startswith("~: at the throughput assumed in scales.llada-8b.cost")


def test_a_model_that_nobody_knows_has_question_marks(config, here, monkeypatch, capsys):
    config["scale"] = "llada-8b"
    config["models"]["llada-8b-instruct"]["repository"] = "who/what"
    lines = printed(config, monkeypatch, capsys, "main")
    row = next(line.split() for line in lines if line.startswith("dmpo/gsm8k/default/seed-0"))
    assert row[1:] == ["to", "do", "0/4000", "0/1", "?", "?", "?", "?", "0.0"]
    assert any("67 runs left out, whose model or test set is not known yet" in line for line in lines)


def test_without_a_gpu_hours_are_the_processors(config, here, monkeypatch, capsys):
    lines = printed(config, monkeypatch, capsys, "main")
    assert lines[0].count("CPU-h") == 3
    assert any(line.startswith("CPU-hours: about ") for line in lines)


def test_what_does_not_fit_is_refused_after_the_table(config, here, monkeypatch, capsys):
    config["scale"] = "llada-8b"
    config["scales"]["llada-8b"]["training"] = {"micro_batch_size": 16}
    config["scales"]["llada-8b"]["runtime"] = {"activation_checkpointing": False}
    config["scales"]["llada-8b"]["experiment_changes"] = {}  # three methods, of which only DMPO does not fit
    with pytest.raises(InputError) as caught:
        printed(config, monkeypatch, capsys, "main")
    said = str(caught.value)
    assert said.startswith("dmpo/gsm8k/default/seed-0 and 11 more: ")
    assert "scales.llada-8b.methods.dmpo.micro_batch_size: 14 (" in said
    assert "scales.llada-8b.runtime.activation_checkpointing: true (" in said
    assert "12 runs" not in said
    assert "GPU-hours: about" in capsys.readouterr().out
