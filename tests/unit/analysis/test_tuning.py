"""Choice among candidates: by hand, through the steps, and the committed choice against the published sweep."""

import json
import sys

import pandas as pd
import pytest
import yaml

import adopt_tuning
import choose_settings
import render_tuning
from helpers.paths import ROOT
from unmask.analysis.tuning import Choice, Scored, score, text
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

PUBLISHED = sorted((ROOT / "docs/results/tuning").glob("*/*.yaml"))


def metrics(folder, seed, values):
    """A run's metrics: validated at every second update."""
    file = folder / f"seed-{seed}/metrics.csv"
    file.parent.mkdir(parents=True)
    rows = [{"step": 2 * i + j, "validation": value if j else None} for i, value in enumerate(values) for j in (0, 1)]
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def runs():
    """Digest of the runs that the laptop scale tunes DMPO on Sudoku by."""
    return expand(load_config() | {"scale": "laptop"}).tuning_digest("dmpo/sudoku")


@pytest.fixture
def choice(tmp_path, monkeypatch, runs):
    """What the step writes for two candidates with two seeds each: means 0.35 and 0.4."""
    files = [
        metrics(tmp_path / "slow", 1000, [0.2, 0.4]),
        metrics(tmp_path / "slow", 1001, [0.3, 0.5]),
        metrics(tmp_path / "fast", 1000, [0.1, 0.9]),
        metrics(tmp_path / "fast", 1001, [0.2, 0.4]),
    ]
    candidates = [{"learning_rate": 1e-4}, {"learning_rate": 3e-4}]
    out = tmp_path / "tuning/dmpo/sudoku.yaml"
    words = ["dmpo/sudoku", json.dumps(candidates), *map(str, files), "--runs", runs, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["choose_settings.py", *words])
    choose_settings.main()
    return out


def test_the_candidate_with_the_best_mean_is_chosen(choice):
    content = yaml.safe_load(choice.read_text())
    assert content["chosen"] == {"learning_rate": 3e-4}
    assert [one["score"] for one in content["candidates"]] == pytest.approx([0.35, 0.4])
    assert content["candidates"][1]["seeds"] == pytest.approx({1000: 0.5, 1001: 0.3})
    assert Choice.read(choice).chosen.settings == {"learning_rate": 3e-4}


def test_of_equal_candidates_the_first_is_chosen():
    equal = [Scored({"clip": value}, {0: 0.5}) for value in (0.2, 0.5)]
    assert Choice("diffu_grpo", "sudoku", equal).chosen is equal[0]


def test_an_edited_choice_is_refused(choice):
    choice.write_text(
        choice.read_text().replace("chosen:\n  learning_rate: 0.0003", "chosen:\n  learning_rate: 0.0001")
    )
    with pytest.raises(InputError, match="`chosen` is not the candidate with the highest score"):
        Choice.read(choice)


def test_a_run_that_was_never_validated_has_no_score(tmp_path):
    with pytest.raises(InputError, match="no validation accuracy; set validate_every above 0"):
        score(metrics(tmp_path, 0, [None, None]))


def test_table_figure_and_adopted_settings(choice, tmp_path, monkeypatch):
    out = {name: tmp_path / f"tuning.{name}" for name in ("png", "pdf", "md", "csv")}
    words = [str(choice), "--figures", str(out["png"]), str(out["pdf"]), "--tables", str(out["md"]), str(out["csv"])]
    monkeypatch.setattr(sys, "argv", ["render_tuning.py", *words])
    render_tuning.main()
    assert out["png"].read_bytes().startswith(b"\x89PNG")
    assert "| DMPO     | Sudoku | learning rate 0.0003 | 40.0             | 50.0 / 30.0 | yes" in out["md"].read_text()
    assert list(pd.read_csv(out["csv"])["chosen"]) == [False, True]

    assert adopt(choice, tmp_path, monkeypatch) == {"dmpo": {"by_task": {"sudoku": {"learning_rate": 3e-4}}}}


