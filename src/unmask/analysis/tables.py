"""Scores as tables: Markdown for the screen, LaTeX for papers, and CSV with the same numbers unrounded.

There is a block for each task, sampler and scoring protocol, so that all numbers of a block are comparable. Where
samplers are compared, there is one for each task, method and protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.paper_results import apart, join_published
from unmask.analysis.scores import PROTOCOLS, over_seeds, steps_over_seeds
from unmask.common.catalogue import method_name, sampler_name, task_name

Blocks = list[tuple[str, pd.DataFrame]]  # heading and body


def blocks(cells: pd.DataFrame, rows: str = "methods", temperature: float = 0.0) -> tuple[str, Blocks]:
    """Return a note on how to read the scores, and blocks in percent: a row per method or sampler, a column per length.

    The strict block is left out if it equals the published one. `temperature` is that of decoding.
    """
    named = cells.assign(
        Method=[method_name(m, v) for m, v in zip(cells["method"], cells["variant"], strict=True)],
        Sampler=cells["sampler"].map(sampler_name),
    )
    # Rows are what the experiment compares; the other of the two goes into the heading.
    row, of = ("Method", "Sampler") if rows == "methods" else ("Sampler", "Method")
    made = []
    for (task, other), group in named.groupby(["task", of], sort=False):
        same = (group["published"] == group["strict"]).all()
        for protocol in PROTOCOLS[: 1 if same else 2]:
            rule = "both scoring rules" if same else f"{protocol} scoring"
            made.append((f"{task_name(task)}, {other}, {rule}", _body(group, row, protocol)))
    return note(cells, temperature) + _footnotes(cells), made


def stepwise(cells: pd.DataFrame) -> tuple[str, Blocks]:
    """Return note and blocks for the gaps of surrogates by quarter of the denoising steps, a row per surrogate."""
    made = []
    for (task, method, variant), group in cells.groupby(["task", "method", "variant"], sort=False):
        body = []
        for surrogate, line in group.groupby("surrogate", sort=False):
            row = {"Surrogate": surrogate.replace("_", " ")}
            for cell in line.to_dict("records"):
                # NaN does not equal itself: a single seed has no interval.
                spread = f" ± {cell['high'] - cell['kl']:.3f}" if cell["high"] == cell["high"] else ""
                row[f"quarter {cell['quarter']}"] = f"{cell['kl']:.3f}{spread}{_of_planned(cell)}"
            body.append(row)
        made.append((f"{task_name(task)}, {method_name(method, variant)}", pd.DataFrame(body)))
    seeds = "/".join(map(str, sorted(cells["seeds"].unique())))
    return (
        f"KL(true conditional ‖ surrogate) in nats a token, by quarter of the denoising steps; mean over {seeds} seeds "
        "± half of the 95 % interval (Student's t over seeds)."
    ), made


def texts(
    scores: pd.DataFrame, title: str, question: str, rows: str, printed: pd.DataFrame, protocol: Protocol | None
) -> dict[str, str]:
    """Return the contents of an experiment's table by file suffix; `protocol` is None for a diagnosis."""
    if protocol is None:
        cells = steps_over_seeds(scores)
        note, found = stepwise(cells)
    else:
        cells = with_printed(join_published(over_seeds(scores), printed, protocol))
        note, found = blocks(cells, rows, protocol.temperature)
        others = apart(cells, printed, protocol)
        found += [others] if others else []
    return {
        ".md": markdown(title, question, note, found),
        ".tex": latex(title, question, note, found),
        ".csv": cells.to_csv(index=False),
    }


def markdown(title: str, question: str, note: str, blocks: Blocks) -> str:
    """Render the table as Markdown."""
    parts = [f"# {title}", question, note]
    for heading, body in blocks:
        # Numbers are formatted already; tabulate would parse and reformat them.
        parts += [f"## {heading}", body.to_markdown(index=False, disable_numparse=True)]
    return "\n\n".join(parts) + "\n"


