"""Provide a base model: train a tiny one from scratch, or check a published one.

python src/prepare_model.py results/laptop/models/tiny/sudoku/seed-0/spec.yaml --weights …/weights
    --data results/laptop/data/sudoku/train.parquet …/validation.parquet --manifest …/manifest.json
"""

import argparse
import time
from pathlib import Path

import torch

from unmask import tasks
from unmask.data import read_examples
from unmask.files import InputError, run_step, writing
from unmask.manifest import write_manifest
from unmask.models.policy import Policy
from unmask.models.tiny import build_model, build_tokenizer
from unmask.pretrain import pretrain
from unmask.seeding import Seeds
from unmask.settings import Pretraining
from unmask.spec import ModelSpec


def main() -> None:
    """Write the model and tokenizer in Hugging Face format, and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, nargs="*", help="train and validation split, for a model made here")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)  # the same sums in the same order on any machine
    spec = ModelSpec.read(args.spec)
    if spec.source != "scratch":
        raise InputError(f"{spec.name}: loading published checkpoints is not built yet; use --profile laptop")
    task = tasks.load(spec.task, spec.task_settings)
    seeds = Seeds(("pretrain", spec.task, spec.seed))
    tokenizer = build_tokenizer()
    shape = {k: v for k, v in spec.settings.items() if k != "pretraining"}
    policy = Policy(build_model(**shape, vocabulary=len(tokenizer), seed=seeds.number("weights")), tokenizer)
    inputs = {file.stem: file for file in args.data}
    splits = {split: read_examples(file) for split, file in inputs.items()}
    settings = Pretraining(**spec.settings["pretraining"])
    found = pretrain(policy, task, splits, settings, spec.lengths, spec.block_length, seeds, spec.name)
    with writing(args.weights) as temporary:
        policy.model.save_pretrained(temporary)
        policy.tokenizer.save_pretrained(temporary)
    parameters = sum(p.numel() for p in policy.model.parameters())
    write_manifest(args.manifest, spec, inputs, [args.weights], began, parameters=parameters, **found)


if __name__ == "__main__":
    run_step(main)
