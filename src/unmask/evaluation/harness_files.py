"""Our samples as result files of the lm-evaluation-harness: results_*.json and one samples_*.jsonl per task and cell.

Its viewers and comparisons read them. The metrics are ours: `exact_match` is the strict verdict, `published` the share
of points under the papers' scoring rules. Needs no installation of the harness.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.common.atomic import atomic_write

VERSION = 1.0  # of these exported tasks
FILTER = "none"  # the harness's name for metrics of unfiltered responses
CELL = ["method", "variant", "seed", "task", "sampler", "length"]


def export(samples: pd.DataFrame, folder: Path, model: str, stamp: str) -> list[Path]:
    """Write the samples of one policy below `folder`/`model`; return the files. `stamp` becomes part of their names.

    A cell (task, sampler, length) is a task of its own, named such as `countdown-top1-256`.
    """
    place = folder / model.replace("/", "__")
    results: dict[str, Any] = {}
    files = []
    for name, rows in _cells(samples):
        documents = [_sample(row, number) for number, row in enumerate(rows.to_dict("records"))]
        lines = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
        files.append(_write(place / f"samples_{name}_{stamp}.jsonl", lines))
        results[name] = _metrics(name, rows)
    content = {
        "results": results,
        "configs": {name: {"task": name, "metadata": {"version": VERSION}} for name in results},
        "versions": dict.fromkeys(results, VERSION),
        "n-shot": dict.fromkeys(results, 0),
        "higher_is_better": {name: {"exact_match": True, "published": True} for name in results},
        "n-samples": {name: {"original": found["sample_len"], "effective": found["sample_len"]}
                      for name, found in results.items()},
        "config": {"model": "unmask", "model_args": {"model": model}},
        "model_source": "unmask",
        "model_name": model,
        "model_name_sanitized": place.name,
    }  # fmt: skip
    files.append(_write(place / f"results_{stamp}.json", json.dumps(content, indent=2) + "\n"))
    return files


def _cells(samples: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    several = {key for key in ("method", "variant", "seed") if samples[key].nunique() > 1}
    if several:
        raise ValueError(f"samples of several policies ({', '.join(sorted(several))}); export them one by one")
    for (_, _, _, task, sampler, length), rows in samples.groupby(CELL, sort=False):
        yield f"{task}-{sampler}-{length}", rows.sort_values("example")


def _metrics(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of a cell with standard errors over problems, under the harness's keys."""
    count = len(rows)
    published = (rows["published"] * rows["points"]).sum() / rows["points"].sum()
    excess = (rows["published"] - published) * rows["points"] / rows["points"].mean()
    errors = {"exact_match": rows["strict"].sem() if count > 1 else float("nan")}
    errors["published"] = float((excess**2).sum() / (count * (count - 1))) ** 0.5 if count > 1 else float("nan")
    found: dict[str, Any] = {"name": name, "alias": name, "sample_len": count}
    for metric, value in {"exact_match": rows["strict"].mean(), "published": published}.items():
        found[f"{metric},{FILTER}"] = float(value)
        # JSON has no NaN; the harness writes N/A where it has no error.
        error = float(errors[metric])
        found[f"{metric}_stderr,{FILTER}"] = "N/A" if pd.isna(error) else error
    return found


def _sample(row: dict[Any, Any], number: int) -> dict[str, Any]:
    """Return one sample under the keys of the harness's log."""
    document = {"question": row["prompt"], "answer": row["gold"], "difficulty": row["difficulty"]}
    return {
        "doc_id": int(row.get("example", number)),
        "doc": document,
        "target": row["gold"],
        "arguments": {"gen_args_0": {"arg_0": row["prompt"], "arg_1": {"max_gen_toks": int(row["length"])}}},
        "resps": [[row["completion"]]],
        "filtered_resps": [row["completion"]],
        "filter": FILTER,
        "metrics": ["exact_match", "published"],
        "doc_hash": _sha(json.dumps(document, sort_keys=True, default=str)),
        "prompt_hash": _sha(row["prompt"]),
        "target_hash": _sha(row["gold"]),
        "exact_match": float(row["strict"]),
        "published": float(row["published"]),
    }


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
