"""Remaining work of the given experiments in total: days on the available GPUs, jobs and disk.

Torch-free and read-only, for `plan`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from unmask.config.grid.grid import Grid
from unmask.config.schema.training import Training
from unmask.planning.checkpoint_size import BYTES, most_checkpoint_bytes
from unmask.planning.estimates import Estimate, shape
from unmask.planning.flops import trained_parameters
from unmask.planning.status import RunStatus

BYTES_A_TOKEN = 4  # of a response, as compressed text
TERABYTE, GIGABYTE = 1e12, 1e9


def days(costs: list[Estimate], grid: Grid) -> str:
    """Format the days that remain if no GPU ever idles: on one job's GPUs, and on all that sinfo lists."""
    hours = sum(one.to_go for one in costs)
    said = [f"{hours / grid.cost.gpus / 24:.1f} on {grid.cost.gpus} (scales.{grid.scale}.cost.gpus)"]
    if there := gpus_of_cluster():
        said.append(f"{hours / there / 24:.1f} on the cluster's {there}, as sinfo counts them")
    return f"days if no GPU ever idles: about {', '.join(said)}"


def gpus_of_cluster() -> int:
    """Return the GPUs of all nodes that sinfo lists; 0 without SLURM, or if it does not answer."""
    if not shutil.which("sinfo"):
        return 0
    command = ["sinfo", "--Node", "--noheader", "--format=%N|%G"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return 0
    # A node has a line for each of its partitions: the dict counts it once.
    nodes = dict(line.split("|", 1) for line in asked.stdout.splitlines() if "|" in line)
    return sum(gpus_in(gres) for gres in nodes.values())


def gpus_in(gres: str) -> int:
    """Count the GPUs in SLURM's generic resources (GRES): `gpu:h100:8(S:0-1),shard:4` has 8."""
    found = re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", gres)
    return sum(map(int, found))


def jobs_to_go(grid: Grid, evaluations: dict[str, list[str]], found: dict[str, RunStatus]) -> str:
    """Count the jobs that are still to be submitted, by kind."""
    root = Path("results", grid.place)
    models = {grid.runs[name].model for name in evaluations}
    # Only base models that are trained from scratch have tasks; published ones are fetched.
    made_here = [
        name for name in models if grid.models[name].tasks and not (root / "models" / name / "weights").exists()
    ]
    training = [one for one in found.values() if one.step < one.updates]
    missing = [
        (name, evaluation)
        for name, names in evaluations.items()
        for evaluation in names
        if not (root / "runs" / name / f"samples-{evaluation}.parquet").exists()
    ]
    kinds = {"base models": len(made_here), "training runs": len(training), "evaluations": len(missing)}
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    return f"jobs left: {sum(kinds.values())}{f' ({said})' if said else ''}"


def disk(grid: Grid, evaluations: dict[str, list[str]]) -> str:
    """Format the disk space that results take in the end, and that checkpoints of a training run take while it runs."""
    adapters, largest, tokens = 0, 0, 0
    for name, names in evaluations.items():
        run, known = grid.runs[name], shape(grid, name)
        if known and run.trains:
            training = Training(**run.training)
            trained = trained_parameters(known, training)
            adapters += BYTES * trained
            largest = max(largest, most_checkpoint_bytes(trained, training))
        for evaluation in names:
            spec = grid.evaluations[evaluation]
            # Every sample is counted at full length; responses that end early take less.
            examples = grid.tests[spec.task or run.task].settings.get("test", grid.cost.test_examples.get(run.task, 0))
            tokens += examples * sum(spec.lengths) * len(spec.samplers)

    parts = [f"adapters {amount(adapters)}", f"samples at most {amount(tokens * BYTES_A_TOKEN)}"]
    return f"disk: {', '.join(parts)}; while it runs, a training run has checkpoints of at most {amount(largest)}"


def amount(size: float) -> str:
    """Format a number of bytes in MB, GB or TB."""
    if size >= TERABYTE:
        return f"{size / TERABYTE:.1f} TB"
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE / 10 else f"{size / 1e6:.1f} MB"
