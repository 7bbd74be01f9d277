"""Evaluation protocol of an experiment: everything that must match before a published number is compared with ours.

Torch-free, because the workflow's controller reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from unmask.analysis.paper_evaluations import problems_of, prompt_of
from unmask.config.grid.grid import Grid


@dataclass(frozen=True)
class Protocol:
    """Base model, decoding, test problems, prompts and first stages of our evaluation."""

    model: str
    temperature: float
    steps: dict[str, str]  # sampler -> denoising steps of a response of L tokens, `L` or `L/2`, if fixed
    generated: list[str]  # tasks whose test problems we generate
    first_stages: dict[str, str] = field(default_factory=dict)  # method -> corpus of its first stage
    orders: dict[str, str] = field(default_factory=dict)  # sampler -> order of positions, if not by confidence
    problems: dict[str, str] = field(default_factory=dict)  # task -> test problems, as published_tests names them
    prompts: dict[str, str] = field(default_factory=dict)  # task -> SHA-256 of its prompt file; "" for our wording
    block_length: int = 0
    mask_padding: bool = True
    top_p: dict[str, float] = field(default_factory=dict)  # sampler -> top_p, if not 1

    @classmethod
    def of(cls, grid: Grid, experiment: str) -> Protocol:
        """Return the protocol of an experiment that evaluates samples (a diagnosis has none)."""
        one = grid.experiments[experiment]
        evaluation = grid.evaluations[one.evaluation_stem.removeprefix("samples-")]

        # Only plain top-k decoding has a fixed number of steps. A cache, guidance or forbidden tokens make it another
        # decoder: such samplers get no steps, so that they match no published number.
        fixed = {"rule": "top_k", "cache": "none", "guidance": 0.0, "forbidden": []}
        plain = {name: one for name, one in evaluation.samplers.items() if fixed.items() <= one.items()}
        counts = {name: one["tokens_per_step"] for name, one in plain.items()}
        steps = {name: "L" if count == 1 else f"L/{count}" for name, count in counts.items()}
        orders = {name: one["score"] for name, one in plain.items() if one["score"] != "confidence"}
        nuclei = {name: one["top_p"] for name, one in plain.items() if one.get("top_p", 1.0) != 1.0}

        problems = {task: problems_of(data.settings) for task, data in grid.tests.items()}
        prompts = {task: prompt_of(data.settings) for task, data in grid.tests.items()}
        made = [t for t, d in grid.tests.items() if d.settings.get("test_source", {}).get("source") == "generated"]

        # A first stage can match the papers' only if it learns a corpus, not the demonstrations of the task itself.
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
        """Return one line of JSON, as an argument of a step."""
        return json.dumps(asdict(self), sort_keys=True)
