"""make rehearse-small: the papers' scale on two cores; only counts and the model's depth and width are reduced.

Runs every method on every task of `main`, Dream, two processes, and one interrupted training run, through snakemake as
a user does. The rehearsal fails if a step fails or warns, reads a model twice or forms full logits, if an adapter has
no effect, or if text after the end of an answer changes its grade.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import checks
import foreign
from checkpoints import Size, write_dream_checkpoint, write_llada_checkpoint
from project import ROOT, Project

from data import texts, write_data

METHODS = ("sft", "d1", "diffu_grpo", "coupled_grpo", "diffpo", "dmpo")
TASKS = ("gsm8k", "math500", "countdown", "sudoku")
STOPPED = "diffu_grpo/math500/default/seed-0"  # has two updates, so it can be stopped after the first
TOGETHER = ("dmpo/gsm8k/default/seed-0", "d1/countdown/default/seed-0")  # two prompts per buffer each, so two processes
FOREIGN = "sft/s1k/default/seed-0"  # also evaluated on Sudoku with its adapter under the published model's module names
WIDTH = 128


def main() -> None:
    """Run the rehearsal from scratch in results/rehearsal-small."""
    began = time.monotonic()
    folder = ROOT / "results/rehearsal-small"
    shutil.rmtree(folder, ignore_errors=True)
    project = Project(folder, [WIDTH])
    sizes = write_inputs(project)
    project.configure(ROOT / "rehearsal/small.yaml")
    project.stages.append(("inputs", time.monotonic() - began))
    wrong = run(project)
    wrong += check(project, sizes)
    shutil.rmtree(project.models)
    print(checks.table(project))
    print(f"{time.monotonic() - began:.0f} s in all; {len(wrong)} faults")
    for line in wrong:
        print(f"FAULT {line}")
    sys.exit(bool(wrong))


def write_inputs(project: Project) -> dict[str, int]:
    """Write data and checkpoints; return the bytes of the weights by model name in small.yaml."""
    write_data(project.data, train=8, test=1)
    # Different prompts for training and evaluation, so that a mix-up shows.
    for split in ("training", "evaluation"):
        (project.data / f"{split}.txt").write_text(f"One of the {split} problems: {{question}}", encoding="utf-8")
    words = texts()
    return {
        "rehearsal-llada": write_llada_checkpoint(project.models / "llada", Size(WIDTH, 2, 1, 1, 256), words, 2),
        "rehearsal-dream": write_dream_checkpoint(project.models / "dream", Size(WIDTH, 2, 4, 2, 256), words, 2),
    }


def run(project: Project) -> list[str]:
    """Run the stages, ordered so that none repeats the work of another; return the faults."""
    wrong = []
    for stage, words in {"dry run": ["-n", "all", "dream"], "plan": ["plan"]}.items():
        if project.run(stage, *words):
            wrong.append(f"snakemake {' '.join(words)} fails: said/{stage}.log")
    wrong += interrupt(project)
    runs = [str(Path("results/llada-8b/runs") / run) for run in TOGETHER]
    targets = [f"{runs[0]}/samples-papers.parquet", f"{runs[1]}/manifest.json"]
    # Training starts as many processes as can share its prompts; evaluation starts one unless it gets more GPUs.
    if project.run("two processes", "--set-resources", "evaluate_policy:gpu=2", "--", *targets):
        wrong.append("training on two processes fails: said/two processes.log")
    if project.run("all", "--keep-going", "all", "dream"):
        wrong.append("snakemake all dream fails: said/all.log")
    if project.path(f"runs/{FOREIGN}/adapter").exists():
        wrong += foreign.evaluated(project, FOREIGN, "sudoku")
    return wrong


def interrupt(project: Project) -> list[str]:
    """Stop a training run by SIGTERM, as SLURM does before a time limit; the other job of the stage continues."""
    began = time.monotonic()
    print("interrupted …", flush=True)
    stopped = f"results/llada-8b/runs/{STOPPED}"
    targets = [f"{stopped}/manifest.json", "results/llada-8b/runs/base/math500/default/seed-0/samples-papers.parquet"]
    process = project.start("interrupted", "--keep-going", *targets)
    lock = project.folder / stopped / "lock"
    while not lock.exists() and process.poll() is None:  # the run installs its signal handlers before it takes the lock
        time.sleep(0.1)
    # The signal goes to the training process itself, whose pid is in the lock, not to snakemake.
    if process.poll() is None:
        time.sleep(1)
        os.kill(json.loads(lock.read_text(encoding="utf-8"))["pid"], signal.SIGTERM)
    code = process.wait()
    project.stages.append(("interrupted", time.monotonic() - began))
    print(f"interrupted: exit {code}, {project.stages[-1][1]:.0f} s", flush=True)
    left = list((project.folder / stopped / "checkpoints").glob("*"))
    if code == 0 or not left:
        return [f"{STOPPED}: SIGTERM left no checkpoint (snakemake: exit {code}): said/interrupted.log"]
    return []


def check(project: Project, sizes: dict[str, int]) -> list[str]:
    """Return all faults in the results of the stages."""
    trained = ["sft/s1k/default/seed-0"]
    trained += [f"{method}/{task}/default/seed-0" for method in METHODS if method != "sft" for task in TASKS]
    dream = "dmpo/sudoku/model~rehearsal-dream/seed-0"
    names = [f"runs/{run}/{file}" for run in [*trained, dream] for file in ("adapter", "metrics.csv", "manifest.json")]
    names += [f"runs/{run}/samples-papers.parquet" for run in trained if not run.startswith("sft")]
    names += [f"runs/base/{task}/default/seed-0/samples-papers.parquet" for task in TASKS]
    names += [f"runs/sft/s1k/default/seed-0/samples-papers-on-{task}.parquet" for task in TASKS]
    names += [f"runs/{dream}/samples-dream.parquet", "scores/dream.csv", "tables/dream.md"]
    names += [f"tables/main.{kind}" for kind in ("md", "tex", "csv")]
    names += [f"tables/main-comparisons.{kind}" for kind in ("md", "csv")]
    names += [
        f"figures/main/{name}.{kind}" for name in ("accuracy_by_length", "training_curves") for kind in ("pdf", "png")
    ]
    names += ["claims.md", "report.html", "scores/main.csv", "metrics/main.csv", "figures/exact_toy.png"]
    wrong = checks.files_are_there(project, names)
    wrong += checks.nothing_warned(project)
    wrong += checks.weights_are_read_once(project, sizes)
    wrong += checks.logits_are_never_whole(project)
    # The remaining checks open files, so they only make sense if all of them exist.
    if not wrong or all(not line.startswith("missing") for line in wrong):
        wrong += checks.adapters_count(project, trained)
        wrong += checks.resumed(project, STOPPED)
        wrong += checks.by_two(project, list(TOGETHER))
        wrong += checks.answers_end(project)
    return wrong


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    main()
