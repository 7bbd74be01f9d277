"""Readiness checks before anything is submitted: missing files, unpinned revisions, idle GPUs.

Torch-free, offline and fast: the Snakefile runs them while it is parsed, so that a dry run reports these problems too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from unmask.common.errors import InputError
from unmask.common.manifest import made_of
from unmask.config.data_files import SUFFIXES, source_file
from unmask.config.grid.grid import Grid
from unmask.config.loading import RawConfig, block_at
from unmask.config.schema.checkpoints import UNCONFIRMED, LocalPlace
from unmask.config.schema.introspection import method_class, question_fields
from unmask.config.schema.models import HubModel, LocalModel
from unmask.config.schema.types import HubData, LocalData, prompt_path, source_from
from unmask.config.spec_file import Spec
from unmask.config.specs import CheckpointSpec, DataSpec, ModelSpec
from unmask.planning.targets import Asked
from unmask.tasks._files import file_rows
from unmask.tasks._prompts import read_template
from unmask.tasks._released_prompts import PROMPTS, prompt_place

COMMIT = re.compile("[0-9a-f]{40}")
TOKENIZERS = ("tokenizer.json", "vocab.json")


def lacking(grid: Grid, asked: Asked, raw: RawConfig) -> list[str]:
    """Return a line for every missing input of the targets; what is already prepared needs no sources any more.

    `raw` is the merged configuration, used to name the key of a value.
    """
    lines: list[str] = []
    root = Path("results", grid.place)
    for task in sorted(asked.tasks):
        folder = root / "data" / task
        lines += _of_data(raw, grid.datasets[task], folder)
        # A corpus has no test data.
        if task in grid.tests:
            lines += _of_data(raw, grid.tests[task], folder / "test")
    for task in sorted(asked.tests - asked.tasks):
        lines += _of_data(raw, grid.tests[task], root / "data" / task / "test")
    for name in sorted(asked.models):
        model = grid.models[name]
        if not _is_made(model, root / "models" / name):
            lines += _of_model(model)

    for name in sorted(asked.checkpoints):
        spec = grid.checkpoints[name].spec
        if not _is_made(spec, root / "checkpoints" / name):
            lines += _of_checkpoint(spec)

    # Tasks often share sources and prompts: drop repeated lines, keep their order.
    return list(dict.fromkeys(lines))


def unfair(grid: Grid) -> list[str]:
    """Return a line for each tuned method without validation, and one if the budgets of responses differ."""
    place = f"scales.{grid.scale}.tuning"
    sweep_of: dict[str, str] = {}
    for sweep, names in grid.sweeps.items():
        sweep_of |= dict.fromkeys(names, f"sweeps.{sweep}" if sweep else "candidates")
    lines = []
    budgets: dict[str, int] = {}
    for name, candidates in grid.tuning.items():
        for number, candidate in enumerate(candidates, 1):
            run = grid.runs[candidate.runs[0]]
            training = run.training
            if not training.validate_every:
                how = "candidates are compared on validation problems, and validate_every is 0"
                lines.append(f"{place}.{sweep_of[name]}.{run.method}: {how} on {run.task}; set it above 0")
            # Demonstrations are no responses.
            if not method_class(run.algorithm).demonstrations:
                budget = training.buffers * training.prompts_per_buffer * training.group_size
                budgets[f"{name} candidate {number}"] = budget
    if len(set(budgets.values())) > 1:
        listed = ", ".join(f"{name} {budget:,}" for name, budget in budgets.items())
        how = "give all the same number of buffers, prompts and responses per prompt"
        lines.append(f"{place}: budgets of responses differ ({listed}); {how}")
    return list(dict.fromkeys(lines))


def idle_gpus(grid: Grid, asked: Asked, gpus: int | None) -> list[str]:
    """Return a line per world size that leaves idle some of the GPUs that a profile assigns to a training run."""
    # Grouped by world size: one line instead of one for each of dozens of runs.
    idle: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(asked.runs):
        run = grid.runs[name]
        if gpus and run.trains and grid.nodes(name) == 1:
            used = run.shared_by(gpus)
            if used < gpus:
                idle[used].append(name)

    lines = []
    for used, (first, *others) in idle.items():
        more = f" and {len(others)} more" if others else ""
        said = f"{first}{more} would use {used} of them"
        most = grid.runs[first].processes
        lines.append(f"train_policy:gpu={gpus}, in the profile or --set-resources: {said}; ask for a divisor of {most}")
    return lines


def _of_data(raw: RawConfig, spec: DataSpec, folder: Path) -> list[str]:
    """Return a line for every missing source and prompt of a dataset that is not prepared yet."""
    if _is_made(spec, folder):
        return []
    lines = []
    for key, value in spec.settings.items():
        place = _key(raw, spec.task, key)
        lines += _of_setting(place, key, value, spec.task)
    if spec.test_subset:
        lines += _of_subset(_key(raw, spec.task, "test"), spec)
    return lines


def _is_made(spec: Spec, folder: Path) -> bool:
    """Return True if this has been prepared with the current settings."""
    return made_of(folder / "manifest.json") == spec.digest


def _key(raw: RawConfig, task: str, key: str) -> str:
    """Return the dotted config key of a task's setting, in the strongest layer that sets it."""
    scale = str(raw.get("scale"))
    fidelity = str(raw.get("fidelity"))
    layers = (
        ("scales", scale, "task_settings", task),
        ("fidelities", fidelity, "task_settings", task),
        ("tasks", task),
    )
    for keys in layers:
        block = block_at(raw, *keys)
        # `evaluation_prompt_file: same` follows the training prompt, so the value to correct is that of `prompt_file`.
        if block.get(key) == "same":
            return _key(raw, task, "prompt_file")
        if key in block:
            return ".".join((*keys, key))
    return f"tasks.{task}.{key}"


