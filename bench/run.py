"""`make bench`: decoding engine and losses compared with the textbook, as a table and results/bench/bench.json.

A small body with random weights (d 512, 8 layers, mlp 1536; prompts of 200 tokens, blocks of 32) represents LLaDA: with
the real vocabulary of 126,464 the head dominates, with 4,096 it has the same share of the work as at 8B. Each side of
each cell runs in its own single-threaded process (worker.py); the two alternate, so that both see the same load on the
machine. Times are CPU seconds, medians over the turns; the ratio is the median over the pairs. Memory is the peak
resident size minus that after the model was loaded. Host synchronisations (syncs.py) are per forward pass of the body.
With --check the exit status is 1 if the two sides differ or a time ratio is below its floor.
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
Sides = tuple[str, str]
SIDES: Sides = ("textbook", "ours")
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

# Lowest acceptable time ratio of a cell at full size: nine tenths of the one that was measured when it was set.
FLOORS = {
    "V126464 uncached step": 8.4,  # measured 9.34
    "V126464 prefix cache, whole generation": 4.4,  # 4.97
    "V126464 dual cache, whole generation": 2.6,  # 2.92
    "V126464 DMPO loss and gradient": 2.2,  # 2.47
    "V126464 the same, activations recomputed": 1.7,  # 1.89
    "V126464 ELBO, policy and reference": 2.2,  # 2.50
    "V4096 uncached step": 1.17,  # 1.30
    "V4096 prefix cache, whole generation": 1.1,  # 1.22
    "V4096 dual cache, whole generation": 1.04,  # 1.16
    "V4096 DMPO loss and gradient": 1.0,  # 1.11
    "V4096 ELBO, policy and reference": 0.93,  # 1.04
    "V4096 body alone, next to DMPO loss and gradient": 0.94,  # 1.05
    "V4096 mixed lengths, dual cache, 4 of 12 rows at once": 1.7,  # 1.92
    "V4096 mixed lengths, dual cache, 8 of 32 rows at once": 1.7,  # 1.96
}


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
    # A small batch and a long queue, where most responses are short and some as long as they may be.
    long_tail = mixed | {"rows": 32, "slots": 8}
    body = {"work": "body", "rows": 2}
    return made | {
        f"V{small} body alone, next to DMPO loss and gradient": shape | body | {"vocabulary": small},
        f"V{small} mixed lengths, dual cache, 4 of 12 rows at once": shape | mixed,
        f"V{small} mixed lengths, dual cache, 8 of 32 rows at once": shape | long_tail,
    }


@contextlib.contextmanager
def workers(job: Job, sides: Sides = SIDES) -> Iterator[dict[str, subprocess.Popen]]:
    """Start one worker process per side; kill them when the block ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "worker.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    running = {side: subprocess.Popen([*command, side, json.dumps(job)], **pipes) for side in sides}
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


def measure(job: Job, repeats: int, sides: Sides = SIDES) -> Job:
    """Compare the results of both sides once, then time them in turns."""
    with workers(job, sides) as running:
        check = {side: ask(running[side], "check") for side in sides}
        turns = [{side: ask(running[side], "time") for side in sides} for _ in range(repeats)]
    return {
        "equal": same(*(check[side]["result"] for side in sides)),
        "seconds": {side: [turn[side]["seconds"] for turn in turns] for side in sides},
        "megabytes": {side: turns[-1][side]["megabytes"] for side in sides},
        "passes": {side: check[side]["passes"] for side in sides},
        "syncs": {side: check[side]["syncs"] for side in sides},
        "nfe": check["ours"]["result"].get("nfe"),
    }


def same(one: Job, other: Job) -> bool:
    """Return True if tokens, steps and passes are equal and losses and gradients agree to a relative 1e-3.

    Compared is what `one` has: the released code returns tokens only.
    """
    pairs = [(x, y) for name in one for x, y in zip(one[name], other[name], strict=True)]
    return all(x == y or (isinstance(x, float) and abs(x - y) <= TOLERANCE * abs(y)) for x, y in pairs)


def time_ratio(found: Job) -> float:
    """Return the median ratio of times, the other side / ours."""
    # Ratio within each pair of turns: what else the machine does then affects both sides alike.
    return median(t / o for t, o in zip(*found["seconds"].values(), strict=True))


def complaints(cells_found: dict[str, Job], floors: dict[str, float]) -> list[str]:
    """Return a line for each cell whose sides differ or whose time ratio is below its floor."""
    said = [f"{name}: textbook and ours differ" for name, found in cells_found.items() if not found["equal"]]
    for name, floor in floors.items():
        if name in cells_found and (ratio := time_ratio(cells_found[name])) < floor:
            said.append(f"{name}: time ratio {ratio:.2f}, below its floor of {floor}")
    return said


def row(name: str, found: Job) -> dict[str, str]:
    """Format one row of the table."""
    seconds, memory = found["seconds"], found["megabytes"]
    syncs = {side: sum(found["syncs"][side].values()) / found["passes"][side] for side in SIDES}
    return {
        "work": name,
        "seconds": " / ".join(f"{median(seconds[side]):.3g}" for side in SIDES),
        "time ratio": f"{time_ratio(found):.2f}",
        "peak MB": " / ".join(f"{memory[side]:.0f}" for side in SIDES),
        "memory ratio": f"{memory['textbook'] / max(memory['ours'], 1):.1f}",
        "host syncs a pass": " / ".join(f"{syncs[side]:.1f}" for side in SIDES),
        "equal": "yes" if found["equal"] else "NO",
    }


def main() -> None:
    """Measure all selected cells, write and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use a much smaller body, only to see that it runs")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a time ratio is below its floor")
    parser.add_argument("--only", default="", help="only cells whose name contains this text")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of timed turns")
    parser.add_argument("--out", type=Path, default=Path("results/bench/bench.json"))
    options = parser.parse_args()
    if options.check and options.quick:
        parser.error("--check is for the full size: the floors are not those of --quick")
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
    if options.check and (said := complaints(found, FLOORS)):
        sys.exit("\n".join(said))


if __name__ == "__main__":
    main()
