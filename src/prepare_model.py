"""Provide a base model: copy or train a tiny one, or fetch, verify and link a published one.

python src/prepare_model.py results/laptop/models/tiny/sudoku/seed-0/spec.yaml --weights …/weights
    --data results/laptop/data/sudoku/train.parquet …/validation.parquet --manifest …/manifest.json
"""

import argparse
import shutil
import time
from pathlib import Path

from unmask import tasks
from unmask.common import distributed
from unmask.common.atomic import atomic_write, forget
from unmask.common.checksums import fingerprint, write_checksums
from unmask.common.determinism import fix_order
from unmask.common.errors import InputError, run_step
from unmask.common.manifest import Manifest, read_manifest, write_manifest
from unmask.common.seeding import Seeds
from unmask.config.pretrained import FOLDER, MANIFEST, WEIGHTS
from unmask.config.schema.models import HubModel, LocalModel, ScratchModel
from unmask.config.specs import ModelSpec
from unmask.models.hub import checkpoint_folder, link
from unmask.models.loading import check_base, check_checkpoint
from unmask.models.policy import Policy
from unmask.models.tiny import build_model, build_tokenizer
from unmask.tasks import Example
from unmask.tasks._examples import read_examples
from unmask.training.pretrain import TaskData, accept, pretrain


def main() -> None:
    """Write the folder with weights, configuration and tokenizer, then the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument(
        "--data", type=Path, nargs="*", help="train and validation split of each task, for a model trained from scratch"
    )
    parser.add_argument(
        "--pretrained",
        type=Path,
        help="the project's own weights, if they are not in workflow/resources/pretrained",
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()

    began = time.monotonic()
    fix_order()
    spec = ModelSpec.read(args.spec)
    inputs = {f"{file.parent.name}/{file.stem}": file for file in args.data or ()}

    # A published checkpoint is linked, not written: the manifest lists the hash of each file instead of an output.
    outputs = []
    if isinstance(spec.settings, ScratchModel):
        make = _copy if spec.pretrained else _train
        facts = make(spec, spec.settings, args)
        outputs.append(args.weights)
    else:
        facts = _provide(spec, spec.settings, args.weights, args.manifest)
    write_manifest(args.manifest, spec.digest, inputs, outputs, began, **facts)


def _train(spec: ModelSpec, settings: ScratchModel, args: argparse.Namespace) -> Manifest:
    """Train a tiny model and write it; return entries for the manifest.

    Raises InputError if a split is missing or the model fails its gates.
    """
    seeds = Seeds(("pretrain", "+".join(spec.tasks), spec.seed))
    tokenizer = build_tokenizer()
    sizes = settings.model_dump(exclude={"source", "pretraining", "pretrained", "shared", "seed"})
    model = build_model(**sizes, vocabulary=len(tokenizer), seed=seeds.number("weights"))
    policy = Policy(model.to(distributed.device()), tokenizer)

    found = pretrain(policy, _lessons(spec, settings, args.data), spec.lengths, spec.block_length, seeds, spec.name)

    # Remove the old manifest first: if writing fails halfway, none must describe weights that have been replaced.
    forget(args.manifest)
    with atomic_write(args.weights) as temporary:
        policy.model.save_pretrained(temporary)
        policy.tokenizer.save_pretrained(temporary)
        write_checksums(temporary)
    parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    return {"parameters": parameters, **found}


def _copy(spec: ModelSpec, settings: ScratchModel, args: argparse.Namespace) -> Manifest:
    """Copy the project's own weights; return entries for the manifest.

    Raises InputError if they are not those of the spec, or if they fail the model's gates on this machine.
    """
    pretrained = args.pretrained or FOLDER / spec.name
    weights = pretrained / WEIGHTS
    check_base(weights)
    if fingerprint(weights) != spec.pretrained:
        raise InputError(f"{weights}: not the weights that {args.spec} names; run snakemake again")
    made = read_manifest(pretrained / MANIFEST)
    policy = Policy.load(weights, device=distributed.device())
    lessons = _lessons(spec, settings, args.data)
    found = accept(policy, lessons, spec.lengths, spec.block_length, spec.name, made["competence"])

    # Remove the old manifest first, as in `_train`.
    forget(args.manifest)
    with atomic_write(args.weights) as temporary:
        temporary.mkdir(exist_ok=True)
        for file in weights.iterdir():
            shutil.copyfile(file, temporary / file.name)
    parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    origin = {key: made[key] for key in ("git", "packages", "python", "device", "seconds", "finished", "quality")}
    return {"parameters": parameters, **found, "updates": made["updates"], "origin": origin}


def _lessons(spec: ModelSpec, settings: ScratchModel, files: list[Path]) -> list[TaskData]:
    """Return one lesson per task, in the order of the spec; a shared model learns several at once."""
    lessons = []
    for task, task_settings in spec.tasks.items():
        training, validation = _splits(files, task)
        task_object = tasks.load(task, task_settings)
        lessons.append(TaskData(task_object, training, validation, settings.pretraining[task]))
    return lessons


def _splits(files: list[Path], task: str) -> tuple[list[Example], list[Example]]:
    """Read a task's training and validation examples; raises InputError if `files` lack one of its splits."""
    found = {file.stem: file for file in files if file.parent.name == task}
    for split in ("train", "validation"):
        if split not in found:
            given = ", ".join(map(str, files)) or "nothing"
            raise InputError(f"--data: {task}/{split}.parquet is not among {given}")
    return read_examples(found["train"]), read_examples(found["validation"])


def _provide(
    spec: ModelSpec,
    settings: HubModel | LocalModel,
    weights: Path,
    manifest: Path,
) -> Manifest:
    """Verify a published checkpoint and link its files; return entries for the manifest.

    Raises InputError if the checkpoint cannot be fetched or is incomplete.
    """
    checkpoint = checkpoint_folder(spec.name, settings)
    parameters = check_checkpoint(checkpoint)
    forget(manifest)
    with atomic_write(weights) as temporary:
        link(checkpoint, temporary)
        files = write_checksums(temporary)
    print(f"{spec.name}: {parameters:,} parameters, in {checkpoint}", flush=True)
    return {
        "parameters": parameters,
        "origin": settings.values(),
        "files": files,
    }


if __name__ == "__main__":
    run_step(main)
