"""Training runs of the tiny transformer on Sudoku that take seconds, for tests of the training loop."""

import torch

from unmask import methods
from unmask.config.grid.expand import expand
from unmask.training.trainer import Trainer


def small_trainer(config, policy, task, folder, method, settings=None, algorithm=None, **training):
    """A Trainer at the smoke scale; `settings` are the method's, `training` the loop's, for `method` alone.

    `algorithm` takes the place of the method's own class. A checkpoint is written after every update.
    """
    chosen = config["scales"]["smoke"]["methods"]
    chosen[method] = chosen.get(method, {}) | (settings or {}) | training
    return _trainer(config, policy, task, folder, method, identity="", algorithm=algorithm)


def sudoku_trainer(config, policy, sudoku, folder, method="dmpo", identity="x", **training):
    """A Trainer of one method at the smoke scale; `training` replaces settings of the scale."""
    config["scales"]["smoke"]["training"] |= training
    return _trainer(config, policy, sudoku, folder, method, identity)


def preemptible_trainer(config, policy, sudoku, folder, asked_to_stop=lambda: False):
    """A DMPO Trainer with dropout that polls `asked_to_stop` after every update."""
    config["scales"]["smoke"]["training"] |= {"lora_dropout": 0.1, "validate_every": 0}
    return _trainer(config, policy, sudoku, folder, "dmpo", "x", asked_to_stop=asked_to_stop)


def _trainer(config, policy, task, folder, method, identity, algorithm=None, asked_to_stop=lambda: False):
    config["experiments"]["main"]["methods"] = [method]
    run = expand(config).runs[f"{method}/sudoku/default/seed-0"]
    splits = task.splits()
    return Trainer(
        run,
        policy,
        algorithm or methods.load(run.algorithm, run.method_settings),
        task,
        splits["train"],
        folder,
        identity,
        asked_to_stop,
        splits["validation"],
        checkpoint_minutes=0,
    )


def trained(one):
    """The parameters after a training to the end."""
    metrics = one.train()
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert all(value.any() for name, value in one.policy.trainable().items() if "lora_B" in name)  # they began as zeros
    return {name: value.detach().clone() for name, value in one.policy.trainable().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
