"""Train the runs whose specs lie in a folder, in the processes that torchrun starts: train_together.py FOLDER OUT.

With UNMASK_NAN=r the logits of process r turn to NaN in its 30th forward pass.
"""

import itertools
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from unmask import methods
from unmask.common import distributed
from unmask.config.specs import RunSpec
from unmask.models.policy import Policy
from unmask.tasks._examples import read_examples
from unmask.tasks.sudoku import Sudoku
from unmask.training.trainer import Trainer


class Digits(Sudoku):
    """A reward that an untrained model earns now and then."""

    def reward(self, response, example):
        return {"digits": sum(c.isdigit() for c in response) / len(response)}


def spoil(model):
    """NaN in all logits from the 30th pass on."""
    passes = itertools.count(1)
    model.lm_head.register_forward_hook(
        lambda _module, _inputs, logits: logits * (float("nan") if next(passes) >= 30 else 1)
    )


def train_all(folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    for spec in sorted(folder.glob("*.yaml")):
        run = RunSpec.read(spec)
        policy = Policy.load(folder / "weights")
        if os.environ.get("UNMASK_NAN") == str(distributed.rank()):
            spoil(policy.model)
        trainer = Trainer(
            run,
            policy,
            methods.load(run.algorithm, run.method_settings),
            Digits(**dict.fromkeys(Sudoku.test_only) | run.task_settings),
            read_examples(folder / "train.parquet"),
            out / "checkpoints" / spec.stem,
            "x",
            held_back=read_examples(folder / "validation.parquet"),
        )
        metrics = trainer.train()
        if distributed.rank() == 0:
            # Rows that start together share a pass, so operations depend on which rows end at the same time.
            kept = [[value or 0.0 for key, value in row.items() if key not in ("seconds", "flops")] for row in metrics]
            numbers = torch.tensor(kept)
            values = {name: p.detach().contiguous() for name, p in trainer.policy.trainable().items()}
            save_file(values | {"metrics": numbers}, out / f"{spec.stem}.safetensors")


if __name__ == "__main__":
    with distributed.joined():
        train_all(Path(sys.argv[1]), Path(sys.argv[2]))
