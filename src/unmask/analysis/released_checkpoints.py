"""Table of released checkpoints: printed numbers, ours under both scoring protocols, and the gain over the base model.

A cell is a checkpoint on a task, at one length and number of denoising steps. Its base model was decoded in the same
job on the same problems, so the gain is paired; its interval, and those of the accuracies, are over test problems.
Printed numbers are next to ours whatever protocol they come from: no difference to them is formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from unmask.analysis.frames import select
from unmask.analysis.scores import PROTOCOLS, collect
from unmask.analysis.statistics import paired_interval, problem_interval
from unmask.analysis.tables import latex, markdown
from unmask.common.catalogue import sampler_name, task_name

BASE = "base"  # label of the base model's rows
CELL = ["sampler", "length"]
TITLE, QUESTION = "Released checkpoints", "What do released checkpoints score here, and how much more than their base?"
NOTE = (
    "Accuracy [%] with its 95 % interval over test problems; `published` scores as the papers do, `strict` as a "
    "careful reader does. Gain: checkpoint − base model [points], paired, both decoded in one job. Ours is the "
    "checkpoint as released; printed numbers follow their own protocol and choice of the checkpoint, so no difference "
    "to them is formed."
)


@dataclass(frozen=True)
class PrintedNumbers:
    """Numbers of one source, as config.yaml has them: task -> length or `unstated` -> percent."""

    source: str
    accuracy: dict[str, dict[str, float]]
    steps: str | None = None
    selection: str = "not stated"
    note: str = ""


@dataclass(frozen=True)
class Described:
    """What the table says of a checkpoint apart from its samples."""

    name: str
    method: str
    kind: str
    base: str
    place: str
    steps: dict[str, str]  # sampler -> denoising steps, `L` or `L/2`, where these are fixed
    printed: list[PrintedNumbers] = field(default_factory=list)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Described:
        """Return the description that a step gets as JSON."""
        return cls(**values | {"printed": [PrintedNumbers(**one) for one in values["printed"]]})


def cells(samples: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies, gains and their intervals [shares], a row per sampler and length, of one file of samples."""
    scores = collect([samples])
    rows = []
    for (sampler, length), group in scores[scores.method != BASE].groupby(CELL, sort=False):
        (ours,) = group.to_dict("records")
        (base,) = select(scores, method=BASE, sampler=sampler, length=length).to_dict("records")
        same = select(samples, sampler=sampler, length=length)
        row = {"task": ours["task"], "sampler": sampler, "length": length, "n": ours["n"]}
        for protocol in PROTOCOLS:
            low, high = problem_interval(ours[protocol], ours[f"{protocol}_error"], ours["n"])
            gain_low, gain_high = _gain_interval(same, protocol)
            row |= {
                protocol: ours[protocol],
                f"{protocol}_low": low,
                f"{protocol}_high": high,
                f"{protocol}_base": base[protocol],
                f"{protocol}_gain": ours[protocol] - base[protocol],
                f"{protocol}_gain_low": gain_low,
                f"{protocol}_gain_high": gain_high,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _gain_interval(samples: pd.DataFrame, protocol: str) -> tuple[float, float]:
    """Return the ends of the paired interval of the gain; NaN for a single problem."""
    graded = samples.set_index("example").sort_index()
    base = graded[graded.method == BASE]
    ours = graded[graded.method != BASE]
    # Under `published` a problem counts by its points, such as the blank cells of a board.
    weight = base["points"] / base["points"].mean() if protocol == "published" else 1.0
    better, worse = (np.asarray(one[protocol] * weight, dtype=float) for one in (ours, base))
    if len(better) < 2:
        return float("nan"), float("nan")
    return paired_interval(better, worse)


def texts(files: Sequence[pd.DataFrame], described: Sequence[Described]) -> dict[str, str]:
    """Return the table by file suffix, from a file of samples and a description of each checkpoint and task."""
    blocks = []
    rows = []
    for samples, one in zip(files, described, strict=True):
        found = cells(samples)
        blocks.append((_heading(one, found), _body(found, one)))
        for cell in found.to_dict("records"):
            rows += list(_records(cell, one))
    sources = _sources(described)
    note = f"{NOTE}\n\n{sources}" if sources else NOTE
    return {
        ".md": markdown(TITLE, QUESTION, note, blocks),
        ".tex": latex(TITLE, QUESTION, note.replace("\n\n", "\n% ").replace("\n- ", "\n% - "), blocks),
        ".csv": pd.DataFrame(rows).to_csv(index=False),
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return accuracies and gains as plain text, for rows that `evaluate_checkpoint` has just made."""
    body = []
    for cell in cells(pd.DataFrame(rows)).to_dict("records"):
        body.append({"decoding": sampler_name(cell["sampler"]), "L": cell["length"], "n": cell["n"]} | _measured(cell))
    table: str = pd.DataFrame(body).to_markdown(index=False, disable_numparse=True)
    return table


def _heading(one: Described, found: pd.DataFrame) -> str:
    kind = {"adapter": "adapter", "full": "all weights"}[one.kind]
    return f"{one.method} on {task_name(found.task.iloc[0])}: {one.place}, {kind}, base {one.base}"


def _body(found: pd.DataFrame, one: Described) -> pd.DataFrame:
    rows = []
    for cell in found.to_dict("records"):
        printed = list(_printed(cell, one))
        rows.append(
            {
                "Steps": _steps(cell, one),
                "L": str(cell["length"]),
                "n": str(cell["n"]),
                "Printed": "; ".join(f"{value:.1f}{remark}" for _, value, remark in printed) or "–",
                "Chosen": "; ".join(dict.fromkeys(numbers.selection for numbers, _, _ in printed)) or "–",
            }
            | _measured(cell)
        )
    return pd.DataFrame(rows)


def _measured(cell: dict[Any, Any]) -> dict[str, str]:
    """Return the columns of what was measured here, in percent and points."""
    found = {}
    for protocol in PROTOCOLS:
        found[f"Base, {protocol}"] = f"{100 * cell[f'{protocol}_base']:.1f}"
        found[f"Ours, {protocol}"] = _with_interval(cell, protocol, "")
        found[f"Gain, {protocol}"] = _with_interval(cell, f"{protocol}_gain", "+")
    return found


def _with_interval(cell: dict[Any, Any], key: str, sign: str) -> str:
    text = f"{100 * cell[key]:{sign}.1f}"
    if pd.isna(cell[f"{key}_low"]):
        return text
    return f"{text} [{100 * cell[f'{key}_low']:{sign}.1f}, {100 * cell[f'{key}_high']:{sign}.1f}]"


def _steps(cell: dict[Any, Any], one: Described) -> str:
    return one.steps.get(cell["sampler"]) or sampler_name(cell["sampler"])


def _printed(cell: dict[Any, Any], one: Described) -> Iterator[tuple[PrintedNumbers, float, str]]:
    """Yield the printed numbers of a cell, each with what its source leaves open."""
    for numbers in one.printed:
        by_length = numbers.accuracy.get(cell["task"], {})
        for length in (str(cell["length"]), "unstated"):
            other_steps = numbers.steps is not None and numbers.steps != one.steps.get(cell["sampler"])
            if length in by_length and not other_steps:
                open_ = [name for name, stated in (("L", length != "unstated"), ("steps", numbers.steps)) if not stated]
                yield numbers, by_length[length], f" ({' and '.join(open_)} not stated)" if open_ else ""


def _records(cell: dict[Any, Any], one: Described) -> Iterator[dict[str, Any]]:
    """Yield the rows of the CSV file: one per printed number of a cell, or one without any."""
    measured = {"checkpoint": one.name, "method": one.method, "kind": one.kind, "base": one.base, "place": one.place}
    measured |= {"steps": one.steps.get(cell["sampler"], "")} | cell
    printed = list(_printed(cell, one))
    for numbers, value, remark in printed:
        yield measured | {
            "printed": value,
            "printed_source": numbers.source,
            "printed_selection": numbers.selection,
            "printed_note": f"{numbers.note}{remark}".strip(),
        }
    if not printed:
        yield measured | {"printed": None, "printed_source": "", "printed_selection": "", "printed_note": ""}


def _sources(described: Sequence[Described]) -> str:
    """List the sources of printed numbers, each once, with what they say about themselves."""
    lines: dict[str, None] = {}  # distinct, in order
    for one in described:
        for numbers in one.printed:
            note = f"; {numbers.note}" if numbers.note else ""
            lines[f"- {numbers.source}; checkpoint: {numbers.selection}{note}"] = None
    return "\n".join(["Printed by:\n", *lines]) if lines else ""
