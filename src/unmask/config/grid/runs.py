"""Runs of an experiment: every combination of method, task, grid values and seed, with merged settings."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

from unmask.config.grid.builders import test_settings, training_settings
from unmask.config.schema import Config
from unmask.config.schema.introspection import settings_of
from unmask.config.schema.models import ScratchModel
from unmask.config.schema.training import Training
from unmask.config.specs import RunSpec


def runs_of(config: Config, name: str) -> list[RunSpec]:
    """Return an experiment's runs in a stable order.

    Grid values equal to a method's default give the default run, so a run may occur several times.
    """
    experiment, scale = config.experiments[name], config.scales[config.scale]
    model = scale.models[experiment.model] if experiment.model else scale.model
    found: list[RunSpec] = []
    for method in config.methods_of(name):
        algorithm = config.algorithm(method)

        # Methods ignore axes that they do not have, so one grid can compare methods with different settings.
        known = settings_of(algorithm).model_fields if algorithm != "base" else {}
        axes = {key: values for key, values in config.grid_of(name).items() if key in known}

        # A published model evaluated deterministically gives the same samples with every seed: one run is enough.
        once = algorithm == "base" and is_published(config, model) and config.deterministic(name)
        seeds = scale.seeds[:1] if once else scale.seeds

        for task, values, seed in itertools.product(config.tasks_of(name), itertools.product(*axes.values()), seeds):
            choice = dict(zip(axes, values, strict=True))
            found.append(_run(config, model, method, task, seed, choice, experiment.equal_updates))
    return found


def is_published(config: Config, model: str) -> bool:
    """Return True if a model is not trained from scratch, so that all seeds share it."""
    return not isinstance(config.models[model], ScratchModel)


def start_of(config: Config, run: RunSpec) -> RunSpec:
    """Return the run whose adapter `run` starts from: same model, task and seed, default settings."""
    return _run(config, run.model.partition("/")[0], config.methods[run.method]["start_from"], run.task, run.seed, {})


def _run(
    config: Config,
    model: str,
    method: str,
    task: str,
    seed: int,
    choice: dict[str, Any],
    equal_updates: bool = False,
) -> RunSpec:
    # Training on a corpus is the same for all tasks, so they share one run.
    scale, corpus = config.scales[config.scale], config.corpus(method)
    task = corpus or task

    # Only grid values other than the default go into the name, so experiments share their default runs.
    default = config.settings(method, task)
    changed = {key: value for key, value in choice.items() if default[key] != value}
    variant = "+".join(f"{key}~{_text(value)}" for key, value in sorted(changed.items())) or "default"
    values = default | changed

    # Keep the number of gradient steps: reusing buffers k times as often means 1/k of the buffers, rounded up.
    if equal_updates:
        updates = default["buffers"] * default["updates_per_buffer"]
        values["buffers"] = math.ceil(updates / values["updates_per_buffer"])

    # A base model keeps only the settings that affect its samples: a change of training settings must not repeat its
    # evaluations.
    trains = config.algorithm(method) != "base"
    if trains:
        training = Training(**{key: values[key] for key in Training.model_fields})
        own = {key: value for key, value in values.items() if key not in Training.model_fields}
    else:
        training = Training.number_format(values["dtype"], values["quantisation"])
        own = {}
    start = config.methods[method].get("start_from")
    return RunSpec(
        name=f"{method}/{task}/{_address(variant, model, scale.model)}/seed-{seed}",
        method=method,
        algorithm=config.algorithm(method),
        start_from=_run(config, model, start, task, seed, {}).name if start else None,
        task=task,
        variant=variant,
        seed=seed,
        model=_model_address(config, model, task, seed),
        training=training,
        method_settings=own,
        task_settings=training_settings(config, task, method) if trains else test_settings(config, task),
        sampler=config.sampler(training.sampler) if trains else None,
        block_length=scale.block_length if trains else 0,
        corpus=corpus is not None,
    )


def _address(variant: str, model: str, default: str) -> str:
    """Return the variant's part of a path; it names the base model unless that is the scale's default."""
    if model == default:
        return variant
    return "+".join([*([] if variant == "default" else [variant]), f"model~{model}"])


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
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^A-Za-z0-9_.+~-]", "-", text)
