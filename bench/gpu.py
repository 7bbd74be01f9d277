"""`make bench-gpu`: loading, rollouts and updates at the size of LLaDA-8B on one GPU, compared with its roofline.

The weights are random, in bfloat16, with the adapter configured for LLaDA-8B; speed and memory do not depend on their
values. Rollouts: 8 responses of 256 tokens to prompts of 200, two tokens per step, never ended early; with an adapter
in bfloat16 next to the weights, and without one, which is as fast as with merged weights. The roofline of a forward
pass is the longer of two times: reading the weights once, and its operations, at the bandwidth and speed that this GPU
reaches in a large copy and a large matrix product. Updates: forward, backward and AdamW on 16 sequences; for DMPO 4
responses with 4 masked copies each, for GRPO 16 responses. Two processes: halves of a small batch, decoded on this
device at the same time, must have the tokens of the whole batch in one process. What would begin after --minutes is
left out. `--estimate` needs no GPU: it prints the memory that `plan` estimates, part by part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from tabulate import tabulate

from gpu_work import (
    CACHES,
    FULL,
    PAIR_ROWS,
    SMOKE,
    Job,
    load_seconds,
    random_model,
    reached,
    rollouts,
    tokens_of,
    update,
    with_adapter,
)
from unmask.common.atomic import atomic_write
from unmask.common.manifest import device_name
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.schema.scales import Hardware
from unmask.config.specs import RunSpec
from unmask.models.llada import LladaForMaskedDiffusion
from unmask.models.policy import Policy
from unmask.planning.gradient_memory import Parts
from unmask.planning.memory import total, training_memory

RUN = "dmpo/gsm8k/default/seed-0"
# Held throughout, then needed during an update.
PARTS = ("weights", "adapter", "reference", "best", "gradients", "moments")
PARTS += ("activations", "casts", "head", "workspace", "context")
PHASES = ("gradient", "optimizer step", "scoring", "rollouts")


def configured() -> tuple[RunSpec, Hardware]:
    """Return the run whose settings are measured and the hardware that `plan` assumes, both of the scale llada-8b."""
    grid = expand(load_config() | {"scale": "llada-8b", "fidelity": "corrected"})
    return grid.runs[RUN], grid.cost


def estimated(job: Job, run: RunSpec, cost: Hardware) -> dict[str, dict[str, Parts]]:
    """Estimate the bytes of each part in each phase of training, without and with activation checkpointing."""
    # All masked copies go through one forward pass, as they do in the measured update.
    sizes = {
        "generation_length": job["length"],
        "micro_batch_size": job["responses"] * job["copies"],
        "dtype": "bfloat16",
    }
    cost = cost.model_copy(update={"prompt_tokens": job["prompt"]})
    own = run.method_settings | {"copies": job["copies"]}
    found = {}
    for name, checkpointing in (("without", False), ("with", True)):
        changed = replace(run, training=run.training.model_copy(update=sizes), method_settings=own)
        found[name] = training_memory(job["shape"], changed, cost, checkpointing=checkpointing)
    return found


def estimate_table(found: dict[str, dict[str, Parts]]) -> str:
    """Format the GB of each part of an update and the total of each phase as a table."""
    rows = [["update: " + part, *(p["gradient"][part] / 1e9 for p in found.values())] for part in PARTS]
    rows += [[f"**{phase}**", *(total(p[phase]) for p in found.values())] for phase in PHASES]
    heads = ["GB", *(f"{name} activation checkpointing" for name in found)]
    return tabulate(rows, heads, tablefmt="pipe", floatfmt=".2f")


class Clock:
    """Says whether there is time for another measurement."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def allows(self, what: str) -> bool:
        """Return True, and say what is measured, unless the time is over."""
        allowed = time.monotonic() < self.end
        print(f"{what} …" if allowed else f"{what}: left out, the time is over", file=sys.stderr, flush=True)
        return allowed


def measure(job: Job, device: torch.device, repeats: int, minutes: float) -> Job:
    """Measure everything, the cheap parts first; skip an update that by the estimate does not fit."""
    clock = Clock(minutes)
    run, cost = configured()
    found: Job = {"rollouts": {}, "updates": {}}
    if clock.allows("two processes"):
        found["two_processes_equal"] = two_processes(device)
    peaks = reached(job, device, repeats)
    model = random_model(job["shape"], device)
    found["reached"] = peaks
    if clock.allows("loading"):
        found["load"] = load_seconds(model)

    # Merged weights have the matrices of a model without an adapter, which is measured before it gets one.
    found["rollouts"] |= all_rollouts(job, model, "merged", peaks, repeats, clock)
    policy = with_adapter(model, run)
    found["updates"] = all_updates(job, policy, estimated(job, run, cost), peaks, repeats, clock)
    with policy.narrowed():
        found["rollouts"] |= all_rollouts(job, model, "adapter", peaks, repeats, clock)
    return found


