"""Migration of finished projects to new names of settings: what is rewritten, what is left, when it is refused."""

import json
import os
import sys

import pytest
import yaml

import migrate_results
from helpers.configs import lines, put
from helpers.old_layout import make_old, old_specs, old_values
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest, signed
from unmask.config.grid.expand import expand
from unmask.config.schema import introspection
from unmask.config.spec_file import digest_of_values
from unmask.config.specs import DiagnosisSpec, RunSpec
from unmask.config.validation.parse import parse
from unmask.config.validation.required import missing
from unmask.planning import migration
from unmask.planning.migration import plan_migration, under_current_names
from unmask.planning.overwriting import unmigrated

SFT, AFTER_SFT = "sft/sudoku/default/seed-0", "dmpo_sft/sudoku/default/seed-0"
RUNS = ["base/sudoku/default/seed-0", "dmpo/sudoku/default/seed-0", SFT, AFTER_SFT]
LONG_AGO = 1_000_000_000


@pytest.fixture
def project(config, tmp_path, monkeypatch):
    """A results folder of before: four finished runs, each with samples and a diagnosis."""
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
    return True


def unfinished(root, name):
    """Make a run one that was interrupted after a checkpoint."""
    folder = root / "runs" / name
    (folder / "manifest.json").unlink()
    (folder / "checkpoints/step-000001").mkdir(parents=True)
    return folder


def respec(path, **changed):
    """Change values of a spec.yaml, whose digest is right again; those that are `...` are removed."""
    values = yaml.safe_load(path.read_text(encoding="utf-8")) | changed
    values = {key: value for key, value in values.items() if value is not ... and key != "digest"}
    path.write_text(yaml.safe_dump(values | {"digest": digest_of_values(values)}), encoding="utf-8")


def left(root):
    """What is not migrated, by its path below runs/, and the reasons; a plan with it can be made and written."""
    plan = plan_migration(root)
    plan.write()
    return dict(line.removeprefix(f"{root}/runs/").split(": ", 1) for line in plan.left)


def test_every_spec_of_before_gets_the_values_of_now(config):
    for scale in config["scales"]:
        grid = expand(config | {"scale": scale})
        digests = {}
        for spec in [*grid.runs.values(), *grid.diagnoses.values()]:
            if not getattr(spec, "start_from", None):
                old = old_values(spec, grid.runtime, digests)
                assert under_current_names(old) == spec.values()


def test_specs_and_manifests_are_rewritten_with_their_times(project):
    root, grid = project
    plan_migration(root).write()
    assert migrated(root, grid)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert {path.stat().st_mtime for path in files} == {LONG_AGO}
    assert not list(root.rglob(".*"))


