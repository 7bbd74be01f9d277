"""Checks of valid blocks against each other, at the scale in use."""

from __future__ import annotations

from unmask.config.schema import Config
from unmask.config.schema.exact_toy import ExactToy
from unmask.config.schema.models import BaseModelSettings, ScratchModel
from unmask.config.validation.messages import problems


def misfits(config: Config) -> list[str]:
    """Return one line for each pair of blocks that do not fit together."""
    scale = config.scales[config.scale]
    where = f"scales.{config.scale}"
    lines = _of_models(config) + _of_tuning(config)
    for name in config.experiments:
        lines += _of_corpora(config, name)

    # Tables and figures name samplers, so a scale may change a sampler's numbers but not its rule.
    for name, sampler in scale.samplers.items():
        if sampler.rule != config.samplers[name].rule:
            other = f"'{sampler.rule}' is not the rule of samplers.{name}; give another rule another name"
            lines.append(f"{where}.samplers.{name}.rule: {other}")

    # Overrides of the toy are valid one by one, but their merge may violate its counts.
    toy = config.exact_toy.model_dump() | scale.exact_toy
    return lines + problems(ExactToy, toy, f"{where}.exact_toy")


def _of_models(config: Config) -> list[str]:
    """Return lines on base models that a scale lacks, or that are not pretrained on a task."""
    scale = config.scales[config.scale]
    where = f"scales.{config.scale}"
    missing = []
    lines = _untrained(config, scale.model, scale.tasks, where)
    for name, experiment in config.experiments.items():
        for key in experiment.model_keys:
            if key not in scale.models:
                missing.append(f"{where}.models.{key}: missing; experiments.{name}.model asks for it")

        # The message must name the key to edit: the one that asks for the tasks.
        asker = where
        change = scale.experiment_changes.get(name)
        if change and change.tasks:
            asker = f"{where}.experiment_changes.{name}"
        elif experiment.tasks:
            asker = f"experiments.{name}"
        for model in config.models_of(name):
            lines += _untrained(config, model, config.tasks_of(name), asker)
    return missing + lines


def _untrained(config: Config, name: str, tasks: list[str], asker: str) -> list[str]:
    """Return a line for each task that a base model is not pretrained on; `asker` is the block that asks for it."""
    # A model from scratch is trained per task (or on all listed ones), so it needs pretraining settings for each.
    model = config.models[name]
    if not isinstance(model, ScratchModel):
        return []
    lines = []
    for task in tasks:
        if task not in model.pretraining:
            lines.append(f"models.{name}.pretraining.{task}: missing; {asker}.tasks has {task}")
    return lines


def _of_tuning(config: Config) -> list[str]:
    """Return lines on a tuning with seeds of results, tasks without a base model, or a method and task twice."""
    scale, tuning = config.scales[config.scale], config.tuning
    if tuning is None:
        return []
    where = f"scales.{config.scale}.tuning"
    used = set(scale.seeds).union(*(change.seeds or [] for change in scale.experiment_changes.values()))
    lines = []
    if both := sorted(used & set(tuning.seeds)):
        lines.append(f"{where}.seeds: {both} are seeds of results as well; choose others")

    tuned: set[tuple[str, str]] = set()
    for block in tuning.blocks:
        place = f"{where}.{block.place}"
        tasks = block.candidates.tasks or scale.tasks
        lines += _untrained(config, scale.model, tasks, place)
        if config.algorithm(block.method) == "base":
            lines.append(f"{place}: the base model has no settings to choose; remove it")

        # Two sweeps of a method on a task would write the same file.
        for task in tasks:
            if (block.method, task) in tuned:
                lines.append(f"{place}: another sweep tunes {block.method} on {task}; remove the task from one of them")
            tuned.add((block.method, task))
    return lines


def _is_per_task(model: BaseModelSettings) -> bool:
    return isinstance(model, ScratchModel) and not model.shared


def _of_corpora(config: Config, name: str) -> list[str]:
    """Return a line for each method of an experiment that trains on a corpus but cannot."""
    experiment = config.experiments[name]
    per_task = [model for model in config.models_of(name) if _is_per_task(config.models[model])]

    # The method that another starts from (SFT for d1) may train on a corpus, too.
    methods = config.methods_of(name)
    starts = [config.methods[method].start_from for method in methods]
    lines = []
    for method in dict.fromkeys([*methods, *starts]):
        corpus = config.corpus(method)
        if corpus is None:
            continue
        what = f"methods.{method}.corpus, here or in a fidelity or scale: {corpus}"
        for model in per_task:
            lines.append(
                f"{what} is learnt once for all tasks, but models.{model} is trained per task; set shared: true "
                f"there, or remove the corpus, so that {method} trains on the demonstrations of each task"
            )

        # A diagnosis uses the test data of the run's own task, and a corpus has none.
        if experiment.diagnosis and method in methods:
            lines.append(f"{what} has no task for experiments.{name}.diagnosis; remove {method} from its methods")
    return lines
