"""Copy trained base models to workflow/resources/pretrained, from where every later start takes them.

python src/adopt_pretrained.py results/laptop/models workflow/resources/pretrained tiny/sudoku/seed-0 …

They have to be trained here: with `--config set=models.tiny.pretrained=false` if the project already has some.
"""

import argparse
import shutil
from pathlib import Path

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.common.manifest import made_of, read_manifest
from unmask.config.pretrained import MANIFEST, WEIGHTS
from unmask.config.schema.models import ScratchModel
from unmask.config.specs import ModelSpec
from unmask.models.loading import check_base


def main() -> None:
    """Copy weights and manifest of each model, after all of them have been checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="results/SCALE/models")
    parser.add_argument("target", type=Path)
    parser.add_argument("names", nargs="+", help="name of a model, which is its path in both folders")
    args = parser.parse_args()

    for name in args.names:
        check(args.models / name)
    for name in args.names:
        with atomic_write(args.target / name) as temporary:
            temporary.mkdir()
            shutil.copy2(args.models / name / MANIFEST, temporary / MANIFEST)
            shutil.copytree(
                args.models / name / WEIGHTS, temporary / WEIGHTS, ignore=shutil.ignore_patterns(".snakemake*")
            )
        print(args.target / name)


def check(folder: Path) -> None:
    """Raise InputError unless a folder holds a finished model that was trained here, with the settings in its spec."""
    spec = ModelSpec.read(folder / "spec.yaml")
    if not isinstance(spec.settings, ScratchModel):
        raise InputError(f"{folder}: a published checkpoint; only models trained from scratch come with the project")
    if "origin" in read_manifest(folder / MANIFEST):
        setting = f"models.{spec.name.partition('/')[0]}.pretrained=false"
        raise InputError(f"{folder}: copied from the project; train it with `--config set={setting}` first")
    if made_of(folder / MANIFEST) != spec.recipe:
        raise InputError(f"{folder}: its weights are not of its spec.yaml; run snakemake again")
    check_base(folder / WEIGHTS)


if __name__ == "__main__":
    run_step(main)
