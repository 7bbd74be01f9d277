"""Evaluation protocol of an experiment: everything that must match before a published number is compared with ours.

Torch-free, because the workflow's controller reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from unmask.analysis.paper_evaluations import problems_of, prompt_of
from unmask.config.grid.grid import Grid
from unmask.config.schema.samplers import Sampler, TopK
from unmask.config.schema.types import GeneratedData


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
        planned = grid.experiments[experiment]
        evaluation = grid.evaluations[planned.evaluation_stem.removeprefix("samples-")]
        runs = [grid.runs[name] for name in planned.runs]

        # Only plain top-k decoding has a fixed number of steps. A cache, guidance or forbidden tokens make it another
        # decoder: such samplers get no steps, so that they match no published number.
        steps: dict[str, str] = {}
        orders: dict[str, str] = {}
        top_p: dict[str, float] = {}
        for name, sampler in evaluation.samplers.items():
            fixed = fixed_steps(sampler)
            if fixed is None or not isinstance(sampler, TopK):
                continue
            steps[name] = fixed
            if sampler.score != "confidence":
                orders[name] = sampler.score
            if sampler.top_p != 1.0:
                top_p[name] = sampler.top_p

        # A first stage can match the papers' only if it learns a corpus, not the demonstrations of the task itself.
        first_stages = {}
        for run in runs:
            if run.start_from is None:
                continue
            first = grid.runs[run.start_from]
            if first.corpus:
                first_stages[run.method] = first.task

        generated = []
        problems = {}
        prompts = {}
        for task, data in grid.tests.items():
            problems[task] = f"{problems_of(data)}{grid.ending}"
            prompts[task] = prompt_of(data)
            if isinstance(data.test_source, GeneratedData):
                generated.append(task)
        return cls(
            model=runs[0].model.partition("/")[0],
            temperature=evaluation.temperature,
            steps=steps,
            generated=generated,
            first_stages=first_stages,
            orders=orders,
            problems=problems,
            prompts=prompts,
            block_length=evaluation.block_length,
            mask_padding=evaluation.mask_padding,
            top_p=top_p,
        )

    def to_json(self) -> str:
        """Return one line of JSON, as an argument of a step."""
        return json.dumps(asdict(self), sort_keys=True)


def fixed_steps(sampler: Sampler) -> str | None:
    """Return the denoising steps for L tokens, `L` or `L/k`, of plain top-k decoding; None for any other sampler."""
    plain = sampler.cache == "none" and not sampler.guidance and not sampler.forbidden
    if not isinstance(sampler, TopK) or not plain:
        return None
    return "L" if sampler.tokens_per_step == 1 else f"L/{sampler.tokens_per_step}"
