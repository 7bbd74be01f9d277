"""Runs of an experiment: every combination of method, task, grid values and seed, with merged settings."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

from unmask.config.grid.builders import test_settings, training_settings
from unmask.config.schema import Config
from unmask.config.schema.introspection import settings_of
from unmask.config.schema.models import ScratchModel
from unmask.config.schema.training import Training
from unmask.config.schema.types import Values
from unmask.config.specs import RunSpec


def runs_of(config: Config, name: str) -> list[RunSpec]:
    """Return an experiment's runs in a stable order.

    Grid values equal to a method's default give the default run, so a run may occur several times.
    """
    experiment = config.experiments[name]
    scale = config.scales[config.scale]
    model = scale.models[experiment.model] if experiment.model else scale.model
    found = []
    for method in config.methods_of(name):
        # A published model evaluated deterministically gives the same samples with every seed: one run is enough.
        is_base = config.algorithm(method) == "base"
        once = is_base and is_published(config, model) and config.deterministic(name)
        seeds = scale.seeds[:1] if once else scale.seeds

        choices = list(_choices(config, name, method))
        for task, choice, seed in itertools.product(config.tasks_of(name), choices, seeds):
            run = resolve(config, method, task, choice, model=model, seed=seed, equal_updates=experiment.equal_updates)
            found.append(run)
    return found


def _choices(config: Config, experiment: str, method: str) -> Iterator[Values]:
    """Yield every combination of grid values of an experiment for one of its methods."""
    algorithm = config.algorithm(method)
    known = settings_of(algorithm).model_fields if algorithm != "base" else {}
    # Methods ignore axes that they do not have, so one grid can compare methods with different settings.
    axes = {key: values for key, values in config.grid_of(experiment).items() if key in known}
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def is_published(config: Config, model: str) -> bool:
    """Return True if a model is not trained from scratch, so that all seeds share it."""
    return not isinstance(config.models[model], ScratchModel)


def start_of(config: Config, run: RunSpec) -> RunSpec:
    """Return the run whose adapter `run` starts from: same model, task and seed, default settings."""
    model, _, _ = run.model.partition("/")
    method = config.methods[run.method].start_from
    return resolve(config, method, run.task, {}, model=model, seed=run.seed)


def resolve(
    config: Config,
    method: str,
    task: str,
    choice: Values,
    *,
    model: str,
    seed: int,
    equal_updates: bool = False,
) -> RunSpec:
    """Return the run of a method on a task with the chosen grid values, its settings merged from all layers.

    With `equal_updates` it has as many gradient steps as with the default settings.
    """
    # Training on a corpus is the same for all tasks, so they share one run.
    corpus = config.corpus(method)
    task = corpus or task

    # Only grid values other than the default go into the name, so experiments share their default runs.
    default = config.settings(method, task)
    changed = {key: value for key, value in choice.items() if default[key] != value}
    variant = _variant(changed)

    scale = config.scales[config.scale]
    trains = config.algorithm(method) != "base"
    values = default | changed
    if trains:
        training = _training(values)
        sampler = config.sampler(training.sampler)
        own = {key: value for key, value in values.items() if key not in Training.model_fields}
        task_settings = training_settings(config, task, method)
    else:
        # A base model keeps only the settings that affect its samples: a change of training settings must not repeat
        # its evaluations.
        training = Training.number_format(values)
        sampler = None
        own = {}
        task_settings = test_settings(config, task)
    if trains and equal_updates:
        training = _with_equal_updates(training, _training(default))

    start = None
    if config.methods[method].start_from:
        start = resolve(config, config.methods[method].start_from, task, {}, model=model, seed=seed).name
    return RunSpec(
        name=f"{method}/{task}/{_address(variant, model, scale.model)}/seed-{seed}",
        method=method,
        algorithm=config.algorithm(method),
        start_from=start,
        task=task,
        variant=variant,
        seed=seed,
        model=_model_address(config, model, task, seed),
        training=training,
        method_settings=own,
        task_settings=task_settings,
        sampler=sampler,
        block_length=scale.block_length if trains else 0,
        corpus=corpus is not None,
    )


def _training(values: Values) -> Training:
    """Return the settings of the trainer among those of a run."""
    return Training(**{key: values[key] for key in Training.model_fields})


def _with_equal_updates(training: Training, default: Training) -> Training:
    """Return settings with as many gradient steps as the default ones."""
    # Reusing buffers k times as often means 1/k of the buffers, rounded up.
    updates = default.buffers * default.updates_per_buffer
    buffers = math.ceil(updates / training.updates_per_buffer)
    return training.model_copy(update={"buffers": buffers})


def _variant(changed: Values) -> str:
    """Return the name of settings that differ from the default: `baseline~none+copies~2`."""
    parts = [f"{key}~{_text(value)}" for key, value in sorted(changed.items())]
    return "+".join(parts) or "default"


def _address(variant: str, model: str, default: str) -> str:
    """Return the variant's part of a path; it names the base model unless that is the scale's default."""
    if model == default:
        return variant
    named = f"model~{model}"
    return named if variant == "default" else f"{variant}+{named}"


def _model_address(config: Config, model: str, task: str, seed: int) -> str:
    """Return the address of a base model: its name, with seed and task if it is trained from scratch."""
    # Seeds are the unit of statistics and must share nothing, so each has its own base model; unless the model is
    # shared, so has each task.
    settings = config.models[model]
    if not isinstance(settings, ScratchModel):
        return model
    return f"{model}/seed-{seed}" if settings.shared else f"{model}/{task}/seed-{seed}"


def _text(value: Any) -> str:
    """Return a value as part of a path, with characters special to shells replaced by hyphens."""
    text = str(value)
    if isinstance(value, list):
        text = "-".join(map(str, value))
    return re.sub(r"[^A-Za-z0-9_.+~-]", "-", text)
