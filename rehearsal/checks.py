"""Checks of a rehearsal's files. Each returns one line per fault, and none if all is well."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from project import VOCABULARIES, Project
from safetensors.torch import load_file

from unmask.config.loading import load_config
from unmask.config.normalize import normalise
from unmask.config.schema import Config
from unmask.models.logit_chunks import logit_chunk_rows
from unmask.tasks import load
from unmask.tasks._examples import read_examples

LOADING = ("train_policy.py", "evaluate_policy.py", "diagnose_policy.py")
ENDS = re.compile(r"(<\|eot_id\|>|<\|im_end\|>|<\|endoftext\|>)")
WARNING = re.compile(r"warning|\bwarn:", re.IGNORECASE)


def files_are_there(project: Project, names: list[str]) -> list[str]:
    """Check that every file of the targets exists."""
    lacking = [name for name in names if not project.path(name).exists()]
    return [f"missing: results/llada-8b/{name}" for name in lacking]


def nothing_warned(project: Project) -> list[str]:
    """Check that no log has a warning."""
    found = []
    for file in project.logs():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if WARNING.search(line):
                found.append(f"{file.relative_to(project.folder)}: {line.strip()[:200]}")
    return found


def weights_are_read_once(project: Project, sizes: dict[str, int]) -> list[str]:
    """Check that each process reads the weights once, to load them or, in the step that links them, to hash them."""
    # The tolerance of 1 % covers the headers of the files.
    found, small = [], 1.01
    for process in project.processes():
        script, size = process["script"], sizes[model_of(process)] if model_of(process) else 0
        total = process["read"] + process["mapped"]
        where = f"{script} {spec_of(process)} rank {process['rank']}"
        # Reads past the probe would make the counts below meaningless.
        if process["uncounted_opens"]:
            found.append(f"{where}: opened weight files {process['uncounted_opens']} times unseen by the probe")
        if script in LOADING and not 0.99 * size <= total <= small * size:
            found.append(f"{where}: read {total / size:.2f} × the weights ({process['read']:,} B by files)")
        if script == "prepare_model.py" and total > small * size:
            found.append(f"{where}: read {total / size:.2f} × the weights")
    return found


def memory_is_bounded(project: Project, size: int, largest: float, loading: float) -> list[str]:
    """Check that no process exceeds `largest` bytes, or needs more than `loading` × the checkpoint to load it."""
    found = []
    for process in project.processes():
        where = f"{process['script']} {spec_of(process)}"
        if process["peak"] > largest:
            found.append(f"{where}: {process['peak'] / 1e9:.1f} GB, more than {largest / 1e9:.0f}")
        if process["script"] in LOADING and process["loaded"] - process["before"] > loading * size:
            share = (process["loaded"] - process["before"]) / size
            found.append(f"{where}: loading took {share:.2f} × the checkpoint, more than {loading}")
        if process["script"] in LOADING and not process["loaded"]:
            found.append(f"{where}: the probe saw no forward pass of the model")
        # Python and torch themselves read less than a gigabyte.
        if process["all_read"] - process["read"] > 1e9:
            found.append(
                f"{where}: {process['all_read'] / 1e9:.1f} GB read by files, {process['read'] / 1e9:.1f} counted"
            )
    return found


def logits_are_never_whole(project: Project) -> list[str]:
    """Check that no logits tensor has more rows than the library forms at once, and that some logits were seen."""
    # The bound depends on the vocabulary, and a record does not say which model it is from: take the larger bound.
    bound = max(logit_chunk_rows("cpu", vocabulary) for vocabulary in VOCABULARIES)
    found = []
    for process in project.processes():
        if process["script"] in LOADING and not 1 <= process["logits_rows"] <= bound:
            found.append(
                f"{process['script']} {spec_of(process)}: {process['logits_rows']} rows of logits at once by "
                f"{process['logits']}, not 1 to {bound}"
            )
    return found


def adapters_count(project: Project, runs: list[str], every_method: bool = True) -> list[str]:
    """Check that each adapter moved exactly if its gradient was not zero, was read, and changed the samples."""
    found = []
    read = {path for process in project.processes() for path in process["adapters"]}
    learnt: dict[str, list[bool]] = {}
    for run in runs:
        # All responses of a group may earn the same by chance; then there is no gradient and nothing can move.
        folder = project.path(f"runs/{run}")
        norms = pd.read_csv(folder / "metrics.csv")["grad_norm"]
        moved = has_moved(project, run)
        learnt.setdefault(run.split("/")[0], []).append(moved)
        if not norms.map(math.isfinite).all() or moved != bool((norms > 0).any()):
            found.append(f"{run}: gradients of norm {norms.tolist()}, but the adapter moved: {moved}")
        if str(folder / "adapter/adapter_model.safetensors") not in read:
            found.append(f"{run}: no process read its adapter")
        task, samples = run.split("/")[1], folder / "samples-papers.parquet"
        base = project.path(f"runs/base/{task}/default/seed-0/samples-papers.parquet")
        if moved and samples.exists() and same_samples(samples, base):
            found.append(f"{run}: its samples are those of the base model")
    # Single runs may have no gradient, but over all tasks each method must have learnt something.
    if every_method:
        found += [f"{method}: no adapter has moved" for method, moved in learnt.items() if not any(moved)]
    return found


def same_samples(one: Path, other: Path) -> bool:
    """Return True if two files hold the same responses."""
    first, second = (pd.read_parquet(file)["completion"] for file in (one, other))
    return bool(first.equals(second))


def has_moved(project: Project, run: str) -> bool:
    """Return True if the adapter of a run differs from its start; a fresh adapter has B = 0."""
    adapter = load_file(project.path(f"runs/{run}/adapter/adapter_model.safetensors"))
    start = yaml.safe_load(project.path(f"runs/{run}/spec.yaml").read_text(encoding="utf-8")).get("start_from")
    # LoRA adds B·A with B = 0 at first, so any nonzero entry of B means that it was trained.
    if not start:
        return any(bool(value.any()) for name, value in adapter.items() if "lora_B" in name)
    before = load_file(project.path(f"runs/{start}/adapter/adapter_model.safetensors"))
    return any(not value.equal(before[name]) for name, value in adapter.items())


def spec_of(process: dict[str, Any]) -> str:
    """Return the run that a process worked on, from the path of its spec."""
    word = next((word for word in process["words"] if word.endswith("spec.yaml")), "")
    return re.sub(r"^.*results/[^/]+/|/spec.yaml$", "", word)


def model_of(process: dict[str, Any]) -> str:
    """Return the base model that a process loads or links, such as `rehearsal-llada`; empty if none."""
    # Weights are at models/<name>/weights.
    words = process["words"]
    if "--weights" not in words:
        return ""
    return Path(words[words.index("--weights") + 1]).parent.name


def answers_end(project: Project) -> list[str]:
    """Check that grades and rewards ignore all text after the first end token, and that for some rows it matters."""
    found, seen = [], 0
    config = Config.model_validate(normalise(load_config(project.folder / "config.yaml")))
    for file in sorted(project.path("runs").rglob("samples-*.parquet")):
        for row in pd.read_parquet(file).to_dict("records"):
            task = load(row["task"], config.task_settings(row["task"]))
            tests = read_examples(next(project.path(f"data/{row['task']}").rglob("test.parquet")))
            example, whole = tests[row["example"]], row["completion"]
            kept, *end = ENDS.split(whole, maxsplit=1)
            reward, grade = task.reward(kept, example), task.grade(kept, example)
            # Recompute from the truncated text; stored grades must agree, and the full text must earn the same.
            same = (grade.published, grade.strict) == (row["published"], row["strict"])
            if not same or task.reward(whole, example) != reward:
                found.append(f"{file.relative_to(project.folder)}: text after {end[:1]} counts")
            # Count the rows whose reward would change if Dream's turn token were not known as an end.
            if end[:1] == ["<|im_end|>"]:
                seen += task.reward("".join((kept, *end[1:])), example) != reward
    # A check that never met a case in which it matters proves nothing.
    return found if seen else [*found, "no reward depends on <|im_end|>: the check of end tokens saw nothing"]


def resumed(project: Project, run: str) -> list[str]:
    """Check that the log of the interrupted run reports its resumption."""
    said = (project.folder / f"logs/train_policy/llada-8b/{run}.log").read_text(encoding="utf-8")
    return [] if "resumed after update 1" in said else [f"{run}: interrupted, and not resumed: {said[-300:]}"]


def by_two(project: Project, runs: list[str]) -> list[str]:
    """Check that these runs were trained by two processes."""
    counts = {run: json.loads(project.path(f"runs/{run}/manifest.json").read_text())["processes"] for run in runs}
    return [f"{run}: trained by {count} processes, not 2" for run, count in counts.items() if count != 2]


def steps(project: Project) -> str:
    """Format time and peak memory of every step in order of start, with and without file-backed pages."""
    rows = [
        {
            "step": f"{p['script'].removesuffix('.py')} {spec_of(p)}",
            "seconds": round(p["seconds"]),
            "processor seconds": round(p["processor"]),
            "weights read GB": round((p["read"] + p["mapped"]) / 1e9, 2),
            "loading GB": round(max(0, p["loaded"] - p["before"]) / 1e9, 2),
            "peak GB": round(p["peak"] / 1e9, 2),
            "without pages of files": round(p["peak_anonymous"] / 1e9, 2),
        }
        for p in sorted(project.processes(), key=lambda p: p["began"])
        if p["script"] != "write_spec.py"
    ]
    stages = "\n".join(f"{name:<14}{seconds:8.1f} s" for name, seconds in project.stages)
    return f"{pd.DataFrame(rows).to_markdown(index=False)}\n\n{stages}"


def table(project: Project) -> str:
    """Format a table by kind of step: processes, total and longest seconds, CPU seconds and peak memory."""
    rows = [
        {"step": p["script"], "seconds": p["seconds"], "processor": p["processor"], "peak": p["peak"] / 1e9}
        for p in project.processes()
    ]
    grouped = pd.DataFrame(rows).groupby("step")
    columns = {
        "processes": grouped.size(),
        "seconds in all": grouped["seconds"].sum().round(1),
        "longest": grouped["seconds"].max().round(1),
        "processor seconds": grouped["processor"].sum().round(1),
        "peak GB": grouped["peak"].max().round(2),
    }
    stages = "\n".join(f"{name:<14}{seconds:8.1f} s" for name, seconds in project.stages)
    return f"{pd.DataFrame(columns).to_markdown()}\n\n{stages}"
