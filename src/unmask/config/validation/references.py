"""Check of names in config.yaml: references to unknown methods, tasks, samplers, models and experiments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unmask.config.schema.introspection import (
    LIBRARY,
    declared_figures,
    declared_names,
    declared_settings,
    is_corpus,
    method_class,
    narrow_settings,
)
from unmask.config.validation.layers import layers
from unmask.config.validation.messages import unknown
from unmask.config.validation.safe_access import algorithm_of, block_at, given_at, items_at, overrides, toys


def wrong_names(raw: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each name that refers to nothing."""
    yield from _strange(given_at(raw, "scale"), block_at(raw, "scales"), "scale")
    yield from _strange(given_at(raw, "fidelity"), block_at(raw, "fidelities"), "fidelity")
    yield from _strange(block_at(raw, "tasks"), declared_names("tasks"), "tasks")
    for part in (_in_methods, _in_examinations, _in_overrides, _in_scales, _in_models, _in_experiments, _in_layers):
        yield from part(raw)


def _strange(names: Any, known: Any, where: str) -> Iterator[str]:
    """Yield a line for each unknown name; values that are not strings are reported elsewhere."""
    yield from (unknown(name, known, where) for name in names if isinstance(name, str) and name not in known)


def _in_methods(raw: dict[str, Any]) -> Iterator[str]:
    # A method may start only from one that trains and itself starts from the base model: expand() computes digests in
    # two passes, so longer chains are not possible.
    methods = block_at(raw, "methods")
    trained = [m for m in methods if not given_at(methods[m], "start_from") and algorithm_of(raw, m) != "base"]
    for name, method in methods.items():
        if isinstance(method, dict) and isinstance(method.get("algorithm", name), str):
            where = f"methods.{name}" if "algorithm" in method else "methods"
            yield from _strange([algorithm_of(raw, name)], declared_names("methods"), where)
        yield from _strange(given_at(method, "start_from"), trained, f"methods.{name}.start_from")


def _in_examinations(raw: dict[str, Any]) -> Iterator[str]:
    samplers, evaluations = block_at(raw, "samplers"), block_at(raw, "evaluations")
    replaced = [(f"{where}.evaluations", block_at(block, "evaluations")) for where, block in overrides(raw)]
    for where, blocks in [("evaluations", evaluations), *replaced]:
        yield from _strange(blocks, evaluations, where)
        for name, evaluation in blocks.items():
            yield from _strange(items_at(evaluation, "samplers"), samplers, f"{where}.{name}.samplers")
    for name, diagnosis in block_at(raw, "diagnoses").items():
        yield from _strange(given_at(diagnosis, "sampler"), samplers, f"diagnoses.{name}.sampler")


def _in_overrides(raw: dict[str, Any]) -> Iterator[str]:
    """Yield lines on names of methods and tasks in the general blocks and in fidelities and scales."""
    methods, tasks = block_at(raw, "methods"), block_at(raw, "tasks")
    replaced = [(f"{where}.methods", block_at(block, "methods")) for where, block in overrides(raw)]
    for where, blocks in [("methods", methods), *replaced]:
        yield from _strange(blocks, methods, where)
        for name, block in blocks.items():
            yield from _strange(block_at(block, "by_task"), tasks, f"{where}.{name}.by_task")
            yield from _task_settings(block_at(block, "task_settings"), tasks, f"{where}.{name}.task_settings")
            yield from _corpus(raw, name, given_at(block, "corpus"), f"{where}.{name}.corpus")
    for where, block in overrides(raw):
        yield from _strange(block_at(block, "task_settings"), tasks, f"{where}.task_settings")


def _task_settings(blocks: dict[str, Any], tasks: dict[str, Any], where: str) -> Iterator[str]:
    """Yield lines on task settings inside a method block other than those of the reward."""
    # All methods share a task's data and prompts, so that their results are comparable.
    yield from _strange(blocks, tasks, where)
    for task in blocks.keys() & declared_names("tasks"):
        own = narrow_settings(task)["reward_only"]
        for key in block_at(blocks, task).keys() & declared_settings("tasks", task).model_fields.keys() - set(own):
            which = f"only {', '.join(own)} may differ" if own else f"no setting of {task} may differ"
            yield f"{where}.{task}.{key}: {which} from method to method; set it under tasks.{task} or task_settings"


