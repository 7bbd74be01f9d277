"""What a dry run says before anything is submitted: targets, files, commits and GPUs. Plans need none of it."""

import json
import subprocess
from pathlib import Path

import pytest

from helpers.paths import ROOT
from unmask.common.manifest import signed
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.planning.readiness import FETCHED, idle_gpus, lacking
from unmask.planning.targets import Asked, asked, unknown_targets

HUB = {"source": "hub", "repository": "a/b", "subset": "c", "split": "d"}
RUN = "dmpo/sudoku/default/seed-0"


@pytest.fixture
def raw():
    """config.yaml at the papers' scale, with every revision pinned."""
    values = load_config()
    for task in ("math500", "s1k"):
        values["tasks"][task]["train_source"]["revision"] = "a" * 40
    return values | {"scale": "llada-8b"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)


def put_files():
    """Files where the configuration has d1's test sets."""
    for place in FETCHED:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_text("{question}", encoding="utf-8")


def all_that_lacks(raw, *targets):
    grid = expand(raw)
    return lacking(grid, asked(grid, targets), raw)


def test_everything_that_the_papers_scale_lacks_is_said_at_once(raw):
    raw["tasks"]["math500"]["train_source"]["revision"] = "to be pinned"
    said = all_that_lacks(raw, "all")
    keys = [line.partition(":")[0] for line in said]
    assert keys == [
        "scales.llada-8b.task_settings.countdown.test_source.path",
        "tasks.math500.train_source.revision",
        "scales.llada-8b.task_settings.sudoku.test_source.path",
    ]
    assert "make data" in said[0]
    assert "make pin" in said[1]
    put_files()
    assert len(all_that_lacks(raw, "all")) == 1


def test_the_released_prompts_are_fetched_for_their_preset(raw):
    raw["fidelity"] = "released"
    said = all_that_lacks(raw, "all")
    (line,) = [line for line in said if "gsm8k_evaluation" in line]
    assert line == (
        "fidelities.released.task_settings.gsm8k.evaluation_prompt_file: data/prompts/gsm8k_evaluation.txt does "
        "not exist; fetch it: `make data`, or src/fetch_data.py in another folder"
    )
    assert len(said) == 2 + 9
    put_files()
    assert all_that_lacks(raw, "all") == []


def test_more_boards_than_a_local_file_has_are_found_in_the_dry_run(raw):
    put_files()
    board = "1234341221434321"
    rows = "".join(f"0{board[1:]},{board}\n" for _ in range(3))
    Path("data/sudoku/test.csv").write_text(f"Puzzle,Solution\n{rows}", encoding="utf-8")
    target = "results/llada-8b/data/sudoku/test.parquet"
    assert all_that_lacks(raw, target) == [
        "tasks.sudoku.test: 256 test problems are asked for, and data/sudoku/test.csv has 3; ask for 3 or fewer"
    ]
    raw["scales"]["llada-8b"]["task_settings"]["sudoku"]["test"] = 3
    assert all_that_lacks(raw, target) == []


def test_only_what_the_targets_need_is_asked_for(raw):
    assert len(all_that_lacks(raw, f"results/llada-8b/runs/{RUN}/adapter")) == 1
    assert all_that_lacks(raw, "plan", f"results/llada-8b/runs/{RUN}/spec.yaml", "exact_toy") == []
    assert len(all_that_lacks(raw, "results/llada-8b/data/countdown/test.parquet", "results/llada-8b/claims.md")) == 2


def test_what_is_prepared_needs_no_source(raw):
    grid = expand(raw)
    folder = Path("results/llada-8b/data/sudoku")
    folder.mkdir(parents=True)
    for spec, place in ((grid.datasets["sudoku"], folder), (grid.tests["sudoku"], folder / "test")):
        place.mkdir(parents=True, exist_ok=True)
        (place / "manifest.json").write_text(json.dumps(signed({"spec": spec.digest})), encoding="utf-8")
    assert all_that_lacks(raw, f"results/llada-8b/runs/{RUN}/adapter") == []
    raw["tasks"]["sudoku"]["seed"] = 5
    assert len(all_that_lacks(raw, f"results/llada-8b/runs/{RUN}/adapter")) == 1


