"""Provide a released checkpoint: fetch it, check that it fits its base model, and link its files.

python src/prepare_checkpoint.py results/llada-8b/checkpoints/espo-countdown/spec.yaml
    --base results/llada-8b/models/llada-8b-instruct/weights --weights …/weights --manifest …/manifest.json
"""

import argparse
import time
from pathlib import Path
from typing import Any

from unmask.common.atomic import atomic_write, forget
from unmask.common.checksums import write_checksums
from unmask.common.errors import run_step
from unmask.common.manifest import write_manifest
from unmask.config.specs import CheckpointSpec
from unmask.models.hub import link, released_folder
from unmask.models.released import check_released


def main() -> None:
    """Write the folder of links, then the manifest. Raises InputError if the checkpoint does not fit its base model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="weights of the prepared base model")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()

    began = time.monotonic()
    spec = CheckpointSpec.read(args.spec)
    folder = released_folder(spec.name, spec.place)
    parameters = check_released(folder, spec.kind, args.base, spec.repository)

    # Its files are linked, not written: the manifest lists the hash of each instead of an output.
    forget(args.manifest)
    with atomic_write(args.weights) as temporary:
        link(folder, temporary)
        files = write_checksums(temporary)
    facts: dict[str, Any] = {"parameters": parameters, "origin": spec.place.values(), "files": files}
    write_manifest(args.manifest, spec.digest, {"base": args.base}, [], began, **facts)
    print(f"{spec.name}: {spec.kind}, {parameters:,} parameters, in {folder}", flush=True)


if __name__ == "__main__":
    run_step(main)
