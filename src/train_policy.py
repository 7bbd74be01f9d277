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
import torch

from unmask import methods, preemption, processes, tasks
from unmask.data import read_examples
from unmask.files import InputError, TransientError, forget, remove, run_step, sha256, writing
from unmask.lock import Lock, held
from unmask.manifest import device_name, identity, write_manifest
from unmask.models.card import model_card
from unmask.models.policy import Policy
from unmask.models.published import check_base
from unmask.overwriting import lost
from unmask.spec import ModelSpec, Run
from unmask.trainer import Trainer


def main() -> None:
    """Train under the run's lock; a signal ends it with a checkpoint and exit code 75."""
    asked = preemption.watch()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--init-adapter", type=Path, help="the adapter to start from, for a run that continues another")
    parser.add_argument("--checkpoint-minutes", type=float, default=10.0, help="between two checkpoints")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", type=Path, help="the split by which the best policy is kept; else the last is")
    parser.add_argument("--base", type=Path, help="spec.yaml of the base model, for the model card")
    parser.add_argument("--scale", default="SCALE", help="its name in paths, for the model card")
    parser.add_argument("--fidelity", default="corrected", help="whose settings, for the model card")
    parser.add_argument("--overwrite-above", type=float, default=1.0, help="GPU-hours of a finished run to refuse")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()
    with processes.joined(), held(args.adapter.parent) if processes.rank() == 0 else contextlib.nullcontext() as lock:
        processes.wait()  # for the lock, which is the first one's
        train(args, lock, asked)


def train(args: argparse.Namespace, lock: Lock | None, asked: Callable[[], bool]) -> None:
    """Write the adapter, metrics.csv and, last, the manifest; then drop the checkpoints. Without lock: only help."""

    def asked_to_stop() -> bool:
        if lock:
            lock.check()
        return asked()

    began = time.monotonic()
    torch.set_num_threads(1)  # the same sums in the same order for any number of cores
    run, base = Run.read(args.spec), ModelSpec.read(args.base) if args.base else None
    if run.training["validate_every"] and not args.validation:
        raise InputError(f"{args.spec}: its validate_every asks for the validation split: give --validation")
    if why := lost(args.manifest, run, args.overwrite_above):
        raise InputError(f"{args.adapter}: {why}. Nothing was touched. Give --overwrite-above inf to replace it.")
    optional = {"start": args.init_adapter, "validation": args.validation}
    inputs = {"weights": args.weights, "data": args.data, **{name: path for name, path in optional.items() if path}}
    check_base(args.weights)
    checkpoints = args.adapter.parent / "checkpoints"
    trainer = Trainer(
        run=run,
        policy=Policy.load(args.weights, args.init_adapter, **run.numbers),
        method=methods.load(run.algorithm, run.method_settings),
        task=tasks.load(run.task, run.task_settings),
        examples=read_examples(args.data),
        folder=checkpoints,
        identity=identity(run, inputs),
        asked_to_stop=asked_to_stop,
        held_back=read_examples(args.validation) if args.validation else [],
        checkpoint_minutes=args.checkpoint_minutes,
    )
    metrics = trainer.train()
    if lock is None:
        return
    card = model_card(run, base, metrics, sha256(args.data), args.scale, args.fidelity)
    forget(args.manifest)
    with writing(args.adapter) as temporary:
        trainer.policy.save(temporary, card)
    with writing(args.metrics) as temporary:
        pd.DataFrame(metrics).to_csv(temporary, index=False)
    seconds_training = round(sum(row["seconds"] for row in metrics), 1)
    facts = {
        "seed": run.seed,
        "settings": run.values(),
        "seconds_training": seconds_training,
        "device": device_name(trainer.policy.model.device),
        "processes": processes.world(),
    }
    write_manifest(args.manifest, run, inputs, [args.adapter], began, **facts)
    lock.check()
    if not args.adapter.exists():  # a second job for this run removes outputs, before it starts and after it failed
        raise TransientError(f"{args.adapter}: removed by another job as soon as it was made. Start again.")
    remove(checkpoints)


if __name__ == "__main__":
    run_step(main)