def _of_setting(place: str, key: str, value: Any, task: str) -> list[str]:
    """Return what is wrong with a source of examples or a prompt file."""
    if key.endswith("prompt_file") and value:
        return _of_prompt(place, prompt_path(value), task)

    if not key.endswith("_source"):
        return []
    source = source_from(value)
    if isinstance(source, HubData) and not COMMIT.fullmatch(source.revision):
        return [_unpinned(f"{place}.revision", source, f"datasets/{source.repository}")]
    if isinstance(source, LocalData):
        return _of_file(f"{place}.path", source.path, split=key.removesuffix("_source"))
    return []


def _of_file(place: str, path: str, split: str) -> list[str]:
    """Return what is wrong with a local file of examples."""
    try:
        file = source_file(path, split)
    except ValueError as error:
        why = _fetched(path) if path in FETCHED else error
        return [f"{place}: {why}"]
    if file.suffix not in SUFFIXES:
        return [f"{place}: {file} is in none of the formats {', '.join(SUFFIXES)}; convert it"]
    return []


def _of_subset(place: str, spec: DataSpec) -> list[str]:
    """Return a line if more test problems are asked for than a local file has rows.

    prepare_dataset counts the rows of other sources, which a dry run would have to download. Missing and unreadable
    files are reported by `_of_setting` or by prepare_dataset.
    """
    if not isinstance(spec.test_source, LocalData):
        return []
    try:
        file = source_file(spec.test_source.path, "test")
        rows = len(file_rows(file))
    except ValueError:
        return []
    asked = spec.test_examples
    if asked is None or asked <= rows:
        return []
    return [f"{place}: {asked} test problems are asked for, and {file} has {rows}; ask for {rows} or fewer"]


def _of_prompt(place: str, path: str, task: str) -> list[str]:
    """Return what is wrong with a prompt file."""
    if not Path(path).is_file():
        if path in FETCHED:
            return [f"{place}: {_fetched(path)}"]
        return [f'{place}: {path} does not exist; {_relative(path)}, or set it to "" for the default prompt']
    try:
        read_template(path, question_fields(task))
    except InputError as error:
        return [f"{place}: {error}"]
    return []


# Where `make data` puts the test sets and prompts of the d1 repository (src/fetch_data.py).
FETCHED = (
    "data/countdown/test.jsonl",
    "data/sudoku/test.csv",
    *(prompt_place(*key) for key in PROMPTS),
)


def _fetched(path: str) -> str:
    return f"{path} does not exist; fetch it: `make data`, or src/fetch_data.py in another folder"


def _of_model(model: ModelSpec) -> list[str]:
    """Return what a published base model lacks; nothing for one trained from scratch."""
    name, _, _ = model.name.partition("/")
    place = f"models.{name}"
    settings = model.settings
    if isinstance(settings, HubModel) and not COMMIT.fullmatch(settings.revision):
        return [_unpinned(f"{place}.revision", settings, settings.repository)]
    if not isinstance(settings, LocalModel):
        return []
    folder = Path(settings.path)
    if not folder.is_dir():
        return [f"{place}.path: {folder} is not a folder; {_relative(settings.path)}"]

    missing = _missing_files(folder)
    if not missing:
        return []
    return [f"{place}.path: {folder} has no {', no '.join(missing)}; copy the complete checkpoint"]


def _of_checkpoint(spec: CheckpointSpec) -> list[str]:
    """Return what a released checkpoint lacks; its content is checked when it is prepared."""
    place, where = spec.place, f"checkpoints.{spec.name}"
    if isinstance(place, LocalPlace):
        if Path(place.path).is_dir():
            return []
        return [f"{where}.path: {place.path} is not a folder; {_relative(place.path)}"]
    lines = []
    page = f"https://huggingface.co/{place.repository}"
    if not COMMIT.fullmatch(place.revision):
        how = f"`make pin-checkpoints`, or put the 40 digits from {page}/commits/main there"
        lines.append(f"{where}.revision: {place.revision!r} is not a commit of {place.repository}; {how}")
    if place.subfolder == UNCONFIRMED:
        lines.append(f"{where}.subfolder: {UNCONFIRMED}; put the folder with its adapter there, from {page}/tree/main")
    return lines


def _missing_files(folder: Path) -> list[str]:
    """Return the files of a checkpoint that a folder lacks."""
    # Only presence is checked here; contents are checked when the model is prepared.
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not list(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any((folder / file).is_file() for file in TOKENIZERS):
        missing.append(" or ".join(TOKENIZERS))
    if not (folder / "tokenizer_config.json").is_file():
        missing.append("tokenizer_config.json")
    return missing


def _unpinned(place: str, source: HubData | HubModel, page: str) -> str:
    how = f"`make pin`, or put the 40 digits from https://huggingface.co/{page}/commits/main there"
    return f"{place}: {source.revision!r} is not a commit of {source.repository}; {how}"


def _relative(path: str) -> str:
    """Return the advice for a path that does not exist."""
    if Path(path).is_absolute():
        return "correct it"
    return "correct it (relative to the folder where snakemake runs)"
