"""Speed of training runs and evaluations, read from their manifests, metrics and scores.

A number that an older file lacks is missing here too, and its cell is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.analysis.html_report.curves import sampled
from unmask.analysis.html_report.runs import read_scores
from unmask.analysis.scores import read_metrics
from unmask.common.manifest import Manifest, read_manifest, seconds_of
from unmask.config.grid.grid import Experiment, Grid
from unmask.config.specs import RunSpec

POLICY = ["task", "method", "variant", "model"]
EVALUATED = [*POLICY, "sampler", "length"]
MACHINE = ["processes", "device"]  # entries of a manifest
Numbers = dict[str, Any]  # of one run: column -> value, None if unknown


def training(root: Path, grid: Grid, experiments: list[Experiment]) -> pd.DataFrame:
    """Return the speed of training: a row per task, method, variant and base model, averaged over its runs."""
    names = dict.fromkeys(name for experiment in experiments for name in experiment.runs)
    runs = [_trained(root / "runs" / name) for name in names if grid.runs[name].trains]
    return _averaged(pd.DataFrame(runs), POLICY)


def _trained(folder: Path) -> Numbers:
    """Return the speed of one training run; None for what its files lack."""
    run = RunSpec.read(folder / "spec.yaml")
    metrics = read_metrics(folder / "metrics.csv")
    manifest = read_manifest(folder / "manifest.json")
    seconds = seconds_of(manifest)
    on_rollouts = sampled(metrics)

    # Demonstrations are not drawn, so SFT has no forward passes and no tokens here.
    nfe = None
    tokens_per_second = None
    if len(on_rollouts):
        nfe = on_rollouts["nfe"].mean()
        if "tokens" in metrics:
            tokens_per_second = _ratio(_drawn(run, on_rollouts), seconds)

    tflops = None
    tflops_per_second = None
    if "flops" in metrics:
        tflops = metrics["flops"].iloc[-1] / 1e12  # cumulative
        tflops_per_second = _ratio(tflops, seconds)
    return {
        **_labels(run),
        "updates": len(metrics),
        "nfe": nfe,
        "tokens_per_second": tokens_per_second,
        "seconds": seconds,
        "tflops": tflops,
        "tflops_per_second": tflops_per_second,
        **_machine(manifest),
    }


def _drawn(run: RunSpec, metrics: pd.DataFrame) -> float:
    """Return the number of tokens that a run drew: the first update on a buffer counts, later ones use it again."""
    first = (metrics["step"] - 1) % run.training.updates_per_buffer == 0
    responses = run.training.prompts_per_buffer * run.training.group_size
    return responses * metrics.loc[first, "tokens"].sum()


def evaluation(root: Path, grid: Grid, experiments: list[Experiment]) -> pd.DataFrame:
    """Return the speed of evaluations: a row per task, method, variant, base model, sampler and length."""
    rows = []
    for experiment in experiments:
        if experiment.rows != "steps":
            rows += list(_evaluated(root, grid, experiment))
    if not rows:
        return pd.DataFrame()
    # A run may belong to several experiments that share its evaluation: its file counts once.
    once = pd.DataFrame(rows).drop_duplicates(["file", "sampler", "length"])
    return _averaged(once.drop(columns="file"), EVALUATED)


def _evaluated(root: Path, grid: Grid, experiment: Experiment) -> Iterator[Numbers]:
    """Yield the speed of every run of an experiment, by sampler and length, if it was evaluated on its own task."""
    scores = read_scores(root, grid, experiment)
    manifests: dict[Path, Numbers] = {}
    for score in scores[scores["run"] != ""].to_dict("records"):
        run = grid.runs[score["run"]]
        stem = experiment.evaluation_stem
        if run.corpus:
            stem = f"{stem}-on-{score['task']}"
        file = root / "runs" / run.name / f"{stem}.json"
        if file not in manifests:
            manifests[file] = _machine(read_manifest(file)) if file.exists() else {}

        nfe = score.get("nfe")
        tokens = score.get("tokens")
        seconds = score.get("seconds")
        yield {
            **_labels(run),
            "task": score["task"],
            "sampler": score["sampler"],
            "length": score["length"],
            "nfe": nfe,
            "tokens": tokens,
            "tokens_per_pass": _ratio(tokens, nfe),
            "tokens_per_second": _ratio(tokens, seconds),
            "seconds": seconds,
            **manifests[file],
            "file": file,
        }


def _ratio(above: float | None, below: float | None) -> float | None:
    """Divide two numbers; None if one of them is unknown."""
    if above is None or not below:
        return None
    return above / below


def _labels(run: RunSpec) -> Numbers:
    # Only the name of a run on another base model than the usual one says so.
    model = ""
    if "model~" in run.name:
        model, _, _ = run.model.partition("/")
    return {"task": run.task, "method": run.method, "variant": run.variant, "model": model}


def _machine(manifest: Manifest) -> Numbers:
    return {name: manifest.get(name) for name in MACHINE}


def _averaged(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Average over runs: the mean of every number, the devices, and the number of runs."""
    if rows.empty:
        return rows
    columns = rows.reindex(columns=[*rows.columns.difference(MACHINE, sort=False), *MACHINE])
    numbers = columns.columns.difference([*by, "device"], sort=False)
    # A column without any number would have the type of Python objects, which have no mean.
    columns[numbers] = columns[numbers].apply(pd.to_numeric)
    groups = columns.groupby(by, sort=False)
    found = groups[list(numbers)].mean()
    found["device"] = groups["device"].agg(lambda names: ", ".join(sorted(set(names.dropna()))))
    found.insert(0, "runs", groups.size())
    return found.reset_index()
