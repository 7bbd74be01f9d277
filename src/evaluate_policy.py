"""Evaluate one run's policy on a test split and write one row per sample.

python src/evaluate_policy.py …/runs/dmpo/sudoku/default/seed-0/spec.yaml --evaluation …/evaluations/papers/spec.yaml
--weights …/weights --adapter …/adapter --data …/test.parquet --samples …/samples-papers.parquet

On 4 GPUs: torchrun --standalone --nproc-per-node 4 src/evaluate_policy.py … (docs/cluster.md)
"""

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

from unmask import tasks
from unmask.common import distributed
from unmask.common.atomic import forget, remove
from unmask.common.determinism import fix_order
from unmask.common.errors import run_step
from unmask.common.lock import Lock, locked
from unmask.common.manifest import device_name, identity, write_manifest
from unmask.common.parquet import write_rows
from unmask.config.specs import DataSpec, EvaluationSpec, RunSpec
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.models.loading import check_base
from unmask.models.policy import Policy
from unmask.rl.generation import encode_prompts
from unmask.tasks._examples import read_examples


def main() -> None:
    """Write the samples of one evaluation while holding the lock on its folder of finished shards.

    --data belong to the evaluation's task if it names one, else to the run's task.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="trained adapter; omit for the base model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-spec", type=Path, required=True, help="spec.yaml of --data, with the prompt settings")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, help="provenance file to write; needs --digest")
    parser.add_argument("--digest", help="digest of run, evaluation and test data, as computed by the workflow")
    args = parser.parse_args()

    # Rank 0 takes the lock for all ranks; nobody touches the shards before it has it.
    parts = args.samples.with_suffix(".parts")
    with distributed.joined(), locked(parts) if distributed.rank() == 0 else contextlib.nullcontext() as lock:
        distributed.barrier()
        evaluate_run(args, parts, lock)


def evaluate_run(args: argparse.Namespace, parts: Path, lock: Lock | None) -> None:
    """Evaluate, write all samples, then delete the shards; ranks without the lock compute shards only.

    Raises InputError if a prompt does not fit the model or an input is damaged, TransientError if the lock is lost.
    """
    began = time.monotonic()
    fix_order()
    spec = EvaluationSpec.read(args.evaluation)
    run = RunSpec.read(args.spec).for_evaluation(spec)
    inputs = {"evaluation": args.evaluation, "weights": args.weights, "data": args.data, "test_spec": args.test_spec}
    if args.adapter:
        inputs["adapter"] = args.adapter
    check_base(args.weights)
    policy = Policy.load(args.weights, args.adapter, **run.numbers)

    # Shards of an interrupted evaluation are reused only if spec, weights, adapter and data are unchanged.
    kept = ShardStore(parts, identity(run.digest, inputs))
    task = tasks.load_for_test(run.task, DataSpec.read(args.test_spec))
    examples = read_examples(args.data)[: spec.limit or None]

    # Tokenise every prompt now, so that one that is too long fails before hours of decoding.
    encode_prompts(policy, task, examples, max(spec.lengths))
    rows = evaluate(policy, task, examples, run, spec, kept)
    if lock is None:
        return

    # Another process may have taken over a lock that looked dead; it would be writing the same file now.
    lock.check()

    # Remove the old manifest first: if writing fails halfway, none must describe files that have been replaced.
    if args.manifest:
        forget(args.manifest)
    write_rows(args.samples, rows)
    if args.manifest:
        facts: dict[str, Any] = {
            "device": device_name(policy.model.device),
            "processes": distributed.world(),
            "rows": len(rows),
        }
        write_manifest(args.manifest, args.digest, inputs, [args.samples], began, **facts)
    remove(parts)


if __name__ == "__main__":
    run_step(main)
