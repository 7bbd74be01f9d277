"""Samples of an experiment with known grades, for the tests of the analysis."""

import numpy as np
import pandas as pd

from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.paper_evaluations import EVALUATIONS

THEIRS = EVALUATIONS["d1"]
PROTOCOL = Protocol(
    "llada-8b-instruct",
    0.0,
    {"top1": "L", "top2": "L/2"},
    [],
    problems={task: names[0] for task, names in THEIRS.problems.items()},
    prompts=THEIRS.prompts,
    block_length=32,
    mask_padding=False,
)
ACCURACY = {"base": 0.2, "sft": 0.3, "diffu_grpo": 0.5, "dmpo": 0.7}


def run(method, task, seed, accuracy=None, variant="default", examples=24, lengths=(128, 256)):
    """One run's samples; boards of Sudoku have four to six blank cells, of which some are right."""
    name = f"{method} {task} {variant} {seed}"
    rng = np.random.default_rng(list(name.encode()))
    chance = ACCURACY[method] if accuracy is None else accuracy
    rows = []
    for sampler in ("top1", "top2"):
        for length in lengths:
            for example in range(examples):
                points = 4 + example % 3 if task == "sudoku" else 1
                right = int((rng.random(points) < chance).sum())
                rows.append({
                    "method": method, "task": task, "variant": variant, "seed": seed, "sampler": sampler,
                    "length": length, "example": example, "published": right / points, "points": points,
                    "strict": float(right == points), "nfe": length // int(sampler[3:]), "tokens": 20, "seconds": 0.1,
                    "gamma": None, "difficulty": 1 + example % 3,
                })  # fmt: skip
    return pd.DataFrame(rows)


def experiment(base_seeds=(0, 1, 2), seeds=(0, 1, 2), methods=("diffu_grpo", "dmpo"), tasks=("sudoku", "countdown")):
    """Samples of every run of an experiment, a frame each."""
    wanted = [("base", task, seed) for task in tasks for seed in base_seeds]
    wanted += [(method, task, seed) for method in methods for task in tasks for seed in seeds]
    return [run(*one) for one in wanted]
