"""Train the runs whose specs lie in a folder, in the processes that torchrun starts: train_together.py FOLDER OUT.

With UNMASK_NAN=r the logits of process r turn to NaN in its 30th forward pass. With UNMASK_MORE=r process r makes one
forward pass with gradients more than the others, which wait 20 s for it.
"""

import itertools
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from unmask import methods
from unmask.common import distributed
from unmask.config.specs import RunSpec
from unmask.models import sharding
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


def one_pass_more(method):
    """Make a forward pass on the first row before the loss of each part."""
    losses = type(method).losses

    def more(self, policy, rollouts, *data):
        rows = rollouts.part(slice(0, 1))
        policy.model.hidden_states(torch.cat((rows.prompt, rows.response), 1), None)
        return losses(self, policy, rollouts, *data)

    type(method).losses = more


def say_what_is_held(optimizer, _args, _kwargs):
    """At an optimiser's first step, say how much of the model this process holds."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if sharding.is_sharded(p)]
    if not parameters or optimizer.state[parameters[0]]["step"] > 1:
        return
    moments = [optimizer.state[p][name] for p in parameters for name in ("exp_avg", "exp_avg_sq")]
    for held in (parameters, [p.grad for p in parameters], moments):
        share = sum(p.to_local().numel() for p in held) / sum(p.numel() for p in held)
        assert abs(share - 1 / distributed.world()) < 0.02, share
    print(f"process {distributed.rank()} holds its share of every weight, gradient and moment")


def train_all(folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    register_optimizer_step_post_hook(say_what_is_held)
    for spec in sorted(folder.glob("*.yaml")):
        run = RunSpec.read(spec)
        policy = Policy.load(folder / "weights")
        if os.environ.get("UNMASK_NAN") == str(distributed.rank()):
            spoil(policy.model)
        method = methods.load(run.algorithm, run.method_settings)
        if "UNMASK_MORE" in os.environ:
            sharding.PATIENCE = timedelta(seconds=20)
            if os.environ["UNMASK_MORE"] == str(distributed.rank()):
                one_pass_more(method)
        trainer = Trainer(
            run,
            policy,
            method,
            Digits(**dict.fromkeys(Sudoku.test_only) | run.task_settings),
            read_examples(folder / "train.parquet"),
            out / "checkpoints" / spec.stem,
            "x",
            held_back=read_examples(folder / "validation.parquet"),
            activation_checkpointing=run.algorithm == "dmpo",  # one method, so that it meets shards of the model
        )
        metrics = trainer.train()
        if distributed.rank() == 0:
            numbers = torch.tensor([[v or 0.0 for k, v in row.items() if k != "seconds"] for row in metrics])
            values = {name: p.detach().contiguous() for name, p in trainer.policy.trainable().items()}
            save_file(values | {"metrics": numbers}, out / f"{spec.stem}.safetensors")


if __name__ == "__main__":
    with distributed.joined():
        train_all(Path(sys.argv[1]), Path(sys.argv[2]))
