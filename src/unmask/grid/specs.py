"""The specs beside those of runs: base models, evaluations and the exact laboratory's experiment."""

from __future__ import annotations

from unmask.config import Config
from unmask.config.declared import declared_settings
from unmask.config.models import ScratchModel
from unmask.spec import EvaluationSpec, ModelSpec, Run, ToySpec


def model_spec(config: Config, run: Run) -> ModelSpec:
    """The base model of a run. Settings at their default are left out, so that a new one leaves models alone."""
    scale = config.scales[config.scale]
    model = config.models[run.model.partition("/")[0]]
    settings = model.model_dump(exclude_defaults=True)
    source = settings.pop("source")
    if not isinstance(model, ScratchModel):
        return ModelSpec(run.model, source, settings)
    if model.shared:
        all_settings = {name: config.task_settings(name) for name in model.pretraining}
        return ModelSpec(run.model, source, settings, None, all_settings, run.seed, scale.block_length, scale.lengths)
    settings["pretraining"] = settings["pretraining"][run.task]
    own = run.task, run.task_settings
    return ModelSpec(run.model, source, settings, *own, run.seed, scale.block_length, scale.lengths)


def evaluation_spec(config: Config, name: str, task: str | None = None) -> EvaluationSpec:
    """An evaluation; with `task`, of runs that were trained on another one."""
    scale, evaluation = config.scales[config.scale], config.evaluations[name]
    return EvaluationSpec(
        name=f"{name}-on-{task}" if task else name,
        samplers={s: config.sampler(s) for s in evaluation.samplers},
        lengths=scale.lengths,
        block_length=scale.block_length,
        temperature=evaluation.temperature,
        rows_per_batch=evaluation.rows_per_batch,
        task=task,
        task_settings=config.task_settings(task) if task else None,
    )


def toy_spec(config: Config) -> ToySpec:
    """The exact laboratory's experiment; a curve's settings are its method's, then the toy's, then its own."""
    settings = config.exact_toy.model_dump() | config.scales[config.scale].exact_toy
    overrides, changes = settings.pop("methods"), settings.pop("curves")
    curves = {}
    for name, change in changes.items():
        method = change["method"]
        values = config.methods[method] | overrides.get(method, {}) | change
        algorithm = config.algorithm(method)
        known = declared_settings("methods", algorithm).model_fields
        curves[name] = {"method": algorithm, "settings": {key: values[key] for key in known}}
    return ToySpec(settings, curves)
