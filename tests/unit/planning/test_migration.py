"""Migration of finished projects to new names of settings: what is rewritten, what is left, when it is refused."""

import json
import os
import sys

import pytest
import yaml

import migrate_results
from helpers.old_layout import make_old, old_specs, old_values
from unmask.common.checksums import verify_checksums, write_checksums
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest, signed
from unmask.config.grid.expand import expand
from unmask.config.spec_file import digest_of_values
from unmask.config.specs import DiagnosisSpec, RunSpec
from unmask.planning import migration
from unmask.planning.migration import plan_migration, under_current_names

SFT, AFTER_SFT = "sft/sudoku/default/seed-0", "dmpo_sft/sudoku/default/seed-0"
RUNS = ["base/sudoku/default/seed-0", "dmpo/sudoku/default/seed-0", SFT, AFTER_SFT]
LONG_AGO = 1_000_000_000


@pytest.fixture
def project(config, tmp_path, monkeypatch):
    """A results folder of before: four runs, each with samples and a diagnosis, and a checkpoint of one of them."""
    monkeypatch.chdir(tmp_path)
    grid, root = expand(config), tmp_path / "results/smoke"
    for place in [f"runs/{name}" for name in RUNS] + ["evaluations/papers", "diagnoses/surrogates", "data/sudoku/test"]:
        grid.specs[place].write(root / place / "spec.yaml")
    for name in RUNS:
        run, folder = grid.runs[name], root / "runs" / name
        record(folder / "samples-papers.json", grid.evaluated(name, "papers"))
        record(folder / "diagnosis-surrogates.json", grid.diagnosed(name, "surrogates"))
        if run.trains:
            record(folder / "manifest.json", run.digest, settings=run.values())
    make_old(tmp_path, grid, monkeypatch)

    step = root / "runs" / AFTER_SFT / "checkpoints/step-000001"
    step.mkdir(parents=True)
    (step / "parameters.safetensors").write_bytes(b"tensors")
    digest = digest_of_values(old_specs(grid)[f"runs/{AFTER_SFT}"])
    (step / "state.json").write_text(json.dumps({"step": 1, "identity": f"{digest}-data:0-weights:1"}))
    write_checksums(step, {})
    for path in root.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return root, grid


def record(path, digest, **entries):
    """Write a manifest with the digest of a spec."""
    path.write_text(json.dumps(signed({"spec": digest, "inputs": {}} | entries)), encoding="utf-8")


def migrated(root, grid):
    """Assert that everything in the folder has the digests of the grid."""
    for name in RUNS:
        run, folder = grid.runs[name], root / "runs" / name
        assert RunSpec.read(folder / "spec.yaml") == run
        assert read_manifest(folder / "samples-papers.json")["spec"] == grid.evaluated(name, "papers")
        assert read_manifest(folder / "diagnosis-surrogates.json")["spec"] == grid.diagnosed(name, "surrogates")
        if run.trains:
            manifest = read_manifest(folder / "manifest.json")
            assert (manifest["spec"], manifest["settings"]) == (run.digest, run.values())
    assert DiagnosisSpec.read(root / "diagnoses/surrogates/spec.yaml") == grid.diagnoses["surrogates"]
    step = root / "runs" / AFTER_SFT / "checkpoints/step-000001"
    verify_checksums(step)
    identity = json.loads((step / "state.json").read_text())["identity"]
    assert identity == f"{grid.runs[AFTER_SFT].digest}-data:0-weights:1"
    assert (step / "parameters.safetensors").read_bytes() == b"tensors"
    return True


def test_every_spec_of_before_gets_the_values_of_now(config):
    for scale in config["scales"]:
        grid = expand(config | {"scale": scale})
        digests = {}
        for spec in [*grid.runs.values(), *grid.diagnoses.values()]:
            if not getattr(spec, "start_from", None):
                old = old_values(spec, grid.runtime, digests)
                assert under_current_names(old) == spec.values()


def test_specs_manifests_and_checkpoints_are_rewritten_with_their_times(project):
    root, grid = project
    plan_migration(root).write()
    assert migrated(root, grid)
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert {path.stat().st_mtime for path in files} == {LONG_AGO}
    assert not list(root.rglob(".*"))