def test_a_plan_writes_nothing_and_a_second_migration_has_nothing_to_do(project):
    root, _ = project
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    plan = plan_migration(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert (len(plan.specs), len(plan.manifests), plan.left) == (4, 3 + 3 + 4, [])
    plan.write()
    again = plan_migration(root)
    assert (again.is_empty, again.left) == (True, [])


def test_an_interrupted_migration_is_completed_by_the_next(project, monkeypatch):
    root, grid = project
    replace = migration._replace
    for _ in range(30):  # each call is killed after one more file
        left = [1]

        def once(path, text, left=left):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            replace(path, text)

        monkeypatch.setattr(migration, "_replace", once)
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
    named.write_text((root / "runs" / SFT / "spec.yaml").read_text(), encoding="utf-8")
    respec(named, name="dmpo/sudoku/gradient_clip~0.5/seed-0", variant="gradient_clip~0.5")
    plan = plan_migration(root)
    assert [line.split(": ")[0].removeprefix(f"{root}/runs/") for line in plan.left] == [
        "dmpo/sudoku/default/seed-0/spec.yaml", "dmpo/sudoku/gradient_clip~0.5/seed-0", f"{SFT}/samples-papers.parts",
    ]  # fmt: skip
    assert not {damaged, named} & plan.specs.keys()


def test_a_run_whose_start_was_trained_again_is_left(project):
    root, _ = project
    spec = root / "runs" / SFT / "spec.yaml"
    respec(spec, training=yaml.safe_load(spec.read_text())["training"] | {"warmup": 0.5})
    plan = plan_migration(root)
    (line,) = plan.left
    assert line.startswith(f"{root}/runs/{AFTER_SFT}: {SFT}, from which it starts, is not finished or not as it was")
    assert root / "runs" / AFTER_SFT / "manifest.json" not in plan.manifests


def test_an_unfinished_run_is_left_with_its_old_spec(project):
    root, _ = project
    folder = unfinished(root, AFTER_SFT)
    before = (folder / "spec.yaml").read_bytes()
    (place, reason), *others = left(root).items()
    assert (place, others) == (AFTER_SFT, [])
    assert reason.startswith("unfinished; finish it with the old version, or it starts again")
    assert (folder / "spec.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"- 1\n- 2\n", "has no keys"), (b"", "has no keys"), (b"\xff\xfe\xfa", "codec can't decode"),
     (b"a: [", "parsing"), (b"name: x\n", "its digest is not that of its values"),
     (b"day: 2026-01-01\ndigest: 0\n", "not JSON serializable")],
)  # fmt: skip
def test_a_damaged_spec_is_named_with_what_deleting_it_does(project, text, said):
    root, _ = project
    (root / "runs" / RUNS[1] / "spec.yaml").write_bytes(text)
    ((place, reason),) = left(root).items()
    assert place == f"{RUNS[1]}/spec.yaml"
    assert said in reason
    assert "\n" not in reason
    assert reason.endswith(". Restore it from a backup: deleting it trains a finished run again")


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"start_from": ...}, "no key start_from"), ({"name": ...}, "no key name"), ({"variant": ...}, "no key variant"),
     ({"training": None}, "training: input should be a valid dictionary"), ({"more": 1}, "unknown key more"),
     ({"name": "dmpo/sudoku/other/seed-0"}, "has the spec of another run, dmpo/sudoku/other/seed-0"),
     ({"start_from": ["x"]}, "['x'], from which it starts, is not"), ({"start_from": SFT, "inputs": 3}, "sft/sudoku")],
)  # fmt: skip
def test_a_foreign_spec_with_a_right_digest_is_named(project, changed, said):
    root, _ = project
    respec(root / "runs" / RUNS[1] / "spec.yaml", **changed)
    ((place, reason),) = left(root).items()
    assert place.removesuffix("/spec.yaml") == RUNS[1]
    assert reason.startswith(said)


def test_a_damaged_spec_of_a_diagnosis_is_named(project):
    root, _ = project
    respec(root / "diagnoses/surrogates/spec.yaml", rows_per_forward=...)
    (line,) = plan_migration(root).left
    assert line.startswith(f"{root}/diagnoses/surrogates/spec.yaml: no key micro_batch_size")
    assert line.endswith("deleting it repeats the diagnosis of every run")


def test_a_manifest_without_a_spec_or_beside_none_is_named(project):
    root, _ = project
    runs = root / "runs"
    (runs / RUNS[1] / "spec.yaml").unlink()
    path = runs / AFTER_SFT / "manifest.json"
    path.write_text(json.dumps(signed({"inputs": {}})), encoding="utf-8")
    found = left(root)
    assert found.keys() == {f"{RUNS[1]}/spec.yaml", f"{AFTER_SFT}/manifest.json"}
    assert found[f"{RUNS[1]}/spec.yaml"].endswith("without it the finished run is trained again")
    assert found[f"{AFTER_SFT}/manifest.json"].startswith("has no entry `spec`")


# --- before the migration ---------------------------------------------------------------------------------------------


def test_finished_and_unfinished_runs_with_old_names_stop_snakemake(project):
    root, grid = project
    runs = set(RUNS)
    (finished,) = unmigrated(grid, runs)
    assert finished.startswith(
        f"{RUNS[1]} and 2 more: finished before settings were renamed. Run `python src/migrate_re"
    )
    unfinished(root, AFTER_SFT)
    finished, begun = unmigrated(grid, runs)
    assert finished.startswith(f"{RUNS[1]} and 1 more: finished")
    assert begun.startswith(f"{AFTER_SFT}: begun before settings were renamed")
    plan_migration(root).write()
    assert unmigrated(grid, runs) == [begun]
    (root / "runs" / AFTER_SFT / "checkpoints/step-000001").rmdir()
    assert unmigrated(grid, runs) == []


def test_only_the_block_of_training_tells_old_specs(project):
    root, grid = project
    plan_migration(root).write()
    path = root / "runs" / RUNS[1] / "spec.yaml"
    respec(path, method_settings={"warmup": 3})
    text = path.read_text()
    assert "\n  warmup: 3\n" in text
    assert unmigrated(grid, set(RUNS)) == []
    # Bytes that are no text, as after damage: the migration names the file.
    path.write_bytes(text.replace("warmup_ratio", "warmup").encode() + b"# \xff\n")
    assert unmigrated(grid, set(RUNS))[0].startswith(f"{RUNS[1]}: finished")
    path.unlink()
    assert unmigrated(grid, set(RUNS)) == []


