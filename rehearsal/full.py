"""make rehearse: the papers' scale with LLaDA-8B's real shape, on a machine with two cores and 24 GB; up to an hour.

Random weights in the published layout, 16 GB, are written shard by shard and deleted at the end. DMPO, diffu-GRPO and
d1 with its SFT run on one task, one job at a time, through snakemake from the checkpoint to the tables; then one update
of SFT on 4,096 tokens, for its memory. Each process may use both cores. The rehearsal fails if a step fails or warns,
takes more than 22 GB, needs more than 1.15 × the checkpoint to load, reads or hashes a byte of it twice, or forms full
logits. full.yaml has the settings and the arithmetic behind them. LAYERS=2 in the environment is a trial of minutes.
"""

from __future__ import annotations

import os
import shutil
import sys
import time

import checks
from checkpoints import Size, write_llada_checkpoint
from project import ROOT, Project

from data import texts, write_data

WIDTH, MLP, HEADS, LAYERS = 4096, 12288, 32, 32
LARGEST, LOADING, SHARDS = 22e9, 1.15, 6
METHODS = ("d1", "diffu_grpo", "dmpo")


def main() -> None:
    """Run the rehearsal from scratch in results/rehearsal."""
    began = time.monotonic()
    layers = int(os.environ.get("LAYERS") or LAYERS)
    folder = ROOT / "results/rehearsal"
    shutil.rmtree(folder, ignore_errors=True)
    project = Project(folder, [WIDTH], cores=1, threads=2)
    # The checkpoint takes 16 GB, so it is removed even if a stage raises.
    try:
        write_data(project.data, train=8, test=1)
        (project.data / "prompt.txt").write_text("Solve this Sudoku: {question}", encoding="utf-8")
        size = write_llada_checkpoint(project.models / "llada", Size(WIDTH, layers, HEADS, HEADS, MLP), texts(), SHARDS)
        project.stages.append(("checkpoint", time.monotonic() - began))
        print(f"checkpoint of {layers} layers: {size / 1e9:.2f} GB, {time.monotonic() - began:.0f} s", flush=True)
        wrong = run(project)
    finally:
        shutil.rmtree(project.models)
    wrong += check(project, size)
    print(checks.steps(project))
    print(f"{time.monotonic() - began:.0f} s in all; {len(wrong)} faults")
    for line in wrong:
        print(f"FAULT {line}")
    sys.exit(bool(wrong))


def run(project: Project) -> list[str]:
    """Run from the checkpoint to the tables, one job at a time; then the long sequence. Returns the faults."""
    wrong = []
    for stage, length, seed, targets in (
        ("main", 256, 0, ["results/llada-8b/tables/main.md", "results/llada-8b/figures/main/training_curves.png"]),
        ("4096 tokens", 4096, 1, ["results/llada-8b/runs/sft/s1k/default/seed-1/manifest.json"]),
    ):
        project.configure(ROOT / "rehearsal/full.yaml", SFT_LENGTH=length, SEED=seed)
        if project.run(stage, *targets):
            wrong.append(f"{stage} fails: said/{stage}.log")
    return wrong


def check(project: Project, size: int) -> list[str]:
    """Return all faults in the results, memory and reads."""
    trained = ["sft/s1k/default/seed-0", *(f"{method}/sudoku/default/seed-0" for method in METHODS)]
    names = [f"runs/{run}/{file}" for run in trained for file in ("adapter", "metrics.csv", "manifest.json")]
    names += [f"runs/{method}/sudoku/default/seed-0/samples-papers.parquet" for method in ("base", *METHODS)]
    names += ["tables/main.md", "scores/main.csv", "figures/main/training_curves.png"]
    names += ["runs/sft/s1k/default/seed-1/adapter"]
    wrong = checks.files_are_there(project, names)
    wrong += checks.nothing_warned(project)
    wrong += checks.weights_are_read_once(project, {"rehearsal-llada": size})
    wrong += checks.memory_is_bounded(project, size, LARGEST, LOADING)
    wrong += checks.logits_are_never_whole(project)
    # The remaining checks open files, so they only make sense if all of them exist.
    if not any(line.startswith("missing") for line in wrong):
        wrong += checks.adapters_count(project, trained, every_method=False)  # two responses may earn the same reward
    return wrong


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    main()
