"""How an experiment's policies are examined: what has to be equal before a printed number may be compared with ours.

Torch-free, because the workflow's controller reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from unmask.grid.work import Grid


@dataclass(frozen=True)
class Protocol:
    """The base model's name, the decoding, the tasks whose test problems we made ourselves, and first stages."""

    model: str
    temperature: float
    steps: dict[str, str]  # sampler -> denoising steps of a response of L tokens, `L` or `L/2`, where that is fixed
    generated: list[str]
    first_stages: dict[str, str] = field(default_factory=dict)  # method -> the corpus that its first stage learns

    @classmethod
    def of(cls, grid: Grid, experiment: str) -> Protocol:
        """The protocol of an experiment that examines samples."""
        one = grid.experiments[experiment]
        evaluation = grid.evaluations[one.examined.removeprefix("samples-")]
        fixed = {"rule": "top_k", "score": "confidence", "cache": "none", "guidance": 0.0, "forbidden": []}
        steps = {
            name: "L" if sampler["tokens_per_step"] == 1 else f"L/{sampler['tokens_per_step']}"
            for name, sampler in evaluation.samplers.items()
            if fixed.items() <= sampler.items()
        }
        made = [t for t, d in grid.tests.items() if d.settings.get("test_source", {}).get("source") == "generated"]
        runs = [grid.runs[name] for name in one.runs]
        starts = {run.method: grid.runs[run.start_from] for run in runs if run.start_from}
        corpora = {method: start.task for method, start in starts.items() if start.corpus}
        return cls(runs[0].model.partition("/")[0], evaluation.temperature, steps, made, corpora)

    def to_json(self) -> str:
        """One line, as an argument of a step."""
        return json.dumps(asdict(self), sort_keys=True)
