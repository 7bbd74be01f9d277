"""Data of the run browser, which the page's script draws: curves, settings and answers of every run, as JSON.

The template writes it into a block of JSON with `<`, `>`, `&` and `'` escaped, and the script puts it into the page as
text only, so that nothing a model wrote can become markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.analysis.html_report.answers import Answers
from unmask.analysis.html_report.curves import Curve
from unmask.analysis.html_report.runs import Row
from unmask.methods import method_name

Json = dict[str, Any]
APART = ("name", "seed", "inputs")  # entries of a spec that differ between any two runs or repeat others


def data(rows: list[Row]) -> Json:
    """Return the runs by name; the columns, in the order in which they appear; and the problems, each once."""
    columns: dict[str, None] = {}
    problems: dict[tuple[str, str], int] = {}
    runs = {}
    for row in rows:
        columns.update(dict.fromkeys(row.curves))
        runs[row.run.name] = {
            "label": f"{method_name(row.run.method, row.run.variant)}, {row.run.task}, seed {row.run.seed}",
            "colour": row.colour,
            "commit": row.commit,
            "spec": row.spec,
            "settings": flat(row.run.values()),
            "files": [{"name": file.name, "href": file.href} for file in row.files],
            "curves": _curves(row.curves),
            "answers": _answers(row.answers, problems) if row.answers else None,
        }
    listed = [{"prompt": prompt, "gold": gold} for prompt, gold in problems]
    return {"columns": list(columns), "problems": listed, "runs": runs}


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return the settings of a spec as text, nested ones as `training.alpha`."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if not above and key in APART:
            continue
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = str(value)
    return found


def _curves(curves: dict[str, Curve]) -> Json:
    return {column: {"x": curve.steps, "y": curve.values} for column, curve in curves.items()}


def _answers(answers: Answers, problems: dict[tuple[str, str], int]) -> Json:
    """Return the answers of a run, each with the number of its problem, which is added to `problems` if it is new."""
    kept = []
    for answer in answers.kept:
        number = problems.setdefault((answer.prompt, answer.gold), len(problems))
        kept.append({"problem": number, "completion": answer.completion, "right": answer.right})
    return {"setting": answers.setting, "total": answers.total, "wrong": answers.wrong, "kept": kept}