def _corpus(raw: dict[str, Any], method: str, given: list[Any], where: str) -> Iterator[str]:
    """Yield lines on a `corpus` key: it must name a corpus, and the method must train on demonstrations."""
    yield from _strange(given, {name for name in block_at(raw, "tasks") if _is_corpus(name)}, where)
    algorithm = algorithm_of(raw, method)
    if given and algorithm in declared_names("methods") and not method_class(algorithm).demonstrations:
        yield f"{where}: {method} samples its responses and learns no corpus; remove it"


def _tasks(names: list[Any], raw: dict[str, Any], where: str) -> Iterator[str]:
    """Yield lines on task names where policies are evaluated: a corpus has no test problems."""
    yield from _strange(names, block_at(raw, "tasks"), where)
    for name in names:
        if _is_corpus(name):
            yield f"{where}: {name} is a corpus, which has no test problems; name it as the `corpus` of a method"


def _is_corpus(name: Any) -> bool:
    return name in declared_names("tasks") and is_corpus(name)


def _in_scales(raw: dict[str, Any]) -> Iterator[str]:
    models, tasks, experiments = (block_at(raw, key) for key in ("models", "tasks", "experiments"))
    for name, scale in block_at(raw, "scales").items():
        where, changes = f"scales.{name}", block_at(scale, "experiment_changes")
        yield from _strange(given_at(scale, "model"), models, f"{where}.model")
        yield from _strange(block_at(scale, "models").values(), models, f"{where}.models")
        yield from _tasks(items_at(scale, "tasks"), raw, f"{where}.tasks")
        yield from _strange(items_at(scale, "experiments"), experiments, f"{where}.experiments")
        yield from _strange(block_at(scale, "samplers"), block_at(raw, "samplers"), f"{where}.samplers")
        yield from _strange(changes, experiments, f"{where}.experiment_changes")
        for experiment, change in changes.items():
            place = f"{where}.experiment_changes.{experiment}"
            yield from _strange(items_at(change, "methods"), block_at(raw, "methods"), f"{place}.methods")
            yield from _tasks(items_at(change, "tasks"), raw, f"{place}.tasks")
        yield from _strange(block_at(scale, "cost", "test_examples"), tasks, f"{where}.cost.test_examples")


def _in_models(raw: dict[str, Any]) -> Iterator[str]:
    for name, model in block_at(raw, "models").items():
        yield from _strange(block_at(model, "pretraining"), block_at(raw, "tasks"), f"models.{name}.pretraining")


def _in_experiments(raw: dict[str, Any]) -> Iterator[str]:
    for name, experiment in block_at(raw, "experiments").items():
        where = f"experiments.{name}"
        yield from _strange(items_at(experiment, "methods"), block_at(raw, "methods"), f"{where}.methods")
        yield from _tasks(items_at(experiment, "tasks"), raw, f"{where}.tasks")
        yield from _strange(given_at(experiment, "evaluation"), block_at(raw, "evaluations"), f"{where}.evaluation")
        yield from _strange(given_at(experiment, "diagnosis"), block_at(raw, "diagnoses"), f"{where}.diagnosis")
        yield from _strange(items_at(experiment, "figures"), declared_figures(), f"{where}.figures")

        # Each experiment becomes a Snakemake rule of its name.
        if name in _rules() or name.startswith(("plan_", "so_far_")):
            yield f"experiments: '{name}' is a target of the workflow; choose another name"


def _in_layers(raw: dict[str, Any]) -> Iterator[str]:
    """Yield lines on samplers named in settings and on methods named in the exact toy."""
    methods = block_at(raw, "methods")
    for where, values, _ in layers(raw):
        yield from _strange(given_at(values, "sampler"), block_at(raw, "samplers"), f"{where}.sampler")
    for where, toy in toys(raw):
        yield from _strange(block_at(toy, "methods"), methods, f"{where}.methods")
        for name, curve in block_at(toy, "curves").items():
            yield from _strange(given_at(curve, "method"), methods, f"{where}.curves.{name}.method")


def _rules() -> set[str]:
    """Return the names of the workflow's rules: one per script in src/, and those without a script of that name."""
    more = {"all", "everything", "exact_toy", "plan", "so_far", "pilot", "prepare_test_dataset"}
    return more | {path.stem for path in LIBRARY.parent.glob("*.py")}
