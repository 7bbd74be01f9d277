"""Train one policy from its spec, resuming from the newest checkpoint if there is one.

python src/train_policy.py results/laptop/runs/dmpo/sudoku/default/seed-0/spec.yaml --weights …/weights
--data results/laptop/data/sudoku/train.parquet --adapter …/adapter --metrics …/metrics.csv --manifest …

On 8 GPUs: torchrun --standalone --nproc-per-node 8 src/train_policy.py … (docs/training_at_8b.md)
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from unmask import methods, tasks
from unmask.common import distributed
from unmask.common.atomic import atomic_write, forget, remove
from unmask.common.checksums import sha256
from unmask.common.determinism import fix_order
from unmask.common.errors import InputError, TransientError, run_step
from unmask.common.lock import Lock, locked
from unmask.common.manifest import device_name, identity, write_manifest
from unmask.common.provenance import STEP, code_of
from unmask.config.specs import ModelSpec, RunSpec
from unmask.models.loading import check_base
from unmask.models.policy import Policy
from unmask.planning.overwriting import lost
from unmask.tasks._examples import read_examples
from unmask.training import preemption
from unmask.training.model_card import model_card
from unmask.training.trackers import Trackers, check_trackers
from unmask.training.trainer import Trainer


def main() -> None:
    """Train while holding the run's lock; on SIGTERM or SIGUSR1, write a checkpoint and exit with code 75."""
    # Before anything slow: a signal that arrives while models load must not be lost.
    asked = preemption.watch()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--init-adapter", type=Path, help="adapter of the run to start from (start_from)")
    parser.add_argument("--checkpoint-minutes", type=float, default=10.0, help="minutes between two checkpoints")
    parser.add_argument("--activation-checkpointing", choices=("true", "false"), default="false", help="saves memory")
    parser.add_argument("--trackers", nargs="*", default=[], choices=("tensorboard", "wandb"), help="log metrics there")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", type=Path, help="validation split for keeping the best policy; else the last")
    parser.add_argument("--base", type=Path, help="spec.yaml of the base model, for the model card")
    parser.add_argument("--scale", default="SCALE", help="name of the scale, for the model card")
    parser.add_argument("--fidelity", default="corrected", help="name of the fidelity, for the model card")
    parser.add_argument("--overwrite-above", type=float, default=1.0, help="GPU-hours above which no run is replaced")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()

    # Rank 0 takes the lock for all ranks; nobody reads or writes the run's folder before it has it.
    with (
        distributed.joined(),
        locked(args.adapter.parent) if distributed.rank() == 0 else contextlib.nullcontext() as lock,
    ):
        distributed.barrier()
        train(args, lock, asked)


def train(args: argparse.Namespace, lock: Lock | None, asked: Callable[[], bool]) -> None:
    """Train, write the adapter, metrics.csv and, last, the manifest, then delete the checkpoints.

    Ranks without the lock train but write nothing. Raises InputError if an input is missing or damaged, or an expensive
    finished run would be replaced; TransientError if the lock is lost or another job removes the adapter.
    """

    def asked_to_stop() -> bool:
        # Polled after every update: stop before the next checkpoint if another process has taken the lock over.
        if lock:
            lock.check()
        return asked()

    began = time.monotonic()
    fix_order()
    run = RunSpec.read(args.spec)
    base = ModelSpec.read(args.base) if args.base else None
    if run.training.validate_every and not args.validation:
        raise InputError(f"{args.spec}: validate_every needs the validation split; pass --validation")
    check_trackers(args.trackers)
    why = lost(args.manifest, run, args.overwrite_above)
    if why:
        raise InputError(f"{args.adapter}: {why}. Nothing was touched. Pass --overwrite-above inf to replace it.")

    # Checkpoints record the identity of spec and inputs, so that a run never resumes from those of other settings.
    inputs = {"weights": args.weights, "data": args.data}
    if args.init_adapter:
        inputs["start"] = args.init_adapter
    if args.validation:
        inputs["validation"] = args.validation
    check_base(args.weights)
    folder = args.adapter.parent
    checkpoints, known_as = folder / "checkpoints", identity(run.digest, inputs)
    trainer = Trainer(
        run=run,
        policy=Policy.load(args.weights, args.init_adapter, **run.numbers),
        method=methods.load(run.algorithm, run.method_settings),
        task=tasks.load(run.task, run.task_settings),
        examples=read_examples(args.data),
        folder=checkpoints,
        identity=known_as,
        asked_to_stop=asked_to_stop,
        held_back=read_examples(args.validation) if args.validation else [],
        checkpoint_minutes=args.checkpoint_minutes,
        activation_checkpointing=args.activation_checkpointing == "true",
        trackers=Trackers(args.trackers, folder, run.name, args.scale, known_as, run.values()),
    )
    metrics = trainer.train()
    if lock is None:
        return

    # Adapter and metrics first, manifest last: a manifest exists only next to the outputs that it describes.
    card = model_card(run, base, metrics, sha256(args.data), args.scale, args.fidelity)
    forget(args.manifest)
    with atomic_write(args.adapter) as temporary:
        trainer.policy.save(temporary, card)
    with atomic_write(args.metrics) as temporary:
        pd.DataFrame(metrics).to_csv(temporary, index=False)

    # `seconds_training` sums over all attempts; the manifest's own `seconds` is that of the last one.
    seconds = sum(row["seconds"] for row in metrics)
    facts = {
        "seed": run.seed,
        "settings": run.values(),
        "seconds_training": round(seconds, 1),
        "device": device_name(trainer.policy.model.device),
        "processes": distributed.world(),
    }
    source = code_of(STEP, run.algorithm, run.task)
    write_manifest(args.manifest, run.digest, inputs, [args.adapter], began, source, **facts)

    # A second job for this run removes outputs before it starts and after it fails. Keep the checkpoints until it is
    # certain that the adapter survived.
    lock.check()
    if not args.adapter.exists():
        raise TransientError(f"{args.adapter}: removed by another job right after it was written. Start again.")
    remove(checkpoints)


if __name__ == "__main__":
    run_step(main)
