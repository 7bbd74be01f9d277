"""Provide a base model: train a tiny one from scratch, or fetch, check and link a published one.

python src/prepare_model.py results/laptop/models/tiny/sudoku/seed-0/spec.yaml --weights …/weights
    --data results/laptop/data/sudoku/train.parquet …/validation.parquet --manifest …/manifest.json
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from unmask import processes, tasks
from unmask.config.models import Pretraining
from unmask.data import read_examples
from unmask.files import InputError, forget, run_step, writing
from unmask.manifest import write_manifest
from unmask.models.fetch import checkpoint_folder, link
from unmask.models.policy import Policy
from unmask.models.published import check_checkpoint
from unmask.models.tiny import build_model, build_tokenizer
from unmask.pretrain import Lesson, pretrain
from unmask.seal import seal
from unmask.seeding import Seeds
from unmask.spec import ModelSpec
from unmask.tasks import Example


def main() -> None:
    """Write the folder of weights, configuration and tokenizer, and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument(
        "--data", type=Path, nargs="*", help="train and validation split of each task of a model made here"
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)  # the same sums in the same order for any number of cores
    spec = ModelSpec.read(args.spec)
    inputs = {f"{file.parent.name}/{file.stem}": file for file in args.data or ()}
    if spec.source == "scratch":
        facts, outputs = _train(spec, args.data, args.weights, args.manifest), [args.weights]
    else:
        facts, outputs = _provide(spec, args.weights, args.manifest), []  # the files have a hash each among the facts
    write_manifest(args.manifest, spec, inputs, outputs, began, **facts)


def _train(spec: ModelSpec, files: list[Path], weights: Path, manifest: Path) -> dict[str, Any]:
    """Train a tiny model and write it; returns what the manifest says of it. `files` lie in a folder for each task."""
    seeds = Seeds(("pretrain", "+".join(spec.tasks), spec.seed))
    tokenizer = build_tokenizer()
    shape = {k: v for k, v in spec.settings.items() if k not in ("pretraining", "shared")}
    model = build_model(**shape, vocabulary=len(tokenizer), seed=seeds.number("weights"))
    policy = Policy(model.to(processes.device()), tokenizer)
    lessons = [
        Lesson(tasks.load(task, settings), *_splits(files, task), Pretraining(**spec.pretraining[task]))
        for task, settings in spec.tasks.items()
    ]
    found = pretrain(policy, lessons, spec.lengths, spec.block_length, seeds, spec.name)
    forget(manifest)
    with writing(weights) as temporary:
        policy.model.save_pretrained(temporary)
        policy.tokenizer.save_pretrained(temporary)
        seal(temporary)
    return {"parameters": sum(p.numel() for p in policy.model.parameters()), **found}


def _splits(files: list[Path], task: str) -> tuple[list[Example], list[Example]]:
    """Training and validation examples of a task, from the files in the folder with its name."""
    found = {file.stem: file for file in files if file.parent.name == task}
    if lacking := [split for split in ("train", "validation") if split not in found]:
        raise InputError(f"--data: no {task}/{lacking[0]}.parquet among {', '.join(map(str, files)) or 'nothing'}")
    return read_examples(found["train"]), read_examples(found["validation"])


def _provide(spec: ModelSpec, weights: Path, manifest: Path) -> dict[str, Any]:
    """Check a published model and link its files; returns what the manifest says of it."""
    checkpoint = checkpoint_folder(spec.name, spec.source, spec.settings)
    parameters = check_checkpoint(checkpoint)
    forget(manifest)
    with writing(weights) as temporary:
        link(checkpoint, temporary)
        files = seal(temporary)
    print(f"{spec.name}: {parameters:,} parameters, in {checkpoint}", flush=True)
    return {
        "parameters": parameters,
        "origin": {"source": spec.source, **spec.settings},
        "files": files,
    }


if __name__ == "__main__":
    run_step(main)
