"""Scores as tables for reading: Markdown for the screen, LaTeX for a paper; the CSV holds the same numbers unrounded.

A block for each task, sampler and scoring protocol, so that nothing that may not be compared stands in one block; or,
where samplers are what is compared, a block for each task, method and protocol.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from unmask.names import method_name, sampler_name, task_name
from unmask.scores import PROTOCOLS

Blocks = list[tuple[str, pd.DataFrame]]  # heading and body


def blocks(cells: pd.DataFrame, rows: str = "methods") -> tuple[str, Blocks]:
    """How to read the scores, and their blocks: a row a method or sampler, a column a length, in percent.

    The strict block is left out where it is equal to the published one.
    """
    named = cells.assign(
        Method=[method_name(m, v) for m, v in zip(cells["method"], cells["variant"], strict=True)],
        Sampler=cells["sampler"].map(sampler_name),
    )
    row, of = ("Method", "Sampler") if rows == "methods" else ("Sampler", "Method")
    made = []
    for (task, other), group in named.groupby(["task", of], sort=False):
        same = (group["published"] == group["strict"]).all()
        for protocol in PROTOCOLS[: 1 if same else 2]:
            rule = "both scoring rules" if same else f"{protocol} scoring"
            made.append((f"{task_name(task)}, {other}, {rule}", _body(group, row, protocol)))
    return note(cells) + _footnotes(cells), made


def stepwise(cells: pd.DataFrame) -> tuple[str, Blocks]:
    """The gaps of surrogates by quarter of the denoising: a block a task and method, a row a surrogate."""
    made = []
    for (task, method, variant), group in cells.groupby(["task", "method", "variant"], sort=False):
        body = []
        for surrogate, line in group.groupby("surrogate", sort=False):
            row = {"Surrogate": surrogate.replace("_", " ")}
            for cell in line.to_dict("records"):
                spread = f" ± {cell['high'] - cell['kl']:.3f}" if cell["high"] == cell["high"] else ""
                row[f"quarter {cell['quarter']}"] = f"{cell['kl']:.3f}{spread}"
            body.append(row)
        made.append((f"{task_name(task)}, {method_name(method, variant)}", pd.DataFrame(body)))
    seeds = "/".join(map(str, sorted(cells["seeds"].unique())))
    return (
        f"KL(true conditional ‖ surrogate) in nats a token, by quarter of the denoising steps; mean over {seeds} seeds "
        "± half of the 95 % interval (Student's t over seeds)."
    ), made


def markdown(title: str, question: str, note: str, blocks: Blocks) -> str:
    """The table as Markdown."""
    parts = [f"# {title}", question, note]
    for heading, body in blocks:
        parts += [f"## {heading}", body.to_markdown(index=False, disable_numparse=True)]
    return "\n\n".join(parts) + "\n"


def latex(title: str, question: str, note: str, blocks: Blocks) -> str:
    """The table as LaTeX, one booktabs tabular a block."""
    lines = [f"% {title}: {question}", f"% {note}"]
    for heading, body in blocks:
        columns = "l" + "r" * (body.shape[1] - 1)
        lines += ["", f"% {heading}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(body.columns), r"\midrule"]
        lines += [_row(row) for row in body.itertuples(index=False)]
        lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def note(cells: pd.DataFrame) -> str:
    """How to read the numbers."""
    seeds, n = sorted(cells["seeds"].unique()), sorted(cells["n"].unique())
    return (
        f"Percent, mean over {'/'.join(map(str, seeds))} seeds ± half of the 95 % interval (Student's t over seeds); "
        f"{'/'.join(map(str, n))} test examples a run; NFE is the mean number of forward passes for a response."
    )


def _body(group: pd.DataFrame, label: str, protocol: str) -> pd.DataFrame:
    rows = []
    for name, cells in group.groupby(label, sort=False):
        row = {label: name}
        for cell in cells.to_dict("records"):
            half = 100 * (cell[f"{protocol}_high"] - cell[protocol])
            spread = f" ± {half:.1f}" if half == half else ""
            row[f"L = {cell['length']}"] = f"{100 * cell[protocol]:.1f}{spread}"
        row["NFE"] = " / ".join(f"{nfe:.1f}" for nfe in cells["nfe"])
        if protocol == "published" and "paper" in cells:
            row |= {f"paper, L = {cell['length']}": cell["printed"] for cell in cells.to_dict("records")}
        rows.append(row)
    body = pd.DataFrame(rows).fillna("")
    return body.loc[:, (body != "").any()]  # no columns for lengths of which nothing is printed


def with_printed(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of published.beside with `printed`, the text of a printed number: with its Δ, or in parentheses.

    The number in brackets is that of the reason in the footnotes.
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
        f"protocol is another:{why or ' nowhere here.'}"
    )


def _row(values: Iterable[object]) -> str:
    escaped = (str(v).replace("±", r"$\pm$").replace("_", r"\_").replace("%", r"\%") for v in values)
    return " & ".join(escaped) + r" \\"