def latex(title: str, question: str, note: str, blocks: Blocks) -> str:
    """Render the table as LaTeX, one booktabs tabular per block; title, question and note are comments."""
    lines = [f"% {title}: {question}", f"% {note}"]
    for heading, body in blocks:
        columns = "l" + "r" * (body.shape[1] - 1)
        lines += ["", f"% {heading}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(body.columns), r"\midrule"]
        lines += [_row(row) for row in body.itertuples(index=False)]
        lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def note(cells: pd.DataFrame, temperature: float = 0.0) -> str:
    """Say how to read the numbers."""
    # Base models that are evaluated once have no seeds to count.
    once = cells["interval"] == "problems" if "interval" in cells else pd.Series(False, index=cells.index)
    seeds = _several(cells.loc[~once, "seeds"])
    said = []
    if seeds:
        t = f"mean over {seeds} seeds ± half of the 95 % interval (Student's t over seeds)"
        said.append("one seed, so no interval over seeds" if seeds == "1" else t)
    if once.any():
        said.append(_once(cells[once], temperature))
    return (
        f"Percent, {'; '.join(said)}; {_several(cells['n'])} test examples a run; NFE is the mean number of forward "
        "passes for a response."
    )


def _once(cells: pd.DataFrame, temperature: float) -> str:
    """Say what the brackets after a base model's numbers are."""
    # Only greedy decoding would give the same answers again.
    what = "deterministic evaluation" if temperature == 0 else "evaluation"
    pooled = (cells["published"] != cells["strict"]).any()
    boards = "; where cells of a board are pooled, the boards are the problems" if pooled else ""
    return (
        f"base model: one {what}, in brackets its 95 % binomial interval (Wilson) over {_several(cells['n'])} problems"
        f"{boards}"
    )


def _several(values: pd.Series) -> str:
    """Join the distinct values in order, as `128/500`."""
    return "/".join(map(str, sorted(values.unique())))


def _of_planned(cell: dict[Any, Any]) -> str:
    """Say how many seeds a cell has if more are planned, else ""."""
    planned = cell.get("planned", cell["seeds"])
    return f" ({cell['seeds']} of {planned} seeds)" if cell["seeds"] < planned else ""


def _score(cell: dict[Any, Any], protocol: str) -> str:
    """Format a score: `70.1 ± 3.2` over seeds, `70.1 [61.2, 77.8]` over problems, `70.1` without an interval."""
    # Wilson's interval is not symmetric, so both ends are printed.
    mean, low, high = (100 * cell[name] for name in (protocol, f"{protocol}_low", f"{protocol}_high"))
    if cell.get("interval") == "problems":
        return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    spread = f" ± {100 * (cell[f'{protocol}_high'] - cell[protocol]):.1f}" if high == high else ""
    return f"{mean:.1f}{spread}{_of_planned(cell)}"


def _body(group: pd.DataFrame, label: str, protocol: str) -> pd.DataFrame:
    rows = []
    for name, cells in group.groupby(label, sort=False):
        row = {label: name}
        for cell in cells.to_dict("records"):
            row[f"L = {cell['length']}"] = _score(cell, protocol)
        row["NFE"] = " / ".join(f"{nfe:.1f}" for nfe in cells["nfe"])
        if protocol == "published" and "paper" in cells:
            row |= {f"paper, L = {cell['length']}": cell["printed"] for cell in cells.to_dict("records")}
        rows.append(row)
    body = pd.DataFrame(rows).fillna("")
    # Lengths without a published number need no column for it.
    return body.loc[:, (body != "").any()]


def with_printed(cells: pd.DataFrame) -> pd.DataFrame:
    """Add `printed` to the cells of `paper_results.join_published`: the published number with its Δ, or in parentheses.

    A number in brackets refers to the reason in the footnotes.
    """
    reasons = _reasons(cells)
    texts = [
        "" if cell["paper"] != cell["paper"]
        else f"{cell['paper']:.1f} (Δ {cell['delta']:+.1f})" if cell["paper_differs"] == ""
        else f"({cell['paper']:.1f}) [{1 + reasons.index(cell['paper_differs'])}]"
        for cell in cells.assign(paper=cells["paper"].astype(float)).to_dict("records")
    ]  # fmt: skip
    return cells.assign(printed=texts)


def _reasons(cells: pd.DataFrame) -> list[str]:
    return [reason for reason in cells["paper_differs"].unique() if reason]


def _footnotes(cells: pd.DataFrame) -> str:
    if "paper" not in cells or cells["paper"].isna().all():
        return ""
    why = "".join(f" [{i}] {reason}." for i, reason in enumerate(_reasons(cells), 1))
    return (
        " Paper: what the papers print, Δ ours minus theirs in points; in parentheses, and without Δ, where the "
        f"protocol is another:{why or ' nowhere here.'}{_selections(cells)}"
    )


def _selections(cells: pd.DataFrame) -> str:
    """Say how the checkpoints behind the published numbers were chosen, by source."""
    chosen = cells.loc[cells["paper_selection"].fillna("") != "", ["paper_source", "paper_selection"]].drop_duplicates()
    if chosen.empty:
        return ""
    said = "; ".join(f"{source}: {how}" for source, how in chosen.itertuples(index=False))
    return f" How the printed checkpoints were chosen: {said}."


def _row(values: Iterable[object]) -> str:
    escaped = (str(v).replace("±", r"$\pm$").replace("_", r"\_").replace("%", r"\%") for v in values)
    return " & ".join(escaped) + r" \\"
