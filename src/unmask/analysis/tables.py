"""Scores as tables: Markdown for the screen, LaTeX for papers, and CSV with the same numbers unrounded.

There is a block for each task, sampler and scoring protocol, so that all numbers of a block are comparable. Where
samplers are compared, there is one for each task, method and protocol.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from unmask.analysis import diversity
from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.formatting import Cell, of_planned, spread
from unmask.analysis.frames import distinct
from unmask.analysis.paper_results import apart, join_published
from unmask.analysis.scores import PROTOCOLS, over_seeds, steps_over_seeds
from unmask.common.catalogue import sampler_name, task_name
from unmask.methods import method_name

Blocks = list[tuple[str, pd.DataFrame]]  # heading and body


def blocks(cells: pd.DataFrame, rows: str = "methods", temperature: float = 0.0) -> tuple[str, Blocks]:
    """Return a note on how to read the scores, and blocks in percent: a row per method or sampler, a column per length.

    The strict block is left out if it equals the published one. `temperature` is that of decoding.
    """
    policies = zip(cells.method, cells.variant, strict=True)
    named = cells.assign(
        Method=[method_name(method, variant) for method, variant in policies],
        Sampler=cells.sampler.map(sampler_name),
    )

    # Rows are what the experiment compares; the other of the two goes into the heading.
    row, other = "Method", "Sampler"
    if rows != "methods":
        row, other = "Sampler", "Method"
    made = []
    for (task, name), group in named.groupby(["task", other], sort=False):
        heading = f"{task_name(task)}, {name}"
        agree = group["published"] == group["strict"]
        if agree.all():
            body = _body(group, row, "published")
            made.append((f"{heading}, both scoring rules", body))
            continue
        for protocol in PROTOCOLS:
            body = _body(group, row, protocol)
            made.append((f"{heading}, {protocol} scoring", body))
    for (task, name), group in named.groupby(["task", other], sort=False):
        made += diversity.blocks(group, row, f"{task_name(task)}, {name}")
    return note(cells, temperature) + _footnotes(cells), made


def stepwise(cells: pd.DataFrame) -> tuple[str, Blocks]:
    """Return note and blocks for the gaps of surrogates by quarter of the denoising steps, a row per surrogate."""
    made = []
    for (task, method, variant), group in cells.groupby(["task", "method", "variant"], sort=False):
        body = []
        for surrogate, line in group.groupby("surrogate", sort=False):
            row = {"Surrogate": surrogate.replace("_", " ")}
            for cell in line.to_dict("records"):
                row[f"quarter {cell['quarter']}"] = _gap(cell)
            body.append(row)
        heading = f"{task_name(task)}, {method_name(method, variant)}"
        made.append((heading, pd.DataFrame(body)))

    seeds = _several(cells.seeds)
    note = (
        f"KL(true conditional ‖ surrogate) in nats a token, by quarter of the denoising steps; mean over "
        f"{seeds} seeds ± half of the 95 % interval (Student's t over seeds)."
    )
    return note, made


def _gap(cell: Cell) -> str:
    """Format the gap of a surrogate: `0.512 ± 0.031`, without the interval of a single seed."""
    mean, high = cell["kl"], cell["high"]
    spread = ""
    if not pd.isna(high):
        spread = f" ± {high - mean:.3f}"
    return f"{mean:.3f}{spread}{of_planned(cell)}"


def texts(
    scores: pd.DataFrame,
    title: str,
    question: str,
    rows: str,
    printed: pd.DataFrame,
    protocol: Protocol | None,
) -> dict[str, str]:
    """Return the contents of an experiment's table by file suffix; `protocol` is None for a diagnosis."""
    if protocol is None:
        cells = steps_over_seeds(scores)
        note, found = stepwise(cells)
    else:
        joined = join_published(over_seeds(scores), printed, protocol)
        cells = with_printed(joined)
        note, found = blocks(cells, rows, protocol.temperature)
        other_models = apart(cells, printed, protocol)
        if other_models:
            found.append(other_models)
    return {
        ".md": markdown(title, question, note, found),
        ".tex": latex(title, question, note, found),
        ".csv": cells.to_csv(index=False),
    }


def markdown(title: str, question: str, note: str, blocks: Blocks) -> str:
    """Render the table as Markdown."""
    parts = [f"# {title}", question, note]
    for heading, body in blocks:
        parts.append(f"## {heading}")
        # Numbers are formatted already; tabulate would parse and reformat them.
        parts.append(body.to_markdown(index=False, disable_numparse=True))
    return "\n\n".join(parts) + "\n"