def all_rollouts(
    job: Job, model: LladaForMaskedDiffusion, name: str, peaks: dict[str, float], repeats: int, clock: Clock
) -> Job:
    """Measure rollouts with every cache; the most expensive, without a cache, last."""
    found = {}
    for cache in reversed(CACHES):
        if clock.allows(f"rollouts, {name}, cache {cache}"):
            found[f"{name}, cache {cache}"] = rollouts(job, model, cache, peaks, repeats)
    return found


def all_updates(
    job: Job, policy: Policy, expected: dict[str, dict[str, Parts]], peaks: dict[str, float], repeats: int, clock: Clock
) -> Job:
    """Measure an update of each method without and with activation checkpointing."""
    device = policy.model.device
    room = torch.cuda.get_device_properties(device).total_memory / 1e9 if device.type == "cuda" else None
    found = {}
    for name, phases in expected.items():
        parts = phases["gradient"]
        # torch's peak does not include the CUDA context, and the benchmark keeps no best policy.
        needed = total(parts) - (parts["context"] + parts["best"]) / 1e9
        for method in ("dmpo", "grpo"):
            one: Job = {"estimated_gb": needed}
            # The estimate decides what to run: an out-of-memory error would end the benchmark without any result.
            fits = room is None or needed < room
            if fits and clock.allows(f"update of {method}, {name} activation checkpointing"):
                one |= update(job, policy, method, name == "with", peaks, repeats)
            found[f"{method}, {name} activation checkpointing"] = one
    return found


def two_processes(device: torch.device) -> bool:
    """Return True if two processes on this device decode the halves of a batch as one process decodes all of it."""
    command = [sys.executable, __file__, "--half"]
    smoke = ["--smoke"] if device.type == "cpu" else []
    pipes = {"stdout": subprocess.PIPE, "text": True, "env": dict(os.environ)}
    halves = [subprocess.Popen([*command, str(half), *smoke], **pipes) for half in (0, 1)]
    tokens = []
    for process in halves:
        printed, _ = process.communicate()
        if process.returncode:
            sys.exit(f"bench/gpu.py: one of two processes on {device} failed; its error is printed above")
        tokens += json.loads(printed)
    return tokens == tokens_of(slice(PAIR_ROWS), device)


def report(found: Job) -> str:
    """Format the results as tables."""
    made = [
        {
            "rollouts": name,
            "tokens/s": f"{one['tokens_per_second']:.0f}",
            "roofline": f"{one['roofline']:.0f}",
            "share": f"{one['tokens_per_second'] / one['roofline']:.0%}",
        }
        for name, one in found["rollouts"].items()
    ]
    updates = [
        {
            "update": name,
            "seconds": f"{median(one['seconds']):.3f}" if "seconds" in one else "left out",
            "utilisation": f"{one['utilisation']:.0%}" if "seconds" in one else "",
            "peak GB": f"{one['peak_gb']:.1f}" if one.get("peak_gb") else "",
            "estimated GB": f"{one['estimated_gb']:.1f}",
        }
        for name, one in found["updates"].items()
    ]
    speeds = found["reached"]
    said = [f"Reached here: {speeds['flops'] / 1e12:.3g} TFLOP/s in bfloat16, {speeds['bandwidth'] / 1e12:.3g} TB/s."]
    if "load" in found:
        load = found["load"]
        said.append(f"Loading {load['gigabytes']:.3g} GB: {median(load['seconds']):.3g} s.")
    if "two_processes_equal" in found:
        same = "the same tokens as one" if found["two_processes_equal"] else "OTHER TOKENS THAN ONE"
        said.append(f"Two processes on the device: {same}.")
    tables = [pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) for rows in (made, updates) if rows]
    return "\n\n".join([" ".join(said), *tables])


def main() -> None:
    """Measure, write and print the results, or only print the estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="run with a tiny model on the CPU")
    parser.add_argument("--estimate", action="store_true", help="print the estimated memory and measure nothing")
    parser.add_argument("--repeats", type=int, default=2, help="timed repetitions, after one that is not")
    parser.add_argument("--minutes", type=float, default=7.0, help="begin no measurement after this time")
    parser.add_argument("--half", type=int, choices=(0, 1), help="only decode half of the batch of two processes")
    parser.add_argument("--out", type=Path, default=Path("results/bench/gpu.json"))
    options = parser.parse_args()
    if options.estimate:
        print(estimate_table(estimated(FULL, *configured())))
        return
    if not options.smoke and not torch.cuda.is_available():
        sys.exit("bench/gpu.py: no CUDA device here; run on a machine with a GPU, or pass --smoke or --estimate")
    device = torch.device("cpu" if options.smoke else "cuda")
    if options.half is not None:
        middle = PAIR_ROWS // 2
        print(json.dumps(tokens_of(slice(options.half * middle, (options.half + 1) * middle), device)))
        return
    job = SMOKE if options.smoke else FULL
    found = measure(job, device, options.repeats, options.minutes)
    machine = {"torch": version("torch"), "device": device_name(device), "smoke": options.smoke}
    with atomic_write(options.out) as path:
        path.write_text(json.dumps(machine | found, indent=1) + "\n", encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
