"""Check of names in config.yaml: references to unknown methods, tasks, samplers, models and experiments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unmask.config.schema import Config
from unmask.config.schema.introspection import (
    LIBRARY,
    declared_figures,
    declared_names,
    declared_settings,
    is_corpus,
    method_class,
    narrow_settings,
)
from unmask.config.schema.methods import ByTask
from unmask.config.schema.models import ScratchModel
from unmask.config.schema.scales import Scale
from unmask.config.schema.types import Values
from unmask.config.validation.layers import layers, overrides, toys
from unmask.config.validation.messages import unknown
from unmask.config.validation.parse import Parsed


def wrong_names(parsed: Parsed) -> list[str]:
    """Return a line for each name that refers to nothing."""
    config = parsed.config
    lines = unknown_name(config.scale, config.scales, "scale")
    lines += unknown_name(config.fidelity, config.fidelities, "fidelity")
    lines += unknown_names(config.tasks, declared_names("tasks"), "tasks")
    lines += _in_methods(parsed)
    lines += _in_evaluations(config)
    lines += _in_overrides(config)
    for name, scale in config.scales.items():
        lines += _in_scale(config, scale, f"scales.{name}")
    for name, model in config.models.items():
        if isinstance(model, ScratchModel):
            lines += unknown_names(model.pretraining, config.tasks, f"models.{name}.pretraining")
    lines += _in_experiments(config)
    lines += _in_checkpoints(config)
    lines += _in_layers(config)
    return lines


def unknown_names(names: Iterable[Any], known: Iterable[str], where: str) -> list[str]:
    """Return a line for each unknown name; what is no name is reported elsewhere."""
    lines = []
    for name in names:
        if isinstance(name, str) and name not in known:
            lines.append(unknown(name, known, where))
    return lines


def unknown_name(name: Any, known: Iterable[str], where: str) -> list[str]:
    """Return a line if a name is unknown; none if no name is given."""
    return unknown_names([name], known, where) if name else []


def _in_methods(parsed: Parsed) -> list[str]:
    config = parsed.config
    # A method may start only from one that trains and itself starts from the base model: expand() computes digests in
    # two passes, so longer chains are not possible.
    trained = []
    for name, method in config.methods.items():
        if not method.start_from and config.algorithm(name) != "base":
            trained.append(name)

    lines = []
    for name, method in config.methods.items():
        where = f"methods.{name}" if method.algorithm else "methods"
        if not parsed.is_wrong(f"methods.{name}") and not parsed.is_wrong(f"methods.{name}.algorithm"):
            lines += unknown_name(config.algorithm(name), declared_names("methods"), where)
        lines += unknown_name(method.start_from, trained, f"methods.{name}.start_from")
    return lines


def _in_evaluations(config: Config) -> list[str]:
    lines = _of_samplers({name: one.samplers for name, one in config.evaluations.items()}, config, "evaluations")
    for where, block in overrides(config):
        place = f"{where}.evaluations"
        lines += unknown_names(block.evaluations, config.evaluations, place)
        given = {name: values.get("samplers") for name, values in block.evaluations.items()}
        lines += _of_samplers(given, config, place)
    for name, diagnosis in config.diagnoses.items():
        lines += unknown_name(diagnosis.sampler, config.samplers, f"diagnoses.{name}.sampler")
    return lines


def _of_samplers(found: Mapping[str, Any], config: Config, where: str) -> list[str]:
    """Return lines on the samplers of evaluations."""
    lines = []
    for name, samplers in found.items():
        if isinstance(samplers, list):
            lines += unknown_names(samplers, config.samplers, f"{where}.{name}.samplers")
    return lines


def _in_overrides(config: Config) -> list[str]:
    """Return lines on names of methods and tasks in the general blocks and in fidelities and scales."""
    lines = _of_methods(config, config.methods, "methods")
    for where, block in overrides(config):
        lines += _of_methods(config, block.methods, f"{where}.methods")
    for where, block in overrides(config):
        lines += unknown_names(block.task_settings, config.tasks, f"{where}.task_settings")
    return lines


def _of_methods(config: Config, blocks: Mapping[str, ByTask], where: str) -> list[str]:
    lines = unknown_names(blocks, config.methods, where)
    for name, block in blocks.items():
        place = f"{where}.{name}"
        lines += unknown_names(block.by_task, config.tasks, f"{place}.by_task")
        lines += _task_settings(block.task_settings, config.tasks, f"{place}.task_settings")
        lines += _corpus(config, name, block.corpus, f"{place}.corpus")
    return lines


def _task_settings(blocks: dict[str, Values], tasks: dict[str, Values], where: str) -> list[str]:
    """Return lines on task settings inside a method block other than those of the reward."""
    # All methods share a task's data and prompts, so that their results are comparable.
    lines = unknown_names(blocks, tasks, where)
    for task, values in blocks.items():
        if task not in declared_names("tasks"):
            continue
        own = narrow_settings(task)["reward_only"]
        which = f"only {', '.join(own)} may differ" if own else f"no setting of {task} may differ"
        for key in values.keys() & declared_settings("tasks", task).model_fields.keys():
            if key not in own:
                how = f"{which} from method to method; set it under tasks.{task} or task_settings"
                lines.append(f"{where}.{task}.{key}: {how}")
    return lines


def _corpus(config: Config, method: str, corpus: str, where: str) -> list[str]:
    """Return lines on a `corpus` key: it must name a corpus, and the method must train on demonstrations."""
    lines = unknown_name(corpus, [name for name in config.tasks if _is_corpus(name)], where)
    algorithm = config.algorithm(method)
    if corpus and algorithm in declared_names("methods") and not method_class(algorithm).demonstrations:
        lines.append(f"{where}: {method} samples its responses and learns no corpus; remove it")
    return lines


def _tasks(names: list[str], config: Config, where: str) -> list[str]:
    """Return lines on task names where policies are evaluated: a corpus has no test problems."""
    lines = unknown_names(names, config.tasks, where)
    for name in names:
        if _is_corpus(name):
            how = "is a corpus, which has no test problems; name it as the `corpus` of a method"
            lines.append(f"{where}: {name} {how}")
    return lines


def _is_corpus(name: str) -> bool:
    return name in declared_names("tasks") and is_corpus(name)


def _in_scale(config: Config, scale: Scale, where: str) -> list[str]:
    changes = scale.experiment_changes
    lines = unknown_name(scale.model, config.models, f"{where}.model")
    lines += unknown_names(scale.models.values(), config.models, f"{where}.models")
    lines += _tasks(scale.tasks, config, f"{where}.tasks")
    lines += unknown_names(scale.experiments, config.experiments, f"{where}.experiments")
    lines += unknown_names(scale.samplers, config.samplers, f"{where}.samplers")
    lines += unknown_names(changes, config.experiments, f"{where}.experiment_changes")
    for name, change in changes.items():
        place = f"{where}.experiment_changes.{name}"
        if change.methods:
            lines += unknown_names(change.methods, config.methods, f"{place}.methods")
        if change.tasks:
            lines += _tasks(change.tasks, config, f"{place}.tasks")
    if scale.tuning:
        sweeps = {"candidates": scale.tuning.candidates}
        sweeps |= {f"sweeps.{name}": candidates for name, candidates in scale.tuning.sweeps.items()}
        for place, candidates in sweeps.items():
            lines += unknown_names(candidates, config.methods, f"{where}.tuning.{place}")
        for block in scale.tuning.blocks:
            lines += _tasks(block.candidates.tasks or [], config, f"{where}.tuning.{block.place}.tasks")
    lines += unknown_names(scale.cost.test_examples, config.tasks, f"{where}.cost.test_examples")
    return lines


def _in_experiments(config: Config) -> list[str]:
    lines = []
    for name, experiment in config.experiments.items():
        where = f"experiments.{name}"
        lines += unknown_names(experiment.methods, config.methods, f"{where}.methods")
        lines += _tasks(experiment.tasks or [], config, f"{where}.tasks")
        lines += unknown_name(experiment.evaluation, config.evaluations, f"{where}.evaluation")
        lines += unknown_name(experiment.diagnosis, config.diagnoses, f"{where}.diagnosis")
        lines += unknown_names(experiment.figures, declared_figures(), f"{where}.figures")

        # Each experiment becomes a Snakemake rule of its name.
        if name in _rules() or name.startswith(("plan_", "so_far_", "tune_")):
            lines.append(f"experiments: '{name}' is a target of the workflow; choose another name")
    return lines


def _in_checkpoints(config: Config) -> list[str]:
    lines = []
    for name, checkpoint in config.checkpoints.items():
        where = f"checkpoints.{name}"
        base = config.models.get(checkpoint.base)
        lines += unknown_name(checkpoint.base, config.models, f"{where}.base")
        if isinstance(base, ScratchModel):
            lines.append(f"{where}.base: {checkpoint.base} is trained from scratch; name a published model")
        lines += _tasks(checkpoint.tasks, config, f"{where}.tasks")
        lines += unknown_name(checkpoint.evaluation, config.evaluations, f"{where}.evaluation")
        for number, printed in enumerate(checkpoint.printed):
            lines += unknown_names(printed.accuracy, checkpoint.tasks, f"{where}.printed.{number}.accuracy")
    return lines


def _in_layers(config: Config) -> list[str]:
    """Return lines on samplers named in settings and on methods named in the exact toy."""
    lines = []
    for layer in layers(config):
        lines += unknown_name(layer.values.get("sampler"), config.samplers, f"{layer.where}.sampler")
    for where, methods, curves in toys(config):
        lines += unknown_names(methods, config.methods, f"{where}.methods")
        for name, curve in curves.items():
            lines += unknown_name(curve.method, config.methods, f"{where}.curves.{name}.method")
    return lines


def _rules() -> set[str]:
    """Return the names of the workflow's rules: one per script in src/, and those without a script of that name."""
    more = {"tune", "tuning", "all", "everything", "exact_toy", "surrogates", "plan", "so_far", "pilot"}
    more |= {"prepare_test_dataset", "checkpoints", "field_claims"}
    return more | {path.stem for path in LIBRARY.parent.glob("*.py")}
