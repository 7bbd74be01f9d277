"""How a policy denoises one problem: the response after every forward pass, with the positions that it committed.

src/trace_denoising.py prints it, notebooks/denoising.ipynb shows it. It is decoded as in an evaluation, with the random
stream of the problem's first sample, so that the response is the one that the evaluation stores.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from unmask import tasks
from unmask.common.checksums import SUMS
from unmask.common.errors import InputError
from unmask.common.seeding import Seeds
from unmask.config.grid.grid import Grid
from unmask.config.specs import DataSpec, EvaluationSpec, RunSpec
from unmask.models.loading import check_base
from unmask.models.policy import Policy
from unmask.rl.generation import respond
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import Example, Grade, Task, grade_response, question_of
from unmask.tasks._examples import read_examples

MASKED = "·"  # a position that is still masked, in text
STYLE = (
    "<style>.denoising td{font-family:monospace;white-space:pre-wrap;vertical-align:top;padding:2px 8px}"
    ".denoising i{color:#aaa;font-style:normal}.denoising b{background:#fd8}</style>"
)


@dataclass(frozen=True)
class Loaded:
    """Policy with the test problems of a task and the evaluation that says how it decodes."""

    policy: Policy
    task: Task
    examples: list[Example]
    evaluation: EvaluationSpec
    seed: int


@dataclass(frozen=True)
class Denoising:
    """Response to one problem and the order in which its L tokens were committed."""

    question: str
    gold: str
    tokens: list[str]  # [L] text of each token of the response
    step: list[int]  # [L] forward pass (from 0) that committed it; `passes` if it was filled in after the end
    passes: int  # forward passes of the response
    text: str
    grade: Grade

    def frames(self) -> Iterator[tuple[int, list[int]]]:
        """Yield each forward pass with the positions that it committed; last, if any, those filled in after the end."""
        for number in range(max([*self.step, self.passes - 1]) + 1):
            yield number, [position for position, step in enumerate(self.step) if step == number]

    def _title(self, number: int, committed: list[int]) -> str:
        where = ", ".join(map(str, committed)) or "none"
        if number == self.passes:
            return f"after the end of text, without a pass: positions {where}"
        return f"pass {number}: positions {where}"

    def __str__(self) -> str:
        lines = [f"question: {self.question}", f"response of {len(self.tokens)} tokens in {self.passes} passes"]
        for number, committed in self.frames():
            shown = [_shown(self.tokens[p]) if s <= number else MASKED for p, s in enumerate(self.step)]
            for position in committed:
                shown[position] = f"[{shown[position]}]"
            lines += [self._title(number, committed), f"    {''.join(shown)}"]
        return "\n".join([*lines, self.verdict])

    @property
    def verdict(self) -> str:
        """Extracted and gold answer, and the grade under both protocols, in one line."""
        grade = self.grade
        return f"answer {grade.answer!r}, gold {self.gold!r}: published {grade.published:g}, strict {grade.strict:g}"

    def _repr_html_(self) -> str:
        """Return a table with a row for each pass, which notebooks show. What the model wrote is escaped."""
        rows = []
        for number, committed in self.frames():
            cells = []
            for position, step in enumerate(self.step):
                token = html.escape(_shown(self.tokens[position]))
                cells.append(f"<i>{MASKED}</i>" if step > number else f"<b>{token}</b>" if step == number else token)
            rows.append(f"<tr><td>{self._title(number, committed)}</td><td>{''.join(cells)}</td></tr>")
        head = f"<p>{html.escape(self.question)}</p>"
        return f"{STYLE}{head}<table class='denoising'>{''.join(rows)}</table><p>{html.escape(self.verdict)}</p>"

    def page(self) -> str:
        """Return a web page of its own, which loads nothing."""
        head = "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Denoising</title></head>"
        return f"{head}<body>{self._repr_html_()}</body></html>\n"


def load_run(folder: Path, evaluation: str = "papers") -> Loaded:
    """Load a finished run from its folder results/…/runs/METHOD/TASK/VARIANT/seed-N, with the files of its scale.

    Raises InputError that names a file which is missing or damaged.
    """
    run = RunSpec.read(folder / "spec.yaml")
    # The name of a run is its path below `runs`, so it also says where the folder of its scale is.
    root = folder.absolute().parents[len(Path(run.name).parts)]
    spec = EvaluationSpec.read(root / "evaluations" / evaluation / "spec.yaml")
    run = run.for_evaluation(spec)
    test = DataSpec.read(root / "data" / run.task / "test" / "spec.yaml")
    adapter = folder / "adapter" if run.trains else None
    if adapter and not adapter.is_dir():
        raise InputError(f"{adapter}: no such folder; the run is not finished. Run snakemake, or name another run.")
    weights = root / "models" / run.model / "weights"
    check_base(weights)
    policy = Policy.load(weights, adapter, **run.numbers)
    examples = read_examples(root / "data" / run.task / "test.parquet")
    return Loaded(policy, tasks.load_for_test(run.task, test), examples, spec, run.seed)


def load_weights(
    weights: Path, adapter: Path | None, task: str, grid: Grid, evaluation: str = "papers", seed: int = 0
) -> Loaded:
    """Load weights, and an adapter if given, with the test problems and the evaluation that a scale has for a task.

    Raises InputError if the scale has neither, or if a file is missing or damaged.
    """
    if task not in grid.tests:
        raise InputError(f"--task: scale {grid.scale} has no task {task!r}, only {', '.join(grid.tests)}")
    if evaluation not in grid.evaluations:
        raise InputError(f"--evaluation: scale {grid.scale} has no {evaluation!r}, only {', '.join(grid.evaluations)}")
    if (weights / SUMS).exists():  # weights from elsewhere have none
        check_base(weights)
    policy = Policy.load(weights, adapter)
    posed = tasks.load_for_test(task, grid.tests[task])
    try:
        examples = posed.splits()["test"]
    except ValueError as error:
        raise InputError(f"tasks.{task}: {error}; `make data` fetches the stored test sets") from error
    return Loaded(policy, posed, examples, grid.evaluations[evaluation], seed)


def denoise(
    loaded: Loaded, problem: int, sampler: str = "", length: int = 0, temperature: float | None = None
) -> Denoising:
    """Decode one test problem (from 0) as the evaluation does; by default with its first sampler, length, temperature.

    Raises InputError that says what there is if the problem, the sampler or the length does not exist.
    """
    spec, policy, examples = loaded.evaluation, loaded.policy, loaded.examples
    sampler, length = sampler or next(iter(spec.samplers)), length or spec.lengths[0]
    settings = _settings(spec, sampler, length, temperature)
    if not 0 <= problem < len(examples):
        raise InputError(f"--problem: {problem} is not between 0 and {len(examples) - 1}")

    # Streams and prompts of all problems, as in an evaluation: under `mask_padding: false` a prompt sees its padding.
    seeds = Seeds(("evaluate", loaded.seed))
    policy.add_head(settings.sampler, seeds.number("head"))
    streams = seeds.streams(sampler, length, rows=torch.arange(len(examples), device=policy.model.device))
    share = slice(problem, problem + 1)
    made, (text,) = respond(policy, loaded.task, examples, settings, streams, share)

    example, (judged,) = examples[problem], policy.judged([text])
    return Denoising(
        question=question_of(example),
        gold=str(example["answer"]),
        tokens=policy.texts(made.response.T),
        step=made.unmask_step[0].tolist(),
        passes=int(made.nfe[0]),
        text=text,
        grade=grade_response(loaded.task, judged, example),
    )


def _settings(spec: EvaluationSpec, sampler: str, length: int, temperature: float | None) -> DecodingSettings:
    """Return the evaluation's decoding settings with these choices, after a check of each."""
    if sampler not in spec.samplers:
        raise InputError(f"--sampler: {spec.name} has no {sampler!r}, only {', '.join(spec.samplers)}")
    if length < 1 or length % spec.block_length:
        raise InputError(f"--length: {length} is no multiple of the block length {spec.block_length}")
    temperature = spec.temperature if temperature is None else temperature
    if not temperature >= 0:
        raise InputError(f"--temperature: {temperature} is not 0 or above")
    return DecodingSettings(
        length=length,
        block_length=spec.block_length,
        sampler=spec.samplers[sampler],
        temperature=temperature,
        rows_per_batch=spec.rows_per_batch,
        mask_padding=spec.mask_padding,
    )


def _shown(token: str) -> str:
    """Return a token as one line."""
    return token.replace("\n", "⏎").replace("\r", "␍")