def latex(title: str, question: str, note: str, blocks: Blocks) -> str:
    """Render the table as LaTeX, one booktabs tabular per block; title, question and note are comments."""
    lines = [f"% {title}: {question}", f"% {note}"]
    for heading, body in blocks:
        numbers = body.shape[1] - 1
        columns = "l" + "r" * numbers
        rows = [_row(row) for row in body.itertuples(index=False)]
        lines += [
            "",
            f"% {heading}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(body.columns),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    return "\n".join(lines) + "\n"


def note(cells: pd.DataFrame, temperature: float = 0.0) -> str:
    """Say how to read the numbers."""
    once = pd.Series(False, index=cells.index)
    if "interval" in cells:
        once = cells["interval"] == "problems"

    # Base models that are evaluated once have no seeds to count.
    said = []
    seeds = _several(cells.loc[~once, "seeds"])
    if seeds == "1":
        said.append("one seed, so no interval over seeds")
    elif seeds:
        said.append(f"mean over {seeds} seeds ± half of the 95 % interval (Student's t over seeds)")
    if once.any():
        said.append(_once(cells[once], temperature))
    examples = _several(cells["n"])
    more = ""
    if "hack_rate" in cells:
        more += " The hack rate is the share of programs that tried what no solution needs; they count as wrong."
    if diversity.DISTINCT in cells:
        more += " Right answers are a mean number per problem; intervals of them over problems are normal ones."
    return (
        f"Percent, {'; '.join(said)}; {examples} test examples a run; NFE is the mean number of forward passes for a "
        f"response.{more}"
    )


def _once(cells: pd.DataFrame, temperature: float) -> str:
    """Say what the brackets after a base model's numbers are."""
    # Only greedy decoding would give the same answers again.
    what = "deterministic evaluation" if temperature == 0 else "evaluation"
    problems = _several(cells["n"])
    said = f"base model: one {what}, in brackets its 95 % binomial interval (Wilson) over {problems} problems"
    pooled = (cells["published"] != cells["strict"]).any()
    if pooled:
        said += "; where cells of a board are pooled, the boards are the problems"
    return said


def _several(values: pd.Series) -> str:
    """Join the distinct values in order, as `128/500`."""
    distinct = sorted(values.unique())
    return "/".join(map(str, distinct))


def _score(cell: Cell, protocol: str) -> str:
    """Format a score: `70.1 ± 3.2` over seeds, `70.1 [61.2, 77.8]` over problems, `70.1` without an interval."""
    return spread(cell, protocol, 100, 1)


def _body(group: pd.DataFrame, label: str, protocol: str) -> pd.DataFrame:
    with_papers = protocol == "published" and "paper" in group
    rows = []
    for name, line in group.groupby(label, sort=False):
        cells = line.to_dict("records")
        row = {label: name}
        for length, cell in zip(line.length, cells, strict=True):
            row[f"L = {length}"] = _score(cell, protocol)
        row["NFE"] = " / ".join(f"{passes:.1f}" for passes in line.nfe)
        if "hack_rate" in line and line["hack_rate"].notna().any():
            row["hack rate"] = " / ".join(f"{100 * rate:.1f}" for rate in line["hack_rate"])
        if with_papers:
            for length, printed in zip(line.length, line.printed, strict=True):
                row[f"paper, L = {length}"] = printed
        rows.append(row)

    # Lengths without a published number need no column for it.
    body = pd.DataFrame(rows).fillna("")
    filled = body != ""
    return body.loc[:, filled.any()]


def with_printed(cells: pd.DataFrame) -> pd.DataFrame:
    """Add `printed` to the cells of `paper_results.join_published`: the published number with its Δ, or in parentheses.

    A number in brackets refers to the reason in the footnotes.
    """
    reasons = _reasons(cells)
    printed = [_printed(cell, reasons) for cell in cells.to_dict("records")]
    return cells.assign(printed=printed)


def _printed(cell: Cell, reasons: list[str]) -> str:
    """Format the published number of a cell; "" if it has none."""
    paper, why = cell["paper"], cell["paper_differs"]
    if pd.isna(paper):
        return ""
    if why == "":
        return f"{paper:.1f} (Δ {cell['delta']:+.1f})"
    footnote = 1 + reasons.index(why)
    return f"({paper:.1f}) [{footnote}]"


def _reasons(cells: pd.DataFrame) -> list[str]:
    return [reason for reason in distinct(cells, "paper_differs") if reason]


def _footnotes(cells: pd.DataFrame) -> str:
    if "paper" not in cells or cells["paper"].isna().all():
        return ""

    footnotes = ""
    for number, reason in enumerate(_reasons(cells), 1):
        footnotes += f" [{number}] {reason}."
    why = footnotes or " nowhere here."
    return (
        " Paper: what the papers print, Δ ours minus theirs in points; in parentheses, and without Δ, where the "
        f"protocol is another:{why}{_selections(cells)}"
    )


def _selections(cells: pd.DataFrame) -> str:
    """Say how the checkpoints behind the published numbers were chosen, by source."""
    known = cells["paper_selection"].fillna("") != ""
    stated = cells.loc[known, ["paper_source", "paper_selection"]]
    chosen = stated.drop_duplicates()
    if chosen.empty:
        return ""

    said = [f"{source}: {how}" for source, how in chosen.itertuples(index=False)]
    return f" How the printed checkpoints were chosen: {'; '.join(said)}."


def _row(values: Iterable[object]) -> str:
    """Format a row of LaTeX."""
    escaped = []
    for value in values:
        text = str(value).replace("±", r"$\pm$")
        escaped.append(text.replace("_", r"\_").replace("%", r"\%"))
    return " & ".join(escaped) + r" \\"
