"""Check for missing settings: those that no layer sets for the methods and tasks of the scale in use."""

from __future__ import annotations

from typing import Any

from unmask.config.renames import current_name
from unmask.config.schema.introspection import declared_names, declared_settings, settings_of
from unmask.config.schema.training import Training
from unmask.config.validation.safe_access import algorithm_of, block_at, given_at, items_at


def missing(raw: dict[str, Any]) -> list[str]:
    """Return one line per missing setting, sorted."""
    fidelity = block_at(raw, "fidelities", str(raw.get("fidelity")))
    scale = block_at(raw, "scales", str(raw.get("scale")))
    return sorted(_of_methods(raw, fidelity, scale) + _of_curves(raw, scale) + _of_tasks(raw, fidelity, scale))


def _of_methods(raw: dict[str, Any], *overriding: dict[str, Any]) -> list[str]:
    """Return lines on missing settings of methods, including those of Training."""
    # Training settings may also be set in method blocks. A broken `training` block has its own line, so its keys count
    # as present here.
    common = set().union(block_at(raw, "training"), *(block_at(block, "training") for block in overriding))
    if not isinstance(raw.get("training"), dict):
        common |= Training.model_fields.keys()
    found: list[str] = []
    for method, general in block_at(raw, "methods").items():
        if (algorithm := algorithm_of(raw, method)) in declared_names("methods") and isinstance(general, dict):
            blocks = [block_at(block, "methods", method) for block in (raw, *overriding)]
            # An old name has its own line, so the new one counts as present.
            given = {current_name(key) for key in common.union(*blocks)}
            for key in settings_of(algorithm).model_fields.keys() - given:
                where = "training" if key in Training.model_fields else f"methods.{method}"
                found.append(f"{where}.{key}: missing; add it")
    return found


def _of_curves(raw: dict[str, Any], scale: dict[str, Any]) -> list[str]:
    """Return lines on missing method settings of the exact toy's curves."""
    # As toy_spec() merges them: general method block, exact_toy.methods, curve; no method blocks of fidelity or scale.
    toy = block_at(raw, "exact_toy") | block_at(scale, "exact_toy")
    found: list[str] = []
    for curve in block_at(toy, "curves").values():
        for method in given_at(curve, "method"):
            algorithm, general = algorithm_of(raw, method), block_at(raw, "methods").get(method)
            if isinstance(general, dict) and algorithm in declared_names("methods"):
                known = set(curve).union(general, block_at(toy, "methods", method))
                lacking = declared_settings("methods", algorithm).model_fields.keys() - known
                found += [f"methods.{method}.{key}: missing; add it" for key in lacking]
    return found


def _of_tasks(raw: dict[str, Any], fidelity: dict[str, Any], scale: dict[str, Any]) -> list[str]:
    """Return lines on missing settings of tasks that the scale, an experiment or a method uses."""
    # Only tasks in use are checked: another fidelity or scale may complete the others.
    askers = scale, *block_at(raw, "experiments").values(), *block_at(scale, "experiment_changes").values()
    asked = {task for asker in askers for task in items_at(asker, "tasks")}
    for layer in (raw, fidelity, scale):
        for method in block_at(layer, "methods").values():
            asked |= set(given_at(method, "corpus"))

    found: list[str] = []
    for task in declared_names("tasks") & asked & set(block_at(raw, "tasks")):
        blocks = block_at(raw, "tasks", task), *(block_at(b, "task_settings", task) for b in (fidelity, scale))
        lacking = declared_settings("tasks", task).model_fields.keys() - set().union(*blocks)
        found += [f"tasks.{task}.{key}: missing; add it" for key in lacking]
    return found
