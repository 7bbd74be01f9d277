"""Scores as tables for reading: Markdown for the screen, LaTeX for a paper; the CSV holds the same numbers unrounded.

A block for each task, step mode and scoring protocol, so that nothing that may not be compared stands in one block.
"""

from __future__ import annotations

import pandas as pd

from unmask.names import method_name, sampler_name, task_name
from unmask.scores import PROTOCOLS


def blocks(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(heading, body) of each block; the body has a row a method and a column a length, in percent.

    The strict block is left out where it is equal to the published one.
    """
    made = []
    for (task, sampler), group in cells.groupby(["task", "sampler"], sort=False):
        same = (group["published"] == group["strict"]).all()
        for protocol in PROTOCOLS[: 1 if same else 2]:
            rule = "both scoring rules" if same else f"{protocol} scoring"
            heading = f"{task_name(task)}, {sampler_name(sampler)}, {rule}"
            made.append((heading, _body(group, protocol)))
    return made


def markdown(cells: pd.DataFrame, title: str, question: str) -> str:
    """The table as Markdown."""
    parts = [f"# {title}", question, note(cells)]
    for heading, body in blocks(cells):
        parts += [f"## {heading}", body.to_markdown(index=False, disable_numparse=True)]
    return "\n\n".join(parts) + "\n"


def latex(cells: pd.DataFrame, title: str, question: str) -> str:
    """The table as LaTeX, one booktabs tabular a block."""
    lines = [f"% {title}: {question}", f"% {note(cells)}"]
    for heading, body in blocks(cells):
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


def _body(group: pd.DataFrame, protocol: str) -> pd.DataFrame:
    rows = []
    for (method, variant), cells in group.groupby(["method", "variant"], sort=False):
        row = {"Method": method_name(method, variant)}
        for cell in cells.to_dict("records"):
            half = 100 * (cell[f"{protocol}_high"] - cell[protocol])
            spread = f" ± {half:.1f}" if half == half else ""
            row[f"L = {cell['length']}"] = f"{100 * cell[protocol]:.1f}{spread}"
        row["NFE"] = " / ".join(f"{nfe:.1f}" for nfe in cells["nfe"])
        rows.append(row)
    return pd.DataFrame(rows)


def _row(values: object) -> str:
    escaped = (str(v).replace("±", r"$\pm$").replace("_", r"\_").replace("%", r"\%") for v in values)
    return " & ".join(escaped) + r" \\"
