"""Base models that come with the project: adopted, found by recipe, copied as they are, and refused if damaged."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from helpers.paths import ROOT
from unmask.common.checksums import fingerprint
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.pretrained import FOLDER, pretrained_weights

NAME = "smoke/sudoku/seed-0"
FILES = [folder.parent.relative_to(FOLDER).as_posix() for folder in sorted(FOLDER.rglob("manifest.json"))]


def run(step, *words):
    done = subprocess.run(
        [sys.executable, ROOT / f"src/{step}.py", *map(str, words)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def prepare(spec, data, folder, *more):
    spec.write(folder / "spec.yaml")
    files = [data / "sudoku" / f"{split}.parquet" for split in ("train", "validation")]
    words = ["--weights", folder / "weights", "--manifest", folder / "manifest.json", "--data", *files, *more]
    return run("prepare_model", folder / "spec.yaml", *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Data, and a model that was trained on them and adopted; returns the three folders and the spec."""
    place, grid = tmp_path_factory.mktemp("trained"), expand(load_config() | {"scale": "smoke"})
    grid.datasets["sudoku"].write(place / "data.yaml")
    code, said = run("prepare_dataset", place / "data.yaml", place / "data/sudoku")
    assert code == 0, said
    spec, made = grid.models[NAME], place / "models" / NAME
    made.mkdir(parents=True)
    code, said = prepare(spec, place / "data", made)
    assert code == 0, said
    code, said = run("adopt_pretrained", place / "models", place / "pretrained", NAME)
    assert code == 0, said
    return place / "data", made, place / "pretrained", spec


def test_adopted_weights_are_found_by_their_recipe_only(trained):
    _, made, pretrained, spec = trained
    assert spec.pretrained is None
    assert pretrained_weights(spec, pretrained) == fingerprint(made / "weights")
    assert pretrained_weights(replace(spec, seed=spec.seed + 1), pretrained) is None
    assert pretrained_weights(replace(spec, name="smoke/sudoku/seed-7"), pretrained) is None
    named = replace(spec, pretrained=pretrained_weights(spec, pretrained))
    assert named.recipe == spec.digest != named.digest


def test_they_are_copied_bit_for_bit_and_the_manifest_says_from_where(trained, tmp_path):
    data, made, pretrained, spec = trained
    named = replace(spec, pretrained=pretrained_weights(spec, pretrained))
    code, said = prepare(named, data, tmp_path, "--pretrained", pretrained / NAME)
    assert code == 0, said
    for file in (made / "weights").iterdir():
        assert (tmp_path / "weights" / file.name).read_bytes() == file.read_bytes()
    first, second = (json.loads((place / "manifest.json").read_text()) for place in (made, tmp_path))
    assert second["origin"]["finished"] == first["finished"]
    assert [second[key] for key in ("competence", "quality")] == [first[key] for key in ("competence", "quality")]
    code, said = run("adopt_pretrained", tmp_path.parent, tmp_path / "again", tmp_path.name)
    assert code == 1
    assert "copied from the project; train it with `--config set=models.smoke.pretrained=false` first" in said


def test_other_weights_than_the_specs_are_refused(trained, tmp_path):
    data, _, pretrained, spec = trained
    code, said = prepare(replace(spec, pretrained="0" * 64), data, tmp_path, "--pretrained", pretrained / NAME)
    assert code == 1
    assert "not the weights that" in said
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(("file", "message"), [
    ("manifest.json", "missing or damaged. Restore it with git, or set models.smoke.pretrained: false"),
    ("weights/model.safetensors", "model.safetensors"),
])  # fmt: skip
def test_damaged_files_are_named(file, message, trained, tmp_path):
    data, _, pretrained, spec = trained
    named = replace(spec, pretrained=pretrained_weights(spec, pretrained))
    shutil.copytree(pretrained, tmp_path / "pretrained")
    damaged = tmp_path / "pretrained" / NAME / file
    damaged.write_bytes(damaged.read_bytes()[:-3])
    if file == "manifest.json":
        with pytest.raises(InputError, match=message):
            pretrained_weights(spec, tmp_path / "pretrained")
        return
    code, said = prepare(named, data, tmp_path, "--pretrained", tmp_path / "pretrained" / NAME)
    assert code == 1
    assert message in said


@pytest.mark.parametrize("name", FILES)
def test_the_projects_weights_belong_to_the_current_recipes(name):
    """If this fails, a recipe has changed: train and adopt the model again, or delete its folder."""
    models = expand(load_config() | {"scale": "laptop"}).models
    assert models[name].pretrained == fingerprint(FOLDER / name / "weights")
