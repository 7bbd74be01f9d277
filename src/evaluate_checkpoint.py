"""Evaluate a checkpoint from elsewhere, and its base model in the same process, on a task's test problems.

By hand, without the workflow, on a folder or on a repository of the hub at a commit:

python src/evaluate_checkpoint.py GSAI-ML/ESPO-Countdown --revision 0123…(40 digits) --base llada-8b-instruct
    --task countdown --lengths 128 256 --steps L L/2 --samples espo.parquet

In the workflow, which gives it the files of prepared steps:

python src/evaluate_checkpoint.py …/weights --base …/weights --task countdown --evaluation …/spec.yaml
    --data …/test.parquet --test-spec …/test/spec.yaml --name espo-countdown --samples …/samples.parquet
"""

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

from unmask import tasks
from unmask.common import distributed
from unmask.common.atomic import forget, remove
from unmask.common.checksums import SUMS
from unmask.common.determinism import fix_order
from unmask.common.errors import InputError, run_step
from unmask.common.lock import locked
from unmask.common.manifest import device_name, identity, write_manifest
from unmask.common.parquet import write_rows
from unmask.config.blame import by_file
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid
from unmask.config.loading import load_config
from unmask.config.overrides import COMMAND_LINE, add_option, with_overrides
from unmask.config.schema.models import HubModel, ScratchModel, base_model_from
from unmask.config.schema.samplers import TopK
from unmask.config.spec_file import joined
from unmask.config.specs import DataSpec, EvaluationSpec
from unmask.evaluation.released import Subject, evaluate_released
from unmask.evaluation.shards import ShardStore
from unmask.models.hub import checkpoint_folder, fetch
from unmask.models.loading import check_base
from unmask.models.released import check_released, kind_of
from unmask.tasks import Example, Task
from unmask.tasks._examples import read_examples
from unmask.tasks._sources import check_pinned

STEPS = {"L": 1, "L/2": 2, "L/4": 4}  # denoising steps of a response of L tokens -> tokens per step


def main() -> None:
    """Write one row per sample, of the base model and of the checkpoint, and print both accuracies."""
    args = parse_arguments()
    if args.evaluation is None and not args.lengths:
        raise InputError("--lengths is missing; name the generation lengths, such as --lengths 128 256")
    parts = args.samples.with_suffix(".parts")
    # Rank 0 takes the lock for all ranks; nobody touches the shards before it has it.
    with distributed.joined(), locked(parts) if distributed.rank() == 0 else contextlib.nullcontext() as lock:
        distributed.barrier()
        rows = evaluate_both(args, parts)
        if lock is not None:
            lock.check()
            write_outputs(args, rows)
            remove(parts)
    if rows and not args.manifest:
        # Imported late: the workflow's environment of this step lacks what tables need; a step of its own draws them.
        from unmask.analysis.released_checkpoints import summary

        print(summary(rows), flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="PATH_OR_REPO", help="folder, or owner/name on the hub with --revision")
    parser.add_argument("--revision", help="commit of the checkpoint on the hub, 40 digits")
    parser.add_argument("--subfolder", default="", help="folder of the checkpoint in its repository")
    parser.add_argument("--base", required=True, help="name under `models`, folder, or owner/name with --base-revision")
    parser.add_argument("--base-revision", help="commit of the base model on the hub, 40 digits")
    parser.add_argument("--task", required=True)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--evaluation", type=Path, help="spec.yaml of an evaluation; else --lengths and --steps")
    how.add_argument("--lengths", type=int, nargs="+", help="generation lengths L [tokens]")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=["L", "L/2"], help="denoising steps")
    parser.add_argument("--scale", default="llada-8b", help="whose problems, prompts and block length are used")
    add_option(parser)
    parser.add_argument("--examples", type=int, help="use the first test problems only")
    parser.add_argument("--rows-per-batch", type=int, default=32, help="examples decoded at once")
    parser.add_argument("--data", type=Path, help="prepared test problems, with --test-spec; else generated")
    parser.add_argument("--test-spec", type=Path, help="spec.yaml of --data")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--quantisation", default="none", choices=["none", "nf4"])
    parser.add_argument("--name", default="checkpoint", help="label of the checkpoint's rows")
    parser.add_argument("--samples", type=Path, default=Path("checkpoint.parquet"), help="file to write")
    parser.add_argument("--manifest", type=Path, help="provenance file to write; needs --digest")
    parser.add_argument("--digest", help="digest of checkpoint, evaluation and test data, as computed by the workflow")
    return parser.parse_args()


