"""Runs of an experiment: every combination of method, task, grid values and seed, with merged settings."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

from unmask.config.grid.builders import test_settings, training_settings
from unmask.config.schema import Config
from unmask.config.schema.introspection import narrow_settings, settings_of
from unmask.config.schema.models import ScratchModel
from unmask.config.schema.training import Training
from unmask.config.schema.types import Values
from unmask.config.specs import RunSpec


def runs_of(config: Config, name: str) -> list[RunSpec]:
    """Return an experiment's runs in a stable order.

    Grid values equal to a method's default give the default run, so a run may occur several times.
    """
    equal_updates = config.experiments[name].equal_updates
    found = []
    for model, method in itertools.product(config.models_of(name), config.methods_of(name)):
        # A base model of all seeds, evaluated deterministically, gives the same samples for each: one run is enough.
        is_base = config.algorithm(method) == "base"
        once = is_base and _serves_all_seeds(config, model) and config.deterministic(name)
        seeds = config.seeds_of(name)[:1] if once else config.seeds_of(name)

        for task in config.tasks_of(name):
            for choice, seed in itertools.product(_choices(config, name, method, task), seeds):
                run = resolve(config, method, task, choice, model=model, seed=seed, equal_updates=equal_updates)
                found.append(run)
    return found


def tuning_runs(config: Config) -> Iterator[tuple[str, str, list[tuple[Values, list[RunSpec]]]]]:
    """Yield the sweep and name of each METHOD/TASK that the scale tunes, and its candidates, with a run per seed."""
    scale, tuning = config.scales[config.scale], config.tuning
    if tuning is None:
        return
    for sweep, _, method, block in tuning.blocks:
        for task in block.tasks or scale.tasks:
            candidates = []
            for settings in block.settings:
                # Named by all their settings: the path of a run must not change when one becomes the default.
                runs = [
                    resolve(config, method, task, settings, model=scale.model, seed=seed, name_all=True)
                    for seed in tuning.seeds
                ]
                candidates.append((settings, runs))
            yield sweep, f"{method}/{task}", candidates


def _choices(config: Config, experiment: str, method: str, task: str) -> Iterator[Values]:
    """Yield every combination of grid values of an experiment for one of its methods on one of its tasks."""
    algorithm = config.algorithm(method)
    known: set[str] = set()
    if algorithm != "base":
        learnt = config.corpus(method) or task
        known = {*settings_of(algorithm).model_fields, *narrow_settings(learnt)["reward_only"]}
    # Methods ignore axes that they do not have, so one grid can compare methods with different settings.
    axes = {key: values for key, values in config.grid_of(experiment).items() if key in known}
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _serves_all_seeds(config: Config, model: str) -> bool:
    """Return True if all seeds share a base model: it is published, or trained from scratch with a seed of its own."""
    settings = config.models[model]
    return not isinstance(settings, ScratchModel) or settings.seed is not None


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
    name_all: bool = False,
) -> RunSpec:
    """Return the run of a method on a task with the chosen grid values, its settings merged from all layers.

    With `equal_updates` it has as many gradient steps as with the default settings. With `name_all` its variant names
    all chosen values, else only those that differ from the default.
    """
    # Training on a corpus is the same for all tasks, so they share one run.
    corpus = config.corpus(method)
    task = corpus or task

    # Only grid values other than the default go into the name, so experiments share their default runs.
    trains = config.algorithm(method) != "base"
    task_settings = training_settings(config, task, method) if trains else test_settings(config, task)
    default = config.settings(method, task)
    known = task_settings | default
    changed = {key: value for key, value in choice.items() if known[key] != value}
    variant = _variant(choice if name_all else changed)

    # Settings of the reward are the task's, all others those of the method.
    scale = config.scales[config.scale]
    rewards = {key: value for key, value in changed.items() if key in narrow_settings(task)["reward_only"]}
    task_settings = task_settings | rewards
    values = default | {key: value for key, value in changed.items() if key not in rewards}
    if trains:
        training = _training(values)
        sampler = config.sampler(training.sampler)
        own = {key: value for key, value in values.items() if key not in Training.model_fields}
    else:
        # A base model keeps only the settings that affect its samples: a change of training settings must not repeat
        # its evaluations.
        training = Training.number_format(values)
        sampler = None
        own = {}
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
    settings = config.models[model]
    if not isinstance(settings, ScratchModel):
        return model
    if settings.seed is not None:
        seed = settings.seed
    return f"{model}/seed-{seed}" if settings.shared else f"{model}/{task}/seed-{seed}"


def _text(value: Any) -> str:
    """Return a value as part of a path, with characters special to shells replaced by hyphens."""
    text = str(value)
    if isinstance(value, list):
        text = "-".join(map(str, value))
    return re.sub(r"[^A-Za-z0-9_.+~-]", "-", text)