def adopt(choice, tmp_path, monkeypatch):
    """The settings of methods that follow from this choice and from what is published already."""
    words = [choice.parents[1], tmp_path / "published", tmp_path / "laptop.yaml", "--scale", "laptop"]
    monkeypatch.setattr(sys, "argv", ["adopt_tuning.py", *map(str, words)])
    adopt_tuning.main()
    return yaml.safe_load((tmp_path / "laptop.yaml").read_text())["scales"]["laptop"]["methods"]


def test_adopting_a_sweep_keeps_the_choices_of_methods_that_were_not_swept(choice, tmp_path, monkeypatch):
    for task in ("sudoku", "countdown"):
        candidates = [Scored({"learning_rate": 1e-3}, {1000: 0.2}), Scored({"learning_rate": 2e-3}, {1000: 0.1})]
        for method in ("dmpo", "sft"):
            file = tmp_path / f"published/{method}/{task}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            Choice(method, task, candidates).write(file)
    kept = {"learning_rate": 1e-3}
    methods = adopt(choice, tmp_path, monkeypatch)
    assert methods["dmpo"]["by_task"] == {"countdown": kept, "sudoku": {"learning_rate": 3e-4}}
    assert methods["sft"]["by_task"] == {"countdown": kept, "sudoku": kept}
    assert (tmp_path / "published/dmpo/sudoku.yaml").read_bytes() == choice.read_bytes()


def test_an_edited_choice_replaces_no_published_one(choice, tmp_path, monkeypatch):
    edited = choice.read_text().replace("chosen:\n  learning_rate: 0.0003", "chosen:\n  learning_rate: 0.0001")
    choice.write_text(edited)
    with pytest.raises(InputError, match="not the candidate with the highest score"):
        adopt(choice, tmp_path, monkeypatch)
    assert not (tmp_path / "published").exists()


@pytest.mark.parametrize("stale", ["settings", "method"])
def test_a_choice_of_other_settings_is_skipped(choice, tmp_path, monkeypatch, capsys, runs, stale):
    """Such as one from before a pull: it would put the settings of an older sweep to use."""
    file = choice.parents[1] / "sft/sudoku.yaml"
    file.parent.mkdir()
    other = choice.read_text().replace("method: dmpo", "method: sft") if stale == "method" else choice.read_text()
    file.write_text(other if stale == "method" else other.replace(runs, "0" * len(runs)))
    assert adopt(choice, tmp_path, monkeypatch) == {"dmpo": {"by_task": {"sudoku": {"learning_rate": 3e-4}}}}
    assert f"skipped: {file}: of other settings" in capsys.readouterr().out
    assert not (tmp_path / "published/sft").exists()

    choice.unlink()
    with pytest.raises(InputError, match="no tuning with the settings of the configuration"):
        adopt(choice, tmp_path, monkeypatch)


def test_candidates_may_be_no_numbers():
    assert text({"loss_kind": "wddo", "clip": 0.50, "merge": True, "cut": None}) == (
        "loss kind wddo, clip 0.5, merge true, cut null"
    )


def test_nothing_is_adopted_from_an_unfinished_tuning(tmp_path, monkeypatch):
    words = [tmp_path, tmp_path / "published", tmp_path / "x.yaml", "--scale", "laptop"]
    monkeypatch.setattr(sys, "argv", ["adopt_tuning.py", *map(str, words)])
    with pytest.raises(InputError, match="no finished tuning; run `snakemake --profile laptop tune` first"):
        adopt_tuning.main()


def test_the_committed_settings_follow_from_the_published_sweep():
    """From the scores in docs/results/tuning, whose choice `read` makes again."""
    committed = ROOT / "workflow/config/tuned/laptop.yaml"
    if not PUBLISHED:
        assert not committed.exists()
        return
    choices = [Choice.read(file) for file in PUBLISHED]
    assert committed.read_text(encoding="utf-8") == adopt_tuning.adopted("laptop", choices)
