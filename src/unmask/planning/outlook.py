"""Remaining work of the given experiments in total: days on the available GPUs, jobs and disk.

Torch-free and read-only, for `plan`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from unmask.config.grid.grid import Grid
from unmask.planning.checkpoint_size import BYTES, most_checkpoint_bytes
from unmask.planning.estimates import Estimate, shape
from unmask.planning.flops import trained_parameters
from unmask.planning.status import RunStatus

BYTES_A_TOKEN = 4  # of a response, as compressed text
TERABYTE = 1e12
GIGABYTE = 1e9
MEGABYTE = 1e6


def days(costs: list[Estimate], grid: Grid) -> str:
    """Format the days that remain if no GPU ever idles: on one job's GPUs, and on all that sinfo lists."""
    gpu_days = sum(one.to_go for one in costs) / 24
    gpus = grid.cost.gpus
    said = [f"{gpu_days / gpus:.1f} on {gpus} (scales.{grid.scale}.cost.gpus)"]
    in_cluster = gpus_of_cluster()
    if in_cluster:
        said.append(f"{gpu_days / in_cluster:.1f} on the cluster's {in_cluster}, as sinfo counts them")
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
    nodes = {}
    for line in asked.stdout.splitlines():
        node, separator, gres = line.partition("|")
        if separator:
            nodes[node] = gpus_in(gres)
    return sum(nodes.values())


def gpus_in(gres: str) -> int:
    """Count the GPUs in SLURM's generic resources (GRES): `gpu:h100:8(S:0-1),shard:4` has 8."""
    found = re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", gres)
    return sum(map(int, found))


def jobs_to_go(grid: Grid, evaluations: dict[str, list[str]], found: dict[str, RunStatus]) -> str:
    """Count the jobs that are still to be submitted, by kind."""
    root = Path("results", grid.place)
    counts: Counter[str] = Counter()
    # Only base models that are trained from scratch have tasks; published ones are fetched.
    for model in {grid.runs[name].model for name in evaluations}:
        weights = root / "models" / model / "weights"
        if grid.models[model].tasks and not weights.exists():
            counts["base models"] += 1
    for status in found.values():
        if status.step < status.updates:
            counts["training runs"] += 1
    for name, names in evaluations.items():
        for evaluation in names:
            samples = root / "runs" / name / f"samples-{evaluation}.parquet"
            if not samples.exists():
                counts["evaluations"] += 1

    if not counts:
        return "jobs left: 0"
    said = [f"{count} {kind}" for kind, count in counts.items()]
    return f"jobs left: {counts.total()} ({', '.join(said)})"


def disk(grid: Grid, evaluations: dict[str, list[str]]) -> str:
    """Format the disk space that results take in the end, and that checkpoints of a training run take while it runs."""
    adapters = 0
    largest = 0
    tokens = 0
    for name, names in evaluations.items():
        run = grid.runs[name]
        known = shape(grid, name)
        if known and run.trains:
            trained = trained_parameters(known, run.training)
            adapters += BYTES * trained
            largest = max(largest, most_checkpoint_bytes(trained, run.training))
        for evaluation in names:
            spec = grid.evaluations[evaluation]
            test = grid.tests[spec.task or run.task]
            examples = test.test_examples or grid.cost.test_examples.get(run.task, 0)
            # Every sample is counted at full length; responses that end early take less.
            tokens += min(examples, spec.limit or examples) * sum(spec.lengths) * len(spec.samplers)

    samples = tokens * BYTES_A_TOKEN
    return (
        f"disk: adapters {amount(adapters)}, samples at most {amount(samples)}; while it runs, a "
        f"training run has checkpoints of at most {amount(largest)}"
    )


def amount(size: float) -> str:
    """Format a number of bytes in MB, GB or TB."""
    if size >= TERABYTE:
        return f"{size / TERABYTE:.1f} TB"
    if size >= GIGABYTE / 10:
        return f"{size / GIGABYTE:.1f} GB"
    return f"{size / MEGABYTE:.1f} MB"
