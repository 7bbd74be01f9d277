"""Choice of a method's settings among candidates, by accuracy on validation problems during training.

A candidate's score is its validation accuracy, averaged over all evaluations of a training run and then over seeds. So
it rewards fast learning and punishes a collapse, and needs no choice of a moment. The seeds are used by no result, and
test problems are not looked at. The candidate with the highest score is chosen, the first of equal ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from unmask.common import safe_yaml
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError
from unmask.common.parquet import read_csv
from unmask.methods import method_name


@dataclass(frozen=True)
class Scored:
    """Candidate with the score of each seed."""

    settings: dict[str, Any]
    scores: dict[int, float]  # seed -> mean validation accuracy during training

    @property
    def score(self) -> float:
        """Mean over seeds."""
        return sum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class Choice:
    """Candidates of a method on a task, with their scores."""

    method: str
    task: str
    candidates: list[Scored]
    runs: str = ""  # digest of the settings and base models of all runs; empty for choices from before it was recorded

    @property
    def chosen(self) -> Scored:
        """The candidate with the highest score."""
        return max(self.candidates, key=lambda one: one.score)

    def write(self, path: Path) -> None:
        """Write all candidates and scores, and the choice, as YAML."""
        candidates = []
        for one in self.candidates:
            scores = {seed: round(score, 6) for seed, score in one.scores.items()}
            candidates.append({"settings": one.settings, "score": round(one.score, 6), "seeds": scores})
        content = {
            "method": self.method,
            "task": self.task,
            "chosen": dict(self.chosen.settings),  # a copy, or YAML would write an alias
            "runs": self.runs,
            "candidates": candidates,
        }
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Choice:
        """Read what `write` wrote; the choice is made again from the scores. Raises InputError if it differs."""
        content = safe_yaml.load(path.read_text(encoding="utf-8"))
        candidates = [Scored(one["settings"], one["seeds"]) for one in content["candidates"]]
        found = cls(content["method"], content["task"], candidates, content.get("runs", ""))
        if found.chosen.settings != content["chosen"]:
            raise InputError(
                f"{path}: `chosen` is not the candidate with the highest score; delete the file and run `tune`"
            )
        return found


def score(metrics: Path) -> float:
    """Return the mean validation accuracy of a training run over its evaluations.

    Raises InputError if the run was never validated.
    """
    frame = read_csv(metrics)
    measured = frame["validation"].dropna() if "validation" in frame else pd.Series(dtype=float)
    if measured.empty:
        raise InputError(f"{metrics}: no validation accuracy; set validate_every above 0")
    return float(measured.mean())


def table(choices: list[Choice]) -> pd.DataFrame:
    """Return a row per candidate: settings, score, score by seed, and whether it was chosen."""
    rows = []
    for choice in choices:
        for one in choice.candidates:
            rows.append(
                {
                    "method": choice.method,
                    "task": choice.task,
                    "settings": text(one.settings),
                    "validation": one.score,
                    "seeds": " / ".join(f"{100 * value:.1f}" for value in one.scores.values()),
                    "chosen": one is choice.chosen,
                }
            )
    return pd.DataFrame(rows)


def text(settings: dict[str, Any]) -> str:
    """Return settings as text: `learning rate 0.0003, clip 0.5`."""
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in settings.items())


def _value(value: Any) -> str:
    """Format numbers in short, anything else as it is written in YAML."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    return str(yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip())


def markdown(rows: pd.DataFrame) -> str:
    """Render the candidates as Markdown, with a heading and how they were compared."""
    shown = pd.DataFrame(
        {
            "Method": [method_name(method) for method in rows["method"]],
            "Task": [task_name(task) for task in rows["task"]],
            "Candidate": rows["settings"],
            "Validation (%)": [f"{100 * value:.1f}" for value in rows["validation"]],
            "By seed": rows["seeds"],
            "Chosen": ["yes" if chosen else "" for chosen in rows["chosen"]],
        }
    )
    how = (
        "Accuracy on validation problems, averaged over training and seeds. Every method has the same number of "
        "candidates and of generated responses; the seeds are used by no result."
    )
    return f"# Tuning\n\n{how}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n"
