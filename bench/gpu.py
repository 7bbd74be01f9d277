"""`make bench-gpu`: rollouts and one update of DMPO at the size of LLaDA-8B on a GPU, compared with the roofline.

The weights are random, in bfloat16, with the adapter configured for LLaDA-8B; speed and memory do not depend on their
values. Rollouts: 8 responses of 256 tokens to prompts of 200, two tokens per step, never ended early. The roofline of a
forward pass is the longer of two times: reading the weights once, and its operations, at the bandwidth and speed that
this GPU reaches in a large copy and a large matrix product. The update: 4 responses with 4 masked copies each, forward,
backward and AdamW. `--estimate` needs no GPU: it prints the memory that `plan` estimates, part by part.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from tabulate import tabulate

from gpu_work import CACHES, FULL, SMOKE, Job, random_policy, reached, rollouts, update
from unmask.common.atomic import atomic_write
from unmask.common.manifest import device_name
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.schema.scales import Hardware
from unmask.config.specs import RunSpec
from unmask.planning.memory import Parts, total, training_memory

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


def measure(job: Job, device: torch.device, repeats: int) -> Job:
    """Measure rollouts and updates; skip an update that by the estimate does not fit."""
    run, cost = configured()
    expected, peaks = estimated(job, run, cost), reached(job, device, repeats)
    room = torch.cuda.get_device_properties(device).total_memory / 1e9 if device.type == "cuda" else None
    policy = random_policy(job["shape"], run, device)
    found: Job = {"reached": peaks, "rollouts": {}, "updates": {}}
    for cache in CACHES:
        print(f"rollouts, cache {cache} …", file=sys.stderr, flush=True)
        found["rollouts"][cache] = rollouts(job, policy, cache, peaks, repeats)

    # The estimate decides what to run: an out-of-memory error would end the benchmark without any result.
    for name, phases in expected.items():
        parts = phases["gradient"]
        # torch's peak does not include the CUDA context, and the benchmark keeps no best policy.
        needed = total(parts) - (parts["context"] + parts["best"]) / 1e9
        one: Job = {"estimated_gb": needed}
        if room is None or needed < room:
            print(f"update, {name} activation checkpointing …", file=sys.stderr, flush=True)
            one |= update(job, policy, name == "with", peaks, repeats)
        found["updates"][name] = one
    return found


def report(found: Job) -> str:
    """Format the results as tables."""
    made = [
        {
            "rollouts": f"cache {cache}",
            "tokens/s": f"{one['tokens_per_second']:.0f}",
            "roofline": f"{one['roofline']:.0f}",
            "share": f"{one['tokens_per_second'] / one['roofline']:.0%}",
        }
        for cache, one in found["rollouts"].items()
    ]
    updates = [
        {
            "update of DMPO": f"{name} activation checkpointing",
            "seconds": f"{median(one['seconds']):.3f}" if "seconds" in one else "does not fit",
            "utilisation": f"{one['utilisation']:.0%}" if "seconds" in one else "",
            "peak GB": f"{one['peak_gb']:.1f}" if one.get("peak_gb") else "",
            "estimated GB": f"{one['estimated_gb']:.1f}",
        }
        for name, one in found["updates"].items()
    ]
    speeds = found["reached"]
    said = f"Reached here: {speeds['flops'] / 1e12:.3g} TFLOP/s in bfloat16, {speeds['bandwidth'] / 1e12:.3g} TB/s."
    tables = [pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) for rows in (made, updates)]
    return "\n\n".join([said, *tables])


def main() -> None:
    """Measure, write and print the results, or only print the estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="run with a tiny model on the CPU")
    parser.add_argument("--estimate", action="store_true", help="print the estimated memory and measure nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/bench/gpu.json"))
    options = parser.parse_args()
    if options.estimate:
        print(estimate_table(estimated(FULL, *configured())))
        return
    if not options.smoke and not torch.cuda.is_available():
        sys.exit("bench/gpu.py: no CUDA device here; run on a machine with a GPU, or pass --smoke or --estimate")
    device = torch.device("cpu" if options.smoke else "cuda")
    job = SMOKE if options.smoke else FULL
    found = measure(job, device, options.repeats)
    machine = {"torch": version("torch"), "device": device_name(device), "smoke": options.smoke}
    with atomic_write(options.out) as path:
        path.write_text(json.dumps(machine | found, indent=1) + "\n", encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
