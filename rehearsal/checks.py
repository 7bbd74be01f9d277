"""What has to be true of a rehearsal's files. Every check returns the lines that say what is wrong."""

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

from unmask.at_once import rows_at_once
from unmask.config import Config
from unmask.data import read_examples
from unmask.plain import normalise
from unmask.tasks import load

LOADING = ("train_policy.py", "evaluate_policy.py", "diagnose_policy.py")
ENDS = re.compile(r"(<\|eot_id\|>|<\|im_end\|>|<\|endoftext\|>)")
WARNING = re.compile(r"warning|\bwarn:", re.IGNORECASE)


def files_are_there(project: Project, names: list[str]) -> list[str]:
    """Every file that the targets promise."""
    lacking = [name for name in names if not project.path(name).exists()]
    return [f"missing: results/llada-8b/{name}" for name in lacking]


def nothing_warned(project: Project) -> list[str]:
    """No log has a warning."""
    found = []
    for file in project.logs():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if WARNING.search(line):
                found.append(f"{file.relative_to(project.folder)}: {line.strip()[:200]}")
    return found


def weights_are_read_once(project: Project, sizes: dict[str, int]) -> list[str]:
    """A process reads as many bytes as its model has, be it to load or, in the step that links it, to hash it."""
    found, small = [], 1.01  # headers are read too
    for process in project.processes():
        script, size = process["script"], sizes[model_of(process)] if model_of(process) else 0
        total = process["read"] + process["mapped"]
        where = f"{script} {spec_of(process)} rank {process['rank']}"
        if process["uncounted_opens"]:
            found.append(f"{where}: opened weight files {process['uncounted_opens']} times past the probe")
        if script in LOADING and not 0.99 * size <= total <= small * size:
            found.append(f"{where}: read {total / size:.2f} × the weights ({process['read']:,} B by files)")
        if script == "prepare_model.py" and total > small * size:
            found.append(f"{where}: read {total / size:.2f} × the weights")
    return found


def memory_is_bounded(project: Project, size: int, largest: float, loading: float) -> list[str]:
    """No process takes more than so many bytes, or more than `loading` times the checkpoint to load it."""
    found = []
    for process in project.processes():
        where = f"{process['script']} {spec_of(process)}"
        if process["peak"] > largest:
            found.append(f"{where}: {process['peak'] / 1e9:.1f} GB, more than {largest / 1e9:.0f}")
        if process["script"] in LOADING and process["loaded"] - process["before"] > loading * size:
            share = (process["loaded"] - process["before"]) / size
            found.append(f"{where}: loading took {share:.2f} × the checkpoint, more than {loading}")
        if process["script"] in LOADING and not process["loaded"]:
            found.append(f"{where}: the probe did not see the model at work")
        # What Python and torch read of their own is below a gigabyte.
        if process["all_read"] - process["read"] > 1e9:
            found.append(
                f"{where}: {process['all_read'] / 1e9:.1f} GB read by files, {process['read'] / 1e9:.1f} counted"
            )
    return found


def logits_are_never_whole(project: Project) -> list[str]:
    """No tensor over the vocabulary has more rows than the library forms at once, and some exist at all."""
    bound = max(rows_at_once("cpu", vocabulary) for vocabulary in VOCABULARIES)
    found = []
    for process in project.processes():
        if process["script"] in LOADING and not 1 <= process["logits_rows"] <= bound:
            found.append(
                f"{process['script']} {spec_of(process)}: {process['logits_rows']} rows of logits at once by "
                f"{process['logits']}, not 1 to {bound}"
            )
    return found