def test_a_local_model_is_looked_at(raw):
    raw["models"]["llada-8b-instruct"] = {"source": "local", "path": "mine"}
    put_files()
    (line,) = all_that_lacks(raw, "main")
    assert line.startswith("models.llada-8b-instruct.path: mine is not a folder")
    Path("mine").mkdir()
    (line,) = all_that_lacks(raw, "main")
    assert line.endswith(
        "mine has no config.json, no *.safetensors, no tokenizer.json or vocab.json, no tokenizer_config.json; "
        "copy the complete checkpoint"
    )
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        Path("mine", name).write_text("{}", encoding="utf-8")
    assert all_that_lacks(raw, "main") == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("prompt_file", "mine.txt", "mine.txt does not exist"),
        ("train_source", {"source": "local", "path": "x.txt"}, "x.txt: does not exist"),
        ("train_source", {"source": "local", "path": "data/sudoku"}, "data/sudoku: expected one of train.jsonl"),
        ("train_source", {"source": "local", "path": "odd.txt"}, "odd.txt is in none of the formats .jsonl"),
        (
            "train_source",
            {"source": "hub", "repository": "a/b", "subset": "c", "split": "d", "revision": "main"},
            "'main'",
        ),
    ],
)
def test_sources_and_prompts_are_looked_at(raw, key, value, said):
    put_files()
    Path("odd.txt").write_text("x", encoding="utf-8")
    raw["tasks"]["gsm8k"][key] = value
    (line,) = all_that_lacks(raw, "main")
    assert line.startswith(f"tasks.gsm8k.{key}")
    assert said in line


@pytest.mark.parametrize("key", ["prompt_file", "evaluation_prompt_file"])
def test_a_prompt_that_shows_the_answer_is_found_in_a_dry_run(raw, key):
    put_files()
    Path("prompt.txt").write_text("{question}", encoding="utf-8")
    raw["tasks"]["gsm8k"] |= {"prompt_file": "prompt.txt", "evaluation_prompt_file": "same"}
    assert all_that_lacks(raw, "main") == []
    Path("answer.txt").write_text("Finish with \\boxed{answer}.\n{question}", encoding="utf-8")
    raw["tasks"]["gsm8k"][key] = "answer.txt"
    (line,) = all_that_lacks(raw, "main")
    assert line.startswith(f"tasks.gsm8k.{key}: answer.txt: {{answer}} is a column that a prompt may not show")


def test_gpus_that_would_be_idle_are_said(raw):
    grid = expand(raw)
    (line,) = idle_gpus(grid, Asked({RUN}), 3)
    assert line == (
        f"train_policy:gpu=3, in the profile or --set-resources: {RUN} would use 1 of them; ask for a divisor of 8"
    )
    assert [idle_gpus(grid, Asked({RUN}), count) for count in (None, 1, 2, 4, 8)] == [[]] * 5
    assert idle_gpus(grid, Asked({"base/sudoku/default/seed-0"}), 3) == []


def test_unknown_targets_get_a_suggestion(raw):
    grid, rules = expand(raw), ["all", "main", "train_policy"]
    said = unknown_targets(
        grid, ["mian", "main", "results/laptop/claims.md", f"results/llada-8b/runs/{RUN[1:]}/adapter"], rules
    )
    assert said == [
        "mian: no such target; did you mean main?; `snakemake --list` shows all",
        "results/laptop/claims.md: this scale and fidelity write to results/llada-8b; choose the profile, or `--config "
        "scale=… fidelity=…`, of the file",
        f"results/llada-8b/runs/{RUN[1:]}/adapter: scale llada-8b has no run {RUN[1:]}; did you mean {RUN}?",
    ]


def test_the_report_on_one_experiment_needs_its_runs(raw):
    grid = expand(raw)
    runs = set(grid.experiments["dream"].runs)
    page = "results/llada-8b/reports/dream/report.html"
    # Some of its runs may start from others, which are needed, too.
    assert runs <= asked(grid, [page]).runs == asked(grid, ["report_dream"]).runs == asked(grid, ["dream"]).runs
    assert asked(grid, ["report_dream"]).runs != asked(grid, ["all"]).runs


def snakemake(*words, profile="slurm"):
    command = [
        "snakemake",
        "--profile",
        str(ROOT / "workflow/profiles" / profile),
        "-s",
        str(ROOT / "Snakefile"),
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("words", [["--list"], ["-n", "plan"], ["-n", "plan_main"], ["-n", "exact_toy"], ["--lint"]])
def test_what_needs_no_files_works_without_them(words):
    code, output = snakemake(*words)
    assert code == 0, output


def test_a_dry_run_lists_what_is_missing_and_no_more():
    code, output = snakemake("-n", "all", "--set-resources", "train_policy:gpu=3")
    assert code == 1
    assert "not ready for all at scale llada-8b, " in output
    for line in ("data/sudoku/test.csv does not", "data/countdown/test.jsonl does not exist", "train_policy:gpu=3"):
        assert line in output
    assert "Job stats" not in output
    assert snakemake("-n", "all", profile="laptop")[0] == 0
