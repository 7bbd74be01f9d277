"""Readiness checks before anything is submitted: missing files, unpinned revisions, idle GPUs.

Torch-free, offline and fast: the Snakefile runs them while it is parsed, so that a dry run reports these problems too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from unmask.common.errors import InputError
from unmask.common.manifest import made_of
from unmask.config.data_files import SUFFIXES, source_file
from unmask.config.grid.grid import Grid
from unmask.config.schema.introspection import question_fields
from unmask.config.specs import Spec
from unmask.config.validation.safe_access import block_at
from unmask.planning.targets import Asked
from unmask.tasks._prompts import read_template
from unmask.tasks._released_prompts import PROMPTS, prompt_place
from unmask.tasks._sources import file_rows

COMMIT = re.compile("[0-9a-f]{40}")
TOKENIZERS = ("tokenizer.json", "vocab.json")


def lacking(grid: Grid, asked: Asked, raw: dict[str, Any]) -> list[str]:
    """Return a line for every missing input of the targets; what is already prepared needs no sources any more.

    `raw` is the configuration as read from config.yaml, used to name the key of a value.
    """
    lines: list[str] = []
    root = Path("results", grid.place)
    for task in sorted(asked.tasks):
        specs = {root / "data" / task: grid.datasets[task], root / "data" / task / "test": grid.tests.get(task)}
        for folder, spec in specs.items():
            if spec and not _is_made(spec, folder):
                for key, value in spec.settings.items():
                    lines += _of_setting(_key(raw, task, key), key, value, task)
                if "test_subset" in spec.settings:
                    lines += _of_subset(_key(raw, task, "test"), spec.settings)
    for name in sorted(asked.models):
        model = grid.models[name]
        if not _is_made(model, root / "models" / name):
            lines += _of_model(name, model.source, model.settings)

    # Tasks often share sources and prompts: drop repeated lines, keep their order.
    return list(dict.fromkeys(lines))


def idle_gpus(grid: Grid, asked: Asked, gpus: int | None) -> list[str]:
    """Return a line per world size that leaves idle some of the GPUs that a profile assigns to a training run."""
    # Grouped by world size: one line instead of one for each of dozens of runs.
    idle: dict[int, list[str]] = {}
    for name in sorted(asked.runs):
        if gpus and grid.runs[name].trains and grid.nodes(name) == 1:
            used = grid.runs[name].shared_by(gpus)
            if used < gpus:
                idle.setdefault(used, []).append(name)
    lines = []
    for used, names in idle.items():
        said = f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''} would use {used} of them"
        most = grid.runs[names[0]].processes
        lines.append(f"train_policy:gpu={gpus}, in the profile or --set-resources: {said}; ask for a divisor of {most}")
    return lines


def _is_made(spec: Spec, folder: Path) -> bool:
    """Return True if this has been prepared with the current settings."""
    return made_of(folder / "manifest.json") == spec.digest


def _key(raw: dict[str, Any], task: str, key: str) -> str:
    """Return the dotted config key of a task's setting, in the strongest layer that sets it."""
    layers = (
        (f"scales.{raw.get('scale')}", ("task_settings", task)),
        (f"fidelities.{raw.get('fidelity')}", ("task_settings", task)),
    )
    for place, inner in layers:
        block = block_at(raw, *place.split(".", 1), *inner)
        # `evaluation_prompt_file: same` follows the training prompt, so the value to correct is that of `prompt_file`.
        if block.get(key) == "same":
            return _key(raw, task, "prompt_file")
        if key in block:
            return ".".join((place, *inner, key))
    same = block_at(raw, "tasks", task).get(key) == "same"
    return _key(raw, task, "prompt_file") if same else f"tasks.{task}.{key}"


def _of_setting(place: str, key: str, value: Any, task: str) -> list[str]:
    """Return what is wrong with a source of examples or a prompt file."""
    if key.endswith("prompt_file") and value:
        return _of_prompt(place, value["path"] if isinstance(value, dict) else value, task)
    source = value.get("source") if isinstance(value, dict) else None
    if source == "hub" and not COMMIT.fullmatch(value["revision"]):
        return [_unpinned(f"{place}.revision", value, f"datasets/{value['repository']}")]
    if source == "local":
        try:
            file = source_file(value["path"], key.removesuffix("_source"))
        except ValueError as error:
            return [f"{place}.path: {_fetched(value['path']) if value['path'] in FETCHED else error}"]
        if file.suffix not in SUFFIXES:
            return [f"{place}.path: {file} is in none of the formats {', '.join(SUFFIXES)}; convert it"]
    return []


def _of_subset(place: str, settings: dict[str, Any]) -> list[str]:
    """Return a line if more test problems are asked for than a local file has rows.

    prepare_dataset counts the rows of other sources, which a dry run would have to download. Missing and unreadable
    files are reported by `_of_setting` or by prepare_dataset.
    """
    source = settings["test_source"]
    if source["source"] != "local":
        return []
    try:
        file = source_file(source["path"], "test")
        rows = len(file_rows(file))
    except ValueError:
        return []
    if settings["test"] <= rows:
        return []
    return [f"{place}: {settings['test']} test problems are asked for, and {file} has {rows}; ask for {rows} or fewer"]


def _of_prompt(place: str, path: str, task: str) -> list[str]:
    """Return what is wrong with a prompt file."""
    if not Path(path).is_file() and path in FETCHED:
        return [f"{place}: {_fetched(path)}"]
    if not Path(path).is_file():
        return [f'{place}: {path} does not exist; {_relative(path)}, or set it to "" for the default prompt']
    try:
        read_template(path, question_fields(task))
    except InputError as error:
        return [f"{place}: {error}"]
    return []


# Where `make data` puts the test sets and prompts of the d1 repository (src/fetch_data.py).
FETCHED = ("data/countdown/test.jsonl", "data/sudoku/test.csv", *(prompt_place(*key) for key in PROMPTS))


def _fetched(path: str) -> str:
    return f"{path} does not exist; fetch it: `make data`, or src/fetch_data.py in another folder"


def _of_model(name: str, source: str, settings: dict[str, Any]) -> list[str]:
    """Return what a published base model lacks; nothing for one trained from scratch."""
    place = f"models.{name.partition('/')[0]}"
    if source == "hub" and not COMMIT.fullmatch(settings["revision"]):
        return [_unpinned(f"{place}.revision", settings, settings["repository"])]
    if source != "local":
        return []
    folder = Path(settings["path"])
    if not folder.is_dir():
        return [f"{place}.path: {folder} is not a folder; {_relative(settings['path'])}"]

    # Only presence is checked here; contents are checked when the model is prepared.
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    missing += [] if list(folder.glob("*.safetensors")) else ["*.safetensors"]
    missing += [] if any((folder / file).is_file() for file in TOKENIZERS) else [" or ".join(TOKENIZERS)]
    missing += [] if (folder / "tokenizer_config.json").is_file() else ["tokenizer_config.json"]
    return [f"{place}.path: {folder} has no {', no '.join(missing)}; copy the complete checkpoint"] if missing else []


def _unpinned(place: str, source: dict[str, Any], page: str) -> str:
    how = f"`make pin`, or put the 40 digits from https://huggingface.co/{page}/commits/main there"
    return f"{place}: {source['revision']!r} is not a commit of {source['repository']}; {how}"


def _relative(path: str) -> str:
    """Return the advice for a path that does not exist."""
    return "correct it" if Path(path).is_absolute() else "correct it (relative to the folder where snakemake runs)"