def adapters_count(project: Project, runs: list[str], every_method: bool = True) -> list[str]:
    """An adapter has learnt something if its gradient was not zero, is read by somebody, and shows in the samples."""
    found = []
    read = {path for process in project.processes() for path in process["adapters"]}
    learnt: dict[str, list[bool]] = {}
    for run in runs:
        folder = project.path(f"runs/{run}")
        norms = pd.read_csv(folder / "metrics.csv")["grad_norm"]
        moved = has_moved(project, run)
        learnt.setdefault(run.split("/")[0], []).append(moved)
        if not norms.map(math.isfinite).all() or moved != bool((norms > 0).any()):
            found.append(f"{run}: gradients of norm {norms.tolist()}, but the adapter moved: {moved}")
        if str(folder / "adapter/adapter_model.safetensors") not in read:
            found.append(f"{run}: nobody read its adapter")
        task, samples = run.split("/")[1], folder / "samples-papers.parquet"
        base = project.path(f"runs/base/{task}/default/seed-0/samples-papers.parquet")
        if moved and samples.exists() and same_samples(samples, base):
            found.append(f"{run}: its samples are those of the base model")
    if every_method:
        found += [f"{method}: no adapter has learnt anything" for method, moved in learnt.items() if not any(moved)]
    return found


def same_samples(one: Path, other: Path) -> bool:
    """Whether two files hold the same responses."""
    first, second = (pd.read_parquet(file)["completion"] for file in (one, other))
    return bool(first.equals(second))


def has_moved(project: Project, run: str) -> bool:
    """Whether the adapter of a run is another than it started from; a fresh one has B of zeros."""
    adapter = load_file(project.path(f"runs/{run}/adapter/adapter_model.safetensors"))
    start = yaml.safe_load(project.path(f"runs/{run}/spec.yaml").read_text(encoding="utf-8")).get("start_from")
    if not start:
        return any(bool(value.any()) for name, value in adapter.items() if "lora_B" in name)
    before = load_file(project.path(f"runs/{start}/adapter/adapter_model.safetensors"))
    return any(not value.equal(before[name]) for name, value in adapter.items())


def spec_of(process: dict[str, Any]) -> str:
    """The run that a process worked on, from the path of its spec."""
    word = next((word for word in process["words"] if word.endswith("spec.yaml")), "")
    return re.sub(r"^.*results/[^/]+/|/spec.yaml$", "", word)


def model_of(process: dict[str, Any]) -> str:
    """The base model that a process was told to load or link: `rehearsal-llada` or the like."""
    words = process["words"]
    if "--weights" not in words:
        return ""
    return Path(words[words.index("--weights") + 1]).parent.name


def answers_end(project: Project) -> list[str]:
    """Grades and rewards are of the text up to the first token that ends it; for some, what follows would count."""
    found, seen = [], 0
    config = Config.model_validate(normalise(yaml.safe_load((project.folder / "config.yaml").read_text("utf-8"))))
    for file in sorted(project.path("runs").rglob("samples-*.parquet")):
        for row in pd.read_parquet(file).to_dict("records"):
            task = load(row["task"], config.task_settings(row["task"]))
            tests = read_examples(next(project.path(f"data/{row['task']}").rglob("test.parquet")))
            example, whole = tests[row["example"]], row["completion"]
            kept, *end = ENDS.split(whole, maxsplit=1)
            reward, grade = task.reward(kept, example), task.grade(kept, example)
            same = (grade.published, grade.strict) == (row["published"], row["strict"])
            if not same or task.reward(whole, example) != reward:
                found.append(f"{file.relative_to(project.folder)}: what follows {end[:1]} counts")
            if end[:1] == ["<|im_end|>"]:
                seen += task.reward("".join((kept, *end[1:])), example) != reward
    return found if seen else [*found, "no reward depends on <|im_end|>: the check of end tokens saw nothing"]


def resumed(project: Project, run: str) -> list[str]:
    """A run that was interrupted says that it resumed."""
    said = (project.folder / f"logs/train_policy/llada-8b/{run}.log").read_text(encoding="utf-8")
    return [] if "resumed after update 1" in said else [f"{run}: interrupted, and not resumed: {said[-300:]}"]


def by_two(project: Project, runs: list[str]) -> list[str]:
    """These runs were made by two processes."""
    counts = {run: json.loads(project.path(f"runs/{run}/manifest.json").read_text())["processes"] for run in runs}
    return [f"{run}: made by {count} processes, not 2" for run, count in counts.items() if count != 2]


def steps(project: Project) -> str:
    """Seconds and peak memory of every step in the order of their beginning, with and without pages of files."""
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
    """Seconds of every step: how many processes, in all and the longest, with its processor seconds and peak memory."""
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
