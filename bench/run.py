"""`make bench`: decoding engine and losses compared with the textbook, as a table and results/bench/bench.json.

A small body with random weights (d 512, 8 layers, mlp 1536; prompts of 200 tokens, blocks of 32) represents LLaDA: with
the real vocabulary of 126,464 the head dominates, with 4,096 it has the same share of the work as at 8B. Each side of
each cell runs in its own single-threaded process (worker.py); the two alternate, so that both see the same load on the
machine. Times are CPU seconds, medians over the turns; the ratio is the median over the pairs. Memory is the peak
resident size minus that after the model was loaded. Host synchronisations (syncs.py) are per forward pass of the body.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from unmask.common.atomic import atomic_write

HERE = Path(__file__).parent
SIDES = ("textbook", "ours")
TOLERANCE = 1e-3  # relative, for losses and gradients
Job = dict[str, Any]

FULL: Job = {
    "body": {"hidden_size": 512, "layers": 8, "heads": 8, "mlp_size": 1536, "rope_theta": 5e5},
    "vocabularies": [126464, 4096],
    "prompt": 200,
    "length": 128,
    "block": 32,
    "common": 3178,
}
QUICK: Job = {
    "body": {"hidden_size": 64, "layers": 2, "heads": 4, "mlp_size": 96, "rope_theta": 5e5},
    "vocabularies": [2048, 512],
    "prompt": 20,
    "length": 32,
    "block": 8,
    "common": 26,
}
DECODING: Job = {"work": "decoding", "rows": 2, "slots": 2, "tokens_per_step": 2, "cache": "none", "eot": -1}
TEMPERATURE = 0.2  # as in DMPO's rollouts


def cells(scale: Job) -> dict[str, Job]:
    """Return the measured jobs by name: each with both vocabularies, mixed lengths only with the smaller one."""
    works = {
        # One pass per block of 32 tokens: the four steps of a response of 128.
        "uncached step": DECODING | {"tokens_per_step": scale["block"]},
        "prefix cache, whole generation": DECODING | {"cache": "prefix"},
        "dual cache, whole generation": DECODING | {"cache": "dual"},
        "DMPO loss and gradient": {"work": "loss", "rows": 2},
        "the same, activations recomputed": {"work": "loss", "rows": 2, "checkpointing": True},
        "ELBO, policy and reference": {"work": "elbo", "rows": 2},
    }

    shape = {key: scale[key] for key in ("body", "prompt", "length", "block")} | {"temperature": TEMPERATURE}
    made = {
        f"V{vocabulary} {name}": shape | work | {"vocabulary": vocabulary}
        for vocabulary in scale["vocabularies"]
        for name, work in works.items()
    }

    small = scale["vocabularies"][-1]
    mixed = DECODING | {"rows": 12, "slots": 4, "tokens_per_step": 4, "cache": "dual"}
    # The end of text is a token that most rows commit in their first block, and some late or never. Both sides must
    # stop at the same places while they are timed, so the temperature is 0.
    mixed |= {"eot": scale["common"], "temperature": 0.0, "vocabulary": small}
    body = {"work": "body", "rows": 2}
    return made | {
        f"V{small} body alone, next to DMPO loss and gradient": shape | body | {"vocabulary": small},
        f"V{small} mixed lengths, dual cache, 4 of 12 rows at once": shape | mixed,
    }


@contextlib.contextmanager
def workers(job: Job) -> Iterator[dict[str, subprocess.Popen]]:
    """Start one worker process per side; kill them when the block ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "worker.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    running = {side: subprocess.Popen([*command, side, json.dumps(job)], **pipes) for side in SIDES}
    # Killed even on errors: a worker waits for its standard input forever.
    try:
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def ask(process: subprocess.Popen, question: str) -> Job:
    """Send one line to a worker; return its answer."""
    process.stdin.write(question + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("a worker exited early; its error is printed above")
    return json.loads(answer)


def measure(job: Job, repeats: int) -> Job:
    """Compare the results of both sides once, then time them in turns."""
    with workers(job) as running:
        check = {side: ask(running[side], "check") for side in SIDES}
        turns = [{side: ask(running[side], "time") for side in SIDES} for _ in range(repeats)]
    return {
        "equal": same(*(check[side]["result"] for side in SIDES)),
        "seconds": {side: [turn[side]["seconds"] for turn in turns] for side in SIDES},
        "megabytes": {side: turns[-1][side]["megabytes"] for side in SIDES},
        "passes": {side: check[side]["passes"] for side in SIDES},
        "syncs": {side: check[side]["syncs"] for side in SIDES},
        "nfe": check["ours"]["result"].get("nfe"),
    }


def same(one: Job, other: Job) -> bool:
    """Return True if tokens, steps and passes are equal and losses and gradients agree to a relative 1e-3."""
    pairs = [(x, y) for name in one for x, y in zip(one[name], other[name], strict=True)]
    return all(x == y or (isinstance(x, float) and abs(x - y) <= TOLERANCE * abs(y)) for x, y in pairs)


def row(name: str, found: Job) -> dict[str, str]:
    """Format one row of the table."""
    seconds, memory = found["seconds"], found["megabytes"]
    # Ratio within each pair of turns: what else the machine does then affects both sides alike.
    ratio = median(t / o for t, o in zip(*(seconds[side] for side in SIDES), strict=True))
    syncs = {side: sum(found["syncs"][side].values()) / found["passes"][side] for side in SIDES}
    return {
        "work": name,
        "seconds": " / ".join(f"{median(seconds[side]):.3g}" for side in SIDES),
        "time ratio": f"{ratio:.2f}",
        "peak MB": " / ".join(f"{memory[side]:.0f}" for side in SIDES),
        "memory ratio": f"{memory['textbook'] / max(memory['ours'], 1):.1f}",
        "host syncs a pass": " / ".join(f"{syncs[side]:.1f}" for side in SIDES),
        "equal": "yes" if found["equal"] else "NO",
    }


def main() -> None:
    """Measure all selected cells, write and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use a much smaller body, only to see that it runs")
    parser.add_argument("--only", default="", help="only cells whose name contains this text")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of timed turns")
    parser.add_argument("--out", type=Path, default=Path("results/bench/bench.json"))
    options = parser.parse_args()
    found = {}
    for name, job in cells(QUICK if options.quick else FULL).items():
        if options.only in name:
            print(f"{name} …", file=sys.stderr, flush=True)
            found[name] = measure(job, options.repeats)
    if not found:
        parser.error(f"no cell name contains {options.only!r}; leave out --only to see all")
    machine = {"torch": version("torch"), "python": platform.python_version(), "machine": platform.machine()}
    record = {"quick": options.quick, "repeats": options.repeats, **machine, "cells": found}
    with atomic_write(options.out) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("Textbook / ours in each cell.\n")
    print(
        pd.DataFrame([row(name, cell) for name, cell in found.items()]).to_markdown(index=False, disable_numparse=True)
    )


if __name__ == "__main__":
    main()
