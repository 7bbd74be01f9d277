"""What repeats a run and what does not, on one small finished project: the workflow's dry run says what it would do."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from helpers.old_layout import make_old
from helpers.paths import ROOT
from unmask.common.checksums import verify_checksums
from unmask.common.manifest import read_manifest, signed
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

RUN = "results/smoke/runs/dmpo/sudoku/default/seed-0"
SOLVED = "1234341221434321"
BOARD = f"Puzzle,Solution\n{SOLVED[:-1]}0,{SOLVED}\n"
SMALL = {  # one task and one seed; its test boards are in a file
    "experiments": {"main": {"methods": ["base", "diffu_grpo", "dmpo"], "figures": ["training_curves"]}},
    "scales": {
        "smoke": {
            "tasks": ["sudoku"],
            "seeds": [0],
            "task_settings": {
                "sudoku": {"split": "random", "test": 1, "test_source": {"source": "local", "path": "boards.csv"}}
            },
        }
    },
}


def merged(*changes):
    found = {}
    for change in changes:
        for key, value in change.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


def snakemake(folder, *words, root=ROOT, change=None):
    """Run snakemake in a folder at the small scale, with some settings changed."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(merged(SMALL, change or {})), encoding="utf-8")
    command = ["snakemake", "--profile", str(root / "workflow/profiles/smoke"), "-s", str(root / "Snakefile")]
    command += ["--configfile", str(folder / "mine.yaml"), "--directory", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    return done.returncode, done.stdout + done.stderr


def jobs(folder, change=None, root=ROOT):
    """How many jobs of each kind a dry run of `main` and the report names."""
    code, output = snakemake(folder, "-n", "main", "results/smoke/claims.md", root=root, change=change)
    assert code == 0, output
    if "Nothing to be done" in output:
        return {}
    table = output.partition("Job stats:")[2].partition("total")[0]
    found = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    return {name: count for name, count in found.items() if name not in ("main", "write_spec")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished project, shared by the tests of this file: none changes it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "boards.csv").write_text(BOARD, encoding="utf-8")
    code, output = snakemake(folder, "main", "results/smoke/claims.md")
    assert code == 0, output
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it with the times of now, in the order of copying: `cp -r`."""
    return Path(shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copyfile, symlinks=True))


def clone(folder):
    """A clone of this project at another place."""
    for name in ("src", "workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy2(ROOT / name, folder)
    return folder


def test_copied_and_touched_files_repeat_nothing(copy):
    assert jobs(copy) == {}
    files = sorted((copy / "results").rglob("*"), key=lambda file: file.name[::-1])
    for i, file in enumerate(files):
        os.utime(file, (time.time() + i,) * 2, follow_symlinks=False)
    assert jobs(copy) == {}


def test_a_moved_clone_another_rule_text_and_a_new_method_repeat_nothing(copy, tmp_path):
    other = clone(tmp_path / "elsewhere")
    rule = other / "workflow/rules/train.smk"
    rule.write_text(rule.read_text().replace("export HF_HUB_OFFLINE=1", "export HF_HUB_OFFLINE=1 ANOTHER=word"))
    source = (other / "src/unmask/methods/sft.py").read_text()
    (other / "src/unmask/methods/mine.py").write_text(source)
    assert jobs(copy, root=other) == {}
    done = subprocess.run(
        [sys.executable, other / "src/show_plan.py", json.dumps(configuration()), "--experiments", "main"],
        capture_output=True, text=True, check=True, cwd=copy,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines() if "/default/seed-" in line]
    assert [row[1] for row in rows] == ["done"] * 3


def configuration(change=None):
    values = load_config() | {"scale": "smoke"}
    return merged(values, SMALL, change or {})


def test_what_decides_no_result_repeats_nothing(finished):
    cost = {"peak_tflops": 0.2, "gpus": 2}
    runtime = {"checkpoint_minutes": 1, "activation_checkpointing": True, "overwrite_above": 0.5}
    change = {"runtime": runtime, "scales": {"smoke": {"cost": cost}}}
    assert jobs(finished, change) == {}
    before, after = expand(configuration()), expand(configuration(change))
    assert after.runtime.activation_checkpointing
    assert before.specs == after.specs


def test_a_learning_rate_repeats_the_runs_that_have_it(finished):
    found = jobs(finished, {"scales": {"smoke": {"methods": {"dmpo": {"learning_rate": 2e-3}}}}})
    analysis = ("collect_scores", "collect_metrics", "compare_methods", "render_table", "render_figure", "check_claims")
    assert found == {"train_policy": 1, "evaluate_policy": 1} | dict.fromkeys(analysis, 1)


def test_the_number_of_test_boards_repeats_evaluations_only():
    values = load_config() | {"scale": "smoke"}
    before, after = (
        expand(merged(values, {"scales": {"smoke": {"task_settings": {"sudoku": {"test": count}}}}}))
        for count in (8, 9)
    )
    assert (before.datasets, before.models, before.runs) == (after.datasets, after.models, after.runs)
    assert before.tests["sudoku"].digest != after.tests["sudoku"].digest
    boards = [name for name, run in before.runs.items() if run.task == "sudoku"]
    assert all(before.evaluated(name, "papers") != after.evaluated(name, "papers") for name in boards)


def test_a_moved_data_file_repeats_nothing_and_a_changed_byte_what_depends_on_it(copy):
    (copy / "data").mkdir()
    (copy / "boards.csv").rename(copy / "data/boards.csv")
    moved = {"scales": {"smoke": {"task_settings": {"sudoku": {"test_source": {"path": "data/boards.csv"}}}}}}
    assert jobs(copy, moved) == {}
    file = copy / "data/boards.csv"
    file.write_text(BOARD.replace(f"{SOLVED[:-1]}0", f"{SOLVED[:-2]}00"), encoding="utf-8")
    found = jobs(copy, moved)
    assert {found[name] for name in ("prepare_dataset", "prepare_test_dataset", "prepare_model")} == {1}
    assert (found["train_policy"], found["evaluate_policy"]) == (2, 3)


def test_a_failed_job_leaves_the_old_adapter_and_is_repeated(copy, monkeypatch):
    """The base model is damaged, so the job with the new settings fails at once; the old adapter still loads."""
    monkeypatch.chdir(copy)  # where boards.csv is
    change = {"scales": {"smoke": {"methods": {"dmpo": {"learning_rate": 2e-3}}}}}
    weights = copy / "results/smoke/models/smoke/sudoku/seed-0/weights/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    code, output = snakemake(copy, f"{RUN}/adapter", change=change)
    assert code != 0, output
    verify_checksums(copy / RUN / "adapter")
    assert read_manifest(copy / RUN / "manifest.json")["spec"] == expand(configuration()).runs[RUN[19:]].digest
    weights.write_bytes(whole)
    assert jobs(copy, change)["train_policy"] == 1  # Snakemake has noted the new parameters, and is not believed
    code, output = snakemake(copy, f"{RUN}/adapter", change=change)
    assert code == 0, output
    assert read_manifest(copy / RUN / "manifest.json")["spec"] == expand(configuration(change)).runs[RUN[19:]].digest
    assert "train_policy" not in jobs(copy, change)


def test_deleted_adapters_are_made_again_with_what_depends_on_them(copy):
    shutil.rmtree(copy / RUN / "adapter")
    found = jobs(copy)
    assert (found["train_policy"], found["evaluate_policy"]) == (1, 1)
    assert "prepare_model" not in found


def test_an_adapter_made_again_elsewhere_is_evaluated_again(copy):
    """With the same settings, by other code: the samples on disk are of the adapter before."""
    manifest = copy / RUN / "manifest.json"
    content = read_manifest(manifest)
    content.pop("digest")
    content["outputs"]["adapter"] = "0" * 64
    manifest.write_text(json.dumps(signed(content)), encoding="utf-8")
    found = jobs(copy)
    assert "train_policy" not in found
    assert {found[name] for name in ("evaluate_policy", "collect_scores", "render_table", "check_claims")} == {1}


def test_samples_made_again_on_their_own_are_shown_by_the_next_call(copy):
    """An adapter and its samples are named in two calls, with the same settings: no digest of a spec tells of it."""
    scores = copy / "results/smoke/scores/main.csv"
    before = scores.read_bytes()
    for rule, file in (("train_policy", f"{RUN}/adapter"), ("evaluate_policy", f"{RUN}/samples-papers.parquet")):
        code, output = snakemake(copy, "--forcerun", rule, "--", file)
        assert code == 0, output
    assert scores.read_bytes() == before
    analysis = ("collect_scores", "collect_metrics", "compare_methods", "render_table", "render_figure", "check_claims")
    assert jobs(copy) == dict.fromkeys(analysis, 1)
    code, output = snakemake(copy, "main", "results/smoke/claims.md")
    assert code == 0, output
    assert scores.read_bytes() != before  # the seconds of the samples, at least
    assert jobs(copy) == {}


def test_a_project_finished_before_settings_were_renamed_has_nothing_to_do_once_migrated(copy, monkeypatch):
    monkeypatch.chdir(copy)  # where boards.csv is
    goals = "main", "results/smoke/claims.md"
    contents = {path: path.read_bytes() for path in sorted((copy / "results").rglob("*")) if path.is_file()}
    make_old(copy, expand(configuration()), monkeypatch)
    code, output = snakemake(copy, "-n", *goals)
    assert code == 1
    assert "seed-0 and 1 more: finished before settings were renamed. Run `python src/migrate_results.py" in output
    for view in ("plan_main", "so_far_main"):
        code, output = snakemake(copy, view)
        assert code == 0, output
        assert "seed-0 and 1 more: finished before settings were renamed. Run `python src/migrate_results.py" in output
    shutil.rmtree(copy / "results/smoke/so_far")
    old = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in contents}
    assert "gradient_clip" in old[copy / RUN / "spec.yaml"][0].decode()

    command = [sys.executable, ROOT / "src/migrate_results.py", "results/smoke", "--configfile", "mine.yaml"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "nothing was written" in said
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in contents} == old
    subprocess.run([*command, "--write"], capture_output=True, text=True, check=True)
    code, output = snakemake(copy, "-n", *goals)
    assert (code, "Nothing to be done" in output) == (0, True), output

    # Only specs and manifests are others, and these are what a project made today has.
    assert {path: path.stat().st_mtime_ns for path in contents} == {path: time for path, (_, time) in old.items()}
    changed = {path for path in contents if path.read_bytes() != old[path][0]}
    assert {path.suffix for path in changed} == {".yaml", ".json"}
    for path in changed:
        assert comparable(path.read_text()) == comparable(contents[path].decode()), path
    said = subprocess.run([*command, "--write"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("smoke: 0 specs, 0 manifests and 0 of")


def comparable(text):
    """The content of a spec or manifest; without the hash of a manifest, which depends on the order of its entries."""
    content = yaml.safe_load(text)
    if "outputs" in content:
        content.pop("digest")
    return content


@pytest.mark.parametrize("profile", sorted((ROOT / "workflow/profiles").glob("*/profile.yaml")))
def test_no_profile_repeats_a_job_for_the_text_of_its_rule(profile):
    assert yaml.safe_load(profile.read_text(encoding="utf-8"))["rerun-triggers"] == ["params", "input"]
