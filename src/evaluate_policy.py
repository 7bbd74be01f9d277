"""Examine one run's policy on the test split and write one row a sample.

python src/evaluate_policy.py …/runs/dmpo/sudoku/default/seed-0/spec.yaml --evaluation …/evaluations/papers/spec.yaml
--weights …/weights --adapter …/adapter --data …/test.parquet --samples …/samples-papers.parquet

On 4 GPUs: torchrun --standalone --nproc-per-node 4 src/evaluate_policy.py … (docs/cluster.md)
"""

import argparse
import contextlib
import time
from pathlib import Path

import torch

from unmask import processes, tasks
from unmask.data import read_examples, write_rows
from unmask.evaluate import evaluate
from unmask.files import forget, remove, run_step
from unmask.kept import Kept
from unmask.lock import Lock, held
from unmask.manifest import device_name, identity, write_manifest
from unmask.models.policy import Policy
from unmask.models.published import check_base
from unmask.rollout import posed
from unmask.spec import DataSpec, EvaluationSpec, Run


def main() -> None:
    """Write the samples of one evaluation, under the lock of its parts. --data are of its task, or the run's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="what the run trained; none for the base model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-spec", type=Path, required=True, help="spec.yaml of --data: how problems are posed")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, help="what the samples were made of; with --digest")
    parser.add_argument("--digest", help="of the run, the evaluation and the test data, as the workflow computes it")
    args = parser.parse_args()
    parts = args.samples.with_suffix(".parts")
    with processes.joined(), held(parts) if processes.rank() == 0 else contextlib.nullcontext() as lock:
        processes.wait()  # for the lock, which is the first one's
        examine(args, parts, lock)


def examine(args: argparse.Namespace, parts: Path, lock: Lock | None) -> None:
    """Write all samples, then drop the parts. Without lock: only help."""
    began = time.monotonic()
    torch.set_num_threads(1)  # the same sums in the same order for any number of cores
    spec = EvaluationSpec.read(args.evaluation)
    run = Run.read(args.spec).examined_by(spec)
    inputs = {"evaluation": args.evaluation, "weights": args.weights, "data": args.data, "test_spec": args.test_spec}
    check_base(args.weights)
    policy = Policy.load(args.weights, args.adapter, **run.numbers)
    inputs |= {"adapter": args.adapter} if args.adapter else {}
    kept = Kept(parts, identity(run, inputs))
    task, examples = tasks.load_for_test(run.task, DataSpec.read(args.test_spec)), read_examples(args.data)
    posed(policy, task, examples, max(spec.lengths))  # a prompt that is too long is found before hours of work
    rows = evaluate(policy, task, examples, run, spec, kept)
    if lock is None:
        return
    lock.check()
    if args.manifest:  # it must not tell of files that have been replaced since
        forget(args.manifest)
    write_rows(args.samples, rows)
    if args.manifest:
        device = device_name(policy.model.device)
        facts = {"device": device, "processes": processes.world(), "rows": len(rows)}
        write_manifest(args.manifest, args.digest, inputs, [args.samples], began, **facts)
    remove(parts)


if __name__ == "__main__":
    run_step(main)
