"""Examine one run's policy on the test split and write one row a sample.

python src/evaluate_policy.py …/runs/dmpo/sudoku/default/seed-0/spec.yaml --evaluation …/evaluations/papers/spec.yaml
--weights …/weights --adapter …/adapter --data …/test.parquet --samples …/samples-papers.parquet
"""

import argparse
from pathlib import Path

import torch

from unmask import tasks
from unmask.data import read_examples, write_rows
from unmask.evaluate import evaluate
from unmask.files import run_step
from unmask.models.policy import Policy
from unmask.spec import EvaluationSpec, Run


def main() -> None:
    """Write the samples of all lengths and samplers of one evaluation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="what the run trained; none for the base model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on any machine
    run = Run.read(args.spec)
    policy = Policy.load(args.weights, args.adapter, dtype=run.training["dtype"])
    task = tasks.load(run.task, run.task_settings)
    rows = evaluate(policy, task, read_examples(args.data), run, EvaluationSpec.read(args.evaluation))
    write_rows(args.samples, rows)


if __name__ == "__main__":
    run_step(main)
