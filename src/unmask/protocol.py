"""How an experiment's policies are examined: what has to be equal before a printed number may be compared with ours.

Torch-free, because the workflow's controller reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from unmask.grid.work import Grid
from unmask.published_tests import problems_of, prompt_of


@dataclass(frozen=True)
class Protocol:
    """The base model's name, the decoding, the tasks whose test problems we made ourselves, and first stages."""

    model: str
    temperature: float
    steps: dict[str, str]  # sampler -> denoising steps of a response of L tokens, `L` or `L/2`, where that is fixed
    generated: list[str]
    first_stages: dict[str, str] = field(default_factory=dict)  # method -> the corpus that its first stage learns
    orders: dict[str, str] = field(default_factory=dict)  # sampler -> order of the positions, where not by confidence
    problems: dict[str, str] = field(default_factory=dict)  # task -> its test problems, as published_tests names them
    prompts: dict[str, str] = field(default_factory=dict)  # task -> the SHA-256 of the prompt; nothing for our wording
    block_length: int = 0
    mask_padding: bool = True
    top_p: dict[str, float] = field(default_factory=dict)  # sampler -> mass of its nucleus, where that is not all

    @classmethod
    def of(cls, grid: Grid, experiment: str) -> Protocol:
        """The protocol of an experiment that examines samples."""
        one = grid.experiments[experiment]
        evaluation = grid.evaluations[one.examined.removeprefix("samples-")]
        fixed = {"rule": "top_k", "cache": "none", "guidance": 0.0, "forbidden": []}
        plain = {name: one for name, one in evaluation.samplers.items() if fixed.items() <= one.items()}
        counts = {name: one["tokens_per_step"] for name, one in plain.items()}
        steps = {name: "L" if count == 1 else f"L/{count}" for name, count in counts.items()}
        orders = {name: one["score"] for name, one in plain.items() if one["score"] != "confidence"}
        nuclei = {name: one["top_p"] for name, one in plain.items() if one.get("top_p", 1.0) != 1.0}
        problems = {task: problems_of(data.settings) for task, data in grid.tests.items()}
        prompts = {task: prompt_of(data.settings) for task, data in grid.tests.items()}
        made = [t for t, d in grid.tests.items() if d.settings.get("test_source", {}).get("source") == "generated"]
        runs = [grid.runs[name] for name in one.runs]
        starts = {run.method: grid.runs[run.start_from] for run in runs if run.start_from}
        corpora = {method: start.task for method, start in starts.items() if start.corpus}
        return cls(
            runs[0].model.partition("/")[0],
            evaluation.temperature,
            steps,
            made,
            corpora,
            orders,
            problems,
            prompts,
            evaluation.block_length,
            evaluation.mask_padding,
            nuclei,
        )

    def to_json(self) -> str:
        """One line, as an argument of a step."""
        return json.dumps(asdict(self), sort_keys=True)
