"""Export an adapter for users of the base model's own code: under its module names, or added to the weights.

python src/export_adapter.py …/adapter --base …/models/llada-8b-instruct/weights --out adapter
python src/export_adapter.py …/adapter --base …/models/llada-8b-instruct/weights --out model --merge
"""

import argparse
from pathlib import Path

import torch

from unmask.common.atomic import atomic_write
from unmask.common.checksums import write_checksums
from unmask.common.errors import InputError, run_step
from unmask.models.adapter_export import export, merge
from unmask.models.threshold_head import FILE as HEAD
from unmask.training.model_card import CARD, exported_card


def main() -> None:
    """Write the folder. Raises InputError if it exists or if the adapter does not fit the base model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="weights of the base model")
    parser.add_argument("--base-name", help="what base_model_name_or_path says; default: the folder of --base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--merge", action="store_true", help="write all weights with the adapter added")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"], help="with --merge")
    args = parser.parse_args()

    if args.out.exists():
        raise InputError(f"--out: {args.out} exists; choose another folder or remove it")
    # An export of a policy without its sampler's threshold is still the policy, but not the whole run.
    if (args.adapter / HEAD).exists():
        print(f"{args.adapter / HEAD}: a threshold head, which the published code has no place for; left out")
    with atomic_write(args.out) as temporary:
        if args.merge:
            count = merge(args.adapter, args.base, temporary, getattr(torch, args.dtype))
            print(f"{args.out}: {count} matrices with the adapter added, in {args.dtype}")
        else:
            modules = export(args.adapter, args.base, temporary, args.base_name or str(args.base))
            seal(args.adapter, temporary)
            print(f"{args.out}: an adapter on {len(modules)} modules, such as {modules[0]}")


def seal(adapter: Path, out: Path) -> None:
    """Add the adapter's model card, if it has one, and the hashes of all files to an export."""
    card = adapter / CARD
    if card.exists():
        (out / CARD).write_text(exported_card(card.read_text(encoding="utf-8")), encoding="utf-8")
    write_checksums(out)


if __name__ == "__main__":
    run_step(main)
