"""Published numbers next to ours: which are comparable, which are not, and why.

A published number is shown with one of our cells if method, task and generation length are the same. The difference Δ
is formed only if the protocol is the same too: base model, test problems, prompt, denoising steps and their order,
blocks, temperature, top_p, padding, metric, and scoring `published`. Otherwise the number is in parentheses, with what
differs. If the evaluation behind a number is unknown, problems and prompt count as different. Numbers of other base
models get a separate table. Each number comes with how its checkpoint was chosen, which is worth some points too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.frames import select
from unmask.analysis.paper_entries import Paper, paper_of
from unmask.analysis.paper_evaluations import EVALUATIONS
from unmask.analysis.yaml_entries import read_entries
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError
from unmask.config.schema.types import Name, NonNegative, Section
from unmask.methods import method_name

Percent = Annotated[float, Field(ge=0, le=100)]
Lengths = dict[int | Literal["unstated"], Percent]


@dataclass(frozen=True)
class Row:
    """Published number [percent], with what is known of its evaluation; "" for what is not."""

    source: str
    model: str
    steps: str
    temperature: float
    order: str
    differs: str
    method: str
    task: str
    first_stage: str
    length: int | str
    paper: float
    evaluation: str
    metric: str
    selection: str


class Entry(Section):
    """Entry of published_results.yaml: numbers of one table that share model and decoding."""

    source: str
    model: Name
    steps: Literal["L", "L/2"] | None = None
    temperature: NonNegative = 0.0
    order: Literal["confidence", "entropy", "unstated"] = "confidence"
    first_stage: Name | None = None
    evaluation: Literal["d1", "dmpo_dream"] | None = None
    metric: Literal["accuracy", "reward", "pass@k"] = "accuracy"
    differs: dict[Name, str] = Field(default={})
    methods: dict[Name, dict[Name, Lengths]] = Field(min_length=1)


def read(path: Path, papers: Sequence[Paper]) -> pd.DataFrame:
    """Read published_results.yaml, one row per number [percent]; `papers` know how checkpoints were chosen.

    Raises InputError that names each wrong entry, and each source that is none of the papers.
    """
    rows: list[Row] = []
    for values in read_entries(path, Entry, _place):
        entry = Entry(**values)
        paper = paper_of(entry.source, papers)
        if paper is None:
            raise InputError(f"{path}: {entry.source} is none of the papers; add it to workflow/resources/papers.yaml")
        rows += _rows(entry, paper)
    return pd.DataFrame(rows)


def _place(number: int, entry: Any) -> str:
    match entry:
        case {"source": source} if source:
            return f"entry {number} ({source})"
        case _:
            return f"entry {number}"


def _rows(entry: Entry, paper: Paper) -> Iterator[Row]:
    """Yield a row for each number of an entry, which is of a paper."""
    for method, tasks in entry.methods.items():
        for task, lengths in tasks.items():
            # What differs on one task replaces what differs on all.
            differs = entry.differs.get(task) or entry.differs.get("all", "")
            # A base model has no checkpoints to choose from.
            selection = "" if method == "base" else paper.selection
            for length, accuracy in lengths.items():
                yield Row(
                    source=entry.source,
                    model=entry.model,
                    steps=entry.steps or "",
                    temperature=entry.temperature,
                    order=entry.order,
                    differs=differs,
                    method=method,
                    task=task,
                    first_stage=entry.first_stage or "",
                    length=length,
                    paper=accuracy,
                    evaluation=entry.evaluation or "",
                    metric=entry.metric,
                    selection=selection,
                )


@dataclass(frozen=True)
class Printed:
    """Published number [percent] shown with one of our cells: source, what differs, and choice of the checkpoint."""

    paper: float | None = None
    paper_source: str = ""
    paper_differs: str = ""
    paper_selection: str = ""


def join_published(cells: pd.DataFrame, printed: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Add published numbers to the cells: `paper` [percent], its `paper_source` and `delta` [points], ours − theirs.

    `paper_differs` says how the protocols differ, "" if they match; `delta` is NaN unless they do. `paper_selection`
    says how the checkpoint was chosen, "" for a base model. Of several numbers the one that differs least is taken.
    Without numbers of our base model the columns are empty.
    """
    ours = select(printed, model=protocol.model)
    rows = [_closest(cell, ours, protocol) for cell in cells.itertuples(index=False)]
    found = pd.DataFrame(rows, index=cells.index)

    delta = 100 * cells["published"] - found["paper"].astype(float)
    comparable = found["paper_differs"] == ""
    return cells.join(found).assign(delta=delta.where(comparable))


def _closest(cell: Any, printed: pd.DataFrame, protocol: Protocol) -> Printed:
    """Return the published number that differs least from a cell (a row of `itertuples`), if there is any."""
    # Papers print default variants; a cell of an ablation has no counterpart.
    if cell.variant != "default":
        return Printed()

    same = select(printed, method=cell.method, task=cell.task, length=cell.length)
    closest = Printed()
    fewest = math.inf
    for record in same.to_dict("records"):
        row = Row(**record)
        reasons = differences(row, cell.sampler, protocol)
        if len(reasons) < fewest:
            fewest = len(reasons)
            closest = Printed(row.paper, row.source, "; ".join(reasons), row.selection)
    return closest