def evaluate_both(args: argparse.Namespace, parts: Path) -> list[dict[str, Any]]:
    """Return the rows of base model and checkpoint; empty except on rank 0."""
    fix_order()
    args.began = time.monotonic()
    grid = None if args.evaluation and args.data else grid_of(args.scale, args.set)
    task, examples, test_digest = problems(args, grid)
    spec = EvaluationSpec.read(args.evaluation) if args.evaluation else by_hand(args, grid)

    checkpoint = folder_of(args.checkpoint, args.revision, args.subfolder)
    weights, repository = base_of(args)
    # The workflow has sealed and checked its folders; one from elsewhere is checked here.
    if (weights / SUMS).exists():
        check_base(weights)
    check_released(checkpoint, kind_of(checkpoint), weights, repository)

    args.inputs = {"checkpoint": checkpoint, "weights": weights}
    same = identity(joined(spec.digest, test_digest, str(len(examples))), args.inputs)
    return evaluate_released(
        checkpoint,
        weights,
        task,
        examples,
        Subject(args.name, args.task, args.name),
        spec,
        lambda label: ShardStore(parts / label, f"{same}-{label}"),
        dtype=args.dtype,
        quantisation=args.quantisation,
    )


def write_outputs(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Write the samples, then the manifest."""
    # Remove the old manifest first: if writing fails halfway, none must describe files that have been replaced.
    if args.manifest:
        forget(args.manifest)
    write_rows(args.samples, rows)
    if args.manifest:
        files = {"data": args.data, "test_spec": args.test_spec, "evaluation": args.evaluation}
        inputs = args.inputs | {name: file for name, file in files.items() if file}
        facts: dict[str, Any] = {
            "device": device_name(distributed.device()),
            "processes": distributed.world(),
            "rows": len(rows),
        }
        write_manifest(args.manifest, args.digest, inputs, [args.samples], args.began, **facts)


def grid_of(scale: str, changes: list[str]) -> Grid:
    """Return the grid of a scale of the project's configuration, with changes from the command line."""
    config, given = with_overrides(load_config(), changes)
    if scale not in config["scales"]:
        raise InputError(f"--scale: {scale!r} is none of {', '.join(config['scales'])}")
    try:
        return expand(config | {"scale": scale})
    except ConfigError as error:
        raise InputError(by_file(error.lines, config, [(COMMAND_LINE, given)])) from error


def problems(args: argparse.Namespace, grid: Grid | None) -> tuple[Task, list[Example], str]:
    """Return the task, its test problems, prepared or made from the configuration, and the digest of their spec."""
    if grid is None or args.data:
        spec = DataSpec.read(args.test_spec)
        return tasks.load_for_test(args.task, spec), read_examples(args.data)[: args.examples], spec.digest
    if args.task not in grid.tests:
        raise InputError(f"--task: scale {grid.scale} has no task {args.task!r}, only {', '.join(grid.tests)}")
    spec = grid.tests[args.task]
    try:
        check_pinned(spec.settings)
        task = tasks.load_for_test(args.task, spec)
        made = task.splits()["test"]
    except ValueError as error:
        raise InputError(f"tasks.{args.task}: {error}; `make data` fetches the stored test sets") from error
    return task, made[: args.examples], spec.digest


def by_hand(args: argparse.Namespace, grid: Grid | None) -> EvaluationSpec:
    """Return the evaluation of --lengths and --steps: greedy, in the scale's blocks, most confident tokens first."""
    assert grid is not None  # only --evaluation goes without
    block = next(iter(grid.evaluations.values())).block_length
    wrong = [str(length) for length in args.lengths if length % block]
    if wrong:
        raise InputError(f"--lengths: {', '.join(wrong)} is no multiple of the block length {block} of {grid.scale}")
    samplers = {f"top{STEPS[one]}": TopK(tokens_per_step=STEPS[one], score="confidence") for one in args.steps}
    return EvaluationSpec("by-hand", dict(samplers), args.lengths, block, 0.0, args.rows_per_batch)


def folder_of(place: str, revision: str | None, subfolder: str) -> Path:
    """Return the folder of a checkpoint, fetched from the hub if it is no local folder."""
    if Path(place).is_dir():
        return Path(place) / subfolder
    if place.count("/") != 1:
        raise InputError(f"{place}: neither a folder nor owner/name on the hub; correct the path")
    return fetch(place, place, revision or "", subfolder) / subfolder


def base_of(args: argparse.Namespace) -> tuple[Path, str | None]:
    """Return the folder of the base model, and its repository if that is known."""
    if Path(args.base).is_dir():
        return Path(args.base), None
    config, _ = with_overrides(load_config(), args.set)
    blocks = config["models"]
    if args.base in blocks:
        model = base_model_from(blocks[args.base])
        if isinstance(model, ScratchModel):
            raise InputError(f"--base: {args.base} is trained from scratch; name the folder of its weights")
        return checkpoint_folder(args.base, model), model.repository if isinstance(model, HubModel) else None
    return folder_of(args.base, args.base_revision, ""), args.base


if __name__ == "__main__":
    run_step(main)
