"""A method is one file: settings with defaults and facts are read from it without torch, and from nowhere else."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from helpers.paths import ROOT
from unmask.config.loading import CONFIG, default_files, read_settings
from unmask.config.normalize import normalise
from unmask.config.schema.introspection import declared_names, declared_settings, method_class, method_defaults
from unmask.methods import Method

METHODS = sorted(declared_names("methods"))
# Methods that ship with the project.
PAPERS = ["base", "coupled_grpo", "diffpo", "diffu_grpo", "dmpo", "sft"]
PAPERS += ["espo", "wd1", "gdpo", "spg", "stable_drl", "gdsd"]
# An import of torch fails, as on the workflow's controller.
BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "safetensors"):
            raise ModuleNotFoundError(f"no {name} here", name=name)

sys.meta_path.insert(0, Absent())
"""


def run_without_torch(code, folder=ROOT):
    """What the code prints as JSON, run with the sources below a folder."""
    # Without bytecode: two texts of one size, written within a second, would share it.
    done = subprocess.run(
        [sys.executable, "-B", "-c", BLOCKED + code],
        env={"PYTHONPATH": str(folder / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


EVERY_METHOD = """
import json
from types import SimpleNamespace
from unmask.config.schema.introspection import declared_names, method_class
from unmask.config.schema.samplers import LeftToRight, TopK
from unmask.methods import load, method_colour, method_name

top2 = TopK(tokens_per_step=2, score="confidence")
found = {}
for name in declared_names("methods"):
    method = load(name, {})
    sampler = LeftToRight() if name == "just_grpo" else top2
    run = SimpleNamespace(rollout_sampler=sampler, training=SimpleNamespace(generation_length=32))
    found[name] = {
        "settings": vars(method),
        "looks": [method_name(name), method_colour(name), method_class(name).citation],
        "passes": vars(method.passes(updates=4, steps=16)),
        "check": list(method.check(run)),
    }
print(json.dumps(found))
"""


def test_every_method_file_imports_and_states_its_facts_without_torch():
    found = run_without_torch(EVERY_METHOD)
    assert sorted(found) == METHODS
    for name, facts in found.items():
        assert facts["settings"] == method_defaults(name)
        assert facts["passes"]["update"] >= 1
        assert facts["check"] == []


PUBLISHED = ["base", "coupled_grpo", "diffpo", "diffu_grpo", "dmpo", "egspo", "espo", "gdpo", "just_grpo"]
PUBLISHED += ["sft", "spg", "wd1"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_methods_of_papers_have_a_label_a_colour_and_a_citation(name):
    """Those that ship with the project; a file that is added may leave its facts at their defaults."""
    method = method_class(name)
    assert vars(method)["label"]  # declared in the class itself, also where it is the name of the file, as for wd1
    assert method.colour != Method.colour
    assert method.citation.count("arXiv") == (name != "base")


@pytest.mark.parametrize("name", METHODS)
def test_defaults_have_the_declared_types_and_every_setting_a_description(name):
    block = declared_settings("methods", name)
    block.model_validate(method_defaults(name))
    assert all(field.description for field in block.model_fields.values())
    # The values that are read from the source are those of the class.
    assert vars(method_class(name)()) == method_defaults(name)


@pytest.mark.parametrize("file", [CONFIG, *default_files()], ids=lambda file: file.name)
def test_no_configuration_file_repeats_a_default(file):
    settings = normalise(read_settings(file))
    general = settings.get("methods", {})
    algorithms = {name: block.get("algorithm", name) for name, block in read_settings(CONFIG)["methods"].items()}
    layers = [general]
    for kind in ("scales", "fidelities"):
        layers += [block.get("methods", {}) for block in settings.get(kind, {}).values()]
    for layer in layers:
        for name, block in layer.items():
            defaults = method_defaults(algorithms[name])
            repeated = {key: value for key, value in block.items() if key in defaults and value == defaults[key]}
            assert not repeated, name


NEW_METHOD = '''
"""A method that plan, tables, figures and model cards have not heard of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unmask.config.schema.types import EvenInt, Fraction
from unmask.methods import Method, Passes

if TYPE_CHECKING:
    from unmask.config.specs import RunSpec


@dataclass(frozen=True)
class Mine(Method):
    """Mine."""

    label: ClassVar = "My method"
    colour: ClassVar = "#123456"
    citation: ClassVar = "Me: arXiv 2601.00001 (MINE)"
    recipes: ClassVar = {"mine_sft": ("Mine from SFT", "#654321")}
    used_if: ClassVar = {"strength": "copies > 2"}

    copies: EvenInt = 6  # masked copies
    strength: Fraction = 0.5  # of whatever

    def passes(self, updates: int, steps: int) -> Passes:
        return Passes(update=self.copies, prepare=3 * updates, copies=self.copies, apart=True)

    def check(self, run: RunSpec) -> Iterator[tuple[str, str]]:
        if self.copies > run.training.group_size:
            yield "copies", f"{self.copies} exceed the group; reduce them"
'''
USE_OF_NEW_METHOD = """
import json
from unmask.methods import method_colour
from unmask.analysis.tables import method_name
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.planning.estimates import estimates
from unmask.planning.flops import passes_of
from unmask.training.model_card import model_card

def grid(**settings):
    config = load_config()
    config |= {"scale": "smoke"}
    config["methods"]["mine"] = settings
    config["experiments"]["main"]["methods"] = ["mine"]
    return expand(config)

def lines(**settings):
    try:
        grid(**settings)
    except ConfigError as error:
        return error.lines
    return []

made = grid(group_size=8)
run = made.runs["mine/sudoku/default/seed-0"]
metrics = [{"step": 1, "reward": 0.5, "skipped": 0}]
print(json.dumps({
    "settings": run.method_settings,
    "passes": vars(passes_of(run)),
    "labels": [method_name("mine", "copies~2"), method_name("mine_sft")],
    "colours": [method_colour("mine"), method_colour("mine_sft")],
    "card": model_card(run, None, metrics, "a" * 64, "smoke", "corrected"),
    "check": lines(group_size=4),
    "range": lines(group_size=8, copies=3),
    "unused": lines(group_size=8, copies=2, by_task={"sudoku": {"strength": 0.1}}),
}))
"""


def test_a_new_method_is_one_file(tmp_path):
    """Plan, tables, figures, model card and checks of a configuration know it; no other file changes."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workflow/config", tmp_path / "workflow/config")
    shutil.copy2(CONFIG, tmp_path)
    (tmp_path / "src/unmask/methods/mine.py").write_text(NEW_METHOD, encoding="utf-8")
    found = run_without_torch(USE_OF_NEW_METHOD, tmp_path)
    assert found["settings"] == {"copies": 6, "strength": 0.5}
    assert found["passes"] == {"update": 6, "prepare": 6, "refresh": 0, "copies": 6, "scored": 1, "apart": True}
    assert found["labels"] == ["My method (copies 2)", "Mine from SFT"]
    assert found["colours"] == ["#123456", "#654321"]
    assert "Me: arXiv 2601.00001 (MINE)" in found["card"]
    assert "My method on Sudoku" in found["card"]
    assert found["check"] == ["methods.mine.copies, or a grid's: 6 exceed the group; reduce them"]
    assert found["range"] == ["methods.mine.copies: input should be a multiple of 2, not 3"]
    assert found["unused"] == [
        "methods.mine.by_task.sudoku.strength: has no effect: it is used only if copies > 2; remove it, or change that"
    ]


PLAIN_METHOD = """
from dataclasses import dataclass

from unmask.methods import Method


@dataclass(frozen=True)
class Plain(Method):
    pass
"""
FACTS_OF_PLAIN = """
import json
from unmask.methods import load, method_colour, method_name

print(json.dumps([load("plain", {}).passes(updates=4, steps=8).update, method_name("plain"), method_colour("plain")]))
"""


def test_a_method_that_declares_only_its_objective_has_a_name_a_colour_and_a_cost(tmp_path):
    """Facts are optional: grey, the name of the file, one pass per row and update."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/unmask/methods/plain.py").write_text(PLAIN_METHOD, encoding="utf-8")
    assert run_without_torch(FACTS_OF_PLAIN, tmp_path) == [1, "plain", "#666666"]


def test_every_recipe_is_a_block_of_config_yaml_that_runs_the_file():
    blocks = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["methods"]
    for name in METHODS:
        for recipe in method_class(name).recipes:
            assert blocks[recipe]["algorithm"] == name


MISTAKES = {  # of a method's file: (text, what it becomes, what the message says besides the file)
    "expression": ("= 0.5  #", "= 1 / 2  #", ", line 27: strength: the default 1 / 2 is no plain value"),
    "annotation": ("strength: Fraction", "strength: Share", ", line 27: strength: unknown type Share; use int, "),
    "dataclass": ("@dataclass(frozen=True)\n", "", ": the settings of class Mine are not those of a dataclass; "),
    "subclass": ("(Method)", "(Dmpo)", ": no class derives directly from Method"),
    "import": ("import Method, Passes", "import Method, Pases", ", line 10: cannot be imported: ImportError: "),
    "syntax": ("class Mine(Method):", "class Mine(Method)", ", line 17: expected ':'; correct the syntax"),
    "type": ("= 0.5  #", "= 2.0  #", ": Mine.strength: input should be less than or equal to 1, not 2.0"),
    "key": ('{"strength"', '{"strenght"', ": Mine.used_if: unknown 'strenght'; did you mean 'strength'?"),
    "name": ("copies > 2", "copise > 2", ": Mine.used_if.strength: unknown 'copise'; did you mean 'copies'?"),
    "condition": ("copies > 2", "copies >", ": Mine.used_if.strength: 'copies >' is no expression: "),
}
MESSAGE = """
import json
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

try:
    expand(load_config() | {"scale": "smoke"})
    print(json.dumps(""))
except InputError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of what a dry run reads, for a file of a method in it."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workflow/config", folder / "workflow/config")
    shutil.copy2(CONFIG, folder)
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file_is_one_message_with_the_file(copied, mistake):
    text, wrong, said = MISTAKES[mistake]
    assert NEW_METHOD.count(text) == 1
    (copied / "src/unmask/methods/mine.py").write_text(NEW_METHOD.lstrip().replace(text, wrong), encoding="utf-8")
    assert run_without_torch(MESSAGE, copied).startswith(f"src/unmask/methods/mine.py{said}")