def differences(row: Row, sampler: str, protocol: Protocol) -> list[str]:
    """Return all differences of protocol between a published number and ours; empty if they are comparable."""
    why = []
    if row.model != protocol.model:
        why.append(f"its base model is {row.model}")
    if not row.steps:
        why.append("its denoising steps are not stated")
    elif row.steps != protocol.steps.get(sampler):
        why.append(f"decoded in {row.steps} steps")
    if row.temperature != protocol.temperature:
        why.append(f"decoded at temperature {row.temperature}, ours at {protocol.temperature}")

    # "unstated" is never taken for our order, nor missing steps for ours: only stated settings can match.
    order = protocol.orders.get(sampler, "confidence")
    if row.order == "unstated":
        why.append("the order of its positions is not stated")
    elif row.order != order:
        why.append(f"decoded in the order of {row.order}, ours of {order}")

    why += _other_test(row.evaluation, row.task, protocol)
    why += _other_draws(row.evaluation, row.temperature, sampler, protocol)
    if row.metric != "accuracy":
        why.append(f"it is a mean {row.metric}, not an accuracy")
    if row.first_stage and row.first_stage != protocol.first_stages.get(row.method):
        first = task_name(row.first_stage)
        why.append(f"trained on {first} first; here the first stage is SFT on the demonstrations of the task itself")
    if row.differs:
        why.append(row.differs)
    return why


def _other_test(name: str, task: str, protocol: Protocol) -> list[str]:
    """Return the differences of the test behind a number: problems, prompt, blocks."""
    known = EVALUATIONS.get(name)
    why = []
    if task in protocol.generated:
        why.append("our test problems are generated")
    elif known is None:
        why.append("its test problems are not known to be ours")
    elif protocol.problems.get(task) not in known.problems.get(task, ()):
        why.append("other test problems")

    if known is None:
        why.append("its prompt is not known to be ours")
        return why
    if protocol.prompts.get(task, "") != known.prompts.get(task):
        why.append("another prompt")
    if known.block_length not in (None, protocol.block_length):
        why.append(f"decoded in blocks of {known.block_length}, ours of {protocol.block_length}")
    return why


def _other_draws(
    name: str,
    temperature: float,
    sampler: str,
    protocol: Protocol,
) -> list[str]:
    """Return the differences in drawing responses: padding and, unless decoding is greedy, top_p."""
    known = EVALUATIONS.get(name)
    if known is None:  # `_other_test` has already said so
        return []
    why = []
    if known.mask_padding and not protocol.mask_padding:
        why.append("with padding masked, ours not")
    if protocol.mask_padding and not known.mask_padding:
        why.append("with padding not masked, ours masked")
    ours = protocol.top_p.get(sampler, 1.0)
    if temperature > 0 and known.top_p != ours:
        why.append(f"drawn with top_p {known.top_p:g}, ours with {ours:g}")
    return why


def apart(cells: pd.DataFrame, printed: pd.DataFrame, protocol: Protocol) -> tuple[str, pd.DataFrame] | None:
    """Return heading and body of a block with published numbers of other base models; None without any.

    It has the methods and tasks of `cells` only.
    """
    same_task = printed.task.isin(cells.task)
    same_method = printed.method.isin(cells.method)
    other_model = printed.model != protocol.model
    others = printed[same_task & same_method & other_model]
    if others.empty:
        return None
    body = wide(others, ["Task", "Method", "Model", "Steps", "Checkpoint", "Source"])
    heading = f"Published: models of 7 to 8 billion parameters, not `{protocol.model}`, so no differences are formed"
    return heading, body


def wide(printed: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Return printed numbers as text, a row for each combination of the labels and a column for each length."""
    named = printed.assign(
        Source=printed.source,
        Model=printed.model,
        Steps=printed.steps.replace("", "not stated"),
        Metric=printed.metric.replace("reward", "mean reward"),
        Checkpoint=printed.selection.replace("", "–"),
        Task=printed.task.map(task_name),
        Method=printed.method.map(method_name),
        Column=printed.length.map(_column),
    )

    # Numbers without a stated length get a column, too, the last. Rows keep the file's order within task and method.
    lengths = sorted(set(printed.length), key=lambda length: math.inf if length == "unstated" else length)
    columns = [_column(length) for length in lengths]
    rows = named[labels].drop_duplicates()
    rows = rows.sort_values(["Task", "Method"], kind="stable")
    pivoted = named.pivot(index=labels, columns="Column", values="paper")
    in_order = pivoted[columns].reindex(pd.MultiIndex.from_frame(rows))
    return in_order.map(_percent).reset_index()


def _column(length: int | str) -> str:
    return "L not stated" if length == "unstated" else f"L = {length}"


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1f}"
