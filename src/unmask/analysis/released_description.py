"""What the table of released checkpoints says of each apart from its samples. Torch-free, for the controller."""

from __future__ import annotations

from typing import Any

from unmask.analysis.decoding_protocol import fixed_steps
from unmask.config.grid.grid import Grid
from unmask.config.schema.checkpoints import HubPlace


def descriptions(grid: Grid, checkpoints: list[str]) -> list[dict[str, Any]]:
    """Return the descriptions of checkpoints as JSON has them, one for each of their files of samples, in order."""
    found = []
    for name in checkpoints:
        found += [_description(grid, name)] * len(grid.checkpoints[name].tasks)
    return found


def _description(grid: Grid, name: str) -> dict[str, Any]:
    one = grid.checkpoints[name]
    place = one.spec.place
    if isinstance(place, HubPlace):
        inside = f"/{place.subfolder}" if place.subfolder else ""
        where = f"{place.repository}{inside} at {place.revision[:7]}"
    else:
        where = place.path
    steps = {label: fixed_steps(sampler) for label, sampler in grid.evaluations[one.evaluation].samplers.items()}
    return {
        "name": name,
        "method": one.method,
        "kind": one.spec.kind,
        "base": one.spec.model,
        "place": where,
        "steps": {label: fixed for label, fixed in steps.items() if fixed},
        "printed": [printed.model_dump() for printed in one.printed],
    }
