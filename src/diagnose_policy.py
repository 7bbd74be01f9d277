"""Compare likelihood surrogates with a run's policy per denoising step, on the policy's responses to test examples.

python src/diagnose_policy.py results/laptop/runs/base/sudoku/default/seed-0/spec.yaml --diagnosis …/spec.yaml
--weights …/weights --data results/laptop/data/sudoku/test.parquet --out …/diagnosis-surrogates.parquet
"""

import argparse
import time
from pathlib import Path

from unmask import tasks
from unmask.common.atomic import forget
from unmask.common.determinism import fix_order
from unmask.common.errors import run_step
from unmask.common.manifest import device_name, write_manifest
from unmask.common.parquet import write_rows
from unmask.common.seeding import Seeds
from unmask.config.specs import DataSpec, DiagnosisSpec, RunSpec
from unmask.evaluation.surrogate_gaps import surrogate_gaps
from unmask.models.loading import check_base
from unmask.models.policy import Policy
from unmask.rl.generation import roll_out
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings
from unmask.tasks._examples import read_examples


def main() -> None:
    """Write one row per denoising step and surrogate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--diagnosis", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="trained adapter; omit for the base model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-spec", type=Path, required=True, help="spec.yaml of --data, with the prompt settings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, help="provenance file to write; needs --digest")
    parser.add_argument("--digest", help="digest of run, diagnosis and test data, as computed by the workflow")
    args = parser.parse_args()

    began = time.monotonic()
    fix_order()
    run, spec = RunSpec.read(args.spec), DiagnosisSpec.read(args.diagnosis)
    check_base(args.weights)
    policy = Policy.load(args.weights, args.adapter, **run.numbers)

    # One response per example, without dropout: the gaps are those of the policy itself.
    decoding = DecodingSettings(
        length=spec.generation_length,
        block_length=spec.block_length,
        sampler=spec.sampler,
        temperature=spec.temperature,
        mask_padding=spec.mask_padding,
    )
    settings = RolloutSettings(
        group_size=1,
        decoding=decoding,
        micro_batch_size=spec.micro_batch_size,
        dropout=False,
        rewarded=False,  # gaps need no reward, and the spec of test data has no reward settings
    )
    task = tasks.load_for_test(run.task, DataSpec.read(args.test_spec))
    examples = read_examples(args.data)[: spec.examples]
    made = roll_out(policy, task, examples, settings, Seeds(("diagnose", run.seed)))

    # Surrogates take no gradient, so LoRA's matrices can be cast once instead of at every forward pass.
    labels = {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
    with policy.narrowed():
        rows = surrogate_gaps(policy.model, made)

    inputs = {"diagnosis": args.diagnosis, "weights": args.weights, "data": args.data, "test_spec": args.test_spec}
    if args.adapter:
        inputs["adapter"] = args.adapter
    # Remove the old manifest first: if writing fails halfway, none must describe files that have been replaced.
    if args.manifest:
        forget(args.manifest)
    write_rows(args.out, [labels | row for row in rows])
    if args.manifest:
        write_manifest(args.manifest, args.digest, inputs, [args.out], began, device=device_name(policy.model.device))


if __name__ == "__main__":
    run_step(main)