def test_a_method_may_have_a_setting_with_an_old_name(config, tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    (tmp_path / "tasks").symlink_to(introspection.LIBRARY / "tasks")
    for path in (introspection.LIBRARY / "methods").glob("*.py"):
        (tmp_path / "methods" / path.name).symlink_to(path)
    (tmp_path / "methods/warmed.py").write_text("class Warmed(Method):\n    warmup: Count\n    rounds: Count\n")
    monkeypatch.setattr(introspection, "LIBRARY", tmp_path)
    config["methods"]["warmed"] = {"warmup": 3}
    assert missing(parse(config)) == ["methods.warmed.rounds: missing; add it"]
    del config["training"]["warmup_ratio"]
    assert "training.warmup_ratio: missing; add it" in missing(parse(config))


def test_a_step_that_reads_an_old_spec_names_the_migration(project):
    root, _ = project
    with pytest.raises(InputError) as caught:
        RunSpec.read(root / "runs" / SFT / "spec.yaml")
    said = str(caught.value)
    assert "not a RunSpec: training" in said
    assert "training: unknown 'gradient_clip'" in said
    assert "run `python src/migrate_results.py results/SCALE`" in said
    assert "pydantic" not in said
    assert "Delete it" not in said
    with pytest.raises(
        InputError, match=r"unknown key rows_per_forward\. It has old names .* `python src/migrate_result"
    ):
        DiagnosisSpec.read(root / "diagnoses/surrogates/spec.yaml")


def test_a_wrong_value_in_a_spec_is_one_line(project):
    root, grid = project
    plan_migration(root).write()
    path = root / "runs" / SFT / "spec.yaml"
    respec(path, training=grid.runs[SFT].training.values() | {"buffers": "many"})
    with pytest.raises(InputError, match=r"training\.buffers: input should be .*, not 'many'\. Delete it and run"):
        RunSpec.read(path)


@pytest.mark.parametrize(
    ("place", "said"),
    [("diagnoses.surrogates.rows_per_forward", "unknown 'rows_per_forward'; known: examples, sampler, temperature"),
     ("diagnoses.surrogates.activation_checkpointing", "unknown 'activation_checkpointing'; it belongs to runtime"),
     ("samplers.top1.warmup", "unknown 'warmup'; "),
     ("training.activation_checkpointing", "'activation_checkpointing' has moved; set it in `runtime`")],
)  # fmt: skip
def test_hints_on_old_names_are_given_where_they_help(config, place, said):
    put(config, place, 3)
    (line,) = lines(config)
    assert line.startswith(place.rpartition(".")[0])
    assert said in line


# --- the step ---------------------------------------------------------------------------------------------------------


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["migrate_results.py", *map(str, words)])
    migrate_results.main()


def test_the_step_says_what_it_would_do_and_does_it(project, monkeypatch, capsys):
    root, grid = project
    call(monkeypatch, root)
    said = capsys.readouterr().out
    assert said.startswith("smoke: 4 specs, 10 manifests and 0 of Snakemake's records to rewrite\n")
    assert f"runs/{SFT}: {digest_of_values(old_specs(grid)[f'runs/{SFT}'])} -> {grid.runs[SFT].digest}\n" in said
    assert said.endswith("nothing was written; add --write\n")
    call(monkeypatch, root, "--write")
    assert migrated(root, grid)
    capsys.readouterr()
    call(monkeypatch, root, "--write")
    assert capsys.readouterr().out.startswith("smoke: 0 specs, 0 manifests and 0 of")


def test_one_is_singular(project, monkeypatch, capsys):
    root, _ = project
    plan = plan_migration(root)
    for path in list(plan.specs)[1:]:
        path.unlink()
    call(monkeypatch, root)
    assert capsys.readouterr().out.startswith("smoke: 1 spec, 1 manifest and")


def test_a_path_with_dots_and_files_before_it_are_understood(project, monkeypatch):
    root, grid = project
    work = root.parents[1]
    (root.parent / "x").mkdir()
    (work / ".snakemake/metadata").mkdir(parents=True)
    for name in ("a.yaml", "b.yaml"):
        (work / name).write_text("{}\n")
    asked = []
    monkeypatch.setattr(migrate_results, "grid_of", lambda *given: asked.append(given) or grid)
    call(monkeypatch, "--configfile", "a.yaml", "--configfile", "b.yaml", "results/x/../smoke", "--write")
    assert [(folder, list(map(str, files))) for folder, files, *_ in asked] == [(root, ["a.yaml", "b.yaml"])]
    assert migrated(root, grid)


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
