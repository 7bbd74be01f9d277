"""Wrong files and targets: YAML, files of methods and tasks, specs edited by hand, targets that nothing makes."""

import shutil

import pytest

from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config, read_settings
from unmask.config.schema import introspection
from unmask.config.specs import RunSpec
from unmask.planning.targets import unknown_targets

SYNTAX = {  # YAML: line and column, counted by hand, and the text without the error
    "a: 1\n b: 2\n": (2, 3, "a: 1\nb: 2\n"),
    "a:\n\tb: 2\n": (2, 1, "a:\n  b: 2\n"),
    "a: [1, 2\nb: 3\n": (2, 2, "a: [1, 2]\nb: 3\n"),
    "a: 'x\n": (2, 1, "a: 'x'\n"),
    "a: *none\n": (1, 4, "a: none\n"),
    "a: {b: 1}}\n": (1, 10, "a: {b: 1}\n"),
    "a: 1\nb: 2\na: 3\n": (3, 1, "a: 1\nb: 2\n"),
    "a:\n  b: 1\n  c: 2\n  b: 3\n": (4, 3, "a:\n  b: 1\n  c: 2\n"),
    "a: [{b: 1, b: 2}]\n": (1, 12, "a: [{b: 1}]\n"),
}


@pytest.mark.parametrize("text", SYNTAX)
def test_a_syntax_error_has_file_line_and_column(tmp_path, text):
    line, column, right = SYNTAX[text]
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_settings(file)
    assert str(caught.value).startswith(f"{file}, line {line}, column {column}: ")
    file.write_text(right, encoding="utf-8")
    assert read_settings(file)


def test_merged_keys_are_no_repetition(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: &c [*a, *a]\n", encoding="utf-8")
    assert read_settings(file)["b"] == {"x": 3, "y": 2}


CODE = {  # what is put in place of a text of dmpo.py or sudoku.py: the line of the message
    ("methods/dmpo.py", "class Dmpo(Method):", "class Dmpo(Method)"): "line {at}: ",
    ("methods/dmpo.py", "class Dmpo(Method):", "class Dmpo(Base):"): "no class derives directly from Method",
    ("methods/dmpo.py", "    alpha: NonNegative", "    alpha: Psitive"): "line {at}: alpha: unknown type Psitive",
    ("methods/dmpo.py", "    alpha: NonNegative = ", "    alpha: NonNegative = 2 * "): "line {at}: alpha: the default",
    ("methods/dmpo.py", "import math", "import maths # \udcff"): "not UTF-8 text",
    ("tasks/sudoku.py", "import random", "import random random"): "line {at}: invalid syntax",
    ("tasks/sudoku.py", "class Sudoku(Task):", "class Sudoku(Puzzle):"): "no class derives directly from Method, Task",
}


@pytest.mark.parametrize("change", CODE)
def test_a_file_of_a_method_or_task_is_named_with_its_line(tmp_path, monkeypatch, change):
    name, old, new = change
    kind, stem = name.removesuffix(".py").split("/")
    for folder in ("methods", "tasks"):
        shutil.copytree(introspection.LIBRARY / folder, tmp_path / folder)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert old in text, "the file has changed"
    (tmp_path / name).write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    monkeypatch.setattr(introspection, "LIBRARY", tmp_path)
    introspection.declared_class.cache_clear()
    introspection.declared_settings.cache_clear()
    with pytest.raises(InputError) as caught:
        introspection.declared_settings(kind, stem)
    monkeypatch.undo()
    introspection.declared_class.cache_clear()
    introspection.declared_settings.cache_clear()
    at = text[: text.index(old)].count("\n") + 1
    assert str(caught.value).startswith(f"src/unmask/{name}")
    assert CODE[change].format(at=at) in str(caught.value)


EDITS = {  # text of a spec.yaml, what is put in its place, and what is said
    ("lora_alpha: ", "lora_alpha: 9"): "its digest is",
    ("seed: 0", "seed: 1"): "its digest is",
    ("lora_alpha: ", "lora_alhpa: "): "training: unknown 'lora_alhpa'",
    ("method: dmpo", "methd: dmpo"): "unknown key methd",
    ("training:", "training: ["): "not a RunSpec",
    ("digest: ", "digst: "): "unknown key digst",
}


@pytest.mark.parametrize("change", EDITS)
def test_a_spec_edited_by_hand_is_named(tmp_path, change):
    file = tmp_path / "spec.yaml"
    expand(load_config() | {"scale": "smoke"}).runs["dmpo/sudoku/default/seed-0"].write(file)
    text = file.read_text(encoding="utf-8")
    assert RunSpec.read(file)
    old, new = change
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        RunSpec.read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert EDITS[change] in str(caught.value)


RUN = "dmpo/sudoku/default/seed-0"
TARGETS = {  # a target that nothing makes, and the one that is suggested
    "mian": "main",
    "plan_mian": "plan_main",
    "evrything": "everything",
    f"results/smoke/runs/{RUN[1:]}/adapter": RUN,
    f"results/smoke/runs/{RUN[:-1]}7/adapter": f"{RUN[:-1]}1",
    "results/smoke/tables/mein.md": "main",
    "results/smoke/tables/mein-comparisons.csv": "main",
    "results/smoke/figures/weight_baseline/training_curves.png": "weight_baselines",
}


@pytest.mark.parametrize("target", TARGETS)
def test_an_unknown_target_gets_a_suggestion_that_is_known(target):
    grid = expand(load_config() | {"scale": "smoke"})
    rules = [*grid.experiments, *(f"plan_{name}" for name in grid.experiments)]
    (line,) = unknown_targets(grid, [target], rules)
    assert line.startswith(f"{target}: ")
    suggestion = line.partition("did you mean ")[2].partition("?")[0]
    assert suggestion.startswith(TARGETS[target][:-1])
    again = suggestion
    if "/runs/" in target:
        again = f"results/smoke/runs/{suggestion}/adapter"
    elif "/" in target:
        again = target.replace("weight_baseline/", f"{suggestion}/").replace("mein", suggestion)
    assert unknown_targets(grid, [again], [*rules, "all", "everything"]) == []
