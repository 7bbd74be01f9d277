"""Facts of papers and released codes, and the settings that a run at the papers' scale has under each preset."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.normalize import normalise
from unmask.config.schema import Config

FOLDER = Path(__file__).parent
PRESETS = ("paper", "released", "corrected")
TASKS = ("gsm8k", "math500", "countdown", "sudoku")
METHODS = (
    "dmpo",
    "dmpo_sft",
    "diffu_grpo",
    "d1",
    "sft",
    "coupled_grpo",
    "diffpo",
    "just_grpo",
    "egspo",
    "egspo_sa",
    "espo",
    "wd1",
    "gdpo",
    "spg",
    "spg_eubo",
    "stable_drl",
    "gdsd",
)  # others have no code to be true to

Place = tuple[str, str]  # a method and a task; "evaluation" has none
Settings = dict[str, Any]  # path -> value


def load_facts(preset: str) -> list[dict[str, Any]]:
    """The facts of a preset, each with what its block says, in the order of the file."""
    content = normalise(yaml.safe_load((FOLDER / f"{preset}_settings.yaml").read_text(encoding="utf-8")))
    sources = content["codes" if preset == "released" else "papers"]
    found = []
    for block in content["blocks"]:
        common = {key: value for key, value in block.items() if key != "facts"}
        source = sources.get(block.get("code" if preset == "released" else "paper"), {})
        found += [common | source | fact for fact in block["facts"]]
    return found


def places(fact: dict[str, Any]) -> list[Place]:
    """The methods and tasks that a fact speaks of."""
    found = []
    for method in fact["methods"]:
        own = {"evaluation": ("",), "sft": ("s1k",)}.get(method, TASKS)
        found += [(method, task) for task in fact.get("tasks", own)]
    return found


def effective_settings(preset: str) -> dict[Place, Settings]:
    """The settings of every run of a preset at the papers' scale, as the workflow resolves them, and of evaluations."""
    config = load_config()
    config |= {"scale": "llada-8b", "fidelity": preset}
    config["experiments"] = {"every": config["experiments"]["main"] | {"methods": list(METHODS)}}
    for scale in config["scales"].values():
        scale |= {"experiments": ["every"], "experiment_changes": {}}
    config["scales"]["llada-8b"]["tasks"] = list(TASKS)
    methods = Config.model_validate(normalise(copy.deepcopy(config))).methods

    grid = expand(config)
    found: dict[Place, Settings] = {}
    for run in grid.runs.values():
        if run.seed == 0 and run.variant == "default":
            values = {
                "training": run.training.values(),
                "method": run.method_settings,
                "sampler": run.rollout_sampler.model_dump(),
            }
            values |= {
                "runtime": grid.runtime.model_dump(),
                "tasks": {run.task: run.task_settings},
                "model": grid.models[run.model].values()["settings"],
            }
            values |= {"block_length": run.block_length, "start_from": methods[run.method].start_from or "none"}
            found[run.method, run.task] = flat(values)
            del found[run.method, run.task]["training.sampler"]  # a name; what it stands for is in `sampler`
    evaluations = {name: asdict(spec) for name, spec in grid.evaluations.items() if spec.task is None}
    for evaluation in evaluations.values():
        evaluation["samplers"] = {name: sampler.model_dump() for name, sampler in evaluation["samplers"].items()}
    tests = {task: grid.tests[task].settings for task in TASKS}
    found["evaluation", ""] = flat({"evaluations": evaluations, "tasks": tests})
    return found


def flat(values: dict[str, Any], path: str = "") -> Settings:
    """Nested settings as one mapping from dotted paths."""
    found: Settings = {}
    for key, value in values.items():
        if isinstance(value, dict) and value.keys() == {"path", "sha256"}:
            found[path + key] = value["path"]  # a file that is there
        elif isinstance(value, dict):
            found |= flat(value, f"{path}{key}.")
        else:
            found[path + key] = value
    return found
