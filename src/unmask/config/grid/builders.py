"""Specs of data, base models, evaluations, diagnoses and the exact toy; those of runs are in grid/runs.py."""

from __future__ import annotations

from dataclasses import replace

from unmask.config.grid.content import with_content
from unmask.config.pretrained import pretrained_weights
from unmask.config.schema import Config
from unmask.config.schema.exact_toy import ToySettings
from unmask.config.schema.introspection import declared_settings, narrow_settings
from unmask.config.schema.models import ScratchModel
from unmask.config.schema.types import Values
from unmask.config.specs import CurveSpec, DataSpec, DiagnosisSpec, EvaluationSpec, ModelSpec, RunSpec, ToySpec


def training_settings(config: Config, task: str, method: str | None = None) -> Values:
    """Return the task settings that affect training with a method: all except those of test data only."""
    return _task_settings(config, task, "test_only", method=method)


def test_settings(config: Config, task: str) -> Values:
    """Return the task settings that affect an evaluation: prompts and grading. The test data has its own digest."""
    return _task_settings(config, task, "test_only", "training_only", "reward_only")


def data_specs(config: Config, task: str) -> tuple[DataSpec, DataSpec]:
    """Return the specs of a task's training data (with validation split) and of its test data."""
    # Rewards are computed from the examples, not stored with them: changing one must not regenerate the data.
    training = _task_settings(config, task, "test_only", "reward_only")
    return DataSpec(task, training), DataSpec(task, _task_settings(config, task, "training_only", "reward_only"), True)


def _task_settings(config: Config, task: str, *without: str, method: str | None = None) -> Values:
    left_out = {key for kind in without for key in narrow_settings(task)[kind]}
    settings = config.task_settings(task, method)
    return with_content({key: value for key, value in settings.items() if key not in left_out})


def model_spec(config: Config, run: RunSpec) -> ModelSpec:
    """Return the spec of a run's base model."""
    model = config.models[run.model.partition("/")[0]]
    if not isinstance(model, ScratchModel):
        return ModelSpec(run.model, model.source, model)

    # Pretraining uses examples, prompts and rewards of its tasks and decodes at the evaluation lengths.
    task = None
    if model.shared:
        task_settings = {name: training_settings(config, name) for name in model.pretraining}
    else:
        task = run.task
        task_settings = training_settings(config, task)
        model = model.model_copy(update={"pretraining": {task: model.pretraining[task]}})
    scale = config.scales[config.scale]
    seed = run.seed if model.seed is None else model.seed
    spec = ModelSpec(run.model, model.source, model, task, task_settings, seed, scale.block_length, scale.lengths)
    return replace(spec, pretrained=pretrained_weights(spec)) if model.pretrained else spec


def evaluation_spec(config: Config, name: str, task: str | None = None, limit: int = 0) -> EvaluationSpec:
    """Return the spec of an evaluation; with `task`, of runs that were trained on another task.

    With a limit it has another name, so that its samples are in another file than those of the whole evaluation.
    """
    scale, evaluation = config.scales[config.scale], config.evaluation(name)
    named = f"{name}{config.ending if limit else ''}"
    of_training = [config.training_at_scale.generation_length]
    return EvaluationSpec(
        name=f"{named}-on-{task}" if task else named,
        samplers={s: config.sampler(s) for s in evaluation.samplers},
        lengths=scale.lengths if evaluation.lengths == "all" else of_training,
        block_length=scale.block_length,
        temperature=evaluation.temperature,
        rows_per_batch=evaluation.rows_per_batch,
        task=task,
        task_settings=test_settings(config, task) if task else None,
        mask_padding=evaluation.mask_padding,
        samples_per_problem=evaluation.samples_per_problem,
        limit=limit,
    )


def diagnosis_spec(config: Config, name: str, limit: int = 0) -> DiagnosisSpec:
    """Return the spec of a diagnosis; with a limit it has another name and no more examples than that."""
    # Length, block and padding are those of training, where the surrogates replace the policy's likelihood.
    one, training = config.diagnoses[name], config.training_at_scale
    return DiagnosisSpec(
        name=f"{name}{config.ending if limit else ''}",
        sampler=config.sampler(one.sampler),
        temperature=one.temperature,
        examples=min(one.examples, limit) if limit else one.examples,
        generation_length=training.generation_length,
        block_length=config.scales[config.scale].block_length,
        micro_batch_size=training.micro_batch_size,
        mask_padding=training.mask_padding,
    )


def toy_spec(config: Config) -> ToySpec:
    """Return the spec of the exact toy."""
    toy = config.exact_toy_at_scale
    curves = {}
    for name, curve in toy.curves.items():
        # A method block also has trainer settings (learning rate, LoRA …), which the toy does not use.
        algorithm = config.algorithm(curve.method)
        values = config.curve_settings(toy, curve)
        known = declared_settings("methods", algorithm).model_fields
        curves[name] = CurveSpec(algorithm, {key: values[key] for key in known})
    settings = {key: getattr(toy, key) for key in ToySettings.model_fields}
    return ToySpec(ToySettings(**settings), curves)
