"""A training run of the tiny transformer on Sudoku that takes seconds, for tests of the loop."""

from unmask import methods
from unmask.config.grid.expand import expand
from unmask.training.trainer import Trainer


def small_trainer(config, policy, task, folder, method, settings=None, algorithm=None, **training):
    """A Trainer at the smoke scale; `settings` are the method's, `training` the loop's, for `method` alone.

    `algorithm` takes the place of the method's own class. A checkpoint is written after every update.
    """
    chosen = config["scales"]["smoke"]["methods"]
    chosen[method] = chosen.get(method, {}) | (settings or {}) | training
    config["experiments"]["main"]["methods"] = [method]
    run = expand(config).runs[f"{method}/sudoku/default/seed-0"]
    algorithm = algorithm or methods.load(run.algorithm, run.method_settings)
    splits = task.splits()
    return Trainer(
        run,
        policy,
        algorithm,
        task,
        splits["train"],
        folder,
        "",
        held_back=splits["validation"],
        checkpoint_minutes=0,
    )