def test_a_plan_writes_nothing_and_a_second_migration_has_nothing_to_do(project):
    root, _ = project
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    plan = plan_migration(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert (len(plan.specs), len(plan.manifests), len(plan.checkpoints), plan.left) == (4, 3 + 3 + 4, 1, [])
    plan.write()
    again = plan_migration(root)
    assert (again.is_empty, again.left) == (True, [])


def test_an_interrupted_migration_is_completed_by_the_next(project, monkeypatch):
    root, grid = project
    replace, reidentify = migration._replace, migration._reidentify
    for _ in range(30):  # each call is killed after one more file
        left = [1]

        def once(path, value, action, left=left):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            action(path, value)

        monkeypatch.setattr(migration, "_replace", lambda path, text: once(path, text, replace))
        monkeypatch.setattr(migration, "_reidentify", lambda path, identity: once(path, identity, reidentify))
        plan = plan_migration(root)
        if plan.is_empty:
            break
        try:
            plan.write()
        except KeyboardInterrupt:
            continue
    assert plan_migration(root).is_empty
    assert migrated(root, grid)


def test_manifests_of_other_settings_are_not_touched(project):
    root, _ = project
    path = root / "runs" / SFT / "manifest.json"
    record(path, "0" * 12)
    plan = plan_migration(root)
    assert path not in plan.manifests
    assert root / "runs" / SFT / "spec.yaml" in plan.specs


def test_what_cannot_be_migrated_is_named(project):
    root, _ = project
    damaged = root / "runs/dmpo/sudoku/default/seed-0/spec.yaml"
    damaged.write_text(damaged.read_text().replace("seed: 0", "seed: 1"), encoding="utf-8")
    (root / "runs" / SFT / "samples-papers.parts").mkdir()
    named = root / "runs/dmpo/sudoku/gradient_clip~0.5/seed-0/spec.yaml"
    named.parent.mkdir(parents=True)
    values = yaml.safe_load((root / "runs" / SFT / "spec.yaml").read_text()) | {"variant": "gradient_clip~0.5"}
    values.pop("digest")
    named.write_text(yaml.safe_dump(values | {"digest": digest_of_values(values)}), encoding="utf-8")
    plan = plan_migration(root)
    assert [line.split(": ")[0].removeprefix(f"{root}/runs/") for line in plan.left] == [
        "dmpo/sudoku/default/seed-0/spec.yaml", "dmpo/sudoku/gradient_clip~0.5/seed-0", f"{SFT}/samples-papers.parts",
    ]  # fmt: skip
    assert not {damaged, named} & plan.specs.keys()


def test_a_run_whose_start_was_trained_again_is_left(project):
    root, _ = project
    spec = root / "runs" / SFT / "spec.yaml"
    values = yaml.safe_load(spec.read_text())
    values["training"]["warmup"] = 0.5
    values.pop("digest")
    spec.write_text(yaml.safe_dump(values | {"digest": digest_of_values(values)}), encoding="utf-8")
    plan = plan_migration(root)
    (line,) = plan.left
    assert line.startswith(f"{root}/runs/{AFTER_SFT}: {SFT}, from which it starts, is not as it was")
    assert root / "runs" / AFTER_SFT / "manifest.json" not in plan.manifests


# --- the step ---------------------------------------------------------------------------------------------------------


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["migrate_results.py", *map(str, words)])
    migrate_results.main()


def test_the_step_says_what_it_would_do_and_does_it(project, monkeypatch, capsys):
    root, grid = project
    call(monkeypatch, root)
    said = capsys.readouterr().out
    assert said.startswith("smoke: 4 specs, 10 manifests, 1 checkpoints and 0 of Snakemake's records to rewrite\n")
    assert f"runs/{SFT}: {digest_of_values(old_specs(grid)[f'runs/{SFT}'])} -> {grid.runs[SFT].digest}\n" in said
    assert said.endswith("nothing was written; add --write\n")
    call(monkeypatch, root, "--write")
    assert migrated(root, grid)
    capsys.readouterr()
    call(monkeypatch, root, "--write")
    assert capsys.readouterr().out.startswith("smoke: 0 specs, 0 manifests, 0 checkpoints and 0 of")


def test_nothing_is_migrated_while_something_runs(project, monkeypatch):
    root, _ = project
    lock = root / "runs" / SFT / "lock"
    lock.write_text("{}")
    with pytest.raises(InputError, match="is being trained"):
        call(monkeypatch, root, "--write")
    lock.unlink()
    locks = root.parents[1] / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").touch()
    with pytest.raises(InputError, match="a snakemake works in this folder"):
        call(monkeypatch, root, "--write")


@pytest.mark.parametrize(
    ("place", "chosen"),
    [("smoke", ("smoke", "corrected")), ("llada-8b-released", ("llada-8b", "released")),
     ("laptop-pilot", ("laptop-pilot", "corrected")), ("laptop-pilot-paper", ("laptop-pilot", "paper"))],
)  # fmt: skip
def test_scale_and_fidelity_follow_from_the_folder(config, place, chosen):
    assert tuple(migrate_results.chosen_of(place, config).values()) == chosen


def test_other_folders_are_refused(config, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="has no folder `runs`"):
        call(monkeypatch, tmp_path)
    with pytest.raises(InputError, match="results/mine: no scale of this name"):
        migrate_results.chosen_of("mine", config)
